"""Mean-field theory of wide random networks, by quadrature.

A layer z = a W + b of independent weights of variance sigma_w^2 / fan_in and biases of variance sigma_b^2 has, in the limit of
many units, normal pre-activations of variance q' = sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2 (Poole, Lahiri, Raghu, Sohl-Dickstein &
Ganguli, "Exponential expressivity in deep neural networks through transient chaos", 2016), and its gradients' energy grows
per layer, backward, by chi_1 = sigma_w^2 E phi'(sqrt(q) z)^2 (Schoenholz, Gilmer, Ganguli & Sohl-Dickstein, "Deep information
propagation", 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "chi_1", "correlation_map", "expectation", "fixed_point", "function", "slope", "variance_map",
]  # fmt: skip

Array = NDArray[Any]
_FLOAT = np.float64


def _nodes() -> tuple[Array, Array]:
    """Nodes and weights for E f(z), z ~ N(0, 1): Gauss-Legendre on pieces that meet at 0, where ReLU has its kink."""
    x, w = np.polynomial.legendre.leggauss(20)
    # Pieces double away from 0: with a wide normal a tanh is steep there.
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 13), np.arange(1.5, 13.1, 0.5)])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    z = (middle[:, None] + half[:, None] * x).ravel()
    weight = (half[:, None] * w).ravel() * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return np.concatenate([-z[::-1], z]), np.concatenate([weight[::-1], weight])


_Z, _W = _nodes()

_FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "linear": (lambda z: z, np.ones_like),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (
        lambda z: 0.5 * (1 + np.tanh(z / 2)),
        lambda z: 0.25 * (1 - np.tanh(z / 2) ** 2),
    ),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(_FLOAT)),
}


def _pair(activation: str) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    if activation not in _FUNCTIONS:
        raise ValueError(f"activation: expected one of {', '.join(_FUNCTIONS)}, got {activation!r}")
    return _FUNCTIONS[activation]


def function(activation: str) -> Callable[[Array], Array]:
    """phi, elementwise."""
    return _pair(activation)[0]


def slope(activation: str) -> Callable[[Array], Array]:
    """phi', elementwise."""
    return _pair(activation)[1]


def expectation(f: Callable[[Array], Array], variance: float = 1.0) -> float:
    """E f(z) for z ~ N(0, variance)."""
    return float(_W @ f(math.sqrt(variance) * _Z))


def variance_map(activation: str, q: float, weight_variance: float, bias_variance: float = 0.0) -> float:
    """The next layer's pre-activation variance: sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2."""
    phi = function(activation)
    return weight_variance * expectation(lambda z: phi(z) ** 2, q) + bias_variance


def chi_1(activation: str, q: float, weight_variance: float) -> float:
    """Growth of the gradients' energy per layer: sigma_w^2 E phi'(sqrt(q) z)^2."""
    phi_slope = slope(activation)
    return weight_variance * expectation(lambda z: phi_slope(z) ** 2, q)


def fixed_point(
    activation: str, weight_variance: float, bias_variance: float = 0.0, start: float = 1.0
) -> float:
    """q* with variance_map(q*) = q*, by iteration with Steffensen's acceleration; 0 where the signal dies.

    Raises
    ------
    ValueError
        If the iteration leaves every bound: there is no finite fixed point.
    """

    def step(q: float) -> float:
        return variance_map(activation, max(q, 0.0), weight_variance, bias_variance)

    q = start
    for _ in range(2000):
        a = step(q)
        b = step(a)
        if not math.isfinite(b) or b > 1e12:
            raise ValueError(
                f"weight_variance: expected one with a finite fixed point for {activation}, "
                f"got {weight_variance}"
            )
        bend = b - 2 * a + q
        jump = q - (a - q) ** 2 / bend if bend else b
        new = jump if jump >= 0 and math.isfinite(jump) else b
        if abs(new - q) <= 1e-15 * max(1.0, q):
            return new
        q = new
    return q


def correlation_map(
    activation: str, c: float, q: float, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """Correlation of two inputs' pre-activations after a layer that keeps their variance at q."""
    phi = function(activation)
    root = math.sqrt(q)
    other = math.sqrt(max(0.0, 1 - c * c))
    # E over the second, independent normal for every node of the first.
    inner = np.array([float(_W @ phi(root * (c * z + other * _Z))) for z in _Z])
    covariance = weight_variance * float(_W @ (phi(root * _Z) * inner)) + bias_variance
    return covariance / variance_map(activation, q, weight_variance, bias_variance)
