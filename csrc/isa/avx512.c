/* SPDX-License-Identifier: BSD-3-Clause
 *
 * AVX-512 (F, BW, DQ, VL): the vocabulary on 512-bit vectors, sixteen lanes.
 */
#include "isa/needed.h"

#if FI_X86
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c,popcnt"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c,popcnt,prefer-vector-width=512")
#endif

#define FI_ISA avx512
#define FI_ISA_NAME "avx512"
#define FI_LANES 16
#define FI_HALVES 2
#define FI_STREAMS 2
#define FI_FEW_REGISTERS 0
#define FI_ROWS_F64 2
#define FI_UPPER_LOOKUP 0
#define FI_TAIL_VECTORS 4

/* ---- sampling vocabulary ---------------------------------------------------------------- */

typedef __m512i vq;
typedef __m512i vu;
typedef __m512 vf;
typedef __m512d vd;
typedef __mmask8 vm;

FI_INLINE vf vf_of(vu bits) { return _mm512_castsi512_ps(bits); }
FI_INLINE vd vd_of(vq bits) { return _mm512_castsi512_pd(bits); }
#define FI_PREFIX _mm512
#define FI_SI si512
#include "isa/x86_template.h"

FI_INLINE vq vq_set1(uint64_t a) { return _mm512_set1_epi64((long long)a); }
FI_INLINE vq vq_xor3(vq a, vq b, vq c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
FI_INLINE vq vq_counter(uint32_t block, int half) {
    return _mm512_add_epi64(_mm512_set1_epi64((long long)block + half),
                            _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14));
}
FI_INLINE vq vq_join(vq high, vq low) {
    return _mm512_mask_shuffle_epi32(low, 0xAAAA, high, (_MM_PERM_ENUM)0xA0);
}
FI_INLINE vq vq_sar63(vq a) { return _mm512_srai_epi64(a, 63); }

FI_INLINE vu vu_pack(const vq *halves) { return vq_join(halves[1], halves[0]); }
FI_INLINE vu vu_and_xor(vu a, vu b, vu c) { return _mm512_ternarylogic_epi32(a, b, c, 0x6A); }
FI_INLINE vu vu_and3(vu a, vu b, vu c) { return _mm512_ternarylogic_epi32(a, b, c, 0x80); }
FI_INLINE int vu_any_lacks(vu a, uint32_t bits) {
    const __m512i wanted = _mm512_set1_epi32((int)bits);
    return _mm512_cmpneq_epi32_mask(_mm512_and_si512(a, wanted), wanted) != 0;
}

FI_INLINE vf vf_from_u32(vu a) { return _mm512_cvtepu32_ps(a); }
FI_INLINE vf vf_mantissa(vu bits) {
    return vf_of(_mm512_ternarylogic_epi32(bits, _mm512_set1_epi32(0x7FFFFF),
                                                         _mm512_set1_epi32(0x3F800000), 0xEA));
}
FI_INLINE vf vf_lookup(const float table[32], vu i) {
    return _mm512_permutex2var_ps(_mm512_load_ps(table), i, _mm512_load_ps(table + 16));
}
FI_INLINE vf vf_negated_unless(vf a, vu bits) {
    return vf_of(_mm512_ternarylogic_epi32(
        vf_bits(a), bits, _mm512_set1_epi32((int)0x80000000u), 0xD2));
}
/* By integers: the CPU's own bfloat16 conversion flushes subnormals. */
FI_INLINE void vf_store_bf16(uint16_t *p, vf a) {
    const __m512i bits = vf_bits(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}
FI_INLINE void vf_store_f16(uint16_t *p, vf a) {
    _mm256_storeu_si256((__m256i *)p,
                        _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

FI_INLINE vm vd_less(vd a, vd b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
FI_INLINE vd vd_select(vm m, vd a, vd b) { return _mm512_mask_blend_pd(m, b, a); }
FI_INLINE int vm_any(vm m) { return m != 0; }
/* Compressed in registers: Zen 4 compresses to memory one element at a time. */
FI_INLINE void vm_append(vm m, unsigned first, uint32_t *list) {
    const __m256i lanes = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    _mm256_storeu_si256((__m256i *)list, _mm256_maskz_compress_epi32(
                                             m, _mm256_add_epi32(_mm256_set1_epi32((int)first), lanes)));
}
FI_INLINE unsigned vq_append(vm m, vq a, uint64_t *list) {
    _mm512_storeu_si512(list, _mm512_maskz_compress_epi64(m, a));
    return (unsigned)_mm_popcnt_u32(m);
}
FI_INLINE vd vd_from_i64(vq a) { return _mm512_cvtepi64_pd(a); }
FI_INLINE vd vd_from_u64(vq a) { return _mm512_cvtepu64_pd(a); }
FI_INLINE vd vd_mantissa(vd a) {
    return vd_of(_mm512_ternarylogic_epi64(
        vd_bits(a), _mm512_set1_epi64(0xFFFFFFFFFFFFF),
        _mm512_set1_epi64(0x3FF0000000000000), 0xEA));
}
FI_INLINE vd vd_exponent(vd a) {
    return _mm512_cvtepi64_pd(_mm512_sub_epi64(_mm512_srli_epi64(vd_bits(a), 52),
                                               _mm512_set1_epi64(1023)));
}
FI_INLINE vd vd_lookup(const double table[16], vd a) {
    return _mm512_permutex2var_pd(_mm512_load_pd(table),
                                  _mm512_srli_epi64(vd_bits(a), 48),
                                  _mm512_load_pd(table + 8));
}
FI_INLINE vd vd_negated_unless(vd a, vq bits) {
    return vd_of(_mm512_ternarylogic_epi64(
        vd_bits(a), bits, _mm512_set1_epi64((long long)(UINT64_C(1) << 63)), 0xD2));
}
FI_INLINE void vd_store_halves(double *p, const vd *halves) {
    const __m512i low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const __m512i high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    _mm512_storeu_pd(p, _mm512_permutex2var_pd(halves[0], low, halves[1]));
    _mm512_storeu_pd(p + 8, _mm512_permutex2var_pd(halves[0], high, halves[1]));
}

/* ---- stack vocabulary ------------------------------------------------------------------- */

#define FI_DOUBLE_LANES 8
#define FI_VECTORS 2
#define FI_MR 8

typedef __mmask16 vfm;

FI_INLINE vf vf_abs(vf a) { return _mm512_abs_ps(a); }
FI_INLINE vf vf_copysign(vf a, vf sign) {
    /* sign bits of the second, the rest of the first */
    return vf_of(
        _mm512_ternarylogic_epi32(_mm512_set1_epi32((int)0x80000000u), vf_bits(sign),
                                  vf_bits(a), 0xCA));
}
FI_INLINE vfm vf_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
FI_INLINE vf vf_select(vfm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
FI_INLINE int vf_count(vfm m, int lanes) {
    const unsigned valid = lanes >= 16 ? 0xFFFFu : (1u << lanes) - 1;
    return _mm_popcnt_u32(m & valid);
}
/* to[k * to_step + c] = from[c * from_step + k] for four k and a vector of c: rows c, c + 4, c + 8 and c + 12 in one
 * vector, then a transpose of four by four in each quarter. */
FI_INLINE void vf_transpose_four(float *to, size_t to_step, const float *from, size_t from_step) {
    vf row[4];
    for (size_t i = 0; i < 4; i++) {
        const float *p = from + i * from_step;
        row[i] = _mm512_castps128_ps512(_mm_loadu_ps(p));
        row[i] = _mm512_mask_broadcast_f32x4(row[i], 0x00F0, _mm_loadu_ps(p + 4 * from_step));
        row[i] = _mm512_mask_broadcast_f32x4(row[i], 0x0F00, _mm_loadu_ps(p + 8 * from_step));
        row[i] = _mm512_mask_broadcast_f32x4(row[i], 0xF000, _mm_loadu_ps(p + 12 * from_step));
    }
    store_transposed(to, to_step, row);
}
#define vf_to_double(a, half) \
    _mm512_cvtps_pd((half) == 0 ? _mm512_castps512_ps256(a) : _mm512_extractf32x8_ps(a, 1))

FI_INLINE vd vd_abs(vd a) { return _mm512_abs_pd(a); }
FI_INLINE vd vd_copysign(vd a, vd sign) {
    return vd_of(_mm512_ternarylogic_epi64(
        _mm512_set1_epi64((long long)(UINT64_C(1) << 63)), vd_bits(sign),
        vd_bits(a), 0xCA));
}
FI_INLINE int vd_count(vm m, int lanes) {
    const unsigned valid = lanes >= 8 ? 0xFFu : (1u << lanes) - 1;
    return _mm_popcnt_u32(m & valid);
}
FI_INLINE void vd_transpose_four(double *to, size_t to_step, const double *from, size_t from_step) {
    for (size_t c = 0; c < 8; c += 4) transpose_four_by_four(to + c, to_step, from + c * from_step, from_step);
}
#define vd_to_double(a, half) (a)

#include "isa/instantiate.h"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif

typedef int fi_isa_avx512_is_not_empty; /* ISO C wants a declaration in every unit */
