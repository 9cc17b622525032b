"""Residual branches of functional Keras models: of the two operands of an addition, which is the stream and which the branch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Branch", "branches_of"]


@dataclass(frozen=True)
class Branch:
    """A residual branch and the addition at its end.

    Attributes
    ----------
    addition : keras.Operation
        The layer `Add`, or the operation that ``+`` becomes.
    operand : int
        Of the two which is the branch.
    operations : tuple of keras.Operation
        Those that compute the branch from the stream, the last one first.
    """

    addition: Any
    operand: int
    operations: tuple[Any, ...]


def branches_of(model: Any) -> Iterator[Branch]:
    """Additions of two tensors of one shape one of which is computed from the other one; that one is the branch."""
    nodes = [node for some in getattr(model, "_nodes_by_depth", {}).values() for node in some]
    additions = [node for node in nodes if type(node.operation).__name__ == "Add"]  # a layer, or keras.ops.add
    for node in additions:
        operands = node.input_tensors
        # A layer that is used twice does not know which of its two calls runs.
        once = sum(other.operation is node.operation for other in additions) == 1
        if not once or len(operands) != 2 or operands[0].shape != operands[1].shape:
            continue
        for operand in (0, 1):
            operations = _between(operands[operand], operands[1 - operand])
            if operations:
                yield Branch(node.operation, operand, operations)
                break


def _place(tensor: Any) -> tuple[int, int, int]:
    operation, node, number = tensor._keras_history
    return id(operation), node, number


def _between(end: Any, begin: Any) -> tuple[Any, ...]:
    """The operations that compute one tensor of a graph from another one, the last one first; none if they do not."""
    operations, seen, waiting, reached = [], {_place(end)}, [end], False
    for tensor in waiting:  # grows meanwhile: the nearest come first
        if _place(tensor) == _place(begin):
            reached = True
            continue
        operation, node, _ = tensor._keras_history
        operations.append(operation)
        for given in operation._inbound_nodes[node].input_tensors:
            if _place(given) not in seen:
                seen.add(_place(given))
                waiting.append(given)
    return tuple(operations) if reached else ()
