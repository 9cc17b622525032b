/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Random words to the values of a truncated normal between narrow bounds: z = base + unit * P(t), see narrow.c. The polynomial
 * has as many terms as the window needs, from two on.
 *
 * Parameters: the vocabulary of dist_template.h.
 */

/* t = 2 U - 1, odd under the complement of all bits and never 0: the word with its leading bit flipped is a signed integer, and
 * with its last bit set the middle of two. Conversion rounds it to the dtype. */
FI_INLINE void FI_NAME(truncated_normal_narrow_f32)(const fi_plan *plan, uint64_t block, const vu *w, vf *x) {
    const fi_narrow *const narrow = &plan->narrow;
    vf t[4];
    (void)block;
    FI_UNROLL
    for (int v = 0; v < 4; v++) {
        const vu odd = vu_and_xor(w[v], vu_set1(UINT32_C(0xFFFFFFFE)), vu_set1(UINT32_C(0x80000001)));
        t[v] = vf_mul(vf_from_i32(odd), vf_set1(0x1p-31f));
        x[v] = vf_set1(narrow->coefficients.f[narrow->terms - 1]);
    }
    for (int k = narrow->terms - 2; k >= 0; k--) {
        FI_UNROLL
        for (int v = 0; v < 4; v++) x[v] = vf_add(vf_mul(x[v], t[v]), vf_set1(narrow->coefficients.f[k]));
    }
    FI_UNROLL
    for (int v = 0; v < 4; v++) {
        x[v] = vf_add(vf_set1(narrow->base_f), vf_mul(vf_set1(narrow->unit_f), x[v]));
        x[v] = FI_NAME(clamped)(plan, FI_NAME(shifted)(plan, vf_mul(vf_set1(plan->scale_f), x[v])));
    }
}

/* The same for `count` <= FI_GROUP_F64 vectors of whole words; or t = ln(far + (1 - far) V), where V is U, or 1 - U of a
 * window on the positive side. */
FI_INLINE void FI_NAME(narrow_f64)(const fi_plan *plan, const vq *w, vd *x, int count) {
    const fi_narrow *const narrow = &plan->narrow;
    vd t[FI_GROUP_F64], tail[FI_GROUP_F64];
    if (narrow->logarithmic) {
        FI_UNROLL
        for (int v = 0; v < count; v++) {
            const vd u = vd_add(vd_from_u64(vq_xor(w[v], vq_set1(narrow->flip))), vd_set1(0.5));
            tail[v] = vd_add(vd_set1(narrow->far), vd_mul(vd_set1((1 - narrow->far) * 0x1p-64), u));
        }
        FI_NAME(log_f64)(tail, t, count);
    } else {
        FI_UNROLL
        for (int v = 0; v < count; v++) {
            const vq odd = vq_or(vq_xor(w[v], vq_set1(UINT64_C(1) << 63)), vq_set1(1));
            t[v] = vd_mul(vd_from_i64(odd), vd_set1(0x1p-63));
        }
    }
    FI_UNROLL
    for (int v = 0; v < count; v++) x[v] = vd_set1(narrow->coefficients.d[narrow->terms - 1]);
    for (int k = narrow->terms - 2; k >= 0; k--) {
        FI_UNROLL
        for (int v = 0; v < count; v++) x[v] = vd_add(vd_mul(x[v], t[v]), vd_set1(narrow->coefficients.d[k]));
    }
    FI_UNROLL
    for (int v = 0; v < count; v++) {
        x[v] = vd_add(vd_set1(narrow->base), vd_mul(vd_set1(narrow->unit), x[v]));
        x[v] = vd_add(vd_set1(plan->shift), vd_mul(vd_set1(plan->scale), x[v]));
        x[v] = vd_min(vd_max(x[v], vd_set1(plan->clamp_low)), vd_set1(plan->clamp_high));
    }
}

FI_INLINE vd FI_NAME(truncated_normal_narrow_f64)(const fi_plan *plan, vq w) {
    vd x;
    FI_NAME(narrow_f64)(plan, &w, &x, 1);
    return x;
}
