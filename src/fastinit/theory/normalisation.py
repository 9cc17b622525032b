"""How gradients grow through layers with normalisation, which keeps the variances of signals whatever the weights are."""

from __future__ import annotations

import math
from typing import Any

from .._common.arithmetic import ieee
from .._common.checks import boolean
from .activations import Activation, ActivationLike, known
from .broadcast import broadcasting
from .maps import check_number, nodes_of, second_moment, slope_moment

__all__ = ["batch_norm_chi", "layer_norm_chi"]


def _variance_of_values(phi: Activation, q: float) -> float:
    """Var phi(z) / q for z ~ N(0, q)."""
    z, w = nodes_of(phi, q)
    std = math.sqrt(q)
    values = phi._values(std * z) / std
    return float(w @ (values - w @ values) ** 2)


def _growth(gradients: float, signals: float) -> float:
    return math.inf if signals == 0 else gradients / signals


@ieee
@broadcasting("weight_variance", "bias_variance")
def layer_norm_chi(
    activation: ActivationLike, weight_variance: Any = 1.0, bias_variance: Any = 0.0, *, after_activation: bool = False
) -> Any:
    """The factor on the mean square of gradients in each layer, backward, of a network with layer normalisation.

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.
    weight_variance, bias_variance : float or array_like, in (0, inf) and in [0, inf), default 1.0 and 0.0
        sigma_w^2 and sigma_b^2, of the linear layer before the normalisation or, with `after_activation`, behind it.
    after_activation : bool, default False
        Layers are phi, normalisation, linear; else they are linear, normalisation, phi.

    Returns
    -------
    float or ndarray
        sigma_w^2 E phi'(z)^2 / (sigma_w^2 E phi(z)^2 + sigma_b^2), with z ~ N(0, 1), before the activation: without biases it
        does not depend on sigma_w^2. After the activation sigma_w^2 E phi'(z)^2 / Var phi(z), with
        z ~ N(0, sigma_w^2 + sigma_b^2). inf if phi is constant.

    Raises
    ------
    TypeError, ValueError
        As in `variance_map`, and if `after_activation` is no bool.

    Notes
    -----
    Scales are 1 and shifts 0, as they begin. In wide layers the mean over units and their mean square are what they are in
    expectation, and the gradient has no part along them; this is 1 - O(1 / width).

    References
    ----------
    Ba, Kiros & Hinton, "Layer normalization" (2016); mean-field theory as of Xiao, Pennington & Schoenholz, "Disentangling
    trainability and generalization in deep neural networks" (2020).

    Examples
    --------
    >>> round(layer_norm_chi("tanh"), 3), round(layer_norm_chi("tanh", 4.0, after_activation=True), 2)
    (1.178, 1.61)
    """
    phi = known(activation)
    weight_variance = check_number("weight_variance", weight_variance, above=True)
    bias_variance = check_number("bias_variance", bias_variance)
    boolean("after_activation", after_activation)
    if after_activation:
        q = weight_variance + bias_variance
        return _growth(weight_variance / q * slope_moment(phi, q), _variance_of_values(phi, q))
    return _growth(slope_moment(phi, 1.0), second_moment(phi, 1.0) + bias_variance / weight_variance)


@ieee
def batch_norm_chi(activation: ActivationLike) -> float:
    """The factor on the mean square of gradients in each layer, backward, of a network with batch normalisation before phi.

    It is above 1 for all activations but a straight line, so that gradients explode with depth, whatever the weights are.

    Parameters
    ----------
    activation : str, Activation or callable
        See `function`.

    Returns
    -------
    float
        E phi'(z)^2 / Var phi(z), z ~ N(0, 1), for large batches of different inputs: pi / (pi - 1) for ReLU.

    Raises
    ------
    TypeError, ValueError
        As in `function`.

    Notes
    -----
    Normalisation takes away what all samples of the batch have in common, so that in deep layers they are uncorrelated. For
    batches of B samples it is another factor, of 1 + O(1 / B).

    References
    ----------
    Yang, Pennington, Rao, Sohl-Dickstein & Schoenholz, "A mean field theory of batch normalization" (2019).

    Examples
    --------
    >>> round(batch_norm_chi("relu"), 6), round(np.pi / (np.pi - 1), 6)
    (1.466942, 1.466942)
    """
    phi = known(activation)
    return _growth(slope_moment(phi, 1.0), _variance_of_values(phi, 1.0))
