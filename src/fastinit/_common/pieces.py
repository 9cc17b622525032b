"""Large arrays a piece at a time: NumPy answers signals, such as Ctrl-C's, between its calls alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AT_ONCE", "in_pieces", "once"]

AT_ONCE = 1 << 20  # numbers: some ten milliseconds of the slowest functions


def once(values: NDArray[Any]) -> NDArray[Any]:
    """The numbers of an axis that repeats them, as one of a broadcast array does, once; every other axis whole."""
    return values[tuple(slice(None) if step else slice(1) for step in values.strides)]


def in_pieces(values: NDArray[Any], *others: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Views of the same elements of some arrays of one shape, about `AT_ONCE` at a time; the others are C-contiguous.

    They are flat where `values` is C-contiguous too, or one number everywhere, and whole rows of the first axis elsewhere.
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
