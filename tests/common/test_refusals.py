# SPDX-License-Identifier: BSD-3-Clause
"""Arguments of every wrong kind, for every argument of the stack, its training, losses and optimizers: each is accepted, or
refused by an error that says what was expected. No error comes from inside NumPy or Python."""

import numpy as np
import pytest

import fastinit
from fastinit import SGD, Adam, Key, Momentum, Recorder, Stack, fit, mean_squared_error, normal, predict, softmax_cross_entropy

HUGE = 10**5000  # Python prints no int of more than 4300 digits


class Broken:
    """Raises an error in every operation."""

    def fail(self, *arguments, **options):
        raise KeyError("broken")

    __array__ = __len__ = __repr__ = fail


ODD = [
    None, True, 0, -1, 2**63, 2**64, -(2**64), 2**2000, HUGE, -HUGE, 0.5, float("nan"), float("inf"), 1j, "", "relu",
    "\ud800", "\0", b"he", [], [1, 2], [[1], [2, 3]], [HUGE], [(HUGE, -HUGE)], (), (3, -1), (3, HUGE), (2, 2**40),
    (0, 2**100), {}, {1, 2}, {"class_name": 3}, slice(None), Ellipsis, Broken(), [Broken()], Key(3), np.float64(2),
    np.float32("nan"), np.int8(-1), np.bool_(True), np.zeros(()), np.zeros(3), np.zeros((2, 2)), np.zeros((0, 6)),
    np.zeros((6, 0)), np.ones((5, 6), "float16"), np.array(["a"]), np.array([None]), np.array([HUGE]), np.ma.masked,
    np.ma.masked_array([1.0, 2.0], [True, False]), np.zeros(3, ">f4"), np.zeros((4, 4))[::2, ::2], np.datetime64("now"),
    np.zeros(2, [("a", "f4")]), memoryview(b"abcd"), range(3), np.ones((5, 6), complex), np.ones((5, 6), "M8[s]"),
    np.ones((5, 6), np.longdouble), np.full((5, 6), 1e300), [["1"] * 6], np.zeros((1,) * 40 + (6,)),
    np.broadcast_to(np.float32(1), (5, 6)), [None, None], ["zeros", "zeros"], [np.ones((6, 20)), np.ones((20, 3))],
    np.random, object(),
]  # fmt: skip
X, DY, LABELS = normal((5, 6), key=Key(0)), normal((5, 3), key=Key(1)), np.array([0, 1, 2, 0, 1])


def network(**options):
    return Stack((6, 20, 3), "tanh", key=Key(0), **options)


def with_parameters(call, what, at=None, **options):
    """A call of a stack whose parameters, or one of them, are replaced by something else."""

    def run(put):
        stack = network(**options)
        if at is None:
            setattr(stack, what, put)
        else:
            getattr(stack, what)[at] = put
        return call(stack)

    return run


def of_loss(**own):
    return lambda put: fit(network(), X, LABELS, epochs=1, loss=lambda o, t: own["returns"](put, o))


def of_optimizer(kind):
    return lambda put: kind.start([X.copy(), DY.copy()])([put, DY])


def good_calls():
    """Pairs of a function and valid arguments for it, by name."""
    stack, virtual = network(), network(virtual=True)
    recorder, trained = Recorder(stack, 5), network()
    recorder.forward(X)
    of_stack = {"x": X, "dy": DY, "gradients": False, "norms": False, "pairs": None}
    yield Stack, {
        "widths": (6, 20, 3), "activation": "tanh", "output_activation": "relu", "weights": "he_normal", "biases": "zeros",
        "residual": None, "alpha": 1.0, "virtual": False, "key": Key(0), "dtype": "float32",
    }  # fmt: skip
    for one in (stack, virtual):
        yield one.forward, {"x": X}
        yield one.propagate, of_stack
    yield stack.backward, {"x": X, "dy": DY}
    yield stack.record, {"x": X}
    yield lambda put: stack.record(X).backward(put), {"put": DY}
    yield Recorder, {"stack": stack, "batch": 5, "input_gradient": False}
    yield recorder.forward, {"x": X}
    yield lambda put: (recorder.forward(X), recorder.backward(put)), {"put": DY}
    yield fit, {
        "stack": trained, "x": X, "y": LABELS, "loss": softmax_cross_entropy, "optimizer": SGD(), "epochs": 1, "batch_size": 2,
        "key": Key(0), "validation": (X, LABELS), "callback": None,
    }  # fmt: skip
    yield lambda x, y: fit(trained, X, LABELS, epochs=1, validation=(x, y)), {"x": X, "y": LABELS}
    yield lambda put: fit(Stack((6, 1), "tanh", key=Key(0)), X, put), {"put": np.zeros(5, int)}
    yield of_loss(returns=lambda put, o: (put, o)), {"put": 1.0}
    yield of_loss(returns=lambda put, o: (1.0, put)), {"put": DY}
    yield of_loss(returns=lambda put, o: put), {"put": (1.0, DY)}
    yield predict, {"stack": stack, "x": X}
    yield softmax_cross_entropy, {"outputs": DY, "targets": LABELS}
    yield mean_squared_error, {"outputs": DY, "targets": DY}
    for kind, options in ((SGD, ()), (Momentum, ("momentum",)), (Adam, ("beta_1", "beta_2", "epsilon"))):
        yield kind, {"learning_rate": 0.1, **dict.fromkeys(options, 0.5)}
        yield kind().start, {"parameters": [X.copy()]}
        yield lambda put, kind=kind: kind().start([put]), {"put": X.copy()}
        yield kind().start([X.copy()]), {"gradients": [X]}
        yield of_optimizer(kind()), {"put": X}
    for call in (
        lambda s: s.forward(X), lambda s: s.propagate(X), lambda s: fit(s, X, LABELS, epochs=1), lambda s: Recorder(s, 5)
    ):  # fmt: skip
        yield with_parameters(call, "weights"), {"put": stack.weights}
        yield with_parameters(call, "biases"), {"put": stack.biases}
        yield with_parameters(call, "weights", 0), {"put": stack.weights[0]}
        yield with_parameters(call, "biases", 1), {"put": stack.biases[1]}
    yield with_parameters(lambda s: s.propagate(X), "biases", virtual=True), {"put": stack.biases}
    yield lambda put: Stack((6, 20), "tanh", weights=[put]), {"put": np.ones((6, 20))}
    yield fastinit.Constant, {"value": 1.0}
    yield lambda put: fastinit.get(lambda shape, dtype: put)((5, 6)), {"put": X}
    yield fastinit.get, {"identifier": "zeros"}
    yield normal, {"shape": (5, 6), "mean": 0.0, "std": 1.0, "key": Key(0), "dtype": "float32", "out": None}
    yield fastinit.set_num_threads, {"n": fastinit.get_num_threads()}


@pytest.mark.parametrize("i", range(len(list(good_calls()))))
def test_wrong_arguments_are_refused_with_what_was_expected(i):
    call, good = list(good_calls())[i]
    call(**good)
    limit = fastinit.get_num_threads()
    try:
        for name in good:
            for odd in ODD:
                if name == "epochs" and isinstance(odd, int) and odd > 1000:
                    continue  # valid for this argument
                try:
                    call(**{**good, name: odd})
                except (TypeError, ValueError, AttributeError, MemoryError) as error:
                    assert "expected" in str(error), f"{name}: {type(error).__name__}: {error}"  # noqa: PT017
    finally:
        fastinit.set_num_threads(limit)
