/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Shared by every C file: compiler macros, the size of a number, and the table of kernels.
 */
#ifndef FI_INTERNAL_H
#define FI_INTERNAL_H

#include "fastinit.h"

#ifdef __FAST_MATH__
#error "fastinit promises the same bits everywhere: it cannot be compiled with -ffast-math"
#endif

/* Always defined, always 0 or 1, always tested with #if: a misspelt one is caught by -Wundef. */
#if defined(__x86_64__) || defined(_M_X64)
#define FI_X86 1
#else
#define FI_X86 0
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define FI_ARM64 1
#else
#define FI_ARM64 0
#endif
#if defined(_MSC_VER) && !defined(__clang__)
#define FI_MSVC 1
#else
#define FI_MSVC 0
#endif

#if FI_MSVC
#pragma fp_contract(off) /* compilers before 2022 contract under /fp:precise */
#define FI_INLINE static __forceinline
#define FI_NOINLINE static __declspec(noinline)
#define FI_RESTRICT __restrict
#define FI_UNROLL
#define FI_UNROLL_FOUR
#define FI_PREFETCH(p) ((void)(p))
#define FI_RELOAD(x) ((void)0)
#define FI_LIKELY(x) (x)
#define FI_UNLIKELY(x) (x)
#else
#define FI_INLINE static inline __attribute__((always_inline, unused))
#define FI_NOINLINE static __attribute__((noinline, unused))
#define FI_RESTRICT restrict
#define FI_UNROLL _Pragma("GCC unroll 16")
#define FI_UNROLL_FOUR _Pragma("GCC unroll 4")
#define FI_PREFETCH(p) __builtin_prefetch(p, 0, 2)
#define FI_RELOAD(x) __asm__("" : "+m"(x))
#define FI_LIKELY(x) __builtin_expect(!!(x), 1)
#define FI_UNLIKELY(x) __builtin_expect(!!(x), 0)
#endif

#define FI_CONCAT_(a, b) a##_##b
#define FI_CONCAT(a, b) FI_CONCAT_(a, b)
/* name_isa: every symbol of a template carries the instruction set that it was made for. */
#define FI_NAME(name) FI_CONCAT(name, FI_ISA)

/* Bytes of a number. */
FI_INLINE size_t fi_item_size(fi_dtype dtype) { return dtype == FI_FLOAT64 ? 8 : dtype == FI_FLOAT32 ? 4 : 2; }

#define FI_TILE 64u /* elements whose words one row of 16 Philox blocks holds (docs/stream.md) */

typedef void (*fi_fill_fn)(const fi_plan *plan, void *out, uint64_t first, uint64_t count);

typedef void (*fi_map_fn)(const fi_plan *plan, const uint64_t *words, void *out, size_t count);

typedef struct fi_stack_kernels fi_stack_kernels;
typedef struct fi_haar_kernels fi_haar_kernels;
typedef struct fi_training_kernels fi_training_kernels;

struct fi_kernels {
    const char *name;
    fi_fill_fn fill[FI_LAWS][FI_DTYPES];
    fi_map_fn map[FI_LAWS][2]; /* FI_FLOAT32, FI_FLOAT64 */
    uint32_t (*words_xor)(fi_key key, uint64_t tiles);
    const fi_stack_kernels *stack[2]; /* FI_FLOAT32, FI_FLOAT64 */
    const fi_haar_kernels *haar[2];
    const fi_training_kernels *training;
};

extern const fi_kernels fi_kernels_scalar;
#if FI_X86
extern const fi_kernels fi_kernels_avx2;
extern const fi_kernels fi_kernels_avx512;
#endif
#if FI_ARM64
extern const fi_kernels fi_kernels_neon;
#endif

/* Functions of one element, by the scalar set's kernels. Other sets call them in rare branches. */
uint32_t fi_word(fi_key key, unsigned plane, uint64_t element); /* w_p(e) of docs/stream.md */
/* x - n pi in [-pi/2, pi/2] for the nearest whole n, and whether n is odd; x finite, |x| >= 1. */
double fi_reduce_pi(double x, int *odd);
uint16_t fi_round16(float x, fi_dtype dtype); /* to nearest even; dtype is one of the 16-bit ones */

/* OUT plan->narrow, for a truncated normal with finite bounds. Returns 0 where its polynomial would be too long. */
int fi_narrow_make(fi_plan *plan);

#endif
