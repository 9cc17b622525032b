"""What a row of the study is: a claim as data, and what came of measuring it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["Check", "Claim", "Measurement", "Plot", "Result", "Verdict", "run_claim"]

Verdict = Literal["true", "half true", "false"]


@dataclass(frozen=True)
class Check:
    """One number that was measured, and the closed interval that the stated truth allows it."""

    name: str
    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the value lies in the interval; a NaN lies in none."""
        return bool(self.low <= self.value <= self.high)


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
    """What measuring a claim gave.

    Attributes
    ----------
    summary : str
        One line: the numbers that decide.
    checks : tuple of Check
        All must hold for the measurement to match the stated truth.
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
    """A row: what the text says, how it is measured, and what is true.

    Attributes
    ----------
    number : int
    text : str
        The claim.
    setting : str
        Network, data and step size that it is measured on.
    measure : function
        ``measure(settings) -> Measurement``.
    verdict : {"true", "half true", "false"}
        What is true of the claim, if the measurement bears it out: `Result.verdict` says whether it does.
    truth : str
        What is true, in one sentence.
    """

    number: int
    text: str
    setting: str
    measure: Callable[[Settings], Measurement]
    verdict: Verdict
    truth: str


@dataclass(frozen=True)
class Result:
    """A claim, its measurement, and the seconds that it took."""

    claim: Claim
    measurement: Measurement
    seconds: float = field(compare=False, default=0.0)

    @property
    def matches(self) -> bool | None:
        """Whether the measurement matches the stated truth; None if nothing was measured."""
        if self.measurement.skipped:
            return None
        checks = self.measurement.checks
        return bool(checks) and all(check.holds for check in checks)

    @property
    def verdict(self) -> str:
        """What was found of the claim: its verdict where the measurement bears it out, else why there is none."""
        return {True: self.claim.verdict, False: "not borne out", None: "not measured"}[self.matches]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
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
    """Measure one claim; one whose measurement raises an error does not match, and says which error."""
    import time

    start = time.perf_counter()
    try:
        measurement = claim.measure(settings)
    except Exception as error:  # one broken row must not take the others with it: it counts as a mismatch
        measurement = Measurement(f"failed: {type(error).__name__}: {error}")
    return Result(claim, measurement, time.perf_counter() - start)
