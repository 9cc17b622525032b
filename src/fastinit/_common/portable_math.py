"""log, exp, cos and sin of arrays, computed with IEEE additions, multiplications and divisions alone.

NumPy's functions differ in the last bit between machines (vector libraries, versions of the C library), and weights must not.
Largest errors, which tests assert: 2 ULP for log and exp, 2^-52 absolute for cosine and sine.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cosine_of_turns", "exp", "log", "log_1_minus_exp", "sine_of_turns"]

Array = NDArray[np.float64]

# ln 2 as the sum of two numbers. The first has so many trailing zeros that its products with exponents are exact.
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42fefa0000p-1"), float.fromhex("0x1.cf79abc9e3b3ap-40")


def log(x: Any) -> Array:
    """ln x for x > 0."""
    m, e = np.frexp(np.asarray(x, dtype=np.float64))
    small = m < 0.7071067811865476
    m, e = np.where(small, 2 * m, m), np.where(small, e - 1, e)
    s = (m - 1) / (m + 1)  # |s| < 0.1716; ln m = 2 artanh s
    square = s * s
    series = np.zeros_like(s)
    for k in range(23, 1, -2):
        series = (series + 1 / k) * square
    return np.asarray(e * _LN2_HIGH + (2 * (s + s * series) + e * _LN2_LOW), dtype=np.float64)


def exp(x: Any) -> Array:
    """e^x for -700 <= x <= 700."""
    x = np.asarray(x, dtype=np.float64)
    k = np.rint(x * 1.4426950408889634)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    series = np.ones_like(r)
    for n in range(14, 0, -1):
        series = 1 + series * r / n
    return np.asarray(np.ldexp(series, k.astype(np.int32)), dtype=np.float64)


def log_1_minus_exp(x: Any) -> Array:
    """ln(1 - e^-x) for x > 0, without cancellation for small x."""
    x = np.asarray(x, dtype=np.float64)
    series = np.zeros_like(x)
    small = np.minimum(x, 0.5)
    for n in range(17, 1, -1):  # 1 - e^-x = x (1 - x/2 (1 - x/3 (...)))
        series = small / n * (1 - series)
    return log(np.where(x <= 0.5, small * (1 - series), 1 - exp(-np.clip(x, 0.5, 700.0))))


def cosine_of_turns(k: Any, n: int) -> Array:
    """cos(2 pi k / n) for integers k; the angle is reduced to [0, pi / 4] exactly."""
    a, n = 4 * np.asarray(k, dtype=np.int64) % (4 * n), 4 * n
    a = np.minimum(a, n - a)
    negative = 4 * a > n
    a = np.where(negative, n // 2 - a, a)
    far = 8 * a > n  # cos x = sin(pi / 2 - x)
    x = np.where(far, n // 4 - a, a) * (2 * math.pi) / n
    square = x * x
    cosine, sine = np.ones_like(x), np.ones_like(x)
    for m in range(20, 0, -2):
        cosine = 1 - cosine * square / (m * (m - 1))
        sine = 1 - sine * square / (m * (m + 1))
    value = np.where(far, x * sine, cosine)
    return np.where(negative, -value, value)


def sine_of_turns(k: Any, n: int) -> Array:
    """sin(2 pi k / n) for integers k."""
    return cosine_of_turns(4 * np.asarray(k, dtype=np.int64) - n, 4 * n)
