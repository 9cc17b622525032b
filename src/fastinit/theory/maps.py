"""Mean-field theory of wide random networks, by quadrature: the package's docstring says of which networks.

In all functions, q > 0 or, where it makes sense, q >= 0 is a variance, c in [-1, 1] a correlation, and `weight_variance` and
`bias_variance` are >= 0; anything else is a ValueError, and a TypeError if it is no real number.
`function` says what an activation is, and which errors there are for others. All functions but `fixed_point`
refuse a q above 1000 for sin.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.activations import evaluate, parse
from .._common.arithmetic import ieee
from .._common.checks import real_array, real_number, shown
from .quadrature import nodes, nodes_between
from .roots import LOG_GROWTH_TOL, POWERS_FROM, STRIDE, crossing, root_of

__all__ = [
    "chi_1", "correlation_map", "correlation_slope", "critical_pair", "expectation", "fixed_correlation",
    "fixed_point", "forward_gain", "function", "length_scale", "slope", "stability", "variance_map",
]  # fmt: skip

Array = NDArray[Any]

# Where an activation or its derivative jumps or bends: a piece of the quadrature ends there.
_KINKS = {"hard_tanh": (-1.0, 0.0, 1.0)}
_SMOOTH = ("linear", "tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu", "mish", "sin")
# In the place of a variance of 0, whose two sides of 0 are the same point: means of slopes have a limit there, half from
# each side, and the slopes of all activations are constant to rounding errors over such numbers.
_VANISHING = 1e-200
_NARROW = 400.0  # the variance up to which pieces of one standard deviation are right for a tanh to rounding errors
_MOST_WAVES = 1e3  # the variance of what goes into a sine: errors of 2e-12 here, of 2e-9 at one and a half times as much
_HIGHEST = 709.7  # ln of the largest variance
_FIXED_POINT_RTOL = 1e-6  # by how much of itself a layer may change a variance that is to be a fixed point


def _nodes_of(activation: str, q: float) -> tuple[Array, Array]:
    if _name(activation) == "sin" and q > _MOST_WAVES:
        raise ValueError(f"q: expected at most {_MOST_WAVES:g} for sin, whose waves lie too close beyond, got {q}")
    kinks = _KINKS.get(_name(activation))
    decades = max(4, math.ceil(math.log10(q) / 2)) if q > 1 else 4  # where a steep tanh bends
    if kinks is None or q <= 0:
        return nodes(decades=decades)
    return nodes(tuple(k / math.sqrt(q) for k in kinks), decades)


def _name(activation: str) -> str:
    """The name of an activation without its parameter; an unknown one is refused."""
    name: str = _core.ACTIVATIONS[parse("activation", activation)[0]]
    return name


def _homogeneous(activation: str) -> bool:
    """Whether phi(k z) = k phi(z) for k > 0, so that the variance map is a straight line."""
    return _name(activation) in ("linear", "relu", "leaky_relu")


def _square_of_homogeneous(activation: str) -> float:
    """E phi(sqrt(q) z)^2 / q and E phi'^2 of a homogeneous activation: one number, whatever q."""
    return float(np.mean(function(activation)([-1.0, 1.0]) ** 2))


def _check(what: str, value: Any, low: float = 0.0, high: float = math.inf, *, above: bool = False) -> float:
    """`value` as a float, refused where it is no finite number in [low, high], or, if `above`, in (low, high]."""
    number = real_number(what, value)
    if not low <= number <= high or (above and number == low):
        limits = f"in [{low}, {high}]" if math.isfinite(high) else f"{'>' if above else '>='} {low}"
        raise ValueError(f"{what}: expected a finite number {limits}, got {value}")
    return number


@ieee
def function(activation: str) -> Callable[[Any], Array]:
    """phi, elementwise, in float64: any activation that `Stack` takes.

    Parameters
    ----------
    activation : str
        Its name; ``"leaky_relu(0.2)"`` has another slope on the left than 0.01, finite and >= 0.

    Returns
    -------
    callable
        Takes an array_like of real numbers and gives an array of its shape.

    Raises
    ------
    TypeError, ValueError
        If `activation` is no str; if it names no activation, or has a parameter that does not fit.
    """
    index, parameter = parse("activation", activation)
    return ieee(lambda z: evaluate(index, parameter, z)[0])


@ieee
def slope(activation: str) -> Callable[[Any], Array]:
    """phi', elementwise, in float64: a function like the one that `function` gives.

    Parameters
    ----------
    activation : str
    """
    index, parameter = parse("activation", activation)
    return ieee(lambda z: evaluate(index, parameter, z)[1])


@ieee
def expectation(f: Callable[[Array], Array], variance: float = 1.0) -> float:
    """E f(z) for z ~ N(0, variance), f smooth but at 0.

    Parameters
    ----------
    f : callable
        Takes an array of float64 and gives real numbers: an array of the same shape, or one number.
    variance : float, in [0, inf), default 1

    Raises
    ------
    TypeError, ValueError
        If `f` is no function or its values are no real numbers; if their shape is another.

    Examples
    --------
    >>> expectation(lambda z: z**2, 4.0)
    4.0
    """
    variance = _check("variance", variance)
    if not callable(f):
        raise TypeError(f"f: expected a function of an array, got {type(f).__name__} {shown(f)}")
    z, w = nodes()
    values = real_array("f", f(math.sqrt(variance) * z))
    if values.shape not in (z.shape, ()):
        raise ValueError(f"f: expected a function of an array elementwise, got shape {values.shape} of {z.shape}")
    return float(w @ np.broadcast_to(values, z.shape))


def _unit(q: float) -> float:
    """A power of 2, to which values are scaled that have no square: not a bit of the result depends on it."""
    return 2.0**500 if q > 1e280 else 1.0


def _mean(activation: str, f: Callable[[Array], Array], q: float) -> float:
    """E f(z), z ~ N(0, q), f being made of an activation."""
    z, w = _nodes_of(activation, q)
    return float(w @ f(math.sqrt(q) * z))


@ieee
def forward_gain(activation: str) -> float:
    """1 / sqrt(E phi(z)^2), z ~ N(0, 1): weights of this standard deviation times 1 / sqrt(fan_in) keep the
    next pre-activation's variance at 1.

    Parameters
    ----------
    activation : str
    """
    phi = function(activation)
    return 1 / math.sqrt(_mean(activation, lambda z: phi(z) ** 2, 1.0))


@ieee
def variance_map(activation: str, q: float, weight_variance: float, bias_variance: float = 0.0) -> float:
    """Next layer's pre-activation variance: sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2. Poole et al. (2016).

    Parameters
    ----------
    activation : str
    q, weight_variance, bias_variance : float, in [0, inf)
        This layer's pre-activation variance, sigma_w^2 (fan_in times the variance of a weight) and sigma_b^2.
    """
    q = _check("q", q)
    weight_variance = _check("weight_variance", weight_variance)
    bias_variance = _check("bias_variance", bias_variance)
    return _variance_map(activation, q, weight_variance, bias_variance)


def _variance_map(activation: str, q: float, weight_variance: float, bias_variance: float) -> float:
    phi, unit = function(activation), _unit(q)
    return weight_variance * (_mean(activation, lambda z: (phi(z) / unit) ** 2, q) * unit**2) + bias_variance


@ieee
def chi_1(activation: str, q: float, weight_variance: float) -> float:
    """Growth of the gradients' energy per layer: sigma_w^2 E phi'(sqrt(q) z)^2; for q = 0 its limit.
    Schoenholz et al. (2017).

    Parameters
    ----------
    activation : str
    q, weight_variance : float, in [0, inf)
    """
    q = _check("q", q)
    weight_variance = _check("weight_variance", weight_variance)
    phi_slope = slope(activation)
    return weight_variance * _mean(activation, lambda z: phi_slope(z) ** 2, max(q, _VANISHING))


def _log_growth(activation: str, q: float, weight_variance: float, bias_variance: float) -> float:
    """ln(variance_map(q) / q), q > 0, where the map itself would overflow or vanish, too."""
    if _name(activation) == "sin":
        square = -math.expm1(-2 * q) / 2 / q  # its closed form, for there is no quadrature beyond _MOST_WAVES
    else:
        phi, root = function(activation), math.sqrt(q)
        with np.errstate(over="ignore"):  # an activation that is not 0 at 0 makes any variance of the smallest: inf grows, too
            square = _mean(activation, lambda z: (phi(z) / root) ** 2, q)
    ratio = weight_variance * square + bias_variance / q
    return math.log(ratio) if ratio > 0 else -math.inf


@ieee
def fixed_point(
    activation: str, weight_variance: float, bias_variance: float = 0.0, start: float = 1.0
) -> float:
    """q* with variance_map(q*) = q*, at which the iteration from `start` ends; 0 where the signal dies.

    The map grows with q for every activation, so the iteration never turns nor passes a fixed point: it ends at the first one
    above `start`, or below, as the first layer says. Where q changes by less than rounding errors, it is a fixed point.

    Parameters
    ----------
    activation : str
    weight_variance, bias_variance, start : float, in [0, inf)
        sigma_w^2, sigma_b^2 and the first layer's pre-activation variance.

    Raises
    ------
    ValueError
        If the iteration leaves every bound: there is no finite fixed point.
    """
    weight_variance = _check("weight_variance", weight_variance)
    bias_variance = _check("bias_variance", bias_variance)
    start = _check("start", start)
    homogeneous = _homogeneous(activation)
    endless = ValueError(
        f"weight_variance: expected one with a finite fixed point for {activation}, got {weight_variance}"
    )
    if homogeneous:
        rate = weight_variance * _square_of_homogeneous(activation)
        if bias_variance == 0 and (start == 0 or abs(rate - 1) <= LOG_GROWTH_TOL):
            return float(start)
        if rate >= 1 or not math.isfinite(bias_variance / (1 - rate)):
            raise endless
        return bias_variance / (1 - rate)

    def excess(log_q: float) -> float:
        return _log_growth(activation, math.exp(log_q), weight_variance, bias_variance)

    least = _variance_map(activation, 0.0, weight_variance, bias_variance)  # no layer gives less
    if least == math.inf:
        raise endless
    if start == least == 0:
        return 0.0
    lowest = least or math.exp(-POWERS_FROM)
    q = max(float(start), lowest)
    growth, low, x = _log_growth(activation, q, weight_variance, bias_variance), math.log(lowest), math.log(q)
    if abs(growth) <= LOG_GROWTH_TOL:
        # The signal dies, if by less than a rounding error a layer, where a smaller one does not grow either; else q* is here.
        if least > 0 or q > 1 or abs(excess(x - STRIDE)) > LOG_GROWTH_TOL or crossing(excess, x, low) is not None:
            return q
        return 0.0
    if growth < 0:
        found = crossing(excess, x, low)
        return least if found is None else math.exp(found)
    found = crossing(excess, x, _HIGHEST) if x < _HIGHEST else None
    if found is None:
        raise endless
    return math.exp(found)


@ieee
def stability(activation: str, q: float, weight_variance: float) -> float:
    """Slope of the variance map at q: a fixed point attracts where it is below 1 in size, and repels above.

    d/dq E phi(sqrt(q) z)^2 = E z phi phi' / sqrt(q), so no second derivative is needed.

    Parameters
    ----------
    activation : str
    q : float, in (0, inf)
    weight_variance : float, in [0, inf)
    """
    q = _check("q", q, above=True)
    weight_variance = _check("weight_variance", weight_variance)
    phi, phi_slope, root = function(activation), slope(activation), math.sqrt(q)
    return weight_variance * _mean(activation, lambda z: (z / root) * (phi(z) / root) * phi_slope(z), q)


def _product(a: Array, b: Array) -> Array:
    return a * b


def _half_squared_difference(a: Array, b: Array) -> Array:
    return (a - b) ** 2 / 2


def _two_means(
    f: Callable[[Any], Array], activation: str, c: float, q: float, of: Callable[[Array, Array], Array] = _product
) -> float:
    """E of(f(u), f(v)) for normal u, v of variance q and correlation c: v = c u + sqrt(1 - c^2) y, y independent."""
    z, w = _nodes_of(activation, q)
    root = math.sqrt(q)
    other = math.sqrt((1 - c) * (1 + c))
    # E over the second, independent normal, for every node of the first.
    fz = f(root * z)
    if other == 0:
        return float(w @ of(fz, f(root * c * z)))
    if _name(activation) in _SMOOTH and q <= _NARROW:
        y, v = nodes_between(())
        return float(w @ (of(fz[:, None], f(root * (c * z[:, None] + other * y))) @ v))
    # A kink of f, or its bend under a wide normal, stands, for the second, at another place for every node of the first: cut
    # there too, and about it in pieces that double.
    kinks = np.array(_KINKS.get(_name(activation), (0.0,))) / root
    doubling = np.geomspace(0.3 / root, 4.0, 3 * math.ceil(math.log10(root)) + 4) if q > _NARROW else np.empty(0)
    about = np.concatenate([-doubling, [0.0], doubling])
    inner = np.empty_like(z)
    for i, x in enumerate(z):
        y, v = nodes_between(((kinks - c * x) / other)[:, None] + about)
        inner[i] = v @ of(fz[i], f(root * (c * x + other * y)))
    return float(w @ inner)


@ieee
def correlation_map(
    activation: str, c: float, q: float, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """Correlation of two inputs' pre-activations after a layer, from c before it, at variance q.
    A ValueError if the variance after the layer is 0, for then there is none.

    Parameters
    ----------
    activation : str
    c : float, in [-1, 1]
    q : float, in (0, inf)
    weight_variance, bias_variance : float, in [0, inf)
    """
    c = _check("c", c, -1.0, 1.0)
    q = _check("q", q, above=True)
    variance = variance_map(activation, q, weight_variance, bias_variance)
    if variance == 0:
        raise ValueError(f"weight_variance, bias_variance: expected one > 0, got {weight_variance} and {bias_variance}")
    return (weight_variance * _two_means(function(activation), activation, c, q) + bias_variance) / variance


@ieee
def correlation_slope(activation: str, c: float, q: float, weight_variance: float) -> float:
    """sigma_w^2 E phi'(u) phi'(v): slope of the correlation map at c, where q is a fixed point; chi_1 at c = 1. For q = 0 its
    limit.

    Parameters
    ----------
    activation : str
    c : float, in [-1, 1]
    q, weight_variance : float, in [0, inf)
    """
    c = _check("c", c, -1.0, 1.0)
    q = _check("q", q)
    weight_variance = _check("weight_variance", weight_variance)
    return weight_variance * _two_means(slope(activation), activation, c, max(q, _VANISHING))


@ieee
def fixed_correlation(
    activation: str, q: float, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """c*, the correlation that two different inputs end at: 1 in the ordered phase (chi_1 <= 1), in [0, 1)
    in the chaotic one. q must be a fixed point: if a layer changes it by over 1e-6 q, it is a ValueError.

    Parameters
    ----------
    activation : str
    q : float, in (0, inf)
    weight_variance, bias_variance : float, in [0, inf)
    """
    q = _check("q", q, above=True)
    after = variance_map(activation, q, weight_variance, bias_variance)
    if abs(after - q) > _FIXED_POINT_RTOL * q:
        raise ValueError(
            f"q: expected a fixed point of the variance map for {activation}, weight_variance {weight_variance} and "
            f"bias_variance {bias_variance}, to {_FIXED_POINT_RTOL:g} of itself, got {q}, which a layer makes {after}"
        )
    if chi_1(activation, q, weight_variance) <= 1 + 1e-12:
        return 1.0
    if correlation_map(activation, 0.0, q, weight_variance, bias_variance) <= 0:
        return 0.0
    phi = function(activation)

    def excess(apart: float) -> float:
        """How 1 - c grows in a layer, less 1: a mean of squared differences, for near c = 1 a difference of means is noise."""
        c = 1 - apart
        return weight_variance / q * _two_means(phi, activation, c, q, _half_squared_difference) / (1 - c) - 1

    # In the chaotic phase the map leaves c = 1 downwards and crosses the diagonal once.
    apart = 1.0
    while apart > 1e-15:
        apart /= 10
        if excess(apart) > 0:
            return 1 - root_of(excess, apart, 10 * apart)
    return 1.0


@ieee
def length_scale(activation: str, c: float, q: float, weight_variance: float) -> float:
    """xi_c = -1 / ln|slope of the correlation map at c*|: layers over which correlations approach c* by e.

    0 where the slope is 0, inf where its size is at least 1, to 1e-12. c is c*, as of `fixed_correlation`.

    Parameters
    ----------
    activation : str
    c : float, in [-1, 1]
    q, weight_variance : float, in [0, inf)
    """
    rate = abs(correlation_slope(activation, c, q, weight_variance))
    if rate == 0:
        return 0.0
    return math.inf if rate >= 1 - 1e-12 else -1 / math.log(rate)


@functools.lru_cache(maxsize=64)
def _least_attracting(activation: str) -> float:
    """The bias variance from which on the critical point attracts: 0 where all do.

    Along the critical line the variance map's slope at q* begins at 1, for q* = 0. Of tanh and its like it falls from there. Of
    GELU, SiLU and Mish it rises first and falls below 1 once, while sigma_b^2 grows with q* throughout.
    """

    def slope_above_1(log_q: float) -> float:
        q = math.exp(log_q)
        return stability(activation, q, 1 / chi_1(activation, q, 1.0)) - 1

    begin = -20.0  # ln q: the slope differs from 1 by some 1e-9 there, a million rounding errors
    if slope_above_1(begin) <= 0:
        return 0.0
    log_q = crossing(slope_above_1, begin, _HIGHEST)
    if log_q is None:
        return math.inf
    q = math.exp(log_q)
    return q - _variance_map(activation, q, 1 / chi_1(activation, q, 1.0), 0.0)


@ieee
def critical_pair(activation: str, bias_variance: float) -> tuple[float, float]:
    """(sigma_w^2, q*) on the critical line chi_1 = 1 for a given sigma_b^2: gradients neither vanish nor explode.

    On that line sigma_w^2 = 1 / E phi'(sqrt(q) z)^2, so q alone is unknown. Without biases it is 0 for tanh and its like, and
    given as 1 for ReLU, leaky ReLU and the linear activation, of which any q is a fixed point.

    Parameters
    ----------
    activation : str
    bias_variance : float, in [0, inf)
        sigma_b^2.

    Raises
    ------
    ValueError
        If there is no critical point: ReLU and its like have none with biases, softplus has none at all. Also where q* repels, so
        that variances leave it layer by layer: GELU, SiLU and Mish are critical only with a bias variance that the message names.

    Examples
    --------
    >>> critical_pair("relu", 0)
    (2.0, 1.0)
    """
    bias_variance = _check("bias_variance", bias_variance)

    def weight_variance(q: float) -> float:
        return 1 / chi_1(activation, q, 1.0)

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        return _log_growth(activation, q, weight_variance(q), bias_variance)

    homogeneous = _homogeneous(activation)
    endless = ValueError(f"bias_variance: expected one with a critical point for {activation}, got {bias_variance}")
    if homogeneous:
        if bias_variance > 0:
            raise ValueError(f"bias_variance: expected 0 for {activation}, critical without biases alone, got {bias_variance}")
        return 1 / _square_of_homogeneous(activation), 1.0
    q = 0.0
    if bias_variance > 0 or float(function(activation)(0.0)) != 0:
        low = math.log(bias_variance) if bias_variance > 0 else -40.0  # no layer gives less
        high = math.log(_MOST_WAVES) if _name(activation) == "sin" else _HIGHEST
        log_q = crossing(excess, low, high) if low < high else None
        if log_q is None and _name(activation) == "sin":
            most = _MOST_WAVES - 2  # which q* exceeds by some 1
            raise ValueError(f"bias_variance: expected at most {most:g} for sin, whose means are sure there, got {bias_variance}")
        if log_q is None:
            raise endless
        q = math.exp(log_q)
    least = _least_attracting(activation)
    if bias_variance < least:
        shown = math.ceil(least * 1e6) / 1e6
        raise ValueError(
            f"bias_variance: expected at least {shown} for {activation}, whose critical point repels below, got {bias_variance}"
        )
    return weight_variance(q), q


