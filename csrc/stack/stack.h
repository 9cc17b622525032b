/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Between the schedule of a pass (schedule.h), which knows sizes, memory and threads, and the kernels of an instruction set
 * (stack_template.h), which know vectors: what both see. */
#ifndef FI_STACK_H
#define FI_STACK_H

#include <math.h>
#include <string.h>

#include "stack/moments.h"
#include "core/parallel.h"

/* Samples are handed to workers, and their moments merged, in groups of this many rows. */
#define FI_GROUP 8

/* In batches this small, reading and writing the weights costs more than the products: it is done in the order of memory. */
#define FI_FEW_ROWS 16

/* What follows the product of a tile takes as long as this many of its steps: for the question whether to go on. */
#define FI_EPILOGUE_WORK 16

/* Columns that weights which are not stored are drawn by: a sampling kernel makes elements by this many, and would draw
 * fewer in vain. */
#define FI_DRAWN 128

/* The quantities that have moments, in this order. */
enum { FI_PRE_ACTIVATION, FI_VALUE, FI_GRADIENT, FI_QUANTITIES };

typedef struct {
    double low, high; /* of the numbers that are no NaN */
    uint64_t non_finite;
} fi_extremes;

/* Where a derivative was kept, backward kernels multiply by it, whatever function it was of: any activation with a kept
 * derivative serves. */
#define FI_KEPT_ACTIVATION FI_SIN

FI_INLINE int fi_ends_block(const fi_stack_args *args, size_t layer) {
    return args->residual_sources && args->residual_sources[layer] >= 0;
}

/* What all workers of a pass share. Matrices lie in micropanels (gemm_template.h) of `rows` rows and `nr` columns, which hold a
 * layer's columns in order, the last one padded; rows past the batch are padding too. */
typedef struct {
    const fi_stack_args *args;
    fi_watch *watch;
    unsigned slices; /* of the batch, in whole groups: each is taken through all layers by one worker */
    size_t rows;     /* the batch, rounded up to whole groups */
    size_t groups;
    size_t nr;       /* columns of a micropanel */
    int record;      /* statistics are wanted */
    int fused;       /* weight gradients are made within the backward pass: there is one worker */
    /* Matrices; layers share memory where nobody needs them all.
     *   activations[l]  l = 0 .. depth: (rows, widths[l])
     *   pre_activations[l]  of layer l, (rows, widths[l + 1]), where their cosines are wanted, else NULL
     *   derivatives[l]  of layer l's activation function, (rows, widths[l + 1]); NULL where activations[l + 1] gives them
     *   gradients[l]    of the loss with respect to layer l's pre-activation, (rows, widths[l + 1]);
     *                   gradients[depth]: with respect to the input, (rows, widths[0]) */
    void **activations, **pre_activations, **derivatives, **gradients;
    void *residual_gradient;  /* the gradient that goes around the residual block under way */
    unsigned char *is_source; /* [layer]: a residual block begins at activations[layer] */
    double **squares;         /* [layer]: the terms of its weight gradient's squared norm, see norm_template.h */
    fi_counter *arrived;      /* [layer]: how many slices have its gradients */
    fi_partial_moments *moments; /* [layer][quantity][group] */
    const size_t *first_panel;   /* [layer]: how many micropanels the outputs of the layers before it have */
    /* For each slice: */
    void **panel;           /* one packed micropanel of weights */
    void **drawn;           /* weights that are not stored: FI_DRAWN columns in micropanels, or the rows of one */
    double *largest_input;  /* max |x| of its samples, where norms are wanted */
    void **record_of;       /* the statistics under way */
    unsigned char **alive;  /* a bit for each unit, in the order of micropanels: its value or derivative was not always 0 */
    uint64_t **saturated;   /* [layer] */
    fi_extremes **extremes; /* [layer][quantity] */
    /* For each worker: */
    void **gram; /* two packed micropanels of samples */
} fi_stack_shared;

/* What fills memory returns early where the watch has stopped, and so does what then calls it. */
struct fi_stack_kernels {
    size_t nr;                           /* columns of a micropanel */
    size_t record_size, row_record_size; /* bytes of the statistics under way: of a slice, and of each of its rows */
    /* Rows begin .. end-1 (whole groups) of a slice through layers first .. last-1; `again`: computed for a backward pass that
     * lacks the values, without input, output or statistics. And back: OUT gradients[last - 1] .. gradients[first]. */
    void (*forward)(fi_stack_shared *shared, unsigned slice, size_t begin, size_t end, size_t first, size_t last,
                    int again);
    void (*backward)(fi_stack_shared *shared, unsigned slice, size_t begin, size_t end, size_t first, size_t last);
    /* Micropanels first .. last-1 of a layer's weight and bias gradient; OUT their squares, where norms are wanted. */
    void (*weight_gradient)(fi_stack_shared *shared, size_t layer, size_t first, size_t last);
    /* OUT squares, by Gram matrices, of the samples of micropanel `panel` of all samples: panel * nr .. */
    void (*gram)(fi_stack_shared *shared, unsigned worker, size_t layer, size_t panel);
    void (*cosines)(const fi_stack_shared *shared, size_t layer);
    size_t (*dead)(const fi_stack_shared *shared, size_t layer); /* units */
    void (*activate)(int activation, double parameter, const void *x, void *values, void *derivatives, size_t n);
    double (*fma_loop)(uint64_t rounds); /* returns the operations of one round */
};

/* OUT the largest binary exponents of a layer's inputs and gradients, at most `limit` in size, by the statistics. */
void fi_stack_exponents(const fi_stack_shared *shared, size_t layer, int limit, int exponents[2]);

/* OUT `count` elements, from `first` on, of the weights of a layer that are not stored. */
void fi_stack_draw(const fi_stack_shared *shared, size_t layer, size_t first, size_t count, void *out);

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
