# SPDX-License-Identifier: BSD-3-Clause
"""Activations of one's own in the theory, and arrays in the place of numbers."""

import math
import pickle

import numpy as np
import pytest

from fastinit import theory
from fastinit.theory import Activation

ERF = np.vectorize(math.erf)


def gelu(z):
    return z * (1 + ERF(z / math.sqrt(2))) / 2


def gelu_slope(z):
    return (1 + ERF(z / math.sqrt(2))) / 2 + z * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def squared_relu(z):
    return np.maximum(z, 0.0) ** 2


OWN = {  # name: function, derivative, kinks
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2, (0.0,)), "smooth tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2, ()),
    "gelu": (gelu, gelu_slope, ()), "squared relu": (squared_relu, lambda z: 2 * np.maximum(z, 0.0), (0.0,)),
    "hard tanh": (lambda z: np.clip(z, -1, 1), lambda z: np.where(np.abs(z) < 1, 1.0, 0.0), (-1.0, 1.0)),
    "narrow": (lambda z: np.clip(z, -0.03, 0.03), lambda z: np.where(np.abs(z) < 0.03, 1.0, 0.0), (0.03, -0.03)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + np.exp(z) + np.exp(-z)), (0.0,)),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_derivatives_by_differences(name):
    """To 1e-11, beside kinks as well as far from them, and where a slope is large to a part of it."""
    function, derivative, kinks = OWN[name]
    found = Activation(function, kinks=kinks)
    near = np.array([s * 10.0**-k for k in range(1, 13) for s in (-1, 1)])
    z = np.concatenate([np.linspace(-8, 8, 4001) + 1e-4, *(kink + near for kink in kinks)])
    expected = derivative(z)
    np.testing.assert_allclose(found.slope(z), expected, rtol=1e-11, atol=1e-11)
    assert found.slope(z[:4000].reshape(40, 100)).shape == (40, 100)
    np.testing.assert_array_equal(Activation(function, derivative, kinks=kinks).slope(z), expected)


def test_derivatives_of_large_numbers():
    z = np.array([1e3, -1e3, 1e6, -1e6]) + 0.123
    np.testing.assert_allclose(Activation(lambda z: np.maximum(z, 0.1 * z)).slope(z), [1, 0.1, 1, 0.1], atol=1e-7)
    np.testing.assert_array_equal(Activation(np.tanh).slope(z), 0)


def test_a_derivative_at_a_kink_is_that_on_the_left():
    assert Activation(lambda z: np.where(z > 0, z, 0.25 * z)).slope(0.0) == pytest.approx(0.25, abs=1e-11)
    assert Activation(lambda z: np.clip(z, -1, 1), kinks=(-1, 1)).slope([-1.0, 1.0]) == pytest.approx([0, 1], abs=1e-11)


@pytest.mark.parametrize(("name", "function"), [("tanh", np.tanh), ("gelu", gelu), ("relu", lambda z: np.maximum(z, 0))])
def test_ones_own_copy_of_a_named_activation(name, function):
    for q in (0.0, 1e-6, 0.7, 30.0):
        assert theory.variance_map(function, q, 1.3, 0.1) == pytest.approx(theory.variance_map(name, q, 1.3, 0.1), rel=1e-12)
        assert theory.chi_1(function, q, 1.3) == pytest.approx(theory.chi_1(name, q, 1.3), rel=1e-10)
        for c in (-0.5, 0.0, 0.9):
            found = theory.correlation_slope(function, c, q, 1.3)
            assert found == pytest.approx(theory.correlation_slope(name, c, q, 1.3), rel=1e-9, abs=1e-11)
    assert theory.forward_gain(function) == pytest.approx(theory.forward_gain(name), rel=1e-12)
    assert theory.stability(function, 0.7, 1.3) == pytest.approx(theory.stability(name, 0.7, 1.3), rel=1e-10)
    assert theory.fixed_point(function, 1.3, 0.2) == pytest.approx(theory.fixed_point(name, 1.3, 0.2), rel=1e-10)
    found = theory.correlation_map(function, 0.3, 0.7, 1.3)
    assert found == pytest.approx(theory.correlation_map(name, 0.3, 0.7, 1.3), rel=1e-12)
    bias = 0.2 if name != "relu" else 0.0
    if name != "relu":  # which has a critical line of its own, that only the name is known to have
        assert theory.critical_pair(function, bias) == pytest.approx(theory.critical_pair(name, bias), rel=1e-7)
    own, known = (theory.profile(12, f, 1.7, bias, c=0.2, width=100) for f in (function, name))
    for attribute in ("variances", "distances", "chi", "forward", "backward", "forward_std", "backward_std"):
        np.testing.assert_allclose(getattr(own, attribute), getattr(known, attribute), rtol=1e-8, atol=1e-10)


def test_squared_relu():
    """E relu^4 = 3/2 q^2, and E (2 relu)^2 = 2 q."""
    for q in (0.5, 1.0, 4.0):
        assert theory.variance_map(squared_relu, q, 1.0) == pytest.approx(1.5 * q * q, rel=1e-12)
        assert theory.chi_1(squared_relu, q, 1.0) == pytest.approx(2 * q, rel=1e-10)
    # above its fixed point, which repels, variances leave every bound
    assert theory.fixed_point(squared_relu, 1.0, start=0.6) == 0
    with pytest.raises(ValueError, match="expected one with a finite fixed point for <function squared_relu"):
        theory.fixed_point(squared_relu, 1.0, start=0.7)


@pytest.mark.parametrize("q", [0.1, 1.0, 20.0])
def test_kinks_off_0(q):
    own = Activation(lambda z: np.clip(z, -1, 1), kinks=(-1, 1))
    inside = math.erf(1 / math.sqrt(2 * q))
    assert theory.chi_1(own, q, 1.0) == pytest.approx(inside, rel=1e-11)
    expected = theory.correlation_slope("hard_tanh", 0.4, q, 1.0)
    assert theory.correlation_slope(own, 0.4, q, 1.0) == pytest.approx(expected, rel=1e-10)
    shifted = Activation(lambda z: np.maximum(z - 0.5, 0), kinks=(0.5,))  # P(z > 1/2) = E phi'^2
    assert theory.chi_1(shifted, q, 1.0) == pytest.approx(math.erfc(0.5 / math.sqrt(2 * q)) / 2, rel=1e-11)


def test_functions_that_overflow_far_out_are_taken():
    logistic = theory.function(lambda z: 1 / (1 + np.exp(-z)))
    assert logistic([-1e6, 1e6]).tolist() == [0, 1]
    assert theory.chi_1(lambda z: 1 / (1 + np.exp(-z)), 1e5, 1.0) == pytest.approx(theory.chi_1("sigmoid", 1e5, 1.0), rel=1e-7)
    assert theory.variance_map(lambda z: 3, 1.0, 2.0) == pytest.approx(18, rel=1e-12)  # a constant


@pytest.mark.parametrize(("function", "error", "message"), [
    (np.sqrt, ValueError, "activation: expected numbers, got nan at -"), (lambda z: z[:3], ValueError, "expected a function of"),
    (lambda z: "a", TypeError, "activation: expected an array of real numbers"), (3, TypeError, "expected a str or a function"),
])  # fmt: skip
def test_functions_that_are_none(function, error, message):
    with pytest.raises(error, match=message):
        theory.variance_map(function, 1.0, 1.0)


def test_an_activation_is_a_value():
    one = Activation(np.tanh, kinks=[1, -1, 1])
    assert one.kinks == (-1.0, 1.0)
    assert one == Activation(np.tanh, kinks=(-1, 1))
    assert hash(one) == hash(Activation(np.tanh, kinks=(-1, 1)))
    assert one != Activation(np.tanh)
    assert one != Activation(np.tanh, np.cos, kinks=(-1, 1))
    assert one != "tanh"
    assert pickle.loads(pickle.dumps(Activation(squared_relu))) == Activation(squared_relu)
    assert repr(one) == "Activation(<ufunc 'tanh'>, None, kinks=(-1.0, 1.0))"
    for change in (lambda: setattr(one, "kinks", ()), lambda: delattr(one, "function")):
        with pytest.raises(AttributeError, match="expected no change after construction"):
            change()
    for options, message in (({"kinks": 3}, "kinks: expected a sequence"), ({"derivative": 3}, "derivative: expected a"),
                             ({"function": 3}, "function: expected a function"), ({"kinks": ["a"]}, r"kinks\[0\]: expected a")):
        with pytest.raises(TypeError, match=message):
            Activation(**{"function": np.tanh, **options})


CALLS = {
    "variance_map": {"q": [[0.5], [1.0]], "weight_variance": [1.0, 2.0, 3.0], "bias_variance": 0.1},
    "chi_1": {"q": np.array([[0.0], [1.0]]), "weight_variance": (1.0, 2.0)},
    "stability": {"q": [0.5, 1.0], "weight_variance": 2},
    "fixed_point": {"weight_variance": [1.5, 3.0], "bias_variance": [[0.1], [0.2]], "start": 1.0},
    "correlation_map": {"c": [0.1, 0.5], "q": 1.0, "weight_variance": 2.0},
    "correlation_slope": {"c": [0.1, 0.5], "q": 1.0, "weight_variance": [[2.0], [3.0]]},
    "length_scale": {"c": np.float32([0.25, 0.5]), "q": 1, "weight_variance": 2.0},
}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_broadcast(name):
    function, arguments = getattr(theory, name), CALLS[name]
    found = function("tanh", **arguments)
    arrays = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in arguments.values()))
    assert found.dtype == np.float64
    assert found.shape == arrays[0].shape
    for index in np.ndindex(found.shape):
        one = function("tanh", *(float(array[index]) for array in arrays))
        assert type(one) is float
        assert found[index] == one


def test_arrays_of_pairs_and_of_keep():
    weights, variances = theory.critical_pair("tanh", np.array([[0.05], [0.1]]))
    assert weights.shape == variances.shape == (2, 1)
    assert (weights[1, 0], variances[1, 0]) == theory.critical_pair("tanh", 0.1)
    keep = theory.variance_map("relu", 1.0, 1.0, keep=[0.5, 1.0])
    assert keep.tolist() == [1.0, 0.5]
    assert theory.expectation(np.square, [1.0, 4.0]) == pytest.approx([1, 4], rel=1e-12)
    assert [one.shape for one in theory.critical_pair("tanh", [])] == [(0,), (0,)]
    assert theory.chi_1("tanh", np.empty((0, 3)), 1.0).shape == (0, 3)
    assert type(theory.chi_1("tanh", np.array(1.0), 1.0)) is float


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: theory.chi_1("tanh", [1.0, 2.0], [1.0, 2.0, 3.0]), ValueError, "q, weight_variance: expected shapes that"),
    (lambda: theory.chi_1("tanh", [1.0, -2.0], 1.0), ValueError, "q: expected a finite number >= 0.0, got -2.0"),
    (lambda: theory.chi_1("tanh", [1.0, math.nan], 1.0), ValueError, "q: expected a finite number, got nan"),
    (lambda: theory.chi_1("tanh", ["1"], 1.0), TypeError, "q: expected an array of real numbers"),
    (lambda: theory.chi_1("tanh", [True], 1.0), TypeError, "q: expected a real number, got bool"),
    (lambda: theory.chi_1("tanh", [1.0]), TypeError, "required positional argument"),
])  # fmt: skip
def test_arrays_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_dropout(keep):
    """Weights count 1 / keep on the diagonal, and only there; ReLU is critical at sigma_w^2 = 2 keep, c* is below 1."""
    assert theory.variance_map("tanh", 1.0, 2.0, 0.1, keep=keep) == theory.variance_map("tanh", 1.0, 2.0 / keep, 0.1)
    assert theory.chi_1("relu", 1.0, 2 * keep, keep=keep) == pytest.approx(1, rel=1e-12)
    assert theory.fixed_point("relu", 2 * keep, start=0.3, keep=keep) == pytest.approx(0.3, rel=1e-12)
    q = theory.fixed_point("tanh", 2.0, 0.1, keep=keep)
    assert theory.variance_map("tanh", q, 2.0, 0.1, keep=keep) == pytest.approx(q, rel=1e-12)
    assert theory.stability("tanh", q, 2.0, keep=keep) < 1
    expected = theory.correlation_map("tanh", 1.0, q, 2.0, 0.1, keep=keep)
    assert expected == pytest.approx(1 - (1 / keep - 1) * 2.0 * theory.variance_map("tanh", q, 1.0) / q, rel=1e-12)
    for activation, weight, bias in (("tanh", 2.0, 0.1), ("tanh", 0.8, 0.1), ("relu", 2 * keep, 0.0), ("tanh", 6.0, 0.0)):
        q = theory.fixed_point(activation, weight, bias, keep=keep)
        star = theory.fixed_correlation(activation, q, weight, bias, keep=keep)
        assert star < 1 - 1e-3
        after = theory.correlation_map(activation, star, q, weight, bias, keep=keep)
        assert after == pytest.approx(star, abs=1e-12)


def test_dropout_measured():
    """Two inputs through one layer of 4,000 units and masks of their own, 20 times: within four standard errors of 1.5e-3."""
    rng, n, keep, weight, bias = np.random.default_rng(5), 4000, 0.7, 1.5, 0.2
    z = rng.standard_normal((2, n)) * math.sqrt(1.2)
    z[1] = 0.4 * z[0] + math.sqrt(1 - 0.4**2) * z[1]
    found = []
    for _ in range(20):
        a = np.tanh(z) * (rng.random((2, n)) < keep) / keep
        gram = weight / n * a @ a.T + bias
        found.append((gram[0, 0], gram[0, 1] / math.sqrt(gram[0, 0] * gram[1, 1])))
    variance, correlation = np.mean(found, axis=0)
    assert variance == pytest.approx(theory.variance_map("tanh", 1.2, weight, bias, keep=keep), rel=0.03)
    assert correlation == pytest.approx(theory.correlation_map("tanh", 0.4, 1.2, weight, bias, keep=keep), abs=0.03)
