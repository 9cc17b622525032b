"""Plain laws: the same whatever the shape."""

from __future__ import annotations

from dataclasses import dataclass

from ..sampling import check_law
from .base import finite
from .drawn import Drawn

__all__ = ["RandomNormal", "RandomUniform", "TruncatedNormal"]


@dataclass(frozen=True, repr=False)
class RandomUniform(Drawn):
    """Uniform in the half-open interval [low, high), whatever the fans.

    Parameters
    ----------
    low, high : float, defaults -0.05 and 0.05
    """

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "low", "high")
        check_law("uniform", (self.low, self.high), "float64")

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return "uniform", (self.low, self.high)


@dataclass(frozen=True, repr=False)
class RandomNormal(Drawn):
    """Normal with a fixed standard deviation, whatever the fans; not truncated.

    Parameters
    ----------
    mean : float, default 0.0
    std : float, default 0.05
    """

    mean: float = 0.0
    std: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "mean", "std")
        check_law("normal", (self.mean, self.std), "float64")

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return "normal", (self.mean, self.std)


@dataclass(frozen=True, repr=False)
class TruncatedNormal(Drawn):
    """Normal truncated to [mean + std * lower, mean + std * upper].

    Parameters
    ----------
    mean : float, default 0.0
    std : float, default 0.05
        Before truncation; what is drawn has 0.8796 of it for the default bounds.
    lower, upper : float, defaults -2.0 and 2.0
        In standard deviations.
    """

    mean: float = 0.0
    std: float = 0.05
    lower: float = -2.0
    upper: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "mean", "std")
        _, _, lower, upper = check_law(
            "truncated_normal", (self.mean, self.std, self.lower, self.upper), "float64"
        )
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return "truncated_normal", (self.mean, self.std, self.lower, self.upper)
