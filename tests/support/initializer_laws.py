"""Shared by tests of random initializers: the normal distribution, a test of a sample, and one of 16-bit values."""

import math

import numpy as np
import pytest

from fastinit import Key


def kolmogorov_smirnov(sample, distribution):
    """Test at level 1e-6 that a sample has a given distribution function."""
    n = sample.size
    f = distribution(np.sort(sample, axis=None))
    steps = np.arange(n + 1) / n
    distance = max((steps[1:] - f).max(), (f - steps[:-1]).max())
    assert distance < math.sqrt(math.log(2 / 1e-6) / (2 * n))


def phi(z):
    return 0.5 * np.vectorize(math.erfc)(-np.asarray(z) / math.sqrt(2))


def moved_inside(initializer, shape, dtype):
    """Where 16-bit values are not the rounded float32 ones, as a mask. There, rounding would leave the bounds."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    half = initializer(shape, dtype, key=Key(8)).astype(np.float64)
    expected = initializer(shape, "float32", key=Key(8)).astype(dtype).astype(np.float64)
    low, high = initializer.bounds(shape)
    moved = half != expected
    assert ((expected[moved] < low) | (expected[moved] >= high)).all()
    return moved
