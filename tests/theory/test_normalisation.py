# SPDX-License-Identifier: BSD-3-Clause
"""Growth of gradients through normalisation: closed forms, and networks written in NumPy."""

import math

import numpy as np
import pytest

from fastinit import theory

ERF = np.vectorize(math.erf)
FUNCTIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + np.exp(z) + np.exp(-z))),
    "gelu_tanh": (theory.function("gelu_tanh"), theory.slope("gelu_tanh")),
}


def test_before_the_activation():
    for activation, chi in (("relu", 1.0), ("leaky_relu(0.3)", 1.0), ("linear", 1.0), ("tanh", 1.177807), ("gelu", 1.072032),
                            ("sigmoid", 0.152827)):  # fmt: skip
        for weight in (0.1, 1.0, 7.0):
            assert theory.layer_norm_chi(activation, weight) == pytest.approx(chi, rel=1e-6)
    # biases are a part of what is normalised
    assert theory.layer_norm_chi("relu", 3.0, 0.5) == pytest.approx(1.5 / 2.0, rel=1e-12)


def test_after_the_activation():
    found = theory.layer_norm_chi("tanh", [0.5, 1.0, 2.0, 4.0], after_activation=True)
    np.testing.assert_allclose(found, [1.0823476, 1.1778072, 1.3443254, 1.6116233], rtol=1e-7)
    for weight in (0.2, 1.0, 5.0):
        relu = theory.layer_norm_chi("relu", weight, after_activation=True)
        assert relu == pytest.approx(math.pi / (math.pi - 1), rel=1e-12)
    biased = theory.layer_norm_chi("relu", 3.0, 1.0, after_activation=True)
    assert biased == pytest.approx(0.75 * math.pi / (math.pi - 1), rel=1e-12)
    assert theory.layer_norm_chi("linear", after_activation=True) == pytest.approx(1, rel=1e-12)


def test_batch_normalisation():
    assert theory.batch_norm_chi("relu") == pytest.approx(math.pi / (math.pi - 1), rel=1e-12)
    assert theory.batch_norm_chi("linear") == pytest.approx(1, rel=1e-12)
    assert theory.batch_norm_chi("tanh") == pytest.approx(1.177807232, rel=1e-8)
    # E gelu = 1 / 2 sqrt(pi)
    gelu = theory.chi_1("gelu", 1.0, 1.0) / (theory.variance_map("gelu", 1.0, 1.0) - 1 / (4 * math.pi))
    assert theory.batch_norm_chi("gelu") == pytest.approx(gelu, rel=1e-11)
    assert theory.batch_norm_chi(lambda z: 0 * z) == math.inf


def normalised(values, axis):
    spread = values.std(axis=axis, keepdims=True)
    return (values - values.mean(axis=axis, keepdims=True)) / spread, spread


def through_normalisation(gradients, unit, spread, axis):
    along = (gradients * unit).mean(axis=axis, keepdims=True)
    return (gradients - gradients.mean(axis=axis, keepdims=True) - unit * along) / spread


def measured(activation, weight, *, axis, after=False, batch, width=500, layers=16, skipped=6, seed=3):
    """The mean factor on gradients in each of the first layers, of a network that is normalised over an axis."""
    rng = np.random.default_rng(seed)
    phi, slope = FUNCTIONS[activation]
    x, kept = rng.standard_normal((batch, width)), []
    for _ in range(layers):
        weights = rng.standard_normal((width, width)) * math.sqrt(weight / width)
        z = x @ weights
        if after:
            x, spread = normalised(phi(z), axis)
            kept.append((weights, slope(z), x, spread))
        else:
            unit, spread = normalised(z, axis)
            x = phi(unit)
            kept.append((weights, slope(unit), unit, spread))
    gradients, squares = rng.standard_normal((batch, width)), []
    for weights, slopes, unit, spread in reversed(kept):
        if after:
            gradients = through_normalisation(gradients, unit, spread, axis) * slopes
        else:
            gradients = through_normalisation(gradients * slopes, unit, spread, axis)
        gradients = gradients @ weights.T
        squares.append(np.mean(gradients**2))
    # in the network's first layers, which come last, the samples do not have the correlation of deep layers yet
    return (squares[layers - skipped] / squares[1]) ** (1 / (layers - skipped - 1))


@pytest.mark.parametrize(("activation", "weight", "after"), [
    ("relu", 2.0, False), ("tanh", 0.5, False), ("tanh", 4.0, False), ("gelu_tanh", 1.0, False), ("tanh", 4.0, True),
    ("relu", 1.0, True), ("gelu_tanh", 2.0, True),
])  # fmt: skip
def test_measured_layer_normalisation(activation, weight, after):
    """At width 500, over 24 samples, 9 layers and 4 networks: to 2 %, where samples that are nearly one have a standard error
    of sqrt(1 / 500 / 9 / 4) = 0.7 %."""
    found = np.mean([measured(activation, weight, axis=1, after=after, batch=24, seed=seed) for seed in range(4)])
    assert found == pytest.approx(theory.layer_norm_chi(activation, weight, after_activation=after), rel=0.02)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu_tanh"])
def test_measured_batch_normalisation(activation):
    """At width 500 and a batch of 250: to 2.5 %, of which 2 / batch = 0.8 % is that of finite batches."""
    found = measured(activation, 1.0, axis=0, batch=250, layers=24, skipped=12)
    assert found == pytest.approx(theory.batch_norm_chi(activation), rel=0.025)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: theory.layer_norm_chi("tanh", 0), ValueError, "weight_variance: expected a finite number > 0.0, got 0"),
    (lambda: theory.layer_norm_chi("tanh", bias_variance=-1), ValueError, "bias_variance: expected"),
    (lambda: theory.layer_norm_chi("tanh", after_activation=1), TypeError, "after_activation: expected a bool"),
    (lambda: theory.batch_norm_chi("tanj"), ValueError, "activation: expected one of"),
])  # fmt: skip
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
