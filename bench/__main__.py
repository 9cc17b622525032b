"""``python -m bench [NAME …] [--quick] [--output FILE]``: the table of all claimed ratios.

NAME is that of a ``bench_NAME.py`` here; all of them without one. Prints a Markdown table with the
target, the measured value and whether it was met, also where it was not. The exit status is 0 whatever
the figures: a machine is not a test.
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
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}; all")
    parser.add_argument("--quick", action="store_true", help="the small sizes only")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="interleaved (default %(default)s)"
    )
    parser.add_argument("--output", type=Path, help="write the table there too")
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
