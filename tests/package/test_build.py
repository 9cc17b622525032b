# SPDX-License-Identifier: BSD-3-Clause
"""setup.py: the compiler, a user's CFLAGS and LDFLAGS, and the size of the package.

Whatever the flags, the library computes as its source says, and loading it does not change the arithmetic of the process.
Tested on a small library; tools/flags.sh builds the whole one.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from places import PACKAGE

SETUP = Path(__file__).parents[2] / "setup.py"
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]

LARGEST_WHEEL = 1_500_000  # bytes

pytestmark = [
    pytest.mark.skipif(not SETUP.exists(), reason="setup.py is not installed with the tests"),
    pytest.mark.skipif(sys.platform != "linux" or not COMPILERS, reason="for Linux with gcc or clang"),
]

# Each function returns 1 if the compiler follows the C standard without contraction.
SOURCE = r"""
#include <float.h>
#pragma GCC visibility push(default)
volatile double a = 1 + DBL_EPSILON, big = 1e300, zero = 0, tenth = 10;
int product_rounds(void) { double b = a; return b * b - (1 + 2 * DBL_EPSILON) == 0; }
int order_stays(void) { double b = big; return (b + 1) - b == 0; }
int nan_is_known(void) { double b = zero / zero; return b != b; }
int sign_of_zero_stays(void) { double b = -zero; return 1 / (b + 0.0) > 0; }
int constants_are_double(void) { return 1 / tenth == 0.1; }
"""
# Builds it by the command of setup.py, in which only the list of sources is replaced; prints the path of the library.
BUILD = """
import runpy, sys, types
import setuptools
found = {}
setuptools.setup = lambda **options: found.update(options)
fake = types.ModuleType("Cython.Build")
fake.cythonize = lambda extensions, **options: extensions
sys.modules["Cython"], sys.modules["Cython.Build"] = types.ModuleType("Cython"), fake
runpy.run_path(sys.argv[1])
extension = setuptools.Extension("small", ["small.c"])
options = {"name": "small", "ext_modules": [extension], "cmdclass": found["cmdclass"]}
command = setuptools.Distribution(options).get_command_obj("build_ext")
command.build_lib = command.build_temp = "."
command.ensure_finalized()
command.run()
print(command.get_outputs()[0])
"""
# Prints what is wrong once the library is loaded: subnormals, the precision of x87, and functions that do not return 1.
LOAD = """
import ctypes, sys
import numpy as np
tiny, third = np.array([1e-40], "f4"), np.array([1], "g") / np.array([3], "g")
library = ctypes.CDLL(sys.argv[1])
wrong = [name for name in sys.argv[2:] if getattr(library, name)() != 1]
if (tiny * np.float32(1))[0] == 0:
    wrong.append("subnormals are off")
if np.array([1], "g") / np.array([3], "g") != third:
    wrong.append("long double is shorter")
print(", ".join(wrong))
"""
FUNCTIONS = [line.split("(")[0].split()[1] for line in SOURCE.splitlines() if line.startswith("int ")]


def faults_of(library, names=FUNCTIONS):
    run = subprocess.run([sys.executable, "-c", LOAD, str(library), *names], capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.parametrize("compiler", COMPILERS)
def test_flags_change_a_library_that_is_built_without_setup_py(compiler, tmp_path):
    """The tests below can fail: a library built directly with such flags has these faults."""
    (tmp_path / "small.c").write_text(SOURCE)
    command = [compiler, "-shared", "-fPIC", "-Ofast", "-march=native", "small.c", "-o", "small.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    found = faults_of(tmp_path / "small.so")
    assert "order_stays" in found
    assert "nan_is_known" in found
    if "subnormals are off" not in found:
        pytest.skip(f"this {compiler} links no crtfastmath.o into a shared library, so the tests of linking cannot fail")


FLAGS = {
    "": {},
    "-ffast-math": {"CFLAGS": "-ffast-math"},
    "-Ofast": {"CFLAGS": "-Ofast"},
    "-funsafe-math-optimizations": {"CFLAGS": "-funsafe-math-optimizations -ffinite-math-only -fassociative-math"},
    "of the linker": {"LDFLAGS": "-Ofast -ffast-math -funsafe-math-optimizations"},
    "of both": {"CFLAGS": "-Ofast -march=native -ffp-contract=fast", "LDFLAGS": "-ffast-math"},
    "in a response file": {"CFLAGS": "@flags", "LDFLAGS": "@flags"},
    "link-time optimisation": {"CFLAGS": "-flto -Ofast -march=native", "LDFLAGS": "-flto -Ofast"},
    "others": {"CFLAGS": "-O0 -DNDEBUG -D_GNU_SOURCE -g"},
}


def build(folder, environment):
    (folder / "small.c").write_text(SOURCE)
    (folder / "flags").write_text("-Ofast -ffast-math -funsafe-math-optimizations\n")
    pytest.importorskip("setuptools")
    names = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED", "OPT")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", BUILD, str(SETUP)], cwd=folder, env={**inherited, **environment}, capture_output=True, text=True,
    )  # fmt: skip


def built(folder, environment):
    run = build(folder, environment)
    assert run.returncode == 0, run.stderr
    return folder / run.stdout.split()[-1]


def test_without_a_compiler_one_sentence_says_so(tmp_path):
    run = build(tmp_path, {"CC": "no-such-compiler"})
    assert run.returncode == 1
    assert run.stderr == (
        "fastinit: expected a C compiler, but no-such-compiler was not found; "
        "the wheels on PyPI need none: pip install --only-binary fastinit fastinit\n"
    )


def test_the_wheel_is_small(tmp_path):
    """Files of the package, compressed as in a wheel. Debug sections alone would make it larger than the limit."""
    if "-g" in os.environ.get("CFLAGS", "").split():
        pytest.skip("CFLAGS asks for debug sections")
    with zipfile.ZipFile(tmp_path / "wheel", "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in PACKAGE.rglob("*"):
            if path.suffix in (".py", ".pyi", ".so", ".typed"):
                wheel.write(path, path.relative_to(PACKAGE))
    assert 100_000 < (tmp_path / "wheel").stat().st_size < LARGEST_WHEEL


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_flags_of_the_environment(compiler, flags, tmp_path):
    if compiler == "clang" and "-flto" in FLAGS[flags].get("CFLAGS", "") and not shutil.which("ld.lld"):
        pytest.skip("clang's link-time optimisation needs lld")
    assert faults_of(built(tmp_path, {**FLAGS[flags], "CC": compiler, "LDSHARED": f"{compiler} -shared"})) == ""


@pytest.mark.parametrize("compiler", COMPILERS)
def test_flags_within_cc(compiler, tmp_path):
    assert faults_of(built(tmp_path, {"CC": f"{compiler} -Ofast", "LDSHARED": f"{compiler} -Ofast -shared"})) == ""


@pytest.mark.skipif("gcc" not in COMPILERS, reason="flags of gcc")
@pytest.mark.parametrize("flag", ["-mpc64", "-mpc32", "-fsingle-precision-constant", "-mfpmath=387"])
def test_flags_that_no_other_flag_undoes(flag, tmp_path):
    if flag.startswith("-m") and os.uname().machine != "x86_64":
        pytest.skip("a flag of x86")
    assert faults_of(built(tmp_path, {"CFLAGS": f"-O2 {flag}", "LDFLAGS": flag, "CC": "gcc", "LDSHARED": "gcc -shared"})) == ""
