"""Residual policies: how the branches of a deep residual network are initialised, as functions of its depth.

A branch adds f(x) to x. Each function here returns a `ResidualPolicy`: factors on the standard deviations of the branch's
weights, which `ResidualPolicy.initializer` applies, and factors that the network's forward pass applies.

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
    """x -> skip * x + gate * f(x), and the factors on the weights inside the branch f.

    Parameters
    ----------
    weights : float, finite, default 1.0
        Factor on the standard deviation of the branch's weights, those of its last layer excepted.
    last : float, finite, default 1.0
        Factor on the standard deviation of its last layer's weights; 0 makes them zero.
    gate : float, finite, default 1.0
        Factor on the branch; the initial value of a parameter if `trained`.
    skip : float, finite, default 1.0
        Factor on the skip connection, before normalisation where there is one.
    trained : bool, default False
        Whether the gate is a trained parameter.

    Attributes
    ----------
    weights, last, gate, skip, trained
        The parameters above.

    Raises
    ------
    TypeError
        If one of the four factors is no real number, or `trained` is no bool.
    ValueError
        If one of the four factors is infinite or NaN.

    Examples
    --------
    >>> ResidualPolicy(gate=0.0, trained=True)
    ResidualPolicy(weights=1.0, last=1.0, gate=0.0, skip=1.0, trained=True)
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
        """The initializer of a branch's weights: `base` with this policy's factor.

        Parameters
        ----------
        base : initializer or str
            Anything that `fastinit.get` takes: the initializer of the weights outside a residual branch. It is not
            looked at where the factor is 0.
        last : bool, default False
            Whether the weights are those of the branch's last layer, whose factor is the attribute `last`; the factor of the
            others is `weights`.

        Returns
        -------
        Initializer
            `Zeros` for a factor of 0, `fastinit.get` of `base` for a factor of 1, and otherwise `Times` of `base` and the factor.

        Raises
        ------
        TypeError
            If `last` is no bool.
        ValueError, TypeError
            As in `fastinit.get`, if `base` is no initializer.

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


def _inverse_root(n: float, halvings: int) -> float:
    """n^(-1 / 2^halvings), by square roots alone, which are rounded alike on every machine."""
    for _ in range(halvings):
        n = math.sqrt(n)
    return 1 / n


@ieee
def fixup(branches: int, layers: int = 2) -> ResidualPolicy:
    """Fixup: weights scaled by branches^(-1 / (2 layers - 2)), the last layer zero; for He's, without normalisation.

    It also needs scalar biases of 0 before every layer, a trained scalar factor of 1 at the end of each branch, and a
    classifier of zeros. Zhang, Dauphin & Ma, "Fixup initialization: residual learning without normalization" (2019).

    Parameters
    ----------
    branches : int, in [1, 2**63)
        Residual branches in the whole network.
    layers : int, in [2, 2**63), default 2
        Layers in one branch.

    Returns
    -------
    ResidualPolicy
        `weights` is the factor, `last` is 0, and `gate` is a trained parameter that starts at 1.

    Raises
    ------
    TypeError
        If an argument is no int.
    ValueError
        If an argument is out of range.

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
    """T-Fixup: 0.67 layers^(-1/4) in an encoder, (9 layers)^(-1/4) in a decoder; for Glorot's, without normalisation or warm-up.

    The factor is for the value and output projections of attention and both matrices of the feed-forward block; query and key
    projections keep theirs. Embeddings are N(0, 1 / width) times the same factor. Huang, Pérez, Ba & Volkovs, "Improving
    transformer optimization through better initialization" (2020).

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
        If `layers` is out of range.

    Examples
    --------
    >>> t_fixup(16).weights
    0.335
    """
    n = whole_number("layers", layers)
    boolean("decoder", decoder)
    factor = _inverse_root(9 * n, 2) if decoder else 0.67 * _inverse_root(n, 2)
    return ResidualPolicy(weights=factor, last=factor)


def _deepnorm(alpha: float, beta: float) -> ResidualPolicy:
    return ResidualPolicy(weights=beta, last=beta, skip=alpha)


@ieee
def deepnorm_encoder(layers: int) -> ResidualPolicy:
    """DeepNorm for an encoder or a decoder alone: x -> LN(alpha x + f(x)), alpha = (2 layers)^(1/4), beta = (8 layers)^(-1/4).

    beta is the factor on Glorot's initialization of the value and output projections and of the feed-forward block. Wang et
    al., "DeepNet: scaling transformers to 1,000 layers" (2022). `deepnorm_decoder` is the same function.

    Parameters
    ----------
    layers : int, in [1, 2**63)
        Layers of the encoder, or of the decoder.

    Returns
    -------
    ResidualPolicy
        `skip` is alpha; both `weights` and `last` are beta.

    Raises
    ------
    TypeError
        If `layers` is no int.
    ValueError
        If `layers` is out of range.

    Examples
    --------
    >>> deepnorm_encoder(8).skip
    2.0
    """
    n = whole_number("layers", layers)
    return _deepnorm(1 / _inverse_root(2 * n, 2), _inverse_root(8 * n, 2))


deepnorm_decoder = deepnorm_encoder


@ieee
def deepnorm_encoder_decoder(encoder: int, decoder: int) -> tuple[ResidualPolicy, ResidualPolicy]:
    """DeepNorm for an encoder of N layers with a decoder of M layers: Wang et al. (2022), see `deepnorm_encoder`.

    In the encoder alpha = 0.81 (N^4 M)^(1/16) and beta = 0.87 (N^4 M)^(-1/16), in the decoder (3 M)^(1/4) and (12 M)^(-1/4).

    Parameters
    ----------
    encoder, decoder : int, in [1, 2**63)
        N and M.

    Returns
    -------
    encoder_policy, decoder_policy : ResidualPolicy
        In each, `skip` is alpha, and both `weights` and `last` are beta.

    Raises
    ------
    TypeError
        If an argument is no int.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> deepnorm_encoder_decoder(12, 27)[1].skip
    3.0
    """
    n, m = whole_number("encoder", encoder), whole_number("decoder", decoder)
    inverse_root = _inverse_root(float(n) ** 4 * m, 4)
    return (
        _deepnorm(0.81 / inverse_root, 0.87 * inverse_root),
        _deepnorm(1 / _inverse_root(3 * m, 2), _inverse_root(12 * m, 2)),
    )


def rezero() -> ResidualPolicy:
    """ReZero: the branch times a trained gate that starts at 0. Bachlechner et al., "ReZero is all you need" (2021).

    Returns
    -------
    ResidualPolicy
        `gate` is a trained parameter that starts at 0; the weights keep their initializer.

    Examples
    --------
    >>> rezero().gate
    0.0
    """
    return ResidualPolicy(gate=0.0, trained=True)


def skip_init() -> ResidualPolicy:
    """SkipInit: the branch times a trained scalar that starts at 0, without normalisation.

    De & Smith, "Batch normalization biases residual blocks towards the identity function in deep networks" (2020).

    Returns
    -------
    ResidualPolicy
        As in `rezero`.

    Examples
    --------
    >>> skip_init() == rezero()
    True
    """
    return rezero()


def layer_scale(layers: int) -> ResidualPolicy:
    """LayerScale: a trained gate for each channel, which starts at 0.1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond.

    Touvron et al., "Going deeper with image transformers" (2021).

    Parameters
    ----------
    layers : int, in [1, 2**63)
        Layers of the whole network.

    Returns
    -------
    ResidualPolicy
        `gate` is trained, and its number is where every channel's gate starts.

    Raises
    ------
    TypeError
        If `layers` is no int.
    ValueError
        If `layers` is out of range.

    Examples
    --------
    >>> layer_scale(24).gate
    1e-05
    """
    n = whole_number("layers", layers)
    return ResidualPolicy(gate=0.1 if n <= 18 else 1e-5 if n <= 24 else 1e-6, trained=True)


def zero_last() -> ResidualPolicy:
    """The last layer (or the last normalisation's scale) of every branch zero, so that each block starts as the identity.

    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour" (2017).

    Returns
    -------
    ResidualPolicy
        `last` is 0, and the rest as without a policy.

    Examples
    --------
    >>> zero_last().initializer("he_normal", last=True)
    Zeros()
    """
    return ResidualPolicy(last=0.0)


@ieee
def gpt2(layers: int, branches_per_layer: int = 2) -> ResidualPolicy:
    """The last layer of each branch scaled by 1 / sqrt(number of branches).

    Radford et al., "Language models are unsupervised multitask learners" (GPT-2, 2019). `ResidualNormal` is the same
    with GPT-2's own standard deviation.

    Parameters
    ----------
    layers : int, in [1, 2**63)
        Layers of the whole network.
    branches_per_layer : int, in [1, 2**63), default 2
        Residual branches in one layer, such as attention and the feed-forward block.

    Returns
    -------
    ResidualPolicy
        `last` is the factor.

    Raises
    ------
    TypeError
        If an argument is no int.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> gpt2(layers=8).last
    0.25
    """
    branches = whole_number("layers", layers) * whole_number("branches_per_layer", branches_per_layer)
    return ResidualPolicy(last=_inverse_root(branches, 1))


@ieee
def depth_mup(branches: int) -> ResidualPolicy:
    """Depth-µP: every branch times 1 / sqrt(branches).

    Yang, Yu, Zhu & Hayou, "Feature learning in infinite-depth neural networks" (2024).

    Parameters
    ----------
    branches : int, in [1, 2**63)
        Residual branches in the whole network.

    Returns
    -------
    ResidualPolicy
        `gate` is the factor, which is not trained.

    Raises
    ------
    TypeError
        If `branches` is no int.
    ValueError
        If `branches` is out of range.

    Examples
    --------
    >>> depth_mup(4).gate
    0.5
    """
    return ResidualPolicy(gate=_inverse_root(whole_number("branches", branches), 1))


@ieee
def complete_p(branches: int) -> ResidualPolicy:
    """CompleteP: every branch times 1 / branches.

    Dey et al., "Don't be lazy: CompleteP enables compute-efficient deep transformers" (2025).

    Parameters
    ----------
    branches : int, in [1, 2**63)
        As in `depth_mup`.

    Returns
    -------
    ResidualPolicy
        As in `depth_mup`.

    Raises
    ------
    TypeError, ValueError
        As in `depth_mup`.

    Examples
    --------
    >>> complete_p(4).gate
    0.25
    """
    return ResidualPolicy(gate=1 / whole_number("branches", branches))
