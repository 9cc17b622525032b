"""Nodes and weights of integrals over two correlated normal numbers, in polar coordinates.

u = sqrt(q1) r cos(t) and v = sqrt(q2) r cos(t - a), where the correlation is cos(a), r has the density r e^(-r^2/2), and t is
uniform. A function with a kink at 0 has it along the lines u = 0 and v = 0, at angles that do not depend on r: between them
the integrand is as smooth as the function is on the sides of 0, and some thousand nodes of Gauss and Legendre's rule are right
to rounding errors. The sector in which u and v differ in sign is as thin as it is for correlations near 1, so that these lose
nothing. Other kinks are lines too; where they cut a ray, its pieces end.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .quadrature import legendre

__all__ = ["pair_nodes"]

Array = NDArray[Any]

_FAR = (3.0, 4.5, 6.0, 7.5, 9.5)  # ends of a ray's pieces beyond the first, of 1.5; the density is 1e-19 at the last
_POINTS = 12  # of a piece
_MORE = 2
_WAVE = 4.0  # the most of its argument that a sine sees of a piece


def _in_pieces(edges: Array) -> tuple[Array, Array]:
    """Nodes and weights of all pieces between edges, along the last axis."""
    x, w = legendre(_POINTS)
    begin, length = edges[..., :-1, None], np.diff(edges)[..., None]
    shape = (*edges.shape[:-1], -1)
    return (begin + length * ((x + 1) / 2)).reshape(shape), (length * (w / 2)).reshape(shape)


@functools.lru_cache(maxsize=64)
def _sector(halvings: int) -> tuple[Array, Array]:
    """Nodes and weights on [0, 1], in pieces that halve towards both ends."""
    half = 2.0 ** -np.arange(halvings, 0, -1)
    return _in_pieces(np.unique(np.concatenate([[0.0], half, 1 - half, [1.0]])))


@functools.lru_cache(maxsize=64)
def _ray_edges(halvings: int, most: float) -> Array:
    edges = np.concatenate([[0.0], 1.5 * 2.0 ** -np.arange(halvings, -1, -1), _FAR])
    if most < 1.5:
        edges = np.union1d(edges, np.linspace(0, edges[-1], math.ceil(edges[-1] / most) + 1))
    return edges


@functools.lru_cache(maxsize=64)
def _ray(halvings: int, most: float) -> tuple[Array, Array]:
    r, w = _in_pieces(_ray_edges(halvings, most))
    return r, w * r * np.exp(-r * r / 2)


def pair_nodes(kinks: tuple[float, ...], apart: Array, q1: Array, q2: Array, *, waves: bool = False) -> tuple[Array, Array, Array]:
    """u, v and w so that E f(u, v) = sum of w f(u, v) for pairs of normals, as arrays of shape (pairs, nodes).

    Where a pair's two variances are equal, f must be symmetric, as half of the plane is enough then.

    Parameters
    ----------
    kinks : tuple of float
        Where f has kinks in u and in v; 0 is taken for one always.
    apart : ndarray of shape (pairs,), in [0, 2]
        1 - the correlation, which for nearly equal numbers is known to more digits.
    q1, q2 : ndarray of shape (pairs,), > 0
        The two variances.
    waves : bool, default False
        Whether f oscillates all over the plane, as a sine does, so that wide normals want more nodes everywhere.
    """
    if np.array_equal(q1, q2):
        return _half_plane(kinks, apart, q1, q2, waves)
    halves = (_half_plane(kinks, apart, q1, q2, waves), _half_plane(kinks, apart, q2, q1, waves))
    (u1, v1, w1), (v2, u2, w2) = halves
    return np.concatenate([u1, u2], -1), np.concatenate([v1, v2], -1), np.concatenate([w1, w2], -1) / 2


def _half_plane(kinks: tuple[float, ...], apart: Array, q1: Array, q2: Array, waves: bool) -> tuple[Array, Array, Array]:
    """The nodes with t in [a/2, a/2 + pi], which together with their mirror images, u and v exchanged, are all; w is doubled."""
    root = math.sqrt(max(q1.max(), q2.max(), 1e-300))
    steep = math.ceil(math.log2(root))  # a bend of width 1 is 2^-steep wide in r
    most = _WAVE / root if waves else 1.5
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
    # The bends about a line are some 1 / (2 root) wide in t; kinks that come from far along a ray, like e^(-1/x^2), want more.
    t, share = _sector(max(1, math.ceil(math.log2(length.max() * root / 0.4)) + _MORE * (len(others) > 0)))
    theta = (edges[:, :-1, None] + length[..., None] * t).reshape(len(apart), -1)
    weight = (length[..., None] * share).reshape(len(apart), -1) / math.pi
    cos_u, cos_v = np.cos(theta), np.cos(theta - between)
    halvings = max(0, steep + 1)
    if len(others):
        with np.errstate(divide="ignore", over="ignore"):
            crossed = np.concatenate([at_u[:, None] / cos_u[..., None], at_v[:, None] / cos_v[..., None]], axis=2)
        fixed = _ray_edges(halvings, most)
        ends = np.where((crossed > 0) & (crossed < fixed[-1]), crossed, fixed[-1])
        r, along = _in_pieces(np.sort(np.concatenate([np.broadcast_to(fixed, (*theta.shape, len(fixed))), ends], axis=2), axis=2))
        along = along * r * np.exp(-r * r / 2)
    else:
        r, along = _ray(halvings, most)
    shape = (len(apart), -1)
    u = np.sqrt(q1)[:, None] * (cos_u[..., None] * r).reshape(shape)
    v = np.sqrt(q2)[:, None] * (cos_v[..., None] * r).reshape(shape)
    return u, v, (weight[..., None] * along).reshape(shape)
