"""Starts that look at data or at theory: layer by layer, weights are scaled until pre-activations have the right variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.arithmetic import ieee
from .._common.checks import boolean, check_apart, real_number, whole_number
from .._engine.arguments import check_batch, check_parameters
from .._engine.stack import Stack
from .._engine.virtual_weights import DrawnWeights
from ..initializers import Orthogonal
from .expected import Stream, variances

__all__ = ["ScaledLayer", "check_scaling", "lsuv", "variance_fit"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ScaledLayer:
    """What `lsuv` or `variance_fit` did to one layer.

    Attributes
    ----------
    layer : int or str
        0 for the one that reads the input; the qualified name in a framework's model.
    before, after : float
        Variance of its pre-activations, measured by `lsuv` and expected by `variance_fit`.
    factor : float
        On its weights.
    rounds : int
        How many times they were scaled.
    """

    layer: int | str
    before: float
    after: float
    factor: float
    rounds: int


def check_scaling(tolerance: Any, most_rounds: Any, orthogonal: Any) -> tuple[float, int]:
    """The options of `lsuv`: tolerance and number of rounds."""
    boolean("orthogonal", orthogonal)
    rounds = whole_number("most_rounds", most_rounds)
    limit = real_number("tolerance", tolerance)
    if not 0 < limit < 1:
        raise ValueError(f"tolerance: expected a number in (0, 1), got {limit}")
    return limit, rounds


@ieee
def lsuv(
    stack: Stack, x: Any, *, tolerance: float = 0.1, most_rounds: int = 10, orthogonal: bool = True
) -> tuple[ScaledLayer, ...]:
    """Layer-sequential unit variance: orthogonal weights, scaled until each layer's pre-activations have variance 1 on a batch.

    The arrays in ``stack.weights`` are written, all of them after the last layer has been found. The result depends on the
    stack, its key and `x` alone, to the bit.

    Parameters
    ----------
    stack : Stack
        Not virtual.
    x : array_like of shape (batch, n_0)
    tolerance : float in (0, 1), default 0.1
        By how much a variance may differ from 1.
    most_rounds : int >= 1, default 10
        How often a layer is scaled at most.
    orthogonal : bool, default True
        Begin with orthogonal weights from ``stack.key / f"{i}.weight"``; False begins with those that are there.

    Returns
    -------
    tuple of ScaledLayer
        What was done, one a layer.

    Raises
    ------
    TypeError, ValueError
        If `stack` is none, is virtual, or has weights that cannot be written; if an option or `x` does not fit; if the
        input of a layer is all 0, if its variance is 0 or not finite, or if that of its biases alone is >= 1, which no factor
        mends. Nothing has been written then.

    References
    ----------
    Mishkin & Matas, "All you need is a good init", 2016.

    Examples
    --------
    >>> stack = fastinit.Stack([64] * 21, "tanh", weights="ones", key=fastinit.Key(0))
    >>> log = fastinit.lsuv(stack, fastinit.normal((128, 64), key=fastinit.Key(1)))
    >>> all(abs(layer.after - 1) < 0.1 for layer in log)
    True
    """
    _check_stack(stack)
    inputs = _inputs(stack, x)
    limit, rounds = check_scaling(tolerance, most_rounds, orthogonal)

    values = [inputs]
    sources = {end: begin for begin, end in stack.residual_blocks}
    weights, log = [], []
    for i in range(stack.depth):
        shape = stack.weights[i].shape
        start = Orthogonal()(shape, dtype=stack.dtype, key=stack.key / f"{i}.weight") if orthogonal else stack.weights[i]
        layer, scaled, output = _unit_variance(stack, i, start, values[i], limit, rounds)
        if i in sources:
            with np.errstate(all="ignore"):  # what overflows is refused in the next layer
                output = values[sources[i]] + np.asarray(stack.alpha, stack.dtype) * output
        values.append(output)
        weights.append(scaled)
        log.append(layer)
    for array, scaled in zip(stack.weights, weights, strict=True):
        array[...] = scaled
    return tuple(log)


def _unit_variance(
    stack: Stack, i: int, weight: Array, x: Array, tolerance: float, most_rounds: int
) -> tuple[ScaledLayer, Array, Array]:
    """One layer scaled: what was done, its weights, and phi(z) for the batch."""
    factor, rounds, before = 1.0, 0, math.nan
    if not np.any(x):  # the variance over units is that of the biases, or of their rounding, which no factor changes
        raise ValueError(f"stack: expected layers whose variance a factor can change, got an input of zeros in layer {i}")
    of_biases = float(np.var(stack.biases[i], dtype=np.float64))
    if of_biases >= 1:
        raise ValueError(f"stack: expected biases of a variance below 1, got {of_biases:g} in layer {i}")
    while True:
        layer = Stack(
            stack.widths[i : i + 2], stack.activations[i], weights=[weight], biases=[stack.biases[i]], key=stack.key,
            dtype=stack.dtype,
        )  # fmt: skip
        report = layer.propagate(x)
        variance = report.layers[0].pre_activation.variance
        if rounds == 0:
            before = variance
        scale = _in_dtype(1 / math.sqrt(variance), stack.dtype) if 0 < variance < math.inf else math.nan
        if not 0 < scale < math.inf:
            raise ValueError(f"stack: expected layers whose variance a factor can change, got {variance} in layer {i}")
        if abs(variance - 1) < tolerance or rounds == most_rounds:
            return ScaledLayer(i, before, variance, factor, rounds), weight, report.output
        weight = weight * scale
        factor *= float(scale)
        rounds += 1


@ieee
def variance_fit(stack: Stack, variance: float = 1.0, *, x: Any = None) -> tuple[ScaledLayer, ...]:
    """Scale the weights so that theory expects pre-activations of one variance in every layer; no pass is run.

    Layer by layer, the variance that wide layers would have, sigma_w^2 E a^2 + sigma_b^2, is made the wanted one by a factor on
    the weights, where sigma_w^2 is what the numbers in ``stack.weights`` have. Unlike a gain, this is right for any
    widths, weights, biases, activations and residual blocks.

    Parameters
    ----------
    stack : Stack
        Not virtual; its weights are drawn about 0, and are written.
    variance : float > 0, default 1.0
        Of the pre-activations.
    x : array_like of shape (batch, n_0), optional
        Inputs whose mean square is that of the data; 1 if not given. At least one sample.

    Returns
    -------
    tuple of ScaledLayer
        What was done, one a layer, with the expected variances.

    Raises
    ------
    TypeError, ValueError
        If `stack` is none, is virtual, or has weights that cannot be written; if `variance` or `x` does not fit; if some weights
        have another mean than 0, or are 0; if the biases alone have a larger variance; if a factor leaves the range of the
        dtype. Nothing has been written then.

    References
    ----------
    Bingham & Miikkulainen, "AutoInit: analytic signal-preserving weight initialization for neural networks", 2023.
    """
    _check_stack(stack)
    wanted = real_number("variance", variance)
    if not 0 < wanted <= 1e6:
        raise ValueError(f"variance: expected a number in (0, 1e6], got {wanted}")
    square = 1.0
    if x is not None:
        with np.errstate(all="ignore"):
            square = float(np.mean(np.square(_inputs(stack, x), dtype=np.float64)))
        if not 0 < square < math.inf:
            raise ValueError(f"x: expected inputs with a finite mean square > 0, got {square}")
    found = variances(stack)
    if found is None:
        raise ValueError("stack: expected weights of mean 0 and a variance in the range of float64, as an initializer draws them")
    stream, factors, log = Stream(stack, square), [], []
    for i, (of_weights, of_biases) in enumerate(zip(*found, strict=True)):
        before = of_weights * stream.square
        if not 0 < before < math.inf or of_biases >= wanted:
            raise ValueError(
                f"variance: expected layers that can have {wanted:g}, got layer {i} with weights that make "
                f"{before:g} and biases of variance {of_biases:g}"
            )
        factor = _in_dtype(math.sqrt((wanted - of_biases) / before), stack.dtype)
        if not 0 < factor < math.inf:
            raise ValueError(f"variance: expected a factor in the range of {stack.dtype}, got {factor} for layer {i}")
        factors.append(factor)
        log.append(ScaledLayer(i, float(before + of_biases), wanted, float(factor), 1))
        stream.through(i, wanted)
    for array, factor in zip(stack.weights, factors, strict=True):
        array *= factor
    return tuple(log)


def _in_dtype(number: float, dtype: str) -> Any:
    """A number in `dtype`; infinite where it is beyond it."""
    with np.errstate(over="ignore"):
        return np.asarray(number, dtype)


def _inputs(stack: Stack, x: Any) -> Array:
    inputs = check_batch("x", x, stack.widths[0], stack.dtype)
    if not len(inputs):
        raise ValueError(f"x: expected shape (batch, {stack.widths[0]}) with at least one sample, got {inputs.shape}")
    return inputs


def _check_stack(stack: Any) -> None:
    """A stack whose weights can be written in place, each by itself."""
    if not isinstance(stack, Stack):
        raise TypeError(f"stack: expected a fastinit.Stack, got {type(stack).__name__}")
    if isinstance(stack.weights, DrawnWeights):
        raise ValueError("stack: expected stored weights to scale, got a virtual stack")
    readable = check_parameters("weights", stack.weights, stack.widths, stack.dtype)
    check_parameters("biases", stack.biases, stack.widths, stack.dtype)
    for i, (array, same) in enumerate(zip(stack.weights, readable, strict=True)):
        if array is not same or not array.flags.writeable:
            raise ValueError(f"stack.weights[{i}]: expected a writable C-contiguous array of {stack.dtype}, got another one")
    check_apart("stack.weights", [(*_core.span(array), i) for i, array in enumerate(stack.weights)])
