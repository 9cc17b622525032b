# SPDX-License-Identifier: BSD-3-Clause
"""Stacks without layers and with 100,000, empty batches, overflow, infinities, NaN and subnormal numbers."""

import math

import numpy as np
import pytest
import stack_reference as reference
from stack_cases import batch_of, network

from fastinit import Key, RandomNormal, Recorder, Stack, _core, mean_squared_error, normal, softmax_cross_entropy


def test_depth_zero_is_the_identity():
    stack = Stack((3,), "tanh", key=Key(0))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(stack.forward(x), x)
    np.testing.assert_array_equal(stack.backward(x, x).input, x)
    found = stack.propagate(x, gradients=True)
    assert found.layers == ()
    assert found.weight_gradients == []
    np.testing.assert_array_equal(found.output, x)
    assert stack.depth == 0


def test_an_empty_batch():
    stack, _ = network((3, 40, 2), "relu", "float32")
    x, dy = np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32)
    found = stack.propagate(x, dy, gradients=True)
    assert found.output.shape == (0, 2)
    assert found.input_gradient.shape == (0, 3)
    for g, w in zip(found.weight_gradients, stack.weights, strict=True):
        assert g.shape == w.shape
        assert not g.any()
    assert not any(g.any() for g in found.bias_gradients)
    for layer in found.layers:
        for m in (layer.pre_activation, layer.activation, layer.gradient):
            assert math.isnan(m.mean)
            assert math.isnan(m.variance)
        assert math.isnan(layer.saturated)
        assert math.isnan(layer.dead)


def test_a_hundred_thousand_layers():
    depth = 100_000
    stack = Stack(
        (1,) * (depth + 1), "linear", weights=[np.ones((1, 1))] * depth, biases=[np.zeros(1)] * depth,
        key=Key(0),
    )  # fmt: skip
    stack.weights[70_000][0, 0] = 0.5
    x = np.array([[3.0], [-5.0]])
    found = stack.propagate(x, np.ones_like(x), gradients=True)
    np.testing.assert_array_equal(found.output, x / 2)
    np.testing.assert_array_equal(found.input_gradient, [[0.5], [0.5]])
    assert found.weight_gradients[70_000][0, 0] == -2
    assert found.layers[69_999].activation.second_moment == 17
    assert found.layers[70_000].activation.second_moment == 17 / 4
    assert found.layers[0].gradient.mean == 0.5


def test_constant_data_has_no_variance():
    stack = Stack((1, 70), "linear", weights=[np.full((1, 70), 0.1)], key=Key(0))
    layer = stack.propagate(np.full((19, 1), 3e7), np.ones((19, 70))).layers[0]
    assert layer.pre_activation.variance == 0
    assert layer.activation.variance == 0
    assert layer.gradient.variance == 0
    assert layer.pre_activation.mean == float(np.float32(0.1) * np.float32(3e7))


def test_a_small_variance_of_numbers_with_a_large_mean():
    """Nothing cancels, though the numbers are read once: the mean is 10^4, deviations 10^-3."""
    deviations = 1e-3 * normal((50, 90), key=Key(3), dtype="float64")
    stack = Stack(
        (90, 90),
        "linear",
        weights=[np.eye(90)],
        biases=[np.full(90, 1e4)],
        key=Key(0),
        dtype="float64",
    )
    layer = stack.propagate(deviations, np.ones((50, 90))).layers[0]
    assert layer.pre_activation.variance == pytest.approx((deviations + 1e4).var(), rel=1e-6)


@pytest.mark.parametrize(("dtype", "large"), [("float32", 3e38), ("float64", 1e300)])
def test_overflow_is_seen_in_the_statistics_and_is_no_exception(dtype, large):
    stack = Stack((40,) * 5, "linear", weights=[np.eye(40) * 1e10] * 4, key=Key(0), dtype=dtype)
    found = stack.propagate(np.full((9, 40), large), gradients=True)
    assert math.isnan(found.layers[0].pre_activation.variance)
    assert found.overflow == 0
    assert found.layers[0].pre_activation.maximum == math.inf
    # Every unit overflows in the first layer, by the diagonal of its weights; then 0 times infinity is NaN.
    assert found.layers[0].activation.non_finite == 9 * 40
    assert not np.isfinite(found.output).any()
    # Finite numbers of float64 whose squares overflow: that shows in the second moment alone.
    if dtype == "float64":
        stack = Stack((2, 2), "linear", weights=[np.eye(2)], key=Key(0), dtype=dtype)
        layer = stack.propagate(np.array([[large, -large]]), np.ones((1, 2))).layers[0]
        assert layer.pre_activation.mean == 0
        assert layer.pre_activation.second_moment == math.inf


def test_the_first_layer_with_an_overflow_is_named(each_isa):
    stack = Stack((40,) * 6, "linear", weights=[np.eye(40) * 1e10] * 5, key=Key(0))
    found = stack.propagate(np.full((9, 40), 1e13))  # 1e23, 1e33, then beyond 3.4e38
    assert found.overflow == 2
    assert [layer.activation.non_finite for layer in found.layers[:3]] == [0, 0, 9 * 40]
    assert found.layers[1].activation.maximum == np.float32(np.float32(np.float32(1e13) * 1e10) * 1e10)


def test_merging_distant_means_gives_an_infinite_variance():
    """Each row has a finite variance, but the square of the distance of their means overflows."""
    stack = Stack((1, 1), "linear", weights=[np.ones((1, 1))], key=Key(0), dtype="float64")
    layer = stack.propagate(np.array([[1e300], [-1e300]]), np.ones((2, 1))).layers[0]
    assert layer.activation.mean == 0
    assert layer.activation.variance == math.inf


def test_the_slope_of_leaky_relu(each_isa):
    stack = Stack((1, 1), "leaky_relu(0.25)", weights=[np.ones((1, 1))], key=Key(0))
    x = np.array([[4.0], [-4.0], [0.0]], np.float32)
    np.testing.assert_array_equal(stack.forward(x)[:, 0], [4, -1, 0])
    gradient = stack.backward(x, np.ones((3, 1))).input
    np.testing.assert_array_equal(gradient[:, 0], [1, 0.25, 0.25])


def test_infinities_pass_through():
    x = np.array([[np.inf], [-np.inf], [1.0], [0.0]], dtype=np.float32)
    for activation in _core.ACTIVATIONS:
        phi = reference.ACTIVATIONS[activation][0]
        # Its limits: infinite if it still grows far out, NaN if it neither grows nor stays, as a sine.
        far, farther = phi(np.array([1e100, -1e100])), phi(np.array([1e102, -1e102]))
        ends = np.where(np.abs(farther) > np.abs(far) + 1, np.copysign(np.inf, far), np.where(farther == far, far, np.nan))
        stack = Stack((1, 1), activation, weights=[np.ones((1, 1))], key=Key(0))
        np.testing.assert_allclose(stack.forward(x)[:, 0], [*ends, *phi(np.array([1.0, 0.0]))], rtol=5e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("virtual", [False, True])
def test_a_loss_after_an_overflow_goes_back_without_an_exception(dtype, virtual, each_isa):
    """Fifty layers of ReLU with weights that are too large: the loss's gradient is NaN, and so are all others."""
    scale = {"float32": 1e3, "float64": 1e9}[dtype]
    stack = Stack((16,) * 50 + (10,), "relu", weights=RandomNormal(0, scale), virtual=virtual, key=Key(0), dtype=dtype)
    x = normal((9, 16), key=Key(1), dtype=dtype)
    probabilities = np.full((9, 10), 0.1)
    for loss, targets in (
        (softmax_cross_entropy, np.arange(9)), (softmax_cross_entropy, probabilities), (mean_squared_error, probabilities)
    ):  # fmt: skip
        value, dy = loss(stack.forward(x), targets)
        assert not math.isfinite(value)
        assert np.isnan(dy).any()
        found = stack.propagate(x, dy, norms=True, gradients=not virtual, pairs=[(0, 1)])
        assert 0 < found.overflow < 49
        assert found.layers[-1].gradient.non_finite > 0
        assert found.layers[found.overflow - 1].activation.non_finite == 0
        assert math.isnan(found.weight_gradient_norms[-1])
        assert "nan" in str(found)
        if virtual:
            continue
        recorder = Recorder(stack, 9, input_gradient=True)
        recorder.forward(x)
        recorder.backward(dy)
        for gradients in (recorder.weight_gradients, stack.backward(x, dy).weights, stack.record(x).backward(dy).weights):
            for g, wanted in zip(gradients, found.weight_gradients, strict=True):
                np.testing.assert_array_equal(g, wanted)
        assert np.isnan(found.weight_gradients[-1]).any()


def test_a_nan_in_dy_stays_in_its_own_row(each_isa):
    stack, key = network((6, 40, 3), "tanh", "float32", name="nan")
    x, dy = batch_of(stack, key, 11)
    clean = stack.propagate(x, dy, gradients=True)
    dy[4, 1] = np.nan
    found = stack.propagate(x, dy, gradients=True)
    assert found.overflow is None  # forward nothing overflowed
    assert found.layers[1].gradient.non_finite == 1
    assert np.isnan(found.input_gradient[4]).all()
    others = np.arange(11) != 4
    np.testing.assert_array_equal(found.input_gradient[others], clean.input_gradient[others])
    np.testing.assert_array_equal(found.weight_gradients[1][:, [0, 2]], clean.weight_gradients[1][:, [0, 2]])
    assert np.isnan(found.weight_gradients[1][:, 1]).all()
    assert np.isnan(found.weight_gradient_norms).all()


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
def test_a_nan_stays_in_its_own_row_and_column(activation, each_isa):
    stack, key = network((6, 40, 3), activation, "float32", name="nan")
    x, dy = batch_of(stack, key, 11)
    clean = stack.forward(x)
    stack.weights[1][5, 1] = np.nan
    found = stack.propagate(x, dy, gradients=True)
    np.testing.assert_array_equal(found.output[:, [0, 2]], clean[:, [0, 2]])
    assert np.isnan(found.output[:, 1]).all()
    assert math.isnan(found.layers[1].activation.mean)
    assert math.isfinite(found.layers[0].activation.mean)


@pytest.mark.parametrize(("dtype", "tiny"), [("float32", 1e-42), ("float64", 1e-320)])
def test_subnormals_are_kept(dtype, tiny, each_isa):
    stack = Stack((40, 40, 40), "linear", weights=[np.eye(40)] * 2, key=Key(0), dtype=dtype)
    x = np.full((3, 40), tiny, dtype=dtype)
    found = stack.propagate(x, x, gradients=True)
    np.testing.assert_array_equal(found.output, x)
    np.testing.assert_array_equal(found.input_gradient, x)
    assert found.layers[0].activation.mean == float(x[0, 0])
