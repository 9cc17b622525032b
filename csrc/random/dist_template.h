/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Random words to random values, docs/stream.md sections 2 to 4: one function for each law and precision,
 * on the words that one call of Philox gives. No fma: multiplications and additions give
 * the same bits everywhere, and fast, also where fma would be a call of libm.
 *
 * Parameters: the vocabulary of quantile_template.h and
 *   vu_set1 vu_xor vu_and_xor vu_and3 vu_any_lacks vu_sar, vf_from_i32 vf_from_u32 vf_min vf_max
 *   vf_negated_unless vf_load vf_store, vq_sar63 vq_xor, vd_from_i64, vd_min vd_max vq_load
 *   vm_append vq_append
 */

/* Elements are made by units: as many tiles as the blocks of one call of Philox belong to, at least one. A unit
 * begins at a multiple of its length, so that within it the block number never carries into counter word 1. */
#define FI_UNIT_BLOCKS (FI_STREAMS * FI_LANES < 16 ? 16 : FI_STREAMS * FI_LANES)
#define FI_UNIT (4 * FI_UNIT_BLOCKS)

/* ---- float32: IN w, OUT x, four vectors each: vector j holds word j of FI_LANES blocks, of which `block` is
 * the first. ------------------------------------------------------------------------------ */

/* The element in a lane of a vector. */
FI_INLINE uint64_t FI_NAME(element_of)(uint64_t block, int vector, int lane) {
    block += (unsigned)lane;
    return block / 16 * FI_TILE + (unsigned)(16 * vector) + block % 16;
}

FI_INLINE vf FI_NAME(clamped)(const fi_plan *plan, vf x) {
    return vf_min(vf_max(x, vf_set1(plan->clamp_low_f)), vf_set1(plan->clamp_high_f));
}

FI_INLINE vf FI_NAME(shifted)(const fi_plan *plan, vf x) {
    return plan->shifted ? vf_add(vf_set1(plan->shift_f), x) : x;
}

FI_INLINE void FI_NAME(uniform_f32)(const fi_plan *plan, uint64_t block, const vu *w, vf *x) {
    (void)block;
    FI_UNROLL
    for (int v = 0; v < 4; v++) {
        /* 2^7 (2 (w >> 8) + 1 - 2^24) as an integer: w with its leading bit flipped, its last byte 0x80. Exact in
         * float32, and one operation less than shifting it down. */
        const vf u = vf_from_i32(
            vu_and_xor(w[v], vu_set1(UINT32_C(0xFFFFFF00)), vu_set1(UINT32_C(0x80000080))));
        if (plan->clamp) {
            const vf y = vf_mul(vf_set1(plan->scale_f), vf_mul(u, vf_set1(0x1p-31f)));
            x[v] = FI_NAME(clamped)(plan, vf_add(vf_set1(plan->shift_f), y));
        } else {
            x[v] = FI_NAME(shifted)(plan, vf_mul(u, vf_set1(plan->unit_scale_f)));
        }
    }
}

/* The rare elements (6 in 100,000) so far out that 32 bits are too coarse: again in double precision, from both words. */
FI_NOINLINE void FI_NAME(refine)(const fi_plan *plan, uint64_t block, const uint32_t *w, const float *f,
                                 float *x) {
    for (int i = 0; i < 4 * FI_LANES; i++) {
        if (f[i] >= 0x1p17f) continue;
        const uint64_t element = FI_NAME(element_of)(block, i / FI_LANES, i % FI_LANES);
        const uint32_t second = FI_UNLIKELY(plan->second_words != NULL)
                                    ? plan->second_words[i]
                                    : fi_word(plan->key, plan->dist.plane + 1, element);
        const uint64_t word = ((uint64_t)w[i] << 32) | second;
        double below = ((double)word + 0.5) * 0x1p-64, above = ((double)~word + 0.5) * 0x1p-64;
        if (plan->dist.law == FI_TRUNCATED_NORMAL) {
            below = plan->tail_low + plan->mass * below;
            above = plan->tail_high + plan->mass * above;
        }
        const float z = (float)fi_normal_quantile_tail(below < above ? below : above);
        float y = plan->scale_f * (below < above ? -z : z);
        if (plan->shifted) y = plan->shift_f + y;
        if (plan->dist.law == FI_TRUNCATED_NORMAL) {
            y = y > plan->clamp_low_f ? y : plan->clamp_low_f;
            y = y < plan->clamp_high_f ? y : plan->clamp_high_f;
        }
        x[i] = y;
    }
}

/* The second half of all normal laws: from f, the smaller tail's probability in units of 2^-32, to values. They lie above the
 * mean where the leading bit of `upper` is set. */
FI_INLINE void FI_NAME(from_tails)(const fi_plan *plan, uint64_t block, const vu *w, const vf *f,
                                   const vu *upper, float limit, vf *x) {
    vf z[4];
    const int far_from_tails = FI_NAME(quantile_f32)(f, z);
    FI_UNROLL
    for (int v = 0; v < 4; v++) {
        if (limit > 0) z[v] = vf_min(z[v], vf_set1(limit));
        x[v] = vf_mul(vf_set1(plan->scale_f), vf_negated_unless(z[v], upper[v]));
        x[v] = FI_NAME(shifted)(plan, x[v]);
        if (plan->clamp) x[v] = FI_NAME(clamped)(plan, x[v]);
    }
    /* f >= 2^17 is exponent bits 1001xxxx, which no smaller f shares in both ones: one AND for two vectors,
     * where minima would be one for each. */
    const vu common = vu_and3(vu_and3(vf_bits(f[0]), vf_bits(f[1]), vf_bits(f[2])), vf_bits(f[3]), vf_bits(f[3]));
    if (!far_from_tails && FI_UNLIKELY(vu_any_lacks(common, UINT32_C(0x48000000)))) {
        uint32_t words[4 * FI_LANES];
        float tails[4 * FI_LANES], values[4 * FI_LANES];
        for (int v = 0; v < 4; v++) {
            vu_store(words + v * FI_LANES, w[v]);
            vf_store(tails + v * FI_LANES, f[v]);
            vf_store(values + v * FI_LANES, x[v]);
        }
        FI_NAME(refine)(plan, block, words, tails, values);
        for (int v = 0; v < 4; v++) x[v] = vf_load(values + v * FI_LANES);
    }
}

/* The smaller of w and ~w: the lower half of all words are values below the mean. */
FI_INLINE vf FI_NAME(folded)(vu w) { return vf_from_i32(vu_xor(w, vu_sar(w, 31))); }

FI_INLINE void FI_NAME(normal_f32)(const fi_plan *plan, uint64_t block, const vu *w, vf *x) {
    vf f[4];
    FI_UNROLL
    for (int v = 0; v < 4; v++) f[v] = FI_NAME(folded)(w[v]);
    FI_NAME(from_tails)(plan, block, w, f, w, 0, x);
}

/* Bounds -c and c: both halves are alike, as without bounds. A float32 is clamped once, before it is scaled; a 16-bit number
 * (plan->clamp) at the end, to the bounds that its dtype has. */
FI_INLINE void FI_NAME(truncated_normal_symmetric_f32)(const fi_plan *plan, uint64_t block, const vu *w,
                                                       vf *x) {
    vf f[4];
    FI_UNROLL
    for (int v = 0; v < 4; v++)
        f[v] = vf_add(vf_set1(plan->tail_low_f), vf_mul(vf_set1(plan->mass_f), FI_NAME(folded)(w[v])));
    FI_NAME(from_tails)(plan, block, w, f, w, plan->limit_f, x);
}

/* Both tails of U' = Phi(lower) + U * mass, each as a sum of what is small on its side, so that none cancels. */
FI_INLINE void FI_NAME(truncated_normal_f32)(const fi_plan *plan, uint64_t block, const vu *w, vf *x) {
    vf f[4];
    vu upper[4];
    const vf mass = vf_set1(plan->mass_f);
    FI_UNROLL
    for (int v = 0; v < 4; v++) {
        const vf u = vf_from_u32(w[v]);
        const vf rest = vf_from_u32(vu_xor(w[v], vu_set1(UINT32_C(0xFFFFFFFF))));
        const vf below = vf_add(vf_set1(plan->tail_low_f), vf_mul(mass, u));
        const vf above = vf_add(vf_set1(plan->tail_high_f), vf_mul(mass, rest));
        f[v] = vf_min(vf_min(below, above), vf_set1(0x1p31f));
        upper[v] = vf_bits(vf_sub(above, below));
    }
    FI_NAME(from_tails)(plan, block, w, f, upper, 0, x);
}

/* ---- float64: IN w, the 64 bits of each element --------------------------------------- */

FI_INLINE vd FI_NAME(uniform_f64)(const fi_plan *plan, vq w) {
    /* 2 (w >> 11) + 1 - 2^53 */
    const vd u = vd_from_i64(vq_sub(vq_or(vq_shr(w, 10), vq_set1(1)), vq_set1(UINT64_C(1) << 53)));
    const vd y = vd_mul(vd_set1(plan->scale), vd_mul(u, vd_set1(0x1p-53)));
    return vd_min(vd_max(vd_add(vd_set1(plan->shift), y), vd_set1(plan->clamp_low)),
                  vd_set1(plan->clamp_high));
}

/* The normal laws, for either half of the values: OUT p, the smaller tail; q = 1/2 - p; and a word whose leading
 * bit is set in the upper half. */
FI_INLINE void FI_NAME(normal_tails)(const fi_plan *plan, vq w, vd *p, vd *q, vq *upper) {
    (void)plan;
    const vq sign = vq_sar63(w), rest = vq_xor3(w, sign, vq_set1(INT64_MAX));
    *p = vd_mul(vd_add(vd_from_i64(vq_xor(w, sign)), vd_set1(0.5)), vd_set1(0x1p-64));
    *q = vd_mul(vd_add(vd_from_i64(rest), vd_set1(0.5)), vd_set1(0x1p-64));
    *upper = w;
}

FI_INLINE void FI_NAME(truncated_normal_tails)(const fi_plan *plan, vq w, vd *p, vd *q, vq *upper) {
    const vd u = vd_mul(vd_add(vd_from_u64(w), vd_set1(0.5)), vd_set1(0x1p-64));
    const vd v = vd_mul(vd_add(vd_from_u64(vq_xor(w, vq_set1(UINT64_MAX))), vd_set1(0.5)),
                        vd_set1(0x1p-64));
    const vd below = vd_add(vd_set1(plan->tail_low), vd_mul(vd_set1(plan->mass), u));
    const vd above = vd_add(vd_set1(plan->tail_high), vd_mul(vd_set1(plan->mass), v));
    *p = vd_min(vd_min(below, above), vd_set1(0.5));
    *q = vd_sub(vd_set1(0.5), *p);
    *upper = vd_bits(vd_sub(above, below));
}

/* z >= 0 to the value. */
FI_INLINE vd FI_NAME(finished_f64)(const fi_plan *plan, vd z, vq upper) {
    vd x = vd_mul(vd_set1(plan->scale), vd_negated_unless(z, upper));
    if (plan->shifted) x = vd_add(vd_set1(plan->shift), x);
    if (!plan->clamp) return x;
    return vd_min(vd_max(x, vd_set1(plan->clamp_low)), vd_set1(plan->clamp_high));
}

/* The elements beyond the middle, of some units: their places, counted from `base`, and their words. For a normal law they
 * are 15 in 100, and gathered into vectors of their own they take a quarter of the time that all vectors with at least one of
 * them would take (73 in 100 at eight lanes). Those of one unit would be too few to hide the latency of their operations. The
 * list is emptied when the next unit might not fit: it lies on the stack, which may be small. */
#define FI_TAIL_LIST (4 * FI_UNIT)
#define FI_TAIL_GROUP (FI_TAIL_VECTORS * FI_DOUBLE_LANES)
typedef struct {
    double *base;
    unsigned count;
    uint32_t at[FI_TAIL_LIST + FI_TAIL_GROUP];
    uint64_t words[FI_TAIL_LIST + FI_TAIL_GROUP];
} FI_NAME(tails);

FI_INLINE void FI_NAME(tails_add)(FI_NAME(tails) * tails, vm beyond, vq w, unsigned at) {
    vm_append(beyond, at, tails->at + tails->count);
    tails->count += vq_append(beyond, w, tails->words + tails->count);
}

/* Computes the values of the list, and empties it. */
#define FI_FINISH(law)                                                                             \
    FI_NOINLINE void FI_NAME(finish_##law)(const fi_plan *plan, FI_NAME(tails) * tails) {          \
        const unsigned n = tails->count;                                                           \
        for (unsigned l = 0; l < FI_TAIL_GROUP; l++) tails->words[n + l] = 0; /* whole groups */   \
        for (unsigned k = 0; k < n; k += FI_TAIL_GROUP) {                                          \
            vd p[FI_TAIL_VECTORS], q, z[FI_TAIL_VECTORS];                                          \
            vq upper[FI_TAIL_VECTORS];                                                             \
            double lanes[FI_TAIL_GROUP];                                                           \
            FI_UNROLL                                                                              \
            for (unsigned v = 0; v < FI_TAIL_VECTORS; v++)                                         \
                FI_NAME(law##_tails)(plan, vq_load(tails->words + k + v * FI_DOUBLE_LANES), &p[v], &q, &upper[v]); \
            FI_NAME(quantile_tail_f64)(p, z);                                                      \
            FI_UNROLL                                                                              \
            for (unsigned v = 0; v < FI_TAIL_VECTORS; v++)                                         \
                vd_store(lanes + v * FI_DOUBLE_LANES, FI_NAME(finished_f64)(plan, z[v], upper[v])); \
            for (unsigned l = 0; l < FI_TAIL_GROUP && k + l < n; l++) tails->base[tails->at[k + l]] = lanes[l]; \
        }                                                                                          \
        tails->count = 0;                                                                          \
    }
FI_FINISH(normal)
FI_FINISH(truncated_normal)
