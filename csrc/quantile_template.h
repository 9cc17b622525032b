/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The standard normal quantile, folded to the upper half: z = -Phi^-1(p) for 0 < p <= 1/2.
 *
 * Parameters: the vocabulary of the including isa_*.c:
 *   vf vu   FI_LANES floats / 32-bit words: vf_set1 vf_add vf_sub vf_mul vf_mantissa vf_lookup vf_settle
 *   vd vq   doubles / 64-bit words in as many lanes: vd_set1 vd_add vd_sub vd_mul vd_div vd_sqrt
 *           vd_mantissa vd_exponent vd_lookup, vm vd_less vm_any vm_all vd_select
 * and the constants of tables.h and ppnd16.h.
 */

/* float32. z[v] = -Phi^-1((f[v] + 1/2) 2^-32), of four vectors at once.
 * Max Error: 3e-7 * max(1, z). Valid Range: f in [2^17, 2^31]; z > 0.
 *
 * No logarithm: the four lowest exponent bits and the leading mantissa bit of f choose one of 29 half
 * octaves, and the mantissa is the variable of a polynomial of degree 5, whose tables have absorbed the 1/2.
 * All vectors take one coefficient before the next, so that its table is loaded once. vf_settle makes the compiler
 * do the arithmetic in that order: GCC 12 delays a chain to its last use and spills all table entries meanwhile.
 *
 * Tried and lost: degree 8 on 16 whole octaves (a permute of one register, but three more terms);
 * one vector after the other (the tables are reloaded or spilled). */
FI_INLINE void FI_NAME(quantile_f32)(const vf f[4], vf z[4]) {
    vu i[4];
    vf t[4];
    FI_UNROLL
    for (int v = 0; v < 4; v++) {
        i[v] = vu_shr(vf_bits(f[v]), 22);
        t[v] = vf_sub(vf_mantissa(vf_bits(f[v])), vf_set1(1.5f));
        z[v] = vf_lookup(fi_quantile32_c5, i[v]);
    }
#define FI_TERM(table)                                               \
    FI_UNROLL                                                        \
    for (int v = 0; v < 4; v++) {                                    \
        z[v] = vf_add(vf_mul(z[v], t[v]), vf_lookup(table, i[v])); \
        vf_settle(z[v]);                                             \
    }
    FI_TERM(fi_quantile32_c4)
    FI_TERM(fi_quantile32_c3)
    FI_TERM(fi_quantile32_c2)
    FI_TERM(fi_quantile32_c1)
    FI_TERM(fi_quantile32_c0)
#undef FI_TERM
}

/* ln x, x > 0 normal. Max Error: 2 ULP where |ln x| > 1 (the only use).
 * x = 2^e m; with the reciprocal v of the middle of m's sixteenth of [1, 2): ln m = -ln v + log1p(m v - 1). */
FI_INLINE vd FI_NAME(log_f64)(vd x) {
    const vd e = vd_exponent(x);
    const vd m = vd_mantissa(x);
    const vd r = vd_sub(vd_mul(m, vd_lookup(fi_log_inverse, x)), vd_set1(1.0));
    vd y = vd_set1(fi_log1p[8]);
    FI_UNROLL
    for (int k = 7; k >= 0; k--) y = vd_add(vd_mul(y, r), vd_set1(fi_log1p[k]));
    y = vd_add(r, vd_mul(vd_mul(r, r), y));
    y = vd_add(vd_lookup(fi_log_value, x), y);
    return vd_add(vd_mul(e, vd_set1(0.693147180559945309417)), y);
}

/* float64. Arguments p in (0, 1/2] and q = 1/2 - p, each to full relative precision.
 * Max Error: 2^-50 * max(1, z). Valid Range: [2^-1022, 1/2]. */
FI_INLINE vd FI_NAME(quantile_f64)(vd p, vd q) {
    const vm middle = vd_less(q, vd_set1(0.425));
    const vd t = vd_sub(vd_set1(0.180625), vd_mul(q, q));
    vd x = t, factor = q;
    vm far = vd_less(vd_set1(1.0), vd_set1(0.0));
    /* A single lane is in the middle 85 % of the time and then needs no logarithm; of eight lanes
     * one is in the tails 73 % of the time. */
    const int tails = FI_LANES > 1 || !vm_any(middle);
    if (tails) {
        const vd r = vd_sqrt(vd_sub(vd_set1(0.0), FI_NAME(log_f64)(p)));
        far = vd_less(vd_set1(5.0), r); /* p < 1.4e-11 */
        x = vd_select(middle, t, vd_sub(r, vd_select(far, vd_set1(5.0), vd_set1(1.6))));
        factor = vd_select(middle, q, vd_set1(1.0));
    }
#define FI_COEFFICIENT(side, k)                                                                  \
    (tails ? vd_select(middle, vd_set1(fi_ppnd_middle[side][k]),                           \
                       vd_set1(fi_ppnd_tail[side][k]))                                     \
           : vd_set1(fi_ppnd_middle[side][k]))
    vd numerator = FI_COEFFICIENT(0, 7), denominator = FI_COEFFICIENT(1, 7);
    FI_UNROLL
    for (int k = 6; k >= 0; k--) {
        numerator = vd_add(vd_mul(numerator, x), FI_COEFFICIENT(0, k));
        denominator = vd_add(vd_mul(denominator, x), FI_COEFFICIENT(1, k));
    }
#undef FI_COEFFICIENT
    if (FI_UNLIKELY(vm_any(far))) {
        vd n = vd_set1(fi_ppnd_far[0][7]), d = vd_set1(fi_ppnd_far[1][7]);
        for (int k = 6; k >= 0; k--) {
            n = vd_add(vd_mul(n, x), vd_set1(fi_ppnd_far[0][k]));
            d = vd_add(vd_mul(d, x), vd_set1(fi_ppnd_far[1][k]));
        }
        numerator = vd_select(far, n, numerator);
        denominator = vd_select(far, d, denominator);
    }
    return vd_mul(vd_div(numerator, denominator), factor);
}
