/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The loops from element indices to memory. A tile is 64 elements: row j (0..3) of a tile is word j of
 * its 16 blocks, so FI_LANES blocks give four vectors that are stored 16 elements apart.
 *
 * Parameters: the vocabulary of philox_template.h and dist_template.h and
 *   vu_pack (FI_HALVES x vq -> vu), vq_join, vf_store_f16, vf_store_bf16, vd_store_halves
 */

/* One tile in a law's float32 values; `store` rounds them to the dtype. */
#define FI_TILE_FROM_F32(law, dtype, type, store)                                                \
    FI_INLINE void FI_NAME(tile_##law##_##dtype)(const fi_plan *plan, const FI_NAME(philox) * p, \
                                                 uint64_t tile, type *out) {                     \
        for (int lane = 0; lane < 16; lane += FI_LANES) {                                        \
            vq halves[4][FI_HALVES];                                                             \
            vu w[4];                                                                             \
            vf x[4];                                                                             \
            FI_NAME(philox_words)(&p[0], (uint32_t)(tile * 16) + (uint32_t)lane, halves);        \
            for (int j = 0; j < 4; j++) w[j] = vu_pack(halves[j]);                               \
            FI_NAME(law##_f32)(plan, tile * FI_TILE + (unsigned)lane, w, x);                     \
            for (int j = 0; j < 4; j++) store(out + lane + 16 * j, x[j]);                        \
        }                                                                                        \
    }

#define FI_TILE_FROM_F64(law)                                                                       \
    FI_INLINE void FI_NAME(tile_##law##_float64)(const fi_plan *plan, const FI_NAME(philox) * p,    \
                                                 uint64_t tile, double *out) {                      \
        for (int lane = 0; lane < 16; lane += FI_LANES) {                                           \
            vq high[4][FI_HALVES], low[4][FI_HALVES];                                               \
            FI_NAME(philox_words)(&p[0], (uint32_t)(tile * 16) + (uint32_t)lane, high);             \
            FI_NAME(philox_words)(&p[1], (uint32_t)(tile * 16) + (uint32_t)lane, low);              \
            for (int j = 0; j < 4; j++) {                                                           \
                vd x[FI_HALVES];                                                                    \
                for (int h = 0; h < FI_HALVES; h++)                                                 \
                    x[h] = FI_NAME(law##_f64)(plan, vq_join(high[j][h], low[j][h]));                \
                vd_store_halves(out + lane + 16 * j, x);                                            \
            }                                                                                       \
        }                                                                                           \
    }

FI_TILE_FROM_F32(uniform, float32, float, vf_store)
FI_TILE_FROM_F32(uniform, float16, uint16_t, vf_store_f16)
FI_TILE_FROM_F32(uniform, bfloat16, uint16_t, vf_store_bf16)
FI_TILE_FROM_F64(uniform)
FI_TILE_FROM_F32(normal, float32, float, vf_store)
FI_TILE_FROM_F32(normal, float16, uint16_t, vf_store_f16)
FI_TILE_FROM_F32(normal, bfloat16, uint16_t, vf_store_bf16)
FI_TILE_FROM_F64(normal)
FI_TILE_FROM_F32(truncated_normal, float16, uint16_t, vf_store_f16)
FI_TILE_FROM_F32(truncated_normal, bfloat16, uint16_t, vf_store_bf16)
FI_TILE_FROM_F32(truncated_normal, float32, float, vf_store)
FI_TILE_FROM_F64(truncated_normal)

/* Where much of a truncated normal lies in tails that the float32 path would refine one by one,
 * the whole tile goes through double precision (the plan's doubles then give z itself). */
#define FI_TILE_WIDE(dtype, type, store)                                                            \
    FI_INLINE void FI_NAME(tile_truncated_normal_wide_##dtype)(                                     \
        const fi_plan *plan, const FI_NAME(philox) * p, uint64_t tile, type *out) {                 \
        double z[FI_TILE];                                                                          \
        float x[FI_TILE];                                                                           \
        FI_NAME(tile_truncated_normal_float64)(plan, p, tile, z);                                   \
        for (unsigned i = 0; i < FI_TILE; i++) {                                                    \
            float y = plan->shift_f + plan->scale_f * (float)z[i];                                  \
            y = y > plan->clamp_low_f ? y : plan->clamp_low_f;                                      \
            x[i] = y < plan->clamp_high_f ? y : plan->clamp_high_f;                                 \
        }                                                                                           \
        for (unsigned i = 0; i < FI_TILE; i += FI_LANES) store(out + i, vf_load(x + i));            \
    }
FI_TILE_WIDE(float32, float, vf_store)
FI_TILE_WIDE(float16, uint16_t, vf_store_f16)
FI_TILE_WIDE(bfloat16, uint16_t, vf_store_bf16)

FI_INLINE void FI_NAME(tile_words_float32)(const fi_plan *plan, const FI_NAME(philox) * p,
                                           uint64_t tile, uint32_t *out) {
    (void)plan;
    for (int lane = 0; lane < 16; lane += FI_LANES) {
        vq halves[4][FI_HALVES];
        FI_NAME(philox_words)(&p[0], (uint32_t)(tile * 16) + (uint32_t)lane, halves);
        for (int j = 0; j < 4; j++) vu_store(out + lane + 16 * j, vu_pack(halves[j]));
    }
}

/* Counter word 1 changes every 2^28 tiles: the loop begins anew there. */
#define FI_TILES_PER_BEGIN (UINT64_C(1) << 28)

/* Inlined twice below, with the clamp known to be on and known to be off: the copy of the plan lets the
 * compiler see the flag, and hoist the constants that a store to `out` might otherwise change. */
#define FI_FILL_LOOP(tile_function, type, clamps)                                             \
    do {                                                                                      \
        fi_plan copy = *plan;                                                                 \
        copy.clamp = (clamps);                                                                \
        const fi_plan *const loop_plan = &copy;                                               \
        type *dst = out;                                                                      \
        uint64_t tile = first / FI_TILE;                                                      \
        unsigned skip = (unsigned)(first % FI_TILE);                                          \
        FI_NAME(philox) planes[2];                                                            \
        type buffer[FI_TILE];                                                                 \
        int begin = 1;                                                                        \
        while (count) {                                                                       \
            if (begin || tile % FI_TILES_PER_BEGIN == 0) {                                    \
                for (unsigned i = 0; i < 2; i++)                                              \
                    FI_NAME(philox_begin)(&planes[i], loop_plan->key, loop_plan->dist.plane + i, \
                                          tile * 16);                                         \
                begin = 0;                                                                    \
            }                                                                                 \
            /* One call for whole and cut tiles: the tile's code is inlined, and large. */    \
            const int whole = skip == 0 && count >= FI_TILE;                                  \
            tile_function(loop_plan, planes, tile, whole ? dst : buffer);                     \
            uint64_t n = FI_TILE;                                                             \
            if (FI_UNLIKELY(!whole)) {                                                        \
                n = count < FI_TILE - skip ? count : FI_TILE - skip;                          \
                memcpy(dst, buffer + skip, n * sizeof(type));                                 \
                skip = 0;                                                                     \
            }                                                                                 \
            dst += n;                                                                         \
            count -= n;                                                                       \
            tile++;                                                                           \
        }                                                                                     \
    } while (0)

#define FI_TYPE_float32(law) FI_FLOAT_OR_WORD_##law
#define FI_FLOAT_OR_WORD_words uint32_t
#define FI_FLOAT_OR_WORD_uniform float
#define FI_FLOAT_OR_WORD_normal float
#define FI_FLOAT_OR_WORD_truncated_normal float
#define FI_FLOAT_OR_WORD_truncated_normal_wide float
#define FI_TYPE_float64(law) double
#define FI_TYPE_float16(law) uint16_t
#define FI_TYPE_bfloat16(law) uint16_t

#define FI_FILL(law, LAW, dtype, DTYPE)                                                           \
    static void FI_NAME(fill_##law##_##dtype)(const fi_plan *plan, void *out, uint64_t first,     \
                                              uint64_t count) {                                   \
        if (plan->clamp)                                                                          \
            FI_FILL_LOOP(FI_NAME(tile_##law##_##dtype), FI_TYPE_##dtype(law), 1);                 \
        else                                                                                      \
            FI_FILL_LOOP(FI_NAME(tile_##law##_##dtype), FI_TYPE_##dtype(law), 0);                 \
    }
#include "kernels.def"

static uint32_t FI_NAME(words_xor)(fi_key key, uint64_t tiles) {
    FI_NAME(philox) p;
    vu sum = vu_set1(0);
    FI_NAME(philox_begin)(&p, key, 0, 0);
    for (uint64_t tile = 0; tile < tiles; tile++) {
        for (int lane = 0; lane < 16; lane += FI_LANES) {
            vq halves[4][FI_HALVES];
            FI_NAME(philox_words)(&p, (uint32_t)(tile * 16) + (uint32_t)lane, halves);
            for (int j = 0; j < 4; j++) sum = vu_xor(sum, vu_pack(halves[j]));
        }
    }
    uint32_t lanes[FI_LANES], result = 0;
    vu_store(lanes, sum);
    for (int i = 0; i < FI_LANES; i++) result ^= lanes[i];
    return result;
}
