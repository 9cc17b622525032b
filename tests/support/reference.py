# SPDX-License-Identifier: BSD-3-Clause
"""A simple, slow implementation of the random stream of docs/stream.md in Python integers, NumPy and mpmath.

Written from the specification; it shares no code or table with the kernels. Where the specification
allows an error (normal, truncated normal), this gives the exact value.
"""

import functools
import hashlib
import math
from fractions import Fraction

import mpmath
import numpy as np

MASK32 = 0xFFFFFFFF
PRECISION = 50  # decimal digits of every multiprecision value


# ---- bits ----------------------------------------------------------------------------------------


def philox(counter, key):
    """Philox4x32-10; four and two words, each a Python int or an array of uint64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ k0,
            product1 & MASK32,
            (product0 >> 32) ^ c3 ^ k1,
            product0 & MASK32,
        )
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


def word(seed, stream, element, plane=0):
    """w_plane(element), all Python ints."""
    tile, r = divmod(element, 64)
    block = 16 * tile + r % 16
    counter = (block & MASK32, plane << 24 | block >> 32, stream & MASK32, stream >> 32)
    return philox(counter, (seed & MASK32, seed >> 32))[r // 16]


def words(seed, stream, first, count, plane=0):
    """w_plane of elements first .. first + count - 1, as an array of uint64."""
    element = np.arange(first, first + count, dtype=np.uint64)
    row = element % 64 // 16
    block = element // 64 * 16 + element % 16
    high = [np.full(count, c, np.uint64) for c in (stream & MASK32, stream >> 32)]
    counter = (block & MASK32, np.uint64(plane << 24) | block >> 32, *high)
    return np.choose(row.astype(int), philox(counter, (seed & MASK32, seed >> 32)))


def fractions(seed, stream, first, count, plane=0):
    """w_0 2^32 + w_1, the leading 64 bits of the uniform fraction of each element, as an array of uint64."""
    leading = words(seed, stream, first, count, plane)
    return leading << 32 | words(seed, stream, first, count, plane + 1)


def child(stream, name):
    """The stream of a child: of a name (str) or a number."""
    payload = b"s" + name.encode() if isinstance(name, str) else b"i" + name.to_bytes(8, "little")
    data = stream.to_bytes(8, "little") + payload
    digest = hashlib.blake2b(data, digest_size=8, person=b"fastinit-v1").digest()
    return int.from_bytes(digest, "little")


# ---- rounding ------------------------------------------------------------------------------------


def bfloat16_bits(x):
    """Bit patterns of the bfloat16 nearest to float32 x, the even one of two; x finite."""
    x = np.asarray(x, np.float32)
    nearer_zero = x.view(np.uint32) >> 16
    value = [float32_of_bfloat16(nearer_zero + i).astype(float) for i in (0, 1)]
    # The next number after the largest one would be 2^128, whose bit pattern is that of infinity.
    value[1] = np.where(np.isinf(value[1]), np.sign(value[1]) * 2.0**128, value[1])
    distance = [np.abs(v - x) for v in value]
    even = nearer_zero % 2 == 0
    stay = (distance[0] < distance[1]) | ((distance[0] == distance[1]) & even)
    return np.where(stay, nearer_zero, nearer_zero + 1).astype(np.uint16)


def float32_of_bfloat16(bits):
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def float32_of(values, dtype):
    """The 16-bit values of an array (of uint16 for bfloat16) in float32, exactly."""
    return float32_of_bfloat16(values) if dtype == "bfloat16" else values.astype(np.float32)


@functools.cache
def _finite16(dtype):
    """All finite numbers of a 16-bit dtype, ascending, in float32."""
    patterns = np.arange(1 << 16, dtype=np.uint16)
    numbers = patterns if dtype == "bfloat16" else patterns.view(np.float16)
    numbers = float32_of(numbers, dtype)
    return np.unique(numbers[np.isfinite(numbers)])


def round16(x, dtype, low=-math.inf, high=math.inf, *, half_open=False):
    """float32 x to nearest even, then clamped to the 16-bit numbers inside the bounds."""
    with np.errstate(over="ignore"):
        rounded = bfloat16_bits(x) if dtype == "bfloat16" else x.astype(np.float16)
    if math.isinf(low) and math.isinf(high):
        return rounded
    numbers = _finite16(dtype)
    inside = numbers[(numbers >= low) & (numbers < high if half_open else numbers <= high)]
    clamped = np.clip(float32_of(rounded, dtype), inside[0], inside[-1])
    return bfloat16_bits(clamped) if dtype == "bfloat16" else clamped.astype(np.float16)


# ---- uniform -------------------------------------------------------------------------------------


def unit_uniform(seed, stream, first, count, dtype):
    """u in (-1, 1), exact in the dtype."""
    if dtype == "float64":
        k = [int(f) >> 11 for f in fractions(seed, stream, first, count)]
        return np.array([float(Fraction(2 * n + 1 - 2**53, 2**53)) for n in k])
    k = [int(w) >> 8 for w in words(seed, stream, first, count)]
    return np.array([np.float32(Fraction(2 * n + 1 - 2**24, 2**24)) for n in k], np.float32)


def uniform(seed, stream, first, count, dtype, low, high):
    """The values that a kernel must give, bit for bit; bfloat16 as uint16."""
    kind = np.float64 if dtype == "float64" else np.float32
    centre = kind(float((Fraction(low) + Fraction(high)) / 2))
    half = kind(float((Fraction(high) - Fraction(low)) / 2))
    x = centre + half * unit_uniform(seed, stream, first, count, dtype)
    low, high = kind(low), kind(high)
    x = np.clip(x, low, np.nextafter(high, kind(-math.inf)))
    if "float16" in dtype:
        return round16(x, dtype, low, high, half_open=True)
    return x


# ---- normal --------------------------------------------------------------------------------------


def upper_tail(z):
    """1 - Phi(z) in multiprecision."""
    return mpmath.erfc(mpmath.mpf(z) / mpmath.sqrt(2)) / 2


def tail_quantile(p):
    """-Phi^-1(p) for 0 < p <= 1/2, by Newton's method on ln p, which converges fast in the tail."""
    p = mpmath.mpf(p)
    log_p = mpmath.log(p)
    # The start is Winitzki's closed form, with an error of about 2e-3; each step squares it.
    t = mpmath.log(4 * p * (1 - p))
    a = mpmath.mpf("0.147")
    b = 2 / (mpmath.pi * a) + t / 2
    z = mpmath.sqrt(2 * max(0, mpmath.sqrt(b * b - t / a) - b))
    for _ in range(60):
        tail = upper_tail(z)
        density = mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)
        step = (mpmath.log(tail) - log_p) * tail / density
        z += step
        if abs(step) < mpmath.mpf(10) ** -(PRECISION // 2 + 2) * max(1, abs(z)):
            return z
    raise ArithmeticError(f"no convergence at p={p}")


def quantile(p, q):
    """Phi^-1(p), from the smaller one of p and q = 1 - p."""
    return -tail_quantile(p) if p <= q else tail_quantile(q)


def _in_multiprecision(function):
    @functools.wraps(function)
    def wrapped(*arguments):
        with mpmath.workdps(PRECISION):
            return function(*arguments)

    return wrapped


@_in_multiprecision
def normal_of_fraction(fraction):
    """The exact z of 64 bits w_0 2^32 + w_1."""
    u = (mpmath.mpf(int(fraction)) + 0.5) / 2**64
    return quantile(u, 1 - u)


@_in_multiprecision
def truncated_of_fraction(fraction, lower, upper):
    """The exact z in [lower, upper] of 64 bits w_0 2^32 + w_1."""
    u = (mpmath.mpf(int(fraction)) + 0.5) / 2**64
    below, above = upper_tail(-mpmath.mpf(lower)), upper_tail(upper)
    # From the smaller tail, because 50 digits cannot represent 1 - 1e-300.
    if lower >= 0:
        mass = upper_tail(lower) - above
    elif upper <= 0:
        mass = upper_tail(-mpmath.mpf(upper)) - below
    else:
        mass = 1 - below - above
    z = quantile(below + u * mass, above + (1 - u) * mass)
    return min(max(z, mpmath.mpf(lower)), mpmath.mpf(upper))


@_in_multiprecision
def truncated_limit(z, lower, upper, dtype):
    """The allowed error of a kernel: small relative to z, and to the window between the bounds."""
    kind, of_one, of_window = {"float32": (np.float32, "1e-6", -20), "float64": (np.float64, "1e-12", -44)}[dtype]
    ulp = mpmath.mpf(float(np.spacing(abs(kind(float(z))))))
    window = (mpmath.mpf(upper) - mpmath.mpf(lower)) * mpmath.mpf(2) ** of_window
    return min(mpmath.mpf(of_one) * max(1, abs(z)), max(ulp, window))


class TailTable:
    """-Phi^-1(p) of arrays of p in float64, by a Chebyshev series of exact values for each octave of p.

    Largest error 1e-14 max(1, z), as a test asserts: ten million times less than what float32 may have.
    """

    DEGREE = 20

    def __init__(self):
        self._series = {}

    @_in_multiprecision
    def _fit(self, exponent):
        """Interpolate at the Chebyshev nodes in the mantissa m in [1, 2], with t = 2 m - 3."""
        n = self.DEGREE + 1
        nodes = [mpmath.cos(mpmath.pi * (k + mpmath.mpf(1) / 2) / n) for k in range(n)]
        values = [tail_quantile((t + 3) / 2 * mpmath.mpf(2) ** exponent) for t in nodes]
        angles = [mpmath.acos(t) for t in nodes]
        series = [
            2 * sum(v * mpmath.cos(j * a) for v, a in zip(values, angles, strict=True)) / n
            for j in range(n)
        ]
        series[0] /= 2
        return np.array([float(c) for c in series])

    def __call__(self, p):
        """Values for an array of p in one octave [2^k, 2^(k+1)), k < -1, or in [1/4, 1/2]."""
        exponent = int(np.floor(np.log2(p[0])))
        if exponent not in self._series:
            self._series[exponent] = self._fit(exponent)
        t = p * 2.0 ** (1 - exponent) - 3
        assert t.min() >= -1
        assert t.max() <= 1
        return np.polynomial.chebyshev.chebval(t, self._series[exponent])
