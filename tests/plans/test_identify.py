"""The statistics behind audits: Kolmogorov-Smirnov, rounding, moments, and how often they raise a false alarm."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from scipy import stats

from fastinit._common.dtypes import raw_view
from fastinit._stream.laws import Law
from fastinit.plans.identify import above, distance, distribution, known_rules, kolmogorov, misfit, moments, named, sample_of

LAWS = [
    Law("normal", (0.0, 0.02)), Law("normal", (1.0, 0.3)), Law("uniform", (-0.1, 0.1)), Law("uniform", (0.0, 1.0)),
    Law("truncated_normal", (0.0, 0.02, -2.0, 2.0)), Law("truncated_normal", (0.0, 0.02, -100.0, 100.0)),
    Law("truncated_normal", (0.0, 1.0, 0.0, 3.0)),
]  # fmt: skip
DTYPES = {
    "float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip


def reference(law: Law) -> Any:
    if law.name == "uniform":
        low, high = law.parameters
        return stats.uniform(low, high - low)
    mean, std, *cut = law.parameters
    return stats.truncnorm(*cut, loc=mean, scale=std) if cut else stats.norm(mean, std)


@pytest.mark.parametrize("count", [32, 100, 1000, 65536])
def test_the_p_value_is_that_of_scipy(count: int) -> None:
    for scaled in (0.3, 0.5, 0.8, 1.0, 1.17, 1.19, 1.5, 2.0, 2.5, 3.0):
        d = scaled / math.sqrt(count)
        exact = stats.kstwo.sf(d, count)
        assert kolmogorov(d, count) == pytest.approx(exact, rel=0.06 if scaled < 2.5 or count >= 1000 else 1.0)
        assert kolmogorov(d, count) >= 0.93 * exact  # hardly ever less: that would be a false alarm


def test_extreme_p_values_of_small_samples_are_upper_bounds() -> None:
    for count in range(8, 40):
        for p in (1e-6, 1e-8, 1e-10):
            assert kolmogorov(float(stats.kstwo.isf(p, count)), count) > 0.9 * p


@pytest.mark.parametrize("law", LAWS)
def test_distribution_and_moments_are_those_of_scipy(law: Law) -> None:
    expected = reference(law)
    x = np.linspace(*expected.ppf([1e-6, 1 - 1e-6]), 1001)
    np.testing.assert_allclose(distribution(law, x), expected.cdf(x), atol=2e-7)
    mean, std, kurtosis = moments(law)
    assert mean == pytest.approx(expected.mean(), abs=1e-9)
    assert std == pytest.approx(expected.std(), rel=1e-9)
    assert kurtosis == pytest.approx(float(expected.stats("k")) + 3, rel=2e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e3m4"])
def test_numbers_round_up_to_halfway(dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    bits = np.arange(2 ** (8 * kind.itemsize), dtype=f"u{kind.itemsize}")
    with np.errstate(invalid="ignore"):
        values = np.unique(bits.view(kind).astype(np.float64))
    values = values[np.isfinite(values)]
    np.testing.assert_array_equal(above(values[:-1], dtype), (values[:-1] + values[1:]) / 2)


def test_the_distance_is_that_of_scipy() -> None:
    for law in LAWS:
        values = reference(law).rvs(size=500, random_state=1)
        assert distance(sample_of(values, "float64"), law) == pytest.approx(
            stats.kstest(values, reference(law).cdf).statistic, abs=1e-6
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", LAWS)
def test_false_alarms_are_as_rare_as_stated(law: Law, dtype: str) -> None:
    """At a rate of 5 % more than 9 of 40 samples are 1 of 30,000."""
    rng = np.random.default_rng(0)
    for count in (4, 10, 32, 2000):
        alarms = 0
        for values in reference(law).rvs(size=(40, count), random_state=rng):
            kept = values if dtype == "float64" else values.astype(np.float32).astype(DTYPES[dtype])
            alarms += misfit(sample_of(raw_view(kept), dtype), law, 0.05) is not None
        assert alarms <= 9, (count, alarms)


@pytest.mark.parametrize("count", [32, 50, 100, 1000, 65536])
def test_a_test_of_the_std_is_as_rare_in_the_far_tail(count: int) -> None:
    """The std at which a sample of a normal law is refused has a probability of at most the alarm in the exact distribution."""
    law, alarm = Law("normal", (0.0, 1.0)), 1e-8
    base = np.sort(stats.norm.ppf((np.arange(count) + 0.5) / count))
    base /= base.std()
    for direction in (1, -1):
        near, far = 0.0, 5.0
        for _ in range(40):
            middle = (near + far) / 2
            against = misfit(sample_of(base * math.exp(direction * middle), "float64"), law, alarm)
            near, far = (middle, far) if against is None else (near, middle)
        squares = count * math.exp(2 * direction * far)
        tail = stats.chi2.sf(squares, count - 1) if direction > 0 else stats.chi2.cdf(squares, count - 1)
        assert tail <= alarm / 2
        assert tail > 0 or count < 200 or direction < 0


def test_infinities_and_extremes_are_of_all_elements() -> None:
    values = np.zeros((1000, 3000), np.float32)
    values[::2] = 1.0
    values[999, 2999] = 7.0
    values[17, 5] = np.inf
    values[18, 6] = np.nan
    sample = sample_of(values.T, "float32")
    assert (sample.low, sample.high, sample.bad, sample.size) == (0.0, 7.0, 2, 3_000_000)
    assert len(sample.values) <= 65536
    assert sample_of(np.full(3, np.nan), "float64").bad == 3


def test_rules_that_are_alike_are_told_by_their_std() -> None:
    rng = np.random.default_rng(0)
    rules = known_rules((256, 64), layers=4, layer=2)
    for rule in rules:
        if rule.law.name != "normal":
            continue
        values = rng.normal(*rule.law.parameters, (256, 64)).astype(np.float32)
        found = named(sample_of(values, "float32"), rules, 1e-8)
        assert found is not None
        assert found.law.parameters[1] == pytest.approx(rule.law.parameters[1], rel=0.05)
