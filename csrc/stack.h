/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Between stack.c, which knows sizes, memory and threads, and stack_template.h, which knows vectors. */
#ifndef FI_STACK_H
#define FI_STACK_H

#include "moments.h"

/* Rows are handed to workers, and their moments merged, in groups of this many. */
#define FI_GROUP 8

/* The quantities that have moments, in this order. */
enum { FI_PRE_ACTIVATION, FI_VALUE, FI_GRADIENT, FI_QUANTITIES };

typedef struct {
    const fi_stack_run *run;
    size_t rows;    /* the batch rounded up to whole groups */
    size_t columns; /* of a panel */
    int record;     /* statistics are wanted */
    /* Panel matrices of `rows` rows. activations[l], l = 0..depth, has widths[l] columns; gradients[l],
     * with respect to the pre-activation of layer l, widths[l + 1] columns; gradients[depth] is
     * for the input's gradient. Neighbours alternate between two buffers where nobody needs them all. */
    void **activations, **gradients;
    fi_partial_moments *moments; /* [layer][quantity][group] */
    size_t groups;
    const size_t *first_panel; /* [layer]: how many output panels the layers before it have */
    /* For each part of the batch: */
    void **panel;         /* one packed panel of weights */
    void **row_moments;   /* two for each of its rows */
    void **alive;         /* the largest |derivative| of each unit, in the order of the panels */
    uint64_t **saturated; /* [layer] */
} fi_stack_job;

struct fi_stack_kernels {
    size_t columns; /* of a panel */
    size_t row_moments_size;
    /* Rows begin .. end-1 (whole groups) of a part through all layers, and back. */
    void (*forward)(fi_stack_job *job, unsigned part, size_t begin, size_t end);
    void (*backward)(fi_stack_job *job, unsigned part, size_t begin, size_t end);
    /* Columns of panel p of a layer's weight gradient, and of its bias gradient. */
    void (*weight_gradient)(fi_stack_job *job, size_t layer, size_t p);
    size_t (*dead)(const fi_stack_job *job, unsigned parts, size_t layer);
    void (*activate)(int activation, const void *x, void *y, size_t n);
    double (*fma_loop)(uint64_t rounds); /* returns the operations of one round */
};

#endif
