"""What mean-field theory expects of a network in the limit of wide layers: the curve beside the measured one.

Poole et al., "Exponential expressivity in deep neural networks through transient chaos", 2016; Schoenholz et al., "Deep
information propagation", 2017. Residual streams carry their mean along: the values of branches that end in ReLU are never
negative, and add up in step.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.activations import evaluate, parse
from .._engine.stack import Stack
from .._engine.virtual_weights import DrawnWeights
from ..theory.activations import known
from ..theory.maps import nodes_of
from ..theory.quadrature import nodes

__all__ = ["Expected", "Stream", "expected", "variances"]

Array = NDArray[Any]

_TERMS = 48  # of a Hermite series: of ReLU it holds all but 2e-3 of the second moment
_CENTRED = 6.0  # standard errors that the mean of drawn weights may lie off 0


def variances(stack: Stack) -> tuple[Array, Array] | None:
    """sigma_w^2 and sigma_b^2 of each layer, from the numbers that are there; None if some weights have another mean than 0.

    sigma_w^2 is fan_in times the mean square of a weight about its mean (about 0 of a single one), sigma_b^2 the mean square of
    a bias.
    """
    weights, biases = [], []
    for i, (array, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        fan_in = stack.widths[i]
        with np.errstate(all="ignore"):
            mean, variance = float(np.mean(array, dtype=np.float64)), float(np.var(array, dtype=np.float64))
        if np.size(array) == 1:  # one number says nothing of a mean
            mean, variance = 0.0, mean * mean
        if not math.isfinite(variance) or abs(mean) > _CENTRED * math.sqrt(variance / np.size(array)):
            return None
        weights.append(fan_in * variance)
        biases.append(0.0 if bias is None else float(np.mean(np.square(bias, dtype=np.float64))))
    return np.array(weights), np.array(biases)


@functools.cache
def _hermite() -> tuple[Array, Array]:
    """Nodes, and of each orthonormal Hermite polynomial its values times the weights of the quadrature."""
    z, w = nodes()
    rows = [np.ones_like(z), z]
    for k in range(1, _TERMS):
        rows.append((z * rows[k] - math.sqrt(k) * rows[k - 1]) / math.sqrt(k + 1))
    return z, np.array(rows) * w


def _values_apart(activation: str, q: float, apart: float) -> float:
    """1 - the cosine of phi(u) and phi(v) for normal u, v of variance q and correlation 1 - apart.

    E phi(u) phi(v) = sum of a_k^2 c^k over the coefficients of phi in orthonormal Hermite polynomials; what the series lacks of
    E phi^2 is given to its last power. To some 1e-4, in much less time than a quadrature in two dimensions takes.
    """
    z, weighted = _hermite()
    values, _ = evaluate(*parse("activation", activation), math.sqrt(q) * z)
    shares = (weighted @ values) ** 2
    whole = float(weighted[0] @ values**2)
    shares[-1] += max(whole - shares.sum(), 0.0)
    powers = np.arange(len(shares))
    c = 1 - apart
    lost = -np.expm1(powers * math.log1p(-apart)) if c > 0 else 1 - c**powers
    return float(shares @ lost) / float(shares.sum())


class Stream:
    """Mean square and mean of what flows forward, layer after layer.

    Attributes
    ----------
    square, mean : float
        Of the values that enter the next layer.
    """

    def __init__(self, stack: Stack, square: float) -> None:
        self.square, self.mean = square, 0.0
        self._stack = stack
        self._begins = {begin for begin, _ in stack.residual_blocks}
        self._ends = {end for _, end in stack.residual_blocks}
        self._around = (square, 0.0)

    def through(self, layer: int, q: float) -> float:
        """Pass a layer whose pre-activations have variance q; returns E phi'^2.

        A residual block adds alpha phi(z) to the values that entered it, whose mean it shares: p' = p + alpha^2 E phi^2 +
        2 alpha mu E phi, mu' = mu + alpha E phi.
        """
        if layer in self._begins:
            self._around = (self.square, self.mean)
        name = self._stack.activations[layer]
        z, w = nodes_of(known(name), q)
        values, derivatives = evaluate(*parse("activation", name), math.sqrt(q) * z)
        mean, square = float(w @ values), float(w @ values**2)
        if layer in self._ends:
            alpha = self._stack.alpha
            p, mu = self._around
            self.square, self.mean = p + alpha * alpha * square + 2 * alpha * mu * mean, mu + alpha * mean
        else:
            self.square, self.mean = square, mean
        return float(w @ derivatives**2)


@dataclass(frozen=True, eq=False)
class Expected:
    """Of each layer, as arrays of shape (L,).

    Attributes
    ----------
    pre_activation : ndarray
        Mean square of z.
    stream : ndarray
        Mean square of what the layer passes on.
    gradient : ndarray
        Energy of the gradient with respect to z, by the last layer's.
    apart : ndarray
        1 - cosine of two samples' z; NaN in residual networks, for which no map of correlations stands here.
    """

    pre_activation: Array
    stream: Array
    gradient: Array
    apart: Array


def expected(stack: Stack, square: float, apart: float) -> Expected | None:
    """The theory's curve for the weights that a stack has; None where it has none for them.

    Parameters
    ----------
    stack : Stack
    square, apart : float
        Mean square of the inputs, and 1 - the mean cosine of two of them.
    """
    if isinstance(stack.weights, DrawnWeights):
        return None
    found = variances(stack)
    if found is None:
        return None
    try:
        with np.errstate(all="ignore"):
            return _curve(stack, *found, square, apart)
    except (ValueError, OverflowError):  # a variance has left every range, as the measured curve says by itself
        return None


def _curve(stack: Stack, weights: Array, biases: Array, square: float, apart: float) -> Expected:
    depth = stack.depth
    stream = Stream(stack, square)
    z, passed, gain, aparts = (np.full(depth, math.nan) for _ in range(4))
    for i in range(depth):
        z[i] = q = weights[i] * stream.square + biases[i]
        if q > 0 and not stack.residual_blocks:
            if i:
                apart = _values_apart(stack.activations[i - 1], z[i - 1], apart)
            aparts[i] = apart = min(apart * (1 - biases[i] / q), 2.0)  # a bias is common to both
        gain[i] = stream.through(i, q)
        passed[i] = stream.square
    # Back: the energy with respect to what a layer passes on, and with it that with respect to its z.
    begins = {begin for begin, _ in stack.residual_blocks}
    ends = {end for _, end in stack.residual_blocks}
    gradient, energy, around = np.empty(depth), 1.0, 0.0
    for i in reversed(range(depth)):
        if i in ends:
            around = energy
            energy *= stack.alpha**2
        gradient[i] = energy * gain[i]
        energy = gradient[i] * weights[i]
        if i in begins:
            energy += around
    return Expected(z, passed, gradient / gradient[-1], aparts)
