/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The softmax of a few rows in double precision: e^(x - max), their sum and its logarithm, in one written order. A row's sum
 * runs in eight lanes, lane = class mod 8, and these are added as in moments_template.h, so no width of vectors shows.
 * A row that holds a NaN or +inf has the sum NaN.
 *
 * Parameters: double as the real type; activation_template.h and moments_template.h.
 */
#define FI_SUMS (8 / FI_DOUBLE_LANES)

/* In place: row[c] becomes e^(row[c] - max). row: 8 `blocks` numbers, -inf beyond the last class. */
FI_INLINE void FI_NAME(softmax_row)(double *row, size_t blocks, double *max, double *sum) {
    const size_t vectors = blocks * FI_SUMS;
    double lanes[8];
    vd high[FI_SUMS], sums[FI_SUMS];
    for (int l = 0; l < FI_SUMS; l++) {
        high[l] = vd_set1(-INFINITY);
        sums[l] = vd_set1(0);
    }
    for (size_t v = 0; v < vectors; v++) high[v % FI_SUMS] = vd_max(vd_load(row + v * FI_DOUBLE_LANES), high[v % FI_SUMS]);
    for (int l = 0; l < FI_SUMS; l++) vd_store(lanes + l * FI_DOUBLE_LANES, high[l]);
    *max = lanes[0];
    for (int l = 1; l < 8; l++) *max = lanes[l] > *max ? lanes[l] : *max;
    const vd shift = vd_set1(*max);
    for (size_t v = 0; v < vectors; v++) {
        double *at = row + v * FI_DOUBLE_LANES;
        const FI_REAL(exponential) parts = FI_REAL(exp_negative)(vd_sub(vd_load(at), shift));
        const vd e = vd_mul(vd_mul(parts.m, parts.high), parts.low);
        sums[v % FI_SUMS] = vd_add(sums[v % FI_SUMS], e);
        vd_store(at, e);
    }
    for (int l = 0; l < FI_SUMS; l++) vd_store(lanes + l * FI_DOUBLE_LANES, sums[l]);
    *sum = FI_REAL(lanes_sum)(lanes);
}

/* ln x for x >= 1 and NaN: x = 2^k (1 + e), and ln 2 in two parts. Max Error: 2^-51 max(1, ln x). Valid Range: x < 2^60. */
FI_INLINE vd FI_NAME(log_of_sum)(vd x) {
    const vd one = vd_set1(1), k = vd_exponent(x);
    const vd log1p = FI_REAL(log1p)(vd_sub(vd_mantissa(x), one));
    const vd y = vd_fma(k, vd_set1(FI_LN2_HIGH), vd_fma(k, vd_set1(FI_LN2_LOW), log1p));
    return vd_add(y, vd_sub(x, x)); /* the bits of a NaN are no number's */
}

static void FI_NAME(softmax)(double *rows, size_t blocks, fi_softmax *out) {
    for (size_t r = 0; r < FI_SOFTMAX_ROWS; r++)
        FI_NAME(softmax_row)(rows + r * blocks * 8, blocks, &out->max[r], &out->sum[r]);
    for (size_t r = 0; r < FI_SOFTMAX_ROWS; r += FI_DOUBLE_LANES)
        vd_store(out->log_sum + r, FI_NAME(log_of_sum)(vd_load(out->sum + r)));
}
#undef FI_SUMS
