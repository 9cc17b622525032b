"""Standard deviations from the activation that follows, by quadrature."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

from ..gains import activation_gain, gradient_gain, preactivation_gain
from .base import choice
from .scaling import Scaled

__all__ = ["GainNormal"]

_GAINS = {"preactivation": preactivation_gain, "activation": activation_gain, "gradient": gradient_gain}


@functools.cache
def _gain(keep: str, activation: str) -> float:
    """Without the last digits of the quadrature, which depend on the machine's elementary functions."""
    return float(f"{_GAINS[keep](activation):.12g}")


@dataclass(frozen=True, repr=False)
class GainNormal(Scaled):
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

    _distribution: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "keep", _GAINS)
        if not isinstance(self.activation, str):
            raise TypeError(f"activation: expected a str, got {self.activation!r}")
        _gain(self.keep, self.activation)  # an unknown activation, or one without such a gain, is refused here

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return _gain(self.keep, self.activation) ** 2 / fan_in
