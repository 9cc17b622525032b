/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The truncated normal between narrow bounds, docs/stream.md section 4, as a power series.
 *
 * The ordinary kernels invert Phi(lower) + U (Phi(upper) - Phi(lower)): the error of z is some 2^-50 max(1, |z|) (float32:
 * 2^-22), however close together the bounds are. Here z = base + unit * P(t): base is a number of the dtype in or beside
 * the window, unit the power of two above its width, and P a polynomial whose error is small against 1. What is rounded last is
 * the sum, so that z has the error of half a unit in its last place and a small part of the window.
 *
 * t is 2 U - 1 where the density changes little between the bounds. Otherwise they lie far out on one side, where the density
 * is nearly an exponential, and t is the logarithm of the probability beyond z, relative to that beyond the inner bound.
 * No function of libm but exact ones: the coefficients are the same on every machine.
 */
#include <math.h>

#include "internal.h"

/* Series are taken two terms further than a kernel goes: what they add tells whether the rest may be left out. */
#define SERIES (FI_NARROW_TERMS + 2)

/* (a b)_n of two power series */
static double product(const double *a, const double *b, int n) {
    double sum = 0;
    for (int i = 0; i <= n; i++) sum += a[i] * b[n - i];
    return sum;
}

/* The number of leading terms of c without which at most `tolerance` is lost for |t| <= 1, or 0 where that is more than
 * FI_NARROW_TERMS. Where it is not, the terms fall faster than by halves, so that the last two bound all that follow. */
static int terms_needed(const double *c, double tolerance) {
    int terms = SERIES;
    double lost = fabs(c[SERIES - 1]) + fabs(c[SERIES - 2]);
    while (terms > 2 && lost + fabs(c[terms - 1]) <= tolerance) lost += fabs(c[--terms]);
    return terms > FI_NARROW_TERMS ? 0 : terms;
}

/* OUT y: the quantile (z - m) / h of the middle m = (lower + upper) / 2 and h = (upper - lower) / 2, by powers of v = 2 U - 1,
 * for a = m h in [0, 1] and b = h^2. Largest error for |v| <= 1: 2^-50 where the series is long enough.
 *
 * The density of y is proportional to g(y) = exp(-a y - b y^2 / 2), and v(y) to its integral G. So y(0) halves the integral over
 * [-1, 1], y' = G(1) - G(-1) over 2 g(y), and y'' = (a + b y) y'^2. */
static void series_in_v(double a, double b, double *y) {
    double g[SERIES + 8], slope[SERIES], square[SERIES], growth[SERIES];
    const int length = SERIES + 8;
    double half_mass = 0, half_excess = 0; /* (G(1) - G(-1)) / 2 and (G(1) + G(-1)) / 2 */
    g[0] = 1;
    g[1] = -a;
    for (int k = 2; k < length; k++) g[k] = -(a * g[k - 1] + b * g[k - 2]) / k;
    for (int k = length - 1; k >= 0; k--) *(k % 2 ? &half_excess : &half_mass) += g[k] / (k + 1);

    /* Newton's method: the start is wrong by less than a, and every step squares that. */
    double middle = half_excess, density = 1;
    for (int step = 0; step < 6; step++) {
        double integral = 0;
        density = 0;
        for (int k = length - 1; k >= 0; k--) {
            integral = (integral + g[k] / (k + 1)) * middle;
            density = density * middle + g[k];
        }
        middle -= (integral - half_excess) / density;
    }
    y[0] = middle;
    slope[0] = half_mass / density;
    for (int k = 0; k + 1 < SERIES; k++) {
        y[k + 1] = slope[k] / (k + 1);
        growth[k] = (k == 0 ? a : 0) + b * y[k];
        square[k] = product(slope, slope, k);
        slope[k + 1] = product(growth, square, k) / (k + 1);
    }
}

/* OUT place: z - lower by powers of -l, where l = ln S(z) - ln S(lower) lies in [*least, 0] and S(z) = 1 - Phi(z);
 * 3 <= lower, 0 < width <= lower / 16. Largest error 2^-50 width.
 *
 * dz/d(-l) is Mills' ratio M. Its derivatives are (-1)^n I_n, I_n = int_0^inf s^n exp(-s z - s^2 / 2) ds; their ratios
 * come from a continued fraction, and all terms of each sum below have one sign. (Tried and lost: M' = z M - 1, whose
 * errors grow as exp(-l).) */
static void series_in_log(double lower, double width, double *place, double *least) {
    double mills[SERIES];                  /* M by powers of z - lower */
    double powers[SERIES][SERIES] = {{1}}; /* (z - lower)^n by powers of -l */
    double ratio = 0; /* I_(n + 1) / I_n; what is left out beyond the first one loses a third of its weight a step */
    for (int n = SERIES + 100; n >= 0; n--) {
        if (n < SERIES) mills[n] = (n ? -1 : 1) / (lower + ratio);
        ratio = n / (lower + ratio);
    }
    for (int n = 1; n < SERIES; n++) mills[n] *= mills[n - 1];
    place[0] = 0;
    for (int k = 0; k + 1 < SERIES; k++) {
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
        double reached = 0, slope = 0;
        for (int k = SERIES - 1; k >= 1; k--) {
            reached = (reached + place[k]) * far;
            slope = slope * far + k * place[k];
        }
        far -= (reached - width) / slope;
    }
    *least = -far;
}

int fi_narrow_make(fi_plan *plan) {
    fi_narrow *const narrow = &plan->narrow;
    const int is_double = plan->dtype == FI_FLOAT64;
    const double tolerance = is_double ? 0x1p-51 : 0x1p-25;
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
    double c[SERIES], least = 0;
    const double square = ldexp(1, 2 * exponent), growth = 0.5 * sum * half * square;
    if (growth <= 1) {
        series_in_v(growth, half * half * square, c);
        narrow->terms = terms_needed(c, tolerance);
    }
    narrow->logarithmic = narrow->terms == 0 && is_double;
    if (narrow->logarithmic) {
        double scaled[SERIES], power = ldexp(1, -exponent);
        series_in_log(lower, upper - lower, c, &least);
        for (int k = 0; k < SERIES; k++, power *= least) {
            scaled[k] = c[k] * power;
            c[k] = ldexp(k % 2 ? -c[k] : c[k], -exponent);
        }
        narrow->terms = terms_needed(scaled, tolerance);
        base = lower;
    } else {
        for (int k = 0; k < SERIES; k++) c[k] *= half;
        c[0] += (0.5 * sum - ldexp(base, -exponent)) + 0.5 * lost;
    }
    if (narrow->terms == 0) return 0;

    narrow->base = negative ? -base : base;
    narrow->unit = ldexp(1, exponent);
    narrow->base_f = (float)narrow->base;
    narrow->unit_f = (float)narrow->unit;
    narrow->far = narrow->logarithmic ? fi_exponential(least) : 0;
    narrow->flip = negative ? 0 : UINT64_MAX;
    for (int k = 0; k < narrow->terms; k++) {
        const double value = negative && (narrow->logarithmic || k % 2 == 0) ? -c[k] : c[k];
        if (is_double) narrow->coefficients.d[k] = value;
        else narrow->coefficients.f[k] = (float)value;
    }
    return 1;
}
