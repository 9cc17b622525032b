"""The command ``fastinit``.

May import: _command, config, study, _core.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ._command.outputs import Target, TargetError, decide
from ._command.terminal import Output, Stopped, hold_descriptors, say, status_of, stoppable
from ._version import __version__
from .config import show_config

if TYPE_CHECKING:
    from .study import Result, Settings

__all__ = ["main"]

_REPORT_PACKAGES = ("matplotlib", "rich", "sklearn")


def _seed(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an int in [0, 2**64), got {text!r}") from None
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"expected an int in [0, 2**64), got {value}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastinit", description="Weight initialisation, and what it does to a deep network."
    )
    parser.add_argument("--version", action="version", version=f"fastinit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("config", help="print version, compiler, instruction sets and threads")
    study = commands.add_parser(
        "study",
        help="train real networks and measure every claim",
        description="Train real networks on handwritten digits, measure what a text on weight initialisation "
        "claims, write an HTML report and print a table. Exit status: 0 if every claim was measured and "
        "lies inside the predicted range, 1 if one does not or something could not be written, 2 on a wrong use, 128 + N if "
        "signal N stopped it.",
    )
    study.add_argument(
        "--html", metavar="FILE", default="fastinit-study.html", help="report to write (default: %(default)s)"
    )
    study.add_argument("--no-html", action="store_true", help="write no HTML report")
    study.add_argument("--json", metavar="FILE", help="write every number as JSON")
    study.add_argument("--quick", action="store_true", help="smaller networks, the same claims")
    study.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of all weights (default: 0)")
    study.add_argument("--plain", action="store_true", help="plain text, as without a terminal")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    hold_descriptors()
    output = Output(sys.stdout)
    with contextlib.redirect_stdout(output), stoppable():
        try:
            status = _run(_parser().parse_args(argv))
        except SystemExit as stop:  # argparse has printed what it has to say
            status = int(stop.code or 0)
        except (KeyboardInterrupt, Stopped) as stop:
            status = status_of(stop)
    return status if output.finish() else status or 1


def _run(options: argparse.Namespace) -> int:
    if options.command == "config":
        show_config()
        return 0
    return _study(options)


def _refuse(message: str) -> int:
    say(message)
    return 2


def _study(options: argparse.Namespace) -> int:
    missing = [name for name in _REPORT_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join("scikit-learn" if name == "sklearn" else name for name in missing)
        return _refuse(f"the study needs {names}: pip install 'fastinit[report]'")
    # All that could fail for want of something is looked for before the work, not after it.
    try:
        targets = decide({"--json": options.json, "--html": None if options.no_html else options.html})
    except TargetError as fault:
        return _refuse(str(fault))

    from .study import Settings
    from .study.pictures import import_matplotlib
    from .study.report_html import html
    from .study.report_text import plain, rich_table, summary

    if "--html" in targets:
        try:
            import_matplotlib()
        except Exception as error:  # whatever it stumbles over
            return _refuse(f"--html: matplotlib cannot be imported: {type(error).__name__}: {error}")

    settings = Settings(seed=options.seed, quick=options.quick)
    terminal = sys.stdout.isatty() and not options.plain and os.environ.get("TERM") != "dumb"
    written: list[str] = []
    try:
        results = _run_rich(settings) if terminal else _run_plain(settings)
        status = 0 if all(result.matches for result in results) else 1
        texts = {
            "--json": lambda: json.dumps(_as_json(results, settings), indent=2, allow_nan=False) + "\n",
            "--html": lambda: html(results, settings),
        }
        # The files first: a terminal that is gone, or full, or stopped costs the table, not the reports.
        for option, target in targets.items():
            trouble = _trouble_of_writing(target, texts[option])
            if trouble:
                say(trouble)
                status = 1
            else:
                written.append(target.shown)
        if terminal:
            from rich.console import Console

            console = Console()
            console.print(rich_table(results))
            console.print(summary(results))
        else:
            print(plain(results))
        for name in written:
            print(f"written: {name}")
        return status
    except (KeyboardInterrupt, Stopped) as stop:
        return status_of(stop, written)


def _trouble_of_writing(target: Target, text: Callable[[], str]) -> str | None:
    """Make a report and write it; what went wrong, if anything did, for one report must not cost the others."""
    try:
        made = text()
    except Exception as error:
        return f"{target.shown}: cannot make the report: {type(error).__name__}: {error}"
    try:
        target.write(made)
    except OSError as error:
        return f"{target.shown}: cannot write: {error.strerror or error}"
    return None


def _run_plain(settings: Settings) -> list[Result]:
    from . import study

    return study.run(settings)


def _run_rich(settings: Settings) -> list[Result]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from . import study

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    console = Console()
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("measuring", total=len(study.CLAIMS))

            def show(claim: Any, result: Any) -> None:
                if result is None:
                    progress.update(task, description=f"claim {claim.number}")
                else:
                    progress.advance(task)

            return study.run(settings, progress=show)
    finally:
        console.show_cursor(True)  # if a signal came between hiding it and the block that shows it again


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become their names."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value != value:
        return "nan"
    if isinstance(value, float) and abs(value) == float("inf"):
        return "inf" if value > 0 else "-inf"
    return value


def _as_json(results: Sequence[Result], settings: Settings) -> dict[str, Any]:
    from . import _core

    report: dict[str, Any] = _finite({
        "fastinit": __version__,
        "stream_version": _core.STREAM_VERSION,
        "seed": settings.seed,
        "quick": settings.quick,
        "instruction_set": _core.isa(),
        "matches": all(result.matches for result in results),
        "claims": [result.as_dict() for result in results],
    })  # fmt: skip
    return report
