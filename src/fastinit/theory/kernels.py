"""Kernels of infinitely wide networks: that of their outputs as a Gaussian process, and the neural tangent kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._common.arithmetic import ieee
from .._common.checks import no_nan, real_array, whole_number
from .activations import Activation, ActivationLike, known
from .maps import TINY_VARIANCE, Array, check_number, second_moment, slope_moment
from .pairs import both_product_means, product_mean

__all__ = ["condition_number", "nngp_kernel", "ntk_kernel"]

_MOST_INPUTS = 64  # of which 2016 pairs take half a second in each layer, or a few with kinks off 0


@ieee
def nngp_kernel(
    x: Any, depth: int, activation: ActivationLike, weight_variance: float, bias_variance: float = 0.0
) -> Array:
    """Covariance of a wide random network's outputs for several inputs: with all layers wide it is a Gaussian process.

    Parameters
    ----------
    x : array_like of shape (n, n_0)
        At most 64 inputs.
    depth : int, >= 1
        L, of linear layers: there are L - 1 activations between them, and none after the last.
    activation : str, Activation or callable
        See `function`.
    weight_variance, bias_variance : float, in [0, inf)
        sigma_w^2, which is fan_in times the variance of a weight, and sigma_b^2, of all layers.

    Returns
    -------
    ndarray of shape (n, n), float64
        K_L, with K_1 = sigma_w^2 x x^T / n_0 + sigma_b^2 and K_{l+1} = sigma_w^2 E phi(u) phi(v) + sigma_b^2, where u and v
        are normal with the covariance that K_l has of two inputs.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range, `x` is of another shape, or it has a number that is not finite.

    References
    ----------
    Lee, Bahri, Novak, Schoenholz, Pennington & Sohl-Dickstein, "Deep neural networks as Gaussian processes" (2018); for ReLU
    Cho & Saul, "Kernel methods for deep learning" (2009).

    Examples
    --------
    >>> nngp_kernel(np.eye(2), 2, "relu", 2.0).round(6).tolist()
    [[1.0, 0.31831], [0.31831, 1.0]]
    """
    return _kernels(x, depth, activation, weight_variance, bias_variance, tangent=False)[0]


@ieee
def ntk_kernel(
    x: Any, depth: int, activation: ActivationLike, weight_variance: float, bias_variance: float = 0.0
) -> Array:
    """The neural tangent kernel of a wide network: inner products of the gradients of an output for several inputs.

    Parameters
    ----------
    x, depth, activation, weight_variance, bias_variance
        As in `nngp_kernel`.

    Returns
    -------
    ndarray of shape (n, n), float64
        Theta_L, with Theta_1 = K_1 and Theta_{l+1} = K_{l+1} + Theta_l sigma_w^2 E phi'(u) phi'(v), elementwise. Gradients are
        with respect to standard normals, of which sigma_w / sqrt(fan_in) and sigma_b make weights and biases: the squared
        gradient of a weight of a `Stack` counts sigma_w^2 / fan_in times, and that of a bias sigma_b^2 times.

    Raises
    ------
    TypeError, ValueError
        As in `nngp_kernel`.

    References
    ----------
    Jacot, Gabriel & Hongler, "Neural tangent kernel: convergence and generalization in neural networks" (2018).

    Examples
    --------
    >>> ntk_kernel(np.eye(2), 2, "relu", 2.0).round(6).tolist()
    [[2.0, 0.31831], [0.31831, 2.0]]
    """
    return _kernels(x, depth, activation, weight_variance, bias_variance, tangent=True)[1]


def _kernels(
    x: Any, depth: Any, activation: ActivationLike, weight_variance: Any, bias_variance: Any, *, tangent: bool
) -> tuple[Array, Array]:
    """K_L, and Theta_L where it is wanted."""
    inputs = real_array("x", x)
    if inputs.ndim != 2 or not 1 <= len(inputs) <= _MOST_INPUTS or inputs.shape[1] == 0:
        raise ValueError(f"x: expected shape (n, n_0) with 1 to {_MOST_INPUTS} inputs of one number or more, got {inputs.shape}")
    no_nan("x", inputs)
    if not np.isfinite(inputs).all():
        raise ValueError("x: expected finite numbers, got inf")
    depth = whole_number("depth", depth, most=1 << 24)
    phi = known(activation)
    weight_variance = check_number("weight_variance", weight_variance)
    bias_variance = check_number("bias_variance", bias_variance)
    with np.errstate(over="ignore", invalid="ignore"):
        rows = inputs.astype(np.float64) / math.sqrt(inputs.shape[1])
        kernel = theta = weight_variance * (rows @ rows.T) + bias_variance
        for _ in range(depth - 1):
            if not np.isfinite(kernel).all():
                break
            means, slopes = _layer(phi, kernel, tangent=tangent)
            kernel = weight_variance * means + bias_variance
            if tangent:
                theta = kernel + theta * (weight_variance * slopes)
    if not (np.isfinite(kernel).all() and np.isfinite(theta).all()):
        raise ValueError(f"weight_variance: expected one with a finite kernel, got {weight_variance}, with which it overflows")
    return kernel, theta


def _layer(phi: Activation, kernel: Array, *, tangent: bool) -> tuple[Array, Array]:
    """E phi(u) phi(v) and, where it is wanted, E phi'(u) phi'(v), for all pairs of inputs."""
    variances = np.maximum(np.diagonal(kernel), TINY_VARIANCE)
    first, second = np.triu_indices(len(kernel), 1)
    correlations = kernel[first, second] / np.sqrt(variances[first]) / np.sqrt(variances[second])
    pairs = phi, np.clip(1 - correlations, 0.0, 2.0), variances[first], variances[second]
    mean_of_pairs = both_product_means(*pairs) if tangent else (product_mean(*pairs),)
    found = []
    for of_pairs, of_one in zip(mean_of_pairs, (second_moment, slope_moment), strict=False):
        means = np.empty_like(kernel)
        means[first, second] = means[second, first] = of_pairs
        np.fill_diagonal(means, [of_one(phi, q) for q in variances.tolist()])
        found.append(means)
    return found[0], found[-1]


@ieee
def condition_number(kernel: Any) -> float:
    """The ratio of a kernel's largest to its smallest eigenvalue: how unevenly fast a network's outputs can be trained.

    Parameters
    ----------
    kernel : array_like of shape (n, n)
        Symmetric and positive semidefinite, such as `ntk_kernel` gives.

    Returns
    -------
    float, in [1, inf]
        inf if the smallest eigenvalue is at most n rounding errors of the largest.

    Raises
    ------
    TypeError, ValueError
        If `kernel` is no array of real, finite numbers, or not symmetric.

    References
    ----------
    Xiao, Pennington & Schoenholz, "Disentangling trainability and generalization in deep neural networks" (2020).

    Examples
    --------
    >>> round(condition_number([[2.0, 1.0], [1.0, 2.0]]), 12)
    3.0
    """
    with np.errstate(over="ignore"):
        array = real_array("kernel", kernel).astype(np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise ValueError(f"kernel: expected shape (n, n), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("kernel: expected finite numbers, got inf or nan")
    largest = np.abs(array).max()
    if np.abs(array - array.T).max() > 1e-6 * largest:
        raise ValueError(f"kernel: expected a symmetric array, got one that differs from its transpose by up to {largest:g}")
    if largest == 0:
        return math.inf
    eigenvalues = np.linalg.eigvalsh((array + array.T) / (2 * largest))
    least, most = float(eigenvalues[0]), float(eigenvalues[-1])
    return most / least if least > len(array) * 2.3e-16 * most else math.inf
