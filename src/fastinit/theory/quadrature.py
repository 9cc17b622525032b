"""Nodes and weights for means over one normal or over two correlated ones, by composite Gauss-Legendre quadrature."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CUTOFF", "legendre", "nodes", "pair_nodes"]

Array = NDArray[Any]

CUTOFF = 13.0  # standard deviations at which integrals end: the density is 1e-37 there
_FAR = (3.0, 4.5, 6.0, 7.5, 9.5)  # ends of a ray's pieces beyond the first, of 1.5; the density is 1e-19 at the last
_PAIR_POINTS = 10  # of an interval
_BLOCK = 1 << 19  # nodes that are made at once
_EXTRA = 2  # halvings of a sector's pieces for kinks off 0, which come in from far along a ray as e^(-1/t^2) does


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
    edges = np.concatenate([_edges(decades), [k for k in kinks if abs(k) < CUTOFF]])
    return _composite(np.unique(edges), 20)


@functools.cache
def _edges(decades: int) -> Array:
    half_line = np.concatenate([[0.0], np.geomspace(10.0**-decades, 1.0, 3 * decades + 1), np.arange(1.5, CUTOFF + 0.1, 0.5)])
    return np.concatenate([-half_line, half_line])


def _in_pieces(edges: Array) -> tuple[Array, Array]:
    """Nodes and weights of the Gauss-Legendre rule on every interval between two edges, along the last axis."""
    x, w = legendre(_PAIR_POINTS)
    begin, length = edges[..., :-1, None], np.diff(edges)[..., None]
    shape = (*edges.shape[:-1], -1)
    return (begin + length * ((x + 1) / 2)).reshape(shape), (length * (w / 2)).reshape(shape)


@functools.lru_cache(maxsize=64)
def _sector(halvings: int) -> tuple[Array, Array]:
    """Nodes and weights on [0, 1], in pieces that halve towards both ends."""
    half = 2.0 ** -np.arange(halvings, 0, -1)
    return _in_pieces(np.unique(np.concatenate([[0.0], half, 1 - half, [1.0]])))


@functools.lru_cache(maxsize=64)
def _ray_edges(halvings: int) -> Array:
    return np.concatenate([[0.0], 1.5 * 2.0 ** -np.arange(halvings, -1, -1), _FAR])


@functools.lru_cache(maxsize=64)
def _ray(halvings: int) -> tuple[Array, Array]:
    r, w = _in_pieces(_ray_edges(halvings))
    return r, w * r * np.exp(-r * r / 2)


def pair_nodes(
    kinks: tuple[float, ...], apart: Array, q1: Array, q2: Array, most: int = 2000
) -> Iterator[tuple[Array, Array, Array]]:
    """u, v and w with E f(u, v) = sum of w f(u, v) for correlated normals u and v: arrays of shape (pairs, nodes).

    They come in blocks, over all of which the sum goes; up to a variance of 1e8, one pair's nodes are in one block.

    If the two variances are equal, f must be symmetric, because half of the plane is enough then.

    In polar coordinates u = sqrt(q1) r cos(t) and v = sqrt(q2) r cos(t - a), where cos(a) is the correlation, t is uniform and
    r has the density r e^(-r^2/2). A function with a kink at 0 has it on the lines u = 0 and v = 0, at angles t that do
    not depend on r. In the sectors between these lines the integrand is smooth, so that a few thousand nodes are right
    to rounding errors. For a correlation near 1 the sector in which u and v differ in sign becomes narrow, and nothing is
    lost. Other kinks are lines too, and intervals of r end where they cross them.

    Parameters
    ----------
    kinks : tuple of float
        Where f has kinks in u and in v; 0 always counts as one.
    apart : ndarray of shape (pairs,), in [0, 2]
        1 - the correlation, which is known to more digits than the correlation where that is near 1.
    q1, q2 : ndarray of shape (pairs,), > 0
        The two variances.
    most : int
        How often intervals are halved at most, towards the lines and towards r = 0. A tanh of a normal of variance 4^k bends
        within 2^-k: 16 are enough up to a variance of 1e8.
    """
    if np.array_equal(q1, q2):
        yield from _half_plane(kinks, apart, q1, q2, most)
        return
    for u, v, w in _half_plane(kinks, apart, q1, q2, most):
        yield u, v, w / 2
    for v, u, w in _half_plane(kinks, apart, q2, q1, most):
        yield u, v, w / 2


def _half_plane(
    kinks: tuple[float, ...], apart: Array, q1: Array, q2: Array, most: int
) -> Iterator[tuple[Array, Array, Array]]:
    """The nodes with t in [a/2, a/2 + pi], which together with their mirror images, u and v exchanged, are all; w is doubled."""
    root = math.sqrt(max(q1.max(), q2.max(), 1e-300))
    between = 2 * np.arcsin(np.sqrt(apart / 2))[:, None]  # a
    begin = between / 2
    cuts = [begin, np.full_like(begin, math.pi / 2), math.pi / 2 + between, begin + math.pi]
    others = np.array([kink for kink in kinks if kink != 0])
    at_u, at_v = others / np.sqrt(q1)[:, None], others / np.sqrt(q2)[:, None]
    if len(others):  # where a kink of u meets one of v, pieces of the rays change their order
        x, y = at_u[:, :, None], at_v[:, None, :]
        sine = np.sqrt(apart * (2 - apart))[:, None, None]
        corners = np.arctan2(y - x + x * apart[:, None, None], x * sine).reshape(len(apart), -1)
        cuts.append(np.minimum(np.mod(corners - begin, 2 * math.pi), math.pi) + begin)
    edges = np.sort(np.concatenate(cuts, axis=1), axis=1)
    length = np.diff(edges)
    # A function that bends over a width of 1 in u or v does so over 1 / root in r, and over less than half of that in t.
    halvings = max(1, min(most, math.ceil(math.log2(length.max() * root / 0.4))))
    t, share = _sector(halvings + _EXTRA * (len(others) > 0))
    theta = (edges[:, :-1, None] + length[..., None] * t).reshape(len(apart), -1)
    weight = (length[..., None] * share).reshape(len(apart), -1) / math.pi
    cos_u, cos_v = np.cos(theta), np.cos(theta - between)
    halvings = max(0, min(most, math.ceil(math.log2(root)) + 1))
    fixed = _ray_edges(halvings)
    r, along = _ray(halvings)
    rays = max(1, _BLOCK // ((len(fixed) + 2 * len(others)) * _PAIR_POINTS * len(apart)))
    shape = (len(apart), -1)
    for begin_of_block in range(0, theta.shape[1], rays):
        block = slice(begin_of_block, begin_of_block + rays)
        along_u, along_v = cos_u[:, block, None], cos_v[:, block, None]
        if len(others):
            with np.errstate(divide="ignore", over="ignore"):
                crossed = np.concatenate([at_u[:, None] / along_u, at_v[:, None] / along_v], axis=2)
            ends = np.where((crossed > 0) & (crossed < fixed[-1]), crossed, fixed[-1])
            edges = np.sort(np.concatenate([np.broadcast_to(fixed, (*ends.shape[:2], len(fixed))), ends], axis=2), axis=2)
            r, along = _in_pieces(edges)
            along = along * r * np.exp(-r * r / 2)
        u = np.sqrt(q1)[:, None] * (along_u * r).reshape(shape)
        v = np.sqrt(q2)[:, None] * (along_v * r).reshape(shape)
        yield u, v, (weight[:, block, None] * along).reshape(shape)
