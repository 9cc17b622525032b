/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which kernels run: what the CPU has, and the choice among it. No arithmetic.
 */
#include <string.h>

#include "core/internal.h"

#if FI_X86
#if FI_MSVC
#include <intrin.h>
static void cpuid(unsigned leaf, unsigned r[4]) { __cpuidex((int *)r, (int)leaf, 0); }
static uint64_t xgetbv0(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(unsigned leaf, unsigned r[4]) {
    __cpuid_count(leaf, 0, r[0], r[1], r[2], r[3]);
}
static uint64_t xgetbv0(void) {
    uint32_t low, high;
    __asm__ __volatile__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}
#endif

#define BIT(word, n) (((word) >> (n)) & 1u)

/* The instructions must exist, and the operating system must save their registers. */
static void detect_x86(int *avx2, int *avx512) {
    unsigned leaf0[4], leaf1[4], leaf7[4];
    *avx2 = *avx512 = 0;
    cpuid(0, leaf0);
    if (leaf0[0] < 7) return;
    cpuid(1, leaf1);
    cpuid(7, leaf7);
    const int fma = BIT(leaf1[2], 12), osxsave = BIT(leaf1[2], 27), f16c = BIT(leaf1[2], 29);
    const int popcnt = BIT(leaf1[2], 23);
    if (!osxsave) return;
    const uint64_t saved = xgetbv0();
    *avx2 = fma && f16c && popcnt && BIT(leaf7[1], 5) && (saved & 0x6) == 0x6;
    *avx512 = *avx2 && BIT(leaf7[1], 16) && BIT(leaf7[1], 17) && BIT(leaf7[1], 30) &&
              BIT(leaf7[1], 31) && (saved & 0xE6) == 0xE6; /* F, DQ, BW, VL */
}
#endif

/* Every set this build knows of, narrowest first; the last available one is the choice. */
static const char *const known[] = {"scalar", "neon", "avx2", "avx512"};

static size_t available(const fi_kernels *sets[4]) {
    size_t n = 0;
    sets[n++] = &fi_kernels_scalar;
#if FI_ARM64
    sets[n++] = &fi_kernels_neon; /* part of the architecture */
#endif
#if FI_X86
    int avx2, avx512;
    detect_x86(&avx2, &avx512);
    if (avx2) sets[n++] = &fi_kernels_avx2;
    if (avx512) sets[n++] = &fi_kernels_avx512;
#endif
    return n;
}

/* May be stored in one thread while others read it (Python without its lock allows that): they find the old table or the new one.
 * The tables are constant, so relaxed atomics are enough. */
#if FI_MSVC
static const fi_kernels *volatile active = &fi_kernels_scalar;
#define LOAD(pointer) (pointer)
#define STORE(pointer, value) ((pointer) = (value))
#else
static const fi_kernels *active = &fi_kernels_scalar;
#define LOAD(pointer) __atomic_load_n(&(pointer), __ATOMIC_RELAXED)
#define STORE(pointer, value) __atomic_store_n(&(pointer), (value), __ATOMIC_RELAXED)
#endif

const fi_kernels *fi_active(void) { return LOAD(active); }

fi_status fi_isa_select(const char *name) {
    const fi_kernels *sets[4];
    const size_t n = available(sets);
    if (name == NULL || name[0] == '\0') {
        STORE(active, sets[n - 1]);
        return FI_OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, sets[i]->name) == 0) {
            STORE(active, sets[i]);
            return FI_OK;
        }
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i]) == 0) return FI_ERR_ISA_UNAVAILABLE;
    return FI_ERR_ISA_UNKNOWN;
}

const char *fi_isa_name(void) { return fi_active()->name; }

const char *fi_isa_available(size_t index) {
    const fi_kernels *sets[4];
    return index < available(sets) ? sets[index]->name : NULL;
}

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
const char *fi_compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#elif FI_MSVC
    return "MSVC " TEXT(_MSC_VER);
#else
    return "unknown";
#endif
}
