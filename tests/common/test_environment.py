# SPDX-License-Identifier: BSD-3-Clause
"""The same bits in any environment of the call: guard pages, floating-point modes, fork, threads, environment variables."""

import concurrent.futures
import ctypes
import faulthandler
import itertools
import mmap
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import golden
import numpy as np
import pytest

import fastinit
from fastinit import _core

INFINITY = float("inf")
ROWS = golden.read()
SHORT = [row for row, _ in ROWS if row.count < 20_000]
LONG = [(row, sha) for row, sha in ROWS if row.count > 500_000]
# What flush-to-zero would change: subnormal values of each dtype.
SUBNORMAL = [
    golden.Row(law, dtype, parameters, 5, 6, 17, 5_000)
    for dtype, tiny in (("float32", 3e-39), ("float64", 3e-309), ("float16", 1e-5), ("bfloat16", 3e-39))
    for law, parameters in (
        ("uniform", (-tiny, tiny)),
        ("uniform", (tiny / 2, tiny)),
        ("normal", (0.0, tiny)),
        ("normal", (tiny, tiny / 4)),
        ("truncated_normal", (0.0, tiny, -2.0, 2.0)),
        ("truncated_normal", (tiny, tiny / 8, -1.0, INFINITY)),
        ("truncated_normal", (0.0, tiny / 8, 5.25, 8.0)),
    )
]


# ---- a child process -----------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def status_of_child(function):
    """Calls `function` in a forked child: returns 0, its exit status, or minus the signal that killed it."""
    with warnings.catch_warnings():
        # Python 3.12 and later warn if the process has any thread. NumPy's BLAS has some, and the child needs none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.disable()  # some children are meant to crash
            signal.alarm(60)  # so that a deadlock ends the child
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# ---- guard memory --------------------------------------------------------------------------------


class Guarded:
    """Memory between two pages without access."""

    def __init__(self, size):
        page = mmap.PAGESIZE
        self.size = -(-size // page) * page
        self._map = mmap.mmap(-1, self.size + 2 * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (address, address + page + self.size):
            if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        self.memory = np.frombuffer(self._map, np.uint8, self.size, page)


@needs_fork
def test_guard_pages_catch_an_access():
    """So the test below can fail: one element too many at either end kills the process."""

    def behind():
        Guarded(100).memory.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))[mmap.PAGESIZE] = 1

    def before():
        Guarded(100).memory.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))[-1] = 1

    assert status_of_child(behind) in (-signal.SIGSEGV, -signal.SIGBUS)
    assert status_of_child(before) in (-signal.SIGSEGV, -signal.SIGBUS)


@needs_fork
def test_nothing_outside_the_output_is_touched(each_isa):
    """Sizes 2^k - 1, 2^k, 2^k + 1, directly after a guard page and directly before one."""
    sizes = sorted({2**k + d for k in range(11) for d in (-1, 0, 1)} - {0})
    kernels = {(row.law, row.dtype, row.parameters): row for row in SHORT}

    def fill():
        guarded = Guarded(8 * max(sizes)).memory
        for row in kernels.values():
            whole = row.values(count=max(sizes) + 63)
            for count, skip in itertools.product(sizes, (0, 1, 63)):
                nbytes = count * whole.itemsize
                for piece in (guarded[:nbytes], guarded[-nbytes:]):
                    values = piece.view(whole.dtype)
                    row.fill(values, skip)
                    if not np.array_equal(values, whole[skip : skip + count]):
                        os._exit(2)

    assert status_of_child(fill) == 0


# ---- floating-point modes ------------------------------------------------------------------------

def test_modes_change_arithmetic(mode):
    """So the tests below can fail: each mode changes a result of NumPy."""
    a = np.array([3e-39, 1.0, -1.0], np.float32)
    b = np.array([0.5, 1e-12, -1e-12], np.float32)
    ordinary = a * b, a + b, a - b
    with mode():
        other = a * b, a + b, a - b
    assert any((x != y).any() for x, y in zip(ordinary, other, strict=True))


def test_same_bits_in_every_mode(each_isa, mode):
    rows = [*SHORT, *SUBNORMAL]
    expected = [row.values(count=min(row.count, 1_000)) for row in rows]
    outputs = [np.empty_like(values) for values in expected]
    with mode():
        for row, out in zip(rows, outputs, strict=True):
            row.fill(out)
    for row, values, out in zip(rows, expected, outputs, strict=True):
        np.testing.assert_array_equal(out, values, str(row))


def test_same_bits_in_every_mode_of_worker_threads(mode):
    """A new thread inherits the mode of the thread that starts it."""
    outputs = [np.empty(row.count, golden.ITEM[row.dtype]) for row, _ in LONG]
    with mode():
        for (row, _), out in zip(LONG, outputs, strict=True):
            row.fill(out, threads=3)
    for (row, sha), out in zip(LONG, outputs, strict=True):
        assert golden.digest(out) == sha, str(row)


def test_losses_have_the_same_bits_in_every_mode(mode):
    """Also where the last operation has a subnormal result."""
    cases = []
    for n in (3, 7, 11, 13, 48, 49):
        outputs = fastinit.normal((n, 3), key=fastinit.Key(n), dtype="float64")
        cases += [(fastinit.softmax_cross_entropy, outputs, np.arange(n) % 3)]
        cases += [(fastinit.mean_squared_error, outputs * scale, np.zeros((n, 3))) for scale in (1.0, 1e-158)]
    expected = [loss(outputs, targets) for loss, outputs, targets in cases]
    assert sum(0 < value < 2**-1022 for value, _ in expected) == 6
    with mode():
        found = [loss(outputs, targets) for loss, outputs, targets in cases]
    for (value, gradient), (wanted, exact) in zip(found, expected, strict=True):
        assert value.hex() == wanted.hex()
        np.testing.assert_array_equal(gradient, exact)


def test_subnormal_rows_are_subnormal():
    """Most of their values are, so that flush-to-zero would change them."""
    for row in SUBNORMAL:
        values = row.values().astype(np.uint64)
        exponent = {"float32": 0xFF << 23, "float64": 0x7FF << 52, "float16": 0x1F << 10}
        mask = exponent.get(row.dtype, 0xFF << 7)
        subnormal = (values & np.uint64(mask) == 0) & (values << 1 & np.uint64(2**64 - 1) != 0)
        assert subnormal.mean() > 0.5, str(row)


# ---- processes and threads -----------------------------------------------------------------------


@needs_fork
def test_same_bits_after_fork():
    """In a child that uses threads, of a process that has used threads."""
    for row, _ in LONG:
        row.values(threads=2)

    def check():
        if any(golden.digest(row.values(threads=3)) != sha for row, sha in LONG):
            os._exit(2)

    assert status_of_child(check) == 0


def test_same_bits_from_several_python_threads_at_once(each_isa):
    medium = [(row, sha) for row, sha in ROWS if row.count < 200_000]
    jobs = [(row, sha, threads) for row, sha in [*medium, *LONG[::2]] for threads in (1, 2)]

    def run(job):
        row, sha, threads = job
        return golden.digest(row.values(threads=threads)) == sha

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, jobs))


@needs_fork
def test_worker_threads_end_with_the_call():
    """There is no thread pool, for which fork and exit would have to wait."""
    if not Path("/proc/self/task").exists():
        pytest.skip("this system does not list a process's threads")

    def check():
        row = max((row for row, _ in LONG), key=lambda row: row.count)
        row.values(threads=7)
        for _ in range(100):  # the system lists a joined thread for a moment longer
            if len(os.listdir("/proc/self/task")) == 1:
                return
            time.sleep(0.05)
        os._exit(2)

    assert status_of_child(check) == 0


def run_with(code, **environment):
    """A new process with these environment variables, and none of the others that set the number of threads."""
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, errors="surrogateescape")


LIMITS = [
    ({"OMP_NUM_THREADS": "3"}, 3),
    ({"OMP_NUM_THREADS": " 3 , 2"}, 3),
    ({"OMP_NUM_THREADS": "9" * 5000}, 256),
    ({"OMP_NUM_THREADS": "0" * 5000 + "7"}, 7),
    ({"FASTINIT_NUM_THREADS": "9" * 5000}, 256),
    ({"FASTINIT_NUM_THREADS": "2", "OMP_NUM_THREADS": "3"}, 2),
    ({"FASTINIT_NUM_THREADS": "", "OMP_NUM_THREADS": "3"}, 3),
]


@pytest.mark.parametrize(("variables", "limit"), LIMITS, ids=lambda x: repr(x)[:40])
def test_threads_of_the_environment(variables, limit):
    run = run_with("import fastinit; print(fastinit.get_num_threads())", **variables)
    assert run.stderr == ""
    assert run.stdout.strip() == str(limit)


@pytest.mark.parametrize("text", ["nonsense", "-1", "0", "1.5", "0x10", "1" * 5000 + "x", "\u0663", "\udcff", ",3"], ids=ascii)
def test_environment_variables_that_are_no_number(text):
    """OMP_NUM_THREADS is then ignored, and FASTINIT_NUM_THREADS is refused with a one-line error."""
    print_limit = "import fastinit; print(fastinit.get_num_threads())"
    if os.name == "nt" and not text.isascii():
        pytest.skip("text that this system's environment has no way to hold")
    assert run_with(print_limit, OMP_NUM_THREADS=text).stdout == run_with(print_limit).stdout != ""
    run = run_with(print_limit, FASTINIT_NUM_THREADS=text)
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ValueError: FASTINIT_NUM_THREADS: expected an int >= 1, got ")
    assert len(last) < 120


def test_the_number_of_cpus_may_be_unknown():
    """A sandbox may forbid the system call, and the container's limit may be unreadable."""
    code = (
        "import builtins, os\n"
        "def refuse(*args): raise PermissionError('sandbox')\n"
        "os.sched_getaffinity = refuse\n"
        "import fastinit; print(fastinit.get_num_threads() >= 1)"
    )
    assert run_with(code).stdout.strip() == "True"


def test_an_instruction_set_that_does_not_exist():
    run = subprocess.run(
        [sys.executable, "-c", "import fastinit"], env={**os.environ, "FASTINIT_ISA": "AVX2"}, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "FASTINIT_ISA: instruction set: expected one of" in run.stderr


@pytest.mark.parametrize("name", ["\ud800", "scalar\0", "SCALAR", "ä" * 3])
def test_a_name_that_is_no_instruction_set(name, restored_isa):
    with pytest.raises(ValueError, match=r"instruction set: expected one of .*scalar.*; got unknown"):
        _core.set_isa(name)


@pytest.mark.parametrize("name", [*_core.available_isas(), ""])
def test_instruction_set_of_the_environment(name):
    """FASTINIT_ISA chooses; empty means the widest."""
    code = "from fastinit import _core; print(_core.isa())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FASTINIT_ISA": name}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == (name or _core.available_isas()[-1])
