"""What a stack of given depth does to signals and gradients, layer by layer, and how much networks of finite width differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .._common.arithmetic import ieee
from .._common.checks import boolean, whole_number
from .activations import Activation, ActivationLike, known
from .maps import Array, check_keep, check_number, homogeneous_second_moment, nodes_of
from .pairs import half_squared_difference, squares_means

__all__ = ["DepthProfile", "LayerMeans", "layer_means", "profile"]

_SAME = 1e-5  # relative change of q and of 1 - c, over some layers, below which fluctuations are what they were
_HALVINGS = 16  # of `pair_nodes`: signals that explode get no more nodes from layer to layer
_FAR_LOG_Q = 700.0  # beyond it, on both sides, the growth of variances is what it is here, to rounding errors


@dataclass(frozen=True, eq=False)
class DepthProfile:
    """Theory of a stack, layer by layer. Element i of every array of shape (L,) is about the pre-activations of layer i.

    Attributes
    ----------
    variances : ndarray of shape (L,)
        q_0, as it was given, to q_{L-1}; 0 or inf where it leaves the range of float64.
    correlations : ndarray of shape (L,), or None
        Of the pre-activations of two inputs, if a first correlation was given.
    distances : ndarray of shape (L,), or None
        1 - correlations, with a relative precision of its own: a collapse to one point is seen to the end.
    chi : ndarray of shape (L,)
        sigma_w^2 E phi'(sqrt(q_i) z)^2: the mean square of gradients is multiplied by it on the way from layer i + 1 to layer i.
        So the last is the factor that one more layer would bring.
    forward : ndarray of shape (L,)
        ln(q_i / q_0).
    backward : ndarray of shape (L,)
        ln(g_i / g_{L-1}), g_i being the mean square of gradients with respect to the pre-activations of layer i: the sum of the
        ln of chi from i to L - 2.
    forward_std, backward_std : ndarray of shape (L,), or None
        At a given width, the standard deviation of what `forward` and `backward` are in the limit, measured as in a
        `Propagation`: of ln(m_i / m_0) and of ln(g_i / g_{L-1}), with m_i the second moment of the pre-activations of layer i.
        To first order in L / width, and so nearly normal only where they are well below 1. The means of these ln's lie
        below `forward` and `backward` by about half of their variance.
    """

    variances: Array
    correlations: Array | None
    distances: Array | None
    chi: Array
    forward: Array
    backward: Array
    forward_std: Array | None
    backward_std: Array | None


class LayerMeans(NamedTuple):
    """Means over u = sqrt(q) z; those of squares of squares are relative to what they were if the squares did not vary."""

    value: float  # E phi^2 / q
    slope: float  # E phi'^2
    value_4: float = math.nan  # E phi^4 / (E phi^2)^2
    slope_4: float = math.nan
    mixed: float = math.nan  # E phi^2 phi'^2 / (E phi^2 E phi'^2)
    value_growth: float = math.nan  # d ln E phi^2 / d ln q
    slope_growth: float = math.nan  # d ln E phi'^2 / d ln q


def _means(phi: Activation, q: float, spread: bool) -> LayerMeans:
    if phi._leak is not None:
        second = homogeneous_second_moment(phi._leak)
        square = (1 + phi._leak**4) / 2 / second**2
        return LayerMeans(second, second, 3 * square, square, square, 1.0, 0.0)
    z, w = nodes_of(phi, q)
    std = math.sqrt(q)
    values, slopes = phi._both(std * z)
    with np.errstate(over="ignore"):
        values = (values / std) ** 2
    slopes = slopes**2

    def mean(f: Array) -> float:
        return float(np.add.reduce(w * f))  # no BLAS, whose threads take longer than the sum

    value, slope = mean(values), mean(slopes)
    if not spread or not (0 < value < math.inf and slope > 0):
        return LayerMeans(value, slope)
    values, slopes = values / value, slopes / slope
    hermite = (z * z - 1) / 2  # d/d ln q of the normal density is its product with this: no further derivative is needed
    return LayerMeans(
        value, slope, mean(values**2), mean(slopes**2), mean(values * slopes), mean(hermite * values), mean(hermite * slopes)
    )


def _ratio(signal: float, bias_variance: float, q: float) -> float:
    """By what a variance q is multiplied in a layer, where `signal` is the weights' part of it."""
    with np.errstate(over="ignore"):
        return float(np.float64(signal) + np.float64(bias_variance) / q)


def layer_means(
    phi: Activation, depth: int, weight_variance: float, bias_variance: float, q: float, *, spread: bool
) -> Iterator[tuple[float, float, LayerMeans]]:
    """ln(q_i / q_0), the variance q_i, or the nearest one at which means are taken, and the means at it, for every layer."""
    log_q, change = math.log(q), 0.0
    for _ in range(depth):
        near = math.exp(min(max(log_q + change, -_FAR_LOG_Q), _FAR_LOG_Q))
        m = _means(phi, near, spread)
        yield change, near, m
        ratio = _ratio(weight_variance * m.value, bias_variance, near)
        change += math.log(ratio) if ratio > 0 else -math.inf


class _Noise(NamedTuple):
    """What fluctuates in a layer, in units of 1 / width: the mean over its units of some square, relative to its expectation.

    `unit` is z^2, `value` is phi^2 and `slope` is phi'^2 h^2, where h is the gradient that comes back through the weights.
    """

    value: float
    slope: float
    both: float  # covariance of value and slope
    unit: float
    unit_and_value: float


def _noise(m: LayerMeans, squares: tuple[float, float, float], c: float, batch: int, keep: float, orthogonal: bool) -> _Noise:
    """Variances and covariances of a layer's means, for a batch whose samples have a correlation of c.

    For one sample they are variances over units that are independent, with E h^4 = 3. For two samples the same with the pairs'
    means; their gradients are independent. A batch's mean has 1 / batch of the first and the rest of the second.

    An orthogonal matrix keeps lengths: z and h are uniform on spheres. This takes away what is linear in mean z^2 and mean h^2.
    """
    share = 1 / batch
    grow = (2 * m.value_growth, 2 * m.slope_growth)
    own = (m.value_4 / keep - 1, 3 * m.slope_4 / keep - 1, m.mixed / keep - 1, 2.0, grow[0])
    pair = (squares[0] - 1, squares[1] - 1, squares[2] - 1, 2 * c * c, grow[0] * c * c)
    both = [share * one + (1 - share) * two for one, two in zip(own, pair, strict=True)]
    if orthogonal:
        kept = share + (1 - share) * c * c
        both[0] -= grow[0] ** 2 / 2 * kept
        both[1] -= 2 * share + grow[1] ** 2 / 2 * kept
        both[2] -= grow[0] * grow[1] / 2 * kept
    return _Noise(*both)


@ieee
def profile(
    depth: int,
    activation: ActivationLike,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    q: float = 1.0,
    c: float | None = None,
    width: int | None = None,
    batch: int = 1,
    orthogonal: bool = False,
    keep: float = 1.0,
) -> DepthProfile:
    """What a stack does to the variance and the correlation of signals, and to gradients, in every layer.

    Parameters
    ----------
    depth : int, >= 1
        L: the profile is of the pre-activations of L layers.
    activation : str, Activation or callable
        See `function`. That of the last layer has no influence.
    weight_variance, bias_variance : float, in [0, inf)
        sigma_w^2, which is fan_in times the variance of a weight, and sigma_b^2.
    q : float, in (0, inf), default 1.0
        Variance of the first layer's pre-activations: sigma_w^2 times the mean square of an input's numbers, plus sigma_b^2.
    c : float, in [-1, 1], optional
        Correlation of two inputs' first pre-activations. Without it there are no correlations.
    width : int, >= 1, optional
        Units of every layer, for the standard deviations over networks.
    batch : int, >= 1, default 1
        Samples over which second moments are averaged: the more, and the less correlated they are, the less do networks
        differ. More than one needs `c`, the correlation of any two of them.
    orthogonal : bool, default False
        Weights are sigma_w times a random orthogonal matrix, instead of independent normals: networks differ less.
    keep : float, in [1e-9, 1], default 1.0
        Dropout's probability of keeping a unit, which is divided by it then; each input has masks of its own.

    Returns
    -------
    DepthProfile

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If an argument is out of range, or a batch of several is given without `c`; for sin, if a variance exceeds 1000.

    Notes
    -----
    At finite width the second moment of one layer's pre-activations, given those before it, has a relative variance of
    (E phi^4 / (E phi^2)^2 - 1) / width, and the gradient's one of (3 E phi'^4 / (E phi'^2)^2 - 1) / width: both are 5 / width for
    ReLU. A fluctuation of the variance goes on through the layers after it by the derivative of the variance map, and
    changes their chi as well.

    References
    ----------
    Poole et al. (2016) and Schoenholz et al. (2017), as in `fastinit.theory`; for the fluctuations of ReLU networks Hanin &
    Rolnick, "How to start training: the effect of initialization and architecture" (2018), and Hanin & Nica, "Products of many
    large random matrices and gradients in deep neural networks" (2020).

    Examples
    --------
    >>> he = profile(50, "relu", 2.0, width=500)
    >>> float(he.forward[-1]), float(he.backward[0])
    (0.0, 0.0)
    >>> round(float(he.forward_std[-1]), 2)    # sqrt(5 * 49 / 500)
    0.7
    """
    depth = whole_number("depth", depth, most=1 << 24)
    phi = known(activation)
    weight_variance = check_number("weight_variance", weight_variance)
    bias_variance = check_number("bias_variance", bias_variance)
    q = check_number("q", q, above=True)
    apart = None if c is None else 1 - check_number("c", c, -1.0, 1.0)
    units = None if width is None else whole_number("width", width)
    batch = whole_number("batch", batch)
    boolean("orthogonal", orthogonal)
    keep = check_keep(keep)
    if batch > 1 and apart is None:
        raise ValueError(f"batch: expected c=, the correlation of the samples, with more than 1, got {batch} alone")

    rows, layers = [], []
    for change, near, m in layer_means(phi, depth, weight_variance / keep, bias_variance, q, spread=units is not None):
        rows.append((change, weight_variance / keep * m.slope, math.nan if apart is None else apart))
        signal = weight_variance / keep * m.value
        ratio = _ratio(signal, bias_variance, near)
        after = apart
        if apart is not None and 0 < ratio < math.inf:
            moved = half_squared_difference(phi, np.array([apart]), np.array([near]), _HALVINGS)[0] / near
            after = min(2.0, float((weight_variance * moved + signal * (1 - keep)) / ratio))
        layers.append((near, m, apart, after, signal / ratio if 0 < ratio < math.inf else 1.0))
        apart = after
    forward, chi, distances = np.array(rows).T
    with np.errstate(over="ignore", divide="ignore"):
        variances = np.exp(math.log(q) + forward)
        backward = np.append(np.cumsum(np.log(chi[:-1])[::-1])[::-1], 0.0)
    variances[0] = q
    stds: tuple[Array | None, Array | None] = None, None
    if units is not None:
        stds = _spread(phi, layers, max(0.0, 1 - bias_variance / q), units, batch, keep, orthogonal)
    known_c = c is not None
    return DepthProfile(
        variances, 1 - distances if known_c else None, distances if known_c else None, chi, forward, backward, *stds
    )


def _spread(
    phi: Activation, layers: list[Any], first_share: float, width: int, batch: int, keep: float, orthogonal: bool
) -> tuple[Array, Array]:
    """Standard deviations of the ln of second moments, to first order: `forward_std` and `backward_std`."""
    def of_biases(share: float, apart: float | None) -> float:
        """Relative variance, in units of 1 / width, of |a W + b|^2 for a vector of given length and orthogonal W."""
        rest = 1 - share
        shared = 4 * rest * ((share if apart is None else 1 - apart - rest) + rest / 2)  # between two samples, whose b is one
        return (2 * rest * (1 + share) + (batch - 1) * shared) / batch if orthogonal else 0.0

    depth = len(layers)
    forward, state = np.zeros(depth), np.zeros(depth)
    noises, steps, first = [], [], 0.0
    squares, seen = (1.0, 1.0, 1.0), (math.nan, math.nan)
    begin = variance = of_biases(first_share, layers[0][2])
    carried = 1.0  # how much of a change of the first ln q is left
    for i, (q, m, apart, after, share) in enumerate(layers):
        # `share` is the weights' part of the next variance, to which biases add the rest.
        c = 1.0 if apart is None else 1 - apart
        if batch > 1 and not all(abs(new - old) <= _SAME * old for new, old in zip((q, apart), seen, strict=True)):
            squares, seen = squares_means(phi, apart, q), (q, apart)
        noise = _noise(m, squares, c, batch, keep, orthogonal)
        step = share * m.value_growth  # d ln q' / d ln q
        biases = of_biases(share, after)
        noises.append((noise, m.slope_growth, share, biases))
        steps.append(step)
        # Of independent weights the measured moments vary about the variance that the layer before has given, at both ends.
        ends = 0.0 if orthogonal or i == 0 else noise.unit + noises[0][0].unit - 2 * first
        forward[i], state[i] = variance + begin - 2 * carried * begin + ends, variance
        first = noise.unit_and_value * share if i == 0 else first * step
        carried *= step
        variance = step**2 * variance + share**2 * noise.value + biases
    # The ln of the gradients is linear in ln q of its layer, with a coefficient that collects all layers above, and their noise.
    backward, coefficient, collected = np.zeros(depth), 0.0, 0.0
    for i in range(depth - 2, -1, -1):
        noise, slope_growth, share, biases = noises[i]
        weight = coefficient * share
        collected += noise.slope + 2 * weight * noise.both + weight**2 * noise.value + coefficient**2 * biases
        coefficient = slope_growth + steps[i] * coefficient
        backward[i] = coefficient**2 * state[i] + collected
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.maximum(forward, 0.0) / width), np.sqrt(np.maximum(backward, 0.0) / width)
