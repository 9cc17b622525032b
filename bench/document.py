"""``python -m bench.document [--rounds N]``: runs every benchmark in a new process, and writes the results to the documents.

docs/benchmarks.md is written completely; a few of its rows, with missed targets among them, are copied to README.md.
Takes about ten minutes, during which nothing else should run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README, DOCUMENT = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
# Title, benchmark, number of threads (0: the benchmark sets it)
PARTS = [
    ("Sampling, in place, one thread unless said", "sampling", 0),
    ("The deep stack, with statistics, norms and all weight gradients; peers without statistics; one thread", "stack", 1),
    ("The same on two threads", "stack", 2),
    ("Weights that are never stored against stored ones, one thread", "virtual", 1),
    ("Ten epochs of training on the digits, one thread", "training", 1),
    ("Haar orthogonal and unitary matrices, two threads", "orthogonal", 0),
    ("Dialects", "dialects", 0),
]
# The rows for README.md in this order, by the beginnings of their first two cells.
CHOSEN = [
    ("normal float32, 6.4·10⁷", "raw words"),
    ("normal float32, 6.4·10⁷", "NumPy"),
    ("normal float32, 6.4·10⁷", "PyTorch"),
    ("new He normal, 8192 × 8192", "He normal in place"),
    ("full, 50 × 256, batch 256, tanh", "PyTorch"),
    ("full, 50 × 64, batch 64, tanh", "NumPy"),
    ("fastinit.jax.normal, JAX, 100000 values", "a new NumPy array"),
]
HEAD = "| | against | target | measured | met |\n|---|---|---|---|---|"
INTRODUCTION = """# Benchmarks

Written by `python -m bench.document`: each table in a process of its own, medians of interleaved rounds, every result
checked before it is timed, peers in the same run. Rates of a shared machine move from minute to minute; ratios move less.

- **registers** is a loop of multiply-adds that touches no memory: no stack can be faster.
- **raw words** are the random bits alone: no sampler of theirs can be faster.
- NumPy works in place where it can; peers of the stack compute no statistics, norms or cosines.
- A **target** is what we set out for, and **no** is where we miss it.
- On two threads every case rests first: the workers of OpenBLAS and OpenMP go on spinning after a product and take CPUs
  from what comes next, ours too.
"""


def measured(name: str, threads: int) -> tuple[str, list[str]]:
    """The line with machine and versions, and the rows of the comparisons."""
    environment = dict(os.environ)
    if threads:
        environment |= {"OPENBLAS_NUM_THREADS": str(threads), "FASTINIT_BENCH_THREADS": str(threads)}
    command = [sys.executable, "-m", "bench", name, *sys.argv[1:]]
    text = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    lines = text.splitlines()
    rows = lines[lines.index("|---|---|---|---|---|") + 1 :]
    return lines[0], rows[: rows.index("")]


def chosen(rows: list[str]) -> list[str]:
    """The rows for README.md: the first match of each entry of `CHOSEN`; rows of a missing library are left out."""
    cells = [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows]
    found = []
    for what, against in CHOSEN:
        for row, (first, second, *_) in zip(rows, cells, strict=True):
            if first.startswith(what) and second.startswith(against):
                found.append(row)
                break
    return found


def main() -> None:
    machine, tables, everything = "", [], []
    for title, name, threads in PARTS:
        machine, rows = measured(name, threads)
        everything += rows
        tables.append(f"## {title}\n\n{HEAD}\n" + "\n".join(rows) + "\n")
    DOCUMENT.write_text(f"{INTRODUCTION}\n{machine}\n\n" + "\n".join(tables), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    begin, end = "<!-- measured: begin -->\n", "<!-- measured: end -->"
    new = f"{begin}{machine}\n\n{HEAD}\n" + "\n".join(chosen(everything)) + f"\n{end}"
    text, count = re.subn(f"{begin}.*?{end}", lambda _: new, text, flags=re.DOTALL)
    if count != 1:
        sys.exit("README.md: expected one pair of lines <!-- measured: begin --> and end")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
