"""``python -m bench.readme [--rounds N]``: measure everything, each part in its own process, and write the README's table anew.

Some ten minutes; nothing else should run meanwhile.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
# Title, benchmark, threads (0: the benchmark says it itself)
PARTS = [
    ("Sampling, in place, one thread unless said", "sampling", 0),
    ("The deep stack, with statistics, norms and all weight gradients; peers without statistics; one thread", "stack", 1),
    ("The same on two threads", "stack", 2),
    ("Weights that are never stored against stored ones, one thread", "virtual", 1),
    ("Ten epochs of training on the digits, one thread", "training", 1),
    ("Haar orthogonal and unitary matrices, two threads", "orthogonal", 0),
    ("Dialects", "dialects", 0),
]
HEAD = "| | against | target | measured | met |\n|---|---|---|---|---|"


def measured(name: str, threads: int) -> tuple[str, list[str]]:
    """The line that names machine and versions, and the rows of the comparisons."""
    environment = dict(os.environ)
    if threads:
        environment |= {"OPENBLAS_NUM_THREADS": str(threads), "FASTINIT_BENCH_THREADS": str(threads)}
    command = [sys.executable, "-m", "bench", name, *sys.argv[1:]]
    text = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=README.parent).stdout
    lines = text.splitlines()
    rows = lines[lines.index("|---|---|---|---|---|") + 1 :]
    return lines[0], rows[: rows.index("")]


def main() -> None:
    machine, tables = "", []
    for title, name, threads in PARTS:
        machine, rows = measured(name, threads)
        tables.append(f"**{title}**\n\n{HEAD}\n" + "\n".join(rows) + "\n")
    text = README.read_text(encoding="utf-8")
    begin, end = "<!-- measured: begin -->\n", "<!-- measured: end -->"
    new = f"{begin}{machine}\n\n" + "\n".join(tables) + end
    text, found = re.subn(f"{begin}.*?{end}", lambda _: new, text, flags=re.DOTALL)
    if found != 1:
        sys.exit("README.md: expected one pair of lines <!-- measured: begin --> and end")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
