"""Means over two correlated normals, u and v: in closed form where there is one, else by quadrature.

All functions take arrays of one shape and return one of that shape: `apart`, in [0, 2], is 1 - the correlation, which is known
to more digits than the correlation where two inputs have nearly become one; q1 and q2 > 0 are the variances of u and v. `most`
is that of `pair_nodes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import Activation
from .maps import slope_moment
from .quadrature import pair_nodes

__all__ = ["both_product_means", "half_squared_difference", "product_mean", "slope_product_mean", "squares_means"]

Array = NDArray[Any]

_AT_ONCE = 1 << 15  # nodes, of as many pairs as that makes: their arrays stay in the cache
_LINEAR = 1e-15  # 1 - correlation up to which phi is a straight line between u and v, to 1e-7 if it has a kink


def angle(apart: Array) -> Array:
    """The angle whose cosine is the correlation."""
    return 2 * np.arcsin(np.sqrt(apart / 2))


def _quadrature(
    phi: Activation, apart: Array, q1: Array, q2: Array, f: Callable[[Array, Array], tuple[Array, ...]], most: int = 2000
) -> list[Array]:
    """E f(u, v) for every pair and each of some functions, which have the kinks of phi."""
    if not len(apart):
        return [np.empty(0)]
    found: list[list[Array]] = []
    begin, many = 0, 1
    while begin < len(apart):
        rows = slice(begin, begin + many)
        sums, nodes = [], 0
        for u, v, w in pair_nodes(phi.kinks, apart[rows], q1[rows], q2[rows], most):
            sums.append([np.sum(w * values, axis=1) for values in f(u, v)])
            nodes += w.shape[1]
        found.append([np.sum(parts, axis=0) for parts in zip(*sums, strict=True)])
        begin, many = begin + many, max(1, _AT_ONCE // nodes)
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def product_mean(phi: Activation, apart: Array, q1: Array, q2: Array) -> Array:
    """E phi(u) phi(v); for ReLU and its like Cho & Saul's kernel of degree 1."""
    if phi._leak is not None:
        a = angle(apart)
        arc = (np.sin(a) + (math.pi - a) * (1 - apart)) / math.pi
        means: Array = np.sqrt(q1) * np.sqrt(q2) * (phi._leak * (1 - apart) + (1 - phi._leak) ** 2 / 2 * arc)
        return means
    if phi._name == "sin":  # e^(-(q1 + q2) / 2) sinh(c sqrt(q1 q2))
        return _difference_of_waves(apart, q1, q2, -1.0)
    return _quadrature(phi, apart, q1, q2, lambda u, v: (phi._values(u) * phi._values(v),))[0]


def slope_product_mean(phi: Activation, apart: Array, q1: Array, q2: Array) -> Array:
    """E phi'(u) phi'(v); for ReLU and its like Cho & Saul's kernel of degree 0."""
    if phi._leak is not None:
        return phi._leak + (1 - phi._leak) ** 2 * (math.pi - angle(apart)) / (2 * math.pi)
    if phi._name == "sin":
        return _difference_of_waves(apart, q1, q2, 1.0)
    return _quadrature(phi, apart, q1, q2, lambda u, v: (phi._slopes(u) * phi._slopes(v),))[0]


def both_product_means(phi: Activation, apart: Array, q1: Array, q2: Array) -> tuple[Array, Array]:
    """`product_mean` and `slope_product_mean`, by one pass over the nodes."""
    if phi._leak is not None or phi._name == "sin" or not len(apart):
        return product_mean(phi, apart, q1, q2), slope_product_mean(phi, apart, q1, q2)

    def products(u: Array, v: Array) -> tuple[Array, ...]:
        (value_u, slope_u), (value_v, slope_v) = phi._both(u), phi._both(v)
        return value_u * value_v, slope_u * slope_v

    values, slopes = _quadrature(phi, apart, q1, q2, products)
    return values, slopes


def _difference_of_waves(apart: Array, q1: Array, q2: Array, sign: float) -> Array:
    """E of cos((u - v)) / 2 and of sign cos(u + v) / 2: products of sines or cosines."""
    both = np.sqrt(q1) * np.sqrt(q2)
    nearer = np.exp(-((np.sqrt(q1) - np.sqrt(q2)) ** 2) / 2 - both * apart)
    means: Array = (nearer + sign * np.exp(-((np.sqrt(q1) + np.sqrt(q2)) ** 2) / 2 + both * apart)) / 2
    return means


def half_squared_difference(phi: Activation, apart: Array, q: Array, most: int = 2000) -> Array:
    """E (phi(u) - phi(v))^2 / 2, both of variance q: to a relative precision also for nearly equal u and v."""
    if phi._leak is not None:
        a = angle(apart)
        series = a**3 * (1 / 3 - a**2 * (1 / 30 - a**2 * (1 / 840 - a**2 * (1 / 45360 - a**2 / 3991680))))
        bent = apart - np.where(a < 0.3, series, np.sin(a) - a * np.cos(a)) / math.pi
        means: Array = q * (phi._leak * apart + (1 - phi._leak) ** 2 / 2 * bent)
        return means
    if phi._name == "sin":
        means = -np.expm1(-q * apart) * (1 + np.exp(-q * (2 - apart))) / 2
        return means
    means = np.empty(len(apart))
    near = apart < _LINEAR
    for i in np.flatnonzero(near):
        means[i] = q[i] * apart[i] * slope_moment(phi, float(q[i]))
    if not near.all():
        far = ~near
        means[far] = _quadrature(
            phi, apart[far], q[far], q[far], lambda u, v: ((phi._values(u) - phi._values(v)) ** 2 / 2,), most
        )[0]
    return means


def squares_means(phi: Activation, apart: float, q: float, most: int = 16) -> tuple[float, float, float]:
    """E phi(u)^2 phi(v)^2, E phi'(u)^2 phi'(v)^2 and E phi(u)^2 phi'(v)^2, each divided by what it is for independent u and v."""
    if phi._leak is not None:
        a, c = float(angle(np.array(apart))), 1 - apart
        leak, bent = phi._leak**2, 1 - phi._leak**2  # phi(u)^2 = leak u^2 + bent relu(u)^2
        arc_0, arc_1 = (math.pi - a) / (2 * math.pi), (math.pi - a + math.sin(a) * math.cos(a)) / (2 * math.pi)
        arc_2 = (3 * math.sin(a) * math.cos(a) + (math.pi - a) * (1 + 2 * c * c)) / (2 * math.pi)
        unit = ((1 + leak) / 2) ** 2
        return (
            (leak * (leak + bent) * (1 + 2 * c * c) + bent**2 * arc_2) / unit,
            (leak * (leak + bent) + bent**2 * arc_0) / unit,
            (leak * (leak + bent) + bent**2 * arc_1) / unit,
        )
    blocks = list(pair_nodes(phi.kinks, np.array([apart]), np.array([q]), np.array([q]), most))
    u, v, w = (np.concatenate(parts, axis=1)[0] for parts in zip(*blocks, strict=True))
    (value_u, slope_u), (value_v, slope_v) = phi._both(u), phi._both(v)
    for one, other in ((value_u, value_v), (slope_u, slope_v)):
        largest = max(np.abs(one).max(), np.abs(other).max()) or 1.0  # so that no square overflows
        for values in (one, other):
            values /= largest
            np.square(values, out=values)

    def mean(products: Array) -> float:
        return float(np.sum(w * products))  # no BLAS, whose threads take longer than the sum

    value, slope = mean(value_u + value_v) / 2, mean(slope_u + slope_v) / 2
    if value == 0 or slope == 0:
        return 1.0, 1.0, 1.0
    return (
        mean(value_u * value_v) / value / value,
        mean(slope_u * slope_v) / slope / slope,
        mean(value_u * slope_v + value_v * slope_u) / 2 / value / slope,
    )
