/* SPDX-License-Identifier: BSD-3-Clause
 *
 * All that a fill computes once for all of its elements: parameters rounded to the dtype, bounds that the dtype has,
 * tail probabilities; docs/stream.md sections 2 to 5.
 */
#include <math.h>
#include <string.h>

#include "core/fpenv.h"
#include "core/internal.h"

static int is16(fi_dtype dtype) { return dtype == FI_FLOAT16 || dtype == FI_BFLOAT16; }

static float from16(uint16_t half, fi_dtype dtype) {
    uint32_t bits = (uint32_t)half << 16;
    if (dtype == FI_FLOAT16) {
        const uint32_t magnitude = half & 0x7FFFu;
        if (magnitude < 0x0400u) { /* subnormal: a multiple of 2^-24 */
            const float x = (float)magnitude * 0x1p-24f;
            return half & 0x8000u ? -x : x;
        }
        bits = ((uint32_t)(half & 0x8000u) << 16) | ((magnitude << 13) + 0x38000000u);
        if (magnitude >= 0x7C00u) bits |= 0x7F800000u;
    }
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The 16-bit number next to x (itself one) towards +-infinity. */
static float step16(float x, int up, fi_dtype dtype) {
    const uint16_t half = fi_round16(x, dtype);
    if ((half & 0x7FFFu) == 0) return from16(up ? 0x0001u : 0x8001u, dtype);
    const int away = (half & 0x8000u) ? !up : up;
    return from16((uint16_t)(away ? half + 1 : half - 1), dtype);
}

/* The outermost 16-bit numbers in [low, high], or in [low, high) where `open`. 0 if there is none. */
static int inside16(float low, float high, int open, fi_dtype dtype, float *first, float *last) {
    float a = from16(fi_round16(low, dtype), dtype), b = from16(fi_round16(high, dtype), dtype);
    if (a < low) a = step16(a, 1, dtype);
    if (open ? b >= high : b > high) b = step16(b, 0, dtype);
    if (!(a <= b)) return 0;
    *first = a;
    *last = b;
    return 1;
}

/* (a + b) / 2 and (b - a) / 2 without overflow. */
static double middle(double a, double b) {
    const double sum = a + b;
    return isinf(sum) ? 0.5 * a + 0.5 * b : 0.5 * sum;
}

static fi_status plan_uniform(fi_plan *plan) {
    const double low = plan->dist.a, high = plan->dist.b;
    plan->shift = middle(low, high);
    plan->scale = middle(-low, high);
    plan->clamp = 1;
    plan->clamp_low = low;
    plan->clamp_high = nextafter(high, -INFINITY);
    if (plan->dtype == FI_FLOAT64) return FI_OK;

    const float low_f = (float)low, high_f = (float)high;
    if (!(low_f < high_f)) return FI_ERR_NO_MASS;
    plan->shift_f = (float)plan->shift;
    plan->scale_f = (float)plan->scale;
    plan->unit_scale_f = plan->scale_f * 0x1p-31f;
    plan->clamp_low_f = low_f;
    plan->clamp_high_f = nextafterf(high_f, -INFINITY);
    if (is16(plan->dtype)) {
        if (!inside16(low_f, high_f, 1, plan->dtype, &plan->clamp_low_f, &plan->clamp_high_f))
            return FI_ERR_NO_MASS;
        return FI_OK;
    }
    /* x is monotone in u, so its values at the two outermost u tell whether any x leaves the bounds. And unit_scale_f
     * may be used only where its multiplication by 2^-31 was exact. */
    const float u = 1.0f - 0x1p-24f;
    const float least = plan->shift_f - plan->scale_f * u, most = plan->shift_f + plan->scale_f * u;
    plan->clamp = least < plan->clamp_low_f || most > plan->clamp_high_f || plan->scale_f < 0x1p-90f;
    plan->shifted = plan->clamp || plan->shift_f != 0;
    return FI_OK;
}

/* A bound in the dtype; a standard deviation of 0 times an infinite one is 0. */
static double bound(double mean, double std, double z) { return std == 0 ? mean : mean + std * z; }
static float bound_f(float mean, float std, float z) { return std == 0 ? mean : mean + std * z; }

/* Whether the bounds are so near each other that the ordinary kernels' error may exceed 2^-44 (float32: 2^-20) of their distance.
 * That error, with the one of the bounds' probabilities, is 2^-49 max(1, |z|), and in float32 2^-21 for |z| < 4, where no second
 * word is taken. */
static int is_narrow(const fi_plan *plan, double lower, double upper) {
    const double width = upper - lower, farthest = -lower > upper ? -lower : upper;
    if (plan->dtype == FI_FLOAT64) return width < 0x1p-5 * (farthest > 1 ? farthest : 1);
    return width < 0.5;
}

static fi_status plan_truncated(fi_plan *plan) {
    const double lower = plan->dist.c, upper = plan->dist.d;
    plan->tail_low = fi_normal_tail(-lower);
    plan->tail_high = fi_normal_tail(upper);
    /* By the probabilities that are small on the interval's side of zero, so that nothing cancels. */
    if (lower >= 0) plan->mass = fi_normal_tail(lower) - plan->tail_high;
    else if (upper <= 0) plan->mass = fi_normal_tail(-upper) - plan->tail_low;
    else plan->mass = 1.0 - plan->tail_low - plan->tail_high;
    if (plan->mass < 0) plan->mass = 0; /* neighbouring bounds: the clamp then decides */
    /* Beyond 36 standard deviations the probabilities leave the range of the quantile. */
    if ((lower >= 0 && fi_normal_tail(lower) < 0x1p-940) ||
        (upper <= 0 && fi_normal_tail(-upper) < 0x1p-940))
        return FI_ERR_NO_MASS;
    plan->clamp = 1;
    const int narrow = is_narrow(plan, lower, upper);
    if (plan->dtype == FI_FLOAT64) {
        plan->clamp_low = bound(plan->shift, plan->scale, lower);
        plan->clamp_high = bound(plan->shift, plan->scale, upper);
        if (narrow && fi_narrow_make(plan)) plan->kernel = FI_TRUNCATED_NORMAL_NARROW;
        return FI_OK;
    }

    /* The float32 numbers inside the bounds; where the bounds are neighbours, their roundings. */
    float low_f = (float)lower, high_f = (float)upper;
    if ((double)low_f < lower) low_f = nextafterf(low_f, INFINITY);
    if ((double)high_f > upper) high_f = nextafterf(high_f, -INFINITY);
    if (low_f > high_f) {
        low_f = (float)lower;
        high_f = (float)upper;
    }
    plan->clamp_low_f = bound_f(plan->shift_f, plan->scale_f, low_f);
    plan->clamp_high_f = bound_f(plan->shift_f, plan->scale_f, high_f);
    if (is16(plan->dtype)) {
        const float low = plan->clamp_low_f, high = plan->clamp_high_f;
        inside16(low, high, 0, plan->dtype, &plan->clamp_low_f, &plan->clamp_high_f);
    }
    if (narrow && fi_narrow_make(plan)) {
        plan->kernel = FI_TRUNCATED_NORMAL_NARROW;
        return FI_OK;
    }
    /* The quantile's argument is 1/2 less than the tail in units of 2^-32, the word 1/2 less than its middle. */
    plan->tail_low_f = (float)(plan->tail_low * 0x1p32 + 0.5 * plan->mass - 0.5);
    plan->tail_high_f = (float)(plan->tail_high * 0x1p32 + 0.5 * plan->mass - 0.5);
    plan->mass_f = (float)plan->mass;
    if (lower == -upper) {
        plan->kernel = FI_TRUNCATED_NORMAL_SYMMETRIC;
        plan->limit_f = high_f;
        plan->clamp = is16(plan->dtype);
    }

    /* The float32 path refines, one by one, the elements whose tail is below 2^-15. Where those are more than
     * one in a thousand it would be slow: the whole fill then goes through double precision, as between narrow bounds far
     * from the middle. */
    const double tail = 0x1p-15, below = tail - plan->tail_low, above = tail - plan->tail_high;
    const double refined = (below > 0 ? below : 0) + (above > 0 ? above : 0);
    if (narrow || refined > plan->mass * 0x1p-10 || plan->mass < 0x1p-100) {
        plan->kernel = FI_TRUNCATED_NORMAL_WIDE;
        plan->clamp = 1;
        plan->scale = 1;
        plan->shift = 0;
        plan->clamp_low = lower;
        plan->clamp_high = upper;
    }
    return FI_OK;
}

static fi_status plan_parameters(fi_plan *plan) {
    if (plan->dist.law == FI_WORDS) return FI_OK;
    if (plan->dist.law == FI_UNIFORM) return plan_uniform(plan);
    plan->shift = plan->dist.a;
    plan->scale = plan->dist.b;
    plan->shift_f = (float)plan->shift;
    plan->scale_f = (float)plan->scale;
    const fi_status status = plan->dist.law == FI_NORMAL ? FI_OK : plan_truncated(plan);
    /* Adding a zero changes only a negative zero, and no |z| is less than 2^-26, or than its limit. */
    const float limit = plan->limit_f > 0 && plan->limit_f < 0x1p-26f ? plan->limit_f : 0x1p-26f;
    plan->shifted = plan->clamp || plan->shift_f != 0 || plan->scale_f * limit == 0;
    if (plan->dtype == FI_FLOAT64) plan->shifted = plan->clamp || plan->shift != 0 || plan->scale * 0x1p-65 == 0;
    return status;
}

fi_status fi_plan_make(fi_plan *plan, const fi_dist *dist, fi_dtype dtype, fi_key key) {
    const fi_fpenv saved = fi_fpenv_enter();
    memset(plan, 0, sizeof *plan);
    plan->dist = *dist;
    plan->kernel = dist->law;
    plan->dtype = dtype;
    plan->key = key;
    const fi_status status = plan_parameters(plan);
    fi_fpenv_leave(saved);
    return status;
}
