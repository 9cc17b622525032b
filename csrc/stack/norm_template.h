/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The norm of a layer's weight gradient A^T D, A the inputs and D the gradients of a batch, by terms that summary.c adds in
 * index order, all in float64:
 *   from the gradient: for each column, its squares summed over the rows in index order by fma;
 *   without it, |A^T D|^2 = sum of (A A^T) o (D D^T), for each sample s: twice the sum over samples r < s, in index order
 *   by fma, of (a_r . a_s)(d_r . d_s), and the term of r = s. The dot products are those of gemm_template.h, of the
 *   real type.
 * Numbers are scaled by exact powers of two, those of the largest |a| and |d|, so that the squares of tiny gradients do not
 * underflow and those of huge ones do not overflow. The first way in float32 needs no scale: float64 has room for such squares.
 *
 * Parameters: a real type; gemm_template.h, moments_template.h and statistics_template.h.
 */

enum { FI_REAL(exponents) = sizeof(real) == sizeof(double) ? 1022 : 126 }; /* of normal numbers */

/* squares[c] += those of column c, of `rows` rows and the first `vectors` of a tile, times scale[0] scale[1] in float64. */
static void FI_REAL(add_squares)(double *squares, const FI_REAL(tile) * tile, size_t rows, size_t vectors,
                                 const double scale[2]) {
    for (size_t v = 0; v < vectors; v++, squares += FI_REAL_LANES) {
        vd sums[FI_REAL_HALVES];
        for (int half = 0; half < FI_REAL_HALVES; half++) sums[half] = vd_load(squares + half * FI_DOUBLE_LANES);
        for (size_t m = 0; m < rows; m++)
            for (int half = 0; half < FI_REAL_HALVES; half++) {
                vd x = VR(to_double)(tile->v[m][v], half);
                if (sizeof(real) == sizeof(double)) x = vd_mul(vd_mul(x, vd_set1(scale[0])), vd_set1(scale[1]));
                sums[half] = vd_fma(x, x, sums[half]);
            }
        for (int half = 0; half < FI_REAL_HALVES; half++) vd_store(squares + half * FI_DOUBLE_LANES, sums[half]);
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

/* OUT panel[k][c]: column k of sample first + c of a matrix in micropanels, times scale^2 in two steps; 0 for c >= count. Where
 * one vector holds all samples, nothing is written beyond it. */
static void FI_REAL(pack_samples)(real *panel, const real *matrix, size_t rows, size_t width, size_t first,
                                  size_t count, real scale) {
    const size_t packed = count > FI_REAL_LANES ? FI_NR : FI_REAL_LANES;
    const vr s = VR(set1)(scale);
    for (size_t p = 0; p < width; p += FI_NR, matrix += rows * FI_NR, panel += FI_NR * FI_NR) {
        const real *source = matrix + first * FI_NR;
        const size_t columns = width - p < FI_NR ? width - p : FI_NR;
        for (size_t c = 0; c < packed; c += FI_REAL_LANES) {
            size_t k = 0;
            if (c + FI_REAL_LANES <= count)
                for (; k + 4 <= columns; k += 4)
                    VR(transpose_four)(panel + k * FI_NR + c, FI_NR, source + c * FI_NR + k, FI_NR);
            for (; k < columns; k++)
                for (size_t i = c; i < c + FI_REAL_LANES; i++)
                    panel[k * FI_NR + i] = i < count ? source[i * FI_NR + k] : 0;
            for (k = 0; scale != 1 && k < columns; k++) {
                real *x = panel + k * FI_NR + c;
                VR(store)(x, VR(mul)(VR(mul)(VR(load)(x), s), s));
            }
        }
    }
}

/* OUT the squares of samples panel * FI_NR ..; see above. */
static void FI_REAL(stack_gram)(fi_stack_shared *shared, unsigned worker, size_t layer, size_t panel) {
    const fi_stack_args *args = shared->args;
    int exponents[2];
    fi_stack_exponents(shared, layer, FI_REAL(exponents), exponents);
    const size_t first = panel * FI_NR;
    const size_t count = args->batch - first < FI_NR ? args->batch - first : FI_NR;
    const size_t widths[2] = {args->widths[layer], args->widths[layer + 1]};
    const real *matrices[2] = {shared->activations[layer], shared->gradients[layer]};
    real *panels[2] = {shared->gram[worker], (real *)shared->gram[worker] + widths[0] * FI_NR};
    for (int i = 0; i < 2; i++)
        FI_REAL(pack_samples)(panels[i], matrices[i], shared->rows, widths[i], first, count,
                              (real)fi_power_of_two(-exponents[i]));
    double sums[FI_NR] = {0};
    fi_patience patience = {shared->watch, 0};
    for (size_t r = 0; r < first + count; r += FI_MR) {
        if (fi_patience_ends(&patience, widths[0] + widths[1])) return;
        real products[2][FI_MR * FI_NR];
        for (int i = 0; i < 2; i++) {
            FI_REAL(tile) tile;
            FI_REAL(tile_product_within)(&tile, matrices[i], shared->rows, r, panels[i], widths[i], first + count - r,
                                         count);
            FI_REAL(tile_store)(products[i], &tile);
        }
        for (size_t m = 0; m < FI_MR && r + m < first + count; m++) {
            const real *a = products[0] + m * FI_NR, *d = products[1] + m * FI_NR;
            for (size_t c = r + m < first ? 0 : r + m - first + 1; c < count; c++)
                sums[c] = fma((double)a[c], (double)d[c], sums[c]);
            if (r + m < first) continue;
            const size_t c = r + m - first; /* its sum is complete */
            shared->squares[layer][r + m] = fma((double)a[c], (double)d[c], 2 * sums[c]);
        }
    }
}
