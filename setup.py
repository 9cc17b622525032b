"""Builds the extension module; all other settings are in pyproject.toml."""

import os
import re
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent

# The same flags for every file on every machine: instruction sets are switched on by target regions
# inside csrc/isa/*.c, never by flags, and the CPU of the build host does not matter.
# The last three override the user's CFLAGS: contracted multiply-adds, for example, give other bits.
# -fno-fast-math is the first of them, because it also switches -fmath-errno on.
GCC_FLAGS = [
    "-O3", "-std=c11", "-fvisibility=hidden", "-fstack-protector-strong", "-pthread",
    "-fno-fast-math", "-fno-math-errno", "-ffp-contract=off",
]  # fmt: skip
# A compiler that links with -Ofast, -ffast-math or -funsafe-math-optimizations adds crtfastmath.o, whose constructor switches
# subnormal numbers off in the whole process that loads the library. Each of the three options is undone by one of these, which
# come after CC, CFLAGS and LDFLAGS, and after the contents of a response file (@file) in them.
GCC_LINK_FLAGS = ["-pthread", "-O3", "-fno-fast-math", "-fno-unsafe-math-optimizations"]
# Options that no later option undoes are removed: they link other files that change the arithmetic of a process
# (crtprec*.o, crtfastmath.o), read double constants as float, or use x87 arithmetic.
REFUSED = re.compile(r"-mpc(32|64|80)|-mdaz-ftz|-fsingle-precision-constant|-mfpmath=.*(387|both).*")
MSVC_FLAGS = ["/O2", "/std:c11", "/fp:precise", "/W3"]

# With the limited API one wheel serves every CPython from 3.11 on; free-threaded builds have no limited API.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
LIMITED_API = sys.implementation.name == "cpython" and not FREE_THREADED


def cpus():
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(compile):
    """The `compile` method of a compiler for several sources at once; kernels come first, because they take longest."""

    def compiled(sources, **options):
        order = sorted(sources, key=lambda name: "isa" not in name)
        with ThreadPoolExecutor(cpus()) as pool:
            done = list(pool.map(lambda source: compile([source], **options), order))
        found = dict(zip(order, done, strict=True))
        return [item for source in sources for item in found[source]]

    return compiled


class BuildExt(build_ext):
    def build_extensions(self):
        msvc = self.compiler.compiler_type == "msvc"
        if not msvc and shutil.which(self.compiler.compiler_so[0]) is None:
            sys.exit(
                f"fastinit: expected a C compiler, but {self.compiler.compiler_so[0]} was not found; "
                "the wheels on PyPI need none: pip install --only-binary fastinit fastinit"
            )
        if not msvc:
            self.compiler.compile = side_by_side(self.compiler.compile)
        for extension in self.extensions:
            extension.extra_compile_args = list(MSVC_FLAGS if msvc else GCC_FLAGS)
            if not msvc:
                extension.extra_link_args = list(GCC_LINK_FLAGS)
        for name in ("compiler_so", "linker_so"):
            command = getattr(self.compiler, name, None)  # absent with MSVC
            if command:
                setattr(self.compiler, name, [word for word in command if self.kept(word)])
        super().build_extensions()

    def kept(self, word):
        """Whether an option that Python was built with, or that the environment has, is used here."""
        # Python was built with -g, which would make four fifths of the library debug sections: only CFLAGS may ask for it.
        wanted = word != "-g" or "-g" in os.environ.get("CFLAGS", "").split()
        return wanted and not REFUSED.fullmatch(word)


core = Extension(
    "fastinit._core",
    sources=[
        "src/fastinit/_core.pyx",
        *sorted(str(path.relative_to(HERE).as_posix()) for path in (HERE / "csrc").rglob("*.c")),
    ],
    include_dirs=["csrc"],
    depends=sorted(str(path.relative_to(HERE).as_posix()) for path in (HERE / "csrc").rglob("*.[hd]*")),
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED_API else [],
    py_limited_api=LIMITED_API,
)

setup(
    ext_modules=cythonize([core], language_level=3),
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)
