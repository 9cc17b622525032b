"""Gains: factors on the standard deviation of the weights before an activation, named after what each of them preserves.

With weights of variance gain^2 / fan_in, and z a standard normal number:

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
from .theory import chi_1, forward_gain, variance_map
from .theory.activations import ActivationLike

__all__ = ["activation_gain", "calculate_gain", "gradient_gain", "preactivation_gain"]

_TABLE = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0, "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2.0), "selu": 0.75,
}  # fmt: skip


@ieee
def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """PyTorch's table of gains, for compatibility; for tanh, sigmoid and selu these preserve no variance.

    Parameters
    ----------
    nonlinearity : str
        linear, conv1d .. conv_transpose3d and sigmoid: 1; tanh: 5/3; relu: sqrt(2); leaky_relu:
        sqrt(2 / (1 + param^2)); selu: 3/4.
    param : float, optional
        Negative slope of leaky_relu, finite, 0.01 by default. It is ignored for all others.

    Returns
    -------
    float, in [0, 5/3]
        The factor on the standard deviation of the weights.

    Raises
    ------
    ValueError
        If `nonlinearity` is none of these names, or the negative slope is infinite or NaN.
    TypeError
        If the negative slope is no real number.

    Examples
    --------
    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    one_of("nonlinearity", nonlinearity, (*_TABLE, "leaky_relu"))
    if nonlinearity != "leaky_relu":
        return _TABLE[nonlinearity]
    negative_slope = 0.01 if param is None else real_number("param", param)
    return math.sqrt(2 / (1 + negative_slope * negative_slope))


@ieee
def preactivation_gain(activation: ActivationLike) -> float:
    """1 / sqrt(E phi(z)^2), z ~ N(0, 1), by quadrature: pre-activations keep variance 1.

    Parameters
    ----------
    activation : str, Activation or callable
        A name that `Stack` takes, such as ``"tanh"`` or ``"leaky_relu(0.2)"``.

    Returns
    -------
    float
        The gain: weights have the standard deviation gain / sqrt(fan_in).

    Raises
    ------
    TypeError
        If `activation` is neither a str nor a function.
    ValueError
        If it names no activation, or its parameter is out of range.

    Examples
    --------
    >>> round(preactivation_gain("silu"), 4)
    1.6765
    """
    return forward_gain(activation)


@ieee
def gradient_gain(activation: ActivationLike) -> float:
    """1 / sqrt(E phi'(z)^2), z ~ N(0, 1), by quadrature: gradients keep their mean square on the way back.

    Parameters
    ----------
    activation : str, Activation or callable
        As in `preactivation_gain`, and so are the errors.

    Returns
    -------
    float
        The gain: with fan_out in place of fan_in, weights of standard deviation gain / sqrt(fan_out) keep that mean square.

    Examples
    --------
    >>> round(gradient_gain("tanh"), 4)
    1.4674
    """
    return 1 / math.sqrt(chi_1(activation, 1.0, 1.0))


@ieee
def activation_gain(activation: ActivationLike) -> float:
    """The s with E phi(s z)^2 = 1, z ~ N(0, 1), by quadrature and bisection: activations keep mean square 1.

    Parameters
    ----------
    activation : str, Activation or callable
        As in `preactivation_gain`.

    Returns
    -------
    float
        The gain.

    Raises
    ------
    TypeError, ValueError
        As in `preactivation_gain`, and if no s does it, as for tanh, whose values are below 1.

    Examples
    --------
    >>> round(activation_gain("silu"), 4)
    1.5588
    """

    def too_small(std: float) -> bool:
        return bool(variance_map(activation, std * std, 1.0) < 1)

    low, high = 0.0, 1.0
    while too_small(high):
        low, high = high, 2 * high
        if high > 1e6:
            raise ValueError(f"activation: expected one that reaches a mean square of 1, got {shown(activation)}")
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return (low + high) / 2
