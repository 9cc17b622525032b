#!/usr/bin/env bash
# Runs the C core under gcc's sanitizers with all instruction sets of this CPU: golden hashes and the stack (golden.c), calls
# from several threads at once (threads.c), and training (training.c); outputs end at the end of their allocation. First
# addresses, leaks and undefined behaviour, then data races. Any finding ends the script. Takes 165 seconds of CPU.
#
#     tools/sanitize.sh
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# $1: the sanitizers. At -O0 gcc compiles isa/avx512.c in 12 s, at -O1 in 81 s, and no access is optimised away.
build() {
    local flags="-O0 -g -std=c11 -ffp-contract=off -pthread -fsanitize=$1 -fno-sanitize-recover=all"
    printf '%s\0' csrc/*/*.c tests/c/*.c |
        xargs -0 -P 2 -I{} sh -c "gcc $flags -Icsrc -c {} -o $work/\$(basename {} .c).o"
    local program core=()
    for file in csrc/*/*.c; do core+=("$work/$(basename "$file" .c).o"); done
    for program in golden threads training; do
        gcc $flags "${core[@]}" "$work/$program.o" -lm -o "$work/$program"
    done
}

for kind in address,undefined thread; do
    echo "$kind"
    build "$kind"
    "$work/golden" tests/vectors/golden.txt 20000 | grep -v '^haar\|^stack'
    "$work/threads"
    "$work/training"
done
