/* SPDX-License-Identifier: BSD-3-Clause
 *
 * AVX2 with FMA and F16C: the vocabulary on 256-bit vectors, eight lanes.
 */
#include "isa/needed.h"

#if FI_X86
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,popcnt"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,popcnt")
#endif

#define FI_ISA avx2
#define FI_ISA_NAME "avx2"
#define FI_LANES 8
#define FI_HALVES 2
#define FI_STREAMS 2
#define FI_FEW_REGISTERS 1
#define FI_ROWS_F64 1
#define FI_UPPER_LOOKUP 1
#define FI_TAIL_VECTORS 3

/* ---- sampling vocabulary ---------------------------------------------------------------- */

typedef __m256i vq;
typedef __m256i vu;
typedef __m256 vf;
typedef __m256d vd;
typedef __m256d vm;

FI_INLINE vf vf_of(vu bits) { return _mm256_castsi256_ps(bits); }
FI_INLINE vd vd_of(vq bits) { return _mm256_castsi256_pd(bits); }
#define FI_PREFIX _mm256
#define FI_SI si256
#include "isa/x86_template.h"

FI_INLINE vq vq_set1(uint64_t a) { return _mm256_set1_epi64x((long long)a); }
FI_INLINE vq vq_xor3(vq a, vq b, vq c) { return vq_xor(vq_xor(a, b), c); }
FI_INLINE vq vq_counter(uint32_t block, int half) {
    return _mm256_add_epi64(_mm256_set1_epi64x((long long)block + half),
                            _mm256_setr_epi64x(0, 2, 4, 6));
}
FI_INLINE vq vq_join(vq high, vq low) {
    return _mm256_blend_epi32(low, _mm256_shuffle_epi32(high, 0xA0), 0xAA);
}
FI_INLINE vq vq_sar63(vq a) { return _mm256_cmpgt_epi64(_mm256_setzero_si256(), a); }

FI_INLINE vu vu_pack(const vq *halves) { return vq_join(halves[1], halves[0]); }
FI_INLINE vu vu_and_xor(vu a, vu b, vu c) { return _mm256_xor_si256(_mm256_and_si256(a, b), c); }
FI_INLINE vu vu_and3(vu a, vu b, vu c) { return _mm256_and_si256(_mm256_and_si256(a, b), c); }
FI_INLINE int vu_any_lacks(vu a, uint32_t bits) {
    return !_mm256_testc_si256(a, _mm256_set1_epi32((int)bits));
}

/* Both halves and the product are exact, so the sum is rounded once. */
FI_INLINE vf vf_from_u32(vu a) {
    const vf high = _mm256_cvtepi32_ps(_mm256_srli_epi32(a, 16));
    const vf low = _mm256_cvtepi32_ps(_mm256_and_si256(a, _mm256_set1_epi32(0xFFFF)));
    return _mm256_add_ps(_mm256_mul_ps(high, _mm256_set1_ps(65536.0f)), low);
}
FI_INLINE vf vf_mantissa(vu bits) {
    return vf_of(
        _mm256_or_si256(_mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFF)),
                        _mm256_set1_epi32(0x3F800000)));
}
/* b where the sign bit is set. GCC 12 would compare with zero first, for what the instruction does itself. */
FI_INLINE vf vf_choose(vf a, vf b, vu sign) {
#if FI_MSVC
    return _mm256_blendv_ps(a, b, vf_of(sign));
#else
    vf chosen;
    __asm__("vblendvps %3, %2, %1, %0" : "=x"(chosen) : "x"(a), "x"(b), "x"(sign));
    return chosen;
#endif
}
/* Four permutes of eight and a tree of blends, by index bits 3 and 4. */
FI_INLINE vf vf_lookup(const float table[32], vu i) {
    const vu bit3 = _mm256_slli_epi32(i, 28), bit4 = _mm256_slli_epi32(i, 27);
    const vf a = _mm256_permutevar8x32_ps(_mm256_load_ps(table), i);
    const vf b = _mm256_permutevar8x32_ps(_mm256_load_ps(table + 8), i);
    const vf c = _mm256_permutevar8x32_ps(_mm256_load_ps(table + 16), i);
    const vf d = _mm256_permutevar8x32_ps(_mm256_load_ps(table + 24), i);
    return vf_choose(vf_choose(a, b, bit3), vf_choose(c, d, bit3), bit4);
}
FI_INLINE vu vu_sub(vu a, vu b) { return _mm256_sub_epi32(a, b); }
FI_INLINE vu vu_or(vu a, vu b) { return _mm256_or_si256(a, b); }
FI_INLINE int vu_any_has(vu a, uint32_t bits) { return !_mm256_testz_si256(a, _mm256_set1_epi32((int)bits)); }
/* The half octave's number in bits 22 to 25: sixteen entries by two permutes and one blend. */
FI_INLINE vf vf_lookup_upper(const float table[32], vu i) {
    const vu place = _mm256_srli_epi32(i, 22);
    const vf low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 12), place);
    const vf high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 20), place);
    return vf_choose(low, high, _mm256_slli_epi32(i, 6));
}
FI_INLINE vf vf_negated_unless(vf a, vu bits) {
    return _mm256_xor_ps(a, _mm256_andnot_ps(vf_of(bits), _mm256_set1_ps(-0.0f)));
}
FI_INLINE void vf_store_bf16(uint16_t *p, vf a) {
    const __m256i bits = vf_bits(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                                                    _mm256_extracti128_si256(rounded, 1)));
}
FI_INLINE void vf_store_f16(uint16_t *p, vf a) {
    _mm_storeu_si128((__m128i *)p,
                     _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

FI_INLINE vm vd_less(vd a, vd b) { return _mm256_cmp_pd(a, b, _CMP_LT_OQ); }
FI_INLINE vd vd_select(vm m, vd a, vd b) { return _mm256_blendv_pd(b, a, m); }
FI_INLINE int vm_any(vm m) { return _mm256_movemask_pd(m) != 0; }
/* For each mask of four lanes, the set ones twice: their places in two halves, their pairs of 32-bit lanes. */
#define FI_SET(a, b, c, d) {2 * a, 2 * a + 1, 2 * b, 2 * b + 1, 2 * c, 2 * c + 1, 2 * d, 2 * d + 1}
static const uint8_t fi_set_lanes[16][8] = {
    FI_SET(0, 0, 0, 0), FI_SET(0, 0, 0, 0), FI_SET(1, 0, 0, 0), FI_SET(0, 1, 0, 0),
    FI_SET(2, 0, 0, 0), FI_SET(0, 2, 0, 0), FI_SET(1, 2, 0, 0), FI_SET(0, 1, 2, 0),
    FI_SET(3, 0, 0, 0), FI_SET(0, 3, 0, 0), FI_SET(1, 3, 0, 0), FI_SET(0, 1, 3, 0),
    FI_SET(2, 3, 0, 0), FI_SET(0, 2, 3, 0), FI_SET(1, 2, 3, 0), FI_SET(0, 1, 2, 3)};
FI_INLINE __m256i set_lanes(vm m) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)fi_set_lanes[_mm256_movemask_pd(m)]));
}
FI_INLINE void vm_append(vm m, unsigned first, uint32_t *list) {
    const __m256i even = _mm256_permutevar8x32_epi32(set_lanes(m), _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128((__m128i *)list,
                     _mm_add_epi32(_mm_set1_epi32((int)first), _mm256_castsi256_si128(even)));
}
FI_INLINE unsigned vq_append(vm m, vq a, uint64_t *list) {
    _mm256_storeu_si256((__m256i *)list, _mm256_permutevar8x32_epi32(a, set_lanes(m)));
    return (unsigned)_mm_popcnt_u32((unsigned)_mm256_movemask_pd(m));
}
/* 64-bit integers as 2^32 high + low: the high half is exact (biased by 2^84 + 2^52, and by 2^63
 * where signed), the low half comes in the mantissa of 2^52 + low, and their sum is rounded once. */
FI_INLINE vd vd_from_parts(vq a, uint64_t high_bias, double bias) {
    const __m256i high = _mm256_xor_si256(_mm256_srli_epi64(a, 32), vq_set1(high_bias));
    const __m256i low = _mm256_blend_epi32(a, vq_set1(UINT64_C(0x4330000000000000)), 0xAA);
    const vd exact = _mm256_sub_pd(vd_of(high), _mm256_set1_pd(bias));
    return _mm256_add_pd(exact, vd_of(low));
}
FI_INLINE vd vd_from_i64(vq a) {
    return vd_from_parts(a, UINT64_C(0x4530000080000000), 0x1p84 + 0x1p63 + 0x1p52);
}
FI_INLINE vd vd_from_u64(vq a) {
    return vd_from_parts(a, UINT64_C(0x4530000000000000), 0x1p84 + 0x1p52);
}
FI_INLINE vd vd_mantissa(vd a) {
    const vd bits = _mm256_and_pd(a, vd_of(vq_set1(UINT64_C(0xFFFFFFFFFFFFF))));
    return _mm256_or_pd(bits, _mm256_set1_pd(1.0));
}
FI_INLINE vd vd_exponent(vd a) {
    /* the exponent field as the low bits of 2^52 + field */
    const __m256i field = _mm256_srli_epi64(vd_bits(a), 52);
    const __m256i biased = _mm256_or_si256(field, vq_set1(UINT64_C(0x4330000000000000)));
    return _mm256_sub_pd(vd_of(biased), _mm256_set1_pd(0x1p52 + 1023.0));
}
/* Four loads, as fast as a gather on Zen 4; and an emulator in use (QEMU 7) misreads one whose indices are in ymm4. */
FI_INLINE vd vd_lookup(const double table[16], vd a) {
    uint64_t i[4];
    _mm256_storeu_si256((__m256i *)i, _mm256_and_si256(_mm256_srli_epi64(vd_bits(a), 48), vq_set1(15)));
    return _mm256_setr_pd(table[i[0]], table[i[1]], table[i[2]], table[i[3]]);
}
FI_INLINE vd vd_negated_unless(vd a, vq bits) {
    return _mm256_xor_pd(a, _mm256_andnot_pd(vd_of(bits), _mm256_set1_pd(-0.0)));
}
FI_INLINE void vd_store_halves(double *p, const vd *halves) {
    const vd low = _mm256_unpacklo_pd(halves[0], halves[1]);
    const vd high = _mm256_unpackhi_pd(halves[0], halves[1]);
    _mm256_storeu_pd(p, _mm256_permute2f128_pd(low, high, 0x20));
    _mm256_storeu_pd(p + 4, _mm256_permute2f128_pd(low, high, 0x31));
}

/* ---- stack vocabulary ------------------------------------------------------------------- */

#define FI_DOUBLE_LANES 4
#define FI_VECTORS 2
#define FI_MR 4

typedef __m256 vfm;

FI_INLINE vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
FI_INLINE vf vf_copysign(vf a, vf sign) {
    return _mm256_or_ps(vf_abs(a), _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
}
FI_INLINE vfm vf_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
FI_INLINE vf vf_select(vfm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }
FI_INLINE int vf_count(vfm m, int lanes) {
    const unsigned valid = lanes >= 8 ? 0xFFu : (1u << lanes) - 1;
    return _mm_popcnt_u32((unsigned)_mm256_movemask_ps(m) & valid);
}
/* to[k * to_step + c] = from[c * from_step + k] for four k and a vector of c: rows c and c + 4 side by side,
 * then a transpose of four by four in each half. */
FI_INLINE void vf_transpose_four(float *to, size_t to_step, const float *from, size_t from_step) {
    vf row[4];
    for (size_t i = 0; i < 4; i++)
        row[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + i * from_step)),
                                      _mm_loadu_ps(from + (i + 4) * from_step), 1);
    store_transposed(to, to_step, row);
}
#define vf_to_double(a, half) \
    _mm256_cvtps_pd((half) == 0 ? _mm256_castps256_ps128(a) : _mm256_extractf128_ps(a, 1))

FI_INLINE vd vd_abs(vd a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
FI_INLINE vd vd_copysign(vd a, vd sign) {
    return _mm256_or_pd(vd_abs(a), _mm256_and_pd(sign, _mm256_set1_pd(-0.0)));
}
FI_INLINE int vd_count(vm m, int lanes) {
    const unsigned valid = lanes >= 4 ? 0xFu : (1u << lanes) - 1;
    return _mm_popcnt_u32((unsigned)_mm256_movemask_pd(m) & valid);
}
FI_INLINE void vd_transpose_four(double *to, size_t to_step, const double *from, size_t from_step) {
    transpose_four_by_four(to, to_step, from, from_step);
}
#define vd_to_double(a, half) (a)

#include "isa/instantiate.h"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif

typedef int fi_isa_avx2_is_not_empty; /* ISO C wants a declaration in every unit */
