# SPDX-License-Identifier: BSD-3-Clause
"""Depth profiles: against the maps, closed forms, and measured stacks."""

import math

import numpy as np
import pytest

from fastinit import Key, Orthogonal, RandomNormal, Stack, VarianceScaling, theory

SETTINGS = [("tanh", 1.76, 0.05, 1.3), ("relu", 1.9, 0.1, 2.0), ("gelu", 2.1, 0.3, 0.4), ("hard_tanh", 3.0, 0.0, 1.0),
            ("leaky_relu(0.2)", 2.0, 0.0, 1.0), ("sin", 2.0, 0.2, 0.5), ("sigmoid", 4.0, 0.0, 3.0)]  # fmt: skip


@pytest.mark.parametrize(("activation", "weight", "bias", "q"), SETTINGS)
@pytest.mark.parametrize("keep", [1.0, 0.8])
def test_a_profile_repeats_the_maps(activation, weight, bias, q, keep):
    found = theory.profile(6, activation, weight, bias, q=q, c=0.2, keep=keep)
    c = 0.2
    for i in range(6):
        assert found.variances[i] == pytest.approx(q, rel=1e-13)
        assert found.correlations[i] == pytest.approx(c, rel=1e-11)
        assert found.distances[i] == pytest.approx(1 - c, rel=1e-11)
        assert found.chi[i] == pytest.approx(theory.chi_1(activation, q, weight, keep=keep), rel=1e-13)
        assert found.forward[i] == pytest.approx(math.log(q / found.variances[0]), abs=1e-12)
        assert found.backward[i] == pytest.approx(np.log(found.chi[i:-1]).sum(), abs=1e-12)
        c = theory.correlation_map(activation, c, q, weight, bias, keep=keep)
        q = theory.variance_map(activation, q, weight, bias, keep=keep)


def test_relu_in_closed_form():
    he = theory.profile(40, "relu", 2.0, c=0.0, width=200)
    assert not he.forward.any()
    assert not he.backward.any()
    np.testing.assert_allclose(he.forward_std, np.sqrt(5 / 200 * np.arange(40)), rtol=1e-12)
    np.testing.assert_allclose(he.backward_std, np.sqrt(5 / 200 * np.arange(40)[::-1]), rtol=1e-12)
    orthogonal = theory.profile(40, "relu", 2.0, width=200, orthogonal=True)
    np.testing.assert_allclose(orthogonal.forward_std, np.sqrt(3 / 200 * np.arange(40)), rtol=1e-12)
    np.testing.assert_allclose(he.correlations[1:4], [0.3183098862, 0.4937310902, 0.6048257201], atol=1e-10)
    # inputs collapse as 9 pi^2 / 2 l^2, up to a factor of 1 + O(ln l / l)
    deep = theory.profile(20_001, "relu", 2.0, c=0.0)
    assert deep.distances[-1] * 20_000**2 == pytest.approx(9 * math.pi**2 / 2, rel=5e-3)
    # of linear stacks gradients and signals have (1 + 2/n) a layer, whatever the batch's directions do
    linear = theory.profile(30, "linear", 1.0, width=100)
    np.testing.assert_allclose(linear.forward_std, np.sqrt(2 / 100 * np.arange(30)), rtol=1e-12)
    rotated = theory.profile(30, "linear", 1.0, width=100, orthogonal=True)
    assert np.abs(rotated.forward_std).max() < 1e-7
    assert np.abs(rotated.backward_std).max() < 1e-7


def test_collapsed_inputs_of_relu():
    """All of a batch are one: signals vary as for one; of the gradients, which are independent, as the mean of phi'^2 does."""
    he = theory.profile(10, "relu", 2.0, c=1.0, width=100, batch=10_000)
    assert he.forward_std[-1] == pytest.approx(math.sqrt(9 * 5 / 100), rel=1e-12)
    assert he.backward_std[0] == pytest.approx(math.sqrt(9 * (1 + 4 / 10_000) / 100), rel=1e-12)


def test_vanishing_and_exploding_beyond_the_range_of_numbers():
    for weight, end in ((4.0, math.inf), (1.0, 0.0)):
        found = theory.profile(3000, "relu", weight, width=50, c=0.5)
        np.testing.assert_allclose(found.forward, np.log(weight / 2) * np.arange(3000), rtol=1e-12)
        np.testing.assert_allclose(found.backward, np.log(weight / 2) * np.arange(3000)[::-1], rtol=1e-12)
        assert found.variances[-1] == end
        assert np.isfinite(found.forward_std).all()
        gelu = theory.profile(3000, "gelu", weight, width=50)
        rate = weight / 2 if weight > 2 else weight / 4  # of one side's line, and of the half of both at 0
        assert gelu.forward[-1] - gelu.forward[-2] == pytest.approx(math.log(rate), abs=1e-12)
    dead = theory.profile(4, "tanh", 0.0, width=10, c=0.5)
    assert dead.forward.tolist() == [0, -math.inf, -math.inf, -math.inf]
    assert dead.backward.tolist() == [-math.inf, -math.inf, -math.inf, 0]


def test_a_collapse_is_seen_to_the_end():
    found = theory.profile(800, "tanh", 1.0, 0.3, c=0.0)
    rates = found.distances[1:] / found.distances[:-1]
    assert found.distances[-1] < 1e-150
    np.testing.assert_allclose(rates[-700:], found.chi[-1], rtol=1e-6)
    assert found.correlations[-1] == 1


def test_dropout_keeps_inputs_apart():
    found = theory.profile(400, "relu", 1.6, c=1.0, keep=0.8)
    assert np.abs(found.forward).max() < 1e-12  # sigma_w^2 = 2 keep
    assert found.correlations[1] == pytest.approx(0.8, rel=1e-12)
    star = theory.fixed_correlation("relu", 1.0, 1.6, keep=0.8)
    assert star < 1
    assert found.correlations[-1] == pytest.approx(star, abs=1e-10)


def measured(activation, weight, bias, width, depth, seeds, *, samples=1, c=1.0, orthogonal=False):
    """ln of second moments, forward relative to the first layer, backward to the last, for every network."""
    directions = np.linalg.qr(np.random.default_rng(1).standard_normal((width, samples + 1)))[0].T
    x = (math.sqrt(c) * directions[:1] + math.sqrt(1 - c) * directions[1:]) * math.sqrt(width)
    weights = Orthogonal(gain=math.sqrt(weight)) if orthogonal else VarianceScaling(weight, distribution="normal")
    biases = RandomNormal(0.0, math.sqrt(bias)) if bias else "zeros"
    rows = []
    for seed in range(seeds):
        stack = Stack([width] * (depth + 1), activation, weights=weights, biases=biases, key=Key(seed))
        layers = stack.propagate(x).layers
        moments = [(layer.pre_activation.second_moment, layer.gradient.second_moment) for layer in layers]
        rows.append(np.log(moments).T)
    forward, backward = np.array(rows).transpose(1, 0, 2)
    return forward - forward[:, :1], backward - backward[:, -1:]


MEASURED = [
    ("relu", 2.0, 0.0, {}), ("tanh", 1.76, 0.05, {}), ("gelu", 2.0, 0.3, {}), ("elu", 1.2, 0.3, {}),
    ("relu", 2.0, 0.0, {"samples": 6, "c": 0.3}), ("tanh", 1.76, 0.05, {"samples": 6, "c": 0.3}),
    ("relu", 2.0, 0.0, {"orthogonal": True}), ("hard_tanh", 2.0, 0.3, {"orthogonal": True}),
    ("tanh", 2.0, 0.6, {"orthogonal": True, "samples": 6, "c": 0.3}),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "weight", "bias", "options"), MEASURED)
def test_spread_of_measured_stacks(activation, weight, bias, options):
    """At width 150, over 500 networks, of which a standard deviation is known to 3 %; what is left of higher orders in
    depth / width is some 2 %. The same numbers on every machine, so that there are no false alarms."""
    width, depth, seeds = 150, 7, 500
    forward, backward = measured(activation, weight, bias, width, depth, seeds, **options)
    q, c, samples = weight + bias, options.get("c", 1.0), options.get("samples", 1)
    found = theory.profile(
        depth, activation, weight, bias, q=q, c=(weight * c + bias) / q, width=width, batch=samples,
        orthogonal=options.get("orthogonal", False),
    )  # fmt: skip
    np.testing.assert_allclose(forward.std(0)[1:], found.forward_std[1:], rtol=0.09)
    np.testing.assert_allclose(backward.std(0)[:-1], found.backward_std[:-1], rtol=0.12 if samples > 1 else 0.09)
    for values, theirs, stds in ((forward, found.forward, found.forward_std), (backward, found.backward, found.backward_std)):
        # the mean of a ln lies below by up to half of a single sample's variance, 5 / width a layer at most
        off = values.mean(0) - theirs
        assert (off < 4 * stds / math.sqrt(seeds) + 1e-6).all()
        assert (off > -4 * stds / math.sqrt(seeds) - 1e-6 - 3 * depth / width).all()


REFUSED = [
    ({"depth": 0}, ValueError, "depth: expected an int >= 1, got 0"), ({"depth": 2.0}, TypeError, "depth: expected an int"),
    ({"activation": "tanj"}, ValueError, "activation: expected one of"), ({"q": 0}, ValueError, "q: expected .* > 0.0, got 0"),
    ({"activation": 3}, TypeError, "activation: expected a str or a function, got int 3"), ({"c": 1.5}, ValueError, "c: "),
    ({"width": 0}, ValueError, "width: expected"), ({"batch": 2}, ValueError, "batch: expected c=.* got 2 alone"),
    ({"orthogonal": "yes"}, TypeError, "orthogonal: expected a bool"), ({"keep": 0}, ValueError, "keep: expected .* got 0"),
    ({"weight_variance": -1}, ValueError, "weight_variance: expected"), ({"bias_variance": -1}, ValueError, "bias_variance: exp"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "message"), REFUSED)
def test_what_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        theory.profile(**{"depth": 3, "activation": "tanh", "weight_variance": 1.0, **options})
