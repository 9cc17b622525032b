"""Units that will be the same for ever, and layers that hold the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calls import Call, Layer

__all__ = ["Units", "copied_units", "equal_layers", "symmetric_layers", "symmetric_units", "twins"]

Array = NDArray[Any]

_HEAD = 64  # numbers, enough to tell two draws apart
_EQUAL = 1e-3  # relative error up to which two units' gradients count as equal: kernels add up in different orders


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
        head = array.ravel()[:_HEAD].tobytes()
        other = first.setdefault((array.shape, head), i)
        if other == i or not np.array_equal(array, weights[other]):
            continue
        if len(np.unique(array)) > sum(array.shape):
            found.append((other, i))
    return tuple(found)


# ---- models of any framework --------------------------------------------------------------------------
#
# Their tensors become arrays of NumPy by the function `numbers`, and only where heads of them are equal as a whole.


def twins(tensors: Mapping[str, Any], numbers: Callable[[Any], Array]) -> tuple[tuple[str, str], ...]:
    """Pairs of parameters that look drawn and are equal, of those with two axes or more."""
    alike: dict[tuple[tuple[int, ...], bytes], list[str]] = {}
    for name, tensor in tensors.items():
        shape = tuple(tensor.shape)
        if len(shape) >= 2 and 0 not in shape:
            alike.setdefault((shape, numbers(tensor.reshape(-1)[:_HEAD]).tobytes()), []).append(name)
    found = []
    for names in alike.values():
        if len(names) > 1:
            found += [(names[i], names[j]) for i, j in equal_layers([numbers(tensors[name]) for name in names])]
    return tuple(found)


@dataclass(frozen=True)
class Units:
    """A layer's weight and its gradient as tensors of shape (units, n), and the bias or None."""

    weight: Any
    gradient: Any
    bias: Any


def symmetric_layers(
    calls: Sequence[Call], units_of: Callable[[Layer], Units | None], numbers: Callable[[Any], Array]
) -> tuple[tuple[str, int, int], ...]:
    """Layers some of whose units have equal weights and equal gradients: name, number of copies, number of units.

    Not the last layer, the head, whose classes may well be alike at first, and not layers of zeros.
    """
    layers = {call.layer.name: call.layer for call in calls if call.layer.weight is not None}
    found = []
    for layer in list(layers.values())[:-1]:
        units = units_of(layer)
        if units is None or 0 in units.weight.shape:
            continue
        some = numbers(units.weight[:, 0])
        if len(np.unique(some)) == len(some):
            continue
        weight = numbers(units.weight)
        if not weight.any():
            continue
        bias, gradient = None if units.bias is None else numbers(units.bias).ravel(), numbers(units.gradient)
        if not np.isfinite(gradient).all():
            continue
        copies = copied_units(weight, bias if bias is not None and len(bias) == len(weight) else None, gradient)
        if copies:
            found.append((layer.name, copies, len(weight)))
    return tuple(found)


def copied_units(weight: Array, bias: Array | None, gradient: Array) -> int:
    """How many of a layer's units have the weights, the bias and the gradient of another one: no training tells them apart.

    Parameters
    ----------
    weight, gradient : ndarray of shape (units, n)
        Units without any gradient do not count: nothing moves them either way.
    bias : ndarray of shape (units,), or None
    """
    # Few units tie in a single weight by chance: most layers end here.
    _, group = np.unique(weight[:, 0], return_inverse=True)
    tied = np.flatnonzero(np.bincount(group)[group] > 1)
    if not len(tied):
        return 0
    rows = weight[tied] if bias is None else np.concatenate([weight[tied], bias[tied, None]], axis=1)
    rows = np.ascontiguousarray(rows + 0.0)  # makes -0.0 the 0.0 that it equals
    gradients = gradient[tied].astype(np.float64)
    sizes = np.sqrt((gradients * gradients).sum(axis=1))
    seen: dict[bytes, list[int]] = {}
    copies = 0
    for i, row in enumerate(rows):
        if not 0 < sizes[i] < math.inf:
            continue
        others = seen.setdefault(row.tobytes(), [])
        if any(np.abs(gradients[i] - gradients[j]).max() <= _EQUAL * sizes[i] for j in others):
            copies += 1
        elif len(others) < 16:  # so many kinds of one unit are no symmetry
            others.append(i)
    return copies
