"""Plain laws: the same whatever the shape."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .._common.checks import shown
from .._stream.sampling import Law, check_law
from .base import finite, flag
from .catalogue import registered
from .independent import Drawn, truncated_moments

__all__ = ["RandomNormal", "RandomUniform", "TruncatedNormal"]


@registered("uniform")
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

    def _law(self, shape: tuple[int, ...]) -> Law:
        return Law("uniform", (self.low, self.high))


@registered("normal")
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

    def _law(self, shape: tuple[int, ...]) -> Law:
        return Law("normal", (self.mean, self.std))


@registered()
@dataclass(frozen=True, repr=False)
class TruncatedNormal(Drawn):
    """Normal truncated to [mean + std * lower, mean + std * upper], or to [low, high].

    Parameters
    ----------
    mean : float, default 0.0
    std : float, default 0.05
        Before truncation; what is drawn has 0.8796 of it for the default bounds.
    lower, upper : float, defaults -2.0 and 2.0
        **In standard deviations**; may be infinite.
    low, high : float, optional
        Absolute bounds instead, both. (``std=0.02`` between -2 and 2 is then cut at 100 standard deviations: never.)
    corrected : bool, default False
        Widens the normal before truncation so that the standard deviation of what is drawn is `std`. For bounds in
        standard deviations, which are then those of the wider normal.
    """

    mean: float = 0.0
    std: float = 0.05
    lower: float = -2.0
    upper: float = 2.0
    low: float | None = dataclasses.field(default=None, kw_only=True)
    high: float | None = dataclasses.field(default=None, kw_only=True)
    corrected: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "mean", "std")
        flag(self, "corrected")
        _, _, lower, upper = check_law(
            "truncated_normal", (self.mean, self.std, self.lower, self.upper), "float64"
        )
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        _reachable("lower, upper", lower, upper)
        if (self.low is None) != (self.high is None):
            raise ValueError(f"low, high: expected both or neither, got {shown(self.low)} and {shown(self.high)}")
        if self.low is None or self.high is None:
            return
        finite(self, "low", "high")
        if self.corrected or (lower, upper) != (-2.0, 2.0):
            raise ValueError("low, high: expected neither lower, upper nor corrected beside absolute bounds")
        if not self.std > 0:
            raise ValueError(f"std: expected a number > 0 with absolute bounds, got {self.std}")
        if not self.low < self.high:
            raise ValueError(f"low, high: expected low < high, got {self.low} and {self.high}")
        _reachable("low, high", (self.low - self.mean) / self.std, (self.high - self.mean) / self.std)

    def _law(self, shape: tuple[int, ...]) -> Law:
        lower, upper, std = self.lower, self.upper, self.std
        if self.low is not None and self.high is not None:
            lower, upper = (self.low - self.mean) / std, (self.high - self.mean) / std
        elif self.corrected:
            std /= truncated_moments(lower, upper)[1]
        return Law("truncated_normal", (self.mean, std, lower, upper))


def _reachable(what: str, lower: float, upper: float) -> None:
    """Beyond 36 standard deviations an interval has no probability that a float64 holds."""
    if lower >= 36 or upper <= -36:
        raise ValueError(f"{what}: expected bounds less than 36 standard deviations out, got [{lower}, {upper}] of them")
