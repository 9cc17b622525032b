# SPDX-License-Identifier: BSD-3-Clause
"""Array arguments everywhere: native dtypes in any spelling are taken, other byte orders are converted or refused, masked
arrays are refused, and arrays that are written to must not overlap."""

import ctypes
import re
import sys

import numpy as np
import pytest

import fastinit
from fastinit import (
    SGD,
    Adam,
    Constant,
    Key,
    Momentum,
    Recorder,
    Stack,
    fill_many,
    fit,
    mean_squared_error,
    normal,
    softmax_cross_entropy,
)

REAL = ("float32", "float64")
OTHER = ">" if sys.byteorder == "little" else "<"


def explicit(array):
    """A copy whose dtype names this machine's byte order explicitly, as that of shared memory does: NumPy exports it as '<f'."""
    kind = {"float32": ctypes.c_float, "float64": ctypes.c_double}[array.dtype.name]
    found = np.ctypeslib.as_array((kind * array.size)()).reshape(array.shape)
    found[...] = array
    assert memoryview(found).format == ("<" if sys.byteorder == "little" else ">") + array.dtype.char
    assert found.dtype == array.dtype
    return found


def swapped(array):
    return array.astype(array.dtype.newbyteorder("S"))


def masked(array):
    return np.ma.masked_array(array, np.arange(array.size).reshape(array.shape) % 2 == 0)


def network(dtype, change=lambda a: a):
    stack = Stack((6, 20, 3), "tanh", output_activation="linear", biases="random_normal", key=Key(4), dtype=dtype)
    stack.weights = [change(w) for w in stack.weights]
    stack.biases = [change(b) for b in stack.biases]
    return stack


def data(dtype):
    return normal((30, 6), key=Key(1), dtype=dtype), normal((30, 3), key=Key(2), dtype=dtype)


def everything(stack, x, dy):
    """The bytes of all results of a stack for a batch, through every entry point."""
    recorder = Recorder(stack, len(x), input_gradient=True)
    found = [recorder.forward(x).tobytes()]
    recorder.backward(dy)
    gradients = (recorder.weight_gradients, recorder.bias_gradients, [recorder.input_gradient])
    found += [g.tobytes() for arrays in gradients for g in arrays]
    found += [stack.forward(x).tobytes(), stack.propagate(x, dy, norms=True).statistics.tobytes()]
    found += [g.tobytes() for g in (*stack.backward(x, dy).weights, *stack.record(x).backward(dy).biases)]
    history = fit(stack, x, dy, loss=mean_squared_error, optimizer=Adam(0.01), epochs=2, validation=(x, dy))
    found += [repr(history).encode(), *(np.asarray(w).tobytes() for w in (*stack.weights, *stack.biases))]
    return found


@pytest.mark.parametrize("dtype", REAL)
def test_an_explicit_native_byte_order_is_the_same_dtype(dtype):
    x, dy = data(dtype)
    stack = network(dtype, explicit)
    mine = [*stack.weights, *stack.biases]
    assert everything(stack, explicit(x), explicit(dy)) == everything(network(dtype), x, dy)
    assert all(a is b for a, b in zip(mine, [*stack.weights, *stack.biases], strict=True))  # updated in place
    for loss, targets in ((softmax_cross_entropy, np.abs(dy) / np.abs(dy).sum(axis=1, keepdims=True)), (mean_squared_error, dy)):
        wanted = loss(dy, targets)
        found = loss(explicit(dy), explicit(targets))
        assert (found[0], found[1].tobytes()) == (wanted[0], wanted[1].tobytes())


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1), Adam(0.1)], ids=str)
@pytest.mark.parametrize("dtype", REAL)
def test_optimizers_take_an_explicit_native_byte_order(optimizer, dtype):
    w, g = data(dtype)
    g = np.tile(g, 2)
    plain, shared = w.copy(), explicit(w)
    optimizer.start([plain])([g])
    optimizer.start([shared])([explicit(g)])
    assert plain.tobytes() == shared.tobytes() != w.tobytes()


@pytest.mark.parametrize("dtype", REAL)
def test_buffers_with_a_byte_order_in_their_format(dtype):
    wanted = normal((3, 5), key=Key(1), dtype=dtype)
    native = memoryview(bytearray(wanted.nbytes)).cast("@" + wanted.dtype.char)
    assert native.format[0] == "@"
    for out in (explicit(np.zeros_like(wanted)), explicit(np.zeros_like(wanted)).data, native):
        normal((3, 5), key=Key(1), dtype=dtype, out=out)
        assert bytes(out) == wanted.tobytes()
    with pytest.raises(ValueError, match=f"out: expected a buffer of bytes or of {dtype}, got format '{OTHER}"):
        normal((3, 5), key=Key(1), dtype=dtype, out=memoryview(swapped(np.zeros((3, 5), dtype))))


def test_the_other_byte_order_is_converted_on_input_and_refused_for_output():
    for dtype in REAL:
        x, dy = data(dtype)
        stack, plain = network(dtype), network(dtype)
        assert stack.forward(swapped(x)).tobytes() == plain.forward(x).tobytes()
        stack.weights[0], stack.biases[1] = swapped(stack.weights[0]), swapped(stack.biases[1])
        assert stack.backward(swapped(x), swapped(dy)).weights[1].tobytes() == plain.backward(x, dy).weights[1].tobytes()
        with pytest.raises(ValueError, match=rf"stack.weights\[0\]: expected an aligned C-contiguous array of {dtype}"):
            Recorder(stack, 30)
        w = swapped(dy)
        with pytest.raises(TypeError, match=rf"parameters\[0\]: expected native byte order, got {OTHER}f"):
            SGD(0.1).start([w])
        update = SGD(0.1).start([dy])
        with pytest.raises(TypeError, match=rf"gradients\[0\]: .* in this machine's order of bytes, got format '{OTHER}"):
            update([w])
        for call in (
            lambda w=w, dtype=dtype: normal(w.shape, key=Key(0), dtype=dtype, out=w),
            lambda w=w: fill_many([(w, "ones", None)]),
        ):
            with pytest.raises(ValueError, match=f"native byte order, got {OTHER}f|dtype: expected one of .* got '{OTHER}f"):
                call()
        assert w.tobytes() == swapped(data(dtype)[1]).tobytes()


# ---- masked arrays ------------------------------------------------------------------------------


def calls_with(array):
    """Every function that takes an array, by the name that its error gives the argument."""
    stack, x, dy = network("float32"), *data("float32")
    update, recorder, hidden = SGD(0.1).start([dy.copy()]), Recorder(stack, 30), array(x)
    labels = array(np.arange(30) % 3)
    own = [lambda o, t: (array(np.ones(1)), o), lambda o, t: (1.0, array(o))]
    yield "out", lambda: normal((30, 6), key=Key(0), out=hidden)
    yield "out", lambda: fastinit.HeNormal().shard((30, 6), (), key=Key(0), out=hidden)
    yield "out", lambda: fastinit.Orthogonal()((30, 6), key=Key(0), out=hidden)
    yield "out", lambda: fill_many([(hidden, "he_normal", Key(0))])
    yield "value", lambda: Constant(hidden)
    yield "value", lambda: fastinit.get(hidden)
    yield "function", lambda: fastinit.get(lambda shape, dtype: hidden)((30, 6))
    yield "weights[0]", lambda: Stack((30, 6), "tanh", weights=[hidden])
    yield "biases[0]", lambda: Stack((30, 6), "tanh", biases=[array(np.ones(6))])
    yield "x", lambda: stack.forward(hidden)
    yield "x", lambda: recorder.forward(hidden)
    yield "dy", lambda: stack.backward(x, array(dy))
    yield "dy", lambda: stack.propagate(x, array(dy))
    yield "dy", lambda: stack.record(x).backward(array(dy))
    yield "dy", lambda: recorder.backward(array(dy))
    yield "x", lambda: fastinit.predict(stack, hidden)
    yield "training x", lambda: fit(stack, hidden, np.arange(30) % 3)
    yield "training y", lambda: fit(stack, x, labels)
    yield "validation y", lambda: fit(stack, x, np.arange(30) % 3, validation=(x, labels))
    yield "loss: value", lambda: fit(stack, x, dy, loss=own[0])
    yield "loss: gradient", lambda: fit(stack, x, dy, loss=own[1])
    yield "outputs", lambda: softmax_cross_entropy(array(dy), np.arange(30) % 3)
    yield "targets", lambda: softmax_cross_entropy(dy, labels)
    yield "targets", lambda: mean_squared_error(dy, array(dy))
    yield "parameters[0]", lambda: SGD(0.1).start([array(dy)])
    yield "gradients[0]", lambda: update([array(dy)])


def test_masked_arrays_are_refused():
    for what, call in calls_with(masked):
        with pytest.raises(TypeError, match=f"{re.escape(what)}: expected an array without a mask, got a MaskedArray"):
            call()


class Broken:
    """Has `__array__`, which fails."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no memory of its own")


def test_objects_whose_conversion_fails_are_refused():
    for what, call in calls_with(lambda array: Broken()):
        with pytest.raises(TypeError, match=f"{re.escape(what)}: expected|(initializer|jobs\\[0\\]): expected"):
            call()


# ---- overlapping memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1), Adam(0.1)], ids=str)
def test_optimizers_refuse_overlapping_parameters(optimizer):
    memory = np.ones(40, np.float32)
    for parameters in (
        [memory, memory], [memory, np.ones(3), memory[:]], [memory[:21], memory[20:]], [memory[3:4], memory.reshape(5, 8)],
        [memory[:20], memory[:20].view(np.float64)],
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"parameters\[\d\]: .* array of its own, got memory that parameters\[\d\] has"):
            optimizer.start(parameters)
    update = optimizer.start([memory[:20], memory[20:20], memory[20:]])
    for gradients in ([memory[1:21], memory[:0], memory[20:]], [memory[:20], memory[:0], memory[19:39]]):
        with pytest.raises(ValueError, match=r"gradients\[\d\]: expected memory of its own, got some of parameters\[\d\]"):
            update(gradients)
    assert (memory == 1).all()
    update([memory[:20], memory[:0], memory[20:]])  # a parameter may be its own gradient: it is read first
    assert (memory == memory[0]).all()
    assert memory[0] < 1


def test_fit_refuses_one_array_in_two_layers_before_anything_changes():
    x = normal((30, 6), key=Key(1))
    stack = Stack((6, 6, 6), "tanh", key=Key(4))
    stack.weights = [stack.weights[0], stack.weights[0]]
    stack.biases[0] = stack.biases[0].astype(np.float64)
    before, kept = [w.copy() for w in stack.weights], [*stack.weights, *stack.biases]
    with pytest.raises(ValueError, match=r"parameters\[1\]: expected an array of its own, got memory that parameters\[0\] has"):
        fit(stack, x, np.arange(30) % 6)
    assert all((w == b).all() for w, b in zip(stack.weights, before, strict=True))
    assert all(a is b for a, b in zip(kept, [*stack.weights, *stack.biases], strict=True))


# ---- dtypes that NumPy does not have --------------------------------------------------------------


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_dtypes_of_ml_dtypes_are_accepted(name):
    narrow = getattr(pytest.importorskip("ml_dtypes"), name)
    x, dy = (a.astype(narrow) for a in data("float32"))
    wide = [a.astype(np.float32) for a in (x, dy)]
    weights = [w.astype(narrow) for w in network("float32").weights]
    stacks = [Stack((6, 20, 3), "tanh", weights=w, key=Key(4)) for w in (weights, [w.astype(np.float32) for w in weights])]
    assert stacks[0].forward(x).tobytes() == stacks[1].forward(wide[0]).tobytes()
    for g, e in zip(stacks[0].backward(x, dy).weights, stacks[1].backward(*wide).weights, strict=True):
        assert g.tobytes() == e.tobytes()
    assert mean_squared_error(x, x) == (0, pytest.approx(np.zeros((30, 6))))
    assert fit(stacks[0], x, dy, loss=mean_squared_error, epochs=1) == fit(stacks[1], *wide, loss=mean_squared_error, epochs=1)
    assert (Constant(dy)((30, 3)) == wide[1]).all()
