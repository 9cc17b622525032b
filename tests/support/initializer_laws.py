"""What tests of random initializers share: the normal law, a test of a sample against a law, and one of 16-bit values."""

import math

import numpy as np
import pytest

from fastinit import Key


def kolmogorov_smirnov(sample, distribution):
    """Level-1e-6 test that a sorted sample has a distribution function."""
    n = sample.size
    f = distribution(np.sort(sample, axis=None))
    steps = np.arange(n + 1) / n
    distance = max((steps[1:] - f).max(), (f - steps[:-1]).max())
    assert distance < math.sqrt(math.log(2 / 1e-6) / (2 * n))


def phi(z):
    return 0.5 * np.vectorize(math.erfc)(-np.asarray(z) / math.sqrt(2))


def moved_inside(initializer, shape, dtype):
    """Which 16-bit values are not the roundings of the float32 ones: each rounds out of the bounds, and is the bound inside."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    half = initializer(shape, dtype, key=Key(8)).astype(np.float64)
    expected = initializer(shape, "float32", key=Key(8)).astype(dtype).astype(np.float64)
    low, high = initializer.bounds(shape)
    moved = half != expected
    assert ((expected[moved] < low) | (expected[moved] >= high)).all()
    return moved
