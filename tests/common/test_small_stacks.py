# SPDX-License-Identifier: BSD-3-Clause
"""Everything works in threads with small stacks, as servers and libraries start them: large arrays are not on the stack.

Python gives a thread at least 32 KiB. The calls are made in a process of their own, which an overflow would crash.
"""

import subprocess
import sys

import pytest

from fastinit import _core

CODE = """
import sys, threading, warnings
import numpy as np
import fastinit
from fastinit import Key, Recorder, Stack, _core

warnings.simplefilter("ignore")
fastinit.set_num_threads(2)
_core.set_isa(sys.argv[1])
key = Key(3)

def in_a_small_thread(name, function):
    print(name, flush=True)
    failures = []
    def work():
        try:
            function()
        except BaseException as failure:
            failures.append(failure)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]

cases = {}
for dtype in ("float32", "float64", "float16", "bfloat16", "complex64", "complex128"):
    for n in (1000, 600_000 if dtype == "float64" else 20_000):
        cases[f"uniform {dtype} {n}"] = lambda n=n, d=dtype: fastinit.uniform(n, key=key, dtype=d)
        cases[f"normal {dtype} {n}"] = lambda n=n, d=dtype: fastinit.normal(n, key=key, dtype=d)
        for bounds in ((-2, 2), (-1, 3), (5, 9), (-1e-6, 1e-6)):
            cases[f"truncated normal {dtype} {n} {bounds}"] = (
                lambda n=n, d=dtype, b=bounds: fastinit.truncated_normal(n, lower=b[0], upper=b[1], key=key, dtype=d)
            )
for name in ("orthogonal", "delta_orthogonal", "zeros", "identity", "hadamard", "log_uniform", "dirac", "he_uniform"):
    shape = (3, 3, 20, 30) if name in ("dirac", "delta_orthogonal") else (200, 200)
    for dtype in ("float32", "float64"):
        cases[f"{name} {dtype}"] = lambda i=fastinit.get(name), s=shape, d=dtype: i(s, d, key=key)
for dtype in ("complex64", "complex128"):
    cases[f"unitary {dtype}"] = lambda d=dtype: fastinit.get("orthogonal")((100, 90), d, key=key)
cases["shard"] = lambda: fastinit.HeNormal().shard((900, 900), np.s_[::3, 1::2], key=key, dtype="float64")
out = [np.empty((700, 300), dtype) for dtype in ("float32", "float64", "float16")]
cases["fill_many"] = lambda: fastinit.fill_many([(array, "he_normal", key) for array in out])

def passes(dtype, virtual, activation, batch):
    x = fastinit.normal((batch, 130), key=key, dtype=dtype)
    stack = Stack((130, 150, 150, 10), activation, key=key, dtype=dtype, virtual=virtual)
    stack.forward(x)
    stack.propagate(x, gradients=not virtual, norms=True, pairs=[(0, batch - 1)])
    if not virtual:
        recorder = Recorder(stack, batch)
        recorder.forward(x)
        recorder.backward(np.ones((batch, 10), dtype))
        stack.record(x).backward(np.ones((batch, 10), dtype))

for dtype in ("float32", "float64"):
    for virtual in (False, True):
        for activation in _core.ACTIVATIONS:
            cases[f"{activation} {dtype} {virtual}"] = lambda d=dtype, v=virtual, a=activation: passes(d, v, a, 24)
        cases[f"few {dtype} {virtual}"] = lambda d=dtype, v=virtual: passes(d, v, "relu", 3)
    def trained(d=dtype, optimizer=None):
        stack = Stack((20, 200, 10), "relu", key=key, dtype=d)
        x, y = fastinit.normal((300, 20), key=key), np.arange(300) % 10
        fastinit.fit(stack, x, y, optimizer=optimizer, epochs=1, validation=(x, y))
        fastinit.fit(stack, x, np.eye(10)[y], loss=fastinit.mean_squared_error, optimizer=optimizer, epochs=1)
        fastinit.predict(stack, x)
    for optimizer in (fastinit.SGD(), fastinit.Momentum(), fastinit.Adam()):
        cases[f"fit {dtype} {optimizer}"] = lambda f=trained, o=optimizer: f(optimizer=o)
cases["theory"] = lambda: fastinit.theory.critical_pair("tanh", 0.1)

for name, function in cases.items():  # first in a large thread, which also does the imports of a first call
    function()
threading.stack_size(32 * 1024)
for name, function in cases.items():
    in_a_small_thread(name, function)
"""


@pytest.mark.parametrize("isa", _core.available_isas())
def test_calls_in_threads_of_small_stacks(isa):
    done = subprocess.run([sys.executable, "-c", CODE, isa], capture_output=True, text=True)
    assert done.returncode == 0, f"in {done.stdout.splitlines()[-1:]}: {done.stderr}"
