"""Where a stack's parameters and activations come from: one for all layers, or a list with an entry a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import _core
from .._common.activations import parse
from .._common.checks import shown
from .._stream.keys import Key
from ..initializers import Initializer, get
from .arguments import check_parameters, check_representable

__all__ = ["activations_of", "check_unseeded", "first_parameters", "initializers_of"]

_NAMES = {"weights": "weight", "biases": "bias"}  # of a layer's parameter, behind its number


def activations_of(
    activation: Any, output_activation: Any, depth: int, dtype: str
) -> tuple[tuple[str, ...], tuple[tuple[int, float], ...]]:
    """The names of the layers' activations, and what `parse` makes of them."""
    if isinstance(activation, (list, tuple)):
        if output_activation is not None:
            raise TypeError(f"output_activation: expected none beside a list, one a layer, got {shown(output_activation)}")
        if len(activation) != depth:
            raise ValueError(f"activation: expected {depth} names, one a layer, got {len(activation)}")
        parsed = tuple(parse(f"activation[{i}]", name) for i, name in enumerate(activation))
        names = tuple(map(str, activation))  # NumPy's strings become Python's
    else:
        inner = last = parse("activation", activation)
        if output_activation is not None:
            last = parse("output_activation", output_activation)
        names = (activation,) * (depth - 1) + (output_activation or activation,) * (depth > 0)
        parsed = (inner,) * (depth - 1) + (last,) * (depth > 0)
    for index, parameter in parsed:
        check_representable(f"activation: {_core.TRAITS[_core.ACTIVATIONS[index]].parameter}", parameter, dtype)
    return names, parsed


def _is_initializer(entry: Any) -> bool:
    return isinstance(entry, (str, dict, Initializer)) or callable(entry)


def _entries(what: str, source: Any, depth: int) -> list[Any]:
    """An entry a layer."""
    if not isinstance(source, (list, tuple)):
        return [get(source)] * depth
    if len(source) != depth:
        raise ValueError(f"{what}: expected {depth} entries, one a layer, got {len(source)}")
    return [get(entry) if _is_initializer(entry) else entry for entry in source]


def first_parameters(
    what: str, source: Any, shapes: Sequence[tuple[int, ...]], widths: tuple[int, ...], dtype: str, key: Key, *,
    none: bool = False,
) -> list[Any]:  # fmt: skip
    """A copy of each array that `source` lists, and a new array for each initializer."""
    entries = _entries(what, source, len(shapes))
    arrays = [
        entry(shape, dtype=dtype, key=key / f"{i}.{_NAMES[what]}") if _is_initializer(entry) else entry
        for i, (entry, shape) in enumerate(zip(entries, shapes, strict=True))
    ]
    checked = check_parameters(what, arrays, widths, dtype, none=none)  # an initializer of one's own may return anything
    return [
        array if array is None or _is_initializer(entry) else array.copy()
        for entry, array in zip(entries, checked, strict=True)
    ]


def initializers_of(what: str, source: Any, depth: int) -> list[Any]:
    """The same of weights that are never stored: no array is among them."""
    entries = _entries(what, source, depth)
    for i, entry in enumerate(entries):
        if not _is_initializer(entry):
            raise TypeError(f"{what}[{i}]: expected an initializer, for a virtual stack, got {shown(entry)}")
    return entries


def check_unseeded(what: str, source: Any) -> None:
    """A seed that no tensor would be drawn from is not taken without a word."""
    for entry in source if isinstance(source, (list, tuple)) else [source]:
        seed = getattr(get(entry), "seed", None) if _is_initializer(entry) else None
        if seed is not None:
            raise ValueError(
                f"{what}: expected key= beside an initializer with a seed, as a key names a network's tensors; got seed={seed} "
                "alone"
            )
