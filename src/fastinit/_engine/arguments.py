"""What a stack is made of and works on, checked: widths, residual blocks, parameters, batches, pairs of samples."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.arithmetic import ieee
from .._common.checks import no_nan, real_array, shown, whole_number
from .._common.dtypes import LARGEST

__all__ = ["check_pairs", "check_parameter", "check_widths", "in_order", "in_range", "residual_blocks"]

_contiguous = ieee(np.ascontiguousarray)


def residual_blocks(widths: tuple[int, ...], layers: Any) -> tuple[int, ...]:
    """For each layer the activation where the residual block begins that it ends, or -1."""
    k = whole_number("residual", layers)
    skips = [-1] * (len(widths) - 1)
    i = 0
    while i + k < len(widths):
        if widths[i] == widths[i + k]:
            skips[i + k - 1] = i
            i += k
        else:
            i += 1
    if max(skips, default=-1) < 0:
        raise ValueError(f"residual: expected {shown(k)} layers whose input and output have one width, got {widths}")
    return tuple(skips)


def in_range(what: str, number: float, dtype: str) -> float:
    if abs(number) > LARGEST[dtype]:
        raise ValueError(f"{what}: expected a number in the range of {dtype}, got {number}")
    return number


def check_pairs(pairs: Any, batch: int) -> NDArray[np.uintp]:
    """Pairs of samples of a batch, as rows."""
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
    try:
        entries = tuple(widths)
        sizes = tuple(operator.index(n) for n in entries)
    except TypeError:
        raise TypeError(f"widths: expected a sequence of ints, got {shown(widths)}") from None
    if any(isinstance(n, bool) for n in entries) or isinstance(widths, (Set, Mapping)):  # which have another order, or none
        raise TypeError(f"widths: expected a sequence of ints, got {shown(widths)}")
    if not sizes or any(n < 1 for n in sizes):
        raise ValueError(f"widths: expected at least one int, each >= 1, got {shown(sizes)}")
    return sizes


def in_order(what: str, array: NDArray[Any], dtype: str, *, nan: bool = False) -> NDArray[Any]:
    """`array` aligned, in C order and `dtype`, refused if a number is NaN unless allowed."""
    if array.dtype != dtype or not array.flags.c_contiguous:
        with np.errstate(over="ignore"):  # float64 to float32 may give inf, which the statistics show
            array = _contiguous(array, dtype=dtype)
    if not array.flags.aligned:  # a view into packed bytes
        array = array.copy()
    if not nan:
        no_nan(what, array)
    return array


def check_parameter(what: str, array: Any, shape: tuple[int, ...], dtype: str, *, nan: bool = False) -> NDArray[Any]:
    """A parameter of the shape that the widths want."""
    found = real_array(what, array)
    if found.shape != shape:
        raise ValueError(f"{what}: expected shape {shape}, got {found.shape}")
    return in_order(what, found, dtype, nan=nan)
