"""Singular values of the Jacobian from input to output: their first moments in wide networks, and those of a given stack."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.arithmetic import ieee
from .._common.checks import boolean, real_array, whole_number
from .activations import ActivationLike, known
from .maps import Array, check_number
from .profile import layer_means

__all__ = ["jacobian_moments", "jacobian_singular_values"]


@ieee
def jacobian_moments(
    depth: int,
    activation: ActivationLike,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    q: float = 1.0,
    orthogonal: bool = False,
) -> tuple[float, float]:
    """Mean and variance of the squared singular values of a wide network's Jacobian, over one network's singular values.

    Parameters
    ----------
    depth : int, >= 1
        L, of layers with as many inputs as outputs.
    activation : str, Activation or callable
        See `function`; that of the last layer, too, is a part of the Jacobian.
    weight_variance, bias_variance : float, in [0, inf)
        sigma_w^2 and sigma_b^2.
    q : float, in (0, inf), default 1.0
        Variance of the first layer's pre-activations.
    orthogonal : bool, default False
        Weights are sigma_w times a random orthogonal matrix, instead of independent normals.

    Returns
    -------
    mean : float
        E s^2: the product of the layers' chi_1.
    variance : float
        Var s^2 = (E s^2)^2 times the sum, over layers, of mu_2 / mu_1^2 - 1 - s_1, with mu_k = E phi'^(2k), and s_1 = -1 for
        normal and 0 for orthogonal weights. Only with orthogonal weights, and slopes that are nearly all one, is it
        bounded in deep networks: dynamical isometry.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range.

    References
    ----------
    Pennington, Schoenholz & Ganguli, "Resurrecting the sigmoid in deep learning through dynamical isometry" (2017).

    Examples
    --------
    >>> jacobian_moments(10, "linear", 1.0), jacobian_moments(10, "linear", 1.0, orthogonal=True)
    ((1.0, 10.0), (1.0, 0.0))
    """
    depth = whole_number("depth", depth, most=1 << 24)
    phi = known(activation)
    weight_variance = check_number("weight_variance", weight_variance)
    bias_variance = check_number("bias_variance", bias_variance)
    q = check_number("q", q, above=True)
    boolean("orthogonal", orthogonal)
    mean, spread = 1.0, 0.0
    for _, _, m in layer_means(phi, depth, weight_variance, bias_variance, q, spread=True):
        mean *= weight_variance * m.slope
        spread += m.slope_4 - 1 + (not orthogonal)
    return mean, (mean * (mean * spread) if mean > 0 else 0.0)


@ieee
def jacobian_singular_values(stack: Any, x: Any) -> Array:
    """Singular values of the Jacobian of a stack's output with respect to its input, at one input.

    Parameters
    ----------
    stack : Stack
        Not virtual. Its width at the output is the batch of the pass that this takes.
    x : array_like of shape (n_0,)
        The input.

    Returns
    -------
    ndarray of shape (min(n_0, n_L),), float64
        From the largest to the smallest.

    Raises
    ------
    TypeError, ValueError
        If `stack` is no stack or a virtual one, `x` is of another shape, or the Jacobian is not finite.

    Examples
    --------
    >>> square = fastinit.Stack((3, 3), "linear", weights=[2 * np.eye(3)])
    >>> jacobian_singular_values(square, np.ones(3)).tolist()
    [2.0, 2.0, 2.0]
    """
    if not hasattr(stack, "record") or not hasattr(stack, "widths"):
        raise TypeError(f"stack: expected a fastinit.Stack, got {type(stack).__name__}")
    row = real_array("x", x)
    if row.shape != (stack.widths[0],):
        raise ValueError(f"x: expected shape ({stack.widths[0]},), got {row.shape}")
    outputs = stack.widths[-1]
    # One sample as often as there are outputs, and the gradient of one output for each.
    jacobian = stack.record(np.repeat(row[None], outputs, axis=0)).backward(np.eye(outputs)).input.astype(np.float64)
    if not np.isfinite(jacobian).all():
        raise ValueError("stack: expected one with a finite Jacobian, got one that overflows")
    values: Array = np.linalg.svd(jacobian, compute_uv=False)
    return values
