"""Prints csrc/stack/activation_tables.h: the tail of the normal distribution for GELU, and 1/pi for sin. Needs mpmath.

    python tools/make_activation_tables.py > csrc/stack/activation_tables.h
"""

import mpmath as mp

mp.mp.dps = 60
RATE = mp.mpf(1) / 4  # t = 1 / (1 + RATE y); with this rate the transformed tail is smoothest


def tail_polynomial(degree, far):
    """Phi(-y) = exp(-y^2/2) t P(x) for 0 <= y <= far, where t = 1 / (1 + y/4) and x in [-1, 1] is a linear function of t.

    Returns the coefficients of P, interpolated at Chebyshev nodes, and the slope and shift of x.
    """
    low, high = 1 / (1 + RATE * far), mp.mpf(1)

    def scaled_tail(t):
        y = (1 / t - 1) / RATE
        return mp.erfc(y / mp.sqrt(2)) * mp.exp(y * y / 2) / 2 / t

    n = degree + 1
    values = []
    for i in range(n):
        x = mp.cos(mp.pi * (2 * i + 1) / (2 * n))
        values.append(scaled_tail((low + high) / 2 + (high - low) / 2 * x))
    series = [
        (1 if j == 0 else 2)
        * mp.fsum(values[i] * mp.cos(j * mp.pi * (2 * i + 1) / (2 * n)) for i in range(n))
        / n
        for j in range(n)
    ]
    # sum of series[j] T_j(x) as powers of x
    powers = [mp.mpf(0)] * n
    before, now = [mp.mpf(1)], [mp.mpf(0), mp.mpf(1)]
    for j, c in enumerate(series):
        for k, a in enumerate(before):
            powers[k] += c * a
        if j + 1 < n:
            after = [mp.mpf(0)] + [2 * a for a in now]
            for k, a in enumerate(before):
                after[k] -= a
            before, now = now, after
    return powers, 2 / (high - low), -(high + low) / (high - low)


def line(values):
    return "".join(f"    {mp.nstr(v, 25)},\n" for v in values)


print("""/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Made by tools/make_activation_tables.py: do not edit. */
#ifndef FI_ACTIVATION_TABLES_H
#define FI_ACTIVATION_TABLES_H

#include <stdint.h>
""")
for name, degree, far, error in (("f32", 9, 15, "1.4e-8"), ("f64", 22, 40, "3.7e-17")):
    powers, slope, shift = tail_polynomial(degree, mp.mpf(far))
    print(f"/* Phi(-y) exp(y^2/2) / t, t = 1 / (1 + y/4), 0 <= y <= {far}, by powers of slope * t + shift:")
    print(f" * relative error {error} a priori. */")
    print(f"#define FI_TAIL_DEGREE_{name} {degree}")
    print(f"static const double fi_tail_{name}[] = {{\n{line(powers)}}};")
    print(f"#define FI_TAIL_FAR_{name} {far}")
    print(f"#define FI_TAIL_SLOPE_{name} {mp.nstr(slope, 25)}")
    print(f"#define FI_TAIL_SHIFT_{name} {mp.nstr(shift, 25)}\n")
signed = [mp.mpf((-1) ** (n // 2)) / mp.factorial(n) for n in range(26)]
print("/* (-1)^(n / 2) / n!: the series of sin and cos. */")
print("#define FI_OVER_FACTORIALS \\")
rows = [signed[i : i + 2] for i in range(0, 26, 2)]
print(", \\\n".join("    " + ", ".join(mp.nstr(v, 20) for v in row) for row in rows) + "\n")
DIGITS = 40
with mp.workprec(32 * DIGITS + 64):
    inverse = int(mp.floor(mp.ldexp(1 / mp.pi, 32 * DIGITS)))
digits = [(inverse >> (32 * (DIGITS - 1 - i))) & 0xFFFFFFFF for i in range(DIGITS)]
print("/* 1/pi: digits of base 2^32 after the point. */")
print(f"static const uint32_t fi_inverse_pi[{DIGITS}] = {{")
for i in range(0, DIGITS, 8):
    print("    " + " ".join(f"0x{d:08X}u," for d in digits[i : i + 8]))
print("};\n\n#endif")
