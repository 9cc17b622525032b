# SPDX-License-Identifier: BSD-3-Clause
"""A recorder's passes, all in the same memory: the same bits as those of its stack."""

import copy
import pickle

import numpy as np
import pytest

from fastinit import Key, Recorder, Stack, _core, fit, normal, num_threads


def network(dtype="float32", **options):
    return Stack((6, 20, 20, 3), "gelu", output_activation="linear", key=Key(9), dtype=dtype, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"residual": 1, "alpha": 0.5}], ids=str)
@pytest.mark.parametrize("batch", [0, 1, 7, 33])
def test_a_recorder_is_record_and_backward(dtype, options, batch, each_isa):
    stack = network(dtype, **options)
    recorder = Recorder(stack, batch, input_gradient=True)
    for i in range(3):
        x, dy = normal((batch, 6), key=Key(1) / i, dtype=dtype), normal((batch, 3), key=Key(2) / i, dtype=dtype)
        recording = stack.record(x)
        output = recorder.forward(x)
        assert output is recorder.output
        assert output.tobytes() == recording.output.tobytes()
        recorder.backward(dy)
        weights, biases, into = recording.backward(dy)
        for found, expected in zip(recorder.weight_gradients + recorder.bias_gradients, weights + biases, strict=True):
            assert found.tobytes() == expected.tobytes()
        assert recorder.input_gradient.tobytes() == into.tobytes()
        for w in stack.weights:
            w *= 0.9  # seen by the next pass


def test_arrays_written_in_place_and_any_threads():
    stack = network()
    x, dy = normal((40, 6), key=Key(1)), normal((40, 3), key=Key(2))
    with num_threads(3):
        recorder = Recorder(stack, 40)
    recorder.x[...] = x
    recorder.forward()
    recorder.dy[...] = dy
    recorder.backward()
    assert recorder.input_gradient is None
    expected = stack.backward(x, dy)
    for found, w in zip(recorder.weight_gradients, expected.weights, strict=True):
        assert found.tobytes() == w.tobytes()
    with pytest.raises(RuntimeError, match="expected a call of forward before each one"):
        recorder.backward()


def test_another_instruction_set_between_passes(each_isa):
    stack, x = network(), normal((9, 6), key=Key(1))
    recorder = Recorder(stack, 9)
    expected = stack.forward(x).tobytes()
    for isa in _core.available_isas():
        _core.set_isa(isa)
        assert recorder.forward(x).tobytes() == expected


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Recorder(None, 3), TypeError, "stack: expected a fastinit.Stack, got NoneType"),
        (lambda: Recorder(network(), -1), ValueError, "batch: expected an int >= 0, got -1"),
        (lambda: Recorder(network(), True), TypeError, "batch: expected an int >= 0, got bool True"),
        (lambda: Recorder(network(), 1.5), TypeError, "batch: expected an int >= 0, got float 1.5"),
        (lambda: Recorder(network(), 2**60), ValueError, r"batch: expected at most 2\*\*44 numbers in all layers"),
        (lambda: Recorder(network(), 2**2000), ValueError, r"batch: expected at most 2\*\*44 numbers in all layers"),
        (lambda: Recorder(network(virtual=True), 3), ValueError, "expected stored weights, got a virtual stack"),
        (lambda: Recorder(network(), 3).forward(np.ones((3, 5))), ValueError, r"x: expected shape \(3, 6\)"),
        (lambda: Recorder(network(), 3).forward(np.ones((2, 6))), ValueError, r"x: expected shape \(3, 6\)"),
        (lambda: Recorder(network(), 3).forward(np.full((3, 6), np.nan)), ValueError, "x: expected no NaN, got 18"),
        (lambda: Recorder(network(), 3).backward(), RuntimeError, "expected a call of forward"),
        (lambda: Recorder(network(), 3, input_gradient="no"), TypeError, "input_gradient: expected a bool, got str 'no'"),
    ],
)
def test_what_a_recorder_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("name", ["x", "output", "dy", "weight_gradients", "bias_gradients", "input_gradient"])
def test_the_arrays_of_a_recorder_cannot_be_replaced(name):
    recorder = Recorder(network(), 3)
    before = getattr(recorder, name)
    with pytest.raises(AttributeError, match=f"{name}: expected no other array after construction; write into it"):
        setattr(recorder, name, np.ones((3, 6), np.float32))
    assert getattr(recorder, name) is before
    with pytest.raises(AttributeError, match=f"Recorder: expected no new attribute, got '{name}s'"):
        setattr(recorder, name + "s", 1)


def test_parameters_of_another_layout_are_refused_by_a_recorder_and_replaced_by_fit():
    stack = network()
    stack.weights[1] = np.asfortranarray(stack.weights[1].astype(np.float64))
    with pytest.raises(ValueError, match=r"stack.weights\[1\]: expected an aligned C-contiguous array of float32"):
        Recorder(stack, 3)
    twin = network()
    x, y = normal((30, 6), key=Key(1)), np.arange(30) % 3
    assert fit(stack, x, y, epochs=2).loss == fit(twin, x, y, epochs=2).loss
    assert stack.weights[1].dtype == np.float32


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_passes_under_way_are_not_copied(copied):
    """The core lays a workspace out by where it begins within a cache line, and a copy begins elsewhere."""
    stack = network()
    for one in (Recorder(stack, 5), stack.record(np.ones((5, 6)))):
        with pytest.raises(TypeError, match=f"{type(one).__name__}: expected no copy or pickle"):
            copied(one)
