"""The maps of one layer: variances of pre-activations forward, mean squares of gradients backward, and their fixed points."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.activations import evaluate, parse
from .._common.arithmetic import ieee
from .._common.checks import real_array, real_number, shown
from .quadrature import nodes
from .roots import LOG_GROWTH_TOL, LOG_STEP, POWER_LAW_LOG_Q, first_crossing

__all__ = [
    "LOG_MAX_VARIANCE", "SIN_MAX_VARIANCE", "TINY_VARIANCE", "Array", "bare_name", "check_number", "chi_1",
    "expectation", "fixed_point", "forward_gain", "function", "homogeneous_second_moment", "is_homogeneous", "log_growth",
    "nodes_of", "slope", "stability", "variance_map",
]  # fmt: skip

Array = NDArray[Any]

# Stands for a variance of 0 in means of derivatives. At 0 itself all nodes are the one point 0, but the limit of small variances
# takes half of the derivative on each side of 0. Over numbers this small, the derivatives of all activations are constant on
# either side to rounding errors.
TINY_VARIANCE = 1e-200
SIN_MAX_VARIANCE = 1e3  # quadrature of a sine has errors of 2e-12 here, and of 2e-9 at 1.5 times this variance
LOG_MAX_VARIANCE = 709.7  # ln of the largest float64


def nodes_of(activation: str, q: float) -> tuple[Array, Array]:
    """Nodes and weights for means over N(0, 1) of functions of phi(sqrt(q) z)."""
    name = bare_name(activation)
    if name == "sin" and q > SIN_MAX_VARIANCE:
        raise ValueError(
            f"q: expected at most {SIN_MAX_VARIANCE:g} for sin, beyond which quadrature cannot resolve its waves, got {q}"
        )
    decades = max(4, math.ceil(math.log10(q) / 2)) if q > 1 else 4  # down to the scale 1 / sqrt(q) on which tanh bends
    return nodes(tuple(k / math.sqrt(q) for k in _core.TRAITS[name].kinks) if q > 0 else (), decades)


def bare_name(activation: str) -> str:
    """The name of an activation without its parameter; an unknown one is refused."""
    name: str = _core.ACTIVATIONS[parse("activation", activation)[0]]
    return name


def is_homogeneous(activation: str) -> bool:
    """Whether phi(k z) = k phi(z) for all k > 0, so that the variance map is linear in q."""
    homogeneous: bool = _core.TRAITS[bare_name(activation)].homogeneous
    return homogeneous


def homogeneous_second_moment(activation: str) -> float:
    """E phi(sqrt(q) z)^2 / q of a homogeneous activation, which does not depend on q and is also E phi'(sqrt(q) z)^2."""
    return float(np.mean(function(activation)([-1.0, 1.0]) ** 2))


def check_number(what: str, value: Any, low: float = 0.0, high: float = math.inf, *, above: bool = False) -> float:
    """`value` as a float, refused if it is no finite number in [low, high], or, with `above`, in (low, high]."""
    number = real_number(what, value)
    if not low <= number <= high or (above and number == low):
        limits = f"in [{low}, {high}]" if math.isfinite(high) else f"{'>' if above else '>='} {low}"
        raise ValueError(f"{what}: expected a finite number {limits}, got {value}")
    return number


@ieee
def function(activation: str) -> Callable[[Any], Array]:
    """The activation phi as a function of arrays, elementwise, in float64.

    Parameters
    ----------
    activation : str
        Any name that `Stack` takes. ``"leaky_relu(0.2)"`` gives the negative slope of leaky ReLU, finite
        and >= 0; without it, it is 0.01.

    Returns
    -------
    callable
        Takes an array_like of real numbers and returns a float64 array of the same shape.

    Raises
    ------
    TypeError
        If `activation` is no str.
    ValueError
        If it names no activation, or its parameter is out of range.

    Examples
    --------
    >>> function("leaky_relu(0.25)")([-2.0, 3.0])
    array([-0.5,  3. ])
    """
    index, parameter = parse("activation", activation)
    return ieee(lambda z: evaluate(index, parameter, z)[0])


@ieee
def slope(activation: str) -> Callable[[Any], Array]:
    """The derivative phi' as a function of arrays, elementwise, in float64.

    Parameters
    ----------
    activation : str
        See `function`.

    Returns
    -------
    callable
        Takes an array_like of real numbers and returns a float64 array of the same shape.

    Raises
    ------
    TypeError, ValueError
        As in `function`.

    Examples
    --------
    >>> slope("leaky_relu(0.25)")([-2.0, 3.0])
    array([0.25, 1.  ])
    """
    index, parameter = parse("activation", activation)
    return ieee(lambda z: evaluate(index, parameter, z)[1])


@ieee
def expectation(f: Callable[[Array], Array], variance: float = 1.0) -> float:
    """E f(z) for z ~ N(0, variance), where f is smooth except at 0.

    Parameters
    ----------
    f : callable
        Takes a float64 array of shape ``(n,)`` and returns real numbers: an array of that shape, or one number.
    variance : float, in [0, inf), default 1.0
        Variance of z.

    Returns
    -------
    float
        The mean.

    Raises
    ------
    TypeError
        If `f` is not callable, its values are no real numbers, or `variance` is no real number.
    ValueError
        If the values of `f` have another shape, or `variance` is out of range.

    Examples
    --------
    >>> expectation(lambda z: z**2, 4.0)
    4.0
    """
    variance = check_number("variance", variance)
    if not callable(f):
        raise TypeError(f"f: expected a function of an array, got {type(f).__name__} {shown(f)}")
    z, w = nodes()
    values = real_array("f", f(math.sqrt(variance) * z))
    if values.shape not in (z.shape, ()):
        raise ValueError(f"f: expected an elementwise function, got values of shape {values.shape} for shape {z.shape}")
    return float(w @ np.broadcast_to(values, z.shape))


def _mean(activation: str, f: Callable[[Array], Array], q: float) -> float:
    """E f(z) for z ~ N(0, q), where f is composed of an activation and smooth functions."""
    z, w = nodes_of(activation, q)
    return float(w @ f(math.sqrt(q) * z))


@ieee
def variance_map(activation: str, q: float, weight_variance: float, bias_variance: float = 0.0) -> float:
    """The next layer's pre-activation variance: sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2. Poole et al. (2016).

    Parameters
    ----------
    activation : str
        See `function`.
    q : float, in [0, inf)
        Variance of this layer's pre-activations; at most 1000 for sin.
    weight_variance, bias_variance : float, in [0, inf)
        sigma_w^2, which is fan_in times the variance of a weight, and sigma_b^2.

    Returns
    -------
    float
        The variance.

    Raises
    ------
    TypeError
        If `activation` is no str, or another argument is no real number.
    ValueError
        If `activation` is unknown, or another argument is out of range.

    Examples
    --------
    >>> variance_map("linear", 1.0, 2.0, 0.5)
    2.5
    """
    q = check_number("q", q)
    weight_variance = check_number("weight_variance", weight_variance)
    bias_variance = check_number("bias_variance", bias_variance)
    phi = function(activation)
    # Values whose squares would overflow are scaled first. By a power of 2, so that no bit of the result depends on it.
    scale = 2.0**500 if q > 1e280 else 1.0
    return weight_variance * (_mean(activation, lambda z: (phi(z) / scale) ** 2, q) * scale**2) + bias_variance


@ieee
def forward_gain(activation: str) -> float:
    """The gain for which the next layer's pre-activations have variance 1 again: `fastinit.gains.preactivation_gain`.

    Parameters
    ----------
    activation : str
        See `function`, which also names the errors.

    Returns
    -------
    float
        1 / sqrt(E phi(z)^2), z ~ N(0, 1); weights have the standard deviation gain / sqrt(fan_in).

    Examples
    --------
    >>> round(forward_gain("silu"), 4)
    1.6765
    """
    return 1 / math.sqrt(variance_map(activation, 1.0, 1.0))


@ieee
def chi_1(activation: str, q: float, weight_variance: float) -> float:
    """The factor on the mean square of gradients in each layer, backward: sigma_w^2 E phi'(sqrt(q) z)^2.

    Schoenholz et al. (2017).

    Parameters
    ----------
    activation : str
        See `function`.
    q : float, in [0, inf)
        Variance of the pre-activations, at most 1000 for sin; for 0, the limit of small variances is returned.
    weight_variance : float, in [0, inf)
        sigma_w^2.

    Returns
    -------
    float
        The factor: gradients vanish where it is below 1, and explode where it is above 1.

    Raises
    ------
    TypeError, ValueError
        As in `variance_map`.

    Examples
    --------
    >>> round(chi_1("relu", 1.0, 2.0), 6)
    1.0
    """
    q = check_number("q", q)
    weight_variance = check_number("weight_variance", weight_variance)
    derivative = slope(activation)
    return weight_variance * _mean(activation, lambda z: derivative(z) ** 2, max(q, TINY_VARIANCE))


def log_growth(activation: str, q: float, weight_variance: float, bias_variance: float) -> float:
    """ln(variance_map(q) / q) for q > 0, also where the map itself would overflow or underflow."""
    if bare_name(activation) == "sin":
        second_moment = -math.expm1(-2 * q) / 2 / q  # in closed form, because q may be beyond SIN_MAX_VARIANCE
    else:
        phi, std = function(activation), math.sqrt(q)
        # An activation that is not 0 at 0 maps the smallest variances to ones whose ratio to q overflows: growth is inf then.
        with np.errstate(over="ignore"):
            second_moment = _mean(activation, lambda z: (phi(z) / std) ** 2, q)
    ratio = weight_variance * second_moment + bias_variance / q
    return math.log(ratio) if ratio > 0 else -math.inf


@ieee
def fixed_point(
    activation: str, weight_variance: float, bias_variance: float = 0.0, start: float = 1.0
) -> float:
    """q*, the variance at which pre-activations end in a deep network: the limit of `variance_map` from `start`.

    The map is monotone for every activation, so the iteration never passes a fixed point: it ends at the first one above `start`
    if the first layer increases the variance, and at the first one below if it decreases it. A variance that changes by less
    than rounding errors is a fixed point. Poole et al. (2016).

    Parameters
    ----------
    activation : str
        See `function`.
    weight_variance, bias_variance : float, in [0, inf)
        sigma_w^2 and sigma_b^2.
    start : float, in [0, inf), default 1.0
        Variance of the first layer's pre-activations.

    Returns
    -------
    float
        q*, with variance_map(q*) = q*; 0 where the signal vanishes.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If an argument is out of range, or the variance grows without bound: there is no finite fixed point.

    Examples
    --------
    >>> round(fixed_point("tanh", 1.69, 0.09), 6)
    0.607047
    """
    weight_variance = check_number("weight_variance", weight_variance)
    bias_variance = check_number("bias_variance", bias_variance)
    start = check_number("start", start)
    homogeneous = is_homogeneous(activation)
    unbounded = ValueError(f"weight_variance: expected one with a finite fixed point for {activation}, got {weight_variance}")
    if homogeneous:
        rate = weight_variance * homogeneous_second_moment(activation)
        if bias_variance == 0 and (start == 0 or abs(rate - 1) <= LOG_GROWTH_TOL):
            return start
        if rate >= 1 or not math.isfinite(bias_variance / (1 - rate)):
            raise unbounded
        return bias_variance / (1 - rate)

    def excess(log_q: float) -> float:
        return log_growth(activation, math.exp(log_q), weight_variance, bias_variance)

    least = variance_map(activation, 0.0, weight_variance, bias_variance)  # the map is nowhere smaller
    if least == math.inf:
        raise unbounded
    if start == least == 0:
        return 0.0
    lowest = least or math.exp(-POWER_LAW_LOG_Q)
    q = max(start, lowest)
    growth, low, x = log_growth(activation, q, weight_variance, bias_variance), math.log(lowest), math.log(q)
    if abs(growth) <= LOG_GROWTH_TOL:
        # Either q is the fixed point, or the signal vanishes by less than a rounding error a layer. It vanishes if smaller
        # variances do not grow either.
        if least > 0 or q > 1 or abs(excess(x - LOG_STEP)) > LOG_GROWTH_TOL or first_crossing(excess, x, low) is not None:
            return q
        return 0.0
    if growth < 0:
        found = first_crossing(excess, x, low)
        return least if found is None else math.exp(found)
    found = first_crossing(excess, x, LOG_MAX_VARIANCE) if x < LOG_MAX_VARIANCE else None
    if found is None:
        raise unbounded
    return math.exp(found)


@ieee
def stability(activation: str, q: float, weight_variance: float) -> float:
    """Derivative of the variance map at q: a fixed point attracts if its magnitude is below 1, and repels if it is above 1.

    d/dq E phi(sqrt(q) z)^2 = E z phi phi' / sqrt(q), so no second derivative is needed. Poole et al. (2016).

    Parameters
    ----------
    activation : str
        See `function`.
    q : float, in (0, inf)
        Variance of the pre-activations; at most 1000 for sin.
    weight_variance : float, in [0, inf)
        sigma_w^2.

    Returns
    -------
    float
        The derivative.

    Raises
    ------
    TypeError, ValueError
        As in `variance_map`.

    Examples
    --------
    >>> round(stability("relu", 3.0, 2.0), 6)
    1.0
    """
    q = check_number("q", q, above=True)
    weight_variance = check_number("weight_variance", weight_variance)
    phi, derivative, std = function(activation), slope(activation), math.sqrt(q)
    return weight_variance * _mean(activation, lambda z: (z / std) * (phi(z) / std) * derivative(z), q)
