# SPDX-License-Identifier: BSD-3-Clause
"""The deep stack in plain NumPy float64, written from its definition and sharing no code with it."""

import math
from fractions import Fraction

import numpy as np

_erf = np.vectorize(math.erf, otypes=[float])


def _sigmoid(z):
    return np.where(
        z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z)))
    )


# name: (phi, phi'), of float64 arrays
ACTIVATIONS = {
    "linear": (lambda z: z, lambda z: np.ones_like(z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(np.clip(z, -300, 300)) ** 2),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    "relu": (lambda z: np.where(z > 0, z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0)),
}

# An element counts as saturated where |phi'| is below this.
SATURATED = {"tanh": 0.0591, "sigmoid": 0.014775}


def moments(values):
    with np.errstate(all="ignore"):
        return (values.mean(), values.var(), (values**2).mean()) if values.size else (np.nan,) * 3


def propagate(weights, biases, activations, x, dy):
    """Output, weight, bias and input gradients, and per layer (z, a, delta) moments, saturated, dead."""
    a = [np.asarray(x, float)]
    z = []
    for w, b, name in zip(weights, biases, activations, strict=True):
        z.append(a[-1] @ np.asarray(w, float) + np.asarray(b, float))
        a.append(ACTIVATIONS[name][0](z[-1]))
    delta = np.asarray(dy, float)
    dw, db, layers = [], [], []
    for i in reversed(range(len(weights))):
        slope = ACTIVATIONS[activations[i]][1](z[i])
        delta = delta * slope
        dw.insert(0, a[i].T @ delta)
        db.insert(0, delta.sum(axis=0))
        layers.insert(
            0,
            (
                *(moments(v) for v in (z[i], a[i + 1], delta)),
                float((np.abs(slope) < SATURATED.get(activations[i], 0)).mean()),
                float((slope == 0).all(axis=0).mean()),
            ),
        )
        delta = delta @ np.asarray(weights[i], float).T
    return a[-1], dw, db, delta, layers


def rounded(value, digits, lowest):
    """A Fraction to the nearest float of `digits` binary digits and lowest exponent, ties to even."""
    if value == 0:
        return 0.0
    exponent = max(math.frexp(abs(value))[1] - digits, lowest)
    # frexp of a Fraction goes through a float, which may round up to the next power of two
    if exponent > lowest and abs(value) < Fraction(2) ** (exponent + digits - 1):
        exponent -= 1
    scale = Fraction(2) ** exponent
    return float(round(value / scale) * scale)


def fma_sum(left, right, dtype):
    """sum of left[k] * right[k] in index order, each step rounded once, from 0."""
    digits, lowest = (24, -149) if dtype == "float32" else (53, -1074)
    total = Fraction(0)
    for a, b in zip(left, right, strict=True):
        total = Fraction(rounded(Fraction(float(a)) * Fraction(float(b)) + total, digits, lowest))
    return float(total)
