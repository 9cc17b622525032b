"""Queries, keys and values in one weight: how many outputs of it belong to each, counted from the model."""

from __future__ import annotations

from ..._common.checks import whole_number
from ..names import Pattern
from ..parts import Spelling
from .tensors import Tensors, module

__all__ = ["fused_spellings"]

_NAMES = ("layers.*.q", "layers.*.k", "layers.*.v")


def fused_spellings(
    tensors: Tensors, *, side_by_side: tuple[str, ...] = (), by_head: tuple[str, ...] = (), heads: int | None = None
) -> list[Spelling]:
    """The spellings of modules with Q, K and V in one weight. Q has as many outputs as `o` has inputs, K and V share the rest.

    Parameters
    ----------
    tensors : Tensors
    side_by_side : tuple of str
        Patterns of modules with all of Q, then all of K, then all of V.
    by_head : tuple of str
        Patterns of modules with the heads of each K and V together: the queries that attend to them, then K, then V.
    heads : int, optional
        Of the queries, which no shape tells; needed for a module of `by_head`.
    """
    found: list[Spelling] = []
    for pattern in (*side_by_side, *by_head):
        outputs = _outputs(tensors, pattern)
        if outputs is None:
            continue
        queries = tensors.size("layers.*.o.weight", 1)
        keys, odd = divmod(outputs - queries, 2)
        if keys < 1 or odd:
            raise ValueError(f"model: expected more than {queries} outputs of {pattern}, by an even number, got {outputs}")
        if pattern in side_by_side:
            found += module(pattern, _NAMES, (queries, keys, keys))
            continue
        if heads is None:
            raise ValueError(f"heads: expected the number of heads of the queries, by which {pattern} is ordered, got None")
        width, rest = divmod(queries, whole_number("heads", heads))
        if rest or keys % width or queries % keys:
            raise ValueError(f"heads: expected a number that divides {queries} queries and {keys} keys into heads, got {heads}")
        groups = keys // width
        found += module(pattern, _NAMES, (queries // groups, width, width), groups=groups)
    return found


def _outputs(tensors: Tensors, pattern: str) -> int | None:
    """How many outputs a fused module has; None if the model has none."""
    for place in (pattern, pattern.replace(".*.", ".")):
        for last, axis in (("weight", -2), ("kernel", -1)):
            glob = Pattern(f"{place}.{last}")
            for name, shape in tensors.shapes.items():
                if glob.match(name) is not None:
                    return shape[axis]
    return None
