"""The command ``fastinit``.

May import: _command, _stream, config, diagnosis, plans, study, theory, _core.
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

from ._command import diagnosis, plan
from ._command.outputs import Target, TargetError, decide
from ._command.terminal import Output, Stopped, hold_descriptors, say, status_of, stoppable
from ._version import __version__
from .config import show_config

if TYPE_CHECKING:
    from .study import Result, Settings

__all__ = ["main"]

_RUN = diagnosis.RUN | plan.RUN
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
        prog="fastinit", description="Weight initialisation of neural networks, and its effect on deep ones."
    )
    parser.add_argument("--version", action="version", version=f"fastinit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("config", help="print versions, compiler, instruction sets and number of threads")
    study = commands.add_parser(
        "study",
        help="measure claims about weight initialisation on real networks",
        description="Measure the claims of a text on weight initialisation on real networks and handwritten digits, "
        "print the results and write an HTML report. Exit status: 0 if all claims were measured and every number is "
        "inside the predicted range; 1 if not, or if something could not be written; 2 for wrong arguments or missing "
        "packages; 128 + N if signal N stopped the command.",
    )
    study.add_argument(
        "--html", metavar="FILE", default="fastinit-study.html", help="name of the HTML report (default: %(default)s)"
    )
    study.add_argument("--no-html", action="store_true", help="write no HTML report")
    study.add_argument("--json", metavar="FILE", help="write all results and measured numbers as JSON, too")
    study.add_argument("--quick", action="store_true", help="use smaller networks and fewer steps; measures the same claims")
    study.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of all weights, in [0, 2**64) (default: 0)")
    study.add_argument("--plain", action="store_true", help="print plain text with every number, as when not on a terminal")
    diagnosis.add_parsers(commands, _seed)
    plan.add_parsers(commands, _seed)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``fastinit``.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit status; see ``fastinit study --help``. No error is raised.
    """
    hold_descriptors()
    output = Output(sys.stdout)
    with contextlib.redirect_stdout(output), stoppable():
        try:
            status = _run(_parser().parse_args(argv))
        except SystemExit as stop:  # argparse has printed its message
            status = int(stop.code or 0)
        except (KeyboardInterrupt, Stopped) as stop:
            status = status_of(stop)
    return status if output.finish() else status or 1


def _run(options: argparse.Namespace) -> int:
    if options.command == "config":
        show_config()
        return 0
    return _study(options) if options.command == "study" else _RUN[options.command](options)


def _refuse(message: str) -> int:
    say(message)
    return 2


def _study(options: argparse.Namespace) -> int:
    missing = [name for name in _REPORT_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join("scikit-learn" if name == "sklearn" else name for name in missing)
        return _refuse(f"the study needs {names}: pip install 'fastinit[report]'")
    # Whatever may be missing is looked for before the work, not after it.
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
        except Exception as error:  # a broken installation may raise anything
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
        # The files are written before the table: if the terminal is gone, only the table is lost.
        for option, target in targets.items():
            trouble = _write_report(target, texts[option])
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


def _write_report(target: Target, text: Callable[[], str]) -> str | None:
    """Make a report and write it. A failure is returned as a message, so that other reports are still written."""
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
        console.show_cursor(True)  # a signal may come after rich hides it and before the block that shows it again


def _finite(value: Any) -> Any:
    """The value with infinities and NaN as strings, since JSON has no numbers for them."""
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
