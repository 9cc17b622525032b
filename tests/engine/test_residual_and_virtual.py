# SPDX-License-Identifier: BSD-3-Clause
"""Residual blocks, and weights that are never stored."""

import numpy as np
import pytest
import stack_reference as reference
from stack_cases import batch_of, network

from fastinit import Key, Stack, VarianceScaling, _core, normal, num_threads

ISAS = _core.available_isas()


@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu"])
def test_residual_blocks(activation, each_isa):
    """A stem, two blocks of two layers and a head, against the formula and central differences."""
    stack, key = network(
        (6, 37, 20, 37, 20, 37, 4), activation, "float64", name="residual", residual=2, alpha=0.3
    )
    x, dy = batch_of(stack, key, 11)
    x = x.copy()
    phi = reference.ACTIVATIONS[activation][0]

    def layer(i, a):
        return phi(a @ stack.weights[i] + stack.biases[i])

    a = layer(0, x)
    a = a + 0.3 * layer(2, layer(1, a))
    a = a + 0.3 * layer(4, layer(3, a))
    found = stack.propagate(x, dy, gradients=True)
    np.testing.assert_allclose(found.output, layer(5, a), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(stack.forward(x), found.output)
    assert found.layers[4].activation.second_moment == pytest.approx((a**2).mean(), rel=1e-12)
    step = 2.0**-17
    for array, gradient in [
        *zip(stack.weights, found.weight_gradients, strict=True),
        *zip(stack.biases, found.bias_gradients, strict=True),
        (x, found.input_gradient),
    ]:
        for index in ((0,) * array.ndim, (-1,) * array.ndim, (1,) * array.ndim):
            kept, ends = array[index], []
            for sign in (1, -1):
                array[index] = kept + sign * step
                ends.append(float((stack.forward(x) * dy).sum()))
            array[index] = kept
            quotient = (ends[0] - ends[1]) / (2 * step)
            assert gradient[index] == pytest.approx(quotient, rel=2e-8, abs=2e-8)


def test_residual_identity():
    """Branches of weight 0 leave the signal as it is."""
    stack = Stack((5,) * 7, "tanh", residual=3, alpha=0.0, key=Key(0))
    x = normal((4, 5), key=Key(1))
    found = stack.propagate(x, x, gradients=True)
    np.testing.assert_array_equal(found.output, x)
    np.testing.assert_array_equal(found.input_gradient, x)
    assert not any(g.any() for g in found.weight_gradients)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("weights", ["he_normal", "glorot_uniform", "he_truncated_normal"])
def test_virtual_weights_have_the_bits_of_stored_ones(weights, activation, each_isa):
    if weights == "he_truncated_normal":
        weights = VarianceScaling(2.0, "fan_in", "truncated_normal")
    widths = (20, 65, 33, 64, 64, 100, 7, 40, 40, 40, 10)
    options = {"activation": activation, "weights": weights, "key": Key(5)}
    stored, virtual = Stack(widths, **options), Stack(widths, virtual=True, **options)
    x, dy = batch_of(stored, Key(5), 37)
    expected = stored.propagate(x, dy, gradients=True)
    for threads in (1, 3):
        with num_threads(threads):
            found = virtual.propagate(x, dy)
        np.testing.assert_array_equal(found.output, expected.output)
        assert found.layers == expected.layers
    np.testing.assert_array_equal(virtual.forward(x), expected.output)
    for i in (0, 5, -1):
        np.testing.assert_array_equal(virtual.weights[i], stored.weights[i])
    assert len(virtual.weights) == 10


def test_virtual_stacks_of_every_depth():
    """Checkpoints meet the end of the stack in every way."""
    for depth in range(1, 18):
        options = {"activation": "sin", "weights": "he_normal", "key": Key(depth), "biases": "ones"}
        if depth % 3:
            options["output_activation"] = "tanh"
        if depth % 3 == 2:
            options["activation"], options["output_activation"] = "tanh", "gelu"
        stored = Stack((8,) * (depth + 1), **options)
        virtual = Stack((8,) * (depth + 1), virtual=True, **options)
        x, dy = batch_of(stored, Key(5), 9)
        assert virtual.propagate(x, dy).layers == stored.propagate(x, dy).layers


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"residual": 0}, ValueError, "residual: expected an int >= 1, got 0"),
        ({"residual": 1.5}, TypeError, "residual: expected an int >= 1, got float 1.5"),
        ({"residual": 1}, ValueError, "residual: expected 1 layers whose input and output"),
        ({"alpha": "1"}, TypeError, "alpha: expected a real number, got str '1'"),
        ({"alpha": np.inf}, ValueError, "alpha: expected a finite number, got inf"),
        ({"virtual": True, "weights": "orthogonal"}, ValueError, "weights: expected an initializer that draws"),
    ],
)  # fmt: skip
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        Stack((3, 4, 3), "tanh", **options)


def test_virtual_stacks_have_no_weight_gradients():
    stack = Stack((3, 4), "tanh", virtual=True)
    x = np.ones((2, 3), np.float32)
    for call in (
        lambda: stack.propagate(x, gradients=True),
        lambda: stack.backward(x, np.ones((2, 4))),
        lambda: stack.record(x),
    ):
        with pytest.raises(ValueError, match="gradients: expected stored weights, got a virtual stack"):
            call()
