# SPDX-License-Identifier: BSD-3-Clause
"""Shared by tests of narrow truncated normals: the exact distribution in a window, and p-values of rounded samples.

A point z of the window [lower, upper], lower + upper >= 0, is given by its offset z - lower, which is accurate where z and
lower are nearly equal. A sample of a dtype is rounded to its numbers, of which a narrow window has few.
"""

import math

import numpy as np

# Gauss-Legendre quadrature on [0, 1], of degree 63: more than enough for windows of width up to 2 within +-40.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


def _mass(offset, lower):
    """The integral of the normal density from `lower` on, relative to the density at `lower`."""
    t = np.multiply.outer(offset, _NODES)
    return offset * (np.exp(-t * (np.asarray(lower)[..., None] + t / 2)) @ _WEIGHTS)


def cdf(offset, lower, width):
    """The distribution function of a standard normal truncated to [lower, lower + width]; relative error about 1e-14."""
    return _mass(np.clip(offset, 0, width), lower) / _mass(np.float64(width), lower)


def quantile(u, lower, width):
    """The inverse of `cdf`, by Newton's method on the probability above; error about 1e-14 of the width."""
    rest = (1 - u) * _mass(np.float64(width), lower)
    rate = (lower + width / 2) * width
    # The start is exact for an exponential density of this rate.
    offset = width * (u if rate < 1e-6 else np.log1p(u * np.expm1(-rate)) / -rate)
    for _ in range(20):
        step = rest * np.exp(offset * (lower + offset / 2)) - _mass(width - offset, lower + offset)
        offset = np.clip(offset - step, 0, width)
        if np.abs(step).max() <= 1e-14 * width:
            return offset
    raise ArithmeticError(f"no convergence in [{lower}, {lower} + {width}]")


def spacing(x, dtype):
    """The distance between neighbouring numbers of a dtype at x, in float64."""
    if dtype == "bfloat16":  # 8 significant bits, exponents as of float32
        return np.ldexp(1.0, np.maximum(np.frexp(x)[1] - 8, -133))
    return np.spacing(np.abs(x).astype(dtype)).astype(np.float64)


class Sample:
    """The distinct values of a sample, and the intervals of the window that are rounded to them (cells), as offsets.

    `x` has numbers of `dtype` in float64, which are std * z rounded.
    """

    def __init__(self, x, dtype, lower, upper, std=1.0):
        if lower + upper < 0:
            x, lower, upper = -x, -upper, -lower
        self.lower, self.width, self.count = lower, upper - lower, len(x)
        values, self.counts = np.unique(x, return_counts=True)
        space = spacing(values, dtype) / std
        offsets = values / std - lower
        self.low, self.high = offsets - space / 2, offsets + space / 2
        # The cells of the outermost numbers inside the bounds extend to the bounds.
        if offsets[0] - space[0] < 0:
            self.low[0] = 0
        if offsets[-1] + space[-1] > self.width:
            self.high[-1] = self.width

    def probabilities(self):
        """The exact probabilities of the cells."""
        return self._at(self.high) - self._at(self.low)

    def _at(self, offset):
        return cdf(offset, self.lower, self.width)

    def kolmogorov(self):
        """The p-value of Kolmogorov's test, which compares the two distribution functions at the ends of the cells.

        There rounding does not change the distribution function. With few cells the p-value is too large, never too small.
        """
        n, below = self.count, np.cumsum(self.counts)
        distance = max(
            np.abs(below / n - self._at(self.high)).max(), np.abs((below - self.counts) / n - self._at(self.low)).max()
        )
        s = distance * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))
        if s < 0.3:
            return 1.0
        return min(max(sum(2 * (-1) ** (j - 1) * math.exp(-2 * (j * s) ** 2) for j in range(1, 101)), 0.0), 1.0)

    def at_bounds(self):
        """By how many standard errors the counts of the smallest and of the largest value exceed the expected ones."""
        expected = self.count * self.probabilities()[[0, -1]]
        return (self.counts[[0, -1]] - expected) / np.sqrt(expected + 1)


def distinct(u, dtype, lower, upper):
    """The number of distinct values inside the bounds when the exact quantiles of `u` are rounded to a dtype; at least 1.

    For dtypes of NumPy, and lower + upper >= 0.
    """
    offset = quantile(u, lower, upper - lower)
    if dtype == "float64" and lower > 0:  # without the sum, which would round twice; `lower` is a number of the dtype
        return len(np.unique(np.rint(offset / np.spacing(lower))))
    values = np.unique((lower + offset).astype(dtype).astype(np.float64))  # NumPy sorts subnormal float16 wrongly
    return max(1, np.count_nonzero((values >= lower) & (values <= upper)))
