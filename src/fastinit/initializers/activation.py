"""Standard deviations chosen for the activation that follows, by quadrature."""

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
from .variance_scaling import FanScaled

__all__ = ["CriticalNormal", "GainNormal"]

_GAINS = {"preactivation": preactivation_gain, "activation": activation_gain, "gradient": gradient_gain}


@functools.cache
def _gain(keep: str, activation: str) -> float:
    """Rounded to 12 digits: the last digits of the quadrature depend on the machine's elementary functions."""
    return float(f"{_GAINS[keep](activation):.12g}")


@registered()
@dataclass(frozen=True, repr=False)
class GainNormal(FanScaled, distribution="normal"):
    """N(0, gain^2 / fan_in) with the gain of an activation that keeps the mean square of what `keep` names.

    This is He's initialization generalised to any activation: He, Zhang, Ren & Sun (2015), "Delving deep into rectifiers". The
    gain is rounded to 12 digits, so that weights are the same on every machine.

    Parameters
    ----------
    activation : str, default "relu"
        A name that `Stack` takes.
    keep : {"preactivation", "activation", "gradient"}, default "preactivation"
        Which gain of `fastinit.gains`: that of pre-activations, of activations, or of gradients on the way back.
    fans
        As in `VarianceScaling`.

    Raises
    ------
    TypeError
        If `activation` is no str.
    ValueError
        If it is unknown or has no such gain, as tanh has none that keeps the mean square of activations.

    Examples
    --------
    >>> round(GainNormal("relu").variance((500, 256)), 9)  # He's
    0.004
    """

    activation: str = "relu"
    keep: str = "preactivation"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "keep", _GAINS)
        if not isinstance(self.activation, str):
            raise TypeError(f"activation: expected a str, got {shown(self.activation)}")
        _gain(self.keep, self.activation)  # refuses an unknown activation, and one without such a gain

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return _gain(self.keep, self.activation) ** 2 / fan_in


@functools.cache
def _critical_weight_variance(activation: str, bias_variance: float) -> float:
    """sigma_w^2 rounded to 10 digits, for the same reason."""
    return float(f"{critical_pair(activation, bias_variance)[0]:.10g}")


@registered()
@dataclass(frozen=True, repr=False)
class CriticalNormal(FanScaled, distribution="normal"):
    """N(0, sigma_w^2 / fan_in) on an activation's critical line: gradients neither vanish nor explode.

    sigma_w^2 solves chi_1 = 1 together with biases N(0, `bias_variance`), which `biases` draws; for tanh and 0.05 it is 1.76.
    A critical point that repels is refused, because the variance of signals moves away from it layer by layer (see
    `theory.critical_pair`). Just above the least bias variance it attracts only variances near it: for Mish with a bias
    variance below about 0.11, a fixed point above it repels, and inputs of variance 2 or 3 move away.
    Poole et al., "Exponential expressivity in deep neural networks through transient chaos" (2016); Schoenholz et al.,
    "Deep information propagation" (2017).

    Parameters
    ----------
    activation : str, default "tanh"
        A name that `Stack` takes.
    bias_variance : float, in [0, inf), default 0.05
        sigma_b^2. It must be 0 for ReLU, leaky ReLU and the linear activation, which gives He's initialization, and at
        least 0.173 for GELU, 0.556 for SiLU and 0.095 for Mish.
    fans
        As in `VarianceScaling`.

    Raises
    ------
    TypeError
        If `activation` is no str, or `bias_variance` no real number.
    ValueError
        If there is no critical point with this bias variance, or it repels.

    Examples
    --------
    >>> round(CriticalNormal("tanh").variance((100, 256)), 6)
    0.01761
    """

    activation: str = "tanh"
    bias_variance: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.activation, str):
            raise TypeError(f"activation: expected a str, got {shown(self.activation)}")
        finite(self, "bias_variance")
        _critical_weight_variance(self.activation, self.bias_variance)  # refuses a pair without a critical point that attracts

    @property
    @ieee
    def biases(self) -> RandomNormal:
        """The initializer of the biases that belong to these weights, N(0, `bias_variance`)."""
        return RandomNormal(0.0, math.sqrt(self.bias_variance))

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return _critical_weight_variance(self.activation, self.bias_variance) / fan_in
