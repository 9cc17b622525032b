"""One buffer for all gradients of a pass: where each of them begins, and the arrays that lie in it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import new_array
from .results import Gradients

__all__ = ["GradientLayout"]

_CACHE_LINE = 64  # bytes

# Every backward pass gets a new buffer, and whoever holds one of its arrays keeps it. Writing over the last buffer once its
# reference count says that nobody holds it was tried, and is not worth its code: at 50 layers of width 256 (float32, one
# thread of an AMD EPYC; medians of 15 interleaved runs) calls took 1.00 times as long without it at batches of 256 and 64, and
# 0.95 times at a batch of 8, as glibc hands the same pages out again. Where an allocator gives all memory back to the system,
# a batch of 256 took 1.04 times as long. `Recorder` is for loops that must not allocate.


class GradientLayout:
    """Where the gradients of layers of some widths lie in a buffer: weights, biases, input, each from a cache line on.

    Attributes
    ----------
    starts : tuple of int
        The bytes at which they begin, the input's last.
    """

    def __init__(self, widths: tuple[int, ...], dtype: str) -> None:
        self._width, self._depth, self._dtype, self._real = widths[0], len(widths) - 1, dtype, np.dtype(dtype)
        shapes = [*itertools.pairwise(widths), *((n,) for n in widths[1:])]
        sizes = (self._real.itemsize * math.prod(shape) for shape in shapes)
        self.starts = tuple(itertools.accumulate((-(-n // _CACHE_LINE) * _CACHE_LINE for n in sizes), initial=0))
        # Neighbours of one shape are made as one array, whose rows they are: quicker than each by itself.
        self._groups: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = []  # start, shape and strides
        for shape, group in itertools.groupby(range(len(shapes)), key=shapes.__getitem__):
            first, *others = group
            strides = (shape[-1] * self._real.itemsize, self._real.itemsize)[-len(shape) :]
            self._groups.append(
                (self.starts[first], (1 + len(others), *shape), (self.starts[first + 1] - self.starts[first], *strides))
            )

    def new_buffer(self, rows: int) -> NDArray[Any]:
        """Memory for the gradients of weights and biases, and for `rows` rows of the input's."""
        return new_array((self.starts[-1] // self._real.itemsize + rows * self._width,), self._dtype)

    def arrays(self, buffer: NDArray[Any], rows: int) -> Gradients:
        """The gradients that lie in a buffer for `rows` rows."""
        arrays: list[NDArray[Any]] = []
        for start, shape, strides in self._groups:
            arrays.extend(np.ndarray(shape, self._real, buffer, start, strides))
        into = np.ndarray((rows, self._width), self._real, buffer, self.starts[-1])
        return Gradients(arrays[: self._depth], arrays[self._depth :], into)
