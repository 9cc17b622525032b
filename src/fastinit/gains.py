"""Gains: the factor that an activation wants on the standard deviation of its weights, under the names of what it keeps.

With weights of variance gain^2 / fan_in, and z a standard normal:

- `preactivation_gain`, 1 / sqrt(E phi(z)^2): the next layer's pre-activations have variance 1 again.
- `activation_gain`, the s with E phi(s z)^2 = 1: the activations have mean square 1 again.
- `gradient_gain`, 1 / sqrt(E phi'(z)^2): gradients keep their mean square on the way back.

The first two are equal only for homogeneous functions such as ReLU (sqrt(2)); for SiLU they are 1.6765 and 1.5588.
`calculate_gain` is none of these: it is PyTorch's table, for compatibility.

May import: _common, theory.
"""

from __future__ import annotations

import math
from typing import Any

from ._common.arithmetic import ieee
from ._common.checks import one_of, real_number, shown
from .theory import chi_1, variance_map

__all__ = ["activation_gain", "calculate_gain", "gradient_gain", "preactivation_gain"]

_TABLE = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0, "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2.0), "selu": 0.75,
}  # fmt: skip


@ieee
def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """PyTorch's table of gains, for compatibility; tanh, sigmoid and selu keep no variance with it.

    Parameters
    ----------
    nonlinearity : str
        linear, conv1d .. conv_transpose3d and sigmoid: 1; tanh: 5/3; relu: sqrt(2); leaky_relu:
        sqrt(2 / (1 + param^2)); selu: 3/4.
    param : float, optional
        Negative slope of leaky_relu, 0.01 if not given; finite. The others take no notice of it.

    Returns
    -------
    float, in [0, 5/3]
        The factor on the standard deviation of weights.

    Raises
    ------
    ValueError
        If the nonlinearity is another, or the slope is not finite.
    TypeError
        If the slope is no number.

    Examples
    --------
    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    one_of("nonlinearity", nonlinearity, (*_TABLE, "leaky_relu"))
    if nonlinearity != "leaky_relu":
        return _TABLE[nonlinearity]
    slope = 0.01 if param is None else real_number("param", param)
    return math.sqrt(2 / (1 + slope * slope))


@ieee
def preactivation_gain(activation: str) -> float:
    """1 / sqrt(E phi(z)^2), z ~ N(0, 1), by quadrature: pre-activations keep a variance of 1.

    Parameters
    ----------
    activation : str
        One of `fastinit.theory`: a name that `Stack` takes, such as ``"tanh"`` or ``"leaky_relu(0.2)"``.

    Returns
    -------
    float
        The factor on 1 / sqrt(fan_in), the standard deviation of weights.

    Raises
    ------
    TypeError
        If `activation` is no str.
    ValueError
        If it names no activation, or has a parameter that does not fit.

    Examples
    --------
    >>> round(preactivation_gain("silu"), 4)
    1.6765
    """
    return 1 / math.sqrt(variance_map(activation, 1.0, 1.0))


@ieee
def gradient_gain(activation: str) -> float:
    """1 / sqrt(E phi'(z)^2), z ~ N(0, 1), by quadrature: gradients keep their mean square on the way back.

    Parameters
    ----------
    activation : str
        One of `fastinit.theory`: a name that `Stack` takes, such as ``"tanh"`` or ``"leaky_relu(0.2)"``.

    Returns
    -------
    float
        The factor on the standard deviation of weights.

    Raises
    ------
    TypeError
        If `activation` is no str.
    ValueError
        If it names no activation, or has a parameter that does not fit.

    Examples
    --------
    >>> round(gradient_gain("tanh"), 4)
    1.4674
    """
    return 1 / math.sqrt(chi_1(activation, 1.0, 1.0))


@ieee
def activation_gain(activation: str) -> float:
    """The s with E phi(s z)^2 = 1, z ~ N(0, 1), by quadrature and bisection: activations keep mean square 1.

    Parameters
    ----------
    activation : str
        One of `fastinit.theory`: a name that `Stack` takes, such as ``"tanh"`` or ``"leaky_relu(0.2)"``.

    Returns
    -------
    float
        The factor on 1 / sqrt(fan_in), the standard deviation of weights.

    Raises
    ------
    TypeError
        If `activation` is no str.
    ValueError
        If no s does it, as for tanh, whose values are below 1; or the activation is unknown.

    Examples
    --------
    >>> round(activation_gain("silu"), 4)
    1.5588
    """

    def too_small(std: float) -> bool:
        return variance_map(activation, std * std, 1.0) < 1

    low, high = 0.0, 1.0
    while too_small(high):
        low, high = high, 2 * high
        if high > 1e6:
            raise ValueError(f"activation: expected one that reaches a mean square of 1, got {shown(activation)}")
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return (low + high) / 2
