# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of narrow truncated normals share: the exact law inside a window, and p-values of samples that are rounded.

Places in a window [lower, upper], lower + upper >= 0, are offsets z - lower: differences of what may be nearly equal. A sample
of a dtype is one of the law rounded to the dtype's numbers, of which a narrow window has few.
"""

import math

import numpy as np

# Gauss and Legendre's rule on [0, 1]: of degree 63, more than enough for windows at most 2 wide and within +-40.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


def _mass(offset, lower):
    """The integral of the normal density from `lower` on, relative to the density at `lower`."""
    t = np.multiply.outer(offset, _NODES)
    return offset * (np.exp(-t * (np.asarray(lower)[..., None] + t / 2)) @ _WEIGHTS)


def cdf(offset, lower, width):
    """The distribution function of a standard normal truncated to [lower, lower + width]: relative error some 1e-14."""
    return _mass(np.clip(offset, 0, width), lower) / _mass(np.float64(width), lower)


def quantile(u, lower, width):
    """Its inverse by Newton's method on the probability above: error some 1e-14 of the width."""
    rest = (1 - u) * _mass(np.float64(width), lower)
    slope = (lower + width / 2) * width
    offset = width * (u if slope < 1e-6 else np.log1p(u * np.expm1(-slope)) / -slope)  # the density were exponential
    for _ in range(20):
        step = rest * np.exp(offset * (lower + offset / 2)) - _mass(width - offset, lower + offset)
        offset = np.clip(offset - step, 0, width)
        if np.abs(step).max() <= 1e-14 * width:
            return offset
    raise ArithmeticError(f"no convergence in [{lower}, {lower} + {width}]")


def spacing(x, dtype):
    """Of the numbers of a dtype at x, in float64."""
    if dtype == "bfloat16":  # 8 bits, and the exponents of float32
        return np.ldexp(1.0, np.maximum(np.frexp(x)[1] - 8, -133))
    return np.spacing(np.abs(x).astype(dtype)).astype(np.float64)


class Sample:
    """Distinct values of a sample, and the cells of the window that are rounded to them, as offsets.

    x : float64 numbers of `dtype`; what is sampled is std * z.
    """

    def __init__(self, x, dtype, lower, upper, std=1.0):
        if lower + upper < 0:
            x, lower, upper = -x, -upper, -lower
        self.lower, self.width, self.count = lower, upper - lower, len(x)
        values, self.counts = np.unique(x, return_counts=True)
        space = spacing(values, dtype) / std
        offsets = values / std - lower
        self.low, self.high = offsets - space / 2, offsets + space / 2
        # The outermost numbers inside the bounds have what is rounded to numbers beyond them.
        if offsets[0] - space[0] < 0:
            self.low[0] = 0
        if offsets[-1] + space[-1] > self.width:
            self.high[-1] = self.width

    def probabilities(self):
        """Of the cells."""
        return self._at(self.high) - self._at(self.low)

    def _at(self, offset):
        return cdf(offset, self.lower, self.width)

    def kolmogorov(self):
        """The p-value of Kolmogorov's test: the two distribution functions, compared at the ends of cells alone.

        There the rounded law has the values of the exact one. For a law with atoms the p-value is too large, never too small.
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
        """How many standard errors too many of the smallest and of the largest value there are."""
        expected = self.count * self.probabilities()[[0, -1]]
        return (self.counts[[0, -1]] - expected) / np.sqrt(expected + 1)


def distinct(u, dtype, lower, upper):
    """How many numbers of a dtype, inside the bounds, the exact quantiles of `u` are rounded to; at least 1.

    NumPy's dtypes; lower + upper >= 0.
    """
    offset = quantile(u, lower, upper - lower)
    if dtype == "float64" and lower > 0:  # the sum would round twice; `lower` is a number of the dtype
        return len(np.unique(np.rint(offset / np.spacing(lower))))
    values = np.unique((lower + offset).astype(dtype).astype(np.float64))  # NumPy sorts subnormal float16 wrongly
    return max(1, np.count_nonzero((values >= lower) & (values <= upper)))
