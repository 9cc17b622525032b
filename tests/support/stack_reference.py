# SPDX-License-Identifier: BSD-3-Clause
"""`Stack` in plain NumPy float64, written from the definition without its code."""

import math
from fractions import Fraction

import numpy as np


def _sigmoid(z):
    return np.where(
        z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z)))
    )



def _phi(z):
    """The standard normal distribution function."""
    return 0.5 * np.vectorize(math.erfc, otypes=[float])(-z / math.sqrt(2))


def _density(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _tanh_derivative(z):
    return 1 / np.cosh(np.clip(z, -300, 300)) ** 2


def _softplus(z):
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848
GELU_FACTOR = math.sqrt(2 / math.pi)


def _gelu_u(z):
    return GELU_FACTOR * (z + 0.044715 * z**3)


# name: (phi, phi'), of float64 arrays
ACTIVATIONS = {
    "linear": (lambda z: z, lambda z: np.ones_like(z)),
    "tanh": (np.tanh, _tanh_derivative),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    "relu": (lambda z: np.where(z > 0, z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
    "hard_tanh": (lambda z: np.clip(z, -1, 1), lambda z: np.where(np.abs(z) < 1, 1.0, 0.0)),
    "elu": (
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))),
    ),
    "selu": (
        lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0))),
    ),
    "softplus": (_softplus, _sigmoid),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2),
    "gelu": (lambda z: z * _phi(z), lambda z: _phi(z) + z * _density(z)),
    "gelu_tanh": (
        lambda z: z * (1 + np.tanh(_gelu_u(z))) / 2,
        lambda z: (1 + np.tanh(_gelu_u(z))) / 2
        + z / 2 * _tanh_derivative(_gelu_u(z)) * GELU_FACTOR * (1 + 3 * 0.044715 * z * z),
    ),
    "silu": (
        lambda z: z * _sigmoid(z),
        lambda z: _sigmoid(z) + z * _sigmoid(z) * _sigmoid(-z),
    ),
    "mish": (
        lambda z: z * np.tanh(_softplus(z)),
        lambda z: np.tanh(_softplus(z)) + z * _tanh_derivative(_softplus(z)) * _sigmoid(z),
    ),
    "sin": (np.sin, np.cos),
}

# An element counts as saturated where |phi'| is below this.
FLAT = 1 - 0.97**2
SATURATED = {
    "tanh": FLAT, "hard_tanh": FLAT, "elu": FLAT, "softplus": FLAT, "softsign": FLAT, "gelu": FLAT,
    "gelu_tanh": FLAT, "silu": FLAT, "mish": FLAT, "sigmoid": FLAT / 4, "selu": FLAT * SELU_SCALE,
}  # fmt: skip


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
                float((np.abs(derivative) < SATURATED.get(activations[i], 0)).mean()),
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
