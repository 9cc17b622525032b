# SPDX-License-Identifier: BSD-3-Clause
"""Every callable of the binding and of the library from three threads at once, while the instruction set and the limit of
threads change: what one thread alone makes. Under tools/asan.sh it also shows that no memory is used that was given back.

Most sizes are beyond a mebibyte, from where a call lets go of Python's lock.
"""

import threading

import numpy as np
import pytest
from catalogue_cases import CASES

import fastinit
from fastinit import SGD, Adam, Initializer, Key, Momentum, Recorder, Stack, _core, fit, gains, normal, residual, theory, uniform
from fastinit._engine.passes import passes_of

CALLERS, ROUNDS = 3, 4
MANY = 300_001
KEY = Key(31)


@pytest.fixture
def changing():
    """A background thread that changes the instruction set and the thread limit in a loop until the test ends."""
    isa, limit, done = _core.isa(), fastinit.get_num_threads(), threading.Event()

    def change():
        turn = 0
        while not done.wait(1e-4):
            for name in _core.available_isas():
                _core.set_isa(name)
            turn += 1
            fastinit.set_num_threads(1 + turn % 3)

    thread = threading.Thread(target=change)
    thread.start()
    yield
    done.set()
    thread.join()
    _core.set_isa(isa)
    fastinit.set_num_threads(limit)


def at_once(function):
    """Calls function(caller, turn) ROUNDS times from each of the threads; the first failure is raised."""
    barrier, failures = threading.Barrier(CALLERS), []

    def run(caller):
        try:
            barrier.wait(60)
            for turn in range(ROUNDS):
                function(caller, turn)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def bits(found):
    """The result of a call, in a form that is compared bit by bit."""
    if isinstance(found, np.ndarray):
        return found.dtype.str, found.shape, found.tobytes()
    if isinstance(found, fastinit.Propagation):
        return [bits(a) for a in (found.output, found.statistics, found.weight_gradients, found.weight_gradient_norms)]
    if isinstance(found, (list, tuple, fastinit.Gradients)):
        return [bits(one) for one in found]
    return repr(found)


def filled(shape, fill, dtype=np.float32):
    out = np.empty(shape, dtype)
    fill(out)
    return out


def limited():
    with fastinit.num_threads(3):
        return fastinit.get_num_threads()


def network(**options):
    return Stack((64, 200, 200, 10), "gelu", output_activation="linear", key=KEY, **options)


X, DY = normal((400, 64), key=KEY / "x"), normal((400, 10), key=KEY / "dy")
LABELS = (uniform(400, key=KEY / "y", dtype="float64") * 10).astype(int)
STACK, VIRTUAL = network(), network(virtual=True)
OUTPUTS = normal((40_000, 10), key=KEY / "outputs")
CLASSES = np.arange(40_000) % 10
SHARES = np.full((40_000, 10), 0.1)
WORDS = np.arange(MANY, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
DRAWS = uniform(MANY, key=KEY, dtype="float64")
ENTROPY = _core.CrossEntropy(0, 40_000, 10, OUTPUTS, CLASSES, None, np.empty_like(OUTPUTS))
OF_SHARES = _core.CrossEntropy(0, 40_000, 10, OUTPUTS, None, SHARES, np.empty_like(OUTPUTS))
SQUARES = _core.SquaredError(0, OUTPUTS.size, OUTPUTS, SHARES, np.empty_like(OUTPUTS))
GATHERED = np.empty((200, 64), np.float32)
BATCHES = _core.Batches([GATHERED], [X], np.arange(400)[::-1].copy())
LAWS = ((1, (0.0, 1.0)), (2, (0.0, 1.0)), (3, (0.0, 1.0, -2.0, 2.0)))

# Calls that return the same in every thread, by the name of the callable. Methods are called on one shared object.
CALLS = {
    "_core.fill": lambda: [filled(MANY, lambda out, a=law: _core.fill(out, a[0], 0, a[1], 5, 6, 7, 3)) for law in LAWS],
    "_core.fill_block": lambda: filled(
        (600, 500), lambda out: _core.fill_block(out, 2, 0, (0.0, 1.0), 5, 6, 9, [600, 500], [2000, 3], 3)
    ),
    "_core.fill_many": lambda: filled(
        MANY, lambda out: _core.fill_many([(out[:7], 1, 0, (0.0, 1.0), 5, 6, 0), (out[7:], 2, 0, (0.0, 1.0), 5, 7, 0)], 3)
    ),
    "_core.haar": lambda: filled((150, 190), lambda out: _core.haar(out, 0, 1, 190, 150, 0, 150, 1.0, True, 5, 6, 3)),
    "_core.map_words": lambda: filled(MANY, lambda out: _core.map_words(WORDS, out, 2, 0, (0.0, 1.0))),
    "_core.words_xor": lambda: _core.words_xor(5, 1 << 20),
    "_core.order_by": lambda: filled(MANY, lambda out: _core.order_by(DRAWS, out), np.int64),
    "_core.span": lambda: _core.span(DRAWS),
    "_core.activate": lambda: filled(OUTPUTS.shape, lambda out: _core.activate(10, 0.0, 0, OUTPUTS, out, np.empty_like(out))),
    "_core.exponential": lambda: _core.exponential(-1.5),
    "_core.logarithm": lambda: _core.logarithm(1.5),
    "_core.normal_tail": lambda: _core.normal_tail(1.5),
    "_core.normal_quantile_tail": lambda: _core.normal_quantile_tail(0.25),
    "_core.available_isas": _core.available_isas,
    "_core.fpenv_enter": lambda: _core.fpenv_enter() > 0,
    "_core.fpenv_leave": lambda: _core.fpenv_leave(_core.fpenv_enter()),
    "_core.isa": lambda: _core.isa() in _core.available_isas(),
    "_core.set_isa": lambda: _core.set_isa(_core.available_isas()[0]),
    "_core.fma_loop": lambda: _core.fma_loop(0, 1000) > 0,
    "_core.CrossEntropy": lambda: [ENTROPY(), OF_SHARES()],
    "_core.SquaredError": lambda: SQUARES(),
    "_core.Batches": lambda: [BATCHES(100), bits(GATHERED)],
    "_core.StackParameters": lambda: passes_of(STACK).opened(STACK.weights, STACK.biases).hold(STACK.weights, STACK.biases, None),
    "uniform": lambda: uniform((700, 500), -1, 1, key=KEY),
    "normal": lambda: [normal(MANY, key=KEY, dtype=dtype) for dtype in ("float32", "float64", "float16", "complex64")],
    "truncated_normal": lambda: fastinit.truncated_normal(MANY, key=KEY),
    "fill_many": lambda: filled(
        (500, 700), lambda out: fastinit.fill_many([(out[:99], "he_normal", KEY), (out[99:], "orthogonal", KEY / 2)])
    ),
    "get": lambda: fastinit.get("he_normal"),
    "Key": lambda: KEY / "a" / 3,
    "Stack": lambda: network().weights,
    "Stack.forward": lambda: [STACK.forward(X), STACK(X), VIRTUAL.forward(X)],
    "Stack.backward": lambda: STACK.backward(X, DY),
    "Stack.propagate": lambda: [
        STACK.propagate(X, DY, gradients=True, norms=True, pairs=[(0, 1)]), VIRTUAL.propagate(X, DY, norms=True)
    ],
    "Stack.layers_of": lambda: [list(layer) for layer in STACK.layers_of(X) + VIRTUAL.layers_of(X)],
    "diagnose": lambda: str(fastinit.diagnose((64, 200, 200, 10), "gelu", seeds=2)),
    "compare": lambda: str(fastinit.compare(["he_normal", "lecun_normal"], ["tanh"], [2], 32, seeds=2)),
    "lsuv": lambda: [fastinit.lsuv(own := network(), X), own.weights],
    "variance_fit": lambda: [fastinit.variance_fit(own := network()), own.weights],
    "Stack.record": lambda: STACK.record(X).backward(DY),
    "Recorder": lambda: [(one := Recorder(STACK, 400)).forward(X), one.backward(DY), one.weight_gradients],
    "predict": lambda: fastinit.predict(STACK, X),
    "fit": lambda: [fit(own := network(), X, LABELS, epochs=1, batch_size=300, optimizer=Adam()), own.weights],
    "mean_squared_error": lambda: fastinit.mean_squared_error(OUTPUTS, SHARES),
    "softmax_cross_entropy": lambda: fastinit.softmax_cross_entropy(OUTPUTS, CLASSES),
    "get_num_threads": lambda: fastinit.get_num_threads() >= 1,
    "set_num_threads": lambda: fastinit.set_num_threads(2),
    "num_threads": limited,
    "compute_fans": lambda: fastinit.compute_fans((3, 3, 16, 64)),
    "lora_scaling": lambda: fastinit.lora_scaling(16, 4),
    "gains": lambda: [gains.calculate_gain("tanh"), gains.activation_gain("gelu"), gains.gradient_gain("selu")],
    "residual": lambda: [residual.gpt2(12), residual.fixup(12), residual.depth_mup(12)],
    "theory": lambda: [theory.fixed_point("tanh", 1.5, 0.1), theory.chi_1("tanh", 0.5, 1.5)],
}  # fmt: skip

# Callables with tests of their own below, and those that need none: containers of results, and functions that print.
ELSEWHERE = {
    "_core.Descent", "_core.Held", "_core.StackRun", "SGD", "Momentum", "Adam", "Recording", "FanRule", "Fans", "Gradients",
    "History", "LayerReport", "Moments", "Propagation", "show_config", "Change", "Comparison", "DiagnosedLayer", "Diagnosis",
    "Finding", "ScaledLayer", "Thresholds",
}  # fmt: skip


def test_no_callable_is_left_out():
    binding = {f"_core.{name}" for name in dir(_core) if callable(getattr(_core, name)) and not name.startswith("_")}
    public = {name: getattr(fastinit, name) for name in fastinit.__all__}
    initializers = {name for name, one in public.items() if isinstance(one, type) and issubclass(one, Initializer)}
    library = {name for name, one in public.items() if callable(one)} - initializers
    assert binding | library <= CALLS.keys() | ELSEWHERE
    assert {type(one) for one, _ in CASES} == set(fastinit.CATALOGUE)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_at_once(name, changing):
    wanted = bits(CALLS[name]())

    def call(caller, turn):
        assert bits(CALLS[name]()) == wanted

    at_once(call)


def test_initializers_at_once(changing):
    wanted = [bits(one(shape, key=KEY)) for one, shape in CASES]

    def call(caller, turn):
        for i in range(caller, len(CASES) + caller):
            one, shape = CASES[i % len(CASES)]
            assert bits(one(shape, key=KEY)) == wanted[i % len(CASES)]
            if turn == 0:
                assert bits(one.shard(shape, (), key=KEY)) == wanted[i % len(CASES)]
                assert one.bounds(shape)[0] <= one.bounds(shape)[1]

    at_once(call)


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1, 0.7), Adam(0.01)], ids=str)
@pytest.mark.parametrize("held", [False, True])
def test_one_optimizer_at_once(optimizer, held, changing):
    """Each call is one step; with the same gradient every time, the order of the threads does not matter."""

    def start():
        w = [normal(MANY, key=KEY), normal(1000, key=KEY / 2, dtype="float64")]
        return w, optimizer.start(w)

    def gradients():  # newly allocated, and freed after the step
        return [np.full(MANY, 0.25, np.float32), np.full(1000, -0.5)]

    alone, update = start()
    for _ in range(CALLERS * ROUNDS):
        update(gradients())
    together, update = start()
    shared = _core.Held(gradients())
    at_once(lambda caller, turn: update(shared if held else gradients()))
    assert bits(together) == bits(alone)


def test_one_recorder_at_once(changing):
    """It is for one thread at a time: the others get a clear error at worst, and no thread gets memory of another."""
    recorder = Recorder(STACK, 400, input_gradient=True)
    wanted = STACK.backward(X, DY)
    went_back, refused = [], set()

    def call(caller, turn):
        assert bits(recorder.forward(X)) == bits(STACK.forward(X))
        try:
            recorder.backward(DY)
        except RuntimeError as error:
            refused.add(str(error))
        else:
            went_back.append(caller)

    at_once(call)
    assert went_back
    assert refused <= {"backward: expected a call of forward before each one, got none"}
    assert bits([recorder.weight_gradients, recorder.bias_gradients, recorder.input_gradient]) == bits(wanted)


def test_one_recording_at_once(changing):
    wanted = bits(STACK.backward(X, DY))
    for _ in range(ROUNDS):
        recording, found, refused = STACK.record(X), [], []

        def call(caller, turn, recording=recording, found=found, refused=refused):
            try:
                found.append(bits(recording.backward(DY)))
            except RuntimeError as error:
                refused.append(str(error))

        at_once(call)
        assert found == [wanted]
        assert set(refused) == {"backward: expected one call for a recording, got a second"}


def test_parameters_replaced_while_a_stack_runs(changing):
    """Each pass uses the arrays that were the parameters when it began."""
    stack = Stack((300, 300, 300), "tanh", key=KEY)
    others = [[w.copy() for w in stack.weights] for _ in range(2)]
    others[1][0] *= 0.5
    x = normal((90, 300), key=KEY)
    wanted = []
    for weights in others:
        stack.weights = weights
        wanted.append(bits(stack.forward(x)))

    def call(caller, turn):
        if caller == 0:
            for i in range(20):
                stack.weights = [w.copy() for w in others[i % 2]]
        else:
            assert bits(stack.forward(x)) in wanted

    at_once(call)
