"""Initializers whose elements are drawn independently from one law."""

from __future__ import annotations

import math
from typing import Any

from .._core import normal_tail
from ..dtypes import check_shape
from ..elementary import exp
from ..sampling import Law
from .base import Initializer

__all__ = ["Drawn", "truncated_moments"]

_ROOT_2_PI = 2.5066282746310002


class Drawn(Initializer):
    """Elements drawn independently from one law, which may depend on the shape."""

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
            return (parameters[1] - parameters[0]) ** 2 / 12
        if law == "normal":
            return parameters[1] ** 2
        return parameters[1] ** 2 * truncated_moments(*parameters[2:])[1]

    def bounds(self, shape: Any) -> tuple[float, float]:
        law, parameters = self._law(check_shape(shape))
        if law == "uniform":
            return parameters[0], parameters[1]
        mean, std, *cut = parameters
        low, high = cut or (-math.inf, math.inf)
        return (mean + std * low, mean + std * high) if std else (mean, mean)


def truncated_moments(lower: float, upper: float) -> tuple[float, float]:
    """Mean and variance of a standard normal truncated to [lower, upper], without a libm: weights may depend on them."""

    def density(z: float) -> float:
        return float(exp(-z * z / 2)) / _ROOT_2_PI if abs(z) < 37 else 0.0

    def times(z: float) -> float:
        return z * density(z) if math.isfinite(z) else 0.0

    if upper - lower < 1:
        return _narrow_moments(lower, upper)
    # Differences of what is small on the interval's side of zero.
    near, far = (lower, upper) if lower >= 0 else (-upper, -lower)
    mass = normal_tail(near) - normal_tail(far)
    mean = (density(lower) - density(upper)) / mass
    return mean, 1 + (times(lower) - times(upper)) / mass - mean * mean


# Nodes and weights of Gauss-Legendre's rule on [-1, 1], five of them: half of the nodes above 0.
_GAUSS = ((0.0, 0.5688888888888889), (0.5384693101056831, 0.47862867049936647), (0.9061798459386640, 0.23692688505618908))


def _narrow_moments(lower: float, upper: float) -> tuple[float, float]:
    """The same by quadrature about the middle, where the difference of two tails would cancel."""
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    pieces = 32
    sums: list[list[float]] = [[], [], []]
    for i in range(pieces):
        for node, weight in _GAUSS:
            for t in {node, -node}:
                x = half * ((2 * i + 1 + t) / pieces - 1)
                density = weight * float(exp(-(middle + x / 2) * x))  # over that of the middle
                for power in range(3):
                    sums[power].append(density * x**power)
    mass, first, second = (math.fsum(one) for one in sums)
    mean = first / mass
    return middle + mean, second / mass - mean * mean
