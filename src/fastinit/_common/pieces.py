"""Large arrays in pieces: signals, such as that of Ctrl-C, are handled only between two calls of NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AT_ONCE", "in_pieces", "once"]

AT_ONCE = 1 << 20  # elements of a piece: about ten milliseconds in the slowest functions


def once(values: NDArray[Any]) -> NDArray[Any]:
    """A view of an array without the repetitions that broadcasting made: an axis with stride 0 has length 1 in it."""
    return values[tuple(slice(None) if step else slice(1) for step in values.strides)]


def in_pieces(values: NDArray[Any], *others: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Views of the same elements of arrays of one shape, about `AT_ONCE` at a time; `others` are C-contiguous.

    The views are flat if `values` is C-contiguous too, or repeats one number. If not, they are slices along the first axis.
    """
    arrays = (values, *others)
    if values.flags.c_contiguous or once(values).size == 1:
        if not values.flags.c_contiguous:
            values = np.broadcast_to(once(values).reshape(()), (values.size,))
        arrays = (values.reshape(-1), *(array.reshape(-1) for array in others))
    length = len(arrays[0])
    rows = max(1, AT_ONCE * length // max(1, values.size))
    for start in range(0, length, rows):
        yield tuple(array[start : start + rows] for array in arrays)
