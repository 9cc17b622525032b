"""Residual policies: how the branches of a deep residual network begin, as functions of its depth.

A branch adds f(x) to x. Each function here returns a `ResidualPolicy`: factors on the standard deviations of the branch's
weights, which `ResidualPolicy.initializer` applies, and the numbers that the forward pass multiplies with.

May import: _common, initializers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ._common.arithmetic import ieee
from ._common.checks import boolean, real_number, whole_number
from ._common.portable_math import exp, log
from .initializers import Times, Zeros, get

__all__ = [
    "ResidualPolicy", "complete_p", "deepnorm_decoder", "deepnorm_encoder", "deepnorm_encoder_decoder", "depth_mup", "fixup",
    "gpt2", "layer_scale", "rezero", "skip_init", "t_fixup", "zero_last",
]  # fmt: skip


@dataclass(frozen=True)
@ieee
class ResidualPolicy:
    """x -> skip * x + gate * f(x), and the factors on the weights inside f.

    Parameters
    ----------
    weights : float, finite, default 1.0
        Factor on the standard deviation of the branch's weights but the last.
    last : float, finite, default 1.0
        Factor on the standard deviation of its last layer; 0 is a layer of zeros.
    gate : float, finite, default 1.0
        What multiplies the branch; the start of a parameter if `trained`.
    skip : float, finite, default 1.0
        What multiplies the skip connection, before normalisation where there is one.
    trained : bool, default False
        The gate is a parameter.

    Attributes
    ----------
    weights, last, gate, skip, trained
        The parameters above.

    Raises
    ------
    TypeError
        If one of the four numbers is no real number, or `trained` is no bool.
    ValueError
        If one of the four numbers is infinite or NaN.
    """

    weights: float = 1.0
    last: float = 1.0
    gate: float = 1.0
    skip: float = 1.0
    trained: bool = False

    def __post_init__(self) -> None:
        for name in ("weights", "last", "gate", "skip"):
            object.__setattr__(self, name, real_number(name, getattr(self, name)))
        boolean("trained", self.trained)

    def initializer(self, base: Any, *, last: bool = False) -> Any:
        """The initializer of a branch's weights, or of its last layer: `base` (anything `fastinit.get` takes)
        with the factor.

        Parameters
        ----------
        base : initializer or str
            What the weights would be drawn from outside a residual branch.
            It is not looked at where the factor is 0.
        last : bool, default False
            Whether the branch's last layer is meant,
            whose factor is the attribute `last`; else it is `weights`.

        Returns
        -------
        Initializer
            `Zeros` for a factor of 0, the initializer that `base` means for a factor of 1, and
            else `Times` of `base` and the factor.

        Raises
        ------
        TypeError
            If `last` is no bool.
        ValueError, TypeError
            As for `fastinit.get`, if `base` is no initializer.

        Examples
        --------
        >>> gpt2(layers=2).initializer("he_normal", last=True)
        Times(initializer=HeNormal(), factor=0.5)
        """
        boolean("last", last)
        factor = self.last if last else self.weights
        if factor == 0:
            return Zeros()
        return get(base) if factor == 1 else Times(base, factor)


def _root(n: float, power: int) -> float:
    """n^(-1 / 2^power), by square roots."""
    for _ in range(power):
        n = math.sqrt(n)
    return 1 / n


@ieee
def fixup(branches: int, layers: int = 2) -> ResidualPolicy:
    """Fixup: branch weights by branches^(-1 / (2 layers - 2)), the last layer zero; for He's initialization.

    Without normalisation.

    Scalar biases of 0 before every layer and a scalar multiplier of 1 at the branch's end are a part of it, and a classifier
    of zeros. Zhang, Dauphin & Ma, "Fixup initialization: residual learning without normalization" (2019).

    Parameters
    ----------
    branches : int, in [1, 2**63)
        In the whole network.
    layers : int, in [2, 2**63), default 2
        In one branch.

    Returns
    -------
    ResidualPolicy
        `weights` is the factor, `last` is 0, and the gate is trained, from 1.

    Raises
    ------
    TypeError
        If `branches` or `layers` is no int.
    ValueError
        If one of them is outside its interval.

    Examples
    --------
    >>> fixup(16).weights
    0.25
    """
    power = -1 / (2 * whole_number("layers", layers, least=2) - 2)
    factor = float(exp(power * log(whole_number("branches", branches))))
    return ResidualPolicy(weights=factor, last=0.0, trained=True)


@ieee
def t_fixup(layers: int, *, decoder: bool = False) -> ResidualPolicy:
    """T-Fixup: 0.67 layers^(-1/4) in an encoder, (9 layers)^(-1/4) in a decoder, on Glorot's; without normalisation and warm-up.

    Scales value and output projections of attention and both matrices of the feed-forward block (query and key stay); embeddings
    are N(0, 1 / width), scaled alike. Huang, Pérez, Ba & Volkovs, "Improving transformer optimization through
    better initialization" (2020).

    Parameters
    ----------
    layers : int, in [1, 2**63)
        Layers of the encoder, or of the decoder.
    decoder : bool, default False
        Whether the factor is that of a decoder.

    Returns
    -------
    ResidualPolicy
        Both `weights` and `last` are the factor.

    Raises
    ------
    TypeError
        If `layers` is no int, or `decoder` is no bool.
    ValueError
        If `layers` is outside its interval.

    Examples
    --------
    >>> t_fixup(16).weights
    0.335
    """
    n = whole_number("layers", layers)
    boolean("decoder", decoder)
    factor = _root(9 * n, 2) if decoder else 0.67 * _root(n, 2)
    return ResidualPolicy(weights=factor, last=factor)


def _deepnorm(alpha: float, beta: float) -> ResidualPolicy:
    return ResidualPolicy(weights=beta, last=beta, skip=alpha)


@ieee
def deepnorm_encoder(layers: int) -> ResidualPolicy:
    """DeepNorm, one stack alone: x -> LN(alpha x + f(x)), alpha = (2 layers)^(1/4); weights by (8 layers)^(-1/4).

    Scales value and output projections and the feed-forward block, on Glorot's. Wang et al., "DeepNet: scaling transformers
    to 1,000 layers" (2022). `deepnorm_decoder` is the same function.

    Parameters
    ----------
    layers : int, in [1, 2**63)
        Layers of the encoder, or of the decoder, where it is the only stack.

    Returns
    -------
    ResidualPolicy
        `skip` is alpha; both `weights` and `last` are the factor on the weights.

    Raises
    ------
    TypeError
        If `layers` is no int.
    ValueError
        If it is outside its interval.

    Examples
    --------
    >>> deepnorm_encoder(8).skip
    2.0
    """
    n = whole_number("layers", layers)
    return _deepnorm(1 / _root(2 * n, 2), _root(8 * n, 2))


deepnorm_decoder = deepnorm_encoder


@ieee
def deepnorm_encoder_decoder(encoder: int, decoder: int) -> tuple[ResidualPolicy, ResidualPolicy]:
    """DeepNorm of both stacks together, N = `encoder` and M = `decoder` layers: the encoder's policy and the decoder's.

    alpha = 0.81 (N^4 M)^(1/16) and beta = 0.87 (N^4 M)^(-1/16); decoder (3 M)^(1/4) and (12 M)^(-1/4). Wang et al. (2022).

    Parameters
    ----------
    encoder, decoder : int, in [1, 2**63)
        Layers of either stack.

    Returns
    -------
    tuple of two ResidualPolicy
        The encoder's and the decoder's; in each, `skip` is alpha, and both `weights` and `last` are beta.

    Raises
    ------
    TypeError
        If `encoder` or `decoder` is no int.
    ValueError
        If one of them is outside its interval.
    """
    n, m = whole_number("encoder", encoder), whole_number("decoder", decoder)
    root = _root(float(n) ** 4 * m, 4)
    return _deepnorm(0.81 / root, 0.87 * root), _deepnorm(1 / _root(3 * m, 2), _root(12 * m, 2))


def rezero() -> ResidualPolicy:
    """ReZero: a trained gate that starts at 0. Bachlechner et al., "ReZero is all you need" (2021).

    Returns
    -------
    ResidualPolicy
        `gate` is 0 and trained; the weights are as without a policy.
    """
    return ResidualPolicy(gate=0.0, trained=True)


def skip_init() -> ResidualPolicy:
    """SkipInit: a trained scalar of 0 at the end of each branch, no normalisation.

    De & Smith, "Batch normalization biases residual blocks towards the identity function in deep networks" (2020).

    Returns
    -------
    ResidualPolicy
        `gate` is 0 and trained; the weights are as without a policy.
    """
    return ResidualPolicy(gate=0.0, trained=True)


def layer_scale(layers: int) -> ResidualPolicy:
    """LayerScale: a trained gate for each channel, 0.1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond.

    Touvron et al., "Going deeper with image transformers" (2021).

    Parameters
    ----------
    layers : int, in [1, 2**63)
        Layers of the whole network.

    Returns
    -------
    ResidualPolicy
        `gate` is trained, and its number is the start of every channel's.

    Raises
    ------
    TypeError
        If `layers` is no int.
    ValueError
        If it is outside its interval.

    Examples
    --------
    >>> layer_scale(24).gate
    1e-05
    """
    n = whole_number("layers", layers)
    return ResidualPolicy(gate=0.1 if n <= 18 else 1e-5 if n <= 24 else 1e-6, trained=True)


def zero_last() -> ResidualPolicy:
    """The last layer (or the last normalisation's scale) of every branch zero, so that each block begins as the identity.

    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour" (2017).

    Returns
    -------
    ResidualPolicy
        `last` is 0, and nothing else differs from a plain branch.
    """
    return ResidualPolicy(last=0.0)


@ieee
def gpt2(layers: int, branches_per_layer: int = 2) -> ResidualPolicy:
    """The last layer of each branch by 1 / sqrt(branches): Radford et al. (GPT-2, 2019).

    See also `ResidualNormal`.

    Parameters
    ----------
    layers : int, in [1, 2**63)
        Layers of the whole network.
    branches_per_layer : int, in [1, 2**63), default 2
        Residual branches in one layer, such as attention and feed-forward block;
        there are `layers` times as many in all.

    Returns
    -------
    ResidualPolicy
        `last` is the factor.

    Raises
    ------
    TypeError
        If `layers` or `branches_per_layer` is no int.
    ValueError
        If one of them is outside its interval.

    Examples
    --------
    >>> gpt2(layers=8).last
    0.25
    """
    branches = whole_number("layers", layers) * whole_number("branches_per_layer", branches_per_layer)
    return ResidualPolicy(last=_root(branches, 1))


@ieee
def depth_mup(branches: int) -> ResidualPolicy:
    """Branches times branches^(-1/2): Yang, Yu, Zhu & Hayou,
    "Feature learning in infinite-depth neural networks" (2024).

    Parameters
    ----------
    branches : int, in [1, 2**63)
        In the whole network.

    Returns
    -------
    ResidualPolicy
        `gate` is the factor, a constant.

    Raises
    ------
    TypeError
        If `branches` is no int.
    ValueError
        If it is outside its interval.

    Examples
    --------
    >>> depth_mup(4).gate
    0.5
    """
    return ResidualPolicy(gate=_root(whole_number("branches", branches), 1))


@ieee
def complete_p(branches: int) -> ResidualPolicy:
    """Branches times 1 / branches: Dey et al.,
    "Don't be lazy: CompleteP enables compute-efficient deep transformers" (2025).

    Parameters
    ----------
    branches : int, in [1, 2**63)
        In the whole network.

    Returns
    -------
    ResidualPolicy
        `gate` is the factor, a constant.

    Raises
    ------
    TypeError
        If `branches` is no int.
    ValueError
        If it is outside its interval.

    Examples
    --------
    >>> complete_p(4).gate
    0.25
    """
    return ResidualPolicy(gate=1 / whole_number("branches", branches))
