"""``python -m bench [NAME …] [--quick] [--output FILE]``: measures how fast fastinit is relative to others.

Runs the benchmarks ``bench_NAME.py``, all of them by default, and prints a Markdown table with every ratio, its target
and whether the target was met. The exit status is always 0, because the figures depend on the machine.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from .harness import ROUNDS, Section, markdown, measure


def main() -> None:
    here = Path(__file__).parent
    known = sorted(path.stem.removeprefix("bench_") for path in here.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}; all by default")
    parser.add_argument("--quick", action="store_true", help="measure the small sizes only")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="number of interleaved rounds (default %(default)s)"
    )
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(f"expected names of {', '.join(known)}; got {', '.join(sorted(unknown))}")
    done: list[Section] = []
    for name in options.names or known:
        for section in importlib.import_module(f"bench.bench_{name}").sections(options.quick):
            print(f"{name}: {section.title}", file=sys.stderr, flush=True)
            measure(section, options.rounds)
            done.append(section)
    table = markdown(done)
    print(table)
    if options.output:
        options.output.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
