"""The command ``fastinit``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        "claims, print a table and write an HTML report. Exit status: 0 if every claim was measured and "
        "is as stated, 1 if one is not, 2 on a wrong use.",
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
    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed what it has to say
        return int(stop.code or 0)
    try:
        if options.command == "config":
            show_config()
            status = 0
        else:
            status = _study(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("fastinit: interrupted; nothing was written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, a pager or head, has left: nothing is to be said, not even at the interpreter's own last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _refuse(message: str) -> int:
    print(f"fastinit: {message}", file=sys.stderr)
    return 2


def _study(options: argparse.Namespace) -> int:
    missing = [name for name in _REPORT_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join("scikit-learn" if name == "sklearn" else name for name in missing)
        return _refuse(f"the study needs {names}: pip install 'fastinit[report]'")
    html_path = None if options.no_html else Path(options.html)
    json_path = None if options.json is None else Path(options.json)
    if html_path is not None and json_path is not None and html_path.absolute() == json_path.absolute():
        return _refuse(f"--html and --json: expected two files, got {html_path} for both")
    for path in (html_path, json_path):
        fault = None if path is None else _unwritable(path)
        if fault:
            return _refuse(fault)  # before minutes of work, not after

    from .study import Settings
    from .study.report_html import html
    from .study.report_text import plain, rich_table, summary

    settings = Settings(seed=options.seed, quick=options.quick)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a pipe in an old code page has no σ
    terminal = sys.stdout.isatty() and not options.plain and os.environ.get("TERM") != "dumb"
    results = _run_rich(settings) if terminal else _run_plain(settings)
    # The table first: what a failing write costs is the file, not the measurements.
    if terminal:
        from rich.console import Console

        console = Console()
        console.print(rich_table(results))
        console.print(summary(results))
    else:
        print(plain(results))
    status = 0 if all(result.matches for result in results) else 1
    try:
        if html_path is not None:
            _write(html_path, html(results, settings))
        if json_path is not None:
            _write(json_path, json.dumps(_as_json(results, settings), indent=2, allow_nan=False) + "\n")
    except OSError as error:
        print(f"fastinit: {error.filename or 'report'}: cannot write: {error.strerror}", file=sys.stderr)
        return 1
    for path in (html_path, json_path):
        if path is not None:
            print(f"written: {path}")
    return status


def _run_plain(settings: Settings) -> list[Result]:
    from . import study

    return study.run(settings)


def _run_rich(settings: Settings) -> list[Result]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from . import study

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("measuring", total=len(study.CLAIMS))

        def show(claim: Any, result: Any) -> None:
            if result is None:
                progress.update(task, description=f"claim {claim.number}")
            else:
                progress.advance(task)

        return study.run(settings, progress=show)


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


# ---- files: whole or not at all -----------------------------------------------------------------


def _unwritable(path: Path) -> str | None:
    """Why a file could not be written, None if it can."""
    if str(path) == "-":
        return "-: expected a file's path"
    if path.is_dir():
        return f"{path}: expected a file, got a directory"
    if path.exists() and not os.access(path, os.W_OK):
        return f"{path}: expected a writable file"
    if path.exists() and not path.is_file():
        return None  # a device or a pipe
    folder = path.resolve().parent
    if not folder.is_dir():
        return f"{path}: expected an existing directory, got {folder}"
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".fastinit-")
    except OSError as error:
        return f"{path}: cannot write there: {error.strerror}"
    os.close(handle)
    os.unlink(name)
    return None


def _write(path: Path, text: str) -> None:
    """Text that takes the place of a regular file when it is complete; a device or a pipe is written to."""
    if path.exists() and not path.is_file():
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return
    path = path.resolve()  # through a symbolic link, which stays
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".fastinit-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        if path.exists():
            shutil.copymode(path, name)
        else:
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)  # mkstemp's files are private, a report is not
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
