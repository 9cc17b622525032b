# SPDX-License-Identifier: BSD-3-Clause
"""Signals during long calls: Ctrl-C ends a call in the middle, other handlers run, and all objects stay usable.

Each case is a process of its own with the scalar instruction set, where the call would take seconds at least. That it ended early
is seen in memory that it has not written, not by the clock (bench/interrupt.py prints times).
"""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")

# `interrupted` runs a function, sends it the signal of Ctrl-C, and returns whether it raised KeyboardInterrupt.
BEGIN = """
import os, signal, sys, threading, time
import numpy as np
import fastinit
from fastinit import Key, Recorder, Stack, _core, normal, num_threads, set_num_threads
key = Key(5)
set_num_threads(1)

def after(seconds, handler, repeat=0):
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, repeat)

def interrupted(function, seconds=0.1):
    after(seconds, lambda *args: os.kill(os.getpid(), signal.SIGINT))
    before = tasks()
    try:
        function()
    except KeyboardInterrupt:
        for _ in range(1000):  # the system lists a joined thread for a moment longer
            if tasks() <= before:
                return True
            time.sleep(0.01)
        raise AssertionError("threads of the call are left")
    return False

def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0

def zeros(shape, dtype):  # pages that have not been written take no memory
    return np.zeros(shape, dtype)
"""


def run(code):
    environment = {**os.environ, "FASTINIT_ISA": "scalar"}
    command = [sys.executable, "-X", "faulthandler", "-c", BEGIN + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


# Each is interrupted in the middle: the beginning of its output has been written, and the end has not.
FILLS = {
    "normal": "normal(1 << 28, key=key, dtype='float16', out=out)",
    "one of many": "fastinit.fill_many([(out[:99], 'zeros', None), (out[99:], 'random_normal', key)])",
    "an initializer": "fastinit.get('truncated_normal')(1 << 28, 'float16', key=key, out=out)",
    "a shard": "fastinit.HeNormal().shard((1 << 14, 1 << 15), np.s_[:, ::2], key=key, dtype='float16', out=square)",
    "a shard backwards": "fastinit.RandomNormal().shard(1 << 28, np.s_[::-1], key=key, dtype='float16', out=out)",
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("fill", FILLS)
def test_fills(fill, threads):
    run(f"""
out = zeros(1 << 28, "float16")
square = out.reshape(1 << 14, 1 << 14)
with num_threads({threads}):
    assert interrupted(lambda: {FILLS[fill]})
assert out[100:1000].any() and not out[-1000:].any()
small = normal(1000, key=key, dtype="float16", out=out[:1000])  # the next call works as usual
assert (small == normal(1000, key=key, dtype="float16")).all()
""")


# Rows, columns and dtype: many reflections; a few long ones; complex ones.
HAAR = {"square": (5000, 5000, 1), "tall": (2_000_000, 64, 1), "one column": (4_000_000, 1, 1), "complex": (3000, 3000, 2)}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", HAAR)
def test_orthogonal_matrices(case, threads):
    rows, columns, parts = HAAR[case]
    run(f"""
out = zeros({rows * columns * parts}, "float32")
assert interrupted(lambda: _core.haar(out, 0, {parts}, {rows}, {columns}, 0, {columns}, 1.0, False, 5, 0, {threads}))
assert not out[-1]
made = fastinit.get("orthogonal")((50, 40), key=key)
assert np.abs(made.T @ made - np.eye(40)).max() < 1e-5
""")


def test_an_orthogonal_matrix_by_its_public_name():
    run("""
found = []
assert interrupted(lambda: found.append(fastinit.get("orthogonal")((6000, 6000), key=key)))
assert found == []
""")


# Widths, batch and options: one large product; many layers; few samples; statistics of the whole batch.
PASSES = {
    "one product": ((3000, 3000), 3000),
    "layers": ((300,) * 40, 2000),
    "few samples": ((2500,) * 12, 16),
    "a wide batch": ((8, 8), 8_000_000),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", PASSES)
def test_passes(case, threads):
    """A recorder stays usable: it refuses a backward pass of an interrupted forward pass, and its next pass is correct."""
    widths, batch = PASSES[case]
    run(f"""
stack = Stack({widths}, "tanh", weights=[np.full((a, b), 1 / 64, "f4") for a, b in zip({widths}, {widths}[1:])], key=key)
x = np.ones(({batch}, {widths[0]}), "f4")
with num_threads({threads}):
    recorder = Recorder(stack, {batch})
recorder.x[...] = x
recorder.output[...] = 7
assert interrupted(recorder.forward)
assert (recorder.output == 7).any()
try:
    recorder.backward(recorder.dy)
    raise AssertionError("a backward pass of half a forward pass")
except RuntimeError as error:
    assert "expected a call of forward" in str(error)
assert interrupted(lambda: stack.propagate(x, recorder.dy, norms=True, pairs=[(0, 1)] * 9))
small = Recorder(stack, 1)
assert np.isfinite(small.forward(x[:1])).all()
assert (stack.forward(x[:1]) == small.output).all()
""")


def test_a_backward_pass():
    run("""
stack = Stack((1500, 1500, 1500), "relu", key=key)
recorder = Recorder(stack, 64)
x, dy = normal((64, 1500), key=key), np.ones((64, 1500), "f4")
recorder.forward(x)
for gradient in recorder.weight_gradients:
    gradient[...] = 7
assert interrupted(lambda: recorder.backward(dy), 0.05)
assert (recorder.weight_gradients[0] == 7).any()
recorder.forward(x)
recorder.backward(dy)
for found, wanted in zip(recorder.weight_gradients, stack.backward(x, dy).weights):
    assert (found == wanted).all()
""")


def test_a_virtual_stack():
    run("""
stack = Stack((20_000,) * 20, "tanh", key=key, virtual=True)
found = []
assert interrupted(lambda: found.append(stack.forward(np.ones((4, 20_000), "f4"))))
assert interrupted(lambda: found.append(stack.propagate(np.ones((4, 20_000), "f4"), np.ones((4, 20_000), "f4"), norms=True)))
assert found == []
""")


def test_losses():
    # About 2 and 0.3 seconds, which is long compared with the 50 milliseconds after which a call checks for signals.
    run("""
for loss, n in (("CrossEntropy", 600_000), ("SquaredError", 2_400_000)):
    outputs, gradient = np.ones((n, 100), "f4"), zeros((n, 100), "f4")
    if loss == "CrossEntropy":
        call = _core.CrossEntropy(0, n, 100, outputs, np.zeros(n, "i8"), None, gradient)
    else:
        call = _core.SquaredError(0, 100 * n, outputs, zeros((n, 100), "f8"), gradient)
    assert interrupted(call, 0.01)
    assert gradient[0, 0] != 0 and gradient[-1, -1] == 0
    assert interrupted(call, 0.01)  # the object stays usable
""")


def test_training_stops_between_two_steps():
    """The parameters are those after an integer number of complete steps."""
    run("""
x, y = normal((6400, 200), key=key), np.arange(6400) % 10
def network():
    return Stack((200, 200, 200, 10), "tanh", key=key)
def fit(stack, optimizer):
    return fastinit.fit(stack, x, y, optimizer=optimizer, batch_size=128, epochs=50)
left = network()
assert interrupted(lambda: fit(left, fastinit.Adam()), 0.5)

class Found(Exception):
    pass

class Watched:
    def start(self, parameters):
        update, self.steps = fastinit.Adam().start(parameters), 0
        def step(gradients):
            update(gradients)
            self.steps += 1
            if all((a == b).all() for a, b in zip(parameters, [*left.weights, *left.biases])):
                raise Found
        return step
try:
    fit(network(), Watched())
    raise AssertionError("the parameters are those of no step")
except Found:
    pass
""")


def test_a_step_of_an_optimizer_is_not_interrupted():
    run("""
n = 30_000_000
w, g = np.zeros(n, "f4"), np.ones(n, "f4")
update = fastinit.Adam().start([w])
assert interrupted(lambda: [update([g]) for _ in range(1000)])
assert (w == w[0]).all()
update([g])
assert (w == w[0]).all()
""")


def test_a_handler_that_raises_nothing():
    """It runs in the middle of the call, which then continues and returns the same bits as without it."""
    run("""
size = 1 << 28
out, seen = zeros(size, "float16"), []
after(0.05, lambda *args: seen.append(not out[-1000:].any()), 0.05)
with num_threads(2):
    normal(size, key=key, dtype="float16", out=out)
signal.setitimer(signal.ITIMER_REAL, 0)
assert seen and seen[0]
for first in range(0, size, size // 8):
    piece = fastinit.RandomNormal(std=1.0).shard(size, np.s_[first:first + 999], key=key, dtype="float16")
    assert (out[first:first + 999] == piece).all()
""")


def test_a_handler_that_raises_something_else():
    run("""
class Enough(Exception):
    pass
def handler(*args):
    raise Enough("of it")
out = zeros(1 << 28, "float16")
after(0.1, handler)
try:
    normal(1 << 28, key=key, dtype="float16", out=out)
    raise AssertionError("not ended")
except Enough as error:
    assert str(error) == "of it"
assert out[0] and not out[-1000:].any()
""")


def test_a_handler_that_uses_the_object_of_the_interrupted_call():
    """It must not wait for its own thread, which would be a deadlock."""
    run("""
stack = Stack((400,) * 6, "tanh", key=key)
x = normal((600, 400), key=key)
recorder, errors = Recorder(stack, 600), []
recorder.output[...] = 7
def handler(*args):
    middle = (recorder.output == 7).all()
    try:
        recorder.forward(x)
    except RuntimeError as error:
        errors.append((middle, str(error)))
after(0.1, handler)
recorder.forward(x)
assert errors == [(True, "expected one call at a time in a thread, got one by a signal's handler during another")]
assert (recorder.output == stack.forward(x)).all()
""")


def test_calls_of_other_threads():
    """Ctrl-C interrupts the main thread, also while it waits for another; calls of other threads continue."""
    run("""
def in_a_thread(function):
    done = threading.Event()
    threading.Thread(target=lambda: (function(), done.set())).start()
    return done

size = 1 << 25
out = zeros(size, "float16")
done = in_a_thread(lambda: normal(size, key=key, dtype="float16", out=out))
assert interrupted(done.wait, 0.1)
assert not out[-1000:].any()
done.wait()
assert (out[-999:] == fastinit.RandomNormal(std=1.0).shard(size, np.s_[-999:], key=key, dtype="float16")).all()

recorder = Recorder(Stack((700,) * 6, "tanh", key=key), 700)
recorder.output[...] = 7
done = in_a_thread(recorder.forward)
assert interrupted(recorder.forward, 0.1)
assert (recorder.output == 7).all()
done.wait()
assert not (recorder.output == 7).any()
""")
