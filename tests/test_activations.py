# SPDX-License-Identifier: BSD-3-Clause
"""Activations and their derivatives: the stated errors, against mpmath."""

import numpy as np
import pytest
from stack_cases import DTYPES

from fastinit import _core


def sample_points(dtype, density):
    """All scales, both signs, the neighbours of 0 and 1, multiples of pi, and the ordinary range densely."""
    tiny = float(np.finfo(dtype).tiny)
    scales = np.geomspace(tiny, float(np.finfo(dtype).max) / 2, 100 * density)
    near_pi = np.pi * np.concatenate([np.arange(1, 60), [355, 1e4, 2.5e5, 1e6, 1e9, 1e15, 1e22]])
    dense = np.concatenate([np.linspace(0, 6, 301 * density), np.linspace(6, 120, 200 * density), near_pi])
    odd = np.array([tiny / 8, tiny, 0.5, 1, 88.5, 103.9, 104, 708, 745.1, 746, 1e30])
    near = np.concatenate([np.nextafter(odd, np.inf), np.nextafter(odd, -np.inf)])
    points = np.concatenate([scales, dense, odd, near]).astype(dtype)
    return np.unique(np.concatenate([points, -points]))


def exact(name):
    """(phi, phi') in mpmath, safe for any float64."""
    import mpmath as mp

    def sigmoid(x):
        return 1 / (1 + mp.exp(-x))

    def softplus(x):
        return mp.log1p(mp.exp(x)) if x < 1000 else x

    def ncdf(x):
        return mp.ncdf(x) if abs(x) < 1000 else mp.mpf(x > 0)

    def density(x):
        return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)

    def u(x):
        return mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)

    def slope_u(x):
        return mp.sqrt(2 / mp.pi) * (1 + 3 * mp.mpf("0.044715") * x**2)

    scale, alpha = mp.mpf("1.0507009873554804934"), mp.mpf("1.6732632423543772848")
    one, zero = mp.mpf(1), mp.mpf(0)
    return {
        "linear": (lambda x: x, lambda x: one),
        "tanh": (mp.tanh, lambda x: mp.sech(x) ** 2),
        "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
        "relu": (lambda x: max(x, zero), lambda x: one if x > 0 else zero),
        "leaky_relu": (lambda x: x if x > 0 else x / 8, lambda x: one if x > 0 else one / 8),
        "hard_tanh": (lambda x: min(max(x, -one), one), lambda x: one if abs(x) < 1 else zero),
        "elu": (lambda x: x if x > 0 else mp.expm1(x), lambda x: one if x > 0 else mp.exp(x)),
        "selu": (
            lambda x: scale * (x if x > 0 else alpha * mp.expm1(x)),
            lambda x: scale * (one if x > 0 else alpha * mp.exp(x)),
        ),
        "softplus": (softplus, sigmoid),
        "softsign": (lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
        "gelu": (lambda x: x * ncdf(x), lambda x: ncdf(x) + x * density(x)),
        "gelu_tanh": (
            lambda x: x * sigmoid(2 * u(x)),
            lambda x: (
                sigmoid(2 * u(x)) + x * 2 * slope_u(x) * sigmoid(2 * u(x)) * sigmoid(-2 * u(x))
            ),
        ),
        "silu": (
            lambda x: x * sigmoid(x),
            lambda x: sigmoid(x) + x * sigmoid(x) * sigmoid(-x),
        ),
        "mish": (
            lambda x: x * mp.tanh(softplus(x)),
            lambda x: mp.tanh(softplus(x)) + x * mp.sech(softplus(x)) ** 2 * sigmoid(x),
        ),
        "sin": (mp.sin, mp.cos),
    }[name]


def stated_errors(activation, dtype, density=1):
    """The largest errors found: of the value in ULP, of the derivative in machine epsilons, and where."""
    import mpmath as mp

    x = sample_points(dtype, density)
    values, slopes = np.empty_like(x), np.empty_like(x)
    parameter = 0.125 if activation == "leaky_relu" else 0.0
    index = _core.ACTIVATIONS.index(activation)
    _core.activate(index, parameter, DTYPES.index(dtype), x, values, slopes)
    assert np.isfinite(values).all()
    assert np.isfinite(slopes).all()
    limits = np.finfo(dtype)
    digits, lowest = limits.nmant, int(np.log2(float(limits.tiny))) if dtype == "float32" else -1022
    phi, phi_slope = exact(activation)
    worst, worst_slope = (0.0, 0.0), (0.0, 0.0)
    with mp.workdps(60):
        for point, value, slope in zip(x.tolist(), values.tolist(), slopes.tolist(), strict=True):
            # the neighbourhood of a multiple of pi wants the argument's own digits
            with mp.workdps(360 if activation == "sin" and abs(point) > 1e15 else 60):
                expected = phi(mp.mpf(point))
                expected_slope = phi_slope(mp.mpf(point))
            exponent = max(mp.frexp(expected)[1] - 1, lowest)
            worst = max(worst, (float(mp.ldexp(abs(value - expected), digits - exponent)), point))
            error = float(mp.ldexp(abs(slope - expected_slope), digits))
            worst_slope = max(worst_slope, (error, point))
    return worst, worst_slope


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [1, pytest.param(50, marks=pytest.mark.exhaustive)])
def test_the_stated_errors_of_the_activations(density, dtype, activation):
    pytest.importorskip("mpmath")
    index = _core.ACTIVATIONS.index(activation)
    (value, at), (slope, slope_at) = stated_errors(activation, dtype, density)
    assert value <= _core.VALUE_ULP[index], f"at {at!r}"
    assert slope <= _core.SLOPE_EPS[index], f"at {slope_at!r}"
    assert value >= _core.VALUE_ULP[index] / 3 - 1  # the bounds are no idle ones
