"""The critical line chi_1 = 1, on which gradients neither vanish nor explode."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .._common.arithmetic import ieee
from .activations import Activation, ActivationLike, known
from .broadcast import broadcasting
from .maps import (
    LOG_MAX_VARIANCE,
    SIN_MAX_VARIANCE,
    check_number,
    homogeneous_second_moment,
    log_growth,
    moment_derivative,
    second_moment,
    slope_moment,
)
from .roots import first_crossing

__all__ = ["critical_pair"]


def _critical_weight_variance(phi: Activation, q: float) -> float:
    """The sigma_w^2 with chi_1 = 1 at variance q."""
    return 1 / slope_moment(phi, q)


def _log_max_variance(phi: Activation) -> float:
    """ln of the largest q* that is searched: where phi' grows without bound, as of a square, means overflow long before."""
    bounded = np.abs(phi.slope([-1e9, 1e9])).max() < 1e3
    return LOG_MAX_VARIANCE if bounded else LOG_MAX_VARIANCE / 4


@functools.lru_cache(maxsize=64)
def _least_stable_bias_variance(phi: Activation) -> float:
    """The bias variance from which on the critical point attracts; 0 if it attracts for all.

    At q* = 0, where the critical line begins, the derivative of the variance map at q* is 1. For tanh and similar functions it
    falls from there. For GELU, SiLU and Mish it first rises and then falls below 1 once, while sigma_b^2 grows with q* all along.
    """

    def derivative_minus_1(log_q: float) -> float:
        q = math.exp(log_q)
        return _critical_weight_variance(phi, q) * moment_derivative(phi, q) - 1

    start = -20.0  # ln q: the derivative differs from 1 by about 1e-9 there, a million rounding errors
    if derivative_minus_1(start) <= 0:
        return 0.0
    log_q = first_crossing(derivative_minus_1, start, _log_max_variance(phi))
    if log_q is None:
        return math.inf
    q = math.exp(log_q)
    return q - _critical_weight_variance(phi, q) * second_moment(phi, q)


@ieee
@broadcasting("bias_variance", results=2)
def critical_pair(activation: ActivationLike, bias_variance: Any) -> tuple[Any, Any]:
    """(sigma_w^2, q*) with chi_1 = 1 at the fixed point q*, for a given sigma_b^2: gradients neither vanish nor explode.

    On that line sigma_w^2 = 1 / E phi'(sqrt(q) z)^2, so q alone is unknown. Schoenholz et al. (2017).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    bias_variance : float or array_like, in [0, inf)
        sigma_b^2; at most 998 for sin.

    Returns
    -------
    weight_variance : float or ndarray
        sigma_w^2.
    q : float or ndarray
        q*. Without biases it is 0 for tanh and similar functions, and returned as 1 for ReLU, leaky ReLU and the
        linear activation, for which every q is a fixed point.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If an argument is out of range; if there is no critical point, as for ReLU, leaky ReLU and the linear activation
        with biases, and for softplus; if q* repels, so that variances move away from it layer by layer: GELU, SiLU and
        Mish need a bias variance of at least the number that the message names.

    Examples
    --------
    >>> critical_pair("relu", 0)
    (2.0, 1.0)
    """
    phi = known(activation)
    bias_variance = check_number("bias_variance", bias_variance)

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        return log_growth(phi, q, _critical_weight_variance(phi, q), bias_variance)

    if phi._leak is not None:
        if bias_variance > 0:
            raise ValueError(
                f"bias_variance: expected 0 for {phi._text}, which has no critical point with biases, got {bias_variance}"
            )
        return 1 / homogeneous_second_moment(phi._leak), 1.0
    q = 0.0
    if bias_variance > 0 or float(phi(0.0)) != 0:
        is_sin = phi._name == "sin"
        low = math.log(bias_variance) if bias_variance > 0 else -40.0  # the variance map is nowhere below sigma_b^2
        high = math.log(SIN_MAX_VARIANCE) if is_sin else _log_max_variance(phi)
        log_q = first_crossing(excess, low, high) if low < high else None
        if log_q is None and is_sin:
            most = SIN_MAX_VARIANCE - 2  # q* is larger than sigma_b^2 by about 1
            raise ValueError(
                f"bias_variance: expected at most {most:g} for sin, beyond which quadrature is inaccurate, got {bias_variance}"
            )
        q = math.inf if log_q is None else math.exp(log_q)
    least = _least_stable_bias_variance(phi) if q < math.inf else math.inf
    if least == math.inf:
        raise ValueError(f"bias_variance: expected one with a critical point for {phi._text}, got {bias_variance}")
    if bias_variance < least:
        rounded_up = math.ceil(least * 1e6) / 1e6
        raise ValueError(
            f"bias_variance: expected at least {rounded_up} for {phi._text}, whose critical point repels variances below that, "
            f"got {bias_variance}"
        )
    return _critical_weight_variance(phi, q), q
