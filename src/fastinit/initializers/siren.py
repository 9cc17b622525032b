"""SIRENs, networks with the activation sin(omega (W x + b)): implicit representations of images, fields and scenes."""

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

    Sitzmann et al. (2020), see `SirenFirst`. With this variance, the variance of the pre-activations tends to q = 1 - e^(-2 q)
    = 0.797, and the mean square of the gradients is multiplied by 1.203 in each layer.

    Parameters
    ----------
    omega : float, in [1e-150, 1e150], default 30.0
        Frequency of the sine.
    corrected : bool, default False
        Whether r is sqrt(3 / fan_in) / omega. The factor on the gradients is then 1, with biases of zero, and the
        pre-activations shrink slowly: Combette, Venaille & Pustelnik, "A new initialisation to control gradients in
        sinusoidal neural networks" (2025).
    fans
        As in `VarianceScaling`.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape does not tell the fans.

    Examples
    --------
    >>> round(SirenHidden().bounds((600, 256))[1], 9)
    0.003333333
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
