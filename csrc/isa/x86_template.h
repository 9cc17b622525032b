/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The part of the vocabulary that AVX2 and AVX-512 have alike, but for the width of their vectors.
 *
 * Parameters: the types vq vu vf vd; vf_of vd_of, from bits; and what names of intrinsics are made of, FI_PREFIX (_mm256 or
 * _mm512) and FI_SI (si256 or si512).
 */
#define FI_MM(name) FI_CONCAT(FI_PREFIX, name)
#define FI_MM_SI(name) FI_CONCAT(FI_PREFIX, FI_CONCAT(name, FI_SI))

#if FI_MSVC
#define vq_settle(a)
#define vf_settle(a)
#define vd_settle(a)
#else /* in any vector register: those of AVX-512 too, where it is switched on */
#define vq_settle(a) __asm__("" : "+v"(a))
#define vf_settle(a) __asm__("" : "+v"(a))
#define vd_settle(a) __asm__("" : "+v"(a))
#endif

FI_INLINE vq vq_mul(vq a, vq b) { return FI_MM(mul_epu32)(a, b); }
FI_INLINE vq vq_high(vq a) { return FI_MM(srli_epi64)(a, 32); }
FI_INLINE vq vq_xor(vq a, vq b) { return FI_MM_SI(xor)(a, b); }
FI_INLINE vq vq_or(vq a, vq b) { return FI_MM_SI(or)(a, b); }
FI_INLINE vq vq_sub(vq a, vq b) { return FI_MM(sub_epi64)(a, b); }
FI_INLINE vq vq_load(const uint64_t *p) { return FI_MM_SI(loadu)((const vq *)p); }
#define vq_shr(a, n) FI_MM(srli_epi64)(a, n)

FI_INLINE vu vu_set1(uint32_t a) { return FI_MM(set1_epi32)((int)a); }
FI_INLINE vu vu_xor(vu a, vu b) { return FI_MM_SI(xor)(a, b); }
FI_INLINE void vu_store(uint32_t *p, vu a) { FI_MM_SI(storeu)((vu *)p, a); }
#define vu_shr(a, n) FI_MM(srli_epi32)(a, n)
#define vu_sar(a, n) FI_MM(srai_epi32)(a, n)

FI_INLINE vu vf_bits(vf a) { return FI_MM_SI(castps)(a); }
FI_INLINE vf vf_set1(float a) { return FI_MM(set1_ps)(a); }
FI_INLINE vf vf_load(const float *p) { return FI_MM(loadu_ps)(p); }
FI_INLINE void vf_store(float *p, vf a) { FI_MM(storeu_ps)(p, a); }
FI_INLINE vf vf_add(vf a, vf b) { return FI_MM(add_ps)(a, b); }
FI_INLINE vf vf_sub(vf a, vf b) { return FI_MM(sub_ps)(a, b); }
FI_INLINE vf vf_mul(vf a, vf b) { return FI_MM(mul_ps)(a, b); }
FI_INLINE vf vf_div(vf a, vf b) { return FI_MM(div_ps)(a, b); }
FI_INLINE vf vf_fma(vf a, vf b, vf c) { return FI_MM(fmadd_ps)(a, b, c); }
FI_INLINE vf vf_sqrt(vf a) { return FI_MM(sqrt_ps)(a); }
FI_INLINE vf vf_min(vf a, vf b) { return FI_MM(min_ps)(a, b); }
FI_INLINE vf vf_max(vf a, vf b) { return FI_MM(max_ps)(a, b); }
FI_INLINE vf vf_from_i32(vu a) { return FI_MM(cvtepi32_ps)(a); }
FI_INLINE vf vf_shl_exponent(vf a) { return vf_of(FI_MM(slli_epi32)(vf_bits(a), 23)); }

FI_INLINE vq vd_bits(vd a) { return FI_MM_SI(castpd)(a); }
FI_INLINE vd vd_set1(double a) { return FI_MM(set1_pd)(a); }
FI_INLINE vd vd_load(const double *p) { return FI_MM(loadu_pd)(p); }
FI_INLINE void vd_store(double *p, vd a) { FI_MM(storeu_pd)(p, a); }
FI_INLINE vd vd_add(vd a, vd b) { return FI_MM(add_pd)(a, b); }
FI_INLINE vd vd_sub(vd a, vd b) { return FI_MM(sub_pd)(a, b); }
FI_INLINE vd vd_mul(vd a, vd b) { return FI_MM(mul_pd)(a, b); }
FI_INLINE vd vd_div(vd a, vd b) { return FI_MM(div_pd)(a, b); }
FI_INLINE vd vd_fma(vd a, vd b, vd c) { return FI_MM(fmadd_pd)(a, b, c); }
FI_INLINE vd vd_sqrt(vd a) { return FI_MM(sqrt_pd)(a); }
FI_INLINE vd vd_min(vd a, vd b) { return FI_MM(min_pd)(a, b); }
FI_INLINE vd vd_max(vd a, vd b) { return FI_MM(max_pd)(a, b); }
FI_INLINE vd vd_shl_exponent(vd a) { return vd_of(FI_MM(slli_epi64)(vd_bits(a), 52)); }

/* Four by four numbers transposed in each 128 bits of the four rows, to four vectors that lie `step` apart. */
FI_INLINE void store_transposed(float *to, size_t step, const vf row[4]) {
    const vf a = FI_MM(unpacklo_ps)(row[0], row[1]), b = FI_MM(unpackhi_ps)(row[0], row[1]);
    const vf c = FI_MM(unpacklo_ps)(row[2], row[3]), d = FI_MM(unpackhi_ps)(row[2], row[3]);
    vf_store(to, FI_MM(shuffle_ps)(a, c, 0x44));
    vf_store(to + step, FI_MM(shuffle_ps)(a, c, 0xEE));
    vf_store(to + 2 * step, FI_MM(shuffle_ps)(b, d, 0x44));
    vf_store(to + 3 * step, FI_MM(shuffle_ps)(b, d, 0xEE));
}
FI_INLINE void transpose_four_by_four(double *to, size_t to_step, const double *from, size_t from_step) {
    const __m256d a = _mm256_loadu_pd(from), b = _mm256_loadu_pd(from + from_step);
    const __m256d c = _mm256_loadu_pd(from + 2 * from_step), d = _mm256_loadu_pd(from + 3 * from_step);
    const __m256d ab = _mm256_unpacklo_pd(a, b), ba = _mm256_unpackhi_pd(a, b);
    const __m256d cd = _mm256_unpacklo_pd(c, d), dc = _mm256_unpackhi_pd(c, d);
    _mm256_storeu_pd(to, _mm256_permute2f128_pd(ab, cd, 0x20));
    _mm256_storeu_pd(to + to_step, _mm256_permute2f128_pd(ba, dc, 0x20));
    _mm256_storeu_pd(to + 2 * to_step, _mm256_permute2f128_pd(ab, cd, 0x31));
    _mm256_storeu_pd(to + 3 * to_step, _mm256_permute2f128_pd(ba, dc, 0x31));
}
