# SPDX-License-Identifier: BSD-3-Clause
"""`Stack` in plain NumPy float64, written from the definition without its code."""

import math
from fractions import Fraction

import numpy as np
from exact_activations import in_numpy

from fastinit import _core

# name: (phi, phi'), of float64 arrays, with the default of a parameter
ACTIVATIONS = {name: in_numpy(name, traits.default_parameter) for name, traits in _core.TRAITS.items()}


def moments(values):
    with np.errstate(all="ignore"):
        if not values.size:
            return (np.nan,) * 5
        return values.mean(), values.var(), (values**2).mean(), values.min(), values.max()


def propagate(weights, biases, activations, x, dy):
    """Output, gradients of weights, biases and input, and per layer the moments of (z, a, delta), saturated, dead."""
    a = [np.asarray(x, float)]
    z = []
    for w, b, name in zip(weights, biases, activations, strict=True):
        z.append(a[-1] @ np.asarray(w, float) + np.asarray(b, float))
        a.append(ACTIVATIONS[name][0](z[-1]))
    delta = np.asarray(dy, float)
    dw, db, layers = [], [], []
    for i in reversed(range(len(weights))):
        derivative = ACTIVATIONS[activations[i]][1](z[i])
        delta = delta * derivative
        dw.insert(0, a[i].T @ delta)
        db.insert(0, delta.sum(axis=0))
        layers.insert(
            0,
            (
                *(moments(v) for v in (z[i], a[i + 1], delta)),
                float((np.abs(derivative) < _core.TRAITS[activations[i]].saturated_below).mean()),
                float(((derivative == 0) & (ACTIVATIONS[activations[i]][0](z[i]) == 0)).all(axis=0).mean()),
            ),
        )
        delta = delta @ np.asarray(weights[i], float).T
    return a[-1], dw, db, delta, layers


def rounded(value, digits, lowest):
    """A Fraction rounded to a float of `digits` binary digits and at least the exponent `lowest`, ties to even."""
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
