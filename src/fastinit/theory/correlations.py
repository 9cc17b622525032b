"""How the correlation of two inputs changes from layer to layer, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._common.arithmetic import ieee
from .activations import Activation, ActivationLike, known
from .broadcast import broadcasting
from .maps import TINY_VARIANCE, Array, check_keep, check_number, second_moment, slope_moment
from .pairs import half_squared_difference, product_mean, slope_product_mean
from .roots import find_root

__all__ = ["correlation_map", "correlation_slope", "fixed_correlation", "length_scale"]

_HALVINGS = 40  # of `pair_nodes`, in the search for a fixed point: 1e-12 of the plane, where more would take seconds
_FIXED_POINT_RTOL = 1e-6  # the relative change in one layer up to which a variance counts as a fixed point


def _pair(mean: Callable[[Activation, Array, Array, Array], Array], phi: Activation, c: float, q: float) -> float:
    """A mean over one pair of normals of variance q and correlation c."""
    variance = np.array([q])
    return float(mean(phi, np.array([1 - c]), variance, variance)[0])


@ieee
@broadcasting("c", "q", "weight_variance", "bias_variance", "keep")
def correlation_map(
    activation: ActivationLike, c: Any, q: Any, weight_variance: Any, bias_variance: Any = 0.0, *, keep: Any = 1.0
) -> Any:
    """Correlation of two inputs' pre-activations after a layer, from c before it: Poole et al. (2016).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    c : float or array_like, in [-1, 1]
        Correlation of the two inputs' pre-activations in this layer.
    q : float or array_like, in (0, inf)
        Variance of both inputs' pre-activations in this layer.
    weight_variance, bias_variance : float or array_like, in [0, inf)
        sigma_w^2 and sigma_b^2.
    keep : float or array_like, in [1e-9, 1], default 1.0
        Dropout's probability of keeping a unit, each input with a mask of its own: 1 - c does not fall below some number then.

    Returns
    -------
    float or ndarray
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
    weight_variance = check_number("weight_variance", weight_variance)
    bias_variance = check_number("bias_variance", bias_variance)
    phi = known(activation)
    variance = weight_variance / check_keep(keep) * second_moment(phi, q) + bias_variance
    if variance == 0:
        raise ValueError(
            "weight_variance, bias_variance: expected one > 0, so that there is a variance after the layer, got "
            f"{weight_variance} and {bias_variance}"
        )
    return (weight_variance * _pair(product_mean, phi, c, q) + bias_variance) / variance


@ieee
@broadcasting("c", "q", "weight_variance")
def correlation_slope(activation: ActivationLike, c: Any, q: Any, weight_variance: Any) -> Any:
    """Derivative of the correlation map at c, where q is a fixed point: sigma_w^2 E phi'(u) phi'(v).

    At c = 1 it is `chi_1`. Schoenholz et al. (2017).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    c : float or array_like, in [-1, 1]
        Correlation of the two inputs' pre-activations.
    q : float or array_like, in [0, inf)
        Variance of both inputs' pre-activations; for 0, the limit of small variances is returned.
    weight_variance : float or array_like, in [0, inf)
        sigma_w^2.

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
    >>> round(correlation_slope("relu", 0.0, 1.0, 2.0), 6)
    0.5
    """
    c = check_number("c", c, -1.0, 1.0)
    q = check_number("q", q)
    weight_variance = check_number("weight_variance", weight_variance)
    return weight_variance * _pair(slope_product_mean, known(activation), c, max(q, TINY_VARIANCE))


@ieee
@broadcasting("q", "weight_variance", "bias_variance", "keep")
def fixed_correlation(
    activation: ActivationLike, q: Any, weight_variance: Any, bias_variance: Any = 0.0, *, keep: Any = 1.0
) -> Any:
    """c*, the correlation at which the pre-activations of two different inputs end: Poole et al. (2016).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    q : float or array_like, in (0, inf)
        A fixed point of the variance map (`fixed_point`).
    weight_variance, bias_variance : float or array_like, in [0, inf)
        sigma_w^2 and sigma_b^2.
    keep : float or array_like, in [1e-9, 1], default 1.0
        Dropout's probability of keeping a unit, each input with a mask of its own: 1 - c does not fall below some number then.

    Returns
    -------
    float or ndarray, in [0, 1]
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
    weight_variance = check_number("weight_variance", weight_variance)
    bias_variance = check_number("bias_variance", bias_variance)
    keep = check_keep(keep)
    phi = known(activation)
    after = weight_variance / keep * second_moment(phi, q) + bias_variance
    if abs(after - q) > _FIXED_POINT_RTOL * q:
        raise ValueError(
            f"q: expected a fixed point of the variance map for {phi._text}, weight_variance {weight_variance} and "
            f"bias_variance {bias_variance}, to a relative {_FIXED_POINT_RTOL:g}, got {q}, which a layer changes to {after}"
        )
    if keep == 1 and weight_variance * slope_moment(phi, q) <= 1 + 1e-12:
        return 1.0
    if weight_variance * _pair(product_mean, phi, 0.0, q) + bias_variance <= 0:
        return 0.0
    dropped = weight_variance * second_moment(phi, q) * (1 / keep - 1) / q  # how far two copies of one input are moved apart

    def excess(distance: float) -> float:
        """The factor by which a layer multiplies 1 - c, minus 1, as a function of 1 - c.

        It is a mean of squared differences; the difference of two means would lose all digits near c = 1.
        """
        change = half_squared_difference(phi, np.array([distance]), np.array([q]), _HALVINGS)[0]
        return float((weight_variance / q * change + dropped) / distance - 1)

    # In the chaotic phase the map lies below the diagonal just left of c = 1, and crosses it once; with dropout it always does.
    distance = 1.0
    while distance > 1e-15:
        distance /= 10
        if excess(distance) > 0:
            return 1 - find_root(excess, distance, 10 * distance)
    return 1.0


@ieee
@broadcasting("c", "q", "weight_variance")
def length_scale(activation: ActivationLike, c: Any, q: Any, weight_variance: Any) -> Any:
    """xi_c, the number of layers in which correlations come closer to c* by a factor of e: Schoenholz et al. (2017).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    c : float or array_like, in [-1, 1]
        c*, the fixed point of the correlation map (`fixed_correlation`).
    q : float or array_like, in [0, inf)
        Variance of both inputs' pre-activations.
    weight_variance : float or array_like, in [0, inf)
        sigma_w^2.

    Returns
    -------
    float or ndarray, in [0, inf]
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
