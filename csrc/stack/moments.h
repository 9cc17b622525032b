/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FI_MOMENTS_H
#define FI_MOMENTS_H

#include "core/internal.h"

/* Count, mean and sum of squared deviations of a set of numbers. */
typedef struct {
    double count, mean, deviations;
} fi_partial_moments;

/* *a becomes the moments of both sets: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for
 * computing sample variances" (1979). Sets of equal means add no deviation, so constant data keeps variance 0. */
FI_INLINE void fi_moments_merge(fi_partial_moments *a, const fi_partial_moments *b) {
    if (a->count == 0) {
        *a = *b;
        return;
    }
    const double n = a->count + b->count, step = b->mean - a->mean;
    a->mean += step * (b->count / n);
    a->deviations += b->deviations + step * step * (a->count * b->count / n);
    a->count = n;
}

#endif
