# SPDX-License-Identifier: BSD-3-Clause
"""Phases and depth scales."""

import math

import numpy as np
import pytest

from fastinit import _core, theory


def test_depth_scales_of_a_chaotic_tanh():
    """xi_c alone is too kind: networks of 10, 20 and 40 layers were trained to 91, 78 and 32 %."""
    q = theory.fixed_point("tanh", 4.0, 0.05)
    c = theory.fixed_correlation("tanh", q, 4.0, 0.05)
    assert 6 * theory.length_scale("tanh", c, q, 4.0) == pytest.approx(42, abs=0.5)
    assert 6 * theory.gradient_scale("tanh", q, 4.0) == pytest.approx(20, abs=0.5)
    assert theory.trainable_depth("tanh", 4.0, 0.05) == 6 * theory.gradient_scale("tanh", q, 4.0)
    # in the ordered phase the two are one
    q = theory.fixed_point("tanh", 1.5, 0.05)
    ordered = theory.length_scale("tanh", 1.0, q, 1.5)
    assert theory.gradient_scale("tanh", q, 1.5) == pytest.approx(ordered, rel=1e-12)
    assert theory.trainable_depth("tanh", 1.5, 0.05) == pytest.approx(6 * ordered, rel=1e-12)


def test_scales_are_those_of_the_maps():
    q = theory.fixed_point("tanh", 1.69, 0.09)
    scale = theory.variance_scale("tanh", q, 1.69)
    away = [1.001 * q]
    for _ in range(3):
        away.append(theory.variance_map("tanh", away[-1], 1.69, 0.09))
    rates = -1 / np.log((np.array(away[1:]) - q) / (np.array(away[:-1]) - q))
    np.testing.assert_allclose(rates, scale, rtol=1e-3)
    assert theory.gradient_scale("relu", 1.0, [1.0, 2.0, 4.0, 0.0]).tolist() == [1 / math.log(2), math.inf, 1 / math.log(2), 0]
    assert theory.gradient_scale("relu", 1.0, 1.0, keep=0.5) == math.inf
    assert theory.variance_scale("relu", 1.0, [2.0, 3.0]).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize(("activation", "weight", "bias", "expected"), [
    ("tanh", 1.69, 0.09, "ordered"), ("tanh", 6.25, 0.09, "chaotic"), ("tanh", 1.76095464, 0.05, "critical"),
    ("tanh", 1.0, 0.0, "critical"), ("tanh", 0.9, 0.0, "ordered"), ("tanh", 1.1, 0.0, "chaotic"), ("tanh", 0.0, 0.0, "ordered"),
    ("relu", 2.0, 0.0, "critical"), ("relu", 1.99, 0.3, "ordered"), ("relu", 2.0, 0.3, "critical"), ("relu", 3.0, 0.3, "chaotic"),
    ("gelu", 2.5, 0.0, "chaotic"), ("gelu", 1.5, 0.0, "ordered"), ("softplus", 3.0, 0.0, "chaotic"),
    ("sin", 1.0, 0.0, "critical"), ("sin", 3.0, 0.1, "chaotic"), ("hard_tanh", 1.0, 0.01, "ordered"),
    ("selu", 0.4, 0.0, "ordered"),
])  # fmt: skip
def test_phases(activation, weight, bias, expected):
    assert theory.phase(activation, weight, bias) == expected


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
def test_about_the_critical_line(activation):
    bias = 0.0 if _core.TRAITS[activation].homogeneous else 0.7
    try:
        weight = theory.critical_pair(activation, bias)[0]
    except ValueError:  # which have none, test_critical_points_attract_variances knows
        return
    factors = [0.99, 1.0, 1.01]
    found = theory.phase(activation, np.array(factors) * weight, bias)
    assert found.tolist() == ["ordered", "critical", "chaotic"]
    depths = theory.trainable_depth(activation, np.array(factors) * weight, bias)
    assert depths[1] > 1e4
    assert (depths[[0, 2]] < 2000).all()
    assert theory.phase(activation, 1.01 * weight, bias, tolerance=0.5) == "critical"


def test_the_start_decides_where_there_are_two_fixed_points():
    assert theory.phase("gelu", 2.2, 0.05, start=[0.3, 10.0]).tolist() == ["ordered", "chaotic"]


def test_a_diagram_is_its_functions():
    weights, biases = np.array([0.5, 1.0, 1.76095464, 2.5, 4.0]), [0.0, 0.05]
    found = theory.phase_diagram("tanh", weights, biases)
    assert found.weight_variances.tolist() == weights.tolist()
    assert found.bias_variances.tolist() == biases
    assert found.phases.tolist() == [
        ["ordered", "critical", "chaotic", "chaotic", "chaotic"], ["ordered", "ordered", "critical", "chaotic", "chaotic"]
    ]  # fmt: skip
    for i, bias in enumerate(biases):
        for j, weight in enumerate(weights.tolist()):
            q = theory.fixed_point("tanh", weight, bias)
            assert found.variances[i, j] == q
            assert found.chi[i, j] == theory.chi_1("tanh", q, weight)
            assert found.phases[i, j] == theory.phase("tanh", weight, bias)
            assert found.gradient_scales[i, j] == theory.gradient_scale("tanh", q, weight)
            assert found.trainable_depths[i, j] == theory.trainable_depth("tanh", weight, bias)
            if q == 0:
                assert np.isnan([a[i, j] for a in (found.correlations, found.variance_scales, found.correlation_scales)]).all()
                continue
            c = theory.fixed_correlation("tanh", q, weight, bias)
            assert found.correlations[i, j] == c
            assert found.variance_scales[i, j] == theory.variance_scale("tanh", q, weight)
            assert found.correlation_scales[i, j] == theory.length_scale("tanh", c, q, weight)
    unbounded = theory.phase_diagram("relu", [3.0], [0.1])
    assert unbounded.variances[0, 0] == math.inf
    assert unbounded.trainable_depths[0, 0] == pytest.approx(6 / math.log(1.5), rel=1e-12)
    assert theory.phase_diagram("relu", [], [0.1]).phases.shape == (1, 0)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: theory.phase("tanh", -1.0), ValueError, "weight_variance: expected a finite number >= 0.0, got -1.0"),
    (lambda: theory.phase("tanh", 1.0, tolerance=-1), ValueError, "tolerance: expected"),
    (lambda: theory.gradient_scale("tanh", -1.0, 1.0), ValueError, "q: expected"),
    (lambda: theory.variance_scale("tanh", 0.0, 1.0), ValueError, "q: expected a finite number > 0.0, got 0.0"),
    (lambda: theory.trainable_depth("tanh", 1.0, math.inf), ValueError, "bias_variance: expected a finite number"),
    (lambda: theory.phase_diagram("tanh", 1.0, [0.1]), ValueError, r"weight_variances: expected an array of one axis, got"),
    (lambda: theory.phase_diagram("tanh", [1.0], [-0.1]), ValueError, r"bias_variances\[0\]: expected a finite number >= 0.0"),
])  # fmt: skip
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
