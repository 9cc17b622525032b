"""The study as one HTML file without scripts, external fonts or external pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .. import _core
from .._version import __version__
from .pictures import picture
from .report_text import NOTATION, outcome, summary, truth
from .rows import Check, Result
from .settings import Settings

__all__ = ["html"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1d21; --paper: #fdfdfc; --faint: #667; --line: #d9dce1;
  --card: #ffffff; --true: #1a7f4b; --half: #a35c00; --false: #c0262d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #14171b; --faint: #9aa3ad; --line: #333a43;
  --card: #1b2026; --true: #4cc38a; --half: #f0a63a; --false: #ff7b80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; line-height: 1.35; margin: 0 0 .6rem; }
.meta, .setting, figcaption { color: var(--faint); font-size: .9rem; }
.overview { width: 100%; border-collapse: collapse; margin: 1.5rem 0 2rem; }
.overview td, .overview th { border-bottom: 1px solid var(--line); padding: .4rem .5rem; text-align: left;
  vertical-align: top; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: 1.1rem 1.2rem;
  margin: 0 0 1.2rem; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .65rem;
  font-size: .85rem; font-weight: 600; white-space: nowrap; }
.true, .as { color: var(--true); } .half { color: var(--half); } .false, .not { color: var(--false); }
.none { color: var(--faint); }
.scroll { overflow-x: auto; }
.checks { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; width: 100%; }
.checks td, .checks th { padding: .15rem .8rem .15rem 0; text-align: left; border-bottom: 1px solid var(--line); }
.checks .number { text-align: right; white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem; }
figure { margin: .8rem 0 0; } figure svg { width: 100%; min-width: 22rem; height: auto; color: var(--ink); }
figure { overflow-x: auto; }
@media (max-width: 34rem) { .overview td, .overview th { padding: .35rem .25rem; font-size: .85rem; overflow-wrap: anywhere; }
  .badge { white-space: normal; padding: 0 .4rem; } }
details > summary { cursor: pointer; margin: .6rem 0; color: var(--faint); }
a { color: inherit; }
"""

_CSS = {True: "as", False: "not", None: "none"}


def _state(result: Result) -> str:
    return f'<span class="{_CSS[result.matches]}">{escape(outcome(result))}</span>'


def _badge(result: Result) -> str:
    css = result.verdict.split()[0] if result.matches else _CSS[result.matches]
    return f'<span class="badge {css}">{escape(result.verdict)}</span>'


def _check(check: Check) -> str:
    css, mark = ("as", "yes") if check.holds else ("not", "no")
    return (
        f'<tr><td>{escape(check.name)}</td><td class="number">{check.value:.6g}</td>'
        f'<td class="number">{escape(check.interval)}</td><td class="{css}">{mark}</td></tr>'
    )


def _section(result: Result) -> str:
    claim, measurement = result.claim, result.measurement
    checks = "".join(map(_check, measurement.checks))
    table = (
        f'<details><summary>{len(measurement.checks)} numbers checked</summary><div class="scroll">'
        '<table class="checks"><thead><tr><th>Number</th><th class="number">Measured</th>'
        f'<th class="number">Expected</th><th>As expected</th></tr></thead><tbody>{checks}</tbody></table></div></details>'
        if checks
        else ""
    )
    plots = "".join(map(picture, measurement.plots))
    return (
        f'<section id="claim-{claim.number}"><h2>{claim.number}. {escape(claim.text)}</h2>'
        f"<p>{_badge(result)} {escape(truth(result))}</p>"
        f"<p><strong>Measured:</strong> {escape(measurement.summary or measurement.skipped)} — {_state(result)}</p>"
        f'<p class="setting">Setting: {escape(claim.setting)}</p>{table}'
        f'<div class="plots">{plots}</div></section>'
    )


def html(results: Sequence[Result], settings: Settings) -> str:
    """The whole page. The same results give the same bytes."""
    rows = "".join(
        f'<tr><td><a href="#claim-{r.claim.number}">{r.claim.number}</a></td><td>{escape(r.claim.text)}</td>'
        f"<td>{_badge(r)}</td><td>{_state(r)}</td></tr>"
        for r in results
    )
    size = "quick" if settings.quick else "full"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>fastinit study</title><style>{_STYLE}</style></head><body><main>"
        "<h1>What initialisation does, measured</h1>"
        f"<p>{escape(summary(results))}</p>"
        f'<p class="meta">fastinit {__version__}, stream version {_core.STREAM_VERSION}, seed {settings.seed}, {size} study. '
        "All numbers were measured on this machine by fastinit’s kernels (claim 15: by Keras), on the handwritten digits of "
        "scikit-learn; the weights of the networks are the same, bit for bit, on every machine.</p>"
        f'<p class="meta">{escape(NOTATION)}</p>'
        '<div class="scroll"><table class="overview"><thead><tr><th></th><th>The text says</th><th>Verdict</th>'
        f"<th>Measurement</th></tr></thead><tbody>{rows}</tbody></table></div>"
        + "".join(map(_section, results))
        + "</main></body></html>\n"
    )
