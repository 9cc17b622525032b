/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cosines between samples of the batch, of a layer's activations and of its gradients. Dot products in float64 in eight
 * lanes, lane = column mod 8, by fma, and these as the moments' are added.
 *
 * Parameters: a real type; gemm_template.h and moments_template.h.
 */

/* A dot product of two rows of a panel matrix. */
static double FI_REAL(dot)(const real *matrix, size_t rows, size_t width, size_t i, size_t j) {
    double lanes[8] = {0};
    for (size_t p = 0; p * FI_COLUMNS < width; p++, matrix += rows * FI_COLUMNS) {
        const size_t columns = width - p * FI_COLUMNS < FI_COLUMNS ? width - p * FI_COLUMNS : FI_COLUMNS;
        const real *x = matrix + i * FI_COLUMNS, *y = matrix + j * FI_COLUMNS;
        for (size_t c = 0; c < columns; c++) lanes[c % 8] = fma((double)x[c], (double)y[c], lanes[c % 8]);
    }
    return FI_REAL(lanes_sum)(lanes);
}

static double FI_REAL(cosine)(const real *matrix, size_t rows, size_t width, size_t i, size_t j) {
    const double ij = FI_REAL(dot)(matrix, rows, width, i, j);
    const double ii = FI_REAL(dot)(matrix, rows, width, i, i), jj = FI_REAL(dot)(matrix, rows, width, j, j);
    const double product = ii * jj;
    /* The root of a square is exact: equal samples have cosine 1. */
    const double lengths = product > 1e-280 && product < 1e280 ? sqrt(product) : sqrt(ii) * sqrt(jj);
    const double cosine = ij / lengths; /* NaN for a length of 0 */
    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

static void FI_REAL(stack_cosines)(const fi_stack_job *job, size_t layer) {
    const fi_stack_run *run = job->run;
    const real *matrices[2] = {job->activations[layer + 1], job->gradients[layer]};
    double *out = run->cosines + 2 * layer * run->pairs_count;
    for (int q = 0; q < 2; q++)
        for (size_t k = 0; k < run->pairs_count; k++)
            *out++ = FI_REAL(cosine)(matrices[q], job->rows, run->widths[layer + 1], run->pairs[2 * k],
                                     run->pairs[2 * k + 1]);
}
