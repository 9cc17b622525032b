#!/usr/bin/env bash
# Builds the whole extension by gcc and by clang with flags that would change arithmetic, and tests that loading it leaves
# subnormal numbers on and that all golden bits are reached. (tests/package/test_build.py has more flags, on a small library.)
#
#     tools/flags.sh PYTHON    PYTHON has NumPy, setuptools, Cython, mpmath and pytest
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# $1: the compiler, $2: CFLAGS and LDFLAGS
check() {
    echo "$1 $2"
    local here=$work/$1
    mkdir "$here"
    cp -r setup.py pyproject.toml README.md LICENSE src csrc tests "$here"
    rm -f "$here"/src/fastinit/*.so "$here"/src/fastinit/_core.c
    (
        cd "$here"
        CC=$1 LDSHARED="$1 -shared" CFLAGS=$2 LDFLAGS=$2 "$python" setup.py -q build_ext --inplace --parallel 2 >build.log 2>&1 ||
            { cat build.log; exit 1; }
        export PYTHONPATH=$here/src
        "$python" -c "
import fastinit, numpy as np
assert np.array([1e-40], 'f4')[0] * np.float32(1) != 0, 'subnormals are off'
assert fastinit.__file__.startswith('$here'), fastinit.__file__
"
        "$python" -m pytest -q -p no:cacheprovider tests/stream/test_golden.py tests/stream/test_stream.py tests/stream/test_haar.py tests/engine/test_stack_bits.py
    )
}

python=$(realpath -s "$1")
check gcc "-Ofast -funsafe-math-optimizations -march=native -flto -DNDEBUG"
check clang "-ffast-math -O0 -march=native"
