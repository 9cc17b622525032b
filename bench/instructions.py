"""Instructions an element of the fills, counted by Callgrind: a gate on speed that no busy machine can disturb.

    python bench/instructions.py            compare with bench/instructions.txt, exit status 1 above a ceiling
    python bench/instructions.py --write    new ceilings, two per cent above what is counted now

Valgrind has no AVX-512, so the scalar and the AVX2 set are counted. The difference of two lengths leaves out
what a call costs once. Needs gcc and valgrind.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CEILINGS = Path(__file__).with_suffix(".txt")
SHORT, LONG = 1 << 13, 1 << 15
PROGRAM = r"""
#include <stdlib.h>
#include "fastinit.h"
/* isa law dtype count, the codes of fastinit.h */
int main(int argc, char **argv) {
    static double out[1 << 15];
    const fi_law law = (fi_law)atoi(argv[2]);
    const fi_dist dist = {.law = law, .a = law == FI_UNIFORM ? -1 : 0, .b = 1, .c = -2, .d = 2};
    fi_plan plan;
    if (argc != 5 || fi_isa_select(argv[1]) != FI_OK) return 2;
    if (fi_plan_make(&plan, &dist, (fi_dtype)atoi(argv[3]), (fi_key){7, 9}) != FI_OK) return 2;
    fi_fill(&plan, out, 0, (uint64_t)atol(argv[4]), 1);
    return 0;
}
"""
LAWS = {"words": 0, "uniform": 1, "normal": 2, "truncated_normal": 3}
DTYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}
KERNELS = [
    ("words", "float32"), ("uniform", "float32"), ("normal", "float32"), ("truncated_normal", "float32"),
    ("normal", "bfloat16"), ("normal", "float16"), ("normal", "float64"),
]  # fmt: skip


def build(folder: Path) -> Path:
    source, program = folder / "count.c", folder / "count"
    source.write_text(PROGRAM, encoding="ascii")
    subprocess.run(
        ["gcc", "-O3", "-std=c11", "-fno-math-errno", "-ffp-contract=off", "-pthread", f"-I{ROOT / 'csrc'}",
         str(source), *map(str, sorted((ROOT / "csrc").glob("*.c"))), "-lm", "-o", str(program)],
        check=True,
    )  # fmt: skip
    return program


def instructions(program: Path, isa: str, law: str, dtype: str, count: int) -> int:
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), isa,
         str(LAWS[law]), str(DTYPES[dtype]), str(count)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise RuntimeError(f"valgrind: expected a count, got {done.stderr}")
    return int(found[1])


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        counted = {}
        for isa in ("scalar", "avx2"):
            for law, dtype in KERNELS:
                long, short = (instructions(program, isa, law, dtype, n) for n in (LONG, SHORT))
                counted[f"{isa} {law} {dtype}"] = (long - short) / (LONG - SHORT)
    if "--write" in sys.argv[1:]:
        lines = [f"{name} {1.02 * count:.2f}" for name, count in counted.items()]
        CEILINGS.write_text("# instructions an element, at most (gcc 12)\n" + "\n".join(lines) + "\n")
        return 0
    ceilings = {}
    for line in CEILINGS.read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            name, _, most = line.rpartition(" ")
            ceilings[name] = float(most)
    if ceilings.keys() != counted.keys():
        print(f"{CEILINGS.name}: expected ceilings for {', '.join(counted)}")
        return 1
    above = 0
    for name, count in counted.items():
        verdict = "" if count <= ceilings[name] else "   ABOVE"
        above += bool(verdict)
        print(f"{name:40}{count:8.2f}  at most {ceilings[name]:8.2f}{verdict}")
    return int(above > 0)


if __name__ == "__main__":
    sys.exit(main())
