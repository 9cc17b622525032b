"""The study as text: plain for files and pipes, a coloured table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from .rows import Result

__all__ = ["outcome", "plain", "rich_table", "summary", "truth"]

_WIDTH = 100


def outcome(result: Result) -> str:
    """In a word, whether every number lies where theory and truth put it."""
    return {True: "inside the predicted range", False: "OUTSIDE the predicted range", None: "not measured"}[result.matches]


def summary(results: Sequence[Result]) -> str:
    """One line: how many claims were measured, and how many measurements match."""
    measured = [r for r in results if r.matches is not None]
    matching = sum(bool(r.matches) for r in measured)
    verdicts = [(sum(r.verdict == v for r in results), v) for v in ("true", "half true", "false", "not borne out")]
    told = ", ".join(f"{count} {verdict}" for count, verdict in verdicts if count or verdict != "not borne out")
    skipped = len(results) - len(measured)
    tail = f"; {skipped} not measured" if skipped else ""
    return f"{matching} of {len(measured)} measurements lie inside the predicted range{tail}. Claims: {told}."


def truth(result: Result) -> str:
    """What is true of the claim, said as an expectation where it was not measured or came out otherwise."""
    return result.claim.truth if result.matches else f"Expected: {result.claim.verdict}. {result.claim.truth}"


def plain(results: Sequence[Result]) -> str:
    """The table without colours or escape codes, at most 100 columns wide."""
    lines = []
    for result in results:
        claim, measurement = result.claim, result.measurement
        lines += textwrap.wrap(
            f"{claim.number:>2}. {claim.text}", _WIDTH, subsequent_indent="    "
        )
        for label, text in (
            ("measured", measurement.summary or measurement.skipped),
            ("verdict", f"{result.verdict}. {truth(result)}"),
            ("result", outcome(result)),
        ):
            lines += textwrap.wrap(
                f"{label + ':':<10}{text}", _WIDTH - 4, initial_indent="    ",
                subsequent_indent=" " * 14,
            )  # fmt: skip
        for check in measurement.checks:
            if not check.holds:
                lines += textwrap.wrap(
                    f"{check.name}: {check.value:.6g} is outside [{check.low:.6g}, {check.high:.6g}]", _WIDTH,
                    initial_indent=" " * 14, subsequent_indent=" " * 16,
                )  # fmt: skip
        lines.append("")
    lines += textwrap.wrap(summary(results), _WIDTH)
    return "\n".join(lines)


def rich_table(results: Sequence[Result]) -> Any:
    """The same as a rich table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ROUNDED, show_lines=True, expand=True, title="What initialisation does, measured")
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
                measured.append(
                    f"\n{check.name}: {check.value:.6g} is outside [{check.low:.6g}, {check.high:.6g}]",
                    style="red",
                )
        verdict = Text(result.verdict, style=f"bold {colour.get(result.verdict, state)}")
        verdict.append(f". {truth(result)}", style="not bold default")
        table.add_row(str(claim.number), Text(claim.text), measured, verdict)
    return table
