"""Nodes and weights for means over the standard normal distribution, by composite Gauss-Legendre quadrature."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CUTOFF", "legendre", "nodes", "nodes_between"]

Array = NDArray[Any]

CUTOFF = 13.0  # standard deviations at which integrals end: the density is 1e-37 there


@functools.cache
def legendre(points: int) -> tuple[Array, Array]:
    """Nodes and weights of the Gauss-Legendre rule on [-1, 1]."""
    return np.polynomial.legendre.leggauss(points)


def _composite(edges: Array, points: int) -> tuple[Array, Array]:
    """Nodes and weights for E f(z), z ~ N(0, 1): the Gauss-Legendre rule on every interval between two edges."""
    x, w = legendre(points)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    z = (middle[:, None] + half[:, None] * x).ravel()
    return z, (half[:, None] * w).ravel() * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


@functools.lru_cache(maxsize=64)
def nodes(kinks: tuple[float, ...] = (), decades: int = 4) -> tuple[Array, Array]:
    """Nodes and weights for E f(z), z ~ N(0, 1), where f is smooth between the kinks and 0.

    Below 1 the intervals shrink geometrically towards 0, from 1 to 10^-decades, because an activation
    of a normal with a large variance, such as tanh(100 z), is steep at 0.
    """
    half_line = np.concatenate([[0.0], np.geomspace(10.0**-decades, 1.0, 3 * decades + 1), np.arange(1.5, CUTOFF + 0.1, 0.5)])
    edges = np.concatenate([-half_line, half_line, [k for k in kinks if abs(k) < CUTOFF]])
    return _composite(np.unique(edges), 20)


def nodes_between(cuts: Any) -> tuple[Array, Array]:
    """Nodes and weights for E f(z), z ~ N(0, 1), on intervals of length 1 that are also divided at `cuts`.

    There are fewer intervals than in `nodes`: this is the inner integral of a double one.
    """
    cuts = np.ravel(cuts)
    edges = np.concatenate([np.arange(-CUTOFF, CUTOFF + 0.1, 1.0), cuts[np.abs(cuts) < CUTOFF]])
    return _composite(np.unique(edges), 24)
