"""Counts instructions with Callgrind, per element of a fill and per multiply-add of `Stack`: a test of speed that does
not depend on how busy the machine is.

    python bench/instructions.py            compares with bench/instructions.txt; exit status 1 above a ceiling
    python bench/instructions.py --write    writes new ceilings, two per cent above the present counts

Valgrind has no AVX-512, so the scalar and the AVX2 kernels are counted. The difference between two lengths, or
depths, excludes the constant cost of a call. Needs gcc and valgrind.
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
SHALLOW, DEEP = 2, 6
PROGRAM = r"""
#include <stdlib.h>
#include "fastinit.h"
enum { LAYERS = 6 };
/* Layers of equal width with statistics, forward and backward, on zeros: the count does not depend on the values. */
static int propagate(fi_dtype dtype, int activation, int gradients, size_t depth, size_t width, size_t batch) {
    static fi_layer_statistics statistics[LAYERS];
    static double parameters[LAYERS], norms[LAYERS];
    size_t widths[LAYERS + 1];
    int activations[LAYERS];
    void *weights[LAYERS], *biases[LAYERS], *dw[LAYERS], *db[LAYERS];
    for (size_t l = 0; l <= depth; l++) widths[l] = width;
    for (size_t l = 0; l < depth; l++) {
        activations[l] = activation;
        weights[l] = calloc(width * width, 8), biases[l] = calloc(width, 8);
        dw[l] = calloc(width * width, 8), db[l] = calloc(width, 8);
    }
    void *x = calloc(batch * width, 8);
    const fi_stack_args run = {
        .depth = depth, .batch = batch, .widths = widths, .activations = activations, .parameters = parameters,
        .weights = (const void *const *)weights, .biases = (const void *const *)biases, .backward = 1,
        .phases = FI_FORWARD | FI_BACKWARD, .x = x, .dy = x, .y = calloc(batch * width, 8),
        .dx = calloc(batch * width, 8), .weight_gradients = gradients ? dw : NULL,
        .bias_gradients = gradients ? db : NULL, .statistics = statistics, .norms = gradients ? norms : NULL};
    void *workspace = malloc(fi_stack_workspace(&run, dtype, 1));
    if (!workspace) return 2;
    fi_stack_propagate(&run, dtype, 1, workspace, NULL);
    return 0;
}
/* isa law dtype count, or isa activation dtype depth width batch gradients; the codes of fastinit.h */
int main(int argc, char **argv) {
    static double out[1 << 15];
    if (argc == 8 && fi_isa_select(argv[1]) == FI_OK)
        return propagate((fi_dtype)atoi(argv[3]), atoi(argv[2]), atoi(argv[7]), (size_t)atoi(argv[4]),
                         (size_t)atoi(argv[5]), (size_t)atoi(argv[6]));
    const fi_law law = (fi_law)atoi(argv[2]);
    const fi_dist dist = {.law = law, .a = law == FI_UNIFORM ? -1 : 0, .b = 1, .c = -2, .d = 2};
    fi_plan plan;
    if (argc != 5 || fi_isa_select(argv[1]) != FI_OK) return 2;
    if (fi_plan_make(&plan, &dist, (fi_dtype)atoi(argv[3]), (fi_key){7, 9}) != FI_OK) return 2;
    fi_fill(&plan, out, 0, (uint64_t)atol(argv[4]), 1, NULL);
    return 0;
}
"""
LAWS = {"words": 0, "uniform": 1, "normal": 2, "truncated_normal": 3}
DTYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}
KERNELS = [
    ("words", "float32"), ("uniform", "float32"), ("normal", "float32"), ("truncated_normal", "float32"),
    ("normal", "bfloat16"), ("normal", "float16"), ("normal", "float64"),
]  # fmt: skip
ACTIVATIONS = {"tanh": 1, "relu": 3}
# Activation, dtype, width, batch, and whether with weight gradients ("full") or without ("diagnosis").
STACKS = [
    ("tanh", "float32", 64, 64, True), ("tanh", "float32", 64, 64, False), ("tanh", "float32", 65, 64, True),
    ("tanh", "float32", 100, 7, True), ("relu", "float32", 128, 64, True), ("tanh", "float64", 64, 64, True),
]  # fmt: skip


def build(folder: Path) -> Path:
    source, program = folder / "count.c", folder / "count"
    source.write_text(PROGRAM, encoding="ascii")
    subprocess.run(
        ["gcc", "-O3", "-std=c11", "-fno-math-errno", "-ffp-contract=off", "-pthread", f"-I{ROOT / 'csrc'}",
         str(source), *map(str, sorted((ROOT / "csrc").rglob("*.c"))), "-lm", "-o", str(program)],
        check=True,
    )  # fmt: skip
    return program


def instructions(program: Path, *arguments: object) -> int:
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), *map(str, arguments)],
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
                long, short = (instructions(program, isa, LAWS[law], DTYPES[dtype], n) for n in (LONG, SHORT))
                counted[f"{isa} {law} {dtype}"] = (long - short) / (LONG - SHORT)
            for activation, dtype, width, batch, full in STACKS:
                deep, shallow = (
                    instructions(program, isa, ACTIVATIONS[activation], DTYPES[dtype], depth, width, batch, int(full))
                    for depth in (DEEP, SHALLOW)
                )
                products = (3 if full else 2) * width * width * batch * (DEEP - SHALLOW)
                what = "full" if full else "diagnosis"
                counted[f"{isa} {what} {width}x{batch} {activation} {dtype}"] = (deep - shallow) / products
    if "--write" in sys.argv[1:]:
        lines = [f"{name} {1.02 * count:.3f}" for name, count in counted.items()]
        title = "# instructions an element of a fill, or a multiply-add of a stack, at most (gcc 12)"
        CEILINGS.write_text("\n".join([title, *lines]) + "\n")
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
        print(f"{name:40}{count:8.3f}  at most {ceilings[name]:8.3f}{verdict}")
    return int(above > 0)


if __name__ == "__main__":
    sys.exit(main())
