# SPDX-License-Identifier: BSD-3-Clause
"""Activations: kernels against the definitions of the list, and the definitions against what is known of them elsewhere."""

import numpy as np
import pytest
from exact_activations import exact, in_numpy, parameter
from stack_cases import DTYPES

from fastinit import Stack, _core

# phi(2) and phi(-1) by PyTorch, of leaky_relu(0.125): neither the kernels nor the definitions of the list have a part in them.
KNOWN = {
    "linear": (2.0, -1.0), "tanh": (0.964027580076, -0.761594155956), "sigmoid": (0.880797077978, 0.26894142137),
    "relu": (2.0, 0.0), "leaky_relu": (2.0, -0.125), "hard_tanh": (1.0, -1.0), "elu": (2.0, -0.632120558829),
    "selu": (2.10140197471, -1.11133073781), "softplus": (2.12692801104, 0.313261687518), "softsign": (0.666666666667, -0.5),
    "gelu": (1.9544997361, -0.158655253931), "gelu_tanh": (1.95459769409, -0.158808009392),
    "silu": (1.76159415596, -0.26894142137), "mish": (1.94395895953, -0.303401461374),
    "sin": (0.909297426826, -0.841470984808),
}  # fmt: skip


@pytest.mark.parametrize("activation", KNOWN)
def test_definitions_have_the_known_values(activation):
    pytest.importorskip("mpmath")
    phi, in_floats = exact(activation, parameter(activation))[0], in_numpy(activation, parameter(activation))[0]
    assert [float(phi(z)) for z in (2, -1)] == pytest.approx(KNOWN[activation], rel=1e-11)
    assert in_floats(np.array([2.0, -1.0])) == pytest.approx(KNOWN[activation], rel=1e-11)


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
def test_the_stated_derivative_is_that_of_the_definition(activation):
    mp = pytest.importorskip("mpmath")
    phi, derivative = exact(activation, parameter(activation))
    in_floats = in_numpy(activation, parameter(activation))[1]
    with mp.workdps(40):
        for z in (-30.0, -11.3, -4.1, -2.7, -1.2, -0.7, -0.2, 0.3, 0.6, 1.4, 2.3, 6.1, 17.0):
            expected = mp.diff(phi, z)
            untrue = f"derivative: expected {float(expected)!r}, that of the definition, at {z}, got {float(derivative(z))!r}"
            assert abs(derivative(z) - expected) < mp.mpf("1e-15") * max(1, abs(expected)), untrue
            assert float(in_floats(np.float64(z))) == pytest.approx(float(expected), rel=1e-12, abs=1e-15), untrue


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
def test_the_stated_facts_are_those_of_the_definition(activation):
    traits, (phi, derivative) = _core.TRAITS[activation], in_numpy(activation, parameter(activation))
    step = 2.0**-10
    z = np.arange(-8, 8, step)
    # Of smooth functions these differences are of the sizes step^2 and step.
    bends = np.abs(derivative(z + step) - 2 * derivative(z) + derivative(z - step)) > step / 4
    found = z[bends | (np.abs(phi(z + step) - phi(z)) > 64 * step)]
    for kink in traits.kinks:
        assert np.abs(found - kink).min(initial=8) <= step, f"kinks: nothing bends at {kink}"
    for at in found:
        assert np.abs(np.array(traits.kinks) - at).min(initial=8) <= step, f"kinks: expected {at}, too"
    z = np.array([-1e6, -3, -1, -1e-6, 1e-6, 1, 3, 1e6])
    homogeneous = np.allclose(phi(2.5 * z), 2.5 * phi(z), rtol=1e-12, atol=0)
    assert traits.homogeneous == homogeneous, f"homogeneous: expected {homogeneous:d}"
    left, right = derivative(np.array([-20.0, 20.0]))
    largest = abs(right) if abs(right) > 0.1 else np.abs(derivative(np.linspace(-8, 8, 1601))).max()
    threshold = (1 - 0.97**2) * largest
    dead = left == 0 and phi(np.array(-20.0)) == 0
    flat = abs(right) < threshold or (abs(left) < threshold and not dead)
    expected = threshold if flat else 0
    assert traits.saturated_below == pytest.approx(expected, rel=1e-6), f"saturated_below: expected {expected:.7g}"


def sample_points(dtype, density):
    """All scales, both signs, the neighbours of 0 and 1, multiples of pi, and the ordinary range densely."""
    tiny = float(np.finfo(dtype).tiny)
    scales = np.geomspace(tiny, float(np.finfo(dtype).max) / 2, 100 * density)
    near_pi = np.pi * np.concatenate([np.arange(1, 60), [355, 1e4, 2.5e5, 1e6, 1e9, 1e15, 1e22]])
    # Where an exponential of the dtype becomes subnormal, and where it becomes 0; that of gelu, of z^2, long before.
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
    values, derivatives = np.empty_like(x), np.empty_like(x)
    _core.activate(_core.ACTIVATIONS.index(activation), parameter(activation), DTYPES.index(dtype), x, values, derivatives)
    return values, derivatives


def stated_errors(activation, dtype, density=1):
    """The largest errors found, and where, in the units of the list: value_ulp, derivative_eps and left_ulp."""
    import mpmath as mp

    x = sample_points(dtype, density)
    values, derivatives = computed(activation, dtype, x)
    assert not (np.isnan(values) | np.isnan(derivatives)).any()
    limits = np.finfo(dtype)
    largest = float(limits.max)
    digits, lowest = limits.nmant, int(np.log2(float(limits.tiny))) if dtype == "float32" else -1022
    phi, phi_derivative = exact(activation, parameter(activation))
    worst, worst_derivative, worst_left = (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)
    with mp.workdps(60):
        for point, value, derivative in zip(x.tolist(), values.tolist(), derivatives.tolist(), strict=True):
            # Near a multiple of pi as many digits cancel as the argument has before the point.
            with mp.workdps(360 if activation == "sin" and abs(point) > 1e15 else 60):
                expected = phi(mp.mpf(point))
                expected_derivative = phi_derivative(mp.mpf(point))
            # A result is infinite where it overflows the dtype, and nowhere else.
            for what, found, one in (("value", value, expected), ("derivative", derivative, expected_derivative)):
                untrue = f"{what} of the kernel: expected {mp.nstr(one)} at {point!r}, got {found!r}"
                assert (abs(found) > largest) == (abs(one) > largest), untrue
            if max(abs(value), abs(derivative)) > largest:
                continue
            exponent = max(mp.frexp(expected)[1] - 1, lowest)
            worst = max(worst, (float(mp.ldexp(abs(value - expected), digits - exponent)), point))
            error = float(mp.ldexp(abs(derivative - expected_derivative) / max(1, abs(expected_derivative)), digits))
            worst_derivative = max(worst_derivative, (error, point))
            if point <= -3:
                exponent = max(mp.frexp(expected_derivative)[1] - 1, lowest)
                worst_left = max(worst_left, (float(mp.ldexp(abs(derivative - expected_derivative), digits - exponent)), point))
    return worst, worst_derivative, worst_left


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [1, pytest.param(50, marks=pytest.mark.exhaustive)])
def test_the_stated_errors_of_the_activations(density, dtype, activation):
    pytest.importorskip("mpmath")
    stated = _core.TRAITS[activation]
    (value, at), (derivative, derivative_at), (left, left_at) = stated_errors(activation, dtype, density)
    assert value <= stated.value_ulp, f"value_ulp: {value:.3g} at {at!r}"
    assert derivative <= stated.derivative_eps, f"derivative_eps: {derivative:.3g} at {derivative_at!r}"
    assert left <= stated.left_ulp, f"left_ulp: {left:.3g} at {left_at!r}"
    assert value >= stated.value_ulp / 3 - 1, f"value_ulp: expected a closer bound, the largest error is {value:.3g}"


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_derivative_is_0_only_where_it_underflows(dtype, activation):
    """Except for derivatives that come from values which round to 1 far out, as of tanh and the sigmoid."""
    mp = pytest.importorskip("mpmath")
    x = sample_points(dtype, 1)
    values, derivatives = computed(activation, dtype, x)
    zero = (derivatives == 0) & (_core.TRAITS[activation].from_input | (np.abs(values) != 1))
    least = float(np.finfo(dtype).smallest_subnormal)
    derivative = exact(activation, parameter(activation))[1]
    with mp.workdps(60):
        lost = [abs(derivative(point)) for point in x[zero].tolist()]
    wrong = [point for point, one in zip(x[zero].tolist(), lost, strict=True) if one >= least]
    assert not wrong, f"derivative of the kernel: 0 at {len(wrong)} points, {wrong[0]!r} the first, which do not underflow"
    if any(lost):  # the derivative runs through the subnormal numbers down to 0
        assert 0 < np.abs(derivatives[derivatives != 0]).min() < np.finfo(dtype).tiny


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "halvings"), [("tanh", 1), ("sigmoid", 0)])
def test_a_value_is_1_from_where_that_is_the_nearest_number(dtype, activation, halvings):
    """The number before 1 is 1 - 2^-p: 1 - 2 e^(-2z) and 1 - e^-z round to 1 where what is subtracted is at most half of 2^-p."""
    bits = np.finfo(dtype).nmant + 1
    edge = (bits + 1 + halvings) * np.log(2) / 2**halvings  # 9.0109 and 19.0616 of tanh, 17.3287 and 37.4299 of the sigmoid
    width = edge * (1e-6 if dtype == "float32" else 1e-14)
    below, above = np.linspace(edge - 0.1, edge - width, 1000, dtype=dtype), np.linspace(edge + width, 60, 1000, dtype=dtype)
    step = 2.0**-bits
    values, derivatives = computed(activation, dtype, below)
    assert (values < 1).all()
    assert values[-1] == 1 - step
    assert (derivatives > 0).all()
    assert (computed(activation, dtype, above)[0] == 1).all()
    if activation == "tanh":
        np.testing.assert_array_equal(computed(activation, dtype, -below)[0], -values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_saturated_unit_is_dead_only_if_it_is_never_active(dtype):
    """A unit of ELU at z = -20, say: its value rounds to -1, but its derivative e^-20 is not 0."""
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
        derivative = computed(activation, dtype, np.array([z], dtype))[1]
        np.testing.assert_array_equal(found.input_gradient, [derivative, derivative])
    # One active sample is enough for a unit not to be dead.
    stack = Stack((1, 1), "relu", weights=[np.ones((1, 1), dtype)], dtype=dtype)
    assert stack.propagate([[-1.0]] * 9 + [[1.0]]).layers[0].dead == 0
