/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The standard normal quantile, folded to the upper half: z = -Phi^-1(p) for 0 < p <= 1/2.
 *
 * Parameters: the vocabulary of the including file of isa/:
 *   vf vu   FI_LANES floats / 32-bit words: vf_set1 vf_add vf_sub vf_mul vf_mantissa vf_lookup vf_settle
 *   vd vq   doubles / 64-bit words in as many lanes: vd_set1 vd_add vd_sub vd_mul vd_div vd_sqrt
 *           vd_settle vd_mantissa vd_exponent vd_lookup, vm vd_less vm_any vd_select
 * and the constants of normal_tables.h and ppnd16.h.
 */

/* float32. z[v] = -Phi^-1((f[v] + 1/2) 2^-32), of four vectors at once.
 * Max Error: 3e-7 * max(1, z). Valid Range: f in [2^17, 2^31]; z > 0.
 *
 * No logarithm: the four lowest exponent bits and the leading mantissa bit of f choose one of 29 half
 * octaves, and the mantissa is the variable of a polynomial of degree 5, whose coefficients take the 1/2 into account.
 * Each coefficient is used for all vectors before the next, so that its table is loaded once. vf_settle makes the compiler
 * do the arithmetic in that order: GCC 12 delays a chain to its last use and spills all table entries meanwhile.
 *
 * Where a lookup of 32 entries takes several instructions (FI_UPPER_LOOKUP), vectors whose f are all in [2^23, 2^31), seven
 * in eight at 32 lanes, look into the upper half of the tables alone. Returns 1 for those: no element needs refinement.
 *
 * Tried and lost: degree 8 on 16 whole octaves (a permute of one register, but three more terms);
 * one vector after the other (the tables are reloaded or spilled); -fschedule-insns and -mtune=znver3 (no gain). */
FI_INLINE int FI_NAME(quantile_f32)(const vf f[4], vf z[4]) {
    vu i[4];
    vf t[4];
    FI_UNROLL
    for (int v = 0; v < 4; v++) t[v] = vf_sub(vf_mantissa(vf_bits(f[v])), vf_set1(1.5f));
#define FI_TERM(lookup, k)                                                            \
    FI_UNROLL                                                                         \
    for (int v = 0; v < 4; v++) {                                                     \
        z[v] = vf_add(vf_mul(z[v], t[v]), lookup(fi_quantile32_c##k, i[v]));          \
        vf_settle(z[v]);                                                              \
    }
#define FI_POLYNOMIAL(lookup)                                                         \
    FI_UNROLL                                                                         \
    for (int v = 0; v < 4; v++) z[v] = lookup(fi_quantile32_c5, i[v]);                \
    FI_TERM(lookup, 4) FI_TERM(lookup, 3) FI_TERM(lookup, 2) FI_TERM(lookup, 1) FI_TERM(lookup, 0)
#if FI_UPPER_LOOKUP
    /* Half octaves above 2^23; those of the whole octaves [2^23, 2^31) are below 2^26 as integers. */
    FI_UNROLL
    for (int v = 0; v < 4; v++) i[v] = vu_sub(vf_bits(f[v]), vu_set1(UINT32_C(150) << 23));
    if (FI_LIKELY(!vu_any_has(vu_or(vu_or(i[0], i[1]), vu_or(i[2], i[3])), UINT32_C(0xFC000000)))) {
        FI_POLYNOMIAL(vf_lookup_upper)
        return 1;
    }
#endif
    FI_UNROLL
    for (int v = 0; v < 4; v++) i[v] = vu_shr(vf_bits(f[v]), 22);
    FI_POLYNOMIAL(vf_lookup)
    return 0;
}
#undef FI_POLYNOMIAL
#undef FI_TERM

/* float64, by two formulas, for the middle and for the tails: Max Error 2^-50 * max(1, z). The caller sorts the elements, so
 * that those of the middle, 85 in 100, take no time for a logarithm, and the others fill whole vectors. */
#define FI_GROUP_F64 (FI_ROWS_F64 * FI_HALVES) /* vectors that are worked on together */
#define FI_MIDDLE 0.425 /* of q = 1/2 - p, where the formulas meet */

/* Arguments q = 1/2 - p, of `count` vectors together. Valid Range: [0, FI_MIDDLE]; above, up to 1/2, the result is
 * finite but wrong. */
FI_INLINE void FI_NAME(quantile_middle_f64)(const vd *q, vd *z, int count) {
    vd x[FI_GROUP_F64], d[FI_GROUP_F64];
    FI_UNROLL
    for (int v = 0; v < count; v++) {
        x[v] = vd_sub(vd_set1(0.180625), vd_mul(q[v], q[v]));
        z[v] = vd_set1(fi_ppnd_middle[0][7]);
        d[v] = vd_set1(fi_ppnd_middle[1][7]);
    }
    FI_UNROLL
    for (int k = 6; k >= 0; k--) {
        FI_UNROLL
        for (int v = 0; v < count; v++) {
            z[v] = vd_add(vd_mul(z[v], x[v]), vd_set1(fi_ppnd_middle[0][k]));
            d[v] = vd_add(vd_mul(d[v], x[v]), vd_set1(fi_ppnd_middle[1][k]));
            vd_settle(z[v]);
            vd_settle(d[v]);
        }
    }
    FI_UNROLL
    for (int v = 0; v < count; v++) z[v] = vd_mul(vd_div(z[v], d[v]), q[v]);
}

/* FI_TAIL_VECTORS vectors together: one chain of the operations below is some 150 cycles long. Interleaving the tails
 * gained nothing before the middle was interleaved too. */
#define FI_TAIL_LOOP FI_UNROLL for (int v = 0; v < FI_TAIL_VECTORS; v++)

/* y = ln x of `count` <= FI_TAIL_VECTORS vectors, x > 0 normal. Max Error: 2 ULP where |ln x| > 1, 2^-52 where it is less.
 * x = 2^e m; with the reciprocal i of the middle of m's sixteenth of [1, 2): ln m = -ln i + log1p(m i - 1). */
FI_INLINE void FI_NAME(log_f64)(const vd *x, vd *y, int count) {
    vd r[FI_TAIL_VECTORS];
    FI_UNROLL
    for (int v = 0; v < count; v++) {
        r[v] = vd_sub(vd_mul(vd_mantissa(x[v]), vd_lookup(fi_log_inverse, x[v])), vd_set1(1.0));
        y[v] = vd_set1(fi_log1p[8]);
    }
    FI_UNROLL
    for (int k = 7; k >= 0; k--) {
        FI_UNROLL
        for (int v = 0; v < count; v++) {
            y[v] = vd_add(vd_mul(y[v], r[v]), vd_set1(fi_log1p[k]));
            vd_settle(y[v]);
        }
    }
    FI_UNROLL
    for (int v = 0; v < count; v++) {
        y[v] = vd_add(r[v], vd_mul(vd_mul(r[v], r[v]), y[v]));
        y[v] = vd_add(vd_lookup(fi_log_value, x[v]), y[v]);
        y[v] = vd_add(vd_mul(vd_exponent(x[v]), vd_set1(0.693147180559945309417)), y[v]);
    }
}

/* Valid Range: p in [2^-1022, 0.0751]; above, up to 1/2, the result is finite but wrong. */
FI_INLINE void FI_NAME(quantile_tail_f64)(const vd *p, vd *z) {
    vd r[FI_TAIL_VECTORS], y[FI_TAIL_VECTORS], n[FI_TAIL_VECTORS], d[FI_TAIL_VECTORS];
    FI_NAME(log_f64)(p, y, FI_TAIL_VECTORS);
    FI_TAIL_LOOP {
        r[v] = vd_sqrt(vd_sub(vd_set1(0.0), y[v]));
        y[v] = vd_sub(r[v], vd_set1(1.6));
        n[v] = vd_set1(fi_ppnd_tail[0][7]);
        d[v] = vd_set1(fi_ppnd_tail[1][7]);
    }
    FI_UNROLL
    for (int k = 6; k >= 0; k--) FI_TAIL_LOOP {
        n[v] = vd_add(vd_mul(n[v], y[v]), vd_set1(fi_ppnd_tail[0][k]));
        d[v] = vd_add(vd_mul(d[v], y[v]), vd_set1(fi_ppnd_tail[1][k]));
        vd_settle(n[v]);
        vd_settle(d[v]);
    }
    FI_TAIL_LOOP {
        const vm far = vd_less(vd_set1(5.0), r[v]); /* p < 1.4e-11 */
        if (FI_UNLIKELY(vm_any(far))) {
            const vd x = vd_sub(r[v], vd_set1(5.0));
            vd far_n = vd_set1(fi_ppnd_far[0][7]), far_d = vd_set1(fi_ppnd_far[1][7]);
            for (int k = 6; k >= 0; k--) {
                far_n = vd_add(vd_mul(far_n, x), vd_set1(fi_ppnd_far[0][k]));
                far_d = vd_add(vd_mul(far_d, x), vd_set1(fi_ppnd_far[1][k]));
            }
            n[v] = vd_select(far, far_n, n[v]);
            d[v] = vd_select(far, far_d, d[v]);
        }
        z[v] = vd_div(n[v], d[v]);
    }
}
