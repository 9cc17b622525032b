# SPDX-License-Identifier: BSD-3-Clause
"""Mean-field theory against closed forms and independently computed values."""

import math
import re

import numpy as np
import pytest

from fastinit import _core, theory

CLOSED = 1e-12
QUADRATURE = 1e-9  # for values that were computed independently and are written with ten digits


def second_moment(activation, q=1.0):
    return theory.variance_map(activation, q, 1.0)


def derivative_moment(activation, q=1.0):
    return theory.chi_1(activation, q, 1.0)


def test_closed_forms():
    def mean(f, q=1.0):
        return theory.expectation(f, q)

    assert second_moment("relu") == pytest.approx(0.5, abs=CLOSED)
    assert derivative_moment("relu") == pytest.approx(0.5, abs=CLOSED)
    assert mean(theory.function("relu")) == pytest.approx(1 / math.sqrt(2 * math.pi), abs=CLOSED)
    assert mean(theory.function("gelu")) == pytest.approx(1 / (2 * math.sqrt(math.pi)), abs=CLOSED)
    assert second_moment("sin") == pytest.approx((1 - math.exp(-2)) / 2, abs=CLOSED)
    assert derivative_moment("sin") == pytest.approx((1 + math.exp(-2)) / 2, abs=CLOSED)
    assert second_moment("sin", 9.0) == pytest.approx((1 - math.exp(-18)) / 2, abs=CLOSED)
    relu = theory.function("relu")
    assert mean(lambda z: relu(z) ** 4) == pytest.approx(1.5, abs=CLOSED)  # relu^2
    assert mean(theory.function("selu")) == pytest.approx(0, abs=1e-12)
    assert second_moment("selu") == pytest.approx(1, abs=1e-12)
    for q in (0.01, 1.0, 7.0):
        assert second_moment("linear", q) == pytest.approx(q, rel=CLOSED)
        assert second_moment("leaky_relu(0.2)", q) == pytest.approx(q * (1 + 0.04) / 2, rel=CLOSED)
        # hard tanh: z^2 inside, 1 outside
        inside = math.erf(1 / math.sqrt(2 * q))
        density = math.exp(-1 / (2 * q)) / math.sqrt(2 * math.pi * q)
        assert second_moment("hard_tanh", q) == pytest.approx(
            q * (inside - 2 * density) + 1 - inside, rel=CLOSED
        )
        assert derivative_moment("hard_tanh", q) == pytest.approx(inside, rel=CLOSED)


def test_moments_and_gains():
    assert second_moment("tanh") == pytest.approx(0.3942944904, rel=QUADRATURE)
    assert 1 / math.sqrt(derivative_moment("tanh")) == pytest.approx(1.46741359, rel=4e-9)
    gain = theory.forward_gain("tanh")
    assert gain**2 * derivative_moment("tanh") == pytest.approx(1.177807, rel=1e-6)
    assert second_moment("sigmoid") == pytest.approx(0.2933790359, rel=QUADRATURE)
    assert 1 / math.sqrt(derivative_moment("sigmoid")) == pytest.approx(4.72264609, rel=QUADRATURE)
    assert second_moment("silu") == pytest.approx(0.3557755198, rel=QUADRATURE)
    assert theory.forward_gain("silu") == pytest.approx(1.6765, abs=5e-5)
    assert theory.forward_gain("relu") == pytest.approx(math.sqrt(2), rel=CLOSED)


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
@pytest.mark.parametrize("q", [0.1, 1.0, 5.0])
def test_quadrature_against_mpmath(activation, q):
    """The same integrals by adaptive quadrature with mpmath."""
    mp = pytest.importorskip("mpmath")
    from exact_activations import exact, parameter

    s = parameter(activation)
    phi, derivative = exact(activation, s)
    bends = {k / math.sqrt(q) for k in (-1, 1, *_core.TRAITS[activation].kinks)}
    cuts = sorted({-12, -4, 0, 4, 12} | bends)
    if s:
        activation += f"({s})"

    def mean(f):
        return float(
            mp.quad(lambda z: f(mp.sqrt(q) * z) ** 2 * mp.exp(-z * z / 2), cuts)
            / mp.sqrt(2 * mp.pi)
        )

    assert second_moment(activation, q) == pytest.approx(mean(phi), rel=1e-10)
    assert derivative_moment(activation, q) == pytest.approx(mean(derivative), rel=1e-10)


FIXED_POINTS = [  # sigma_w^2, sigma_b^2, q*, chi_1, c*, xi_c
    (1.69, 0.09, 0.607047, 0.939807, 1, 16.108),
    # a Gauss-Hermite rule of 180 points gives this c* and xi_c; a table gave 0.122102 and 5.108
    (6.25, 0.09, 4.079124, 1.585225, 0.1221037, 5.1089),
    (2.5, 0.05, 1.063958, 1.133516, 0.446804, 11.796),
]


@pytest.mark.parametrize(("weight", "bias", "q", "chi", "c", "xi"), FIXED_POINTS)
def test_fixed_points_of_tanh(weight, bias, q, chi, c, xi):
    found = theory.fixed_point("tanh", weight, bias)
    assert found == pytest.approx(q, abs=6e-7)
    assert theory.chi_1("tanh", found, weight) == pytest.approx(chi, abs=6e-7)
    star = theory.fixed_correlation("tanh", found, weight, bias)
    assert star == pytest.approx(c, abs=2e-6)
    assert theory.length_scale("tanh", star, found, weight) == pytest.approx(xi, abs=6e-4)


@pytest.mark.parametrize(
    ("bias", "weight", "q"),
    [
        (0.05, 1.76095464, 0.57004788),
        (0.01, 1.42420529, None),
        (0.1, 1.98607264, None),
        (1.0, 3.44321091, None),
    ],
)
def test_critical_line_of_tanh(bias, weight, q):
    found, star = theory.critical_pair("tanh", bias)
    assert found == pytest.approx(weight, rel=QUADRATURE * 5)
    assert q is None or star == pytest.approx(q, rel=2e-8)
    assert theory.chi_1("tanh", star, found) == pytest.approx(1, abs=1e-12)
    assert theory.fixed_point("tanh", found, bias) == pytest.approx(star, rel=1e-7)
    assert theory.length_scale("tanh", 1.0, star, found) == math.inf


@pytest.mark.parametrize("bias", [1e-6, 0.1, 1.0, 998.0])
def test_critical_line_of_sin(bias):
    """sigma_w^2 = 2 / (1 + e^-2q), so that q = tanh q + sigma_b^2."""
    weight, q = theory.critical_pair("sin", bias)
    assert q == pytest.approx(math.tanh(q) + bias, rel=1e-11)
    assert weight == pytest.approx(2 / (1 + math.exp(-2 * q)), rel=1e-11)


@pytest.mark.parametrize("bias", [6e8, 1e12, 1e30, 1e300])
def test_critical_line_of_large_bias_variances(bias):
    """For large q, E phi'^2 -> I / sqrt(2 pi q) with I the integral of phi'^2, so q = sigma_b^2 + sqrt(2 pi q) / I + O(1)."""
    for activation, integral in (("tanh", 4 / 3), ("hard_tanh", 2.0)):
        weight, q = theory.critical_pair(activation, bias)
        assert q == pytest.approx(bias + math.sqrt(2 * math.pi * bias) / integral, rel=1e-8)
        assert weight == pytest.approx(math.sqrt(2 * math.pi * q) / integral, rel=1e-8)


def test_without_biases_the_critical_variance_is_0():
    selu = 2 / (1.0507009873554805**2 * (1 + 1.6732632423543772**2))  # half of each side's squared derivative at 0
    for activation, weight in (("tanh", 1), ("hard_tanh", 1), ("sin", 1), ("elu", 1), ("softsign", 1), ("selu", selu)):
        found, q = theory.critical_pair(activation, 0)
        assert q == 0
        assert found == pytest.approx(weight, rel=CLOSED)
    # near it E phi^2 / E phi'^2 = q - 4/3 q^3 + ... for tanh
    for bias in (1e-12, 1e-16, 1e-20):
        weight, q = theory.critical_pair("tanh", bias)
        rounding = 1e-15 * q / bias  # of ln(map(q) / q), relative to bias / q
        assert q == pytest.approx((0.75 * bias) ** (1 / 3), rel=1e-3 + rounding)
        assert weight == pytest.approx(1 + 2 * q, abs=1e-3 * q)


def test_without_biases_any_variance_of_a_homogeneous_activation_is_critical():
    assert theory.critical_pair("relu", 0) == (2.0, 1.0)
    assert theory.critical_pair("linear", 0.0) == (1.0, 1.0)
    assert theory.critical_pair("leaky_relu(0.5)", 0) == (1.6, 1.0)
    for activation in ("relu", "leaky_relu", "linear"):
        weight, q = theory.critical_pair(activation, 0)
        assert theory.chi_1(activation, q, weight) == pytest.approx(1, abs=CLOSED)
        for start in (q, 1e-9, 1e9):
            assert theory.fixed_point(activation, weight, start=start) == pytest.approx(start, rel=CLOSED)


# The bias variance from which on the critical point attracts: there the derivative of the variance map at q* is 1.
LEAST = {"gelu": 0.1729223907, "gelu_tanh": 0.1728951983, "silu": 0.5551431707, "mish": 0.0945217874}
CRITICAL = ("tanh", "sigmoid", "hard_tanh", "elu", "selu", "softsign", "gelu", "gelu_tanh", "silu", "mish", "sin")


@pytest.mark.parametrize("activation", LEAST)
@pytest.mark.parametrize("fraction", [0.0, 1e-30, 1e-6, 0.05, 0.5, 0.999999])
def test_critical_points_that_repel_are_refused_with_the_least_bias_variance(activation, fraction):
    bias = fraction * LEAST[activation]
    words = f"bias_variance: expected at least 0.* for {activation}, .* repels.*, got {bias}"
    with pytest.raises(ValueError, match=words) as refused:
        theory.critical_pair(activation, bias)
    named = float(re.search(r"at least (\S+) for", str(refused.value))[1])
    assert LEAST[activation] < named < LEAST[activation] + 1.1e-6
    weight, q = theory.critical_pair(activation, named)
    assert theory.stability(activation, q, weight) < 1
    with pytest.raises(ValueError, match="expected at least"):
        theory.critical_pair(activation, named - 1e-6)


@pytest.mark.parametrize("activation", [name for name, traits in _core.TRAITS.items() if not traits.homogeneous])
@pytest.mark.parametrize("bias", [0, 1e-30, 1e-12, 1e-6, 1e-3, 0.05, 0.1, 0.2, 0.6, 1.0, 3.0, 100.0])
def test_critical_points_attract_variances(activation, bias):
    """A variance 2 % away is closer after 20 layers."""
    if bias < LEAST.get(activation, 0):
        return
    if activation not in CRITICAL:  # which may have no critical point
        try:
            theory.critical_pair(activation, bias)
        except ValueError:
            return
    weight, star = theory.critical_pair(activation, bias)
    assert theory.chi_1(activation, star, weight) == pytest.approx(1, abs=1e-11)
    assert theory.variance_map(activation, star, weight, bias) == pytest.approx(star, rel=1e-9, abs=1e-300)
    if star == 0:
        assert 0 < theory.variance_map(activation, 0.1, weight, bias) < 0.1
        return
    assert theory.stability(activation, star, weight) < 1 + 1e-12
    for start in (0.98 * star, 1.02 * star):
        q = start
        for _ in range(20):
            q = theory.variance_map(activation, q, weight, bias)
        assert abs(q - star) < abs(start - star) * (1 + 1e-9)


def softplus(z):
    return np.logaddexp(0, z)


FORMULAS = {
    "gelu": lambda z: z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2,
    "gelu_tanh": lambda z: z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "mish": lambda z: z * np.tanh(softplus(z)),
}


@pytest.mark.parametrize("activation", FORMULAS)
def test_the_least_bias_variance_by_gauss_hermite_quadrature(activation):
    """With activations written in NumPy, and derivatives by five-point differences."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(240)
    phi = FORMULAS[activation]

    def difference(f, x, h):
        return (f(x - 2 * h) - 8 * f(x - h) + 8 * f(x + h) - f(x + 2 * h)) / (12 * h)

    def mean(values):
        return weights @ values / math.sqrt(2 * math.pi)

    def square(q):
        return mean(phi(math.sqrt(q) * nodes) ** 2)

    def derivative_second_moment(q):
        return mean(difference(phi, math.sqrt(q) * nodes, 2e-3) ** 2)

    low, high = 0.5, 30.0  # of q*: the derivative of the map falls through 1 between them
    for _ in range(50):
        q = (low + high) / 2
        low, high = (q, high) if difference(square, q, 0.02) > derivative_second_moment(q) else (low, q)
    assert q - square(q) / derivative_second_moment(q) == pytest.approx(LEAST[activation], abs=2e-8)


def test_correlation_map_of_relu():
    c = 0.0
    for expected in (0.3183098862, 0.4937310904, 0.6048257201):
        closed = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi
        c = theory.correlation_map("relu", c, 1.0, 2.0)
        assert c == pytest.approx(closed, abs=1e-10)
        assert c == pytest.approx(expected, abs=1e-9)
    # The derivative of the map is (pi - arccos c) / pi.
    for c in (-0.5, 0.0, 0.3, 0.9):
        slope = theory.correlation_slope("relu", c, 1.0, 2.0)
        assert slope == pytest.approx(1 - math.acos(c) / math.pi, abs=1e-9)


@pytest.mark.parametrize("q", [1e6, 1e12, 1e100])
def test_saturating_activations_of_large_variances(q):
    """They act like sign(z): E sign u sign v = 2 asin(c) / pi, up to O(1/sqrt(q)), and E phi'^2 -> I / sqrt(2 pi q)."""
    for activation, integral in (("tanh", 4 / 3), ("sigmoid", 1 / 6), ("softsign", 2 / 3), ("hard_tanh", 2.0)):
        steep = theory.chi_1(activation, q, 1.0) * math.sqrt(2 * math.pi * q)
        assert steep == pytest.approx(integral, rel=20 / q)
    for activation in ("tanh", "hard_tanh"):
        for c in (-0.9, 0.0, 0.5, 0.99):
            map_at_c = theory.correlation_map(activation, c, q, 1.0)
            assert map_at_c == pytest.approx(2 * math.asin(c) / math.pi, abs=0.75 / math.sqrt(q) + CLOSED)


def test_correlation_map_of_sin():
    """In closed form, E sin u sin v = e^-q sinh(q c)."""
    for c in (-0.7, 0.0, 0.4, 1.0):
        found = theory.correlation_map("sin", c, 1.5, 1.0)
        expected = math.exp(-1.5) * math.sinh(1.5 * c) / ((1 - math.exp(-3)) / 2)
        assert found == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_the_fixed_point_of_gelu_and_silu_at_their_gain_repels(activation):
    weight = theory.forward_gain(activation) ** 2
    assert theory.variance_map(activation, 1.0, weight) == pytest.approx(1, abs=CLOSED)
    assert theory.stability(activation, 1.0, weight) > 1.05
    step = 1e-4
    ends = [theory.variance_map(activation, 1 + s * step, weight) for s in (1, -1)]
    assert theory.stability(activation, 1.0, weight) == pytest.approx(
        (ends[0] - ends[1]) / (2 * step), rel=1e-6
    )
    if activation == "gelu":
        for start, end in ((0.9, 0.130), (1.1, 2.91)):
            q = start
            for _ in range(20):
                q = theory.variance_map(activation, q, weight)
            assert q == pytest.approx(end, abs=6e-3 * end)


def test_the_fixed_point_of_tanh_at_its_gain_attracts():
    weight = theory.forward_gain("tanh") ** 2
    assert 0 < theory.stability("tanh", 1.0, weight) < 1


def test_variance_of_tanh_under_xavier():
    q, stds = 1.0, []
    for _ in range(5):
        stds.append(math.sqrt(second_moment("tanh", q)))
        q = stds[-1] ** 2
    np.testing.assert_allclose(stds, [0.627929, 0.486262, 0.408236, 0.357638, 0.321622], atol=6e-7)


def test_variance_of_tanh_in_the_five_layers_of_glorot_and_bengio():
    """U(+-1/sqrt n): weight variance 1/(3 n)."""
    q, stds = 1.0 / 3, []
    for _ in range(5):
        stds.append(math.sqrt(second_moment("tanh", q)))
        q = stds[-1] ** 2 / 3
    np.testing.assert_allclose(stds, [0.4603, 0.2495, 0.1412, 0.0810, 0.0467], atol=6e-5)


def test_unknown_activations_are_refused():
    with pytest.raises(ValueError, match=r"activation: expected one of linear.*got 'tanj'"):
        theory.function("tanj")
    with pytest.raises(ValueError, match="expected one with a finite fixed point"):
        theory.fixed_point("relu", 3.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: theory.variance_map("relu", -1, 1), ValueError, "q: expected a finite number >= 0.0, got -1"),
        (lambda: theory.variance_map("relu", math.nan, 1), ValueError, "q: expected a finite number, got nan"),
        (lambda: theory.variance_map("relu", "1", 1), TypeError, "q: expected a real number, got str '1'"),
        (lambda: theory.variance_map("relu", 1, -1), ValueError, "weight_variance: expected a finite number >= 0.0, got -1"),
        (lambda: theory.variance_map("relu", 1, 1, math.inf), ValueError, "bias_variance: expected a finite number"),
        (lambda: theory.chi_1("relu", 1, -1), ValueError, "weight_variance: expected"),
        (lambda: theory.fixed_point("tanh", -1), ValueError, "weight_variance: expected"),
        (lambda: theory.fixed_point("tanh", 1, start=-1), ValueError, "start: expected"),
        (lambda: theory.stability("tanh", 0, 1), ValueError, "q: expected a finite number > 0.0, got 0"),
        (lambda: theory.correlation_map("relu", 1.5, 1, 2), ValueError, r"c: expected a finite number in \[-1.0, 1.0\], got 1.5"),
        (lambda: theory.correlation_map("relu", 0.5, 0, 2), ValueError, "q: expected a finite number > 0.0, got 0"),
        (lambda: theory.correlation_map("relu", 0.5, 1, 0), ValueError, "weight_variance, bias_variance: expected one > 0"),
        (lambda: theory.correlation_slope("relu", -2, 1, 2), ValueError, "c: expected"),
        (lambda: theory.fixed_correlation("tanh", 0, 2), ValueError, "q: expected"),
        (lambda: theory.length_scale("gelu", -1.5, 1, 1), ValueError, "c: expected"),
        (lambda: theory.critical_pair("tanh", -1), ValueError, "bias_variance: expected"),
        (lambda: theory.expectation(np.cos, -1), ValueError, "variance: expected"),
    ],
)
def test_arguments_out_of_range_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_length_scale_is_0_for_weights_of_0():
    assert theory.length_scale("tanh", 0.5, 1, 0) == 0


VANISHING = [  # weight variances for which the derivative of the variance map at 0 is at most 1
    ("tanh", 0.5), ("tanh", 0.99), ("tanh", 1.0), ("sin", 1.0), ("relu", 1.5), ("relu", 1.99), ("gelu", 1.9), ("linear", 0.9),
    ("elu", 0.5), ("softsign", 1.0), ("leaky_relu", 1.9), ("silu", 1.0), ("mish", 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "weight"), VANISHING)
@pytest.mark.parametrize("start", [1.0, 1e-3, 1e-9])
def test_a_vanishing_signal_has_the_fixed_point_0(activation, weight, start):
    assert theory.fixed_point(activation, weight, start=start) == 0


def test_small_fixed_points_are_not_taken_for_0():
    # E tanh^2 = q - 2 q^2 + 17/3 q^3 and E sin^2 = q - q^2 + ... to first orders
    for excess in (1e-6, 1e-5):
        assert theory.fixed_point("tanh", 1 + excess) == pytest.approx(excess / 2, rel=1e-3)
        assert theory.fixed_point("sin", 1 + excess) == pytest.approx(excess, rel=1e-3)
    # If every variance is a fixed point, the result is the start; and a small bias variance is not taken for 0.
    for q in (1.0, 1e-9, 1e-12):
        assert theory.fixed_point("linear", 1.0, start=q) == pytest.approx(q, rel=1e-12)
        assert theory.fixed_point("relu", 2.0, start=q) == pytest.approx(q, rel=1e-12)
        assert theory.fixed_point("relu", 1.0, q) == pytest.approx(2 * q, rel=1e-3)


def test_slow_growth_is_not_taken_for_a_fixed_point():
    for activation, weight in (("leaky_relu", 2.0), ("linear", 1.000001), ("relu", 2.00001)):
        with pytest.raises(ValueError, match="expected one with a finite fixed point"):
            theory.fixed_point(activation, weight)


@pytest.mark.parametrize("activation", [name for name in _core.ACTIVATIONS if name != "leaky_relu"])
def test_derivatives_at_variance_0_are_limits(activation):
    assert theory.chi_1(activation, 0, 2) == pytest.approx(theory.chi_1(activation, 1e-20, 2), rel=1e-8)
    for c in (-1.0, -0.3, 0.0, 1.0):
        limit = theory.correlation_slope(activation, c, 1e-20, 2)
        assert theory.correlation_slope(activation, c, 0, 2) == pytest.approx(limit, rel=1e-8, abs=1e-12)


def test_at_variance_0_each_one_sided_derivative_counts_half():
    assert theory.chi_1("relu", 0, 2) == pytest.approx(1, abs=CLOSED)
    assert theory.chi_1("leaky_relu(0.5)", 0, 2) == pytest.approx(1.25, abs=CLOSED)
    # P(u > 0, v > 0) = 1/4 + asin(c) / 2 pi
    assert theory.correlation_slope("relu", 0.5, 0, 2) == pytest.approx(2 / 3, abs=1e-10)


@pytest.mark.parametrize("q", [0.1, 10.0, 1000.0])
def test_means_of_a_sine_in_closed_form_or_refused(q):
    """E sin^2 = (1 - e^-2q) / 2 and E cos^2 = (1 + e^-2q) / 2."""
    assert theory.variance_map("sin", q, 2.0) == pytest.approx(-math.expm1(-2 * q), rel=1e-11)
    assert theory.chi_1("sin", q, 2.0) == pytest.approx(1 + math.exp(-2 * q), rel=1e-11)
    with pytest.raises(ValueError, match=r"q: expected at most 1000 for sin.* got 1000\.5"):
        theory.variance_map("sin", 1000.5, 2.0)


@pytest.mark.parametrize("excess", [1e-12, 1e-9, 1e-8, 1e-7])
def test_small_fixed_points_of_weight_variances_just_above_1(excess):
    # 1 + excess = q / E tanh^2 = 1 + 2 q + ...; the excess itself is rounded
    weight = 1 + excess
    for start in (1.0, 1e-300, 1e300):
        assert theory.fixed_point("tanh", weight, start=start) == pytest.approx((weight - 1) / 2, rel=1e-6 + 1e-15 / excess)


def iterated(activation, weight, bias, q):
    """The fixed point by iteration over layers, with means by the trapezoidal rule; inf if there is none."""
    z = np.linspace(-10, 10, 2001)
    w = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    phi = theory.function(activation)
    for _ in range(4000):
        new = weight * float(w @ phi(math.sqrt(q) * z) ** 2) + bias
        if abs(new - q) <= 1e-13 * q or not 1e-9 < new < 1e9:
            return new if 1e-9 < new < 1e9 else 0.0 if new < 1 else math.inf
        q = new
    raise AssertionError("the iteration has not converged in 4000 layers")


@pytest.mark.parametrize(
    ("activation", "weight", "bias"),
    [("tanh", 2, 0), ("tanh", 0.5, 0.1), ("sin", 3, 0.2), ("sigmoid", 9, 0), ("silu", 2.2, 0.05), ("gelu", 2.2, 0.05),
     ("gelu", 2.2, 0.083), ("gelu", 2.2, 0.084), ("gelu", 1.5, 1), ("mish", 2.1, 0.01), ("softplus", 1.8, 0.3)],
)  # fmt: skip
@pytest.mark.parametrize("start", [1e-6, 0.3, 0.7, 3.0, 1e6])
def test_fixed_points_are_where_the_iteration_ends(activation, weight, bias, start):
    end = iterated(activation, weight, bias, start)
    if end == math.inf:
        with pytest.raises(ValueError, match="expected one with a finite fixed point"):
            theory.fixed_point(activation, weight, bias, start)
    else:
        assert theory.fixed_point(activation, weight, bias, start) == pytest.approx(end, rel=1e-9)


def test_two_close_fixed_points_are_not_missed():
    """GELU's map is tangent to the diagonal at a bias variance near 0.0833343504; below it there are two fixed points."""
    for start in (1e-3, 0.15, 0.37, 0.5):
        assert theory.fixed_point("gelu", 2.2, 0.08333435, start) == pytest.approx(0.55017, abs=6e-5)
        with pytest.raises(ValueError, match="expected one with a finite fixed point"):
            theory.fixed_point("gelu", 2.2, 0.0833344, start)


@pytest.mark.parametrize("start", [0.0, 1e-300, 1e-16, 1.0, 1e155, 1e300, 1.7e308])
def test_fixed_points_from_any_start(start):
    for weight, q in ((2.0, 0.617964769768545), (1.05, 0.0254974400915361)):
        assert theory.fixed_point("tanh", weight, start=start) == pytest.approx(q if start else 0, rel=CLOSED)
    assert theory.fixed_point("selu", 1.0, start=start) == pytest.approx(1 if start else 0, rel=CLOSED)
    q = theory.fixed_point("sin", 3.0, start=start)
    assert q == pytest.approx(1.5 * -math.expm1(-2 * q), rel=CLOSED)
    assert (q > 1) == (start > 0)
    assert theory.fixed_point("relu", 0.5, start=start) == 0
    assert theory.fixed_point("gelu", 0.5, start=start) == 0
    assert theory.fixed_point("hard_tanh", 1.0, start=start) == 0
    assert theory.fixed_point("tanh", 0.5, 1e-300, start) == pytest.approx(2e-300, rel=1e-10)
    if start:
        with pytest.raises(ValueError, match="expected one with a finite fixed point"):
            theory.fixed_point("relu", 3.0, start=start)


def test_large_fixed_points():
    assert theory.fixed_point("relu", 1.0, 1e12) == 2e12
    assert theory.fixed_point("sin", 3000.0) == pytest.approx(1500, rel=CLOSED)
    # E tanh^2 = 1 - 2 / sqrt(2 pi q) + ...
    for weight in (2e12, 1e100, 1e308):
        expected = weight * (1 - 2 / math.sqrt(2 * math.pi * weight))
        assert theory.fixed_point("tanh", weight) == pytest.approx(expected, rel=1e-11)
    with pytest.raises(ValueError, match="expected one with a finite fixed point"):
        theory.fixed_point("gelu", 1e308)


@pytest.mark.parametrize(("bias", "factor"), [(0.001, 1e-9), (0.01, 1e-7), (0.05, 1e-5), (0.05, 1e-3)])
def test_fixed_correlations_just_below_1(bias, factor):
    """By the trapezoidal rule over half the sum and half the difference of the pre-activations, which are independent."""
    weight = theory.critical_pair("tanh", bias)[0] * (1 + factor)
    q = theory.fixed_point("tanh", weight, bias)
    x, y = np.linspace(-9, 9, 601), np.linspace(-9, 9, 61)
    wx, wy = (np.exp(-v * v / 2) / np.exp(-v * v / 2).sum() for v in (x, y))

    def grows(apart):
        s, d = math.sqrt(q * (1 - apart / 2)) * x[:, None], math.sqrt(q * apart / 2) * y
        difference = np.sinh(2 * d) / (np.cosh(s + d) * np.cosh(s - d))  # of tanh, without cancellation
        return weight * float(wx @ (difference**2 / 2 @ wy)) / q > apart

    low, high = -30.0, 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if grows(math.exp(middle)) else (low, middle)
    apart = 1 - theory.fixed_correlation("tanh", q, weight, bias)
    assert apart == pytest.approx(math.exp(low), rel=1e-6 + 1e-12 / factor)


def test_fixed_correlation_refuses_a_variance_that_is_no_fixed_point():
    for activation, weight in (("relu", 2.5), ("leaky_relu(0.01)", 2.1), ("tanh", 1.0)):
        with pytest.raises(ValueError, match=r"q: expected a fixed point of the variance map for .*, got 1\.0, which a layer"):
            theory.fixed_correlation(activation, 1.0, weight)
    assert theory.fixed_correlation("relu", 1.0, 2.0) == 1
    assert theory.fixed_correlation("tanh", theory.fixed_point("tanh", 3.0), 3.0) == pytest.approx(0, abs=1e-12)


def test_the_length_scale_of_a_decreasing_correlation_map():
    slope = theory.correlation_slope("gelu", -1.0, 9.0, 1.0)
    assert slope < 0
    assert theory.length_scale("gelu", -1.0, 9.0, 1.0) == pytest.approx(-1 / math.log(-slope))


def test_values_have_the_shape_of_the_input():
    for f in (theory.function("tanh"), theory.slope("tanh")):
        for shape in ((), (1,), (0,), (2, 3)):
            assert f(np.full(shape, 0.5)).shape == shape
        assert f(0.5).shape == ()
        assert f(np.ones((4, 6))[:, ::2].T).shape == (3, 4)
    assert float(theory.function("tanh")(0.5)) == pytest.approx(math.tanh(0.5))


@pytest.mark.parametrize(("activation", "bias_variance", "words"), [
    ("relu", 0.1, "expected 0 for relu"), ("relu", 5e-324, "expected 0 for relu"), ("linear", 0.1, "expected 0 for linear"),
    ("leaky_relu(0.2)", 1.0, "expected 0 for leaky_relu"), ("sin", 1000.0, "expected at most 998 for sin"),
    ("softplus", 0, "expected one with a critical point for softplus, got 0"),
    ("softplus", 0.1, "expected one with a critical point for softplus, got 0.1"),
])  # fmt: skip
def test_missing_critical_points_are_refused_with_a_hint(activation, bias_variance, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        theory.critical_pair(activation, bias_variance)
    assert theory.critical_pair("sin", 998.0) == pytest.approx((2.0, 999.0), rel=1e-9)
