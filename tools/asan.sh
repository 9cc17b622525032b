#!/usr/bin/env bash
# Runs a command with the extension built for gcc's address and undefined-behaviour sanitizers, with the kernels of all
# instruction sets. The build is outside of the source tree; a folder named by FASTINIT_ASAN_BUILD keeps it, and the next
# call compiles only what has changed. The first build takes some 200 seconds of CPU, half of them for isa/avx512.c.
# PYTHON is the interpreter; it needs Cython and NumPy. Any finding aborts the process.
#
#     tools/asan.sh python -m pytest -q tests/common/test_threads.py
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: tools/asan.sh COMMAND [ARGUMENT...]" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
build=${FASTINIT_ASAN_BUILD:-}
if [ -z "$build" ]; then
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
fi
mkdir -p "$build/fastinit" "$build/objects"
build=$(cd "$build" && pwd)

# The flags of setup.py with -O1: at -O3 gcc takes minutes to compile each instruction set with sanitizers.
flags="-O1 -g -std=c11 -fno-math-errno -fno-fast-math -ffp-contract=off -pthread -fPIC -fno-omit-frame-pointer"
flags="$flags -fsanitize=address,undefined -fno-sanitize-recover=all"
compile() { # source, object, further flags
    gcc $flags "${@:3}" -I"$root/csrc" -c "$1" -o "$2.new"
    mv "$2.new" "$2" # complete or not at all
}
export -f compile
export flags root build
stamp=$(cat "$root"/csrc/*/*.[hd]* "$root"/csrc/*.h | sha256sum | cut -c1-16)
for source in "$root"/csrc/*/*.c; do
    object=$build/objects/$(basename "$source" .c)-$stamp-$(sha256sum <"$source" | cut -c1-16).o
    echo "$object" >&3
    [ -e "$object" ] || printf '%s\0%s\0' "$source" "$object"
done 3>"$build/objects.txt" | xargs -0 -r -n 2 -P "$(nproc)" bash -c 'set -e; compile "$0" "$1"'

# The binding is built as by setup.py, with the limited API where there is one.
IFS=$'\t' read -r include suffix limited < <("$python" -c '
import sys, sysconfig
limited = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
print(sysconfig.get_path("include"), sysconfig.get_config_var("EXT_SUFFIX"), "-DPy_LIMITED_API=0x030B0000" if limited else "-g", sep="\t")')
cp -r "$root"/src/fastinit/_core.pyx "$root"/src/fastinit/_binding "$build/objects/"
"$python" -m cython -3 "$build/objects/_core.pyx" -o "$build/objects/_core.c"
compile "$build/objects/_core.c" "$build/objects/_core.o" -I"$include" "$limited"
(cd "$root/src" && find fastinit -name '*.py' -print0 | xargs -0 cp --parents -t "$build")
xargs gcc $flags -shared "$build/objects/_core.o" -o "$build/fastinit/_core$suffix" <"$build/objects.txt"

# Leaks are not checked, because Python and NumPy have some. Too large allocations fail as without sanitizers. With
# PYTHONMALLOC=malloc the sanitizer also sees the bounds of small objects.
env LD_PRELOAD="$(gcc -print-file-name=libasan.so)" PYTHONPATH="$build${PYTHONPATH:+:$PYTHONPATH}" PYTHONMALLOC=malloc \
    PYTHONDONTWRITEBYTECODE=1 UBSAN_OPTIONS=print_stacktrace=1 \
    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 "$@"
