"""What blocks x + alpha f(x) do to signals and gradients: second moments, with the means that branches add up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .._common.arithmetic import ieee
from .._common.checks import boolean, real_number, whole_number
from .activations import Activation, ActivationLike, known
from .maps import Array, check_number, nodes_of, second_moment, slope_moment

__all__ = ["ResidualProfile", "residual_profile"]

_FAR_LOG = 600.0  # ln of second moments beyond which, on both sides, growth is taken to be what it is here
_MOST = 1e300  # of a variance within a branch


@dataclass(frozen=True, eq=False)
class ResidualProfile:
    """Theory of a stack of N residual blocks, at their ends: element 0 of arrays of shape (N + 1,) is the input.

    Attributes
    ----------
    second_moments : ndarray of shape (N + 1,)
        Mean square of the stream's numbers.
    means : ndarray of shape (N + 1,)
        Their mean: that of branches which end in an activation of one sign adds up from block to block.
    chi : ndarray of shape (N,)
        The factor on the mean square of gradients in each block, backward.
    forward : ndarray of shape (N + 1,)
        ln of the second moment relative to the input's.
    backward : ndarray of shape (N + 1,)
        ln of the mean square of gradients relative to the output's.
    """

    second_moments: Array
    means: Array
    chi: Array
    forward: Array
    backward: Array


def _mean_value(phi: Activation, q: float) -> float:
    """E phi(z) for z ~ N(0, q)."""
    if phi._leak is not None:
        return math.sqrt(q / (2 * math.pi)) * (1 - phi._leak)
    z, w = nodes_of(phi, q)
    return float(w @ phi._values(math.sqrt(q) * z))


@ieee
def residual_profile(
    blocks: int,
    activation: ActivationLike,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    alpha: float = 1.0,
    branch_layers: int = 2,
    linear_end: bool = False,
    second_moment_of_input: float = 1.0,
    mean_of_input: float = 0.0,
) -> ResidualProfile:
    """What residual blocks x + alpha f(x) do to the second moment of signals and of gradients.

    Parameters
    ----------
    blocks : int, >= 1
        N.
    activation : str, Activation or callable
        See `function`.
    weight_variance, bias_variance : float, in [0, inf)
        sigma_w^2 and sigma_b^2 of a branch's layers.
    alpha : float, in [-1e50, 1e50], default 1.0
        Weight of the branches.
    branch_layers : int, >= 1, default 2
        Layers of a branch f; each is linear, then phi.
    linear_end : bool, default False
        The last layer of a branch has no activation: then branches have no mean, and do not add up coherently.
    second_moment_of_input : float, in (0, inf), default 1.0
    mean_of_input : float, finite, default 0.0
        Mean square and mean of the input's numbers; the mean's square is at most the mean square.

    Returns
    -------
    ResidualProfile

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range.

    Notes
    -----
    A branch b is independent of the stream x, given what both are functions of, so that the second moment p and the
    mean m become p + alpha^2 E b^2 + 2 alpha m E b and m + alpha E b. Gradients grow by 1 + alpha^2 times the product of the
    branch's chi. The usual rule (1 + alpha^2)^N leaves means out: of 24 blocks of He's layers with alpha^2 = 1/24 it gives
    0.98 in ln, where ReLU has 4.34. At a finite width the gradient's part along the stream grows as the stream does, which adds
    about e^forward / width.

    References
    ----------
    Yang & Schoenholz, "Mean field residual networks: on the edge of chaos" (2017), for antisymmetric activations.

    Examples
    --------
    >>> he = residual_profile(24, "relu", 2.0, alpha=24**-0.5)
    >>> round(float(he.forward[-1]), 2), round(float(he.backward[0]), 2)
    (4.34, 0.98)
    """
    blocks = whole_number("blocks", blocks, most=1 << 24)
    phi = known(activation)
    weight_variance = check_number("weight_variance", weight_variance)
    bias_variance = check_number("bias_variance", bias_variance)
    alpha = check_number("alpha", alpha, -1e50, 1e50)
    layers = whole_number("branch_layers", branch_layers, most=1 << 24)
    boolean("linear_end", linear_end)
    p = check_number("second_moment_of_input", second_moment_of_input, above=True)
    mean = real_number("mean_of_input", mean_of_input)
    if mean * mean > p:
        raise ValueError(f"mean_of_input: expected one whose square is at most the second moment {p}, got {mean}")

    log_p, change, share = math.log(p), 0.0, mean / math.sqrt(p)  # the share of the mean in the root mean square
    rows, chis = [(change, share)], []
    for _ in range(blocks):
        near = math.exp(min(max(log_p + change, -_FAR_LOG), _FAR_LOG))
        square, branch_mean, chi = _branch(phi, near, weight_variance, bias_variance, layers, linear_end)
        added = alpha * branch_mean / math.sqrt(near)
        ratio = 1 + alpha * (alpha * (square / near)) + 2 * added * share
        chis.append(1 + alpha * (alpha * chi))
        change += math.log(ratio) if ratio > 0 else -math.inf  # a constant branch may cancel a constant stream
        share = (share + added) / math.sqrt(ratio) if ratio > 0 else 0.0
        rows.append((change, share))
    forward, shares = np.array(rows).T
    chi_of_blocks = np.array(chis)
    with np.errstate(over="ignore"):
        moments = np.exp(log_p + forward)
        means = shares * np.minimum(np.exp((log_p + forward) / 2), _MOST)
    moments[0], means[0] = p, mean
    backward = np.append(np.cumsum(np.log(chi_of_blocks)[::-1])[::-1], 0.0)
    return ResidualProfile(moments, means, chi_of_blocks, forward, backward)


def _branch(
    phi: Activation, p: float, weight_variance: float, bias_variance: float, layers: int, linear_end: bool
) -> tuple[float, float, float]:
    """E b^2, E b and the product of chi of a branch b whose input has the second moment p."""
    square, mean, chi = p, 0.0, 1.0
    for i in range(layers):
        q = min(weight_variance * square + bias_variance, _MOST)
        if linear_end and i == layers - 1:
            return q, 0.0, chi * weight_variance
        square, mean = second_moment(phi, q), _mean_value(phi, q)
        chi *= weight_variance * slope_moment(phi, q)
    return square, mean, chi
