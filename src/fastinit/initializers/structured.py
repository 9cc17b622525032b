"""Structured matrices: sparse columns, and Hadamard's matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.checks import shown
from .._common.dtypes import check_shape
from .._common.pieces import AT_ONCE, in_pieces
from .._stream.draw import words
from .._stream.keys import Key
from .._stream.sampling import normal
from .base import Initializer, choice, finite, positive, whole
from .catalogue import registered
from .deterministic import Fixed, few_among_zeros

__all__ = ["Hadamard", "Sparse"]


def chosen(shape: tuple[int, int], count: int, key: Key) -> NDArray[np.bool_]:
    """A mask of `count` elements in each column: those with the smallest words of the plane of choices, ties by row."""
    if count in (0, shape[0]):
        return np.full(shape, count > 0)
    choices = words(shape, key, _core.PLANE_CHOICES)
    mask = np.empty(shape, dtype=np.bool_)
    rows = np.arange(shape[0], dtype=np.uint64)[:, None]
    width = max(1, AT_ONCE // shape[0])
    for start in range(0, shape[1], width):
        columns = np.s_[:, start : start + width]
        ranks = choices[columns].astype(np.uint64) << np.uint64(32) | rows  # no two alike
        mask[columns] = ranks <= np.partition(ranks, count - 1, axis=0)[count - 1]
    return mask


@registered()
@dataclass(frozen=True, repr=False)
class Sparse(Initializer):
    """A matrix with exactly k non-zero elements in every column, each N(0, std^2), so that a unit has few inputs.

    The variance is k std^2 / rows; a complex non-zero z has E|z|^2 = std^2. The non-zero elements of a column are those with the
    smallest words of plane 4 of the stream, ties in the order of rows. Martens, "Deep learning via Hessian-free optimization"
    (2010), takes k = 15.

    Parameters
    ----------
    nonzero : int, in [1, rows], optional
        k. Give either `nonzero` or `sparsity`.
    sparsity : float, in [0, 1), optional
        The fraction of zeros: ceil(sparsity x rows) elements of a column are zero.
    std : float, in (0, inf), default 0.01
        Standard deviation of the non-zero elements.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape has not two axes, or fewer rows
        than `nonzero`.

    Examples
    --------
    >>> np.count_nonzero(Sparse(nonzero=3, seed=0)((10, 4)), axis=0).tolist()
    [3, 3, 3, 3]
    """

    _complex: ClassVar[bool] = True

    nonzero: int | None = None
    sparsity: float | None = None
    std: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "std")
        if (self.nonzero is None) == (self.sparsity is None):
            raise ValueError(f"nonzero, sparsity: expected one of them, got {shown(self.nonzero)} and {shown(self.sparsity)}")
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
        for piece, kept_here in in_pieces(values, mask):
            piece[~kept_here] = 0
        return values

    def _mean(self, shape: Any) -> float:
        self._kept(check_shape(shape))
        return 0.0

    def variance(self, shape: Any) -> float:
        sizes = check_shape(shape)
        return self.std * (self._kept(sizes) / max(1, sizes[0])) * self.std

    def bounds(self, shape: Any) -> tuple[float, float]:
        self._kept(check_shape(shape))
        return -math.inf, math.inf


def _hadamard_scale(outputs: int) -> float:
    return math.sqrt(2.0 ** (1 - (outputs - 1).bit_length()))


def _sum_of_signs(rows: int, columns: int) -> int:
    """The sum of the first `rows` rows and `columns` columns of Hadamard's matrix of signs, by halving.

    The matrix is (H, H; H, -H), and the first k columns of H, 1 <= k <= n, have the sum n, where n is the size of H.
    """
    total, sign = 0, 1
    while rows and columns:
        half = 1 << (max(rows, columns) - 1).bit_length() >> 1
        if not half:
            return total + sign
        if rows > half < columns:  # three whole H or strips of them, each with sum n, and a remainder with the other sign
            total, sign, rows, columns = total + 3 * sign * half, -sign, rows - half, columns - half
        elif rows > half:
            total, rows = total + sign * half, rows - half
        else:
            total, columns = total + sign * half, columns - half
    return total


@registered()
@dataclass(frozen=True, repr=False)
class Hadamard(Fixed):
    """ZerO: the identity matrix, its first columns if outputs <= inputs, and a section of Hadamard's matrix if outputs > inputs.

    In the last case the matrix is c H with H_ij = (-1)^(number of common bits of i and j) and c = 2^(-(m - 1) / 2), where 2^m is
    the number of outputs rounded up to a power of 2. Nothing is random. In a convolution it is the centre tap. Zhao, Schäfer &
    Anandkumar, "ZerO initialization: initializing neural networks with only zeros and ones" (2022).

    Parameters
    ----------
    layout : {"io", "oi"}, default "io"
        Shapes are ``(*field, in, out)`` or ``(out, in, *field)``.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape has fewer than two axes.

    Examples
    --------
    >>> Hadamard()((2, 2))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """

    layout: str = "io"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "layout", ("io", "oi"))

    def _channels(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
        """The receptive field, inputs and outputs."""
        if len(shape) < 2:
            raise ValueError(f"shape: expected at least two axes, inputs and outputs, got {shape}")
        if self.layout == "io":
            return shape[:-2], shape[-2], shape[-1]
        return shape[2:], shape[1], shape[0]

    def _numbers(self, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        _, inputs, outputs = self._channels(shape)
        size = math.prod(shape)
        if 0 in shape:
            return np.empty(0), None
        if outputs <= inputs:
            return few_among_zeros(np.ones(1), outputs, size)
        scale, excess = _hadamard_scale(outputs), _sum_of_signs(inputs, outputs)
        counts = [(inputs * outputs + excess) // 2, (inputs * outputs - excess) // 2]
        return few_among_zeros(np.array([scale, -scale]), counts, size)

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        field, inputs, outputs = self._channels(shape)
        kernel = np.zeros(shape)
        if 0 in shape:
            return kernel
        matrix = np.eye(inputs, outputs)
        if outputs > inputs:
            rows = max(1, AT_ONCE // outputs)
            for start in range(0, inputs, rows):
                piece = matrix[start : start + rows]
                common = np.bitwise_and.outer(np.arange(start, start + len(piece)), np.arange(outputs))
                odd = np.zeros_like(common)
                for bit in range((outputs - 1).bit_length()):
                    odd ^= common >> bit & 1
                piece[...] = _hadamard_scale(outputs) * (1.0 - 2.0 * odd)
        centre = tuple(n // 2 for n in field)
        if self.layout == "io":
            kernel[centre] = matrix
        else:
            np.moveaxis(kernel, (0, 1), (-1, -2))[centre] = matrix
        return kernel
