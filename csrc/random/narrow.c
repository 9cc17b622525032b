/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The truncated normal between narrow bounds, docs/stream.md section 4, as a power series.
 *
 * The ordinary kernels invert Phi(lower) + U (Phi(upper) - Phi(lower)): the error of z is some 2^-50 max(1, |z|) (float32:
 * 2^-22), however close together the bounds are. Here z = base + unit * P(t): base is a number of the dtype in or beside
 * the window, unit the power of two above its width, and P a polynomial whose error is small against 1. The last rounding is that
 * of the sum, so that z is wrong by half a unit in its last place and a small fraction of the window.
 *
 * t is 2 U - 1 where the density changes little between the bounds. Otherwise they lie far out on one side, where the density
 * is nearly an exponential, and t is the logarithm of the probability beyond z, relative to that beyond the inner bound.
 * No function of libm but exact ones: the coefficients are the same on every machine.
 */
#include <math.h>

#include "core/internal.h"

#define LONGEST 64 /* terms of a power series, before it is made shorter */
#define LOG_SERIES (FI_NARROW_TERMS + 2)

/* (a b)_n of two power series */
static double product(const double *a, const double *b, int n) {
    double sum = 0;
    for (int i = 0; i <= n; i++) sum += a[i] * b[n - i];
    return sum;
}

/* A polynomial of `terms` coefficients c made shorter, to at least two, and changed by at most `tolerance` for |t| <= 1. Returns
 * how many are left, or 0 where that is more than a kernel's.
 *
 * The highest term c_n t^n goes with c_n 2^(1 - n) T_n(t), Chebyshev's polynomial: of all with that term it is the smallest. */
static int shortened(double *c, int terms, double tolerance) {
    for (; terms > 2; terms--) {
        const int n = terms - 1;
        double term = c[n];
        tolerance -= fabs(ldexp(term, 1 - n));
        if (tolerance < 0) break;
        for (int k = 0; n - 2 * k >= 2; k++) {
            term *= -((n - 2.0 * k) * (n - 2 * k - 1)) / (4.0 * (k + 1) * (n - k - 1));
            c[n - 2 * k - 2] -= term;
        }
    }
    return terms > FI_NARROW_TERMS ? 0 : terms;
}

/* OUT y: the quantile (z - m) / h of the middle m = (lower + upper) / 2 and h = (upper - lower) / 2, by powers of v = 2 U - 1,
 * for a = m h in [0, 1] and b = h^2 in [0, 1/16]. Returns how many terms are enough for the error `tolerance`, or 0 where LONGEST
 * are not.
 *
 * The density of y is proportional to g(y) = exp(-a y - b y^2 / 2), and v(y) to its integral G. So y(0) halves the integral over
 * [-1, 1], y' = G(1) - G(-1) over 2 g(y), and y'' = (a + b y) y'^2. */
static int series_in_v(double a, double b, double tolerance, double *y) {
    enum { DENSITY = 30 };
    double g[DENSITY], derivative[LONGEST], square[LONGEST], growth[LONGEST];
    double half_mass = 0, half_excess = 0; /* (G(1) - G(-1)) / 2 and (G(1) + G(-1)) / 2 */
    g[0] = 1;
    g[1] = -a;
    for (int k = 2; k < DENSITY; k++) g[k] = -(a * g[k - 1] + b * g[k - 2]) / k;
    for (int k = DENSITY - 1; k >= 0; k--) *(k % 2 ? &half_excess : &half_mass) += g[k] / (k + 1);

    /* Newton's method: the start is wrong by less than a, and every step squares that. */
    double middle = half_excess, density = 1;
    for (int step = 0; step < 6; step++) {
        double integral = 0;
        density = 0;
        for (int k = DENSITY - 1; k >= 0; k--) {
            integral = (integral + g[k] / (k + 1)) * middle;
            density = density * middle + g[k];
        }
        middle -= (integral - half_excess) / density;
    }
    y[0] = middle;
    derivative[0] = half_mass / density;
    for (int k = 0; k + 1 < LONGEST; k++) {
        y[k + 1] = derivative[k] / (k + 1);
        /* What follows two small terms in a row is smaller than they are. */
        if (k > 0 && fabs(y[k]) + fabs(y[k + 1]) <= tolerance) return k;
        growth[k] = (k == 0 ? a : 0) + b * y[k];
        square[k] = product(derivative, derivative, k);
        derivative[k + 1] = product(growth, square, k) / (k + 1);
    }
    return 0;
}

/* OUT place: z - lower by powers of -l, where l = ln S(z) - ln S(lower) lies in [*least, 0] and S(z) = 1 - Phi(z);
 * 3 <= lower, 0 < width <= lower / 16. Largest error 2^-50 width.
 *
 * dz/d(-l) is Mills' ratio M. Its derivatives are (-1)^n I_n, I_n = int_0^inf s^n exp(-s z - s^2 / 2) ds; their ratios
 * come from a continued fraction, and all terms of each sum below have one sign. (Tried and lost: M' = z M - 1, whose
 * errors grow as exp(-l).) */
static void series_in_log(double lower, double width, double *place, double *least) {
    double mills[LOG_SERIES];                  /* M by powers of z - lower */
    double powers[LOG_SERIES][LOG_SERIES] = {{1}}; /* (z - lower)^n by powers of -l */
    double ratio = 0; /* I_(n + 1) / I_n; what is left out beyond the first one loses a third of its weight a step */
    for (int n = LOG_SERIES + 100; n >= 0; n--) {
        if (n < LOG_SERIES) mills[n] = (n ? -1 : 1) / (lower + ratio);
        ratio = n / (lower + ratio);
    }
    for (int n = 1; n < LOG_SERIES; n++) mills[n] *= mills[n - 1];
    place[0] = 0;
    for (int k = 0; k + 1 < LOG_SERIES; k++) {
        double sum = 0;
        for (int n = 0; n <= k; n++) {
            if (n > 0) powers[n][k] = product(powers[n - 1], place, k);
            sum += mills[n] * powers[n][k];
        }
        place[k + 1] = sum / (k + 1);
    }
    /* -l at the upper bound by Newton's method, from what the density alone would give. */
    double far = width * (lower + 0.5 * width);
    for (int step = 0; step < 6; step++) {
        double reached = 0, derivative = 0;
        for (int k = LOG_SERIES - 1; k >= 1; k--) {
            reached = (reached + place[k]) * far;
            derivative = derivative * far + k * place[k];
        }
        far -= (reached - width) / derivative;
    }
    *least = -far;
}

int fi_narrow_make(fi_plan *plan) {
    fi_narrow *const narrow = &plan->narrow;
    const int is_double = plan->dtype == FI_FLOAT64;
    const double tolerance = is_double ? 0x1p-50 : 0x1p-24; /* of half the window, for each of two steps */
    const int negative = plan->dist.c + plan->dist.d < 0; /* then its mirror image is worked on */
    const double lower = negative ? -plan->dist.d : plan->dist.c, upper = negative ? -plan->dist.c : plan->dist.d;

    /* In units of the window all numbers are of an ordinary size, and as exact as the bounds. */
    int exponent;
    frexp(upper - lower, &exponent);
    const double low = ldexp(lower, -exponent), high = ldexp(upper, -exponent);
    const double half = 0.5 * (high - low), sum = low + high;
    const double lost = (low - (sum - (sum - low))) + (high - (sum - low));
    double base = ldexp(0.5 * sum, exponent);
    if (!is_double) base = (float)base;
    double c[LONGEST], least = 0;
    const double square = ldexp(1, 2 * exponent), growth = 0.5 * sum * half * square;
    int terms = growth <= 1 ? series_in_v(growth, half * half * square, tolerance, c) : 0;
    if (terms > 0) terms = shortened(c, terms, tolerance);
    narrow->logarithmic = terms == 0 && is_double;
    if (narrow->logarithmic) {
        /* In t = l / least this would be a polynomial on [0, 1], whose terms fall fast enough to be left out as they are. */
        base = lower;
        series_in_log(lower, upper - lower, c, &least);
        double power = 1;
        for (int k = 0; k < LOG_SERIES; k++, power *= least) {
            c[k] = ldexp(k % 2 ? -c[k] : c[k], -exponent);
            if (fabs(c[k] * power) > tolerance) terms = k + 1;
        }
        if (terms > FI_NARROW_TERMS) terms = 0;
    } else {
        for (int k = 0; k < terms; k++) c[k] *= half;
        c[0] += (0.5 * sum - ldexp(base, -exponent)) + 0.5 * lost;
    }
    if (terms == 0) return 0;

    narrow->terms = terms;
    narrow->base = negative ? -base : base;
    narrow->unit = ldexp(1, exponent);
    narrow->base_f = (float)narrow->base;
    narrow->unit_f = (float)narrow->unit;
    narrow->far = narrow->logarithmic ? fi_exponential(least) : 0;
    narrow->flip = negative ? 0 : UINT64_MAX;
    for (int k = 0; k < terms; k++) {
        const double value = negative && (narrow->logarithmic || k % 2 == 0) ? -c[k] : c[k];
        if (is_double) narrow->coefficients.d[k] = value;
        else narrow->coefficients.f[k] = (float)value;
    }
    return 1;
}
