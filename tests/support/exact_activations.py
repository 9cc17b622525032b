"""The activations by their definitions, as csrc/stack/activations.def states them: in mpmath's numbers, and in NumPy's.

No formula stands here: these are the words that a definition may use, twice.
"""

import functools
import math
import re

import numpy as np

from fastinit import _core


def parameter(name):
    """One for the tests, where the activation has one: exact in binary, and not its default."""
    return 0.125 if _core.TRAITS[name].parameter else 0.0


def _compiled(text):
    """An expression in which decimal fractions are numbers of the vocabulary, not Python's floats."""
    return compile(re.sub(r"\d+\.\d+", r'number("\g<0>")', text), text, "eval")


@functools.cache
def exact(name, s=0.0):
    """(phi, phi') in mpmath at the working precision, of every finite float64; s is the parameter."""
    import mpmath as mp

    def softplus(x):
        return max(x, 0) + mp.log1p(mp.exp(-abs(x)))

    words = {
        "number": mp.mpf, "abs": abs, "min": min, "max": max, "where": lambda condition, a, b: a if condition else b,
        "exp": mp.exp, "expm1": mp.expm1, "log1p": mp.log1p, "sqrt": mp.sqrt, "sin": mp.sin, "cos": mp.cos, "tanh": mp.tanh,
        "sech": mp.sech, "sigmoid": lambda x: 1 / (1 + mp.exp(-x)), "softplus": softplus,
        "ncdf": lambda x: mp.ncdf(x) if abs(x) < 1000 else mp.mpf(x > 0), "npdf": mp.npdf,
    }  # fmt: skip

    def function(text):
        code = _compiled(text)
        return lambda x: mp.mpf(eval(code, {**words, "pi": +mp.pi, "x": mp.mpf(x), "s": mp.mpf(s)}))

    return function(_core.TRAITS[name].definition), function(_core.TRAITS[name].derivative)


def _sigmoid(x):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


IN_NUMPY = {
    "number": float, "abs": np.abs, "min": np.minimum, "max": np.maximum, "where": np.where, "exp": np.exp, "expm1": np.expm1,
    "log1p": np.log1p, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "pi": np.pi, "sigmoid": _sigmoid,
    "sech": lambda x: 1 / np.cosh(np.clip(x, -300, 300)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "ncdf": lambda x: 0.5 * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2)),
    "npdf": lambda x: np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
}  # fmt: skip


@functools.cache
def in_numpy(name, s=0.0):
    """(phi, phi') of float64 arrays; s is the parameter."""

    def function(text):
        code = _compiled(text)

        def call(x):
            with np.errstate(all="ignore"):
                return np.zeros_like(x) + eval(code, {**IN_NUMPY, "x": x, "s": s})

        return call

    return function(_core.TRAITS[name].definition), function(_core.TRAITS[name].derivative)
