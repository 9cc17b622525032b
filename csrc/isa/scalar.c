/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The scalar set: the vocabulary at width one, in plain C. It is the reference on every CPU, and says what each name means;
 * the other sets do the same in each lane.
 *
 *   vu, vf       FI_LANES 32-bit words, floats
 *   vq, vd       FI_DOUBLE_LANES 64-bit words, doubles. FI_HALVES of them hold FI_LANES Philox blocks, or what is made of
 *                these: the even ones in half 0, the odd ones in half 1
 *   vfm, vm      what comparisons of vf and vd give
 *   FI_STREAMS   groups of FI_LANES Philox blocks that are computed side by side
 *   FI_ROWS_F64  rows of a tile whose doubles are computed side by side
 *   FI_TAIL_VECTORS, FI_FEW_REGISTERS, FI_UPPER_LOOKUP  see quantile_template.h and philox_template.h
 *   FI_MR, FI_VECTORS  rows and vectors of a tile of a matrix product, see gemm_template.h
 *   v?_settle    keeps the compiler from moving arithmetic across it
 */
#include "isa/needed.h"

#define FI_ISA scalar
#define FI_ISA_NAME "scalar"
#define FI_LANES 1
#define FI_HALVES 1
#define FI_STREAMS 1
#define FI_FEW_REGISTERS 0
#define FI_ROWS_F64 1
#define FI_UPPER_LOOKUP 0
#define FI_TAIL_VECTORS 1

/* ---- sampling vocabulary ---------------------------------------------------------------- */

typedef uint64_t vq;
typedef uint32_t vu;
typedef float vf;
typedef double vd;
typedef int vm;

/* Not here: one lane runs out of no registers, and GCC vectorises some of the code. */
#define vf_settle(a)
#define vd_settle(a)

FI_INLINE vq vq_set1(uint64_t a) { return a; }
FI_INLINE vq vq_mul(vq a, vq b) { return (uint64_t)(uint32_t)a * (uint32_t)b; }
FI_INLINE vq vq_high(vq a) { return a >> 32; }
FI_INLINE vq vq_xor(vq a, vq b) { return a ^ b; }
FI_INLINE vq vq_or(vq a, vq b) { return a | b; }
FI_INLINE vq vq_sub(vq a, vq b) { return a - b; }
FI_INLINE vq vq_xor3(vq a, vq b, vq c) { return a ^ b ^ c; }
FI_INLINE vq vq_counter(uint32_t block, int half) { return (uint64_t)block + (unsigned)half; }
FI_INLINE vq vq_join(vq high, vq low) { return (high << 32) | (uint32_t)low; }
FI_INLINE vq vq_sar63(vq a) { return 0 - (a >> 63); }
#define vq_shr(a, n) ((a) >> (n))

FI_INLINE vu vu_set1(uint32_t a) { return a; }
FI_INLINE vu vu_pack(const vq *halves) { return (uint32_t)halves[0]; }
FI_INLINE vu vu_xor(vu a, vu b) { return a ^ b; }
FI_INLINE vu vu_and_xor(vu a, vu b, vu c) { return (a & b) ^ c; }
FI_INLINE vu vu_and3(vu a, vu b, vu c) { return a & b & c; }
FI_INLINE int vu_any_lacks(vu a, uint32_t bits) { return (a & bits) != bits; }
FI_INLINE void vu_store(uint32_t *p, vu a) { *p = a; }
#define vu_shr(a, n) ((a) >> (n))
/* Right shifts of negative numbers are left to the implementation by C11, so shift the sign in. */
#define vu_sar(a, n) (((a) >> (n)) | ((0u - ((a) >> 31)) & ~(UINT32_MAX >> (n))))

FI_INLINE float vf_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
FI_INLINE vu vf_bits(vf a) {
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}
FI_INLINE vf vf_set1(float a) { return a; }
FI_INLINE vf vf_add(vf a, vf b) { return a + b; }
FI_INLINE vf vf_sub(vf a, vf b) { return a - b; }
FI_INLINE vf vf_mul(vf a, vf b) { return a * b; }
FI_INLINE vf vf_min(vf a, vf b) { return a < b ? a : b; }
FI_INLINE vf vf_max(vf a, vf b) { return a > b ? a : b; }
FI_INLINE vf vf_from_i32(vu a) { return (float)(int32_t)a; }
FI_INLINE vf vf_from_u32(vu a) { return (float)a; }
FI_INLINE vf vf_mantissa(vu bits) { return vf_of((bits & 0x7FFFFFu) | 0x3F800000u); }
FI_INLINE vf vf_lookup(const float table[32], vu i) { return table[i & 31]; }
FI_INLINE vf vf_negated_unless(vf a, vu bits) { return vf_of(vf_bits(a) ^ (~bits & 0x80000000u)); }
FI_INLINE vf vf_load(const float *p) { return *p; }
FI_INLINE void vf_store(float *p, vf a) { *p = a; }
FI_INLINE void vf_store_bf16(uint16_t *p, vf a) {
    const uint32_t bits = vf_bits(a);
    *p = (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16);
}
/* float32 to float16, to nearest even, as the hardware conversions do it. */
FI_INLINE void vf_store_f16(uint16_t *p, vf a) {
    const uint32_t bits = vf_bits(a), sign = (bits >> 16) & 0x8000u, x = bits & 0x7FFFFFFFu;
    uint32_t half;
    if (x >= 0x47800000u) { /* 65536 and above, infinity, NaN */
        half = x > 0x7F800000u ? 0x7E00u | ((x >> 13) & 0x3FFu) : 0x7C00u;
    } else if (x < 0x38800000u) { /* below 2^-14: adding 0.5 rounds at the subnormals' spacing */
        half = vf_bits(vf_of(x) + 0.5f) - 0x3F000000u;
    } else { /* a carry out of the mantissa goes where it belongs, up to infinity */
        half = (x - 0x38000000u + 0xFFFu + ((x >> 13) & 1)) >> 13;
    }
    *p = (uint16_t)(sign | half);
}

FI_INLINE vd vd_of(uint64_t bits) {
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}
FI_INLINE vq vd_bits(vd a) {
    uint64_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}
FI_INLINE vd vd_set1(double a) { return a; }
FI_INLINE vd vd_add(vd a, vd b) { return a + b; }
FI_INLINE vd vd_sub(vd a, vd b) { return a - b; }
FI_INLINE vd vd_mul(vd a, vd b) { return a * b; }
FI_INLINE vd vd_div(vd a, vd b) { return a / b; }
/* Correctly rounded by IEEE-754, so a libm that is called for it gives the same bits. */
FI_INLINE vd vd_sqrt(vd a) { return sqrt(a); }
FI_INLINE vd vd_min(vd a, vd b) { return a < b ? a : b; }
FI_INLINE vd vd_max(vd a, vd b) { return a > b ? a : b; }
FI_INLINE vm vd_less(vd a, vd b) { return a < b; }
FI_INLINE vd vd_select(vm m, vd a, vd b) { return m ? a : b; }
FI_INLINE int vm_any(vm m) { return m; }
/* The set lanes moved together, as indices first + FI_HALVES * lane and as values, and how many they are.
 * FI_DOUBLE_LANES of each are written. */
FI_INLINE void vm_append(vm m, unsigned first, uint32_t *list) {
    (void)m;
    *list = first;
}
FI_INLINE unsigned vq_append(vm m, vq a, uint64_t *list) {
    *list = a;
    return (unsigned)m;
}
FI_INLINE vd vd_from_i64(vq a) { return (double)(int64_t)a; }
FI_INLINE vd vd_from_u64(vq a) { return (double)a; }
FI_INLINE vd vd_mantissa(vd a) {
    return vd_of((vd_bits(a) & UINT64_C(0xFFFFFFFFFFFFF)) | UINT64_C(0x3FF0000000000000));
}
FI_INLINE vd vd_exponent(vd a) { return (double)((int)(vd_bits(a) >> 52) - 1023); }
/* table[leading four bits of the mantissa] */
FI_INLINE vd vd_lookup(const double table[16], vd a) { return table[(vd_bits(a) >> 48) & 15]; }
FI_INLINE vd vd_negated_unless(vd a, vq bits) { return vd_of(vd_bits(a) ^ (~bits & (UINT64_C(1) << 63))); }
FI_INLINE vq vq_load(const uint64_t *p) { return *p; }
FI_INLINE void vd_store_halves(double *p, const vd *halves) { *p = halves[0]; }

/* ---- stack vocabulary ------------------------------------------------------------------- */

#define FI_DOUBLE_LANES 1
#define FI_VECTORS 8
#define FI_MR 2

typedef int vfm;

/* Without the instruction this is libm's, correctly rounded and slow. */
FI_INLINE vf vf_fma(vf a, vf b, vf c) { return fmaf(a, b, c); }
FI_INLINE vf vf_div(vf a, vf b) { return a / b; }
FI_INLINE vf vf_sqrt(vf a) { return sqrtf(a); }
FI_INLINE vf vf_abs(vf a) { return vf_of(vf_bits(a) & 0x7FFFFFFFu); }
FI_INLINE vf vf_copysign(vf a, vf sign) {
    return vf_of((vf_bits(a) & 0x7FFFFFFFu) | (vf_bits(sign) & 0x80000000u));
}
FI_INLINE vfm vf_less(vf a, vf b) { return a < b; }
FI_INLINE vf vf_select(vfm m, vf a, vf b) { return m ? a : b; }
FI_INLINE int vf_count(vfm m, int lanes) { return m && lanes > 0; }
FI_INLINE vf vf_shl_exponent(vf a) { return vf_of(vf_bits(a) << 23); }
#define vf_to_double(a, part) ((double)(a))
/* to[k * to_step + c] = from[c * from_step + k] for four k and a vector of c */
FI_INLINE void vf_transpose_four(float *to, size_t to_step, const float *from, size_t from_step) {
    for (size_t k = 0; k < 4; k++) to[k * to_step] = from[k];
    (void)from_step;
}

FI_INLINE vd vd_load(const double *p) { return *p; }
FI_INLINE void vd_store(double *p, vd a) { *p = a; }
FI_INLINE vd vd_fma(vd a, vd b, vd c) { return fma(a, b, c); }
FI_INLINE vd vd_abs(vd a) { return vd_of(vd_bits(a) & ~(UINT64_C(1) << 63)); }
FI_INLINE vd vd_copysign(vd a, vd sign) {
    return vd_of((vd_bits(a) & ~(UINT64_C(1) << 63)) | (vd_bits(sign) & (UINT64_C(1) << 63)));
}
FI_INLINE int vd_count(vm m, int lanes) { return m && lanes > 0; }
FI_INLINE vd vd_shl_exponent(vd a) { return vd_of(vd_bits(a) << 52); }
#define vd_to_double(a, part) (a)
FI_INLINE void vd_transpose_four(double *to, size_t to_step, const double *from, size_t from_step) {
    for (size_t k = 0; k < 4; k++) to[k * to_step] = from[k];
    (void)from_step;
}

#include "isa/instantiate.h"

/* ---- functions of one element, for the other sets (internal.h) ----------------------------- */

uint32_t fi_word(fi_key key, unsigned plane, uint64_t element) {
    const uint64_t block = element / FI_TILE * 16 + element % 16;
    vq w[4][FI_CHAINS];
    FI_NAME(philox) p;
    FI_NAME(philox_begin)(&p, key, plane, block);
    FI_NAME(philox_words)(&p, (uint32_t)block, w);
    return (uint32_t)w[element % FI_TILE / 16][0];
}

double fi_logarithm(double x) {
    double y;
    FI_NAME(log_f64)(&x, &y, 1);
    return y;
}

double fi_normal_quantile_tail(double p) {
    double z;
    const double q = 0.5 - p;
    if (q <= FI_MIDDLE) FI_NAME(quantile_middle_f64)(&q, &z, 1);
    else FI_NAME(quantile_tail_f64)(&p, &z);
    return z;
}

uint16_t fi_round16(float x, fi_dtype dtype) {
    uint16_t half;
    if (dtype == FI_FLOAT16) vf_store_f16(&half, x);
    else vf_store_bf16(&half, x);
    return half;
}
