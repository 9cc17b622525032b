"""The study as text: plain for files and pipes, a coloured table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from .rows import Result

__all__ = ["outcome", "plain", "rich_table", "summary"]

_WIDTH = 100


def outcome(result: Result) -> str:
    """In a word, whether the measurement bears out what is stated."""
    return {True: "as stated", False: "NOT as stated", None: "not measured"}[result.matches]


def summary(results: Sequence[Result]) -> str:
    """One line: how many claims were measured, and how many measurements match."""
    measured = [r for r in results if r.matches is not None]
    matching = sum(bool(r.matches) for r in measured)
    verdicts = ", ".join(
        f"{sum(r.claim.verdict == v for r in results)} {v}" for v in ("true", "half true", "false")
    )
    skipped = len(results) - len(measured)
    tail = f"; {skipped} not measured" if skipped else ""
    return (
        f"{matching} of {len(measured)} measurements are as stated{tail}. Claims: {verdicts}."
    )


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
            ("verdict", f"{claim.verdict}. {claim.truth}"),
            ("result", outcome(result)),
        ):
            lines += textwrap.wrap(
                f"{label + ':':<10}{text}", _WIDTH - 4, initial_indent="    ",
                subsequent_indent=" " * 14,
            )  # fmt: skip
        for check in measurement.checks:
            if not check.holds:
                lines.append(
                    f"              {check.name}: {check.value:.6g} is outside [{check.low:.6g}, {check.high:.6g}]"
                )
        lines.append("")
    lines.append(summary(results))
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
        verdict = Text(claim.verdict, style=f"bold {colour[claim.verdict]}")
        verdict.append(f". {claim.truth}", style="not bold default")
        table.add_row(str(claim.number), Text(claim.text), measured, verdict)
    return table
