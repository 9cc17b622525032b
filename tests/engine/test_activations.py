# SPDX-License-Identifier: BSD-3-Clause
"""Activations and their derivatives: the stated errors, against mpmath."""

import numpy as np
import pytest
from exact_activations import exact
from stack_cases import DTYPES

from fastinit import Stack, _core


def sample_points(dtype, density):
    """All scales, both signs, the neighbours of 0 and 1, multiples of pi, and the ordinary range densely."""
    tiny = float(np.finfo(dtype).tiny)
    scales = np.geomspace(tiny, float(np.finfo(dtype).max) / 2, 100 * density)
    near_pi = np.pi * np.concatenate([np.arange(1, 60), [355, 1e4, 2.5e5, 1e6, 1e9, 1e15, 1e22]])
    # where the exponentials of the dtype leave the normal numbers, and all numbers; gelu's leave them long before
    last = (80, 112) if dtype == "float32" else (700, 760)
    squared = (8, 16) if dtype == "float32" else (20, 40)
    dense = np.concatenate(
        [np.linspace(0, 6, 301 * density), np.linspace(6, 120, 200 * density), near_pi]
        + [np.linspace(*ends, 200 * density) for ends in (last, squared)]
    )
    odd = np.array([tiny / 8, tiny, 0.5, 1, 88.5, 103.9, 104, 708, 745.1, 746, 1e30])
    near = np.concatenate([np.nextafter(odd, np.inf), np.nextafter(odd, -np.inf)])
    points = np.concatenate([scales, dense, odd, near]).astype(dtype)
    return np.unique(np.concatenate([points, -points]))


def computed(activation, dtype, x):
    """Values and derivatives as the stack computes them."""
    values, slopes = np.empty_like(x), np.empty_like(x)
    parameter = 0.125 if activation == "leaky_relu" else 0.0
    _core.activate(_core.ACTIVATIONS.index(activation), parameter, DTYPES.index(dtype), x, values, slopes)
    return values, slopes


def stated_errors(activation, dtype, density=1):
    """The largest errors found, and where: of the value in ULP, of the derivative in machine epsilons, and on the left in ULP."""
    import mpmath as mp

    x = sample_points(dtype, density)
    values, slopes = computed(activation, dtype, x)
    assert np.isfinite(values).all()
    assert np.isfinite(slopes).all()
    limits = np.finfo(dtype)
    digits, lowest = limits.nmant, int(np.log2(float(limits.tiny))) if dtype == "float32" else -1022
    phi, phi_slope = exact(activation)
    worst, worst_slope, worst_left = (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)
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
            if point <= -3:
                exponent = max(mp.frexp(expected_slope)[1] - 1, lowest)
                worst_left = max(worst_left, (float(mp.ldexp(abs(slope - expected_slope), digits - exponent)), point))
    return worst, worst_slope, worst_left


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [1, pytest.param(50, marks=pytest.mark.exhaustive)])
def test_the_stated_errors_of_the_activations(density, dtype, activation):
    pytest.importorskip("mpmath")
    index = _core.ACTIVATIONS.index(activation)
    (value, at), (slope, slope_at), (left, left_at) = stated_errors(activation, dtype, density)
    assert value <= _core.VALUE_ULP[index], f"at {at!r}"
    assert slope <= _core.SLOPE_EPS[index], f"at {slope_at!r}"
    assert left <= _core.LEFT_ULP[index], f"at {left_at!r}"
    assert value >= _core.VALUE_ULP[index] / 3 - 1  # the bounds are no idle ones


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_derivative_is_0_only_where_the_dtype_has_no_number_for_it(dtype, activation):
    """But for tanh and the sigmoid, whose derivatives are made of values that round to 1 far out."""
    mp = pytest.importorskip("mpmath")
    x = sample_points(dtype, 1)
    values, slopes = computed(activation, dtype, x)
    zero = (slopes == 0) & (np.abs(values) != 1 if activation in ("tanh", "sigmoid") else True)
    least = float(np.finfo(dtype).smallest_subnormal)
    slope = exact(activation)[1]
    with mp.workdps(60):
        assert all(abs(slope(mp.mpf(point))) < least for point in x[zero].tolist())
    tails = ("sigmoid", "elu", "selu", "softplus", "softsign", "gelu", "gelu_tanh", "silu", "mish")
    if activation in tails:  # whose numbers do end, which they are followed to
        assert zero.any()
        assert 0 < np.abs(slopes[slopes != 0]).min() < np.finfo(dtype).tiny


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "halvings"), [("tanh", 1), ("sigmoid", 0)])
def test_a_value_is_1_from_where_that_is_the_nearest_number(dtype, activation, halvings):
    """The number before 1 is 2^-p away: 1 - 2 e^(-2z), 1 - e^-z round to 1 where what is taken away is half of that, or less."""
    bits = np.finfo(dtype).nmant + 1
    edge = (bits + 1 + halvings) * np.log(2) / 2**halvings  # 9.0109 and 19.0616 of tanh, 17.3287 and 37.4299 of the sigmoid
    width = edge * (1e-6 if dtype == "float32" else 1e-14)
    below, above = np.linspace(edge - 0.1, edge - width, 1000, dtype=dtype), np.linspace(edge + width, 60, 1000, dtype=dtype)
    step = 2.0**-bits
    values, slopes = computed(activation, dtype, below)
    assert (values < 1).all()
    assert values[-1] == 1 - step
    assert (slopes > 0).all()
    assert (computed(activation, dtype, above)[0] == 1).all()
    if activation == "tanh":
        np.testing.assert_array_equal(computed(activation, dtype, -below)[0], -values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_saturated_unit_is_dead_only_if_it_is_never_active(dtype):
    """One unit at z = -20: e^-20 is no number beside -1, but it is one of its own."""
    for activation, z, saturated, dead in (
        ("elu", -20.0, 1, 0), ("selu", -20.0, 1, 0), ("elu", -2000.0, 1, 0),
        ("tanh", 40.0, 1, 0), ("hard_tanh", -3.0, 1, 0), ("softsign", 1e9, 1, 0), ("sigmoid", 100.0, 1, 0),
        ("sigmoid", -50.0, 1, 0), ("sigmoid", -2000.0, 1, 1), ("softplus", -50.0, 1, 0), ("softplus", -2000.0, 1, 1),
        ("silu", -90.0, 1, 0), ("silu", -2000.0, 1, 1), ("gelu", -10.0, 1, 0), ("gelu", -90.0, 1, 1),
        ("relu", -1.0, 0, 1), ("relu", 1.0, 0, 0),
    ):  # fmt: skip
        stack = Stack((1, 1), activation, weights=[np.ones((1, 1), dtype)], dtype=dtype)
        found = stack.propagate([[z], [z]], [[1.0], [1.0]], gradients=True)
        assert (found.layers[0].saturated, found.layers[0].dead) == (saturated, dead), (activation, z)
        slope = computed(activation, dtype, np.array([z], dtype))[1]
        np.testing.assert_array_equal(found.input_gradient, [slope, slope])
    # a unit is not dead that was active once, or passed a gradient once
    stack = Stack((1, 1), "relu", weights=[np.ones((1, 1), dtype)], dtype=dtype)
    assert stack.propagate([[-1.0]] * 9 + [[1.0]]).layers[0].dead == 0
