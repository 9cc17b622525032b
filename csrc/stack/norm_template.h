/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The norm of a layer's weight gradient A^T D, A the inputs and D the gradients of a batch, by numbers that stack.c adds in
 * index order, all in float64:
 *   from the gradient: for each column, its squares summed over the rows in index order by fma;
 *   without it, |A^T D|^2 = sum of (A A^T) o (D D^T), for each sample s: twice the sum over samples r < s, in index order
 *   by fma, of (a_r . a_s)(d_r . d_s), and the term of r = s. The dot products are those of gemm_template.h, of the
 *   real type.
 * Numbers are scaled by exact powers of two, those of the largest |a| and |d|, so that the squares of tiny gradients do not
 * vanish and those of huge ones do not overflow; but for the first way in float32, as float64 has room for such squares.
 *
 * Parameters: a real type; gemm_template.h, moments_template.h and statistics_template.h.
 */

enum { FI_REAL(exponents) = sizeof(real) == sizeof(double) ? 1022 : 126 }; /* of normal numbers */

/* squares[c] += those of column c, of `rows` rows and the first `vectors` of a tile, times scale[0] scale[1] in float64. */
static void FI_REAL(add_squares)(double *squares, const FI_REAL(tile) * tile, size_t rows, size_t vectors,
                                 const double scale[2]) {
    for (size_t v = 0; v < vectors; v++, squares += FI_REAL_LANES) {
        vd sums[FI_PARTS];
        for (int part = 0; part < FI_PARTS; part++) sums[part] = vd_load(squares + part * FI_DOUBLE_LANES);
        for (size_t m = 0; m < rows; m++)
            for (int part = 0; part < FI_PARTS; part++) {
                vd x = VR(to_double)(tile->v[m][v], part);
                if (sizeof(real) == sizeof(double)) x = vd_mul(vd_mul(x, vd_set1(scale[0])), vd_set1(scale[1]));
                sums[part] = vd_fma(x, x, sums[part]);
            }
        for (int part = 0; part < FI_PARTS; part++) vd_store(squares + part * FI_DOUBLE_LANES, sums[part]);
    }
}

/* The largest |x| that is no NaN. */
static double FI_REAL(largest)(const real *x, size_t n) {
    real largest = 0;
    for (size_t i = 0; i < n; i++) {
        const real size = x[i] < 0 ? -x[i] : x[i];
        if (size > largest) largest = size;
    }
    return (double)largest;
}

/* OUT panel[k][c] = sample first + c of a panel matrix, times scale twice; 0 beyond `count` samples, of which what lies beyond
 * a vector is left out where none is there. */
static void FI_REAL(pack_samples)(real *panel, const real *matrix, size_t rows, size_t width, size_t first,
                                  size_t count, real scale) {
    const size_t packed = count > FI_REAL_LANES ? FI_COLUMNS : FI_REAL_LANES;
    const vr s = VR(set1)(scale);
    for (size_t p = 0; p < width; p += FI_COLUMNS, matrix += rows * FI_COLUMNS, panel += FI_COLUMNS * FI_COLUMNS) {
        const real *source = matrix + first * FI_COLUMNS;
        const size_t columns = width - p < FI_COLUMNS ? width - p : FI_COLUMNS;
        for (size_t c = 0; c < packed; c += FI_REAL_LANES) {
            size_t k = 0;
            if (c + FI_REAL_LANES <= count)
                for (; k + 4 <= columns; k += 4)
                    VR(transpose_four)(panel + k * FI_COLUMNS + c, FI_COLUMNS, source + c * FI_COLUMNS + k, FI_COLUMNS);
            for (; k < columns; k++)
                for (size_t i = c; i < c + FI_REAL_LANES; i++)
                    panel[k * FI_COLUMNS + i] = i < count ? source[i * FI_COLUMNS + k] : 0;
            for (k = 0; scale != 1 && k < columns; k++) {
                real *x = panel + k * FI_COLUMNS + c;
                VR(store)(x, VR(mul)(VR(mul)(VR(load)(x), s), s));
            }
        }
    }
}

/* The squares of samples block * FI_COLUMNS ..; see above. */
static void FI_REAL(stack_gram)(fi_stack_job *job, unsigned worker, size_t layer, size_t block) {
    const fi_stack_args *run = job->run;
    int exponents[2];
    fi_stack_exponents(job, layer, FI_REAL(exponents), exponents);
    const size_t first = block * FI_COLUMNS;
    const size_t count = run->batch - first < FI_COLUMNS ? run->batch - first : FI_COLUMNS;
    const size_t widths[2] = {run->widths[layer], run->widths[layer + 1]};
    const real *matrices[2] = {job->activations[layer], job->gradients[layer]};
    real *panels[2] = {job->gram[worker], (real *)job->gram[worker] + widths[0] * FI_COLUMNS};
    for (int i = 0; i < 2; i++)
        FI_REAL(pack_samples)(panels[i], matrices[i], job->rows, widths[i], first, count,
                              (real)fi_power_of_two(-exponents[i]));
    double sums[FI_COLUMNS] = {0};
    fi_patience patience = {job->watch, 0};
    for (size_t r = 0; r < first + count; r += FI_ROWS) {
        if (fi_patience_ends(&patience, widths[0] + widths[1])) return;
        real products[2][FI_ROWS * FI_COLUMNS];
        for (int i = 0; i < 2; i++) {
            FI_REAL(tile) tile;
            FI_REAL(tile_product_within)(&tile, matrices[i], job->rows, r, panels[i], widths[i], first + count - r,
                                         count);
            FI_REAL(tile_store)(products[i], &tile);
        }
        for (size_t m = 0; m < FI_ROWS && r + m < first + count; m++) {
            const real *a = products[0] + m * FI_COLUMNS, *d = products[1] + m * FI_COLUMNS;
            for (size_t c = r + m < first ? 0 : r + m - first + 1; c < count; c++)
                sums[c] = fma((double)a[c], (double)d[c], sums[c]);
            if (r + m < first) continue;
            const size_t c = r + m - first; /* its sum is complete */
            job->squares[layer][r + m] = fma((double)a[c], (double)d[c], 2 * sums[c]);
        }
    }
}
