"""Shared by all benchmarks: timed cases, comparisons with their targets, and the tables of both.

A ``bench_*.py`` has a function ``sections(quick)`` that yields `Section` objects. The cases of a section run in
interleaved rounds, so that a slow minute of the machine affects all of them alike. A comparison is the median of
the ratios of all rounds. Every result is checked before it is timed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import fastinit
from fastinit import _core

__all__ = [
    "Case", "Comparison", "Section", "alone", "configured", "environment", "markdown", "measure", "optional",
]  # fmt: skip

SHORTEST = 0.02  # seconds per timing: faster cases are repeated, so that caches filled by another case hardly matter
ROUNDS = 7
LONGEST = 12.0  # seconds after which a section has no further round; there are at least three
# Seconds of rest before a case on several threads: threads of OpenBLAS and OpenMP spin for about 0.1 s after their last
# product, and would use CPUs that the next case needs.
REST = 0.15


def optional(name: str) -> Any:
    """The module `name`, or None if it is not installed; comparisons with it are then left out."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Case:
    """One timed operation.

    `check` raises an error if the result of `run` is wrong. `values` and `nbytes` are what one run produces: with one
    value the table gives its time, with more the rate. `isa` forces an instruction set.
    """

    name: str
    run: Callable[[], Any]
    values: int
    nbytes: int = 0
    check: Callable[[], None] = _nothing
    threads: int = 1
    isa: str = ""
    group: str = ""


@dataclass(frozen=True)
class Comparison:
    """How many times as fast `what` is as `than`; with `at_most`, how many times as long it takes."""

    what: str
    than: str
    at_least: float | None = None
    at_most: float | None = None

    def ratio(self, seconds: dict[str, float]) -> float:
        times = seconds[self.than] / seconds[self.what]
        return 1 / times if self.at_most is not None else times

    def met(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (
            self.at_most is None or ratio <= self.at_most
        )

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"at most {self.at_most:g} × its time"
        return f"{self.at_least:g} ×" if self.at_least is not None else ""


@dataclass
class Section:
    """Cases that are timed together, and their comparisons (left out if one of the two cases is missing)."""

    title: str
    cases: list[Case]
    comparisons: list[Comparison] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    ratios: list[tuple[Comparison, float]] = field(default_factory=list)


@contextlib.contextmanager
def configured(case: Case) -> Iterator[None]:
    """Set the instruction set of a case, and its number of threads in fastinit and PyTorch."""
    chosen = _core.isa()
    torch = optional("torch")
    if case.isa:
        _core.set_isa(case.isa)
    if torch and torch.get_num_threads() != case.threads:
        torch.set_num_threads(case.threads)
    try:
        with fastinit.num_threads(case.threads):
            yield
    finally:
        _core.set_isa(chosen)


def alone(benchmark: Any, case: Case, group: str) -> None:
    """Check one case, then time it with pytest-benchmark."""
    benchmark.group = group
    benchmark.extra_info.update(environment(), values=case.values, bytes=case.nbytes, threads=case.threads)
    with configured(case):
        case.run()
        case.check()
        benchmark(case.run)
    if case.nbytes and benchmark.stats:
        benchmark.extra_info["GB/s"] = case.nbytes / benchmark.stats.stats.median / 1e9


def _timed(case: Case, repeat: int) -> float:
    with configured(case):
        if case.threads > 1:
            time.sleep(REST)
            case.run()  # the clock of an idle CPU rises first
        begin = time.perf_counter()
        for _ in range(repeat):
            case.run()
        return (time.perf_counter() - begin) / repeat


def measure(section: Section, rounds: int = ROUNDS) -> None:
    """Check every case, then set `section.seconds` and `section.ratios` to medians over the rounds."""
    # After this allocation the C library keeps freed memory of up to this size, as in any process that has run for a
    # while. Otherwise NumPy's temporary arrays would get new memory from the system every time.
    np.ones(1 << 24, np.uint8)
    names = {case.name for case in section.cases}
    comparisons = [c for c in section.comparisons if {c.what, c.than} <= names]
    for case in section.cases:
        with configured(case):
            case.run()
            case.check()
    repeats = {c.name: max(1, int(SHORTEST / max(_timed(c, 1), 1e-7))) for c in section.cases}
    table: list[dict[str, float]] = []
    begin = time.perf_counter()
    while len(table) < rounds and (len(table) < 3 or time.perf_counter() - begin < LONGEST):
        table.append({c.name: _timed(c, repeats[c.name]) for c in section.cases})
    section.seconds = {name: statistics.median(row[name] for row in table) for name in table[0]}
    section.ratios = [(c, statistics.median(c.ratio(row) for row in table)) for c in comparisons]
    # The figures are kept; the arrays that the functions hold are freed.
    section.cases = [replace(case, run=_nothing, check=_nothing) for case in section.cases]


def environment() -> dict[str, str]:
    """Versions, CPU and instruction set, for the table and for ``extra_info``."""
    versions = {
        "fastinit": fastinit.__version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
    }
    torch = optional("torch")
    if torch:
        versions["PyTorch"] = torch.__version__
    return {
        **versions,
        "compiler": _core.COMPILER,
        "CPU": _cpu_name(),
        "instruction set": _core.isa(),
        "CPUs": str(os.cpu_count()),
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _rate(case: Case, seconds: float) -> str:
    if case.values == 1:
        return f"{seconds * 1e6:,.1f} µs"
    return f"{case.values / seconds / 1e6:,.0f} M/s"


def markdown(sections: list[Section]) -> str:
    """A table of comparisons with their targets, and one of the measured rates."""
    lines = [", ".join(f"{name} {value}" for name, value in environment().items()) + ".", ""]
    lines += ["| case | compared with | target | measured | met |", "|---|---|---|---|---|"]
    for section in sections:
        for comparison, ratio in section.ratios:
            verdict = "" if not comparison.target else "yes" if comparison.met(ratio) else "**no**"
            lines.append(
                f"| {comparison.what}, {section.title} | {comparison.than} | {comparison.target} "
                f"| {ratio:.2f} × | {verdict} |"
            )
    lines += ["", "| case | size | threads | rate |", "|---|---|---|---|"]
    lines += [
        f"| {c.name} | {section.title} | {c.threads} | {_rate(c, section.seconds[c.name])} |"
        for section in sections
        for c in section.cases
    ]
    return "\n".join(lines) + "\n"
