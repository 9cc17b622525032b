"""The data of the study: claims, the numbers measured for each, and the results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["Check", "Claim", "Measurement", "Plot", "Result", "Verdict", "run_claim"]

Verdict = Literal["true", "half true", "false"]


@dataclass(frozen=True)
class Check:
    """One measured number, and the closed interval in which it lies if the stated verdict is correct."""

    name: str
    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the value lies in the interval; a NaN lies in none."""
        return bool(self.low <= self.value <= self.high)

    @property
    def interval(self) -> str:
        """The interval in words: "exactly 0", "at least 2" or "0.9 to 1"."""
        if self.low == self.high:
            return f"exactly {self.low:.6g}"
        return f"at least {self.low:.6g}" if self.high == math.inf else f"{self.low:.6g} to {self.high:.6g}"

    def __str__(self) -> str:
        return f"{self.name}: {self.value:.6g} (expected: {self.interval})"


@dataclass(frozen=True)
class Plot:
    """Lines to draw: ``series`` is a tuple of (label, x values, y values)."""

    title: str
    x_label: str
    y_label: str
    series: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]
    log_y: bool = False


@dataclass(frozen=True)
class Measurement:
    """What was measured for a claim.

    Attributes
    ----------
    summary : str
        The most important numbers, in sentences.
    checks : tuple of Check
        All must hold for the measurement to support the stated verdict.
    plots : tuple of Plot
    skipped : str
        Why nothing could be measured; empty if something was.
    """

    summary: str
    checks: tuple[Check, ...] = ()
    plots: tuple[Plot, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of the text, how it is measured, and what is true of it.

    Attributes
    ----------
    number : int
    text : str
        The claim.
    setting : str
        Networks, data and learning rates of the measurement.
    measure : function
        ``measure(settings) -> Measurement``.
    verdict : {"true", "half true", "false"}
        The stated verdict; `Result.verdict` is it only where the measurement supports it.
    truth : str
        What is true of the claim, in a few sentences.
    """

    number: int
    text: str
    setting: str
    measure: Callable[[Settings], Measurement]
    verdict: Verdict
    truth: str


@dataclass(frozen=True)
class Result:
    """A claim, its measurement, and how many seconds that took."""

    claim: Claim
    measurement: Measurement
    seconds: float = field(compare=False, default=0.0)

    @property
    def matches(self) -> bool | None:
        """Whether all numbers lie in their intervals; None if nothing was measured."""
        if self.measurement.skipped:
            return None
        checks = self.measurement.checks
        return bool(checks) and all(check.holds for check in checks)

    @property
    def verdict(self) -> str:
        """The verdict that the measurement supports, or "not borne out" or "not measured"."""
        return {True: self.claim.verdict, False: "not borne out", None: "not measured"}[self.matches]

    def as_dict(self) -> dict[str, Any]:
        """The result as dicts, lists, strings and numbers, for JSON."""
        return {
            "number": self.claim.number,
            "claim": self.claim.text,
            "setting": self.claim.setting,
            "measured": self.measurement.summary,
            "checks": [
                {"name": c.name, "value": float(c.value), "low": float(c.low), "high": float(c.high), "holds": c.holds}
                for c in self.measurement.checks
            ],
            "verdict": self.verdict,
            "expected_verdict": self.claim.verdict,
            "truth": self.claim.truth,
            "matches": self.matches,
            "skipped": self.measurement.skipped,
            "seconds": round(self.seconds, 3),
        }


def run_claim(claim: Claim, settings: Settings) -> Result:
    """Measure one claim. If its measurement raises an error, the result does not match and names the error."""
    import time

    start = time.perf_counter()
    try:
        measurement = claim.measure(settings)
    except Exception as error:  # one failing measurement must not stop the others
        measurement = Measurement(f"failed: {type(error).__name__}: {error}")
    return Result(claim, measurement, time.perf_counter() - start)
