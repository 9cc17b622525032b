"""One call of a layer, and what is measured of it on the way forward and back, for models of any framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .observed import ObservedLayer

__all__ = [
    "FLAT_FROM", "Call", "Layer", "Norms", "apart", "label_of", "measure", "measure_gradient", "neighbours", "observed_layer",
    "on_flat_sides", "other_axes", "sum_of_squares",
]  # fmt: skip

Array = NDArray[Any]

# Where |phi'| is below 5.91 % of its maximum, as for stacks: in terms of the value |phi|, for sigmoid of |2 phi - 1|.
FLAT_FROM = {"tanh": 0.97, "sigmoid": 0.97, "hard_tanh": 1.0, "softsign": 0.757}
_SAMPLES = 32  # in pairs of neighbours, whose cosines are averaged
_FEATURES = 4096  # that a cosine is of at most, taken at equal distances


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What is known of a layer before it runs.

    Attributes
    ----------
    name, kind : str
        The qualified name, and the class.
    weight, bias : str or None
        The parameter that it multiplies its input by, "" if that is computed from others; None of embeddings, normalisation
        and activation functions. And the one that it adds.
    inputs : int
        Fan-in, 0 if unknown.
    axis : int
        Of units in the output.
    activation : str or None
        If the layer is an activation function.
    affine : bool
        Whether the output is the input times the weight, plus the bias.
    role : str
        As in `ObservedLayer`.
    """

    name: str
    kind: str
    weight: str | None = None
    bias: str | None = None
    inputs: int = 0
    axis: int = -1
    activation: str | None = None
    affine: bool = True
    role: str = ""


@dataclass(frozen=True)
class Norms:
    """The size of a parameter.

    Attributes
    ----------
    size : int
        How many numbers it has.
    square, gradient : float
        Sums of the squares of its numbers and of its gradient; the latter is NaN of a parameter that is not trained.
    connected : bool or None
        Whether the graph leads from the loss to it; None if a framework gives zeros either way.
    """

    size: int
    square: float
    gradient: float = math.nan
    connected: bool | None = None


@dataclass(eq=False)
class Call:
    """One call of a layer. `input_square` is a mean, the other squares are sums; what is unknown is NaN.

    `entropy` and `branch` are those of `ObservedLayer`; `constant` says that the output is 0 whatever the input is.
    """

    name: str
    layer: Layer
    shape: tuple[int, ...]
    square: float = math.nan
    input_square: float = math.nan
    gradient: float = math.nan
    saturated: float = math.nan
    dead: float = math.nan
    non_finite: int = 0
    non_finite_gradients: int = 0
    apart: float = math.nan
    entropy: float = math.nan
    branch: float = math.nan
    constant: bool = False

    def returned(self, energy: float, unreached: float, non_finite: int) -> None:
        """Add a gradient that came back: its sum of squares, the share of units without one, and how much is not finite."""
        self.gradient = energy if math.isnan(self.gradient) else self.gradient + energy
        if self.layer.weight is not None:
            self.dead = 0.0 if energy == 0 else unreached  # without any gradient it is not the units' fault
        self.non_finite_gradients += non_finite


def label_of(name: str, number: int) -> str:
    """What the n-th call of a layer is called."""
    return name if number == 1 else f"{name}#{number}"


# ---- numbers ----------------------------------------------------------------------------------------


def sum_of_squares(values: Array) -> float:
    """In double precision; infinite or NaN if a number is."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.square(values, dtype=np.float64).sum())


def other_axes(ndim: int, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != axis % ndim)


def on_flat_sides(output: Any, activation: str) -> float:
    """The share of an activation's elements that are saturated; `output` may be an array of any framework."""
    values = 2 * output - 1 if activation == "sigmoid" else output
    share: float = int((abs(values) >= FLAT_FROM[activation]).sum()) / math.prod(output.shape)
    return share


def neighbours(output: Any, *, tokens: bool) -> Any:
    """Some rows whose neighbours are compared: tokens, all numbers along the last axis, or samples.

    Parameters
    ----------
    output : array of any framework, with at least one number
    tokens : bool

    Returns
    -------
    array of shape (2 n, m), or None if there are no two rows
    """
    if output.ndim < 2:
        return None
    rows = output.reshape(-1, output.shape[-1]) if tokens else output[:_SAMPLES].reshape(min(_SAMPLES, len(output)), -1)
    if len(rows) < 2:
        return None
    return rows[: min(_SAMPLES, len(rows)) // 2 * 2, :: -(-rows.shape[1] // _FEATURES)]


def apart(rows: Array | None) -> float:
    """1 - the mean cosine of rows 0 and 1, 2 and 3, and so on.

    Half the squared distance of the directions, which does not cancel where they are nearly the same.
    """
    if rows is None:
        return math.nan
    exact = rows.astype(np.float64)
    with np.errstate(all="ignore"):
        directions = exact / np.linalg.norm(exact, axis=1, keepdims=True)
        distances = np.square(directions[0::2] - directions[1::2]).sum(axis=1) / 2
    known = distances[np.isfinite(distances)]
    return float(known.mean()) if len(known) else math.nan


def measure(call: Call, values: Array, *, tokens: bool) -> None:
    """Note an output, of which there is at least one number; the input is measured by the caller."""
    layer = call.layer
    call.square = sum_of_squares(values)
    if not math.isfinite(call.square):
        call.non_finite = int((~np.isfinite(values)).sum())
    if layer.activation == "relu" and values.ndim > 1:
        call.dead = float((values.max(axis=other_axes(values.ndim, layer.axis)) <= 0).mean())
    elif layer.activation in FLAT_FROM:
        call.saturated = on_flat_sides(values, layer.activation)
    elif layer.weight is not None:
        call.apart = apart(neighbours(values, tokens=tokens))


def measure_gradient(call: Call, gradient: Array) -> None:
    """Add a gradient with respect to the output."""
    energy, unreached = sum_of_squares(gradient), math.nan
    if call.layer.weight is not None and gradient.ndim > 1:
        unreached = float((~gradient.any(axis=other_axes(gradient.ndim, call.layer.axis))).mean())
    call.returned(energy, unreached, 0 if math.isfinite(energy) else int((~np.isfinite(gradient)).sum()))


# ---- from what was measured to what is judged ---------------------------------------------------------


def observed_layer(call: Call, batch: int, norms: Mapping[str, Norms], *, silent: bool) -> ObservedLayer:
    """A call as the judgement takes it: squares are means, and what came back is that of one sample."""
    layer, numel = call.layer, max(math.prod(call.shape), 1)
    expected = ratio = math.nan
    weight, bias = norms.get(layer.weight or ""), norms.get(layer.bias or "")
    if weight is not None and weight.size:
        if weight.square > 0 and weight.connected is not False:
            ratio = math.sqrt(weight.gradient / weight.square)
        if layer.inputs and layer.affine:
            shift = bias.square / bias.size if bias is not None and bias.size else 0.0
            expected = layer.inputs * call.input_square * weight.square / weight.size + shift
    return ObservedLayer(
        name=call.name or "model", kind=layer.kind, weighted=layer.weight is not None, activation=layer.activation,
        inputs=layer.inputs, units=call.shape[layer.axis] if call.shape else 1, elements=numel / batch,
        square=call.square / numel, expected=expected, gradient=call.gradient / batch, saturated=call.saturated,
        dead=call.dead, non_finite=call.non_finite, non_finite_gradients=call.non_finite_gradients, apart=call.apart,
        gradient_to_weight=ratio, silent=silent or call.constant, role=layer.role, entropy=call.entropy,
        branch=call.branch,
    )  # fmt: skip
