"""The maps of one layer: variances of pre-activations forward, mean squares of gradients backward, and their fixed points."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.arithmetic import ieee
from .._common.checks import real_array, real_number, shown
from .activations import Activation, ActivationLike, known
from .broadcast import broadcasting
from .quadrature import nodes
from .roots import LOG_GROWTH_TOL, LOG_STEP, POWER_LAW_LOG_Q, first_crossing

__all__ = [
    "LOG_MAX_VARIANCE", "SIN_MAX_VARIANCE", "TINY_VARIANCE", "Array", "check_keep", "check_number", "chi_1", "expectation",
    "fixed_point", "forward_gain", "function", "homogeneous_second_moment", "limit_variance", "log_growth", "moment_derivative",
    "nodes_of", "second_moment", "slope", "slope_moment", "stability", "variance_map",
]  # fmt: skip

Array = NDArray[Any]

# Stands for a variance of 0 in means of derivatives. At 0 itself all nodes are the one point 0, but the limit of small variances
# takes half of the derivative on each side of 0. Over numbers this small, the derivatives of all activations are constant on
# either side to rounding errors.
TINY_VARIANCE = 1e-200
SIN_MAX_VARIANCE = 1e3  # quadrature of a sine has errors of 2e-12 here, and of 2e-9 at 1.5 times this variance
LOG_MAX_VARIANCE = 709.7  # ln of the largest float64


def nodes_of(phi: Activation, q: float) -> tuple[Array, Array]:
    """Nodes and weights for means over N(0, 1) of functions of phi(sqrt(q) z)."""
    if phi._name == "sin" and q > SIN_MAX_VARIANCE:
        raise ValueError(
            f"q: expected at most {SIN_MAX_VARIANCE:g} for sin, beyond which quadrature cannot resolve its waves, got {q}"
        )
    decades = max(4, math.ceil(math.log10(q) / 2)) if q > 1 else 4  # down to the scale 1 / sqrt(q) on which tanh bends
    return nodes(tuple(k / math.sqrt(q) for k in phi.kinks) if q > 0 else (), decades)


def homogeneous_second_moment(leak: float) -> float:
    """E phi(sqrt(q) z)^2 / q of a homogeneous activation, which does not depend on q and is also E phi'(sqrt(q) z)^2."""
    return (1 + leak**2) / 2


def check_number(what: str, value: Any, low: float = 0.0, high: float = math.inf, *, above: bool = False) -> float:
    """`value` as a float, refused if it is no finite number in [low, high], or, with `above`, in (low, high]."""
    number = real_number(what, value)
    if not low <= number <= high or (above and number == low):
        limits = f"in [{low}, {high}]" if math.isfinite(high) else f"{'>' if above else '>='} {low}"
        raise ValueError(f"{what}: expected a finite number {limits}, got {value}")
    return number


@ieee
def function(activation: ActivationLike) -> Callable[[Any], Array]:
    """The activation phi as a function of arrays, elementwise, in float64.

    Parameters
    ----------
    activation : str, Activation or callable
        Any name that `Stack` takes. ``"leaky_relu(0.2)"`` gives the negative slope of leaky ReLU, finite
        and >= 0; without it, it is 0.01. Or a function of one's own: an `Activation`, or a function of arrays, which is
        taken to have a kink at 0.

    Returns
    -------
    callable
        Takes an array_like of real numbers and returns a float64 array of the same shape.

    Raises
    ------
    TypeError
        If `activation` is neither a str nor a function.
    ValueError
        If it names no activation, or its parameter is out of range.

    Examples
    --------
    >>> function("leaky_relu(0.25)")([-2.0, 3.0])
    array([-0.5,  3. ])
    """
    return ieee(known(activation).__call__)


@ieee
def slope(activation: ActivationLike) -> Callable[[Any], Array]:
    """The derivative phi' as a function of arrays, elementwise, in float64.

    Parameters
    ----------
    activation : str, Activation or callable
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
    return ieee(known(activation).slope)


@ieee
@broadcasting("variance")
def expectation(f: Callable[[Array], Any], variance: Any = 1.0) -> Any:
    """E f(z) for z ~ N(0, variance), where f is smooth except at 0.

    Parameters
    ----------
    f : callable
        Takes a float64 array of shape ``(n,)`` and returns real numbers: an array of that shape, or one number.
    variance : float or array_like, in [0, inf), default 1.0
        Variance of z.

    Returns
    -------
    float or ndarray
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


def second_moment(phi: Activation, q: float) -> float:
    """E phi(z)^2 for z ~ N(0, q)."""
    z, w = nodes_of(phi, q)
    # Values whose squares would overflow are scaled first. By a power of 2, so that no bit of the result depends on it.
    scale = 2.0**500 if q > 1e280 else 1.0
    return float(w @ (phi._values(math.sqrt(q) * z) / scale) ** 2) * scale**2


def slope_moment(phi: Activation, q: float) -> float:
    """E phi'(z)^2 for z ~ N(0, q), and its limit of small variances for q = 0."""
    q = max(q, TINY_VARIANCE)
    z, w = nodes_of(phi, q)
    return float(w @ phi._slopes(math.sqrt(q) * z) ** 2)


def moment_derivative(phi: Activation, q: float) -> float:
    """d/dq of E phi(sqrt(q) z)^2 for q > 0: E z phi phi' / sqrt(q), so that no second derivative is needed."""
    nodes, w = nodes_of(phi, q)
    std = math.sqrt(q)
    z = std * nodes
    values, slopes = phi._both(z)
    return float(w @ ((z / std) * (values / std) * slopes))


def log_growth(phi: Activation, q: float, weight_variance: float, bias_variance: float) -> float:
    """ln(variance_map(q) / q) for q > 0, also where the map itself would overflow or underflow."""
    if phi._name == "sin":
        relative = -math.expm1(-2 * q) / 2 / q  # in closed form, because q may be beyond SIN_MAX_VARIANCE
    else:
        z, w = nodes_of(phi, q)
        std = math.sqrt(q)
        # An activation that is not 0 at 0 maps the smallest variances to ones whose ratio to q overflows: growth is inf then.
        with np.errstate(over="ignore"):
            relative = float(w @ (phi._values(std * z) / std) ** 2)
    ratio = weight_variance * relative + bias_variance / q
    return math.log(ratio) if ratio > 0 else -math.inf


def check_keep(keep: Any) -> float:
    return check_number("keep", keep, 1e-9, 1.0)


@ieee
@broadcasting("q", "weight_variance", "bias_variance", "keep")
def variance_map(
    activation: ActivationLike, q: Any, weight_variance: Any, bias_variance: Any = 0.0, *, keep: Any = 1.0
) -> Any:
    """The next layer's pre-activation variance: sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2. Poole et al. (2016).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    q : float or array_like, in [0, inf)
        Variance of this layer's pre-activations; at most 1000 for sin.
    weight_variance, bias_variance : float or array_like, in [0, inf)
        sigma_w^2, which is fan_in times the variance of a weight, and sigma_b^2.
    keep : float or array_like, in [1e-9, 1], default 1.0
        Dropout's probability of keeping a unit, which is divided by it then.

    Returns
    -------
    float or ndarray
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
    return weight_variance / check_keep(keep) * second_moment(known(activation), q) + bias_variance


@ieee
def forward_gain(activation: ActivationLike) -> float:
    """The gain for which the next layer's pre-activations have variance 1 again: `fastinit.gains.preactivation_gain`.

    Parameters
    ----------
    activation : str, Activation or callable
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
    return 1 / math.sqrt(second_moment(known(activation), 1.0))


@ieee
@broadcasting("q", "weight_variance", "keep")
def chi_1(activation: ActivationLike, q: Any, weight_variance: Any, *, keep: Any = 1.0) -> Any:
    """The factor on the mean square of gradients in each layer, backward: sigma_w^2 E phi'(sqrt(q) z)^2.

    Schoenholz et al. (2017).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    q : float or array_like, in [0, inf)
        Variance of the pre-activations, at most 1000 for sin; for 0, the limit of small variances is returned.
    weight_variance : float or array_like, in [0, inf)
        sigma_w^2.
    keep : float or array_like, in [1e-9, 1], default 1.0
        Dropout's probability of keeping a unit, which is divided by it then.

    Returns
    -------
    float or ndarray
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
    return weight_variance / check_keep(keep) * slope_moment(known(activation), q)


@ieee
@broadcasting("weight_variance", "bias_variance", "start", "keep")
def fixed_point(
    activation: ActivationLike, weight_variance: Any, bias_variance: Any = 0.0, start: Any = 1.0, *, keep: Any = 1.0
) -> Any:
    """q*, the variance at which pre-activations end in a deep network: the limit of `variance_map` from `start`.

    The map is monotone for every activation, so the iteration never passes a fixed point: it ends at the first one above `start`
    if the first layer increases the variance, and at the first one below if it decreases it. A variance that changes by less
    than rounding errors is a fixed point. Poole et al. (2016).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    weight_variance, bias_variance : float or array_like, in [0, inf)
        sigma_w^2 and sigma_b^2.
    start : float or array_like, in [0, inf), default 1.0
        Variance of the first layer's pre-activations.
    keep : float or array_like, in [1e-9, 1], default 1.0
        Dropout's probability of keeping a unit, which is divided by it then.

    Returns
    -------
    float or ndarray
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
    phi = known(activation)
    q = limit_variance(phi, weight_variance / check_keep(keep), bias_variance, start)
    if q == math.inf:
        raise ValueError(f"weight_variance: expected one with a finite fixed point for {phi._text}, got {weight_variance}")
    return q


def limit_variance(phi: Activation, weight_variance: float, bias_variance: float, start: float) -> float:
    """The limit of the variance map from `start`: a fixed point, or inf."""
    if phi._leak is not None:
        rate = weight_variance * homogeneous_second_moment(phi._leak)
        if bias_variance == 0 and (start == 0 or abs(rate - 1) <= LOG_GROWTH_TOL):
            return start
        return bias_variance / (1 - rate) if rate < 1 else math.inf

    def excess(log_q: float) -> float:
        return log_growth(phi, math.exp(log_q), weight_variance, bias_variance)

    least = weight_variance * second_moment(phi, 0.0) + bias_variance  # the map is nowhere smaller
    if least == math.inf or start == least == 0:
        return least
    lowest = least or math.exp(-POWER_LAW_LOG_Q)
    q = max(start, lowest)
    growth, low, x = log_growth(phi, q, weight_variance, bias_variance), math.log(lowest), math.log(q)
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
    return math.inf if found is None else math.exp(found)


@ieee
@broadcasting("q", "weight_variance", "keep")
def stability(activation: ActivationLike, q: Any, weight_variance: Any, *, keep: Any = 1.0) -> Any:
    """Derivative of the variance map at q: a fixed point attracts if its magnitude is below 1, and repels if it is above 1.

    d/dq E phi(sqrt(q) z)^2 = E z phi phi' / sqrt(q), so no second derivative is needed. Poole et al. (2016).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    q : float or array_like, in (0, inf)
        Variance of the pre-activations; at most 1000 for sin.
    weight_variance : float or array_like, in [0, inf)
        sigma_w^2.
    keep : float or array_like, in [1e-9, 1], default 1.0
        Dropout's probability of keeping a unit, which is divided by it then.

    Returns
    -------
    float or ndarray
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
    return weight_variance / check_keep(keep) * moment_derivative(known(activation), q)
