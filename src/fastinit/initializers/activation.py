"""Standard deviations from the activation that follows, by quadrature."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from .._common.arithmetic import ieee
from .._common.checks import shown
from ..gains import activation_gain, gradient_gain, preactivation_gain
from ..theory import critical_pair
from .base import choice, finite
from .catalogue import registered
from .distributions import RandomNormal
from .variance_scaling import Scaled

__all__ = ["CriticalNormal", "GainNormal"]

_GAINS = {"preactivation": preactivation_gain, "activation": activation_gain, "gradient": gradient_gain}


@functools.cache
def _gain(keep: str, activation: str) -> float:
    """Without the last digits of the quadrature, which depend on the machine's elementary functions."""
    return float(f"{_GAINS[keep](activation):.12g}")


@registered()
@dataclass(frozen=True, repr=False)
class GainNormal(Scaled, distribution="normal"):
    """N(0, gain^2 / fan_in) with the gain of an activation, so that what `keep` names passes the layer with its mean square.

    He's initialization for any activation: He, Zhang, Ren & Sun (2015), "Delving deep into rectifiers", generalised. The
    gain is rounded to twelve digits, so that weights do not depend on the machine.

    Parameters
    ----------
    activation : str, default "relu"
        One of `fastinit.theory`.
    keep : {"preactivation", "activation", "gradient"}, default "preactivation"
        See `fastinit.gains`.
    fans
        As in `Scaled`.
    """

    activation: str = "relu"
    keep: str = "preactivation"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "keep", _GAINS)
        if not isinstance(self.activation, str):
            raise TypeError(f"activation: expected a str, got {shown(self.activation)}")
        _gain(self.keep, self.activation)  # an unknown activation, or one without such a gain, is refused here

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return _gain(self.keep, self.activation) ** 2 / fan_in


@functools.cache
def _critical_weight_variance(activation: str, bias_variance: float) -> float:
    """To ten digits: the quadrature's last ones depend on the machine's elementary functions."""
    return float(f"{critical_pair(activation, bias_variance)[0]:.10g}")


@registered()
@dataclass(frozen=True, repr=False)
class CriticalNormal(Scaled, distribution="normal"):
    """N(0, sigma_w^2 / fan_in) on an activation's critical line: gradients neither vanish nor explode.

    sigma_w^2 solves chi_1 = 1 together with biases N(0, `bias_variance`), which `biases` draws; for tanh and 0.05 it is 1.76.
    Where the critical point repels, signals leave it layer by layer: such a pair is refused (see `theory.critical_pair`).
    Just above the least bias variance it attracts variances near it alone: of Mish, with less than some 0.11, there is
    another critical point above it that repels, and inputs of variance 2 or 3 leave.
    Poole et al., "Exponential expressivity in deep neural networks through transient chaos" (2016); Schoenholz et al.,
    "Deep information propagation" (2017).

    Parameters
    ----------
    activation : str, default "tanh"
        One of `fastinit.theory`.
    bias_variance : float, default 0.05
        sigma_b^2 >= 0. ReLU and its like have 0 alone, and are He's then; GELU needs 0.173, SiLU 0.556 and Mish 0.095.
    fans
        As in `Scaled`.
    """

    activation: str = "tanh"
    bias_variance: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.activation, str):
            raise TypeError(f"activation: expected a str, got {shown(self.activation)}")
        finite(self, "bias_variance")
        _critical_weight_variance(self.activation, self.bias_variance)  # refuses what has no critical point that attracts

    @property
    @ieee
    def biases(self) -> RandomNormal:
        """The initializer of the biases that belong to these weights."""
        return RandomNormal(0.0, math.sqrt(self.bias_variance))

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return _critical_weight_variance(self.activation, self.bias_variance) / fan_in
