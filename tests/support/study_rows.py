"""Results of a study with a known outcome, for the tests of reports and of the command."""

from __future__ import annotations

from dataclasses import replace

from fastinit.study import CLAIMS, Check, Measurement, Plot, Result


def made(matches: bool) -> Result:
    """A result with a known outcome, text that needs escaping, and a plot with values that cannot be drawn."""
    claim = replace(CLAIMS[0], text="a < b & c", truth="It is <so>.")
    check = Check("value", 1.0 if matches else 3.0, 0.0, 2.0)
    plot = Plot("t & t", "x", "y", (("s", (0.0, 1.0, 2.0), (1.0, float("inf"), 0.0)),), log_y=True)
    return Result(claim, Measurement("one number", (check,), (plot,)))
