# SPDX-License-Identifier: BSD-3-Clause
"""Singular values of Jacobians: closed forms and measured stacks."""

import math

import numpy as np
import pytest

from fastinit import Key, Orthogonal, RandomNormal, Stack, VarianceScaling, theory


def test_moments_in_closed_form():
    assert theory.jacobian_moments(7, "relu", 2.0) == pytest.approx((1, 7 * 2), rel=1e-12)  # mu_2 / mu_1^2 = 2
    assert theory.jacobian_moments(7, "relu", 2.0, orthogonal=True) == pytest.approx((1, 7), rel=1e-12)
    assert theory.jacobian_moments(3, "linear", 0.5) == pytest.approx((0.125, 3 / 64), rel=1e-12)
    mean, variance = theory.jacobian_moments(4, "tanh", 1.5, 0.1, q=0.7)
    found = theory.profile(4, "tanh", 1.5, 0.1, q=0.7)
    assert mean == pytest.approx(np.prod(found.chi), rel=1e-12)
    total = 0.0
    for q in found.variances:
        total += theory.expectation(lambda z: 1 / np.cosh(z) ** 8, q) / theory.chi_1("tanh", float(q), 1.0) ** 2
    assert variance == pytest.approx(mean**2 * total, rel=1e-10)
    assert theory.jacobian_moments(3, "tanh", 0.0) == (0.0, 0.0)


@pytest.mark.parametrize(("activation", "weight", "bias", "orthogonal"), [
    ("relu", 2.0, 0.0, False), ("relu", 2.0, 0.0, True), ("tanh", 1.76, 0.05, False), ("tanh", 1.76, 0.05, True),
    ("gelu", 2.0, 0.3, False),
])  # fmt: skip
def test_measured_moments(activation, weight, bias, orthogonal):
    """Of width 150 and 4 layers, over 60 networks: means have a standard error of sqrt(4 * 2 / 150 / 60) = 3 % at most, and
    are held to 6 %; the variance of each network, relative to its mean, to 6 %. The same numbers on every machine."""
    width, depth, squares = 150, 4, []
    weights = Orthogonal(gain=math.sqrt(weight)) if orthogonal else VarianceScaling(weight, distribution="normal")
    for seed in range(60):
        stack = Stack(
            [width] * (depth + 1), activation, weights=weights, biases=RandomNormal(0.0, math.sqrt(bias)) if bias else "zeros",
            key=Key(seed),
        )  # fmt: skip
        x = np.random.default_rng(seed).standard_normal(width)
        x /= math.sqrt(np.mean(x * x))
        squares.append(theory.jacobian_singular_values(stack, x) ** 2)
    mean, variance = theory.jacobian_moments(depth, activation, weight, bias, q=weight + bias, orthogonal=orthogonal)
    assert np.mean(squares) == pytest.approx(mean, rel=0.06)
    relative = np.mean(np.var(squares, axis=1) / np.mean(squares, axis=1) ** 2)
    assert relative == pytest.approx(variance / mean**2, rel=0.06)


def test_singular_values_of_a_stack():
    rng = np.random.default_rng(1)
    one, two = rng.standard_normal((5, 7)), rng.standard_normal((7, 4))
    stack = Stack((5, 7, 4), "tanh", weights=[one, two], biases="zeros", dtype="float64")
    x = rng.standard_normal(5)
    z = x @ one
    a = np.tanh(z)
    jacobian = one * (1 - a**2) @ two * (1 - np.tanh(a @ two) ** 2)
    np.testing.assert_allclose(theory.jacobian_singular_values(stack, x), np.linalg.svd(jacobian)[1], rtol=1e-12)
    assert theory.jacobian_singular_values(Stack((5, 7, 9), "relu", key=Key(1)), x).shape == (5,)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: theory.jacobian_moments(0, "tanh", 1.0), ValueError, "depth: expected an int >= 1"),
    (lambda: theory.jacobian_moments(2, "tanh", 1.0, q=0), ValueError, "q: expected a finite number > 0.0"),
    (lambda: theory.jacobian_moments(2, "tanh", 1.0, orthogonal=1), TypeError, "orthogonal: expected a bool"),
    (lambda: theory.jacobian_singular_values(3, [1.0]), TypeError, "stack: expected a fastinit.Stack, got int"),
    (lambda: theory.jacobian_singular_values(Stack((2, 2), "relu"), [1.0]), ValueError, r"x: expected shape \(2,\), got \(1,\)"),
    (lambda: theory.jacobian_singular_values(Stack((2, 2, 2), "linear", weights=[np.full((2, 2), 1e30)] * 2), [1.0, 1.0]),
     ValueError, "expected one with a finite Jacobian"),
    (lambda: theory.jacobian_singular_values(Stack((2, 2), "relu", virtual=True), [1.0, 1.0]), ValueError, "virtual stack"),
])  # fmt: skip
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
