"""What a stack is made of and works on, checked: widths, residual blocks, parameters, batches, pairs of samples."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.arithmetic import ieee
from .._common.checks import no_nan, real_array, shown, whole_number
from .._common.dtypes import LARGEST

__all__ = ["check_batch", "check_pairs", "check_parameters", "check_representable", "check_widths", "residual_sources"]

_contiguous = ieee(np.ascontiguousarray)


def residual_sources(widths: tuple[int, ...], layers: Any) -> tuple[int, ...]:
    """Of each layer the number of the activation that it adds, where a residual block of `layers` layers began, or -1."""
    k = whole_number("residual", layers)
    sources = [-1] * (len(widths) - 1)
    i = 0
    while i + k < len(widths):
        if widths[i] == widths[i + k]:
            sources[i + k - 1] = i
            i += k
        else:
            i += 1
    if max(sources, default=-1) < 0:
        raise ValueError(f"residual: expected {shown(k)} layers whose input and output have one width, got {widths}")
    return tuple(sources)


def check_representable(what: str, number: float, dtype: str) -> float:
    """A number that is finite in `dtype`, too."""
    if abs(number) > LARGEST[dtype]:
        raise ValueError(f"{what}: expected a number in the range of {dtype}, got {number}")
    return number


def check_pairs(pairs: Any, batch: int) -> NDArray[np.uintp]:
    """Pairs of samples of a batch, as an array of shape (pairs, 2)."""
    wanted = f"pairs: expected pairs (i, j) of ints, 0 <= i, j < {batch}"
    try:
        rows = [tuple(pair) for pair in pairs]
        chosen = [operator.index(n) for row in rows for n in row]
    except TypeError:
        raise TypeError(f"{wanted}, got {shown(pairs)}") from None
    if any(isinstance(n, bool) for row in rows for n in row):
        raise TypeError(f"{wanted}, got {shown(pairs)}")
    for row in rows:
        if len(row) != 2 or not all(0 <= n < batch for n in row):
            raise ValueError(f"{wanted}, got {shown(row)}")
    return np.array(chosen, dtype=np.uintp).reshape(-1, 2)


def check_widths(widths: Any) -> tuple[int, ...]:
    """At least one int, each >= 1."""
    try:
        entries = tuple(widths)
        sizes = tuple(operator.index(n) for n in entries)
    except TypeError:
        raise TypeError(f"widths: expected a sequence of ints, got {shown(widths)}") from None
    if any(isinstance(n, bool) for n in entries) or isinstance(widths, (Set, Mapping)):  # in no order of their own
        raise TypeError(f"widths: expected a sequence of ints, got {shown(widths)}")
    if not sizes or any(n < 1 for n in sizes):
        raise ValueError(f"widths: expected at least one int, each >= 1, got {shown(sizes)}")
    return sizes


def check_batch(
    what: str, array: Any, width: int, dtype: str, *, rows: int | None = None, nan: bool = False
) -> NDArray[Any]:
    """Samples of a width, and of a number if `rows` says it, in `dtype`.

    A NaN is refused unless `nan` allows it: a loss's gradient with respect to the output is NaN after an overflow.
    """
    found = real_array(what, array)
    if found.ndim != 2 or found.shape[1] != width or rows not in (None, found.shape[0]):
        batch = "batch" if rows is None else rows
        raise ValueError(f"{what}: expected shape ({batch}, {width}), got {found.shape}")
    return _readable(what, found, dtype, nan)


def check_parameters(
    what: str, arrays: Any, widths: tuple[int, ...], dtype: str, *, nan: bool = False, none: bool = False
) -> list[Any]:
    """The parameters `what`, "weights" or "biases", of the shapes that the widths want, in `dtype`.

    An array that the C core can read in place is returned itself, of another there is a copy. `nan` allows NaN, and `none` a
    None for a bias of zeros.
    """
    if not isinstance(arrays, (list, tuple)):
        raise TypeError(f"{what}: expected a list of arrays, one a layer, got {type(arrays).__name__}")
    if len(arrays) != len(widths) - 1:
        raise ValueError(f"{what}: expected {len(widths) - 1} arrays, one a layer, got {len(arrays)}")
    found = []
    for i, (array, pair) in enumerate(zip(arrays, itertools.pairwise(widths), strict=True)):
        shape = pair if what == "weights" else pair[1:]
        if not (none and array is None):
            array = real_array(f"{what}[{i}]", array)
            if array.shape != shape:
                raise ValueError(f"{what}[{i}]: expected shape {shape}, got {array.shape}")
            array = _readable(f"{what}[{i}]", array, dtype, nan)
        found.append(array)
    return found


def _readable(what: str, array: NDArray[Any], dtype: str, nan: bool) -> NDArray[Any]:
    """An array as the C core reads it: aligned, in C order and `dtype`; it itself if it is so, else a copy."""
    if array.dtype != dtype or not array.flags.c_contiguous:
        with np.errstate(over="ignore"):  # float64 to float32 may give inf, which the statistics show
            array = _contiguous(array, dtype=dtype)
    if not array.flags.aligned:  # a view into packed bytes
        array = array.copy()
    if not nan:
        no_nan(what, array)
    return array
