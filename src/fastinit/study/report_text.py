"""The study as text: plain for files and pipes, a coloured table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from .rows import Result

__all__ = ["NOTATION", "outcome", "plain", "rich_table", "summary", "truth"]

_WIDTH = 100
NOTATION = (
    "Notation: L is the number of layers, n the number of inputs of a layer; z are its pre-activations, a its activations, and "
    "its gradients are the derivatives dL/dz of the loss; W is a weight matrix, I the identity. "
    "σ_w² is n times the variance of the weights, σ_b² the variance of the biases. χ₁ is the factor per layer of the gradients' "
    "mean square by the theory of wide layers; a critical pair (σ_w², σ_b²) is one for which it is 1."
)


def _wrap(text: str, first: str = "", rest: str = "") -> list[str]:
    """The text in lines, of which the first begins with `first` and the others with `rest`."""
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def outcome(result: Result) -> str:
    """Whether the measured numbers lie in their intervals, in words."""
    if result.matches is None:
        return "not measured"
    holding = sum(check.holds for check in result.measurement.checks)
    place = "inside" if result.matches else "OUTSIDE"
    return f"{place} the predicted range: {holding} of {len(result.measurement.checks)} numbers are as expected"


def summary(results: Sequence[Result]) -> str:
    """One line: how many measurements match, and how many claims have each verdict."""
    measured = [r for r in results if r.matches is not None]
    matching = sum(bool(r.matches) for r in measured)
    verdicts = [(sum(r.verdict == v for r in results), v) for v in ("true", "half true", "false", "not borne out")]
    counts = ", ".join(f"{count} {verdict}" for count, verdict in verdicts if count or verdict != "not borne out")
    skipped = len(results) - len(measured)
    tail = f"; {skipped} not measured" if skipped else ""
    return f"{matching} of {len(measured)} measurements lie inside the predicted range{tail}. Claims: {counts}."


def truth(result: Result) -> str:
    """What is true of the claim; marked as expected where the measurement does not support it."""
    return result.claim.truth if result.matches else f"Expected: {result.claim.verdict}. {result.claim.truth}"


def plain(results: Sequence[Result]) -> str:
    """The results with every measured number, without colours or escape codes, at most 100 columns wide."""
    lines = [*_wrap(NOTATION), ""]
    for result in results:
        claim, measurement = result.claim, result.measurement
        lines += _wrap(f"{claim.number:>2}. {claim.text}", rest="    ")
        for label, text in (
            ("measured", measurement.summary or measurement.skipped),
            ("verdict", f"{result.verdict}. {truth(result)}"),
            ("setting", claim.setting),
            ("result", outcome(result)),
        ):
            lines += _wrap(f"{label + ':':<10}{text}", "    ", " " * 14)
        for check in measurement.checks:
            lines += _wrap(f"{'yes' if check.holds else 'NO':<5}{check}", " " * 14, " " * 21)
        lines.append("")
    lines += _wrap(summary(results))
    return "\n".join(lines)


def rich_table(results: Sequence[Result]) -> Any:
    """The results as a table of rich, with the numbers that are not as expected."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ROUNDED, show_lines=True, expand=True, title="What initialisation does, measured", caption=NOTATION)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("The text says", ratio=3)
    table.add_column("Measured", ratio=4)
    table.add_column("Verdict", ratio=4)
    colour = {"true": "green", "half true": "yellow", "false": "red"}
    for result in results:
        claim, measurement = result.claim, result.measurement
        measured = Text(measurement.summary or measurement.skipped)
        state = {True: "green", False: "bold red", None: "dim"}[result.matches]
        measured.append(f"\n{outcome(result)}", style=state)
        for check in measurement.checks:
            if not check.holds:
                measured.append(f"\nNO   {check}", style="red")
        verdict = Text(result.verdict, style=f"bold {colour.get(result.verdict, state)}")
        verdict.append(f". {truth(result)}", style="not bold default")
        table.add_row(str(claim.number), Text(claim.text), measured, verdict)
    return table
