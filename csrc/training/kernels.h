/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Between loss.c and optimizer.c, which know what is computed, and their templates, which know vectors: what both see. */
#ifndef FI_TRAINING_H
#define FI_TRAINING_H

#include "core/internal.h"

#define FI_SOFTMAX_ROWS 8 /* worked on together */

/* Of each row: its largest number, the sum of all e^(x - max), and the sum's logarithm. */
typedef struct {
    double max[FI_SOFTMAX_ROWS], sum[FI_SOFTMAX_ROWS], log_sum[FI_SOFTMAX_ROWS];
} fi_softmax;

/* The coefficients of an update, see the formulas in optimizer_template.h. */
typedef struct {
    double rate, keep_1, take_1, keep_2, take_2, epsilon;
} fi_rates;

typedef void (*fi_update_fn)(const fi_parameter *parameter, const void *gradient, const fi_rates *rates);

struct fi_training_kernels {
    /* rows: (classes, FI_SOFTMAX_ROWS), of which e^(x - max) is left. */
    void (*softmax)(double *rows, size_t classes, fi_softmax *out);
    fi_update_fn update[FI_OPTIMIZERS][2]; /* FI_FLOAT32, FI_FLOAT64 */
};

#endif
