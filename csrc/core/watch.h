/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Between pieces of work: whether the call is to be given up (fi_watch in fastinit.h). */
#ifndef FI_WATCH_H
#define FI_WATCH_H

#include "core/internal.h"

/* Nonzero from the moment that the watch of the calling thread has said so. Any worker may call it; only the calling
 * thread asks, and only when the time has come. Some 30 ns where there is a watch. */
int fi_watch_stopped(fi_watch *watch);

FI_INLINE int fi_stopped(fi_watch *watch) { return watch != NULL && fi_watch_stopped(watch); }

/* For pieces that are worth less than the question: it is put when so much work has come together. A unit of work is some
 * nanoseconds, as many as one step of a tile of a matrix product or 16 random numbers take: 4 with AVX-512, 100 without
 * vectors. */
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
