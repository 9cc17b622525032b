# SPDX-License-Identifier: BSD-3-Clause
"""Truncated normals between bounds of every width: error, distribution, distinct values and stated moments.

Statistical tests have fixed keys and a false-alarm rate of ALARM for each window and dtype, together below 1 %.
"""

import math

import mpmath
import numpy as np
import pytest
import reference
import truncated_law
from quantile_points import chosen, random_words, share_of_limit

import fastinit
from fastinit import Key, TruncatedNormal, truncated_normal
from fastinit.initializers import variance_scaling as scaling
from fastinit.initializers.independent import truncated_moments

INFINITY = float("inf")
ALARM = 1e-5
KEY = Key(20260713)
WIDTHS = [1e-16, 1e-12, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0]
PLACES = [0.0, 1e-4, 1.0, 5.0, 30.0]


def windows():
    """Windows symmetric about 0, from 0 on, and near numbers of every size on both sides, if float64 can represent them."""
    found = [(-w, w) for w in WIDTHS] + [(p, p + w) for p in PLACES for w in WIDTHS]
    found += [(-30.0 - w, -30.0) for w in WIDTHS] + [(-w / 3, w) for w in WIDTHS]
    return [(low, high) for low, high in found if low < high]


WINDOWS = windows()
DTYPES = ["float32", "float64", "float16", "bfloat16"]


def numbers(x, dtype):
    """The values in float64, converted exactly."""
    return (reference.float32_of(x, dtype) if dtype == "bfloat16" else x).astype(np.float64)


def drawn(count, dtype, bounds, std=1.0):
    out = np.empty(count, np.uint16) if dtype == "bfloat16" else None
    x = truncated_normal(count, 0.0, std, *bounds, key=KEY, dtype=dtype, out=out)
    return numbers(x, dtype)


# ---- error ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", WINDOWS)
def test_error_is_small_against_the_window(choose_isas, bounds):
    words = np.concatenate([random_words(12), np.array([0, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)])
    exact = [reference.truncated_of_fraction(w, *bounds) for w in words]
    for _ in choose_isas():
        for dtype in ("float64", "float32"):
            x = chosen("truncated_normal", dtype, (0.0, 1.0, *bounds), words)
            assert share_of_limit(x, exact, bounds) <= 1
            if dtype == "float64":
                assert bounds[0] <= x.min()
                assert x.max() <= bounds[1]


@pytest.mark.parametrize("bounds", WINDOWS)
def test_precisions_are_roundings_of_each_other(bounds):
    """A network has the same weights up to rounding in every dtype, also in narrow windows."""
    wide = truncated_normal(20_000, 0.0, 1.0, *bounds, key=KEY, dtype="float64")
    for dtype in ("float32", "float16"):
        x = truncated_normal(20_000, 0.0, 1.0, *bounds, key=KEY, dtype=dtype).astype(float)
        step = truncated_law.spacing(x, dtype)
        assert (np.abs(x - wide) <= np.maximum(step, 2.0**-20 * (bounds[1] - bounds[0]))).all()


@pytest.mark.parametrize(("dtype", "least"), [("float32", 2.0**-149), ("float64", 2.0**-1074)])
def test_windows_of_the_smallest_numbers(each_isa, dtype, least):
    words = np.sort(random_words(4000))
    u = words.astype(float) * 2.0**-64
    for first, steps in [(0, 1), (0, 2), (-3, 6), (0, 1000), (-1000, 2000), (2**23, 5)]:
        x = chosen("truncated_normal", dtype, (0.0, 1.0, first * least, (first + steps) * least), words)
        found = x / x.dtype.type(least)
        assert (np.abs(found - (first + steps * u)) <= 0.51).all()


def test_bounds_that_are_neighbours(each_isa):
    words = random_words(10_000)
    for low in (1.0, -1.0, 30.0, 1e-4):
        high = float(np.nextafter(low, INFINITY))
        x = chosen("truncated_normal", "float64", (0.0, 1.0, low, high), words)
        np.testing.assert_array_equal(x, np.where(words < 2**63, low, high))


# ---- law -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bounds", WINDOWS)
def test_law(bounds, dtype):
    sample = truncated_law.Sample(drawn(30_000, dtype, bounds), dtype, *bounds)
    assert sample.kolmogorov() > ALARM
    # No accumulation at a bound, by 6 standard errors of the count; false alarms at most 10^-6 (a small count is Poisson).
    assert sample.at_bounds().max() < 6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_errors_of_the_distribution_are_detected(dtype):
    bounds = (1.0, 1.01)
    x = drawn(30_000, dtype, bounds)
    broken = {
        "uniform": np.linspace(*bounds, 30_000),
        "one bound": np.full(30_000, bounds[1]),
        "narrower by 2 %": np.clip(x, 1.0001, 1.0099),
        "moved by 2 %": np.clip(x + 2e-4, *bounds),
        "28 values": np.round(x * 2800) / 2800,
    }
    seen = {}
    for name, y in broken.items():
        sample = truncated_law.Sample(y.astype(dtype).astype(float), dtype, *bounds)
        seen[name] = sample.kolmogorov() <= ALARM or sample.at_bounds().max() >= 6
    assert not seen.pop("uniform")  # the correct distribution is uniform up to half a per cent here
    assert all(seen.values()), seen


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("bounds", [b for b in WINDOWS if b[0] + b[1] >= 0])
def test_number_of_distinct_values(bounds, dtype):
    """As many as exact quantiles of the same words would have after rounding, apart from equal random numbers.

    Among n draws from N = 2^24 (float64: 2^53) equally likely numbers the count of equal pairs is Poisson with mean n^2 / 2N.
    """
    n = 2**15
    u = (reference.fractions(KEY.seed, KEY.stream, 0, n).astype(float) + 0.5) * 2.0**-64
    most = truncated_law.distinct(u, dtype, *bounds)
    pairs = n**2 / 2 / (2**53 if dtype == "float64" else 2**24)
    found = len(np.unique(drawn(n, dtype, bounds)))
    if most < 1000:  # all values of the window, up to one at each end
        assert most - 2 <= found <= most + 2
        assert found > most / 2
    else:  # which values occur is random: 3 sqrt(most) if there are fewer values than draws
        by_chance = 3 * math.sqrt(most) if most < 0.99 * n else 0
        assert found >= most - pairs - 6 * math.sqrt(pairs) - by_chance


def test_huge_standard_deviations():
    """Windows of ordinary size that are narrow relative to std; also in float16, whose range does not include such a std."""
    for dtype, most in [("float32", 1e38), ("float64", 1e200), ("float16", 1e30), ("bfloat16", 1e38)]:
        for std in (1e8, 1e16, most):
            bounds = (-2 / std, 1 / std)
            x = drawn(30_000, dtype, bounds, std)
            assert (x.min() >= -2, x.max() <= 1) == (True, True)
            assert truncated_law.Sample(x, dtype, *bounds, std=std).kolmogorov() > ALARM
    with pytest.raises(ValueError, match="std: expected a number in the range of float16, got 100000000"):
        truncated_normal(3, 0.0, 1e8, -2.0, 2.0, key=KEY, dtype="float16")
    with pytest.raises(ValueError, match="mean: expected a number in the range of float16, got 100000"):
        truncated_normal(3, 1e5, 1.0, -1.0, 1.0, key=KEY, dtype="float16")


# ---- stated moments ------------------------------------------------------------------------------


@reference._in_multiprecision
def exact_moments(lower, upper):
    """The exact mean and standard deviation."""
    with mpmath.workdps(120):
        a, b = mpmath.mpf(lower), mpmath.mpf(upper)

        def density(z, power=0):
            return z**power * mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi) if mpmath.isfinite(z) else mpmath.mpf(0)

        low, high = (a, b) if a + b >= 0 else (-b, -a)
        mass = reference.upper_tail(low) - (reference.upper_tail(high) if mpmath.isfinite(high) else 0)
        mean = (density(a) - density(b)) / mass
        variance = 1 + (density(a, 1) - density(b, 1)) / mass - mean**2
        return mean, mpmath.sqrt(variance)


WIDE = [(-2.0, 2.0), (-8.0, 9.0), (0.0, INFINITY), (-INFINITY, -6.0), (30.0, INFINITY), (-INFINITY, 35.0), (3.0, 9.0)]


@pytest.mark.parametrize("bounds", [*WINDOWS, *WIDE, (-INFINITY, INFINITY), (-100.0, 100.0), (-0.5, 0.5), (2.0, 3.1)])
def test_moments(bounds):
    exact_mean, exact_deviation = exact_moments(*bounds)
    mean, deviation = truncated_moments(*bounds)
    assert abs(deviation / exact_deviation - 1) <= 2e-12
    assert abs(mean - exact_mean) <= 1e-15 * max(abs(exact_mean), exact_deviation)
    one = TruncatedNormal(0.0, 0.5, *bounds)
    assert one.variance((3,)) == pytest.approx(float(exact_deviation) ** 2 / 4, rel=1e-11)
    wider = TruncatedNormal(0.0, 0.5, *bounds, corrected=True)
    assert wider.variance((3,)) == pytest.approx(0.25, rel=1e-11)


@pytest.mark.parametrize("bounds", [*WINDOWS, *WIDE])
def test_stated_variance_is_what_is_drawn(bounds):
    """Sample variances of 30,000 values, to 6 standard errors: one false alarm in 10^8, more if the window has few numbers."""
    n = 30_000
    for options in ({}, {"corrected": True}):
        one = TruncatedNormal(0.0, 0.5, *bounds, **options)
        x = one((n,), "float64", key=KEY)
        x = x - one._mean((n,))
        spread = (x**2).std() / math.sqrt(n)
        steps = (np.spacing(abs(bounds[0])) * one._law((n,))[1][1]) ** 2 if math.isfinite(bounds[0]) else 0.0
        assert abs((x**2).mean() - one.variance((n,))) <= 6 * spread + steps / 2


def test_the_constant_of_variance_scaling_is_the_computed_deviation():
    assert truncated_moments(-2.0, 2.0)[1] == scaling._STD_WITHIN_2


def test_a_variance_between_absolute_bounds():
    for width in (1e-8, 1e-3, 1.0):
        one = TruncatedNormal(low=-width, high=width)
        assert one.variance(1) == pytest.approx(np.var(one((100_000,), key=KEY).astype(float)), rel=0.02)


def test_a_narrow_window_keeps_the_std_of_corrected_weights():
    for dtype in ("float32", "float16"):
        x = fastinit.TruncatedNormal(0.0, 0.05, -1e-6, 1e-6, corrected=True)((100_000,), dtype, key=KEY).astype(float)
        assert abs(x.std() / 0.05 - 1) < 0.01
