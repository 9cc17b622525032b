# SPDX-License-Identifier: BSD-3-Clause
"""Residual stacks with means: closed forms, and measured stacks."""

import math

import numpy as np
import pytest

from fastinit import Key, RandomNormal, Stack, VarianceScaling, theory


def test_branches_that_end_in_relu_add_up():
    """p' = p (1 + alpha^2) + 2 alpha m sqrt(p / pi), m' = m + alpha sqrt(p / pi), as E relu = sqrt(q / 2 pi) and q = 2 p."""
    alpha, p, m = 24**-0.5, 1.0, 0.0
    found = theory.residual_profile(24, "relu", 2.0, alpha=alpha)
    for i in range(24):
        p, m = p * (1 + alpha**2) + 2 * alpha * m * math.sqrt(p / math.pi), m + alpha * math.sqrt(p / math.pi)
        assert found.second_moments[i + 1] == pytest.approx(p, rel=1e-12)
        assert found.means[i + 1] == pytest.approx(m, rel=1e-12)
    assert found.forward[-1] == pytest.approx(4.34, abs=0.005)
    np.testing.assert_allclose(found.chi, 1 + 1 / 24, rtol=1e-12)
    np.testing.assert_allclose(found.backward, math.log(1 + 1 / 24) * np.arange(25)[::-1], atol=1e-12)
    # He's layers keep their second moment: it does not matter how many a branch has
    np.testing.assert_allclose(theory.residual_profile(24, "relu", 2.0, alpha=alpha, branch_layers=5).forward, found.forward)


def test_linear_ends_and_odd_activations_have_no_mean():
    linear = theory.residual_profile(24, "relu", 1.0, alpha=24**-0.5, branch_layers=1, linear_end=True)
    np.testing.assert_allclose(linear.forward, math.log(1 + 1 / 24) * np.arange(25), rtol=1e-12)
    np.testing.assert_allclose(linear.chi, 1 + 1 / 24, rtol=1e-12)
    assert not linear.means.any()
    odd = theory.residual_profile(5, "tanh", 1.5, 0.1, alpha=0.5)
    p = 1.0
    for i in range(5):
        q = 1.5 * theory.variance_map("tanh", 1.5 * p + 0.1, 1.0) + 0.1
        chi = 1 + 0.25 * theory.chi_1("tanh", 1.5 * p + 0.1, 1.5) * theory.chi_1("tanh", q, 1.5)
        assert odd.chi[i] == pytest.approx(chi, rel=1e-12)
        p += 0.25 * theory.variance_map("tanh", q, 1.0)
        assert odd.second_moments[i + 1] == pytest.approx(p, rel=1e-12)
    assert np.abs(odd.means).max() < 1e-14


def test_growth_beyond_the_range_of_numbers():
    found = theory.residual_profile(3000, "relu", 2.0, branch_layers=1)
    assert found.second_moments[-1] == math.inf
    last = np.diff(found.forward)[-10:]
    np.testing.assert_allclose(last, last[-1], rtol=1e-9)
    none = theory.residual_profile(3, "relu", 0.0, second_moment_of_input=2.0, mean_of_input=1.0)
    assert none.second_moments.tolist() == [2, 2, 2, 2]
    np.testing.assert_allclose(none.means, 1, rtol=1e-14)


@pytest.mark.parametrize(("activation", "weight", "bias", "layers", "blocks", "alpha"), [
    ("relu", 2.0, 0.0, 1, 24, 24**-0.5), ("relu", 2.0, 0.0, 2, 6, 1.0), ("gelu", 2.0, 0.1, 2, 8, 0.5),
    ("tanh", 1.5, 0.1, 2, 8, 0.7), ("sigmoid", 4.0, 0.0, 1, 5, -0.5),
])  # fmt: skip
def test_measured_stacks(activation, weight, bias, layers, blocks, alpha):
    """Of width 400, over 12 networks and 8 inputs: to 0.1 or 3 % of the change, four times the spread of the mean.

    One direction of the gradient, that of the stream, grows as the stream does: its share is at most e^forward / width."""
    width, changes = 400, []
    for seed in range(12):
        stack = Stack(
            [width] * (layers * blocks + 1), activation, weights=VarianceScaling(weight, distribution="normal"),
            biases=RandomNormal(0.0, math.sqrt(bias)) if bias else "zeros", residual=layers, alpha=alpha, key=Key(seed),
        )  # fmt: skip
        rng = np.random.default_rng(seed)
        x, dy = rng.standard_normal((2, 8, width))
        x /= np.sqrt(np.mean(x * x, axis=1, keepdims=True))
        found = stack.propagate(x, dy, gradients=True)
        changes.append(np.log([np.mean(found.output.astype(float) ** 2), np.mean(found.input_gradient**2) / np.mean(dy**2)]))
    forward, backward = np.mean(changes, axis=0)
    expected = theory.residual_profile(blocks, activation, weight, bias, alpha=alpha, branch_layers=layers)
    assert forward == pytest.approx(expected.forward[-1], abs=0.1, rel=0.03)
    assert backward == pytest.approx(expected.backward[0], abs=0.1 + math.exp(expected.forward[-1]) / width, rel=0.03)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"blocks": 0}, ValueError, "blocks: expected an int >= 1"), ({"alpha": math.nan}, ValueError, "alpha: expected a finite"),
    ({"branch_layers": 0}, ValueError, "branch_layers: expected"), ({"linear_end": 1}, TypeError, "linear_end: expected a bool"),
    ({"second_moment_of_input": 0}, ValueError, "second_moment_of_input: expected a finite number > 0.0"),
    ({"mean_of_input": -1.1}, ValueError, "mean_of_input: expected one whose square is at most the second moment 1.0, got -1.1"),
])  # fmt: skip
def test_what_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        theory.residual_profile(**{"blocks": 2, "activation": "relu", "weight_variance": 2.0, **options})
