/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Between haar.c, which knows sizes, memory and threads, and haar_template.h, which knows vectors: what both see. */
#ifndef FI_HAAR_H
#define FI_HAAR_H

#include "core/watch.h"

#define FI_REFLECTIONS 64 /* of a block, which are applied together. It changes the order of sums, and so the bits */
#define FI_HAAR_PANELS 4  /* micropanels of columns that one task makes at most, so that v is read less often */

/* Sizes are of the real matrix that a complex one is on pairs of numbers: twice as high and wide. */
typedef struct {
    const fi_haar_args *args;
    size_t parts;    /* of a number */
    fi_plan plan[2]; /* standard normals of the stream: a real matrix, or real parts and imaginary ones */
    fi_fill_fn fill; /* and what draws them */
    size_t rows;        /* of the matrix, rounded up to whole tiles */
    size_t reflections; /* that the wanted columns need: up to the last of them */
    size_t blocks;
    size_t panels; /* micropanels of columns that one task makes */
    /* v: the reflections' vectors. Block k has rows FI_REFLECTIONS * k to the end, in micropanels
     * (gemm_template.h). t: each block's triangle T, in micropanels too. d: D, one number for each column. */
    void *v, *t, *d;
    /* For each worker: a row of numbers, or columns under way; and the matrices of one block of reflections. */
    void **scratch, **block_scratch;
    fi_watch *watch;
} fi_haar_shared;

struct fi_haar_kernels {
    size_t nr; /* columns of a micropanel */
    size_t block_scratch; /* bytes of the matrices of one block */
    /* Rows begin .. end-1 of all blocks, drawn. */
    void (*draw)(const fi_haar_shared *shared, unsigned worker, size_t begin, size_t end);
    /* From the normals of a block to its reflections, its part of D and its triangle. */
    void (*reflect)(const fi_haar_shared *shared, unsigned worker, size_t block);
    /* Group g of panels of wanted columns, to the output. */
    void (*apply)(const fi_haar_shared *shared, unsigned worker, size_t group);
};

/* Where block k begins in v, in elements. */
FI_INLINE size_t fi_haar_block(const fi_haar_shared *shared, size_t k) {
    return FI_REFLECTIONS * (k * shared->rows - FI_REFLECTIONS * (k * (k - 1) / 2));
}

/* Columns of block k that are reflections: what is beyond them is zero, and left out. */
FI_INLINE size_t fi_haar_live(const fi_haar_shared *shared, size_t k) {
    const size_t left = shared->reflections - k * FI_REFLECTIONS;
    return left < FI_REFLECTIONS ? left : FI_REFLECTIONS;
}

#endif
