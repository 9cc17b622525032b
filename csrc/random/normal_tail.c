/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The tail of the standard normal distribution, without libm: the constants of a truncated normal
 * must be the same on every machine.
 */
#include <string.h>

#include "core/internal.h"
#include "random/normal_tables.h"

/* e^x. Max Error: 2 ULP (of a result above 2^-1022). Valid Range: [-745, 1]. */
double fi_exponential(double x) {
    const double ln2_high = 0x1.62e42fefa0000p-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
    const int k = (int)(x * 1.44269504088896340736 + (x < 0 ? -0.5 : 0.5));
    const double r = (x - k * ln2_high) - k * ln2_low;
    double sum = 1.0;
    for (int n = 13; n >= 1; n--) sum = 1.0 + r * sum / n; /* Taylor: r^14/14! < 4e-18 */
    /* 2^k by its bits; a second factor where the result is subnormal. */
    const int shifted = k < -1000 ? k + 1000 : k;
    const uint64_t bits = (uint64_t)(1023 + shifted) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return k < -1000 ? sum * power * 0x1p-1000 : sum * power;
}

/* Clenshaw's recurrence. */
static double chebyshev(const double *series, int length, double t) {
    double b1 = 0, b2 = 0;
    for (int k = length - 1; k > 0; k--) {
        const double b0 = 2 * t * b1 - b2 + series[k];
        b2 = b1;
        b1 = b0;
    }
    return t * b1 - b2 + series[0];
}

double fi_normal_tail(double z) {
    if (z < 0) return 1.0 - fi_normal_tail(-z);
    if (z > 40) return 0.0;
    const double mills =
        chebyshev(fi_mills, (int)(sizeof fi_mills / sizeof *fi_mills), 8 / (4 + z) - 1) / (4 + z);
    /* z^2 = zh^2 + (z - zh)(z + zh) with an exact zh^2: e^(-z^2/2) keeps its relative accuracy. */
    const double zh = (float)z;
    const double density =
        0.398942280401432677940 * fi_exponential(-0.5 * zh * zh) * fi_exponential(-0.5 * (z - zh) * (z + zh));
    return mills * density;
}
