# SPDX-License-Identifier: BSD-3-Clause
"""Losses, optimizers and the training loop, against their formulas; and the bits of a trained network."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from golden_training import blobs, digest, golden_lines

from fastinit import (
    SGD,
    Adam,
    History,
    Key,
    Momentum,
    Stack,
    fit,
    mean_squared_error,
    normal,
    num_threads,
    predict,
    softmax_cross_entropy,
    uniform,
)  # fmt: skip

VECTORS = Path(__file__).parents[1] / "vectors" / "training.txt"


# ---- losses ---------------------------------------------------------------------------------------


def test_cross_entropy_by_its_formula():
    outputs = normal((7, 4), key=Key(0), dtype="float64") * 3
    targets = np.array([0, 3, 1, 2, 2, 0, 1])
    value, gradient = softmax_cross_entropy(outputs, targets)
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    assert value == pytest.approx(-np.log(p[np.arange(7), targets]).mean(), rel=1e-14)
    np.testing.assert_allclose(gradient, (p - np.eye(4)[targets]) / 7, atol=1e-16)
    rows = softmax_cross_entropy(outputs, np.eye(4)[targets])
    assert rows[0] == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(rows[1], gradient, atol=1e-16)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (softmax_cross_entropy, np.array([1, 0, 2])),
        (softmax_cross_entropy, np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0.1, 0.3, 0.6]])),
        (mean_squared_error, np.array([[1.0, 2, 3], [-1, 0, 1], [0.5, 0.5, 0.5]])),
    ],
)
def test_losses_have_their_gradients(loss, targets):
    outputs = normal((3, 3), key=Key(2), dtype="float64")
    _, gradient = loss(outputs, targets)
    step = 2.0**-18
    for index in np.ndindex(3, 3):
        ends = []
        for sign in (1, -1):
            moved = outputs.copy()
            moved[index] += sign * step
            ends.append(loss(moved, targets)[0])
        assert gradient[index] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-9)


def test_cross_entropy_far_out():
    """Logits of any size: the softmax is shifted, so nothing overflows."""
    value, gradient = softmax_cross_entropy(np.array([[1e30, 0.0]], np.float32), np.array([1]))
    assert value == pytest.approx(1e30, rel=1e-6)
    np.testing.assert_array_equal(gradient, np.array([[1, -1]], np.float32))
    assert gradient.dtype == np.float32


def test_losses_of_an_empty_batch():
    value, gradient = softmax_cross_entropy(np.zeros((0, 3)), np.zeros(0, int))
    assert value == 0
    assert gradient.shape == (0, 3)
    value, gradient = mean_squared_error(np.zeros((0, 3)), np.zeros((0, 3)))
    assert value == 0
    assert gradient.shape == (0, 3)


@pytest.mark.parametrize(
    ("loss", "targets", "error", "message"),
    [
        (softmax_cross_entropy, [0, 3], ValueError, r"targets: expected classes in \[0, 3\), got \[0, 3\]"),
        (softmax_cross_entropy, [-1, 0], ValueError, r"targets: expected classes in \[0, 3\), got \[-1, 0\]"),
        (softmax_cross_entropy, [0.0, 1.0], TypeError, "targets: expected class numbers of an int dtype, got float64"),
        (softmax_cross_entropy, [0, 1, 2], ValueError, r"targets: expected shape \(2,\) or \(2, 3\), got \(3,\)"),
        (mean_squared_error, [0, 1], ValueError, r"targets: expected shape \(2, 3\), got \(2,\)"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit_the_outputs(loss, targets, error, message):
    with pytest.raises(error, match=message):
        loss(np.zeros((2, 3)), targets)


# ---- optimizers -----------------------------------------------------------------------------------


def run(optimizer, dtype="float64", steps=5):
    """Parameters after some steps along fixed gradients, and the gradients."""
    w = normal(40, key=Key(4), dtype=dtype)
    gradients = [normal(40, key=Key(5) / i, dtype=dtype) for i in range(steps)]
    w, start = w.copy(), w.copy()
    update = optimizer.start([w])
    for g in gradients:
        update([g])
    return start, gradients, w


def test_gradient_descent_by_its_formula():
    w, gradients, found = run(SGD(0.1))
    np.testing.assert_allclose(found, w - 0.1 * sum(gradients), rtol=1e-13)


def test_momentum_by_its_formula():
    w, gradients, found = run(Momentum(0.1, 0.7))
    v = np.zeros(40)
    for g in gradients:
        v = 0.7 * v + g
        w = w - 0.1 * v
    np.testing.assert_allclose(found, w, rtol=1e-13)


def test_adam_by_its_formula():
    w, gradients, found = run(Adam(0.01, 0.8, 0.95, 1e-6))
    m = v = np.zeros(40)
    for t, g in enumerate(gradients, 1):
        m = 0.8 * m + 0.2 * g
        v = 0.95 * v + 0.05 * g**2
        w = w - 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-6)
    np.testing.assert_allclose(found, w, rtol=1e-13)


def test_the_first_step_of_adam_has_the_learning_rates_size():
    w, _, found = run(Adam(0.01), "float32", steps=1)
    np.testing.assert_allclose(np.abs(found - w), 0.01, rtol=1e-4)


@pytest.mark.parametrize("kind", [SGD, Momentum, Adam])
def test_optimizers_keep_no_state_between_fits(kind):
    optimizer = kind(0.05)
    assert run(optimizer)[2].tobytes() == run(optimizer)[2].tobytes()
    assert optimizer == kind(0.05)
    assert hash(optimizer) == hash(kind(0.05))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD(0), ValueError, r"learning_rate: expected a number in \(0.0, inf\), got 0"),
        (lambda: SGD(-1), ValueError, "learning_rate"),
        (lambda: SGD(math.nan), ValueError, "learning_rate"),
        (lambda: SGD(math.inf), ValueError, "learning_rate"),
        (lambda: SGD(10**400), ValueError, r"learning_rate: expected a finite number, got an int beyond float64"),
        (lambda: SGD("0.1"), TypeError, "learning_rate: expected a real number, got str '0.1'"),
        (lambda: SGD(True), TypeError, "learning_rate: expected a real number, got bool"),
        (
            lambda: Momentum(0.1, 1.0),
            ValueError,
            r"momentum: expected a number in \[0.0, 1.0\), got 1.0",
        ),
        (lambda: Adam(beta_1=1), ValueError, "beta_1"),
        (lambda: Adam(beta_2=-0.1), ValueError, "beta_2"),
        (lambda: Adam(epsilon=0), ValueError, "epsilon"),
    ],
)
def test_bad_rates(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---- the loop -------------------------------------------------------------------------------------


def by_hand(x, y, optimizer, epochs, size, key, dtype):
    """The same training written out with the public passes."""
    stack = Stack((6, 20, 3), "tanh", output_activation="linear", key=Key(9), dtype=dtype)
    update = optimizer.start([*stack.weights, *stack.biases])
    losses, accuracies = [], []
    for epoch in range(epochs):
        order = np.argsort(
            uniform(len(x), key=key / "shuffle" / epoch, dtype="float64"), kind="stable"
        )
        value = correct = 0.0
        for start in range(0, len(x), size):
            rows = order[start : start + size]
            batch = x[rows].astype(dtype)
            outputs = stack.forward(batch)
            cost, dy = softmax_cross_entropy(outputs, y[rows])
            value += cost * len(rows)
            correct += (outputs.argmax(axis=1) == y[rows]).sum()
            gradients = stack.backward(batch, dy)
            update([*gradients.weights, *gradients.biases])
        losses.append(value / len(x))
        accuracies.append(correct / len(x))
    return stack, losses, accuracies


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.05), Adam(0.01)], ids=str)
def test_fit_is_the_written_out_loop(optimizer, dtype):
    x, y = blobs()
    stack = Stack((6, 20, 3), "tanh", output_activation="linear", key=Key(9), dtype=dtype)
    history = fit(stack, x, y, optimizer=optimizer, epochs=4, batch_size=32, key=Key(3))
    other, losses, accuracies = by_hand(x, y, optimizer, 4, 32, Key(3), dtype)
    assert digest(stack) == digest(other)
    assert history.loss == losses
    assert history.accuracy == accuracies
    assert history.validation_loss == []


def test_fit_learns_and_the_history_says_so():
    x, y = blobs(300)
    stack = Stack((6, 16, 3), "relu", output_activation="linear", weights="he_normal", key=Key(1))
    calls = []
    history = fit(
        stack, x[:200], y[:200], optimizer=Adam(0.01), epochs=15, validation=(x[200:], y[200:]),
        callback=lambda epoch, h: calls.append((epoch, len(h.loss))),
    )  # fmt: skip
    assert isinstance(history, History)
    assert len(history.loss) == len(history.accuracy) == 15
    assert len(history.validation_loss) == len(history.validation_accuracy) == 15
    assert history.loss[-1] < 0.2 * history.loss[0]
    assert history.accuracy[-1] > 0.95
    assert history.validation_accuracy[-1] > 0.95
    assert calls == [(i, i + 1) for i in range(15)]
    outputs = stack.forward(x[200:])
    assert history.validation_loss[-1] == softmax_cross_entropy(outputs, y[200:])[0]
    np.testing.assert_array_equal(predict(stack, x), stack.forward(x).argmax(axis=1))


@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("held_out", ["classes", "rows"])
@pytest.mark.parametrize("trained", ["classes", "rows"])
def test_accuracy_by_the_form_of_each_targets(trained, held_out, rows):
    x, y = blobs()
    forms = {"classes": y, "rows": 0.7 * np.eye(3)[y] + 0.1}
    stack = Stack((6, 20, 3), "tanh", output_activation="linear", key=Key(9), dtype="float64")
    twin = Stack((6, 20, 3), "tanh", output_activation="linear", key=Key(9), dtype="float64")
    history = fit(stack, x, forms[trained], epochs=1, batch_size=None, validation=(x[:rows], forms[held_out][:rows]))
    assert history.accuracy == [(predict(twin, x) == y).mean()]
    assert history.validation_accuracy == [(predict(stack, x[:rows]) == y[:rows]).mean()]


def wrapped_cross_entropy(outputs, targets):
    return softmax_cross_entropy(outputs, targets)


def test_targets_that_name_no_classes_have_no_accuracy():
    x, y = blobs(classes=2)

    def logistic(outputs, targets):
        p = 1 / (1 + np.exp(-outputs))
        return float(((p[:, 0] - targets) ** 2).mean()), (p - targets[:, None]) / len(targets)

    data = (x[:9], np.eye(2)[y[:9]])
    for outputs, loss, targets, validation in (
        (1, logistic, y, (x[:9], y[:9])),
        (1, softmax_cross_entropy, 0 * y, (x[:9], 0 * y[:9])),
        (2, mean_squared_error, np.eye(2)[y], data),
        (2, wrapped_cross_entropy, np.eye(2)[y], data),
    ):
        stack = Stack((6, 5, outputs), "tanh", output_activation="linear", key=Key(9))
        history = fit(stack, x, targets, loss=loss, epochs=2, validation=validation)
        assert (history.accuracy, history.validation_accuracy, len(history.validation_loss)) == ([], [], 2)


@pytest.mark.parametrize("loss", [softmax_cross_entropy, wrapped_cross_entropy])
@pytest.mark.parametrize("form", ["classes", "rows"])
def test_a_sample_with_a_nan_output_is_not_correct(form, loss):
    x, y = blobs()
    targets = y if form == "classes" else np.eye(3)[y]
    stack = Stack((6, 5, 3), "tanh", output_activation="linear", key=Key(9))
    stack.weights[0][:] = np.nan
    history = fit(stack, x, targets, loss=loss, epochs=1, validation=(x[:9], targets[:9]))
    expected = [] if form == "rows" and loss is wrapped_cross_entropy else [0.0]
    assert history.accuracy == history.validation_accuracy == expected


@pytest.mark.parametrize(("answer", "epochs"), [(True, 3), (1, 6), (np.True_, 6), (None, 6), ("stop", 6)], ids=repr)
def test_a_callback_ends_the_training(answer, epochs):
    x, y = blobs()
    stack = Stack((6, 5, 3), "tanh", key=Key(9))
    history = fit(stack, x, y, epochs=6, validation=(x, y), callback=lambda epoch, _: answer if epoch == 2 else False)
    assert len(history.loss) == len(history.validation_loss) == epochs
    other = Stack((6, 5, 3), "tanh", key=Key(9))
    fit(other, x, y, epochs=epochs)
    assert digest(stack) == digest(other)


def test_a_callback_that_ends_the_training_may_not_replace_arrays():
    x, y = blobs()
    stack = Stack((6, 5, 3), "tanh", key=Key(9))

    def replace(epoch, history):
        stack.weights[0] = stack.weights[0].copy()
        return True

    with pytest.raises(ValueError, match="expected the stack's arrays to stay"):
        fit(stack, x, y, callback=replace)


def test_arrays_that_cannot_be_updated_in_place_are_replaced():
    x, y = blobs()
    stack, other = (Stack((6, 5, 3), "tanh", key=Key(9)) for _ in range(2))
    given = stack.weights[0] = np.asfortranarray(stack.weights[0])
    before, kept = given.copy(), stack.weights[1]
    fit(stack, x, y, epochs=1)
    fit(other, x, y, epochs=1)
    assert stack.weights[1] is kept
    assert stack.weights[0] is not given
    np.testing.assert_array_equal(given, before)
    assert digest(stack) == digest(other)


def test_fit_is_deterministic_for_a_key_and_any_threads(each_isa):
    x, y = blobs()

    def trained(key, threads=1):
        stack = Stack((6, 20, 3), "tanh", key=Key(9))
        with num_threads(threads):
            history = fit(stack, x, y, epochs=2, batch_size=16, key=key)
        return digest(stack), history.loss

    assert trained(Key(3)) == trained(Key(3)) == trained(Key(3), 7)
    assert trained(Key(3)) != trained(Key(4))
    assert trained(None) == trained(Key(9))  # the stack's own key


def test_the_whole_batch_in_its_own_order():
    x, y = blobs()
    stack = Stack((6, 5, 3), "tanh", key=Key(9), dtype="float64")
    twin = Stack((6, 5, 3), "tanh", key=Key(9), dtype="float64")
    fit(stack, x, y, optimizer=SGD(0.3), epochs=1, batch_size=None)
    gradients = twin.backward(x, softmax_cross_entropy(twin.forward(x), y)[1])
    for w, before, g in zip(stack.weights, twin.weights, gradients.weights, strict=True):
        np.testing.assert_array_equal(w, before - 0.3 * g)


def test_regression():
    x = normal((200, 2), key=Key(1), dtype="float64")
    y = (x[:, :1] * 2 - x[:, 1:]) * 0.5
    stack = Stack((2, 1), "linear", key=Key(0), dtype="float64")
    history = fit(stack, x, y, loss=mean_squared_error, optimizer=SGD(0.1), epochs=30)
    assert history.accuracy == []
    assert history.loss[-1] < 1e-20
    np.testing.assert_allclose(stack.weights[0], [[1.0], [-0.5]], atol=1e-9)


def test_a_diverging_network_is_no_error():
    x, y = blobs()
    stack = Stack(
        (6, 20, 20, 3), "relu", output_activation="linear", weights="he_normal", key=Key(9)
    )
    history = fit(stack, x * 1e3, y, optimizer=SGD(1e10), epochs=5)
    assert len(history.loss) == 5
    assert not math.isfinite(history.loss[-1])


def test_samples_that_overflow_the_stacks_dtype_give_no_warning():
    stack, x = Stack((2, 2), "tanh", key=Key(0)), np.array([[1e39, 1.0], [0.0, 1.0]])
    assert np.isfinite(stack.forward(x)).all()
    assert len(fit(stack, x, [0, 1], epochs=1).loss) == 1


def test_equal_neurons_stay_equal_to_the_bit(each_isa):
    """Units that start alike get the same gradient, whatever vector lane or tile they are computed in."""
    widths = (6, 70, 45, 3)
    weights = []
    for i, (n, m) in enumerate(pairwise(widths)):
        column = normal((n, 1), key=Key(20) / i, dtype="float32")
        if i == len(widths) - 2:  # outputs differ, inputs do not
            weights.append(np.tile(normal((1, m), key=Key(21), dtype="float32"), (n, 1)) * 0.1)
        elif i == 0:
            weights.append(np.tile(column, (1, m)))
        else:
            weights.append(np.full((n, m), 0.013, np.float32))
    x, y = blobs()
    stack = Stack(widths, "tanh", output_activation="linear", weights=weights, key=Key(0))
    start = [w.copy() for w in stack.weights]
    fit(stack, x, y, optimizer=Momentum(0.05), epochs=5, batch_size=17)
    assert all((w != s).any() for w, s in zip(stack.weights, start, strict=True))
    for w in stack.weights[:-1]:
        assert (w == w[:, :1]).all()
    for w in stack.weights[1:]:
        assert (w == w[:1]).all()
    for b in stack.biases[:-1]:
        assert (b == b[0]).all()
    a = np.stack([stack.forward(x), stack.forward(x[::-1])[::-1]])
    assert (a[0] == a[1]).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.ones((120, 5))}, ValueError, r"training x: expected shape \(samples, 6\), got \(120, 5\)"),
        ({"x": np.ones((0, 6)), "y": np.zeros(0, int)}, ValueError, "training x: expected at least one sample"),
        ({"x": np.full((120, 6), np.nan)}, ValueError, "training x: expected no NaN, got 720"),
        ({"x": np.ones((120, 6), complex)}, TypeError, "training x: expected an array of real numbers, got dtype complex128"),
        ({"y": np.zeros(7, int)}, ValueError, r"training y: expected 120 targets, got shape \(7,\)"),
        ({"y": np.full(120, 3)}, ValueError, r"training y: expected classes in \[0, 3\), got \[3, 3\]"),
        ({"y": np.ones((120, 3))}, ValueError, "training y: expected probabilities"),
        ({"y": np.ones(120)}, TypeError, "training y: expected class numbers of an int dtype, got float64"),
        ({"y": np.ones((120, 2))}, ValueError, r"training y: expected shape \(120,\) or \(120, 3\), got \(120, 2\)"),
        ({"loss": mean_squared_error}, ValueError, r"training y: expected shape \(120, 3\), got \(120,\)"),
        ({"validation": (np.ones((7, 6)), np.arange(7))}, ValueError, r"validation y: expected classes in .*, got \[0, 6\]"),
        ({"epochs": 0}, ValueError, "epochs: expected an int >= 1, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs: expected an int >= 1, got float 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an int >= 1, got 0"),
        ({"key": 3}, TypeError, "key"),
        ({"validation": (np.ones((2, 5)), [0, 1])}, ValueError, "validation x: expected shape"),
    ],
)  # fmt: skip
def test_bad_calls_change_nothing(change, error, message):
    x, y = blobs()
    stack = Stack((6, 5, 3), "tanh", key=Key(9))
    before = digest(stack)
    with pytest.raises(error, match=message):
        fit(stack, **{"x": x, "y": y, **change})
    assert digest(stack) == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": "mse"}, TypeError, "loss: expected a function"),
        ({"optimizer": "sgd"}, TypeError, "optimizer: expected an optimizer such as"),
        ({"optimizer": SGD}, TypeError, "optimizer: expected an optimizer such as"),
        ({"callback": 5}, TypeError, "callback: expected a function"),
        ({"validation": np.zeros((4, 4))}, TypeError, r"validation: expected a pair \(x, y\), got ndarray"),
    ],
)
def test_fit_refuses_before_the_first_update(options, error, message):
    stack = Stack((4, 5, 3), "tanh", key=Key(0))
    before = [w.copy() for w in stack.weights]
    with pytest.raises(error, match=message):
        fit(stack, np.ones((6, 4)), np.zeros(6, int), **options)
    for w, old in zip(stack.weights, before, strict=True):
        np.testing.assert_array_equal(w, old)


@pytest.mark.parametrize("start", [None, 3, lambda parameters: None], ids=["none", "number", "returns none"])
def test_fit_refuses_an_optimizer_without_a_proper_start(start):
    class Wrong:
        pass

    optimizer = Wrong()
    optimizer.start = start
    stack = Stack((4, 5, 3), "tanh", key=Key(0))
    before = digest(stack)
    with pytest.raises(TypeError, match="optimizer: expected"):
        fit(stack, np.ones((6, 4)), np.zeros(6, int), optimizer=optimizer)
    assert digest(stack) == before


@pytest.mark.parametrize("biases", ["zeros", "ones"])
def test_a_virtual_stack_is_not_trained(biases):
    stack = Stack((4, 5, 3), "tanh", virtual=True, biases=biases, key=Key(0))
    weights = stack.weights
    with pytest.raises(ValueError, match="stack: expected stored weights to train, got a virtual stack"):
        fit(stack, np.ones((6, 4)), np.zeros(6, int))
    assert stack.weights is weights


def test_fit_refuses_parameters_that_cannot_be_written():
    stack = Stack((4, 5, 3), "tanh", key=Key(0))
    stack.weights[1].flags.writeable = False
    before = stack.weights[0].copy()
    with pytest.raises(ValueError, match=r"stack.weights\[1\]: expected a writable array"):
        fit(stack, np.ones((6, 4)), np.zeros(6, int))
    np.testing.assert_array_equal(stack.weights[0], before)


@pytest.mark.parametrize("wrong", [None, 3, np.float64(1), np.ones(()), "zeros", (), [None, None], ["zeros", "zeros"]], ids=repr)
@pytest.mark.parametrize("what", ["weights", "biases"])
def test_fit_refuses_parameters_of_wrong_types(what, wrong):
    stack = Stack((4, 5, 3), "tanh", key=Key(0))
    setattr(stack, what, wrong)
    with pytest.raises((TypeError, ValueError), match=rf"{what}(\[0\])?: expected"):
        fit(stack, np.ones((6, 4)), np.zeros(6, int))
    assert getattr(stack, what) is wrong


@pytest.mark.parametrize("call", [lambda: fit(None, [[1.0]], [0]), lambda: predict(None, [[1.0]])])
def test_training_needs_a_stack(call):
    with pytest.raises(TypeError, match=r"stack: expected a fastinit.Stack, got NoneType"):
        call()


def test_integer_outputs_have_real_gradients():
    for loss, targets in ((softmax_cross_entropy, [0, 1]), (mean_squared_error, [[0, 1], [1, 0]])):
        value, gradient = loss([[1, 2], [3, 0]], targets)
        wanted, expected = loss(np.array([[1.0, 2.0], [3.0, 0.0]]), targets)
        assert value == wanted
        np.testing.assert_array_equal(gradient, expected)
        assert np.abs(gradient).max() >= 0.25


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (mean_squared_error, [[np.nan, 0.0]], "targets: expected no NaN, got 1"),
        (softmax_cross_entropy, [[np.nan, 0.0]], "targets: expected no NaN, got 1"),
        (softmax_cross_entropy, [[1.5, -0.5]], "targets: expected probabilities"),
        (softmax_cross_entropy, [[0.2, 0.2]], "targets: expected probabilities"),
    ],
)
def test_targets_that_losses_refuse(loss, targets, message):
    with pytest.raises(ValueError, match=message):
        loss(np.zeros((1, 2)), targets)


def test_predict_needs_two_outputs_and_no_nan():
    with pytest.raises(ValueError, match="stack: expected at least two outputs, one a class, got 1"):
        predict(Stack((2, 1), "tanh", key=Key(0)), np.ones((1, 2)))
    diverged = Stack((2, 2), "linear", key=Key(0))
    diverged.weights[0][:] = np.nan
    with pytest.raises(ValueError, match="expected outputs without NaN, got 3 of 3"):
        predict(diverged, np.ones((3, 2)))


def test_a_gradient_of_nan_shows_in_the_history():
    """There is no update, and the loss of that batch is NaN, whatever value the user's function returned."""
    stack = Stack((4, 5), "linear", key=Key(0))
    before = stack.weights[0].copy()
    x = normal((16, 4), key=Key(1))
    history = fit(stack, x, np.zeros((16, 5)), epochs=2, loss=lambda outputs, targets: (0.0, outputs * np.nan))
    assert np.isnan(history.loss).all()
    assert np.array_equal(stack.weights[0], before)


# ---- golden ---------------------------------------------------------------------------------------


def test_golden_hashes(each_isa):
    expected = [line for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
    assert list(golden_lines()) == expected
