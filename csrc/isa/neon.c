/* SPDX-License-Identifier: BSD-3-Clause
 *
 * NEON (AArch64): the vocabulary on 128-bit vectors, four lanes. Part of the architecture: no target region.
 */
#include "isa/needed.h"

#if FI_ARM64
#include <arm_neon.h>

#define FI_ISA neon
#define FI_ISA_NAME "neon"
#define FI_LANES 4
#define FI_HALVES 2
#define FI_STREAMS 1
#define FI_FEW_REGISTERS 0
#define FI_ROWS_F64 1
#define FI_UPPER_LOOKUP 0
#define FI_TAIL_VECTORS 2

/* ---- sampling vocabulary ---------------------------------------------------------------- */

typedef uint64x2_t vq;
typedef uint32x4_t vu;
typedef float32x4_t vf;
typedef float64x2_t vd;
typedef uint64x2_t vm;

#if FI_MSVC
#define vf_settle(a)
#define vd_settle(a)
#else
#define vf_settle(a) __asm__("" : "+w"(a))
#define vd_settle(a) __asm__("" : "+w"(a))
#endif

FI_INLINE vq vq_set1(uint64_t a) { return vdupq_n_u64(a); }
FI_INLINE vq vq_mul(vq a, vq b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }
FI_INLINE vq vq_high(vq a) { return vshrq_n_u64(a, 32); }
FI_INLINE vq vq_xor(vq a, vq b) { return veorq_u64(a, b); }
FI_INLINE vq vq_or(vq a, vq b) { return vorrq_u64(a, b); }
FI_INLINE vq vq_sub(vq a, vq b) { return vsubq_u64(a, b); }
FI_INLINE vq vq_xor3(vq a, vq b, vq c) { return veorq_u64(veorq_u64(a, b), c); }
FI_INLINE vq vq_counter(uint32_t block, int half) {
    const uint64_t first = (uint64_t)block + (unsigned)half;
    return vcombine_u64(vcreate_u64(first), vcreate_u64(first + 2));
}
FI_INLINE vq vq_join(vq high, vq low) { return vsliq_n_u64(low, high, 32); }
FI_INLINE vq vq_sar63(vq a) { return vreinterpretq_u64_s64(vshrq_n_s64(vreinterpretq_s64_u64(a), 63)); }
FI_INLINE vq vq_load(const uint64_t *p) { return vld1q_u64(p); }
#define vq_shr(a, n) vshrq_n_u64(a, n)

FI_INLINE vu vu_set1(uint32_t a) { return vdupq_n_u32(a); }
FI_INLINE vu vu_pack(const vq *halves) { return vreinterpretq_u32_u64(vq_join(halves[1], halves[0])); }
FI_INLINE vu vu_xor(vu a, vu b) { return veorq_u32(a, b); }
FI_INLINE vu vu_and_xor(vu a, vu b, vu c) { return veorq_u32(vandq_u32(a, b), c); }
FI_INLINE vu vu_and3(vu a, vu b, vu c) { return vandq_u32(vandq_u32(a, b), c); }
FI_INLINE int vu_any_lacks(vu a, uint32_t bits) {
    const vu wanted = vdupq_n_u32(bits);
    return vminvq_u32(vceqq_u32(vandq_u32(a, wanted), wanted)) == 0;
}
FI_INLINE void vu_store(uint32_t *p, vu a) { vst1q_u32(p, a); }
#define vu_shr(a, n) vshrq_n_u32(a, n)
#define vu_sar(a, n) vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a), n))

FI_INLINE vu vf_bits(vf a) { return vreinterpretq_u32_f32(a); }
FI_INLINE vf vf_of(vu bits) { return vreinterpretq_f32_u32(bits); }
FI_INLINE vf vf_set1(float a) { return vdupq_n_f32(a); }
FI_INLINE vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
FI_INLINE vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
FI_INLINE vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
/* By comparison, as the other sets: the second operand where one is NaN. */
FI_INLINE vf vf_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
FI_INLINE vf vf_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
FI_INLINE vf vf_from_i32(vu a) { return vcvtq_f32_s32(vreinterpretq_s32_u32(a)); }
FI_INLINE vf vf_from_u32(vu a) { return vcvtq_f32_u32(a); }
FI_INLINE vf vf_mantissa(vu bits) {
    return vf_of(vorrq_u32(vandq_u32(bits, vdupq_n_u32(0x7FFFFF)), vdupq_n_u32(0x3F800000)));
}
/* The four bytes of each entry by two lookups of 64 bytes; an index past a table's end leaves the other's. */
FI_INLINE vf vf_lookup(const float table[32], vu i) {
    const uint8_t *bytes = (const uint8_t *)table;
    const vu first = vmulq_n_u32(vandq_u32(i, vdupq_n_u32(31)), UINT32_C(0x04040404));
    const uint8x16_t at = vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(UINT32_C(0x03020100))));
    const uint8x16_t low = vqtbl4q_u8(vld1q_u8_x4(bytes), at);
    return vreinterpretq_f32_u8(vqtbx4q_u8(low, vld1q_u8_x4(bytes + 64), vsubq_u8(at, vdupq_n_u8(64))));
}
FI_INLINE vf vf_negated_unless(vf a, vu bits) {
    return vf_of(veorq_u32(vf_bits(a), vbicq_u32(vdupq_n_u32(UINT32_C(0x80000000)), bits)));
}
FI_INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
FI_INLINE void vf_store(float *p, vf a) { vst1q_f32(p, a); }
FI_INLINE void vf_store_bf16(uint16_t *p, vf a) {
    const vu odd = vandq_u32(vshrq_n_u32(vf_bits(a), 16), vdupq_n_u32(1));
    const vu rounded = vaddq_u32(vaddq_u32(vf_bits(a), vdupq_n_u32(0x7FFF)), odd);
    vst1_u16(p, vshrn_n_u32(rounded, 16));
}
FI_INLINE void vf_store_f16(uint16_t *p, vf a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }

FI_INLINE vq vd_bits(vd a) { return vreinterpretq_u64_f64(a); }
FI_INLINE vd vd_of(vq bits) { return vreinterpretq_f64_u64(bits); }
FI_INLINE vd vd_set1(double a) { return vdupq_n_f64(a); }
FI_INLINE vd vd_add(vd a, vd b) { return vaddq_f64(a, b); }
FI_INLINE vd vd_sub(vd a, vd b) { return vsubq_f64(a, b); }
FI_INLINE vd vd_mul(vd a, vd b) { return vmulq_f64(a, b); }
FI_INLINE vd vd_div(vd a, vd b) { return vdivq_f64(a, b); }
FI_INLINE vd vd_sqrt(vd a) { return vsqrtq_f64(a); }
FI_INLINE vd vd_min(vd a, vd b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
FI_INLINE vd vd_max(vd a, vd b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
FI_INLINE vm vd_less(vd a, vd b) { return vcltq_f64(a, b); }
FI_INLINE vd vd_select(vm m, vd a, vd b) { return vbslq_f64(m, a, b); }
FI_INLINE int vm_any(vm m) { return (vgetq_lane_u64(m, 0) | vgetq_lane_u64(m, 1)) != 0; }
FI_INLINE void vm_append(vm m, unsigned first, uint32_t *list) {
    list[0] = first + (vgetq_lane_u64(m, 0) ? 0 : 2);
    list[1] = first + 2;
}
FI_INLINE unsigned vq_append(vm m, vq a, uint64_t *list) {
    list[0] = vgetq_lane_u64(m, 0) ? vgetq_lane_u64(a, 0) : vgetq_lane_u64(a, 1);
    list[1] = vgetq_lane_u64(a, 1);
    return (unsigned)((vgetq_lane_u64(m, 0) & 1) + (vgetq_lane_u64(m, 1) & 1));
}
FI_INLINE vd vd_from_i64(vq a) { return vcvtq_f64_s64(vreinterpretq_s64_u64(a)); }
FI_INLINE vd vd_from_u64(vq a) { return vcvtq_f64_u64(a); }
FI_INLINE vd vd_mantissa(vd a) {
    return vd_of(vorrq_u64(vandq_u64(vd_bits(a), vdupq_n_u64(UINT64_C(0xFFFFFFFFFFFFF))),
                           vdupq_n_u64(UINT64_C(0x3FF0000000000000))));
}
FI_INLINE vd vd_exponent(vd a) {
    return vd_from_i64(vsubq_u64(vshrq_n_u64(vd_bits(a), 52), vdupq_n_u64(1023)));
}
FI_INLINE vd vd_lookup(const double table[16], vd a) {
    const vq i = vandq_u64(vshrq_n_u64(vd_bits(a), 48), vdupq_n_u64(15));
    return vcombine_f64(vld1_f64(table + vgetq_lane_u64(i, 0)), vld1_f64(table + vgetq_lane_u64(i, 1)));
}
FI_INLINE vd vd_negated_unless(vd a, vq bits) {
    return vd_of(veorq_u64(vd_bits(a), vbicq_u64(vdupq_n_u64(UINT64_C(1) << 63), bits)));
}
FI_INLINE void vd_store_halves(double *p, const vd *halves) {
    vst1q_f64(p, vzip1q_f64(halves[0], halves[1]));
    vst1q_f64(p + 2, vzip2q_f64(halves[0], halves[1]));
}

/* ---- stack vocabulary ------------------------------------------------------------------- */

#define FI_DOUBLE_LANES 2
#define FI_VECTORS 4
#define FI_MR 4

typedef uint32x4_t vfm;

FI_INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
FI_INLINE vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
FI_INLINE vf vf_sqrt(vf a) { return vsqrtq_f32(a); }
FI_INLINE vf vf_abs(vf a) { return vabsq_f32(a); }
FI_INLINE vf vf_copysign(vf a, vf sign) {
    return vbslq_f32(vdupq_n_u32(UINT32_C(0x80000000)), sign, a);
}
FI_INLINE vfm vf_less(vf a, vf b) { return vcltq_f32(a, b); }
FI_INLINE vf vf_select(vfm m, vf a, vf b) { return vbslq_f32(m, a, b); }
FI_INLINE int vf_count(vfm m, int lanes) {
    const uint32_t place[4] = {0, 1, 2, 3};
    const vu valid = vcltq_u32(vld1q_u32(place), vdupq_n_u32((uint32_t)lanes));
    return (int)vaddvq_u32(vshrq_n_u32(vandq_u32(m, valid), 31));
}
FI_INLINE vf vf_shl_exponent(vf a) { return vf_of(vshlq_n_u32(vf_bits(a), 23)); }
/* to[k * to_step + c] = from[c * from_step + k] for four k and a vector of c */
FI_INLINE void vf_transpose_four(float *to, size_t to_step, const float *from, size_t from_step) {
    const float32x4x2_t ab = vtrnq_f32(vld1q_f32(from), vld1q_f32(from + from_step));
    const float32x4x2_t cd = vtrnq_f32(vld1q_f32(from + 2 * from_step), vld1q_f32(from + 3 * from_step));
    for (size_t k = 0; k < 2; k++) {
        vst1q_f32(to + k * to_step, vcombine_f32(vget_low_f32(ab.val[k]), vget_low_f32(cd.val[k])));
        vst1q_f32(to + (k + 2) * to_step, vcombine_f32(vget_high_f32(ab.val[k]), vget_high_f32(cd.val[k])));
    }
}
#define vf_to_double(a, part) ((half) == 0 ? vcvt_f64_f32(vget_low_f32(a)) : vcvt_high_f64_f32(a))

FI_INLINE vd vd_load(const double *p) { return vld1q_f64(p); }
FI_INLINE void vd_store(double *p, vd a) { vst1q_f64(p, a); }
FI_INLINE vd vd_fma(vd a, vd b, vd c) { return vfmaq_f64(c, a, b); }
FI_INLINE vd vd_abs(vd a) { return vabsq_f64(a); }
FI_INLINE vd vd_copysign(vd a, vd sign) {
    return vbslq_f64(vdupq_n_u64(UINT64_C(1) << 63), sign, a);
}
FI_INLINE int vd_count(vm m, int lanes) {
    const uint64_t set = (lanes > 0 ? vgetq_lane_u64(m, 0) & 1 : 0) + (lanes > 1 ? vgetq_lane_u64(m, 1) & 1 : 0);
    return (int)set;
}
FI_INLINE vd vd_shl_exponent(vd a) { return vd_of(vshlq_n_u64(vd_bits(a), 52)); }
FI_INLINE void vd_transpose_four(double *to, size_t to_step, const double *from, size_t from_step) {
    for (size_t k = 0; k < 4; k += 2) {
        const vd a = vld1q_f64(from + k), b = vld1q_f64(from + from_step + k);
        vst1q_f64(to + k * to_step, vzip1q_f64(a, b));
        vst1q_f64(to + (k + 1) * to_step, vzip2q_f64(a, b));
    }
}
#define vd_to_double(a, part) (a)

#include "isa/instantiate.h"
#endif

typedef int fi_isa_neon_is_not_empty; /* ISO C wants a declaration in every unit */
