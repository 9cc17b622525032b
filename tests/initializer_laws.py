"""What tests of random initializers share: the normal law and a test of a sample against a law."""

import math

import numpy as np


def kolmogorov_smirnov(sample, distribution):
    """Level-1e-6 test that a sorted sample has a distribution function."""
    n = sample.size
    f = distribution(np.sort(sample, axis=None))
    steps = np.arange(n + 1) / n
    distance = max((steps[1:] - f).max(), (f - steps[:-1]).max())
    assert distance < math.sqrt(math.log(2 / 1e-6) / (2 * n))


def phi(z):
    return 0.5 * np.vectorize(math.erfc)(-np.asarray(z) / math.sqrt(2))
