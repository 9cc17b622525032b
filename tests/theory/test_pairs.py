# SPDX-License-Identifier: BSD-3-Clause
"""Means over two correlated normals: against closed forms, 25-digit quadrature, and sums of another rule."""

import math

import numpy as np
import pytest

from fastinit import theory
from fastinit.theory.activations import known
from fastinit.theory.pairs import half_squared_difference, product_mean, slope_product_mean, squares_means

NEARLY = (1 - 1e-3, 1 - 1e-9)


def pair(mean, activation, c, q, other=None):
    first, second = np.array([float(q)]), np.array([float(q if other is None else other)])
    arguments = (first,) if mean is half_squared_difference else (first, second)
    return float(mean(known(activation), np.array([1 - c]), *arguments)[0])


def trapezoidal(f, c, q1, q2):
    """E f(u, v) by a rule that is exact to rounding errors for functions that are analytic about the real line."""
    x = np.arange(-9, 9, 0.05 / math.sqrt(max(q1, q2, 1)))
    w = np.exp(-x * x / 2) * (x[1] - x[0]) / math.sqrt(2 * math.pi)
    u = math.sqrt(q1) * x[:, None]
    v = math.sqrt(q2) * (c * x[:, None] + math.sqrt((1 - c) * (1 + c)) * x)
    return float(w @ f(u, v) @ w)


@pytest.mark.parametrize("q", [0.01, 1.0, 9.0])
@pytest.mark.parametrize("c", [-0.9, 0.0, 0.5, 0.99])
def test_smooth_functions_against_a_trapezoidal_rule(q, c):
    assert pair(product_mean, "tanh", c, q) == pytest.approx(
        trapezoidal(lambda u, v: np.tanh(u) * np.tanh(v), c, q, q), rel=1e-12, abs=1e-13 * min(q, 1)
    )
    assert pair(half_squared_difference, "tanh", c, q) == pytest.approx(
        trapezoidal(lambda u, v: (np.tanh(u) - np.tanh(v)) ** 2 / 2, c, q, q), rel=1e-12
    )
    assert pair(slope_product_mean, "tanh", c, q) == pytest.approx(
        trapezoidal(lambda u, v: 1 / (np.cosh(u) * np.cosh(v)) ** 2, c, q, q), rel=1e-12
    )
    assert pair(product_mean, "tanh", c, q, 0.3 * q) == pytest.approx(
        trapezoidal(lambda u, v: np.tanh(u) * np.tanh(v), c, q, 0.3 * q), rel=1e-12, abs=1e-13 * min(q, 1)
    )
    squares, slopes, mixed = squares_means(known("tanh"), 1 - c, q)
    value, slope = theory.variance_map("tanh", q, 1.0), theory.chi_1("tanh", q, 1.0)
    expected = [
        trapezoidal(f, c, q, q)
        for f in (
            lambda u, v: (np.tanh(u) * np.tanh(v)) ** 2,
            lambda u, v: 1 / (np.cosh(u) * np.cosh(v)) ** 4,
            lambda u, v: np.tanh(u) ** 2 / np.cosh(v) ** 4,
        )
    ]
    assert squares == pytest.approx(expected[0] / value**2, rel=1e-11)
    assert slopes == pytest.approx(expected[1] / slope**2, rel=1e-11)
    assert mixed == pytest.approx(expected[2] / (value * slope), rel=1e-11)


@pytest.mark.parametrize("q", [0.1, 1.0, 40.0])
@pytest.mark.parametrize("c", [-1.0, -0.6, 0.0, 0.4, *NEARLY, 1.0])
def test_hard_tanh_against_mpmath(q, c):
    """E phi' phi' is the probability of a square: one integral over normal distributions. So is E phi phi, by derivatives."""
    mp = pytest.importorskip("mpmath")
    with mp.workdps(25):
        edge, c_ = 1 / mp.sqrt(mp.mpf(q)), mp.mpf(c)
        s = mp.sqrt((1 - c_) * (1 + c_))
        # the places where the inner probability bends, for c near 1
        near = [edge - k * s for k in (1, 3, 8, 16) if k * s < edge]
        cuts = sorted({-edge, edge, mp.mpf(0), *near, *(-x for x in near)})

        def density(x):
            return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)

        def within(x):
            return mp.ncdf((edge - c_ * x) / s) - mp.ncdf((-edge - c_ * x) / s)

        if s == 0:
            slopes = mp.ncdf(edge) - mp.ncdf(-edge)
        else:
            slopes = mp.quad(lambda x: density(x) * within(x), cuts)
        assert pair(slope_product_mean, "hard_tanh", c, q) == pytest.approx(float(slopes), rel=1e-11)

        def clipped(mean, std):  # E hard_tanh(mean + std y)
            low, high = (-1 - mean) / std, (1 - mean) / std
            inside = mean * (mp.ncdf(high) - mp.ncdf(low)) + std * (density(low) - density(high))
            return inside - mp.ncdf(low) + 1 - mp.ncdf(high)

        if s == 0:
            return
        std = mp.sqrt(mp.mpf(q))
        far = mp.mpf(13)
        wide = [-far, *(x for x in cuts), far] if edge < far else [-far, 0, far]
        values = mp.quad(lambda x: density(x) * max(-1, min(1, std * x)) * clipped(std * c_ * x, std * s), wide)
    assert pair(product_mean, "hard_tanh", c, q) == pytest.approx(float(values), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("q", [0.1, 1.0, 9.0])
@pytest.mark.parametrize("c", [-0.6, 0.0, 0.4, 0.999])
def test_elu_against_mpmath(q, c):
    mp = pytest.importorskip("mpmath")
    with mp.workdps(25):
        std, c_ = mp.sqrt(mp.mpf(q)), mp.mpf(c)
        s = mp.sqrt((1 - c_) * (1 + c_)) * std

        def inner(mean):  # E elu(mean + s y)
            x = mean / s
            positive = mean * mp.ncdf(x) + s * mp.npdf(x)
            return positive + mp.exp(mean + s * s / 2) * mp.ncdf(-x - s) - mp.ncdf(-x)

        def outer(x):
            u = std * x
            return mp.npdf(x) * (u if x > 0 else mp.expm1(u)) * inner(c_ * u)

        values = mp.quad(outer, [-14, -4, -1, -0.1, 0, 0.1, 1, 4, 14])
    assert pair(product_mean, "elu", c, q) == pytest.approx(float(values), rel=1e-11)


@pytest.mark.parametrize("leak", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("c", [-0.7, 0.0, 0.5, *NEARLY])
def test_closed_forms_against_quadrature(leak, c):
    """The same activation as a function of one's own, which has no closed form here."""
    mine = theory.Activation(lambda z: np.where(z > 0, z, leak * z), lambda z: np.where(z > 0, 1.0, leak))
    name = f"leaky_relu({leak})"
    for mean in (product_mean, slope_product_mean):
        assert pair(mean, name, c, 2.0, 0.5) == pytest.approx(pair(mean, mine, c, 2.0, 0.5), rel=1e-11, abs=1e-13)
    found = pair(half_squared_difference, name, c, 2.0)
    assert found == pytest.approx(pair(half_squared_difference, mine, c, 2.0), rel=1e-10 + 1e-20 / (1 - c))
    closed = squares_means(known(name), 1 - c, 2.0)
    assert closed == pytest.approx(squares_means(mine, 1 - c, 2.0), rel=1e-11)


@pytest.mark.parametrize("q", [0.1, 2.0])
@pytest.mark.parametrize("c", [-0.7, 0.0, 0.5, 1 - 1e-6])
def test_closed_forms_of_sines(q, c):
    mine = theory.Activation(np.sin, np.cos, kinks=())
    for mean in (product_mean, slope_product_mean):
        assert pair(mean, "sin", c, q, 0.3) == pytest.approx(pair(mean, mine, c, q, 0.3), rel=1e-11, abs=1e-15)
    assert pair(half_squared_difference, "sin", c, q) == pytest.approx(pair(half_squared_difference, mine, c, q), rel=1e-9)


def test_differences_of_nearly_equal_inputs():
    """E (phi(u) - phi(v))^2 / 2 -> q (1 - c) E phi'^2, and relu's next order of (1 - c)^(3/2)."""
    for activation in ("tanh", "elu", "hard_tanh", "gelu", "sin", "relu"):
        slope = theory.chi_1(activation, 1.5, 1.0)
        for apart in (1e-10, 1e-14, 1e-16, 1e-30, 1e-200):
            found = half_squared_difference(known(activation), np.array([apart]), np.array([1.5]))[0]
            assert found == pytest.approx(1.5 * apart * slope, rel=1e-6 + 2 * math.sqrt(apart))
    apart = 1e-8
    found = half_squared_difference(known("relu"), np.array([apart]), np.array([2.0]))[0]
    assert found == pytest.approx(apart - (2 * apart) ** 1.5 / (3 * math.pi), rel=1e-11)


def test_many_pairs_are_as_one_at_a_time():
    apart, q = np.linspace(0, 2, 301), np.linspace(0.1, 2, 301)
    for activation in ("tanh", "hard_tanh"):
        many = product_mean(known(activation), apart, q, q[::-1])
        for i in (0, 1, 150, 299, 300):
            one = product_mean(known(activation), apart[i : i + 1], q[i : i + 1], q[::-1][i : i + 1])[0]
            assert many[i] == pytest.approx(one, rel=1e-12, abs=1e-14)
