# SPDX-License-Identifier: BSD-3-Clause
"""fit with losses, optimizers and callbacks that the user wrote."""

import numpy as np
import pytest

from fastinit import SGD, Adam, Key, Stack, fit, normal, softmax_cross_entropy


def network():
    return Stack((6, 20, 20, 3), "gelu", output_activation="linear", key=Key(9))


def test_the_users_loss_may_keep_the_arrays_that_it_gets():
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
def test_what_the_users_loss_must_return(loss, error, message):
    stack = network()
    stack.weights[1] = np.asfortranarray(stack.weights[1])
    before = list(stack.weights)
    with pytest.raises(error, match=message):
        fit(stack, normal((50, 6), key=Key(1)), np.arange(50) % 3, loss=loss)
    assert all(a is b for a, b in zip(stack.weights, before, strict=True))


def test_the_value_of_the_users_loss_is_a_float_in_the_history():
    def loss(outputs, targets):
        value, gradient = softmax_cross_entropy(outputs, targets)
        return np.array([value], np.float32), gradient

    x, y = normal((50, 6), key=Key(1)), np.arange(50) % 3
    history = fit(network(), x, y, loss=loss, epochs=2, validation=(x, y))
    assert all(type(value) is float for value in history.loss + history.validation_loss)


def test_the_users_optimizer_may_keep_the_gradients_that_it_gets():
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


def test_the_users_optimizer_may_empty_its_list_of_parameters():
    class Emptying:
        def start(self, parameters):
            update = SGD(0.05).start(parameters)
            parameters.clear()
            return update

    x, y = normal((50, 6), key=Key(1)), np.arange(50) % 3
    one, two = network(), network()
    assert fit(one, x, y, optimizer=Emptying(), epochs=2).loss == fit(two, x, y, optimizer=SGD(0.05), epochs=2).loss
