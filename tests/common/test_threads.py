# SPDX-License-Identifier: BSD-3-Clause
"""Many Python threads at once, on one stack and on their own: the same bits as one after another.

It tests most on a free-threaded Python. On an ordinary one the calls still overlap in C, because calls of these sizes release
the lock.
"""

import itertools
import os
import platform
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from stack_cases import batch_of, everything, network

import fastinit
from fastinit import Key, Recorder, _core, get_num_threads, num_threads, set_num_threads

THREADS, ROUNDS = 8, 12
WIDTHS = (64, 200, 200, 200, 10)


def at_once(function):
    """Calls function(0) ... function(THREADS - 1) in threads that start together; the first failure is raised."""
    barrier = threading.Barrier(THREADS)
    failures = []

    def run(i):
        try:
            barrier.wait(60)
            function(i)
        except BaseException as failure:
            failures.append(failure)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # with a global lock, threads then switch often
    try:
        threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if failures:
        raise failures[0]


@pytest.fixture(params=[0, 9])
def cases(request):
    """One stack, a batch for each thread, of equal or different sizes, and the results of a single thread."""
    stack, key = network(WIDTHS, "tanh", "float32", name="threads")
    batches = [batch_of(stack, key / str(i), 40 + request.param * i) for i in range(THREADS)]
    expected = []
    for x, dy in batches:
        alone, _ = network(WIDTHS, "tanh", "float32", name="threads")
        expected.append(everything(alone.propagate(x, dy, gradients=True)))
    return stack, batches, expected


@pytest.mark.skipif(not _core.FREE_THREADED, reason="this Python always has its lock")
def test_importing_keeps_the_global_lock_off():
    """On a free-threaded Python, importing a module that does not declare support would switch the lock on, with a warning."""
    code = "import sys, numpy; before = sys._is_gil_enabled(); import fastinit; assert sys._is_gil_enabled() == before"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_one_stack_in_many_threads(cases):
    """Each thread keeps its last result while it computes the next one: no other thread may write there."""
    stack, batches, expected = cases

    def work(i):
        held = None
        x, dy = batches[i]
        for turn in range(ROUNDS):
            with num_threads(1 + turn % 2):
                found = stack.propagate(x, dy, gradients=True)
            assert held is None or everything(held) == expected[i]
            assert everything(found) == expected[i]
            held = found if turn % 3 else None

    at_once(work)


def test_recordings_and_recorders_of_one_stack(cases):
    stack, batches, _ = cases
    expected = [stack.backward(x, dy).weights for x, dy in batches]

    def work(i):
        x, dy = batches[i]
        recorder = Recorder(stack, len(x))
        for _ in range(ROUNDS):
            recording = stack.record(x)
            np.testing.assert_array_equal(recorder.forward(x), recording.output)
            recorder.backward(dy)
            for arrays in (recording.backward(dy).weights, recorder.weight_gradients):
                for a, b in zip(arrays, expected[i], strict=True):
                    np.testing.assert_array_equal(a, b)

    at_once(work)


def test_stacks_of_their_own(cases):
    _, batches, expected = cases

    def work(i):
        for _ in range(3):
            stack, _ = network(WIDTHS, "tanh", "float32", name="threads")
            for _ in range(3):
                assert everything(stack.propagate(*batches[i], gradients=True)) == expected[i]

    at_once(work)


def test_fills_while_limits_and_instruction_sets_change():
    """Small fills, which keep the global lock, and large ones, which release it and start worker threads."""
    shapes = [(33,), (300_001,), (700, 900)]
    keys = [Key(3) / str(i) for i in range(THREADS)]
    initializer = fastinit.get("random_normal")
    expected = [[initializer(shape, key=key) for shape in shapes] for key in keys]
    names = itertools.cycle(_core.available_isas())
    limit, isa = get_num_threads(), _core.isa()

    def work(i):
        for turn in range(ROUNDS):
            if i == 0:
                _core.set_isa(next(names))
            elif i == 1:
                set_num_threads(1 + turn % 3)
            with num_threads(1 + i % 3):
                assert get_num_threads() == 1 + i % 3
                outs = [np.empty(shape, np.float32) for shape in shapes]
                fastinit.fill_many([(out, initializer, keys[i]) for out in outs])
                for shape, out, wanted in zip(shapes, outs, expected[i], strict=True):
                    np.testing.assert_array_equal(out, wanted)
                    np.testing.assert_array_equal(initializer(shape, key=keys[i]), wanted)

    try:
        at_once(work)
    finally:
        _core.set_isa(isa)
        set_num_threads(limit)


@pytest.mark.skipif(not (shutil.which("cc") and platform.libc_ver()[0] == "glibc"), reason="for glibc, with a C compiler")
@pytest.mark.parametrize("kilobytes", [200, 235, 800])
def test_threads_next_to_a_library_with_much_thread_local_memory(kilobytes, tmp_path):
    """glibc takes that memory out of each thread's stack."""
    source, library = tmp_path / "local.c", tmp_path / "local.so"
    local = f'__thread char local[{kilobytes} * 1024] __attribute__((tls_model("initial-exec")))'
    source.write_text(f"static {local};\nchar *f(void) {{ return local; }}\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", str(source), "-o", str(library)], check=True)
    code = (
        "import fastinit, numpy as np; from fastinit import Key, Stack; fastinit.set_num_threads(2); "
        "fastinit.get('orthogonal')((600, 600), key=Key(0)); fastinit.normal(1 << 21, key=Key(0)); "
        "Stack((256,) * 4, 'tanh', key=Key(0)).propagate(np.ones((256, 256)), gradients=True)"
    )
    preload = f"{os.environ.get('LD_PRELOAD', '')} {library}"  # after a sanitizer's, which must come first
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "LD_PRELOAD": preload}, check=True)
