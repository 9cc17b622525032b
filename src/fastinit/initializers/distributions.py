"""Distributions that do not depend on the shape."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .._common.checks import shown
from .._stream.laws import Law, check_law
from .base import finite, flag
from .catalogue import registered
from .independent import Independent, truncated_moments

__all__ = ["RandomNormal", "RandomUniform", "TruncatedNormal"]


@registered("uniform")
@dataclass(frozen=True, repr=False)
class RandomUniform(Independent):
    """Uniform in the half-open interval [low, high), whatever the fans.

    Parameters
    ----------
    low, high : float, defaults -0.05 and 0.05
        Finite, low < high.

    Raises
    ------
    TypeError, ValueError
        If an option is no finite real number, or not low < high.

    Examples
    --------
    >>> RandomUniform(0.0, 1.0).bounds((3,))
    (0.0, 1.0)
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
class RandomNormal(Independent):
    """Normal with a fixed standard deviation, whatever the fans; not truncated.

    Parameters
    ----------
    mean : float, default 0.0
        Finite.
    std : float, in [0, inf), default 0.05
        Standard deviation.

    Raises
    ------
    TypeError, ValueError
        If an option is no real number or out of range.

    Examples
    --------
    >>> RandomNormal(std=0.5).variance((3,))
    0.25
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
class TruncatedNormal(Independent):
    """Normal truncated to [mean + std * lower, mean + std * upper], or to [low, high].

    Parameters
    ----------
    mean : float, default 0.0
        Mean before truncation; finite.
    std : float, in [0, inf), default 0.05
        Standard deviation before truncation; after it, it is 0.8796 times as much for the default bounds.
    lower, upper : float, defaults -2.0 and 2.0
        Bounds **in standard deviations** from the mean, lower < upper; may be infinite.
    low, high : float, optional
        Absolute bounds instead; give both, low < high. ``std=0.02`` with bounds -2 and 2 is cut at 100 standard deviations,
        which is never.
    corrected : bool, default False
        Whether `std` is the standard deviation after truncation. The normal is widened accordingly, and `lower` and `upper`
        count standard deviations of the wider normal. Not with absolute bounds.

    Raises
    ------
    TypeError
        If an option is of another type.
    ValueError
        If an option is out of range; if the interval lies 36 standard deviations or more from the mean, where float64 holds no
        probability; if only one of `low` and `high` is given, or both together with `lower`, `upper` or `corrected`.

    Examples
    --------
    >>> round(TruncatedNormal(std=1.0).variance((3,)), 4)
    0.7737
    >>> round(TruncatedNormal(std=1.0, corrected=True).variance((3,)), 4)
    1.0
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
        _check_tail("lower, upper", lower, upper)
        if (self.low is None) != (self.high is None):
            raise ValueError(f"low, high: expected both or neither, got {shown(self.low)} and {shown(self.high)}")
        if self.low is None or self.high is None:
            return
        finite(self, "low", "high")
        if self.corrected or (lower, upper) != (-2.0, 2.0):
            raise ValueError("low, high: expected neither lower, upper nor corrected together with absolute bounds")
        if not self.std > 0:
            raise ValueError(f"std: expected a number > 0 with absolute bounds, got {self.std}")
        if not self.low < self.high:
            raise ValueError(f"low, high: expected low < high, got {self.low} and {self.high}")
        _check_tail("low, high", (self.low - self.mean) / self.std, (self.high - self.mean) / self.std)

    def _law(self, shape: tuple[int, ...]) -> Law:
        lower, upper, std = self.lower, self.upper, self.std
        if self.low is not None and self.high is not None:
            lower, upper = (self.low - self.mean) / std, (self.high - self.mean) / std
        elif self.corrected:
            std /= truncated_moments(lower, upper)[1]
        return Law("truncated_normal", (self.mean, std, lower, upper))


def _check_tail(what: str, lower: float, upper: float) -> None:
    """Refuse an interval beyond 36 standard deviations: its probability is too small for float64."""
    if lower >= 36 or upper <= -36:
        raise ValueError(f"{what}: expected bounds less than 36 standard deviations out, got [{lower}, {upper}] of them")
