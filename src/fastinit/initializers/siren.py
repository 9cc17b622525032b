"""Networks of sines, sin(omega (W x + b)): implicit representations of images, fields and scenes."""

from __future__ import annotations

from dataclasses import dataclass

from .base import flag, positive, squarable
from .catalogue import registered
from .variance_scaling import FanScaled

__all__ = ["SirenFirst", "SirenHidden"]


@registered()
@dataclass(frozen=True, repr=False)
class SirenFirst(FanScaled, distribution="uniform"):
    """U(-r, r) with r = 1 / fan_in, variance 1 / (3 fan_in^2): the first layer of a SIREN, for inputs in [-1, 1].

    Sitzmann et al., "Implicit neural representations with periodic activation functions" (2020).
    """

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return 1 / (3 * fan_in**2)


@registered()
@dataclass(frozen=True, repr=False)
class SirenHidden(FanScaled, distribution="uniform"):
    """U(-r, r) with r = sqrt(6 / fan_in) / omega, variance 2 / (fan_in omega^2): the other layers of a SIREN.

    Sitzmann et al. (2020). With this variance the pre-activations settle at variance q = 1 - e^(-2 q) = 0.797 and gradients
    grow by 1.203 a layer. `corrected` takes sqrt(3) for sqrt(6): the gain of the gradients is then 1, with biases of zero,
    and the pre-activations shrink slowly (Combette, Venaille & Pustelnik, "A new initialisation to control gradients in
    sinusoidal neural networks", 2025).

    Parameters
    ----------
    omega : float, default 30.0
    corrected : bool, default False
    fans
        As in `VarianceScaling`.
    """

    omega: float = 30.0
    corrected: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "omega")
        squarable(self, "omega")
        flag(self, "corrected")

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return (1 if self.corrected else 2) / (fan_in * self.omega**2)
