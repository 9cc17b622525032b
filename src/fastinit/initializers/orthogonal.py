"""Random matrices with orthonormal columns or rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dtypes import check_shape
from ..haar import haar
from ..keys import Key
from .base import Initializer, finite

__all__ = ["Orthogonal"]


@dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """A random matrix with orthonormal columns or rows, exactly Haar distributed, times `gain`.

    A shape of more than two axes is the matrix ``(product of the others, last)``.

    Parameters
    ----------
    gain : float, default 1.0

    References
    ----------
    Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks" (2014); see `fastinit.haar` for the construction.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "gain")

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        if len(shape) < 2:
            raise ValueError(f"shape: expected at least two axes for an orthogonal matrix, got {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        matrix = haar(rows, columns, key) if rows and columns else np.zeros((rows, columns))
        return self.gain * matrix.reshape(shape)

    def variance(self, shape: Any) -> float:
        """gain^2 / max(rows, columns): every element of a Haar matrix has that mean square."""
        sizes = check_shape(shape)
        return self.gain**2 / max(math.prod(sizes[:-1]), sizes[-1])

    def bounds(self, shape: Any) -> tuple[float, float]:
        """[-gain, gain]: columns or rows are unit vectors."""
        return -abs(self.gain), abs(self.gain)
