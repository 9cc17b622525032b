"""Prints csrc/random/normal_tables.h, the fitted constants of the normal distribution, in multiprecision. Needs mpmath.

    python tools/make_tables.py > csrc/random/normal_tables.h
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def tail_quantile(p):
    """-Phi^-1(p) for 0 < p <= 1/2."""
    p = mp.mpf(p)
    if p == mp.mpf(1) / 2:
        return mp.mpf(0)
    # Refined by Newton's method on erfc, because mpmath's erfinv is inaccurate in the tail, where 1 - 2p is rounded.
    z = mp.sqrt(2) * mp.erfinv(1 - 2 * p) if p > mp.mpf(10) ** -12 else mp.sqrt(-2 * mp.log(p))
    for _ in range(4):
        density = mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)
        z -= (p - mp.erfc(z / mp.sqrt(2)) / 2) / density
    return z


def solve_weighted(xs, ys, weights, degree):
    """The polynomial of weighted least squares, in multiprecision."""
    rows = mp.matrix(len(xs), degree + 1)
    rhs = mp.matrix(len(xs), 1)
    for i, (x, y, w) in enumerate(zip(xs, ys, weights, strict=True)):
        power = w
        for j in range(degree + 1):
            rows[i, j] = power
            power *= x
        rhs[i] = w * y
    return list(mp.lu_solve(rows.T * rows, rows.T * rhs))


def minimax(f, low, high, degree, tolerance, points=60):
    """A polynomial whose largest error relative to `tolerance(x)` is nearly minimal.

    Lawson's iteration: least squares on Chebyshev nodes, repeatedly reweighted by the errors.
    """
    middle, half = (mp.mpf(low) + high) / 2, (mp.mpf(high) - low) / 2
    xs = [middle + half * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / points) for i in range(points)]
    ys = [f(x) for x in xs]
    scale = [1 / mp.mpf(tolerance(x)) for x in xs]
    lawson = [mp.mpf(1)] * points
    for _ in range(12):
        weights = [mp.sqrt(w) * s for w, s in zip(lawson, scale, strict=True)]
        c = solve_weighted(xs, ys, weights, degree)
        errors = [
            abs(mp.polyval(c[::-1], x) - y) * s for x, y, s in zip(xs, ys, scale, strict=True)
        ]
        lawson = [w * e for w, e in zip(lawson, errors, strict=True)]
        total = sum(lawson)
        lawson = [w / total for w in lawson]
    return c, max(errors)


def array(name, values, ctype, comment):
    digits = 9 if ctype == "float" else 17
    suffix = "f" if ctype == "float" else ""
    body = ",\n    ".join(
        ", ".join(f"{float(v):.{digits - 1}e}{suffix}" for v in values[i : i + 4])
        for i in range(0, len(values), 4)
    )
    print(f"/* {comment} */")
    align = "_Alignas(64) " if len(values) > 1 else ""
    print(f"static const {align}{ctype} {name}[{len(values)}] = {{\n    {body},\n}};\n")


def float32_quantile():
    """-Phi^-1((f + 1/2) * 2^-32) for f in [2^17, 2^31], by one polynomial for each half octave.

    Interval i covers the float32 numbers whose lowest four exponent bits and leading mantissa bit are i; the variable is the
    mantissa in [1, 2) minus 3/2.
    """
    degree = 5
    table = np.zeros((degree + 1, 32), dtype=np.float32)
    worst = 0
    for i in range(28):
        octave, half = mp.mpf(2) ** (17 + i // 2 - 32), i % 2
        low, high = (mp.mpf(-1) / 2, mp.mpf(0)) if half == 0 else (mp.mpf(0), mp.mpf(1) / 2)

        def f(t, octave=octave):
            p = (t + mp.mpf(3) / 2) * octave + mp.mpf(2) ** -33
            return tail_quantile(min(p, mp.mpf(1) / 2))

        tolerance = lambda t, f=f: max(1, f(t))  # noqa: E731
        c, error = minimax(f, low, high, degree, tolerance)
        worst = max(worst, error)
        table[:, i] = [np.float32(float(v)) for v in c]
    # Interval 28 has only 2^31, to which the 64 largest folded words round. Its value is the z of their middle and not 0,
    # because the sign of 0 would be lost in mean + std * z.
    table[0, 28] = np.float32(float(tail_quantile(mp.mpf(1) / 2 - 32 * mp.mpf(2) ** -32)))
    for k in range(degree + 1):
        array(
            f"fi_quantile32_c{k}",
            table[k],
            "float",
            f"coefficient of t^{k}, by half octave"
            + (f"; largest fitting error {float(worst):.2e} * max(1, z)" if k == 0 else ""),
        )


def float64_log():
    """ln x = -ln(inverse[i]) + log1p(x * inverse[i] - 1) for x in [1, 2), i = leading four bits."""
    inverse = [mp.mpf(float(1 / (1 + (mp.mpf(i) + mp.mpf(1) / 2) / 16))) for i in range(16)]
    array("fi_log_inverse", inverse, "double", "reciprocals of the middles of 16 parts of [1, 2)")
    array("fi_log_value", [-mp.log(v) for v in inverse], "double", "their -ln")
    c, error = minimax(
        lambda r: (mp.log1p(r) - r) / (r * r) if r else mp.mpf(-1) / 2,
        -mp.mpf(1) / 31,
        mp.mpf(1) / 31,
        8,
        lambda r: 1,
    )
    array(
        "fi_log1p", c, "double",
        f"(log1p(r) - r) / r^2 for |r| <= 1/31, largest fitting error {float(error):.1e}",
    )  # fmt: skip


def mills():
    """Mills' ratio (1 - Phi(z)) / phi(z), z >= 0, as a Chebyshev series in t = 2c/(c + z) - 1."""
    c, n = mp.mpf(4), 60

    def f(t):
        z = c * (1 - t) / (1 + t)
        if z > 1e6:
            return mp.mpf(0)
        # times (c + z) so that the function stays smooth and bounded at infinity (t = -1)
        if z > 500:
            tail = 1 / z - 1 / z**3 + 3 / z**5 - 15 / z**7 + 105 / z**9
            return tail * (c + z)
        return mp.exp(z * z / 2) * mp.sqrt(mp.pi / 2) * mp.erfc(z / mp.sqrt(2)) * (c + z)

    nodes = [mp.cos(mp.pi * (k + mp.mpf(1) / 2) / n) for k in range(n)]
    values = [f(t) for t in nodes]
    series = [
        2 / mp.mpf(n)
        * sum(v * mp.cos(mp.pi * j * (k + mp.mpf(1) / 2) / n) for k, v in enumerate(values))
        for j in range(n)
    ]  # fmt: skip
    series[0] /= 2
    keep = max(j for j, s in enumerate(series) if abs(s) > mp.mpf(10) ** -17) + 1
    array(
        "fi_mills", series[:keep], "double",
        "Chebyshev series of (4 + z) * Mills' ratio(z) in t = 8/(4 + z) - 1, z >= 0",
    )  # fmt: skip


print("/* SPDX-License-Identifier: BSD-3-Clause")
print(" *\n * Generated by tools/make_tables.py: do not edit. */")
print("#ifndef FI_TABLES_H\n#define FI_TABLES_H\n")
float32_quantile()
float64_log()
mills()
print("#endif")
