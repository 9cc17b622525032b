/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Values of words that a test chooses, by the kernels' own functions: so that a test can go through all words, and
 * complement them, whether Philox gives them or not.
 */

#define FI_MAP_F32(law)                                                                             \
    static void FI_NAME(map_##law##_float32)(const fi_plan *plan, const uint64_t *words, void *out, \
                                             size_t count) {                                        \
        enum { GROUP = 4 * FI_LANES };                                                              \
        for (size_t done = 0; done < count; done += GROUP) {                                        \
            const size_t n = count - done < GROUP ? count - done : GROUP;                           \
            uint32_t leading[GROUP] = {0}, second[GROUP] = {0};                                     \
            for (size_t i = 0; i < n; i++) {                                                        \
                leading[i] = (uint32_t)(words[done + i] >> 32);                                     \
                second[i] = (uint32_t)words[done + i];                                              \
            }                                                                                       \
            fi_plan copy = *plan;                                                                   \
            copy.second_words = second;                                                             \
            vu w[4];                                                                                \
            vf x[4];                                                                                \
            float values[GROUP];                                                                    \
            memcpy(w, leading, sizeof w);                                                           \
            FI_NAME(law##_f32)(&copy, 0, w, x);                                                     \
            for (int v = 0; v < 4; v++) vf_store(values + v * FI_LANES, x[v]);                      \
            memcpy((float *)out + done, values, n * sizeof *values);                                \
        }                                                                                           \
    }

/* A normal law by both formulas, middle and tail, and a choice of each element's. (Fills sort the elements instead.) */
#define FI_VALUE_F64(law)                                                                           \
    FI_INLINE vd FI_NAME(law##_f64)(const fi_plan *plan, vq w) {                                    \
        vd p[FI_TAIL_VECTORS], q, z, tail[FI_TAIL_VECTORS];                                         \
        vq upper;                                                                                   \
        FI_NAME(law##_tails)(plan, w, &p[0], &q, &upper);                                           \
        for (int v = 1; v < FI_TAIL_VECTORS; v++) p[v] = p[0];                                      \
        FI_NAME(quantile_middle_f64)(&q, &z, 1);                                                    \
        FI_NAME(quantile_tail_f64)(p, tail);                                                        \
        z = vd_select(vd_less(vd_set1(FI_MIDDLE), q), tail[0], z);                                  \
        return FI_NAME(finished_f64)(plan, z, upper);                                               \
    }
FI_VALUE_F64(normal)
FI_VALUE_F64(truncated_normal)

#define FI_MAP_F64(law)                                                                             \
    static void FI_NAME(map_##law##_float64)(const fi_plan *plan, const uint64_t *words, void *out, \
                                             size_t count) {                                        \
        enum { GROUP = sizeof(vq) / sizeof(uint64_t) };                                             \
        for (size_t done = 0; done < count; done += GROUP) {                                        \
            const size_t n = count - done < GROUP ? count - done : GROUP;                           \
            vq w = vq_set1(0);                                                                      \
            memcpy(&w, words + done, n * sizeof *words);                                            \
            const vd x = FI_NAME(law##_f64)(plan, w);                                               \
            memcpy((double *)out + done, &x, n * sizeof(double));                                   \
        }                                                                                           \
    }

FI_MAP_F32(uniform)
FI_MAP_F64(uniform)
FI_MAP_F32(normal)
FI_MAP_F64(normal)
FI_MAP_F32(truncated_normal)
FI_MAP_F32(truncated_normal_symmetric)
FI_MAP_F64(truncated_normal)
FI_MAP_F32(truncated_normal_narrow)
FI_MAP_F64(truncated_normal_narrow)

static void FI_NAME(map_truncated_normal_wide_float32)(const fi_plan *plan, const uint64_t *words, void *out,
                                                       size_t count) {
    for (size_t i = 0; i < count; i++) {
        double z;
        FI_NAME(map_truncated_normal_float64)(plan, words + i, &z, 1);
        ((float *)out)[i] = FI_NAME(narrowed)(plan, z);
    }
}
