/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The loops from element indices to memory. A tile is 64 elements: row j (0..3) of a tile is word j of
 * its 16 blocks, so FI_LANES blocks give four vectors that are stored 16 elements apart.
 *
 * Parameters: the vocabulary of philox_template.h and dist_template.h and
 *   vu_pack (FI_HALVES x vq -> vu), vq_join, vf_store_f16, vf_store_bf16, vd_store_halves
 */

/* Where in a unit the element of word 0 of a block lies. */
#define FI_AT(block) ((block) / 16 * FI_TILE + (block) % 16)

/* One unit of elements, by a law's float32 function; `store` rounds them to the dtype. */
#define FI_UNIT_FROM_F32(law, dtype, type, store)                                                \
    FI_INLINE void FI_NAME(unit_##law##_##dtype)(const fi_plan *plan, const FI_NAME(philox) * p, \
                                                 uint64_t unit, type *out, FI_NAME(tails) * tails) { \
        (void)tails;                                                                             \
        for (unsigned b = 0; b < FI_UNIT_BLOCKS; b += FI_STREAMS * FI_LANES) {                   \
            vq halves[4][FI_CHAINS];                                                             \
            FI_NAME(philox_words)(&p[0], (uint32_t)(unit * FI_UNIT_BLOCKS) + b, halves);         \
            vu w[FI_STREAMS][4];                                                                 \
            FI_UNROLL                                                                            \
            for (int s = 0; s < FI_STREAMS; s++)                                                 \
                for (int j = 0; j < 4; j++) w[s][j] = vu_pack(&halves[j][s * FI_HALVES]);        \
            FI_UNROLL                                                                            \
            for (unsigned s = 0; s < FI_STREAMS; s++) {                                          \
                const unsigned at = b + s * FI_LANES;                                            \
                vf x[4];                                                                         \
                FI_NAME(law##_f32)(plan, unit * FI_UNIT_BLOCKS + at, w[s], x);                   \
                for (unsigned j = 0; j < 4; j++) store(out + FI_AT(at) + 16 * j, x[j]);          \
            }                                                                                    \
        }                                                                                        \
    }

/* Runs the argument, a compound statement, for each FI_ROWS_F64 rows of FI_LANES elements, from row j on, with their 64-bit
 * words in w. */
#define FI_UNIT_OF_WORDS(...)                                                                     \
    for (unsigned b = 0; b < FI_UNIT_BLOCKS; b += FI_STREAMS * FI_LANES) {                        \
        vq high[4][FI_CHAINS], low[4][FI_CHAINS];                                                 \
        FI_NAME(philox_words)(&p[0], (uint32_t)(unit * FI_UNIT_BLOCKS) + b, high);                \
        FI_NAME(philox_words)(&p[1], (uint32_t)(unit * FI_UNIT_BLOCKS) + b, low);                 \
        for (unsigned s = 0; s < FI_STREAMS; s++) {                                               \
            for (unsigned j = 0; j < 4; j += FI_ROWS_F64) {                                       \
                const unsigned at = FI_AT(b + s * FI_LANES) + 16 * j;                             \
                vq w[FI_GROUP_F64];                                                               \
                FI_UNROLL                                                                         \
                for (unsigned v = 0; v < FI_GROUP_F64; v++) {                                     \
                    const unsigned chain = s * FI_HALVES + v % FI_HALVES;                         \
                    w[v] = vq_join(high[j + v / FI_HALVES][chain], low[j + v / FI_HALVES][chain]); \
                }                                                                                 \
                __VA_ARGS__                                                                       \
            }                                                                                     \
        }                                                                                         \
    }

FI_INLINE void FI_NAME(store_f64)(double *out, const vd *x) {
    for (unsigned row = 0; row < FI_ROWS_F64; row++) vd_store_halves(out + 16 * row, x + row * FI_HALVES);
}

FI_INLINE void FI_NAME(unit_uniform_float64)(const fi_plan *plan, const FI_NAME(philox) * p,
                                             uint64_t unit, double *out, FI_NAME(tails) * tails) {
    (void)tails;
    FI_UNIT_OF_WORDS({
        vd x[FI_GROUP_F64];
        for (unsigned v = 0; v < FI_GROUP_F64; v++) x[v] = FI_NAME(uniform_f64)(plan, w[v]);
        FI_NAME(store_f64)(out + at, x);
    })
}

/* Every element by the formula for the middle of the distribution; those beyond it are put on the list of tails, which finish_
 * computes again. */
#define FI_UNIT_FROM_F64(law)                                                                     \
    FI_INLINE void FI_NAME(unit_##law##_float64)(const fi_plan *plan, const FI_NAME(philox) * p,  \
                                                 uint64_t unit, double *out, FI_NAME(tails) * tails) { \
        if (tails->count == 0) tails->base = out;                                                 \
        const unsigned here = (unsigned)(out - tails->base);                                      \
        FI_UNIT_OF_WORDS({                                                                        \
            vd x[FI_GROUP_F64], q[FI_GROUP_F64], tail;                                            \
            vq upper[FI_GROUP_F64];                                                               \
            for (unsigned v = 0; v < FI_GROUP_F64; v++)                                           \
                FI_NAME(law##_tails)(plan, w[v], &tail, &q[v], &upper[v]);                        \
            FI_NAME(quantile_middle_f64)(q, x, FI_GROUP_F64);                                     \
            for (unsigned v = 0; v < FI_GROUP_F64; v++) {                                         \
                x[v] = FI_NAME(finished_f64)(plan, x[v], upper[v]);                               \
                FI_NAME(tails_add)(tails, vd_less(vd_set1(FI_MIDDLE), q[v]), w[v],                \
                                   here + at + v / FI_HALVES * 16 + v % FI_HALVES);               \
            }                                                                                     \
            FI_NAME(store_f64)(out + at, x);                                                      \
        })                                                                                        \
    }

FI_UNIT_FROM_F32(uniform, float32, float, vf_store)
FI_UNIT_FROM_F32(uniform, float16, uint16_t, vf_store_f16)
FI_UNIT_FROM_F32(uniform, bfloat16, uint16_t, vf_store_bf16)
FI_UNIT_FROM_F32(normal, float32, float, vf_store)
FI_UNIT_FROM_F32(normal, float16, uint16_t, vf_store_f16)
FI_UNIT_FROM_F32(normal, bfloat16, uint16_t, vf_store_bf16)
FI_UNIT_FROM_F64(normal)
FI_UNIT_FROM_F32(truncated_normal, float16, uint16_t, vf_store_f16)
FI_UNIT_FROM_F32(truncated_normal, bfloat16, uint16_t, vf_store_bf16)
FI_UNIT_FROM_F32(truncated_normal, float32, float, vf_store)
FI_UNIT_FROM_F64(truncated_normal)
FI_UNIT_FROM_F32(truncated_normal_symmetric, float16, uint16_t, vf_store_f16)
FI_UNIT_FROM_F32(truncated_normal_symmetric, bfloat16, uint16_t, vf_store_bf16)
FI_UNIT_FROM_F32(truncated_normal_symmetric, float32, float, vf_store)

FI_UNIT_FROM_F32(truncated_normal_narrow, float32, float, vf_store)
FI_UNIT_FROM_F32(truncated_normal_narrow, float16, uint16_t, vf_store_f16)
FI_UNIT_FROM_F32(truncated_normal_narrow, bfloat16, uint16_t, vf_store_bf16)

FI_INLINE void FI_NAME(unit_truncated_normal_narrow_float64)(const fi_plan *plan, const FI_NAME(philox) * p,
                                                             uint64_t unit, double *out, FI_NAME(tails) * tails) {
    (void)tails;
    FI_UNIT_OF_WORDS({
        vd x[FI_GROUP_F64];
        FI_NAME(narrow_f64)(plan, w, x, FI_GROUP_F64);
        FI_NAME(store_f64)(out + at, x);
    })
}

/* FI_TRUNCATED_NORMAL_WIDE: the float32 path would refine so many elements one by one that all are made in double precision.
 * The plan's scale and shift are then 1 and 0, so that this gives z; here follow scale, shift and bounds in float32. */
FI_INLINE float FI_NAME(narrowed)(const fi_plan *plan, double z) {
    float y = plan->shift_f + plan->scale_f * (float)z;
    y = y > plan->clamp_low_f ? y : plan->clamp_low_f;
    return y < plan->clamp_high_f ? y : plan->clamp_high_f;
}

#define FI_UNIT_WIDE(dtype, type, store)                                                            \
    FI_INLINE void FI_NAME(unit_truncated_normal_wide_##dtype)(                                     \
        const fi_plan *plan, const FI_NAME(philox) * p, uint64_t unit, type *out, FI_NAME(tails) * tails) { \
        double z[FI_UNIT];                                                                          \
        float x[FI_UNIT];                                                                           \
        FI_NAME(unit_truncated_normal_float64)(plan, p, unit, z, tails);                            \
        FI_NAME(finish_truncated_normal)(plan, tails);                                              \
        for (unsigned i = 0; i < FI_UNIT; i++) x[i] = FI_NAME(narrowed)(plan, z[i]);                \
        for (unsigned i = 0; i < FI_UNIT; i += FI_LANES) store(out + i, vf_load(x + i));            \
    }
FI_UNIT_WIDE(float32, float, vf_store)
FI_UNIT_WIDE(float16, uint16_t, vf_store_f16)
FI_UNIT_WIDE(bfloat16, uint16_t, vf_store_bf16)

FI_INLINE void FI_NAME(unit_words_float32)(const fi_plan *plan, const FI_NAME(philox) * p,
                                           uint64_t unit, uint32_t *out, FI_NAME(tails) * tails) {
    (void)plan, (void)tails;
    for (unsigned b = 0; b < FI_UNIT_BLOCKS; b += FI_STREAMS * FI_LANES) {
        vq halves[4][FI_CHAINS];
        FI_NAME(philox_words)(&p[0], (uint32_t)(unit * FI_UNIT_BLOCKS) + b, halves);
        for (unsigned s = 0; s < FI_STREAMS; s++)
            for (int j = 0; j < 4; j++)
                vu_store(out + FI_AT(b + s * FI_LANES) + 16 * j, vu_pack(&halves[j][s * FI_HALVES]));
    }
}

/* Counter word 1 changes every 2^32 blocks: the key schedule begins anew there. */
#define FI_UNITS_PER_BEGIN ((UINT64_C(1) << 32) / FI_UNIT_BLOCKS)

/* Inlined once for each state of the plan's flags, which are constants then. The plan is copied so that the compiler knows that
 * no store to `out` changes it, and loads its numbers before the loop. */
#define FI_FILL_LOOP(unit_function, finish, type, clamps, shifts)                                       \
    do {                                                                                        \
        fi_plan copy = *plan;                                                                   \
        copy.clamp = (clamps);                                                                  \
        copy.shifted = (shifts);                                                                \
        const fi_plan *const loop_plan = &copy;                                                 \
        type *dst = out;                                                                        \
        uint64_t unit = first / FI_UNIT;                                                        \
        unsigned skip = (unsigned)(first % FI_UNIT);                                            \
        FI_NAME(philox) planes[2];                                                              \
        type buffer[FI_UNIT];                                                                   \
        FI_NAME(tails) tails;                                                                   \
        tails.count = 0;                                                                        \
        int begin = 1;                                                                          \
        while (count) {                                                                         \
            if (begin || unit % FI_UNITS_PER_BEGIN == 0) {                                      \
                for (unsigned i = 0; i < 2; i++)                                                \
                    FI_NAME(philox_begin)(&planes[i], loop_plan->key, loop_plan->dist.plane + i,\
                                          unit * FI_UNIT_BLOCKS);                               \
                begin = 0;                                                                      \
            }                                                                                   \
            /* Keys that are broadcast from memory cost less than from a register. */            \
            if (FI_LANES > 1 && sizeof(type) < 8) FI_RELOAD(planes);                            \
            /* One call for whole and cut units: the unit's code is inlined, and large. */      \
            const int whole = skip == 0 && count >= FI_UNIT;                                    \
            if (FI_UNLIKELY(!whole)) finish(loop_plan, &tails);                                 \
            unit_function(loop_plan, planes, unit, whole ? dst : buffer, &tails);               \
            if (!whole || tails.count > FI_TAIL_LIST - FI_UNIT) finish(loop_plan, &tails);      \
            uint64_t n = FI_UNIT;                                                               \
            if (FI_UNLIKELY(!whole)) {                                                          \
                n = count < FI_UNIT - skip ? count : FI_UNIT - skip;                            \
                memcpy(dst, buffer + skip, n * sizeof(type));                                   \
                skip = 0;                                                                       \
            }                                                                                   \
            dst += n;                                                                           \
            count -= n;                                                                         \
            unit++;                                                                             \
        }                                                                                       \
        finish(loop_plan, &tails);                                                              \
    } while (0)

#define FI_TYPE_float32(law) FI_FLOAT_OR_WORD_##law
#define FI_FLOAT_OR_WORD_words uint32_t
#define FI_FLOAT_OR_WORD_uniform float
#define FI_FLOAT_OR_WORD_normal float
#define FI_FLOAT_OR_WORD_truncated_normal float
#define FI_FLOAT_OR_WORD_truncated_normal_symmetric float
#define FI_FLOAT_OR_WORD_truncated_normal_wide float
#define FI_FLOAT_OR_WORD_truncated_normal_narrow float
#define FI_TYPE_float64(law) double
#define FI_NOTHING_LEFT(plan, tails) ((void)(tails))
#define FI_FINISH_float32(law) FI_NOTHING_LEFT
#define FI_FINISH_float16(law) FI_NOTHING_LEFT
#define FI_FINISH_bfloat16(law) FI_NOTHING_LEFT
#define FI_FINISH_float64(law) FI_FINISH_##law
#define FI_FINISH_uniform FI_NOTHING_LEFT
#define FI_FINISH_truncated_normal_narrow FI_NOTHING_LEFT
#define FI_FINISH_normal FI_NAME(finish_normal)
#define FI_FINISH_truncated_normal FI_NAME(finish_truncated_normal)
#define FI_TYPE_float16(law) uint16_t
#define FI_TYPE_bfloat16(law) uint16_t

#define FI_FILL(law, LAW, dtype, DTYPE)                                                           \
    static void FI_NAME(fill_##law##_##dtype)(const fi_plan *plan, void *out, uint64_t first,     \
                                              uint64_t count) {                                   \
        if (plan->clamp)                                                                          \
            FI_FILL_LOOP(FI_NAME(unit_##law##_##dtype), FI_FINISH_##dtype(law), FI_TYPE_##dtype(law), 1, 1); \
        else if (plan->shifted)                                                                   \
            FI_FILL_LOOP(FI_NAME(unit_##law##_##dtype), FI_FINISH_##dtype(law), FI_TYPE_##dtype(law), 0, 1); \
        else                                                                                      \
            FI_FILL_LOOP(FI_NAME(unit_##law##_##dtype), FI_FINISH_##dtype(law), FI_TYPE_##dtype(law), 0, 0); \
    }
#include "isa/laws.def"

static uint32_t FI_NAME(words_xor)(fi_key key, uint64_t tiles) {
    FI_NAME(philox) p;
    vu sum = vu_set1(0);
    FI_NAME(philox_begin)(&p, key, FI_PLANE_REAL, 0);
    for (uint64_t block = 0; block < tiles * 16; block += FI_STREAMS * FI_LANES) {
        vq halves[4][FI_CHAINS];
        FI_NAME(philox_words)(&p, (uint32_t)block, halves);
        for (unsigned s = 0; s < FI_STREAMS; s++)
            for (int j = 0; j < 4; j++) sum = vu_xor(sum, vu_pack(&halves[j][s * FI_HALVES]));
    }
    uint32_t lanes[FI_LANES], result = 0;
    vu_store(lanes, sum);
    for (int i = 0; i < FI_LANES; i++) result ^= lanes[i];
    return result;
}
