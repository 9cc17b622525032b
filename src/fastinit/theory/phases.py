"""Order and chaos: how deep a network can be for signals and gradients to get through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._common.arithmetic import ieee
from .._common.checks import real_array
from .activations import Activation, ActivationLike, known
from .broadcast import broadcasting
from .correlations import fixed_correlation, length_scale
from .maps import LOG_MAX_VARIANCE, Array, check_keep, check_number, limit_variance, moment_derivative, slope_moment

__all__ = ["PhaseDiagram", "gradient_scale", "phase", "phase_diagram", "trainable_depth", "variance_scale"]

_AT_INFINITY = math.exp(LOG_MAX_VARIANCE - 10)  # a variance that stands for one without bound
_DEPTH_PER_SCALE = 6.0  # the multiple of a depth scale up to which networks were found to train
_CRITICAL = 1e-6  # how near to 1 chi_1 is that of a critical network


def _scale(rate: float) -> float:
    """Layers over which something that is multiplied by `rate` in each changes by a factor of e."""
    if rate in (0.0, math.inf):
        return 0.0
    return math.inf if abs(rate - 1) <= 1e-12 else 1 / abs(math.log(rate))


def _chi_at(phi: Activation, q: float, weight_variance: float) -> float:
    with np.errstate(over="ignore"):
        return weight_variance * slope_moment(phi, min(q, _AT_INFINITY))


@ieee
@broadcasting("q", "weight_variance", "keep")
def gradient_scale(activation: ActivationLike, q: Any, weight_variance: Any, *, keep: Any = 1.0) -> Any:
    """xi_grad, the number of layers in which the mean square of gradients changes by a factor of e: 1 / |ln chi_1|.

    In the chaotic phase it is the shorter scale: that of correlations says nothing of gradients that explode.

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    q : float or array_like, in [0, inf)
        Variance of the pre-activations, a fixed point of the variance map (`fixed_point`).
    weight_variance : float or array_like, in [0, inf)
        sigma_w^2.
    keep : float or array_like, in [1e-9, 1], default 1.0
        Dropout's probability of keeping a unit.

    Returns
    -------
    float or ndarray, in [0, inf]
        inf where chi_1 is 1, to 1e-12.

    Raises
    ------
    TypeError, ValueError
        As in `variance_map`.

    References
    ----------
    Schoenholz et al. (2017).

    Examples
    --------
    >>> round(gradient_scale("relu", 1.0, 1.0), 6)    # gradients are halved in each layer
    1.442695
    """
    q = check_number("q", q)
    weight_variance = check_number("weight_variance", weight_variance)
    return _scale(weight_variance / check_keep(keep) * slope_moment(known(activation), q))


@ieee
@broadcasting("q", "weight_variance", "keep")
def variance_scale(activation: ActivationLike, q: Any, weight_variance: Any, *, keep: Any = 1.0) -> Any:
    """xi_q, the number of layers in which the variance comes closer to q* by a factor of e: Schoenholz et al. (2017).

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    q : float or array_like, in (0, inf)
        q*, a fixed point of the variance map (`fixed_point`).
    weight_variance : float or array_like, in [0, inf)
        sigma_w^2.
    keep : float or array_like, in [1e-9, 1], default 1.0
        Dropout's probability of keeping a unit.

    Returns
    -------
    float or ndarray, in [0, inf]
        -1 / ln|s|, where s is the derivative of the variance map at q (`stability`); inf where |s| is 1 or more, to 1e-12:
        variances do not come closer.

    Raises
    ------
    TypeError, ValueError
        As in `variance_map`.

    Examples
    --------
    >>> round(variance_scale("tanh", fixed_point("tanh", 1.69, 0.09), 1.69), 3)
    1.338
    """
    q = check_number("q", q, above=True)
    weight_variance = check_number("weight_variance", weight_variance)
    rate = abs(weight_variance / check_keep(keep) * moment_derivative(known(activation), q))
    return math.inf if rate > 1 else _scale(rate)


@ieee
@broadcasting("weight_variance", "bias_variance", "start")
def phase(
    activation: ActivationLike, weight_variance: Any, bias_variance: Any = 0.0, *, start: Any = 1.0, tolerance: float = _CRITICAL
) -> Any:
    """Whether a deep network is in the ordered phase, in the chaotic one, or critical.

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    weight_variance, bias_variance : float or array_like, in [0, inf)
        sigma_w^2 and sigma_b^2.
    start : float or array_like, in [0, inf), default 1.0
        Variance of the first layer's pre-activations, where there are several fixed points.
    tolerance : float, in [0, inf), default 1e-6
        How far chi_1 of a critical network may be from 1.

    Returns
    -------
    str or ndarray of str
        "ordered" if chi_1 < 1 at the variance that the network comes to: gradients vanish, and different inputs become one.
        "chaotic" if chi_1 > 1: gradients explode, and inputs that are nearly one become different. Else "critical".
        If variances vanish, or grow without bound, it is the limit of chi_1 on that way: ReLU with sigma_w^2 = 3 is chaotic, and
        with sigma_w^2 = 2 critical, also with biases, with which its variance grows linearly.

    Raises
    ------
    TypeError, ValueError
        As in `variance_map`.

    References
    ----------
    Poole et al. (2016); Schoenholz et al. (2017).

    Examples
    --------
    >>> phase("tanh", 1.5, 0.05), phase("tanh", 2.5, 0.05), phase("relu", 2.0)
    ('ordered', 'chaotic', 'critical')
    """
    phi = known(activation)
    weight_variance = check_number("weight_variance", weight_variance)
    q = limit_variance(phi, weight_variance, check_number("bias_variance", bias_variance), check_number("start", start))
    return _phase_of(_chi_at(phi, q, weight_variance), check_number("tolerance", tolerance))


def _phase_of(chi: float, tolerance: float) -> str:
    if abs(chi - 1) <= tolerance:
        return "critical"
    return "ordered" if chi < 1 else "chaotic"


@ieee
@broadcasting("weight_variance", "bias_variance", "start")
def trainable_depth(activation: ActivationLike, weight_variance: Any, bias_variance: Any = 0.0, *, start: Any = 1.0) -> Any:
    """The number of layers up to which plain networks were found to train: six times the shorter depth scale.

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    weight_variance, bias_variance : float or array_like, in [0, inf)
        sigma_w^2 and sigma_b^2.
    start : float or array_like, in [0, inf), default 1.0
        Variance of the first layer's pre-activations.

    Returns
    -------
    float or ndarray, in [0, inf]
        6 min(xi_c, xi_grad) of `length_scale` and `gradient_scale` at the fixed points of variance and correlation. If variances
        vanish, or grow without bound, 6 xi_grad of the limit: there is no correlation to come to.

    Raises
    ------
    TypeError, ValueError
        As in `fixed_correlation`.

    References
    ----------
    Schoenholz et al. (2017), who have 6 xi_c, from networks trained on MNIST and CIFAR-10.

    Examples
    --------
    >>> round(trainable_depth("tanh", 4.0, 0.05), 1)    # 6 xi_c alone would be 42
    20.4
    """
    phi = known(activation)
    weight_variance = check_number("weight_variance", weight_variance)
    bias_variance = check_number("bias_variance", bias_variance)
    q = limit_variance(phi, weight_variance, bias_variance, check_number("start", start))
    return _cell(phi, weight_variance, bias_variance, q)[-1]


def _cell(phi: Activation, weight_variance: float, bias_variance: float, q: float) -> tuple[float, float, float, float, float]:
    """chi_1, c*, xi_c, xi_grad and the trainable depth at the limit of variances."""
    chi = _chi_at(phi, q, weight_variance)
    of_gradients, c, of_correlations = _scale(chi), math.nan, math.nan
    if 0 < q < math.inf:
        c = fixed_correlation(phi, q, weight_variance, bias_variance)
        of_correlations = length_scale(phi, c, q, weight_variance)
    return chi, c, of_correlations, of_gradients, _DEPTH_PER_SCALE * float(np.fmin(of_correlations, of_gradients))


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """The phases of networks, over weight and bias variances.

    All arrays but the first two have the shape (B, W): a row for each bias variance, as ``matplotlib.pyplot.pcolormesh`` takes
    them after the two axes.

    Attributes
    ----------
    weight_variances : ndarray of shape (W,)
    bias_variances : ndarray of shape (B,)
    phases : ndarray of str
        "ordered", "critical" or "chaotic", see `phase`.
    variances : ndarray
        q*; 0 where variances vanish, inf where they grow without bound.
    correlations : ndarray
        c*; NaN where q* is 0 or inf.
    chi : ndarray
        chi_1 at q*, in the limit where it is 0 or inf.
    variance_scales, correlation_scales, gradient_scales : ndarray
        xi_q, xi_c and xi_grad, in layers; the first two are NaN where q* is 0 or inf.
    trainable_depths : ndarray
        See `trainable_depth`.
    """

    weight_variances: Array
    bias_variances: Array
    phases: Array
    variances: Array
    correlations: Array
    chi: Array
    variance_scales: Array
    correlation_scales: Array
    gradient_scales: Array
    trainable_depths: Array


@ieee
def phase_diagram(
    activation: ActivationLike, weight_variances: Any, bias_variances: Any, *, start: float = 1.0, tolerance: float = _CRITICAL
) -> PhaseDiagram:
    """The phases of networks, over weight and bias variances: `phase`, fixed points and depth scales for every pair.

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    weight_variances, bias_variances : array_like of shape (W,) and (B,), in [0, inf)
        Values of sigma_w^2 and of sigma_b^2.
    start : float, in [0, inf), default 1.0
        Variance of the first layer's pre-activations.
    tolerance : float, in [0, inf), default 1e-6
        How far chi_1 of a critical network may be from 1.

    Returns
    -------
    PhaseDiagram

    Raises
    ------
    TypeError, ValueError
        As in `trainable_depth`, and if one of the two is no array of one axis.

    References
    ----------
    Poole et al. (2016), figure 2; Schoenholz et al. (2017).

    Examples
    --------
    >>> diagram = phase_diagram("tanh", [1.0, 2.0, 3.0], [0.0, 0.1])
    >>> diagram.phases.tolist()
    [['critical', 'chaotic', 'chaotic'], ['ordered', 'chaotic', 'chaotic']]
    """
    phi = known(activation)
    start, tolerance = check_number("start", start), check_number("tolerance", tolerance)
    axes = []
    for name, values in (("weight_variances", weight_variances), ("bias_variances", bias_variances)):
        array = real_array(name, values)
        if array.ndim != 1:
            raise ValueError(f"{name}: expected an array of one axis, got shape {array.shape}")
        axes.append(np.array([check_number(f"{name}[{i}]", value) for i, value in enumerate(array.tolist())], dtype=np.float64))
    weights, biases = axes
    phases = np.empty((len(biases), len(weights)), dtype="<U8")
    numbers = np.full((7, *phases.shape), math.nan)
    for place in np.ndindex(phases.shape):
        bias, weight = float(biases[place[0]]), float(weights[place[1]])
        q = limit_variance(phi, weight, bias, start)
        chi, c, of_correlations, of_gradients, depth = _cell(phi, weight, bias, q)
        of_variances = variance_scale(phi, q, weight) if 0 < q < math.inf else math.nan
        phases[place] = _phase_of(chi, tolerance)
        numbers[(slice(None), *place)] = q, c, chi, of_variances, of_correlations, of_gradients, depth
    return PhaseDiagram(weights, biases, phases, *numbers)
