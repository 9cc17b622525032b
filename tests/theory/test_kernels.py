# SPDX-License-Identifier: BSD-3-Clause
"""Kernels of wide networks: Cho & Saul's closed forms, the maps, and networks of finite width."""

import math

import numpy as np
import pytest

from fastinit import Key, RandomNormal, Stack, VarianceScaling, theory

X = np.random.default_rng(4).standard_normal((6, 9)) * np.linspace(0.5, 2, 6)[:, None]


def arc_cosine(kernel, weight, bias):
    """Cho & Saul's kernels of degrees 1 and 0, and so the two kernels after a layer of ReLU."""
    stds = np.sqrt(np.diagonal(kernel))
    c = np.clip(kernel / np.outer(stds, stds), -1, 1)
    a = np.arccos(c)
    values = np.outer(stds, stds) * (np.sin(a) + (math.pi - a) * c) / (2 * math.pi)
    return weight * values + bias, weight * (math.pi - a) / (2 * math.pi)


@pytest.mark.parametrize(("weight", "bias"), [(2.0, 0.0), (1.5, 0.3)])
def test_relu(weight, bias):
    kernel = theta = weight * X @ X.T / 9 + bias
    for depth in range(1, 6):
        np.testing.assert_allclose(theory.nngp_kernel(X, depth, "relu", weight, bias), kernel, rtol=1e-7)  # of arccos
        np.testing.assert_allclose(theory.ntk_kernel(X, depth, "relu", weight, bias), theta, rtol=1e-7)
        own = theory.Activation(lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0)
        np.testing.assert_allclose(theory.ntk_kernel(X, depth, own, weight, bias), theta, rtol=1e-7)
        kernel, slopes = arc_cosine(kernel, weight, bias)
        theta = kernel + theta * slopes


def test_linear_networks():
    """K_L = sigma_w^2L x x^T / n_0, and every layer's weights add the same to the tangent kernel."""
    gram = X @ X.T / 9
    np.testing.assert_allclose(theory.nngp_kernel(X, 4, "linear", 1.3), 1.3**4 * gram, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(theory.ntk_kernel(X, 4, "linear", 1.3), 4 * 1.3**4 * gram, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "sin", "hard_tanh", "elu"])
def test_inputs_of_one_length_follow_the_maps(activation):
    angle = 0.8
    x = math.sqrt(2) * np.array([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    q, c, weight, bias = 1.5 + 0.1, (1.5 * math.cos(angle) + 0.1) / 1.6, 1.5, 0.1
    own, both = q, q * c
    for depth in range(1, 5):
        kernel = theory.nngp_kernel(x, depth, activation, weight, bias)
        np.testing.assert_allclose(kernel, [[q, q * c], [q * c, q]], rtol=1e-10)
        np.testing.assert_allclose(theory.ntk_kernel(x, depth, activation, weight, bias), [[own, both], [both, own]], rtol=1e-10)
        own *= theory.chi_1(activation, q, weight)
        both *= theory.correlation_slope(activation, c, q, weight)
        c = theory.correlation_map(activation, c, q, weight, bias)
        q = theory.variance_map(activation, q, weight, bias)
        own, both = own + q, both + q * c


def test_two_inputs_of_several_lengths_against_a_trapezoidal_rule():
    kernel = theory.nngp_kernel(X, 2, "tanh", 1.5, 0.1)
    before = theory.nngp_kernel(X, 1, "tanh", 1.5, 0.1)
    z = np.arange(-9, 9, 0.03)
    w = np.exp(-z * z / 2) * 0.03 / math.sqrt(2 * math.pi)
    for i, j in ((0, 5), (2, 3), (4, 4)):
        c = before[i, j] / math.sqrt(before[i, i] * before[j, j])
        u = math.sqrt(before[i, i]) * z[:, None]
        v = math.sqrt(before[j, j]) * (c * z[:, None] + math.sqrt(max(1 - c * c, 0)) * z)
        assert kernel[i, j] == pytest.approx(1.5 * (w @ (np.tanh(u) * np.tanh(v)) @ w) + 0.1, rel=1e-11)


@pytest.mark.parametrize(("activation", "weight", "bias"), [("relu", 2.0, 0.0), ("tanh", 1.5, 0.2)])
def test_kernels_of_networks_of_finite_width(activation, weight, bias):
    """Gradients of a linear output behind two layers of 2,000 units, over 12 networks: to 6 % of the largest element.

    Of one ReLU network the variances vary by sqrt(2 * 5 / 2000) = 7 %, of the mean of 12 by 2 %. The same numbers on every
    machine."""
    width, networks, x = 2000, 12, X[::2]
    found = np.zeros((len(x), len(x)))
    for seed in range(networks):
        stack = Stack(
            (9, width, width, 1), activation, output_activation="linear", key=Key(seed),
            weights=VarianceScaling(weight, distribution="normal"),
            biases=RandomNormal(0.0, math.sqrt(bias)) if bias else "zeros",
        )  # fmt: skip
        rows = []
        for row in x:
            weights, biases, _ = stack.backward(row[None], [[1.0]])
            parts = [math.sqrt(weight / g.shape[0]) * g.ravel() for g in weights] + [math.sqrt(bias) * g for g in biases]
            rows.append(np.concatenate(parts))
        gradients = np.array(rows)
        found += gradients @ gradients.T / networks
    expected = theory.ntk_kernel(x, 3, activation, weight, bias)
    assert np.abs(found - expected).max() < 0.06 * expected.max()


def test_condition_numbers():
    assert theory.condition_number(np.eye(3)) == 1
    assert theory.condition_number(np.diag([1e200, 4e200])) == pytest.approx(4, rel=1e-12)
    assert theory.condition_number(np.ones((2, 2))) == math.inf
    assert theory.condition_number(np.zeros((2, 2))) == math.inf
    numbers = [theory.condition_number(theory.ntk_kernel(X, depth, "tanh", 1.2, 0.2)) for depth in (2, 6, 12)]
    assert numbers[0] < numbers[1] < numbers[2]  # in the ordered phase all inputs become one


def test_an_input_of_zeros_and_two_that_are_one():
    x = np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]])
    for activation in ("relu", "tanh", "sigmoid"):
        kernel = theory.nngp_kernel(x, 3, activation, 1.5)
        assert kernel[1, 1] == pytest.approx(kernel[1, 2], rel=1e-12)
        one = theory.nngp_kernel(x[:1], 2, activation, 1.5)[0, 0]
        assert one == pytest.approx(1.5 * float(theory.function(activation)(0.0)) ** 2, abs=1e-99)
    mixed = theory.nngp_kernel(x, 2, "sigmoid", 1.5)[0, 1]
    assert mixed == pytest.approx(1.5 * 0.5 * 0.5, rel=1e-10)  # sigmoid(0) E sigmoid = 1/4


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: theory.nngp_kernel(np.ones((65, 2)), 2, "relu", 2.0), ValueError, r"x: expected .* 64 inputs .* got \(65, 2\)"),
    (lambda: theory.nngp_kernel(np.ones(3), 2, "relu", 2.0), ValueError, r"x: expected shape \(n, n_0\)"),
    (lambda: theory.nngp_kernel([[math.nan]], 2, "relu", 2.0), ValueError, "x: expected no NaN, got 1"),
    (lambda: theory.nngp_kernel([[math.inf]], 2, "relu", 2.0), ValueError, "x: expected finite numbers"),
    (lambda: theory.ntk_kernel([[1.0]], 0, "relu", 2.0), ValueError, "depth: expected an int >= 1"),
    (lambda: theory.ntk_kernel([[1.0]], 500, "relu", 1e3), ValueError, "expected one with a finite kernel"),
    (lambda: theory.condition_number([[1.0, 2.0]]), ValueError, r"kernel: expected shape \(n, n\), got \(1, 2\)"),
    (lambda: theory.condition_number([[1.0, 2.0], [0.0, 1.0]]), ValueError, "kernel: expected a symmetric array"),
    (lambda: theory.condition_number([[math.nan]]), ValueError, "kernel: expected finite numbers"),
])  # fmt: skip
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
