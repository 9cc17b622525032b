/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The softmax of a few rows in double precision: e^(x - max), their sum and its logarithm, in a fixed order. A row's sum
 * is made of eight partial sums, of the classes with equal class mod 8, which are added as in moments_template.h. Each row
 * has one lane of the vectors, and nothing is done across lanes, so that the width of vectors does not show.
 *
 * A row that holds a NaN or +inf has the sum NaN.
 *
 * Parameters: double as the real type; activation_template.h and moments_template.h.
 */

/* ln x for x >= 1 and NaN: x = 2^k (1 + e), and ln 2 in two parts. Max Error: 2^-51 max(1, ln x). Valid Range: x < 2^60. */
FI_INLINE vd FI_NAME(log_of_sum)(vd x) {
    const vd one = vd_set1(1), k = vd_exponent(x);
    const vd log1p = FI_REAL(log1p)(vd_sub(vd_mantissa(x), one));
    const vd y = vd_fma(k, vd_set1(FI_LN2_HIGH), vd_fma(k, vd_set1(FI_LN2_LOW), log1p));
    return vd_add(y, vd_sub(x, x)); /* the bits of a NaN are no number's */
}

/* The largest of a column of `classes` numbers in each lane, which is no NaN; and sums of the e^(x - largest) that x becomes. */
FI_INLINE vd FI_NAME(softmax_rows)(double *x, size_t classes, vd sums[8]) {
    vd largest = vd_set1(-INFINITY);
    for (size_t c = 0; c < classes; c++) largest = vd_max(vd_load(x + c * FI_SOFTMAX_ROWS), largest);
    for (int s = 0; s < 8; s++) sums[s] = vd_set1(0);
    for (size_t c = 0; c < classes; c++) {
        double *at = x + c * FI_SOFTMAX_ROWS;
        const FI_REAL(exponential) parts = FI_REAL(exp_negative)(vd_sub(vd_load(at), largest));
        const vd e = vd_mul(vd_mul(parts.m, parts.high), parts.low);
        sums[c % 8] = vd_add(sums[c % 8], e);
        vd_store(at, e);
    }
    return largest;
}

static void FI_NAME(softmax)(double *rows, size_t classes, fi_softmax *out) {
    for (size_t r = 0; r < FI_SOFTMAX_ROWS; r += FI_DOUBLE_LANES) {
        vd s[8];
        vd_store(out->max + r, FI_NAME(softmax_rows)(rows + r, classes, s));
        const vd sum = vd_add(vd_add(vd_add(s[0], s[4]), vd_add(s[2], s[6])), vd_add(vd_add(s[1], s[5]), vd_add(s[3], s[7])));
        vd_store(out->sum + r, sum);
        vd_store(out->log_sum + r, FI_NAME(log_of_sum)(sum));
    }
}
