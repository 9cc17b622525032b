/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Between stack.c, which knows sizes, memory and threads, and stack_template.h, which knows vectors. */
#ifndef FI_STACK_H
#define FI_STACK_H

#include <math.h>
#include <string.h>

#include "stack/moments.h"
#include "core/parallel.h"

/* Rows are handed to workers, and their moments merged, in groups of this many. */
#define FI_GROUP 8

/* For batches this small reading and writing the weights costs more than the products: it is done in the order of memory. */
#define FI_FEW_ROWS 16

/* What follows the product of a tile costs as much as so many of its steps, for the question whether to go on. */
#define FI_EPILOGUE_WORK 16

/* The quantities that have moments, in this order. */
enum { FI_PRE_ACTIVATION, FI_VALUE, FI_GRADIENT, FI_QUANTITIES };

typedef struct {
    double low, high; /* of the numbers that are no NaN */
    uint64_t non_finite;
} fi_extremes;

/* What the list says of an activation. */
typedef struct {
    const char *name;
    int from_input; /* the derivative is no function of the value */
    double saturated_below, value_ulp, slope_eps, left_ulp;
} fi_traits;
extern const fi_traits fi_activation_traits[];

/* An activation whose derivative is what was kept, whatever function that was. */
#define FI_KEPT_ACTIVATION FI_SIN

typedef struct {
    const fi_stack_args *run;
    fi_watch *watch;
    unsigned parts; /* of the batch: each takes its rows through all layers */
    size_t rows;    /* the batch rounded up to whole groups */
    size_t columns; /* of a panel */
    int record;     /* statistics are wanted */
    int fused;      /* weight gradients go with the backward pass: there is one worker */
    /* Panel matrices of `rows` rows. activations[l], l = 0..depth, has widths[l] columns; slopes[l], of layer l, where
     * the value does not give the derivative, and NULL elsewhere; gradients[l], with respect to the
     * pre-activation of layer l, widths[l + 1] columns; gradients[depth] is for the input's gradient. Layers
     * share memory where nobody needs them all. */
    void **activations, **slopes, **gradients;
    void *skipped;            /* the gradient that goes around the residual block under way */
    double **squares;         /* [layer]: what its weight gradient's squared norm is the sum of, see norm_template.h */
    fi_counter *arrived;      /* [layer]: how many parts of the batch have its gradients */
    unsigned char *is_source; /* [layer]: a residual block begins at activations[layer] */
    fi_partial_moments *moments; /* [layer][quantity][group] */
    size_t groups;
    const size_t *first_panel; /* [layer]: how many output panels the layers before it have */
    /* For each part of the batch: */
    void **panel;           /* one packed panel of weights */
    void **drawn;           /* weights that are not stored: FI_DRAWN columns in panels, or the rows of a panel */
    double *largest_input;  /* |x| of its samples, where Gram matrices are wanted */
    void **record_of;       /* the statistics under way */
    unsigned char **alive;  /* a bit for each unit, in the order of the panels: a derivative was not 0 */
    uint64_t **saturated;   /* [layer] */
    fi_extremes **extremes; /* [layer][quantity] */
    void **gram;            /* for each worker: two packed panels of samples */
} fi_stack_job;

/* What fills memory returns early where the watch has stopped, and so does what then calls it. */
struct fi_stack_kernels {
    size_t columns; /* of a panel */
    size_t record_size, row_record_size;
    /* Rows begin .. end-1 (whole groups) of a part through layers first .. last-1, and back. */
    void (*forward)(fi_stack_job *job, unsigned part, size_t begin, size_t end, size_t first, size_t last,
                    int again);
    void (*backward)(fi_stack_job *job, unsigned part, size_t begin, size_t end, size_t first, size_t last);
    /* Panels first .. last-1 of a layer's weight gradient, and of its bias gradient; their squares, where wanted. */
    void (*weight_gradient)(fi_stack_job *job, size_t layer, size_t first, size_t last);
    /* The squares by Gram matrices, of a block of `columns` samples. */
    void (*gram)(fi_stack_job *job, unsigned worker, size_t layer, size_t block);
    void (*cosines)(const fi_stack_job *job, size_t layer);
    size_t (*dead)(const fi_stack_job *job, size_t layer);
    void (*activate)(int activation, double parameter, const void *x, void *values, void *slopes, size_t n);
    double (*fma_loop)(uint64_t rounds); /* returns the operations of one round */
};

/* OUT the largest binary exponents of a layer's inputs and gradients, at most `limit` in size, by the statistics. */
void fi_stack_exponents(const fi_stack_job *job, size_t layer, int limit, int exponents[2]);

/* Elements first .. of the weights of a layer that are not stored. */
void fi_stack_draw(const fi_stack_job *job, size_t layer, size_t first, size_t count, void *out);

/* A sampling kernel makes elements by this many: fewer columns at once would be drawn in vain. */
#define FI_DRAWN 128

/* 2^exponent, -1022 <= exponent <= 1023 */
FI_INLINE double fi_power_of_two(int exponent) {
    const uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* The binary exponent of x >= 0, at most `limit` in size; 0 of what has none. */
FI_INLINE int fi_exponent(double x, int limit) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int exponent = x > 0 && x < HUGE_VAL ? (int)(bits >> 52) - 1023 : 0; /* -1023 for all subnormals */
    return exponent > limit ? limit : exponent < -limit ? -limit : exponent;
}

#endif
