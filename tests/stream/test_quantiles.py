# SPDX-License-Identifier: BSD-3-Clause
"""Accuracy: the stated errors of functions, and of every word of the float32 normal."""

import mpmath
import numpy as np
import pytest
import reference
from quantile_points import chosen, random_words, share_of_limit

from fastinit import _core

INFINITY = float("inf")
TAILS = reference.TailTable()


def uint64(values):
    return np.array(values, np.uint64)


def spread_words(per_octave=12):
    """Random words whose tail probabilities are of all sizes, with both ends of each octave; and their complements."""
    rng = np.random.default_rng(1)
    tails = [0]
    for k in range(63):
        tails += [1 << k, (1 << k) + 1, (2 << k) - 1, 3 << k >> 1]
        tails += [int(n) for n in rng.integers(1 << k, 2 << k, per_octave, np.uint64)]
    tails = np.unique(uint64(tails))
    return np.concatenate([tails, ~tails])


def worst(found, exact):
    """The largest error in units of max(1, |z|)."""
    pairs = zip(found.tolist(), exact, strict=True)
    return float(max(abs(mpmath.mpf(x) - z) / max(1, abs(z)) for x, z in pairs))


# ---- stated errors of the functions ---------------------------------------------------------------


def in_ulp(x, exact):
    return abs(mpmath.mpf(x) - exact) / np.spacing(abs(float(exact)))


def relative(x, exact):
    return abs(mpmath.mpf(x) - exact) / abs(exact)


def absolute(x, exact):
    return abs(mpmath.mpf(x) - exact)


def to_one(x, exact):
    return abs(mpmath.mpf(x) - exact) / max(1, abs(exact))


# function, exact function, measure, largest error, ranges (even in x), octaves (even in exponent)
STATED = {
    "exponential": (_core.exponential, mpmath.exp, in_ulp, 2, [(-708, 1), (-1, 1)], []),
    "logarithm": (
        _core.logarithm, mpmath.log, in_ulp, 2, [(2.72, 64)], [(-1022, -1.5), (1.5, 1023)],
    ),
    "logarithm near one": (_core.logarithm, mpmath.log, absolute, 2**-52, [(0.37, 2.71)], []),
    "normal_tail": (
        _core.normal_tail, reference.upper_tail, relative, 1e-14, [(-37.5, 37.5), (-1, 1)],
        [(-60, 5.2)],
    ),
    "normal_quantile_tail": (
        _core.normal_quantile_tail, reference.tail_quantile, to_one, 2**-50,
        [(0.07, 0.08), (0.05, 0.5), (1e-11, 2e-11)], [(-1022, -1), (-64, -1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATED)
def test_stated_error(name):
    function, exact, measure, most, ranges, octaves = STATED[name]
    rng = np.random.default_rng(7)
    x = [rng.uniform(low, high, 400) for low, high in ranges]
    x += [2 ** rng.uniform(low, high, 400) for low, high in octaves]
    x += [np.array(interval, float) for interval in ranges]
    x += [2.0 ** np.array(interval) for interval in octaves]
    with mpmath.workdps(reference.PRECISION):
        error = max(measure(function(v), exact(mpmath.mpf(v))) for v in np.concatenate(x).tolist())
    assert error <= most
    assert error > most / 100, "states far more than its error"


# ---- float64 normal ------------------------------------------------------------------------------


def test_float64_normal_of_words_of_all_sizes(choose_isas):
    words = spread_words()
    exact = [reference.normal_of_fraction(w) for w in words]
    for _ in choose_isas():
        assert worst(chosen("normal", "float64", (0.0, 1.0), words), exact) <= 2**-50


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("law", ["normal", "truncated_normal", "uniform"])
def test_complemented_words_negate_the_value(each_isa, law, dtype):
    words = np.concatenate([spread_words(), random_words(100_000)])
    symmetric = {"uniform": [(-0.3, 0.3)], "normal": [(0.0, 0.7)]}
    bounds = (1e-30, 1e-9, 0.01, 0.2, 0.3, 2.0, 4.0, 9.0, INFINITY)
    for parameters in symmetric.get(law, [(0.0, 0.7, -b, b) for b in bounds]):
        x = chosen(law, dtype, parameters, words)
        assert len(np.unique(x)) > 1
        if law == "uniform":  # the half-open interval is not symmetric
            x = x[np.abs(x) < parameters[1] * (1 - 2**-20)]
            y = chosen(law, dtype, parameters, ~words)
            y = y[np.abs(y) < parameters[1] * (1 - 2**-20)]
        else:
            y = chosen(law, dtype, parameters, ~words)
        np.testing.assert_array_equal(y, -x)


def test_mirrored_bounds_negate_the_float64_value(each_isa):
    words = np.concatenate([spread_words(), random_words(10_000)])
    bounds = [(-2.0, 1.0), (0.0, INFINITY), (5.25, 8.0), (2.0, 2.0001), (-1.0, 30.0)]
    for low, high in [*bounds, (0.0, 1e-8), (-0.01, 0.02), (30.0, 30.001), (30.0, 30.4)]:
        x = chosen("truncated_normal", "float64", (0.0, 1.0, low, high), words)
        y = chosen("truncated_normal", "float64", (0.0, 1.0, -high, -low), ~words)
        np.testing.assert_array_equal(y, -x)


# ---- every word of the float32 normal ------------------------------------------------------------


def test_table_of_tails_is_exact_enough():
    """Its error in float64 is ten million times smaller than that of the float32 values that it tests."""
    for k in range(-65, -1):
        p = np.concatenate([[2.0**k], np.random.default_rng(k + 99).uniform(1, 2, 8) * 2.0**k])
        with mpmath.workdps(reference.PRECISION):
            exact = [reference.tail_quantile(x) for x in p.tolist()]
        assert worst(TAILS(p), exact) <= 1e-14


def largest_float32_error(leading):
    """The largest error of float32 normals for leading words in one octave of the lower half, and their complements.

    In units of max(1, |z|), for the smallest and the largest second word: a kernel that ignores the second word has its
    largest error there.
    """
    errors = []
    for second in (0, 2**32 - 1):
        words = leading << 32 | np.uint64(second)
        z = -TAILS((words.astype(float) + 0.5) * 2.0**-64)
        found = []
        for isa in _core.available_isas():
            _core.set_isa(isa)
            found.append(chosen("normal", "float32", (0.0, 1.0), words))
            found.append(-chosen("normal", "float32", (0.0, 1.0), ~words))
        for x in found[1:]:
            np.testing.assert_array_equal(x, found[0])
        errors.append((np.abs(found[0] - z) / np.maximum(1, -z)).max())
    return float(max(errors))


@pytest.mark.parametrize("k", range(31))
def test_float32_normal_of_sampled_words(restored_isa, k):
    """Leading words 2^k .. 2^(k+1) - 1: near both ends, near the middle, and 4,000 in between."""
    first, last = 1 << k, (2 << k) - 1
    around = np.array([[first], [last], [(first + last) // 2]]) + np.arange(-40, 41)
    between = np.random.default_rng(k).integers(first, last, 4000, endpoint=True)
    leading = np.unique(np.concatenate([np.clip(around.ravel(), first, last), between]))
    assert largest_float32_error(leading.astype(np.uint64)) <= 4e-7


def test_float32_normal_of_a_leading_word_of_zero(choose_isas):
    second = np.unique(2 ** np.random.default_rng(0).uniform(0, 32, 300)).astype(np.uint64)
    exact = [reference.normal_of_fraction(w) for w in second]
    for _ in choose_isas():
        x = chosen("normal", "float32", (0.0, 1.0), second)
        assert worst(x, exact) <= 4e-7
        np.testing.assert_array_equal(chosen("normal", "float32", (0.0, 1.0), ~second), -x)


@pytest.mark.exhaustive
@pytest.mark.parametrize("k", range(31))
def test_float32_normal_of_every_word(restored_isa, k):
    """All leading words except 0 and its complement, one octave per test; prints the largest error."""
    errors = []
    for start in range(1 << k, 2 << k, 1 << 17):
        leading = np.arange(start, min(start + (1 << 17), 2 << k), dtype=np.uint64)
        errors.append(largest_float32_error(leading))
    print(f"leading words from 2^{k}: largest error {max(errors):.3e} max(1, |z|)")
    assert max(errors) <= 4e-7


@pytest.mark.parametrize("second", [0, 1, 2**31, 2**32 - 1])
def test_float32_tail_is_refined_by_the_second_word(each_isa, second):
    """For leading words below 2^17 the second word is used, too: the most extreme values are beyond 9 sigma."""
    rng = np.random.default_rng(3)
    ends = np.arange(40), 2**17 - np.arange(1, 40)
    leading = np.unique(np.concatenate([*ends, rng.integers(0, 2**17, 200)]))
    words = leading.astype(np.uint64) << 32 | np.uint64(second)
    exact = [reference.normal_of_fraction(w) for w in words]
    assert worst(chosen("normal", "float32", (0.0, 1.0), words), exact) <= 4e-7
    if second == 0:
        assert chosen("normal", "float32", (0.0, 1.0), words)[0] < -9.1
        # 4e-7 is less than what the second word moves z by here, so a kernel without it fails.
        moved = [reference.normal_of_fraction(int(w) + 2**32 - 1) for w in words[:40]]
        assert min(float(b - a) for a, b in zip(exact, moved, strict=False)) > 4e-7 * 9.2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "parameters",
    [
        (0.0, 0.0), (3.0, 0.0), (0.0, 0.02), (1.5, 0.25), (-1e-3, 1.0), (0.0, 1e-44),
        (1e-40, 1e-40), (0.0, 3e37), (-2.0, 1e-9), (0.0, 2e-37), (0.0, 1e-30),
    ],
)  # fmt: skip
def test_mean_and_std_are_applied_in_the_dtype(each_isa, dtype, parameters):
    """x = mean + std z with two roundings, bit for bit, including the sign of zero."""
    edges = uint64([0, 2**64 - 1, 2**63, 2**63 - 1, 2**63 + 2**38, 2**63 - 2**38])
    words = np.concatenate([spread_words(4), random_words(2000), edges])
    mean, std = np.array(parameters, dtype)
    x = chosen("normal", dtype, parameters, words)
    expected = mean + std * chosen("normal", dtype, (0.0, 1.0), words)
    bits = f"u{expected.itemsize}"
    np.testing.assert_array_equal(x.view(bits), expected.view(bits))


# ---- truncated normals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds",
    [
        (-2.0, 2.0), (0.0, INFINITY), (5.25, 8.0), (-INFINITY, -6.0), (2.0, 2.0001),
        (-INFINITY, INFINITY), (-1.0, 0.5), (-4.2, 4.2), (-3.99, 4.01), (-6.0, 0.5), (20.0, 21.0),
        # Where float32 changes from the polynomial for narrow windows to the ordinary kernel, and to double precision.
        (-0.2, 0.2999), (-0.2, 0.3001), (1.7, 2.1999), (1.7, 2.2001), (3.5, 3.9999), (-3.5, -3.0),
        # Where float64 changes to the ordinary kernel, and to the logarithm.
        (-0.01, 0.0212), (-0.01, 0.0213), (3.0, 3.09), (3.0, 3.1), (5.0, 5.1), (-30.9, -30.0), (30.0, 31.2),
    ],
)  # fmt: skip
def test_truncated_normals_of_words_of_all_sizes(choose_isas, bounds):
    words = spread_words(2)
    exact = [reference.truncated_of_fraction(w, *bounds) for w in words]
    for _ in choose_isas():
        for dtype in ("float64", "float32"):
            x = chosen("truncated_normal", dtype, (0.0, 1.0, *bounds), words)
            assert share_of_limit(x, exact, bounds) <= 1
            assert bounds[0] <= x.min()
            assert x.max() <= bounds[1]


# ---- uniform -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds", [(-1.0, 1.0), (0.0, 1.0), (-0.1, 0.1), (1.0, 1.0625), (0.1, 0.7), (1e8, 1.0001e8)]
)
def test_every_float32_uniform_is_inside_its_half_open_interval(each_isa, bounds):
    """All 2^24 of them in order: float32 uses only 24 bits of the words."""
    low, high = np.array(bounds, np.float32)
    previous = low
    for start in range(0, 2**24, 2**20):
        k = np.arange(start, start + 2**20, dtype=np.uint64)
        x = chosen("uniform", "float32", bounds, k << 40 | np.uint64(0x5555555555))
        assert previous <= x[0]
        assert (x[:-1] <= x[1:]).all()
        previous = x[-1]
    assert previous < high
    first = chosen("uniform", "float32", bounds, uint64([0]))[0]
    assert low <= first <= low + (high - low) * 2.0**-22


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1.0), (1.0, 1.0 + 2**-50), (0.1, 0.7)])
def test_float64_uniforms_are_inside_their_half_open_interval(each_isa, bounds):
    words = np.sort(np.concatenate([spread_words(), random_words(100_000)]))
    x = chosen("uniform", "float64", bounds, words)
    assert bounds[0] <= x[0]
    assert x[-1] < bounds[1]
    assert (np.diff(x) >= 0).all()
