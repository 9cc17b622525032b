"""Nodes and weights of integrals over a normal distribution, cut into pieces of Gauss and Legendre's rule."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAR", "legendre", "nodes", "nodes_between"]

Array = NDArray[Any]

FAR = 13.0  # standard deviations: the density is 1e-37 there


@functools.cache
def legendre(points: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(points)


@functools.lru_cache(maxsize=64)
def nodes(kinks: tuple[float, ...] = (0.0,), decades: int = 4) -> tuple[Array, Array]:
    """Nodes and weights for E f(z), z ~ N(0, 1): Gauss-Legendre on pieces that meet at the kinks, the first of 10^-decades."""
    x, w = legendre(20)
    # Pieces double away from 0: with a wide normal a tanh is steep there.
    half_line = np.concatenate([[0.0], np.geomspace(10.0**-decades, 1.0, 3 * decades + 1), np.arange(1.5, FAR + 0.1, 0.5)])
    edges = np.concatenate([-half_line, half_line, [k for k in kinks if abs(k) < FAR]])
    edges = np.unique(edges)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    z = (middle[:, None] + half[:, None] * x).ravel()
    weight = (half[:, None] * w).ravel() * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return z, weight


def nodes_between(cuts: Any) -> tuple[Array, Array]:
    """As `nodes`, with fewer pieces, cut where it is said: for the inner integral."""
    x, w = legendre(24)
    cuts = np.ravel(cuts)
    edges = np.unique(np.concatenate([np.arange(-FAR, FAR + 0.1, 1.0), cuts[np.abs(cuts) < FAR]]))
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    z = (middle[:, None] + half[:, None] * x).ravel()
    return z, (half[:, None] * w).ravel() * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
