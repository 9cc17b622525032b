#!/usr/bin/env bash
# Tests that other CPUs give the same bits, by user-mode emulation: AArch64 with NEON, x86-64 without AVX, and x86-64 with
# AVX2 but no AVX-512. Needs qemu-user and an AArch64 cross compiler (Debian: qemu-user gcc-aarch64-linux-gnu
# libc6-dev-arm64-cross).
#
#     tools/emulated.sh [PYTHON]    PYTHON has fastinit, NumPy and pytest; without it only the C program runs
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-O1 -std=c11 -ffp-contract=off -pthread -static -Icsrc"

# Runs the program, prints its results, and compares its hashes of matrices and stacks with the host's.
# $1: a name, the rest: the command; $expected: the instruction sets that it must find.
check() {
    local name=$1
    shift
    "$@" tests/vectors/golden.txt 20000 | tee "$work/$name.out" | grep -v '^haar\|^stack'
    grep '^haar\|^stack' "$work/$name.out" >"$work/$name.hashes"
    local sets
    sets=$(sed -n 's/^\([a-z0-9]*\): [0-9]* of .*/\1/p' "$work/$name.out" | tr '\n' ' ')
    [ "$sets" = "$expected " ] || { echo "$name: expected the instruction sets $expected, got $sets"; exit 1; }
    cmp "$work/host.hashes" "$work/$name.hashes"
}

gcc $flags tests/c/golden.c csrc/*/*.c -lm -o "$work/host" &
aarch64-linux-gnu-gcc $flags tests/c/golden.c csrc/*/*.c -lm -o "$work/arm"
wait $!
"$work/host" tests/vectors/golden.txt 20000 | grep '^haar\|^stack' >"$work/host.hashes"
echo "AArch64"
expected="scalar neon" check arm qemu-aarch64 "$work/arm"
echo "x86-64 without AVX"
expected="scalar" check nehalem qemu-x86_64 -cpu Nehalem "$work/host"
echo "x86-64 with AVX2"
expected="scalar avx2" check avx2 qemu-x86_64 -cpu max "$work/host"

[ $# -ge 1 ] || exit 0
# NumPy loads OpenBLAS, which could take the emulated processor for one with AVX: choose its kernels here.
for cpu in Nehalem max; do
    echo "Python on $cpu"
    OPENBLAS_CORETYPE=Nehalem qemu-x86_64 -cpu "$cpu" "$1" -m pytest -q -p no:cacheprovider tests/stream/test_golden.py::test_every_instruction_set \
        tests/stream/test_stream.py -k "instruction_set or specification"
done
