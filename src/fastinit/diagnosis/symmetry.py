"""Units that will be the same for ever, and layers that hold the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["equal_layers", "symmetric_units"]

Array = NDArray[Any]


def symmetric_units(into: Array, bias: Array | None, out_of: Array | None) -> int:
    """How many of a hidden layer's units are copies of another one: they have the same weights in and out, and the same bias.

    Such units have the same values and the same gradients, so that no training step tells them apart. Units that differ in
    what goes out of them alone, as after a layer of zeros, part in the first step.

    Parameters
    ----------
    into : ndarray of shape (n, units)
        The layer's weights.
    bias : ndarray of shape (units,), or None for zeros
    out_of : ndarray of shape (units, m), or None
        The next layer's weights; None where nothing follows or is known.
    """
    # Few units tie in a single weight by chance: most layers end here.
    values, group = np.unique(into[0], return_inverse=True)
    if len(values) == into.shape[1]:
        return 0
    tied = np.flatnonzero(np.bincount(group)[group] > 1)
    columns = [into[:, tied].T]
    if bias is not None:
        columns.append(bias[tied, None])
    if out_of is not None:
        columns.append(out_of[tied])
    # + 0.0 makes -0.0 the 0.0 that it equals, so that rows of bytes can be compared.
    rows = np.ascontiguousarray(np.concatenate(columns, axis=1) + 0.0)
    distinct = {row.tobytes() for row in rows}
    return len(rows) - len(distinct)


def equal_layers(weights: Sequence[Array]) -> tuple[tuple[int, int], ...]:
    """Pairs of layers whose weights are equal bit for bit, though they look drawn: each with the first one that it equals.

    Structured weights, such as an identity or a constant, may well stand in several layers, and do not count: a drawn tensor
    has more distinct numbers than rows and columns.
    """
    first: dict[tuple[tuple[int, ...], bytes], int] = {}
    found = []
    for i, array in enumerate(weights):
        head = array.ravel()[:64].tobytes()  # enough to tell two draws apart
        other = first.setdefault((array.shape, head), i)
        if other == i or not np.array_equal(array, weights[other]):
            continue
        if len(np.unique(array)) > sum(array.shape):
            found.append((other, i))
    return tuple(found)
