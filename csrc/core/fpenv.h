/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The floating-point environment of a kernel. Other libraries in the process may switch on flush-to-zero (any shared object
 * linked with -ffast-math does so when it is loaded) or another rounding mode, and the bits of a weight must not depend on
 * that. So every entry, in every thread, saves the control register, sets round-to-nearest with subnormal numbers and all
 * traps masked, and restores it at the end.
 */
#ifndef FI_FPENV_H
#define FI_FPENV_H

#include "core/internal.h"

#if FI_X86
#include <xmmintrin.h>
typedef unsigned fi_fpenv;
FI_INLINE fi_fpenv fi_fpenv_enter(void) {
    fi_fpenv saved = _mm_getcsr();
    _mm_setcsr(0x1f80u);
    return saved;
}
FI_INLINE void fi_fpenv_leave(fi_fpenv saved) { _mm_setcsr(saved); }
#elif FI_ARM64 && !FI_MSVC
typedef uint64_t fi_fpenv;
FI_INLINE fi_fpenv fi_fpenv_enter(void) {
    uint64_t saved, zero = 0;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(zero) : "memory");
    return saved;
}
FI_INLINE void fi_fpenv_leave(fi_fpenv saved) {
    __asm__ __volatile__("msr fpcr, %0" : : "r"(saved) : "memory");
}
#elif FI_ARM64
#include <intrin.h>
typedef int64_t fi_fpenv;
#define FI_FPCR 0x5a20 /* the register's op0 3, op1 3, CRn 4, CRm 4, op2 0, as the intrinsics want it */
FI_INLINE fi_fpenv fi_fpenv_enter(void) {
    fi_fpenv saved = _ReadStatusReg(FI_FPCR);
    _WriteStatusReg(FI_FPCR, 0);
    return saved;
}
FI_INLINE void fi_fpenv_leave(fi_fpenv saved) { _WriteStatusReg(FI_FPCR, saved); }
#else
/* Other architectures (WebAssembly): IEEE rounding cannot be switched off there. */
typedef int fi_fpenv;
FI_INLINE fi_fpenv fi_fpenv_enter(void) { return 0; }
FI_INLINE void fi_fpenv_leave(fi_fpenv saved) { (void)saved; }
#endif

#endif
