"""Initializers whose elements are drawn independently from one law."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._common.dtypes import check_shape
from .._common.portable_math import exp
from .._stream.laws import Law
from .base import Initializer

__all__ = ["Independent", "truncated_moments"]


class Independent(Initializer):
    """Base class: elements drawn independently from one law, which may depend on the shape."""

    _complex = True

    def _law(self, shape: tuple[int, ...]) -> Law:
        raise NotImplementedError

    def _mean(self, shape: Any) -> float:
        law, parameters = self._law(check_shape(shape))
        if law == "uniform":
            return (parameters[0] + parameters[1]) / 2
        return parameters[0] + (parameters[1] * truncated_moments(*parameters[2:])[0] if parameters[2:] else 0.0)

    def variance(self, shape: Any) -> float:
        law, parameters = self._law(check_shape(shape))
        if law == "uniform":
            width = parameters[1] - parameters[0]
            return width * (width / 12)
        std = parameters[1] * (truncated_moments(*parameters[2:])[1] if parameters[2:] else 1.0)
        return std * std

    def bounds(self, shape: Any) -> tuple[float, float]:
        law, parameters = self._law(check_shape(shape))
        if law == "uniform":
            return parameters[0], parameters[1]
        mean, std, *cut = parameters
        low, high = cut or (-math.inf, math.inf)
        return (mean + std * low, mean + std * high) if std else (mean, mean)


# The nodes >= 0 of the five-point Gauss-Legendre rule on [-1, 1], and their weights; the rule is symmetric.
_GAUSS = ((0.0, 0.5688888888888889), (0.5384693101056831, 0.47862867049936647), (0.9061798459386640, 0.23692688505618908))
_INTERVALS = 64


def truncated_moments(lower: float, upper: float) -> tuple[float, float]:
    """Mean and standard deviation of a standard normal truncated to [lower, upper], however narrow or far out.

    By quadrature of the density relative to its maximum; formulas with differences of tail probabilities lose their digits
    between narrow bounds and far out. Relative error of the standard deviation: 2e-12. No function of the C library is used,
    because these differ between machines and weights depend on the result.
    """
    top = min(max(0.0, lower), upper)  # the density's maximum
    reach = 100 / (math.sqrt(top * top + 100) + abs(top))  # the distance at which it has fallen by e^-50
    low, high = max(lower - top, -reach), min(upper - top, reach)
    middle, half = (low + high) / 2, (high - low) / 2
    signed = [(sign * node, weight) for node, weight in _GAUSS for sign in ((1, -1) if node else (1,))]
    y = np.array([(2 * i + 1 + node) / _INTERVALS - 1 for i in range(_INTERVALS) for node, _ in signed])
    x = middle + half * y
    density = exp(-(top + x / 2) * x) * np.array([weight for _, weight in signed] * _INTERVALS)
    mass = math.fsum(density)
    mean = math.fsum(density * y) / mass
    return top + (middle + half * mean), half * math.sqrt(math.fsum(density * (y - mean) ** 2) / mass)
