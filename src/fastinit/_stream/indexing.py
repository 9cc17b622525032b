"""Which elements of a tensor an index picks."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

from .._common.checks import shown

__all__ = ["Region", "region_of", "resolve_index"]


def _axis(entry: Any, size: int, axis: int) -> tuple[int, int, int, bool]:
    """Start, step and count of what an index entry picks from an axis, and whether the axis stays (an int removes it)."""
    if isinstance(entry, slice):
        try:
            start, stop, step = entry.indices(size)
        except (TypeError, ValueError):  # not of ints, or with a step of 0
            kind = ValueError if isinstance(entry.step, int) else TypeError
            raise kind(f"index: expected slices of ints with a step other than 0, got {shown(entry)} for axis {axis}") from None
        return start, step, len(range(start, stop, step)), True
    try:
        position = operator.index(entry)
    except TypeError:
        raise TypeError(
            f"index: expected ints and slices, got {type(entry).__name__} for axis {axis}"
        ) from None
    if isinstance(entry, bool):
        raise TypeError(f"index: expected ints and slices, got bool for axis {axis}")
    if not -size <= position < size:
        raise IndexError(f"index: expected an int in [{-size}, {size}) for axis {axis}, got {shown(position)}")
    return position % size, 1, 1, False


def resolve_index(shape: tuple[int, ...], index: Any) -> list[tuple[int, int, int, bool]]:
    """For every axis of `shape`: start, step and count of what ``array[index]`` picks, and whether the axis stays.

    Raises
    ------
    IndexError
        If an int is out of range, or there are more entries than axes, or two ellipses.
    TypeError, ValueError
        If an entry is not an int, an Ellipsis or a slice of ints, or a step is 0.
    """
    entries = list(index) if isinstance(index, tuple) else [index]
    ellipses = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError(f"index: expected at most one ellipsis, got {len(ellipses)}")
    missing = len(shape) - (len(entries) - len(ellipses))
    if missing < 0:
        raise IndexError(f"index: expected at most {len(shape)} entries for shape {shape}, got {len(entries)}")
    at = ellipses[0] if ellipses else len(entries)
    entries[at : at + len(ellipses)] = [slice(None)] * missing
    return [_axis(entry, size, k) for k, (entry, size) in enumerate(zip(entries, shape, strict=True))]


class Region(NamedTuple):
    """The elements of a tensor that an index picks: at place (i_0, i_1, ...) element first + sum(i_k * strides[k]).

    Attributes
    ----------
    shape : tuple of int
        What the index makes of the tensor's shape.
    first : int
    counts, strides : list of int
        For each axis that the kernel walks, at least one. Axes are merged where one stride leads through both.
    """

    shape: tuple[int, ...]
    first: int
    counts: list[int]
    strides: list[int]


def region_of(shape: tuple[int, ...], index: Any) -> Region:
    """The region that ``array[index]`` picks from a row-major array of `shape`; raises as `resolve_index` does."""
    axes = resolve_index(shape, index)
    first, width = 0, 1
    counts: list[int] = []  # from the last axis to the first
    strides: list[int] = []
    for size, (start, step, count, _) in zip(reversed(shape), reversed(axes), strict=True):
        first += start * width
        if counts and strides[-1] * counts[-1] == step * width:
            counts[-1] *= count
        elif count != 1 or not counts:
            counts.append(count)
            strides.append(step * width)
        width *= size
    piece = tuple(count for _, _, count, stays in axes if stays)
    return Region(piece, first, counts[::-1] or [1], strides[::-1] or [1])
