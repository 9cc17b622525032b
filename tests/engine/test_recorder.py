# SPDX-License-Identifier: BSD-3-Clause
"""Passes in the same memory again and again: those of the stack, to the bit."""

import copy
import pickle

import numpy as np
import pytest

from fastinit import SGD, Adam, Key, Recorder, Stack, _core, fit, normal, num_threads, softmax_cross_entropy, uniform


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
    from fastinit import _core

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
def test_other_arrays_in_the_place_of_a_recorders_would_not_be_seen(name):
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


# ---- fit with functions of the user's own -----------------------------------------------------------


def test_a_loss_of_ones_own_sees_arrays_that_it_may_keep():
    kept = []

    def loss(outputs, targets):
        kept.append((outputs, outputs.copy()))
        return softmax_cross_entropy(outputs, targets)

    x, y = normal((50, 6), key=Key(1)), np.arange(50) % 3
    one, two = network(), network()
    histories = [fit(one, x, y, loss=loss, epochs=3, batch_size=16), fit(two, x, y, epochs=3, batch_size=16)]
    assert histories[0] == histories[1]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one.weights, two.weights, strict=True))
    assert all((now == then).all() for now, then in kept[1:])  # the first is of the check before training


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda o, t: 3.0, TypeError, r"loss: expected a function that returns \(value, gradient\), got one that returns float"),
        (lambda o, t: (3.0, o, t), TypeError, "got one that returns tuple of 3"),
        (lambda o, t: (o, o), TypeError, r"loss: expected a value that is one real number, got float32 of shape \(50, 3\)"),
        (lambda o, t: ("low", o), TypeError, "loss: expected a value that is one real number"),
        (lambda o, t: (3.0, None), TypeError, "loss: expected a gradient of real numbers, got dtype object"),
        (lambda o, t: (3.0, o[:1]), ValueError, r"loss: expected a gradient of shape \(50, 3\), .* got \(1, 3\)"),
    ],
)
def test_what_a_loss_of_ones_own_must_return(loss, error, message):
    stack = network()
    stack.weights[1] = np.asfortranarray(stack.weights[1])
    before = list(stack.weights)
    with pytest.raises(error, match=message):
        fit(stack, normal((50, 6), key=Key(1)), np.arange(50) % 3, loss=loss)
    assert all(a is b for a, b in zip(stack.weights, before, strict=True))


def test_the_value_of_a_loss_of_ones_own_is_a_float_in_the_history():
    def loss(outputs, targets):
        value, gradient = softmax_cross_entropy(outputs, targets)
        return np.array([value], np.float32), gradient

    x, y = normal((50, 6), key=Key(1)), np.arange(50) % 3
    history = fit(network(), x, y, loss=loss, epochs=2, validation=(x, y))
    assert all(type(value) is float for value in history.loss + history.validation_loss)


def test_an_optimizer_of_ones_own_gets_gradients_that_it_may_keep():
    kept = []

    class Plain:
        def start(self, parameters):
            def update(gradients):
                kept.append((gradients, [g.copy() for g in gradients]))
                for w, g in zip(parameters, gradients, strict=True):
                    w -= w.dtype.type(0.05) * g

            return update

    x, y = normal((50, 6), key=Key(1)), np.arange(50) % 3
    one, two = network(), network()
    assert fit(one, x, y, optimizer=Plain(), epochs=3).loss == fit(two, x, y, optimizer=SGD(0.05), epochs=3).loss
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one.weights, two.weights, strict=True))
    assert all((a == b).all() for now, then in kept for a, b in zip(now, then, strict=True))


def test_a_callback_may_change_parameters_but_not_replace_them():
    x, y = normal((50, 6), key=Key(1)), np.arange(50) % 3
    stack = network()

    def halve(epoch, history):
        stack.weights[0] *= 0.5

    assert len(fit(stack, x, y, optimizer=Adam(), epochs=2, callback=halve).loss) == 2

    def replace(epoch, history):
        stack.weights[0] = stack.weights[0] * 0.5

    with pytest.raises(ValueError, match="callback: expected the stack's arrays to stay; assign into them"):
        fit(stack, x, y, epochs=2, callback=replace)

    def loss(outputs, targets):
        replace(0, None)
        return softmax_cross_entropy(outputs, targets)

    with pytest.raises(ValueError, match=r"loss, .* expected the stack's arrays to stay; assign into them"):
        fit(stack, x, y, epochs=2, loss=loss)


def test_an_optimizer_may_keep_its_list_of_parameters():
    class Emptying:
        def start(self, parameters):
            update = SGD(0.05).start(parameters)
            parameters.clear()
            return update

    x, y = normal((50, 6), key=Key(1)), np.arange(50) % 3
    one, two = network(), network()
    assert fit(one, x, y, optimizer=Emptying(), epochs=2).loss == fit(two, x, y, optimizer=SGD(0.05), epochs=2).loss


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_passes_under_way_are_not_copied(copied):
    """A workspace that begins elsewhere within a cache line has other contents."""
    stack = network()
    for one in (Recorder(stack, 5), stack.record(np.ones((5, 6)))):
        with pytest.raises(TypeError, match=f"{type(one).__name__}: expected no copy or pickle"):
            copied(one)


def test_batches_are_taken_by_numbers_of_64_bits():
    # NumPy's own choice of int has 32 on some systems.
    out, source = np.empty((2, 3)), np.arange(12.0).reshape(4, 3)
    with pytest.raises(AssertionError):
        _core.Batches([out], [source], np.zeros(4, np.int32))
    gather = _core.Batches([out], [source], np.array([0, 3, 1], np.int64))
    gather(1)
    assert (out == source[[3, 1]]).all()
    with pytest.raises(AssertionError):
        gather(2)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 100, 1437, 20000])
def test_the_order_of_draws_is_that_of_a_stable_sort(n):
    draws = uniform(n, key=Key(n), dtype="float64")
    order = np.empty(n, np.int64)
    # as they are, and of few values, so that most are equal to others
    for some in (draws, np.floor(draws[:3000] * 9) / 9, np.full(n, 1 - 2.0**-53), np.zeros(n)):
        _core.order_by(some, order[: len(some)])
        np.testing.assert_array_equal(order[: len(some)], np.argsort(some, kind="stable"))


def test_draws_of_another_dtype_are_refused():
    with pytest.raises(ValueError, match="expected an array of 32 bytes, got 16"):
        _core.order_by(np.zeros(4, np.float32), np.empty(4, np.int64))
