"""Variance scaling: Glorot, He, LeCun and their general form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ..fans import compute_fans
from .base import choice, finite, positive
from .drawn import Drawn

__all__ = [
    "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "KaimingNormal", "KaimingUniform", "LeCunNormal",
    "LeCunUniform", "VarianceScaling", "XavierNormal", "XavierUniform",
]  # fmt: skip

# The standard deviation of a standard normal truncated to [-2, 2]:
# sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)). A literal, so that weights do not depend on a libm.
_STD_WITHIN_2 = 0.87962566103423978

_MODES: dict[str, Callable[[int, int], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
_DISTRIBUTIONS = ("uniform", "normal", "truncated_normal")


def _scaled_law(
    shape: tuple[int, ...], scale: float, mode: str, distribution: str
) -> tuple[str, tuple[float, ...]]:
    """The law of variance scale / fan; an empty tensor has any."""
    fan_in, fan_out = compute_fans(shape)
    variance = scale / max(1.0, _MODES[mode](fan_in, fan_out))
    if distribution == "uniform":
        limit = math.sqrt(3 * variance)
        return "uniform", (-limit, limit)
    if distribution == "normal":
        return "normal", (0.0, math.sqrt(variance))
    return "truncated_normal", (0.0, math.sqrt(variance) / _STD_WITHIN_2, -2.0, 2.0)


@dataclass(frozen=True, repr=False)
class VarianceScaling(Drawn):
    """Mean 0 and variance ``scale / fan``: the general form of Glorot, He and LeCun.

    Parameters
    ----------
    scale : float, default 1.0
        Greater than 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
    distribution : {"truncated_normal", "normal", "uniform"}, default "truncated_normal"
        ``normal`` is not truncated. ``truncated_normal`` is cut at two standard deviations, and
        widened first so that the stated variance is the drawn one.
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "scale")
        choice(self, "mode", _MODES)
        choice(self, "distribution", _DISTRIBUTIONS)

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return _scaled_law(shape, self.scale, self.mode, self.distribution)


class _NamedScaling(Drawn):
    """A variance scaling with a name: its numbers are class attributes."""

    scale: ClassVar[float]
    mode: ClassVar[str]
    distribution: ClassVar[str]

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return _scaled_law(shape, self.scale, self.mode, self.distribution)


@dataclass(frozen=True, repr=False)
class GlorotNormal(_NamedScaling):
    """N(0, 2 / (fan_in + fan_out)): Glorot & Bengio (2010), "normalized initialization", also called Xavier."""

    scale, mode, distribution = 1.0, "fan_avg", "normal"


@dataclass(frozen=True, repr=False)
class GlorotUniform(_NamedScaling):
    """U(-r, r) with r = sqrt(6 / (fan_in + fan_out)): Glorot & Bengio (2010), also called Xavier."""

    scale, mode, distribution = 1.0, "fan_avg", "uniform"


@dataclass(frozen=True, repr=False)
class LeCunNormal(_NamedScaling):
    """N(0, 1 / fan_in): LeCun, Bottou, Orr & Müller, "Efficient BackProp" (1998)."""

    scale, mode, distribution = 1.0, "fan_in", "normal"


@dataclass(frozen=True, repr=False)
class LeCunUniform(_NamedScaling):
    """U(-r, r) with r = sqrt(3 / fan_in): LeCun, Bottou, Orr & Müller, "Efficient BackProp" (1998)."""

    scale, mode, distribution = 1.0, "fan_in", "uniform"


@dataclass(frozen=True, repr=False)
class _He(Drawn):
    negative_slope: float = 0.0

    mode: ClassVar[str] = "fan_in"
    distribution: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "negative_slope")

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        scale = 2 / (1 + self.negative_slope**2)
        return _scaled_law(shape, scale, self.mode, self.distribution)


@dataclass(frozen=True, repr=False)
class HeNormal(_He):
    """N(0, 2 / ((1 + a^2) fan_in)): He, Zhang, Ren & Sun (2015), also called Kaiming; a = `negative_slope`.

    Parameters
    ----------
    negative_slope : float, default 0.0
        Of the leaky ReLU that follows; 0 is ReLU.
    """

    distribution: ClassVar[str] = "normal"


@dataclass(frozen=True, repr=False)
class HeUniform(_He):
    """U(-r, r) with r = sqrt(6 / ((1 + a^2) fan_in)): He, Zhang, Ren & Sun (2015), also called Kaiming.

    Parameters
    ----------
    negative_slope : float, default 0.0
        a, of the leaky ReLU that follows; 0 is ReLU.
    """

    distribution: ClassVar[str] = "uniform"


XavierNormal, XavierUniform = GlorotNormal, GlorotUniform
KaimingNormal, KaimingUniform = HeNormal, HeUniform
