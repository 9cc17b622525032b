"""Compares a stack with virtual weights, which are generated when needed, with the same stack with stored weights.

    python -m bench.bench_virtual [--norms]

instead runs a virtual stack once forward and backward through 10,000 layers of 1,024 units with 256 inputs. That takes
minutes. It prints the seconds and the peak memory of the process, which should stay below 400 MB. The number of threads
is FASTINIT_BENCH_THREADS (default 1).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastinit
from fastinit import Key, Stack, normal

from .harness import Case, Comparison, Section, alone

THREADS = int(os.environ.get("FASTINIT_BENCH_THREADS", "1"))
WIDTH, BATCH, DEEPEST = 1024, 256, 10_000
LIMIT = 400  # MB
# depth, width, batch, activation, weights
TABLE = [
    (40, WIDTH, BATCH, "tanh", "lecun_normal"),
    (40, WIDTH, BATCH, "relu", "he_uniform"),
    (40, 1000, BATCH, "tanh", "lecun_normal"),
]


def section(depth: int, width: int, batch: int, phi: str, weights: str) -> Section:
    options: dict[str, Any] = {"weights": weights, "key": Key(0)}
    widths = (width,) * (depth + 1)
    stored, virtual = Stack(widths, phi, **options), Stack(widths, phi, virtual=True, **options)
    x, dy = normal((batch, width), key=Key(1)), normal((batch, width), key=Key(2))
    operations = 4 * depth * width * width * batch

    def check() -> None:
        found, expected = virtual.propagate(x, dy), stored.propagate(x, dy)
        np.testing.assert_array_equal(found.output, expected.output)
        assert found.layers == expected.layers

    cases = [
        Case("virtual", lambda: virtual.propagate(x, dy), operations, check=check, threads=THREADS),
        Case("stored", lambda: stored.propagate(x, dy), operations, threads=THREADS),
    ]
    title = f"{depth} × {width}, batch {batch}, {phi}, {weights}"
    return Section(title, cases, [Comparison("virtual", "stored", at_most=2)])


def sections(quick: bool = False) -> Iterator[Section]:
    for row in [(16, 256, 64, "tanh", "lecun_normal")] if quick else TABLE:
        yield section(*row)


@pytest.mark.parametrize("name", ["virtual", "stored"])
def test_virtual(benchmark: Any, name: str) -> None:
    case = {case.name: case for case in section(16, 256, 64, "tanh", "lecun_normal").cases}[name]
    alone(benchmark, case, "virtual, 16 × 256, batch 64")


def deepest(norms: bool) -> None:
    import resource  # not on Windows

    stack = Stack((WIDTH,) * (DEEPEST + 1), "tanh", weights="lecun_normal", key=Key(0), virtual=True)
    x = normal((BATCH, WIDTH), key=Key(1))
    begin = time.perf_counter()
    with fastinit.num_threads(THREADS):
        report = stack.propagate(x, norms=norms)
    seconds = time.perf_counter() - begin
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # KiB, of Linux
    last = report.layers[-1]
    print(
        f"{DEEPEST:,} layers of {WIDTH:,} units, {BATCH} inputs, tanh, {THREADS} threads, norms: {norms}: "
        f"{seconds:.0f} s, {seconds / DEEPEST * 1e3:.2f} ms a layer, {megabytes:.0f} MB at most (limit {LIMIT}); "
        f"variance of the last activations {last.activation.variance:.3e}, of the first gradients "
        f"{report.layers[0].gradient.variance:.3e}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.bench_virtual", description=__doc__)
    parser.add_argument("--norms", action="store_true", help="also compute the norms of the weight gradients")
    deepest(parser.parse_args().norms)
