"""One block of memory for all gradients of a stack: where each of them begins, and which arrays they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

__all__ = ["offsets_in_block", "views_of_block"]


def offsets_in_block(widths: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Bytes at which the gradients of weights, biases and input begin in one block, each at a cache line."""
    sizes = [n * m for n, m in itertools.pairwise(widths)] + list(widths[1:])
    return tuple(itertools.accumulate((-(-n * itemsize // 64) * 64 for n in sizes), initial=0))


def views_of_block(
    widths: Sequence[int], offsets: Sequence[int], itemsize: int
) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """Start, shape and strides of neighbouring gradients of one shape together: an array of arrays, quicker made than each."""
    shapes = [*itertools.pairwise(widths), *((n,) for n in widths[1:])]
    found = []
    for shape, group in itertools.groupby(range(len(shapes)), key=shapes.__getitem__):
        first, *others = group
        rows = (shape[-1] * itemsize, itemsize)[-len(shape) :]
        found.append((offsets[first], (1 + len(others), *shape), (offsets[first + 1] - offsets[first], *rows)))
    return found
