"""How the correlation of two inputs changes from layer to layer, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .._common.arithmetic import ieee
from .maps import TINY_VARIANCE, Array, bare_name, check_number, chi_1, function, nodes_of, slope, variance_map
from .quadrature import nodes_between
from .roots import find_root

__all__ = ["correlation_map", "correlation_slope", "fixed_correlation", "length_scale"]

# Up to this variance, intervals of one standard deviation resolve an activation such as tanh to rounding errors.
_FIXED_INTERVALS_MAX_Q = 400.0
_FIXED_POINT_RTOL = 1e-6  # the relative change in one layer up to which a variance counts as a fixed point


def _product(a: Array, b: Array) -> Array:
    return a * b


def _half_squared_difference(a: Array, b: Array) -> Array:
    return (a - b) ** 2 / 2


def _pair_mean(
    f: Callable[[Any], Array], activation: str, c: float, q: float, combine: Callable[[Array, Array], Array] = _product
) -> float:
    """E combine(f(u), f(v)) for normal u, v of variance q and correlation c.

    With independent standard normals z and y, u = sqrt(q) z and v = sqrt(q) (c z + sqrt(1 - c^2) y). The inner integral is
    that over y, for every node of z.
    """
    z, w = nodes_of(activation, q)
    std = math.sqrt(q)
    independent = math.sqrt((1 - c) * (1 + c))
    fz = f(std * z)
    if independent == 0:
        return float(w @ combine(fz, f(std * c * z)))
    kinks = np.array(_core.TRAITS[bare_name(activation)].kinks)
    if not kinks.size and q <= _FIXED_INTERVALS_MAX_Q:
        y, v = nodes_between(())
        return float(w @ (combine(fz[:, None], f(std * (c * z[:, None] + independent * y))) @ v))
    # The point y at which f(v) has a kink, or at which it bends sharply because q is large, depends on z. The intervals are cut
    # there, and for a large q they double in length on both sides of it.
    kinks = np.union1d(kinks, 0.0) / std
    many = q > _FIXED_INTERVALS_MAX_Q
    doubling = np.geomspace(0.3 / std, 4.0, 3 * math.ceil(math.log10(std)) + 4) if many else np.empty(0)
    around = np.concatenate([-doubling, [0.0], doubling])
    inner = np.empty_like(z)
    for i, x in enumerate(z):
        y, v = nodes_between(((kinks - c * x) / independent)[:, None] + around)
        inner[i] = v @ combine(fz[i], f(std * (c * x + independent * y)))
    return float(w @ inner)


@ieee
def correlation_map(
    activation: str, c: float, q: float, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """Correlation of two inputs' pre-activations after a layer, from c before it: Poole et al. (2016).

    Parameters
    ----------
    activation : str
        See `function`.
    c : float, in [-1, 1]
        Correlation of the two inputs' pre-activations in this layer.
    q : float, in (0, inf)
        Variance of both inputs' pre-activations in this layer.
    weight_variance, bias_variance : float, in [0, inf)
        sigma_w^2 and sigma_b^2.

    Returns
    -------
    float
        (sigma_w^2 E phi(u) phi(v) + sigma_b^2) / `variance_map`, for u, v of variance q and correlation c.

    Raises
    ------
    TypeError, ValueError
        As in `variance_map`, and if the variance after the layer is 0: there is no correlation then.

    Examples
    --------
    >>> round(correlation_map("relu", 0.0, 1.0, 2.0), 6)
    0.31831
    """
    c = check_number("c", c, -1.0, 1.0)
    q = check_number("q", q, above=True)
    variance = variance_map(activation, q, weight_variance, bias_variance)
    if variance == 0:
        raise ValueError(
            "weight_variance, bias_variance: expected one > 0, so that there is a variance after the layer, got "
            f"{weight_variance} and {bias_variance}"
        )
    return (weight_variance * _pair_mean(function(activation), activation, c, q) + bias_variance) / variance


@ieee
def correlation_slope(activation: str, c: float, q: float, weight_variance: float) -> float:
    """Derivative of the correlation map at c, where q is a fixed point: sigma_w^2 E phi'(u) phi'(v).

    At c = 1 it is `chi_1`. Schoenholz et al. (2017).

    Parameters
    ----------
    activation : str
        See `function`.
    c : float, in [-1, 1]
        Correlation of the two inputs' pre-activations.
    q : float, in [0, inf)
        Variance of both inputs' pre-activations; for 0, the limit of small variances is returned.
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
    >>> round(correlation_slope("relu", 0.0, 1.0, 2.0), 6)
    0.5
    """
    c = check_number("c", c, -1.0, 1.0)
    q = check_number("q", q)
    weight_variance = check_number("weight_variance", weight_variance)
    return weight_variance * _pair_mean(slope(activation), activation, c, max(q, TINY_VARIANCE))


@ieee
def fixed_correlation(
    activation: str, q: float, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """c*, the correlation at which the pre-activations of two different inputs end: Poole et al. (2016).

    Parameters
    ----------
    activation : str
        See `function`.
    q : float, in (0, inf)
        A fixed point of the variance map (`fixed_point`).
    weight_variance, bias_variance : float, in [0, inf)
        sigma_w^2 and sigma_b^2.

    Returns
    -------
    float, in [0, 1]
        1 in the ordered phase (chi_1 <= 1), below 1 in the chaotic one.

    Raises
    ------
    TypeError, ValueError
        As in `variance_map`, and if q is no fixed point: if a layer changes it by more than 1e-6 q.

    Examples
    --------
    >>> round(fixed_correlation("tanh", fixed_point("tanh", 2.5, 0.05), 2.5, 0.05), 6)
    0.446804
    """
    q = check_number("q", q, above=True)
    after = variance_map(activation, q, weight_variance, bias_variance)
    if abs(after - q) > _FIXED_POINT_RTOL * q:
        raise ValueError(
            f"q: expected a fixed point of the variance map for {activation}, weight_variance {weight_variance} and "
            f"bias_variance {bias_variance}, to a relative {_FIXED_POINT_RTOL:g}, got {q}, which a layer changes to {after}"
        )
    if chi_1(activation, q, weight_variance) <= 1 + 1e-12:
        return 1.0
    if correlation_map(activation, 0.0, q, weight_variance, bias_variance) <= 0:
        return 0.0
    phi = function(activation)

    def excess(distance: float) -> float:
        """The factor by which a layer multiplies 1 - c, minus 1, as a function of 1 - c.

        It is a mean of squared differences; the difference of two means would lose all digits near c = 1.
        """
        c = 1 - distance
        return weight_variance / q * _pair_mean(phi, activation, c, q, _half_squared_difference) / (1 - c) - 1

    # In the chaotic phase the map lies below the diagonal just left of c = 1, and crosses it once.
    distance = 1.0
    while distance > 1e-15:
        distance /= 10
        if excess(distance) > 0:
            return 1 - find_root(excess, distance, 10 * distance)
    return 1.0


@ieee
def length_scale(activation: str, c: float, q: float, weight_variance: float) -> float:
    """xi_c, the number of layers in which correlations come closer to c* by a factor of e: Schoenholz et al. (2017).

    Parameters
    ----------
    activation : str
        See `function`.
    c : float, in [-1, 1]
        c*, the fixed point of the correlation map (`fixed_correlation`).
    q : float, in [0, inf)
        Variance of both inputs' pre-activations.
    weight_variance : float, in [0, inf)
        sigma_w^2.

    Returns
    -------
    float, in [0, inf]
        -1 / ln|s|, where s is `correlation_slope` at c; 0 where s is 0, and inf where |s| >= 1 - 1e-12.

    Raises
    ------
    TypeError, ValueError
        As in `variance_map`.

    Examples
    --------
    >>> round(length_scale("relu", 0.0, 1.0, 2.0), 6)
    1.442695
    """
    rate = abs(correlation_slope(activation, c, q, weight_variance))
    if rate == 0:
        return 0.0
    return math.inf if rate >= 1 - 1e-12 else -1 / math.log(rate)
