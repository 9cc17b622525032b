/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Asked between pieces of work: whether the call is interrupted (fi_watch in fastinit.h). */
#ifndef FI_WATCH_H
#define FI_WATCH_H

#include "core/internal.h"

/* Whether the call is interrupted. Any worker may call it, but only in the calling thread does it ask, and only when
 * 50 ms have passed. Takes some 30 ns. */
int fi_watch_stopped(fi_watch *watch);

FI_INLINE int fi_stopped(fi_watch *watch) { return watch != NULL && fi_watch_stopped(watch); }

/* For pieces of work that take less time than the question: it is put after this many units of work. A unit is what one step of
 * a tile of a matrix product takes, or 16 random numbers: 4 ns with AVX-512, 100 ns without vectors. */
#define FI_ASK_WORK ((size_t)1 << 14)

typedef struct {
    fi_watch *watch;
    size_t work; /* since the last question */
} fi_patience;

FI_INLINE int fi_patience_ends(fi_patience *patience, size_t work) {
    patience->work += work;
    if (FI_LIKELY(patience->work < FI_ASK_WORK)) return 0;
    patience->work = 0;
    return fi_stopped(patience->watch);
}

#endif
