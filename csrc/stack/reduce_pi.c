/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reduction of large arguments of sin, exactly: Payne & Hanek, "Radian reduction for trigonometric functions" (1983).
 * Only those digits of 1/pi are multiplied that can change the fraction of x / pi.
 */
#include "stack/activation_tables.h"
#include "core/internal.h"

#include <string.h>

double fi_reduce_pi(double x, int *odd) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int exponent = (int)(bits >> 52 & 0x7FF) - 1075; /* |x| = m 2^exponent */
    const uint64_t m = (bits & UINT64_C(0xFFFFFFFFFFFFF)) | UINT64_C(1) << 52;
    const uint64_t low = m & 0xFFFFFFFFu, high = m >> 32;
    /* Digit i of 1/pi weighs 2^(-32 (i + 1)): those whose product with m is a multiple of 2 are left out. */
    const int first = exponent < 1 ? 0 : (exponent - 1) / 32;
    /* m times seven digits, as nine digits p[0] (leading) .. p[8] of weight 2^(exponent - 32 (first + 7)): no double is
     * nearer to a multiple of pi than 2^-61, and 139 bits behind the point are correct. */
    uint32_t p[9] = {0};
    for (int i = 6; i >= 0; i--) {
        const uint64_t d = fi_inverse_pi[first + i];
        const uint64_t a = d * low + p[i + 2];
        p[i + 2] = (uint32_t)a;
        const uint64_t b = d * high + p[i + 1] + (a >> 32);
        p[i + 1] = (uint32_t)b;
        p[i] = (uint32_t)(p[i] + (b >> 32));
    }
    /* The point stands `point` bits below the top of the 288; the bit before it is the parity. */
    const int point = 288 - (32 * (first + 7) - exponent);
    uint64_t fraction[2] = {0, 0}; /* 128 bits from the parity bit on */
    for (int n = 0; n < 128; n++) {
        const int at = point - 1 + n;
        const uint64_t bit = at < 0 || at > 287 ? 0 : p[at / 32] >> (31 - at % 32) & 1;
        fraction[n / 64] |= bit << (63 - n % 64);
    }
    *odd = (int)(fraction[0] >> 63);
    /* the fraction of x / pi, to the nearest whole number, as a signed double-double */
    uint64_t top = fraction[0] << 1 | fraction[1] >> 63, rest = fraction[1] << 1;
    const int up = (int)(top >> 63);
    if (up) {
        *odd ^= 1;
        top = ~top + (rest == 0);
        rest = 0 - rest;
    }
    int shift = 0;
    while (shift < 60 && !(top >> 63)) {
        top = top << 1 | rest >> 63;
        rest <<= 1;
        shift++;
    }
    double scale = 0x1p-64;
    for (int i = 0; i < shift; i++) scale *= 0.5;
    const double f = (double)(top >> 11) * 2048.0 * scale;
    const double tail = ((double)(top & 2047) + (double)(rest >> 11) * 0x1p-53) * scale;
    const double r = f * 3.14159265358979323846 + (f * 1.2246467991473532e-16 + tail * 3.14159265358979323846);
    return (up != 0) != (x < 0) ? -r : r;
}
