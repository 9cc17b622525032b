"""Matrices with a structure: sparse columns, Hadamard's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..dtypes import check_shape
from ..keys import Key
from ..sampling import normal
from ..threads import get_num_threads
from .base import Initializer, choice, finite, positive, whole
from .fixed import Fixed

__all__ = ["Hadamard", "Sparse"]

_PLANE_OF_CHOICES = 4


def chosen(shape: tuple[int, int], count: int, key: Key) -> NDArray[np.bool_]:
    """A mask of `count` elements in each column: those with the smallest words of plane 4 of the stream, ties by row."""
    if count in (0, shape[0]):
        return np.full(shape, count > 0)
    words = np.empty(shape, dtype=np.uint32)
    _core.fill(
        words, _core.LAWS.index("words"), _core.DTYPES.index("float32"), (), key.seed, key.stream, 0,
        get_num_threads(), _PLANE_OF_CHOICES,
    )  # fmt: skip
    ranks = words.astype(np.uint64) << np.uint64(32) | np.arange(shape[0], dtype=np.uint64)[:, None]  # no two alike
    mask: NDArray[np.bool_] = ranks <= np.partition(ranks, count - 1, axis=0)[count - 1]
    return mask


@dataclass(frozen=True, repr=False)
class Sparse(Initializer):
    """A matrix with exactly k non-zeros in every column, N(0, std^2) each, so that a unit hears few others.

    Variance k std^2 / rows; a complex non-zero z has E|z|^2 = std^2. The chosen elements of a column are those with the
    smallest words of plane 4 of the stream, ties by index. Martens, "Deep learning via Hessian-free optimization"
    (2010), has k = 15.

    Parameters
    ----------
    nonzero : int, optional
        k, at most the number of rows.
    sparsity : float, optional
        Instead: ceil(sparsity x rows) elements of a column are zero, 0 <= sparsity < 1.
    std : float, default 0.01
    """

    _complex: ClassVar[bool] = True

    nonzero: int | None = None
    sparsity: float | None = None
    std: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "std")
        if (self.nonzero is None) == (self.sparsity is None):
            raise ValueError(f"nonzero, sparsity: expected one of them, got {self.nonzero} and {self.sparsity}")
        if self.nonzero is not None:
            whole(self, "nonzero")
        else:
            finite(self, "sparsity")
            if not 0 <= float(self.sparsity or 0) < 1:
                raise ValueError(f"sparsity: expected a number in [0, 1), got {self.sparsity}")

    def _kept(self, shape: tuple[int, ...]) -> int:
        if len(shape) != 2:
            raise ValueError(f"shape: expected two axes for a sparse matrix, got {shape}")
        if self.nonzero is None:
            return shape[0] - math.ceil(float(self.sparsity or 0) * shape[0])
        if self.nonzero > shape[0] > 0:
            raise ValueError(f"nonzero: expected at most {shape[0]}, the rows of {shape}, got {self.nonzero}")
        return min(self.nonzero, shape[0])

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        kept = self._kept(shape)
        mask = chosen((shape[0], shape[1]), kept, key)
        values: NDArray[Any] = normal(shape, 0.0, self.std, key=key, dtype=dtype)
        values[~mask] = 0
        return values

    def _mean(self, shape: Any) -> float:
        self._kept(check_shape(shape))
        return 0.0

    def variance(self, shape: Any) -> float:
        sizes = check_shape(shape)
        return self.std**2 * self._kept(sizes) / max(1, sizes[0])

    def bounds(self, shape: Any) -> tuple[float, float]:
        self._kept(check_shape(shape))
        return -math.inf, math.inf


@dataclass(frozen=True, repr=False)
class Hadamard(Fixed):
    """ZerO: the identity, a part of it where the layer narrows, a part of Hadamard's matrix where it widens.

    A widening matrix is c H with H_ij = (-1)^(number of common bits of i and j), c = 2^(-(m - 1) / 2) and 2^m the outputs
    rounded up; nothing is random. Of a convolution it is the centre tap. Zhao, Schäfer & Anandkumar, "ZerO initialization:
    initializing neural networks with only zeros and ones" (2022).

    Parameters
    ----------
    layout : {"io", "oi"}, default "io"
        Shapes ``(*field, in, out)`` or ``(out, in, *field)``.
    """

    layout: str = "io"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "layout", ("io", "oi"))

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if len(shape) < 2:
            raise ValueError(f"shape: expected at least two axes, inputs and outputs, got {shape}")
        if self.layout == "io":
            field, inputs, outputs = shape[:-2], shape[-2], shape[-1]
        else:
            field, inputs, outputs = shape[2:], shape[1], shape[0]
        matrix = np.eye(inputs, outputs)
        if outputs > inputs:
            common = np.bitwise_and.outer(np.arange(inputs), np.arange(outputs))
            bits = (outputs - 1).bit_length()
            odd = np.bitwise_xor.reduce([common >> bit & 1 for bit in range(bits)])
            matrix = math.sqrt(2.0 ** (1 - bits)) * (1.0 - 2.0 * odd)
        kernel = np.zeros(shape)
        if 0 in shape:
            return kernel
        centre = tuple(n // 2 for n in field)
        if self.layout == "io":
            kernel[centre] = matrix
        else:
            np.moveaxis(kernel, (0, 1), (-1, -2))[centre] = matrix
        return kernel
