/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cosines between samples of the batch, of a layer's activations, its gradients, and its pre-activations. Dot products are sums
 * in float64 in eight lanes, lane = column mod 8, by fma; the lanes are added in the order of moments_template.h.
 *
 * Parameters: a real type; gemm_template.h, moments_template.h and norm_template.h.
 */

typedef struct {
    const real *first; /* its row of the first micropanel */
    double scale;      /* an exact power of two that brings its largest number near 1: no square overflows or vanishes */
} FI_REAL(sample);

static FI_REAL(sample) FI_REAL(sample_of)(const real *matrix, size_t rows, size_t width, size_t row) {
    double largest = 0;
    for (size_t p = 0; p < width; p += FI_NR) {
        const size_t columns = width - p < FI_NR ? width - p : FI_NR;
        const double found = FI_REAL(largest)(matrix + p * rows + row * FI_NR, columns);
        if (found > largest) largest = found;
    }
    return (FI_REAL(sample)){matrix + row * FI_NR, fi_power_of_two(-fi_exponent(largest, 1022))};
}

static double FI_REAL(dot)(FI_REAL(sample) x, FI_REAL(sample) y, size_t rows, size_t width) {
    double lanes[8] = {0};
    for (size_t p = 0; p < width; p += FI_NR) {
        const size_t columns = width - p < FI_NR ? width - p : FI_NR;
        const real *a = x.first + p * rows, *b = y.first + p * rows;
        for (size_t c = 0; c < columns; c++)
            lanes[c % 8] = fma((double)a[c] * x.scale, (double)b[c] * y.scale, lanes[c % 8]);
    }
    return FI_REAL(lanes_sum)(lanes);
}

static double FI_REAL(cosine)(const real *matrix, size_t rows, size_t width, size_t i, size_t j) {
    const FI_REAL(sample) x = FI_REAL(sample_of)(matrix, rows, width, i), y = FI_REAL(sample_of)(matrix, rows, width, j);
    /* The square root of a square is exact, so that equal samples have cosine 1. NaN where one has length 0. */
    const double cosine = FI_REAL(dot)(x, y, rows, width) /
                          sqrt(FI_REAL(dot)(x, x, rows, width) * FI_REAL(dot)(y, y, rows, width));
    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

static void FI_REAL(stack_cosines)(const fi_stack_shared *shared, size_t layer) {
    const fi_stack_args *args = shared->args;
    const size_t pairs = args->pairs_count;
    const real *matrices[3] = {shared->activations[layer + 1], shared->gradients[layer], shared->pre_activations[layer]};
    double *const out[3] = {args->cosines + 2 * layer * pairs, args->cosines + (2 * layer + 1) * pairs,
                            args->pre_activation_cosines ? args->pre_activation_cosines + layer * pairs : NULL};
    fi_patience patience = {shared->watch, 0};
    for (int q = 0; q < 3; q++)
        for (size_t k = 0; k < pairs && out[q]; k++) {
            if (fi_patience_ends(&patience, args->widths[layer + 1])) return;
            out[q][k] = FI_REAL(cosine)(matrices[q], shared->rows, args->widths[layer + 1], args->pairs[2 * k],
                                        args->pairs[2 * k + 1]);
        }
}
