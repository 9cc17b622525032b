"""What one network shows in one pass forward and back: the numbers of each layer that the judge looks at."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._engine.results import Propagation
from .._engine.stack import Stack
from .._engine.virtual_weights import DrawnWeights
from .._stream.sampling import normal
from .symmetry import equal_layers, symmetric_units

__all__ = ["Measured", "measure"]

Array = NDArray[Any]
_PAIRS = 16  # of samples whose cosines are averaged


@dataclass(frozen=True, eq=False)
class Measured:
    """One network's numbers. Arrays of shape (L,) have an entry for each layer.

    Attributes
    ----------
    pre_activation, activation, gradient : ndarray of shape (L,)
        Mean squares of z, of what the layer passes on, and of the gradient with respect to z.
    saturated, dead : ndarray of shape (L,)
        Shares in [0, 1] of elements and of units.
    non_finite, non_finite_gradient : ndarray of shape (L,)
        How many of the layer's numbers are infinite or NaN, forward and back.
    apart : ndarray of shape (L,)
        1 - c, where c is the mean cosine of two samples' pre-activations, of which neither is 0; NaN where there are none.
    gradient_to_weight : ndarray of shape (L,)
        Norm of a weight's gradient by the norm of the weight; NaN where the weight is 0 or not stored.
    input : float
        Mean square of the input.
    loss : float
        Mean cross-entropy in nats of the outputs as logits; NaN where there are fewer than two.
    logit_deviation : float
        Root of the mean over samples of the variance of a sample's logits; NaN likewise.
    symmetric : dict of int to int
        Layers some of whose units are copies of another one, and how many are.
    equal : tuple of (int, int)
        Layers that hold the same weights, bit for bit.
    stepped : tuple of int
        Layers of zeros that were moved by one virtual step, after which the gradients that they had hidden were measured.
    without_gradient : tuple of str
        Parameters whose gradient is exactly 0 even then.
    """

    pre_activation: Array
    activation: Array
    gradient: Array
    saturated: Array
    dead: Array
    non_finite: Array
    non_finite_gradient: Array
    apart: Array
    gradient_to_weight: Array
    input: float
    loss: float
    logit_deviation: float
    symmetric: dict[int, int]
    equal: tuple[tuple[int, int], ...]
    stepped: tuple[int, ...]
    without_gradient: tuple[str, ...]


def measure(stack: Stack, x: Array, labels: Array) -> Measured:
    """One pass with standard normal cotangents, and what the parameters say of themselves."""
    pairs = [(2 * i, 2 * i + 1) for i in range(min(_PAIRS, len(x) // 2))]
    dy = normal((len(x), stack.widths[-1]), key=stack.key / "cotangent", dtype=stack.dtype)
    stored = not isinstance(stack.weights, DrawnWeights)
    with np.errstate(all="ignore"):  # an overflow is a finding, and no warning
        forward = stack.propagate(x, dy, norms=True, pairs=pairs)
        backward = forward
        stepped: tuple[int, ...] = ()
        if stored and not forward.statistics["gradient"]["second_moment"].all():
            stepped, moved = _virtual_step(stack, x, dy)
            if stepped:
                backward = moved.propagate(x, dy, norms=True)
        unknown = np.full(stack.depth, math.nan)
        loss, deviation = _cross_entropy(forward.output, labels)
        rows = forward.statistics
        gradient_rows = np.where(  # what zeros hid, after a step
            rows["gradient"]["second_moment"] == 0, backward.statistics["gradient"], rows["gradient"]
        )
        return Measured(
            pre_activation=rows["pre_activation"]["second_moment"],
            activation=rows["activation"]["second_moment"],
            gradient=gradient_rows["second_moment"],
            saturated=rows["saturated"],
            dead=rows["dead"],
            non_finite=rows["pre_activation"]["non_finite"] + rows["activation"]["non_finite"],
            non_finite_gradient=gradient_rows["non_finite"],
            apart=_apart(np.asarray(forward.pre_activation_cosines)),
            gradient_to_weight=unknown if backward.weight_gradient_ratios is None else backward.weight_gradient_ratios,
            input=float(np.mean(np.square(x, dtype=np.float64))),
            loss=loss,
            logit_deviation=deviation,
            symmetric=_symmetric(stack) if stored else {},
            equal=equal_layers(stack.weights) if stored else (),
            stepped=stepped,
            without_gradient=_without_gradient(backward),
        )


def _apart(cosines: Array) -> Array:
    """1 - the mean over pairs, layer by layer; a pair has no cosine where one of the two is 0."""
    known = ~np.isnan(cosines)
    return np.asarray(1 - np.where(known, cosines, 0.0).sum(axis=1) / known.sum(axis=1))


def _cross_entropy(outputs: Array, labels: Array) -> tuple[float, float]:
    """The mean loss of logits in nats, and the standard deviation of a sample's logits."""
    if outputs.shape[1] < 2:
        return math.nan, math.nan
    logits = outputs.astype(np.float64)
    largest = logits.max(axis=1, keepdims=True)
    log_sum = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))
    size = float(np.abs(logits).max()) or 1.0  # so that the variance of large numbers is finite
    deviation = size * math.sqrt((logits / size).var(axis=1).mean())
    return float(np.mean(log_sum - logits[np.arange(len(logits)), labels])), deviation


def _virtual_step(stack: Stack, x: Array, dy: Array) -> tuple[tuple[int, ...], Stack]:
    """The layers of zeros that get a gradient, and a copy of the stack with them moved against it.

    A layer of zeros behind which nothing moves is often there by design: a zero last layer of a branch, or of the network.
    After one step it is none any more, and what lies before it has gradients. The step makes its weights as large as
    LeCun's, 1 / sqrt(fan_in) in root mean square: only whether numbers are 0 is asked of the result.
    """
    weights, stepped = list(stack.weights), []
    gradients = None
    for i, array in enumerate(stack.weights):
        if np.any(array):
            continue
        gradients = gradients or stack.backward(x, dy)
        size = float(np.sqrt(np.mean(np.square(gradients.weights[i], dtype=np.float64))))
        if 0 < size < math.inf:
            weights[i] = (gradients.weights[i] * (-1 / (size * math.sqrt(len(array))))).astype(stack.dtype)
            stepped.append(i)
    moved = copy.copy(stack)
    moved.weights = weights
    return tuple(stepped), moved


def _symmetric(stack: Stack) -> dict[int, int]:
    """Of layers whose units nothing else can part: not where a residual block adds its source, and not of the outputs."""
    found = {}
    apart = {edge for source, end in stack.residual_blocks for edge in (source - 1, end)}
    for i, (into, out_of) in enumerate(itertools.pairwise(stack.weights)):
        if i not in apart:
            count = symmetric_units(into, stack.biases[i], out_of)
            if count:
                found[i] = count
    return found


def _without_gradient(report: Propagation) -> tuple[str, ...]:
    names = []
    for i, row in enumerate(report.statistics):
        if report.weight_gradient_norms is not None and report.weight_gradient_norms[i] == 0:
            names.append(f"{i}.weight")
        if row["gradient"]["second_moment"] == 0:
            names.append(f"{i}.bias")
    return tuple(names)
