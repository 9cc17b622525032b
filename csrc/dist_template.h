/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Random words to random values, docs/stream.md sections 2 to 4: one function a law and precision,
 * on the four rows of words that one call of Philox gives. No fma: plain multiplies and adds give
 * the same bits everywhere.
 *
 * Parameters: the vocabulary of quantile_template.h and
 *   vu_set1 vu_xor vu_xor_or vu_sar vu_shr, vf_from_i32 vf_from_u32 vf_min vf_max vf_any_less
 *   vf_copysign_not vf_load vf_store, vq_sar63 vq_xor vq_low63, vd_from_i64, vd_min vd_max
 */

/* ---- float32: IN w[4], OUT x[4]; `element` is the index of the first lane of row 0 ------- */

FI_INLINE void FI_NAME(uniform_f32)(const fi_plan *plan, uint64_t element, const vu w[4], vf x[4]) {
    (void)element;
    const vf shift = vf_set1(plan->shift_f);
    for (int j = 0; j < 4; j++) {
        /* 2 (w >> 8) + 1 - 2^24, as the arithmetic shift of w with its leading bit flipped. */
        const vf u = vf_from_i32(
            vu_xor_or(vu_sar(w[j], 7), vu_set1(UINT32_C(0xFF000000)), vu_set1(1)));
        if (plan->clamp) {
            const vf y = vf_mul(vf_set1(plan->scale_f), vf_mul(u, vf_set1(0x1p-24f)));
            x[j] = vf_min(vf_max(vf_add(shift, y), vf_set1(plan->clamp_low_f)),
                          vf_set1(plan->clamp_high_f));
        } else {
            x[j] = vf_add(shift, vf_mul(u, vf_set1(plan->unit_scale_f)));
        }
    }
}

/* The rare elements (6 in 100,000) whose tail word is too coarse: both words, in double precision. */
FI_NOINLINE void FI_NAME(refine)(const fi_plan *plan, uint64_t element, const uint32_t *w,
                                 const float *f, float *x) {
    for (int j = 0; j < 4; j++) {
        for (int lane = 0; lane < FI_LANES; lane++) {
            const int i = j * FI_LANES + lane;
            if (f[i] >= 0x1p17f) continue;
            const uint32_t w1 =
                fi_word(plan->key, plan->dist.plane + 1, element + 16 * (unsigned)j + (unsigned)lane);
            const uint64_t word = ((uint64_t)w[i] << 32) | w1;
            double p, below = ((double)word + 0.5) * 0x1p-64, above = ((double)~word + 0.5) * 0x1p-64;
            int negative;
            if (plan->dist.law == FI_NORMAL) {
                negative = below < above;
                p = negative ? below : above;
            } else {
                below = plan->tail_low + plan->mass * below;
                above = plan->tail_high + plan->mass * above;
                negative = below < above;
                p = negative ? below : above;
            }
            const float z = (float)fi_normal_quantile_tail(p);
            float y = plan->shift_f + plan->scale_f * (negative ? -z : z);
            if (plan->clamp) {
                y = y > plan->clamp_low_f ? y : plan->clamp_low_f;
                y = y < plan->clamp_high_f ? y : plan->clamp_high_f;
            }
            x[i] = y;
        }
    }
}

/* Folded tail words f and signs to values; the shared second half of both normal laws. */
FI_INLINE void FI_NAME(from_tails)(const fi_plan *plan, uint64_t element, const vu w[4],
                                   const vf f[4], const vu sign[4], vf x[4]) {
    vf z[4];
    for (int j = 0; j < 4; j++) z[j] = FI_NAME(quantile_f32)(f[j]);
    for (int j = 0; j < 4; j++) {
        x[j] = vf_add(vf_set1(plan->shift_f),
                      vf_mul(vf_set1(plan->scale_f), vf_with_sign(z[j], sign[j])));
        if (plan->clamp)
            x[j] = vf_min(vf_max(x[j], vf_set1(plan->clamp_low_f)), vf_set1(plan->clamp_high_f));
    }
    const vf least = vf_min(vf_min(f[0], f[1]), vf_min(f[2], f[3]));
    if (FI_UNLIKELY(vf_any_less(least, vf_set1(0x1p17f)))) {
        uint32_t words[4 * FI_LANES];
        float tails[4 * FI_LANES], values[4 * FI_LANES];
        for (int j = 0; j < 4; j++) {
            vu_store(words + j * FI_LANES, w[j]);
            vf_store(tails + j * FI_LANES, f[j]);
            vf_store(values + j * FI_LANES, x[j]);
        }
        FI_NAME(refine)(plan, element, words, tails, values);
        for (int j = 0; j < 4; j++) x[j] = vf_load(values + j * FI_LANES);
    }
}

FI_INLINE void FI_NAME(normal_f32)(const fi_plan *plan, uint64_t element, const vu w[4], vf x[4]) {
    vf f[4];
    vu sign[4];
    for (int j = 0; j < 4; j++) {
        /* The lower half of the words is the negative half of the values. */
        f[j] = vf_add(vf_from_i32(vu_xor(w[j], vu_sar(w[j], 31))), vf_set1(0.5f));
        sign[j] = vu_xor(w[j], vu_set1(UINT32_C(0xFFFFFFFF)));
    }
    FI_NAME(from_tails)(plan, element, w, f, sign, x);
}

/* Both tails of U' = Phi(lower) + U * mass, each by additions of what is small on its side. */
FI_INLINE void FI_NAME(truncated_normal_f32)(const fi_plan *plan, uint64_t element, const vu w[4],
                                             vf x[4]) {
    vf f[4];
    vu sign[4];
    const vf mass = vf_set1(plan->mass_f);
    for (int j = 0; j < 4; j++) {
        const vf u = vf_add(vf_from_u32(w[j]), vf_set1(0.5f));
        const vf v = vf_add(vf_from_u32(vu_xor(w[j], vu_set1(UINT32_C(0xFFFFFFFF)))), vf_set1(0.5f));
        const vf below = vf_add(vf_set1(plan->tail_low_f), vf_mul(mass, u));
        const vf above = vf_add(vf_set1(plan->tail_high_f), vf_mul(mass, v));
        f[j] = vf_min(vf_min(below, above), vf_set1(0x1p31f));
        sign[j] = vf_bits(vf_sub(below, above)); /* negative where the lower tail is the smaller */
    }
    FI_NAME(from_tails)(plan, element, w, f, sign, x);
}

/* ---- float64: IN w, the 64 bits of each element, OUT the value -------------------------- */

FI_INLINE vd FI_NAME(uniform_f64)(const fi_plan *plan, vq w) {
    /* 2 (w >> 11) + 1 - 2^53 */
    const vd u = vd_from_i64(vq_sub(vq_or(vq_shr(w, 10), vq_set1(1)), vq_set1(UINT64_C(1) << 53)));
    const vd y = vd_mul(vd_set1(plan->scale), vd_mul(u, vd_set1(0x1p-53)));
    return vd_min(vd_max(vd_add(vd_set1(plan->shift), y), vd_set1(plan->clamp_low)),
                  vd_set1(plan->clamp_high));
}

FI_INLINE vd FI_NAME(normal_f64)(const fi_plan *plan, vq w) {
    const vq tail = vq_xor(w, vq_sar63(w)); /* the smaller of w and ~w */
    const vd p = vd_mul(vd_add(vd_from_i64(tail), vd_set1(0.5)), vd_set1(0x1p-64));
    const vd q = vd_mul(vd_add(vd_from_i64(vq_xor(tail, vq_set1(INT64_MAX))), vd_set1(0.5)),
                        vd_set1(0x1p-64));
    const vd z = FI_NAME(quantile_f64)(p, q);
    return vd_add(vd_set1(plan->shift),
                  vd_mul(vd_set1(plan->scale), vd_with_sign(z, vq_xor(w, vq_set1(UINT64_MAX)))));
}

FI_INLINE vd FI_NAME(truncated_normal_f64)(const fi_plan *plan, vq w) {
    const vd u = vd_mul(vd_add(vd_from_u64(w), vd_set1(0.5)), vd_set1(0x1p-64));
    const vd v = vd_mul(vd_add(vd_from_u64(vq_xor(w, vq_set1(UINT64_MAX))), vd_set1(0.5)),
                        vd_set1(0x1p-64));
    const vd below = vd_add(vd_set1(plan->tail_low), vd_mul(vd_set1(plan->mass), u));
    const vd above = vd_add(vd_set1(plan->tail_high), vd_mul(vd_set1(plan->mass), v));
    const vd p = vd_min(vd_min(below, above), vd_set1(0.5));
    const vd z = FI_NAME(quantile_f64)(p, vd_sub(vd_set1(0.5), p));
    const vd x = vd_add(vd_set1(plan->shift),
                        vd_mul(vd_set1(plan->scale), vd_with_sign(z, vd_bits(vd_sub(below, above)))));
    return vd_min(vd_max(x, vd_set1(plan->clamp_low)), vd_set1(plan->clamp_high));
}
