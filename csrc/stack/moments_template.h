/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Moments of a layer in float64, in one written order that indices alone fix:
 *   1. a row (one sample) in eight lanes, lane = column mod 8, by sums of x - p and (x - p)^2, where the
 *      pivot p is the row's first element: constant data has variance 0 exactly;
 *   2. the lanes as ((0+4)+(2+6)) + ((1+5)+(3+7)), to the row's mean and sum of squared deviations;
 *   3. eight neighbouring rows in index order, their means about the first one's;
 *   4. these groups in index order (summary.c), by the update of Chan, Golub & LeVeque (1979).
 *
 * Parameters: a real type and VR(to_double)(vector, half): FI_DOUBLE_LANES of its lanes as doubles.
 */
#undef FI_REAL_HALVES
#define FI_REAL_HALVES (FI_REAL_LANES / FI_DOUBLE_LANES) /* vectors of doubles that a vector of the real type becomes */

typedef struct {
    double sum[8], squares[8], pivot;
} FI_REAL(row_moments);

FI_INLINE void FI_REAL(row_moments_begin)(FI_REAL(row_moments) * m, real pivot) {
    memset(m, 0, sizeof *m);
    m->pivot = (double)pivot;
}

/* Adds `vectors` of a row, from a column that is a multiple of FI_NR (of 8). */
FI_INLINE void FI_REAL(row_moments_add)(FI_REAL(row_moments) * m, const vr *x, size_t vectors) {
    vd sum[8 / FI_DOUBLE_LANES], squares[8 / FI_DOUBLE_LANES];
    const vd pivot = vd_set1(m->pivot);
    for (int l = 0; l < 8 / FI_DOUBLE_LANES; l++) {
        sum[l] = vd_load(m->sum + l * FI_DOUBLE_LANES);
        squares[l] = vd_load(m->squares + l * FI_DOUBLE_LANES);
    }
    for (size_t v = 0; v < vectors; v++) {
        for (int half = 0; half < FI_REAL_HALVES; half++) {
            const size_t l = (v * FI_REAL_HALVES + (size_t)half) % (8 / FI_DOUBLE_LANES);
            const vd d = vd_sub(VR(to_double)(x[v], half), pivot);
            sum[l] = vd_add(sum[l], d);
            squares[l] = vd_fma(d, d, squares[l]);
        }
    }
    for (int l = 0; l < 8 / FI_DOUBLE_LANES; l++) {
        vd_store(m->sum + l * FI_DOUBLE_LANES, sum[l]);
        vd_store(m->squares + l * FI_DOUBLE_LANES, squares[l]);
    }
}

FI_INLINE double FI_REAL(lanes_sum)(const double *s) {
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* The moments of `rows` <= 8 rows that are `step` apart, each of `width` numbers. Divisions are slow: those of all rows are done
 * in vectors. */
static fi_partial_moments FI_REAL(group_moments)(const FI_REAL(row_moments) * m, size_t step, size_t rows,
                                                 size_t width) {
    const double n = (double)width, k = (double)rows;
    double sums[8] = {0}, means[8], corrections[8];
    for (size_t r = 0; r < rows; r++) sums[r] = FI_REAL(lanes_sum)(m[r * step].sum);
    for (int r = 0; r < 8; r += FI_DOUBLE_LANES) {
        const vd s = vd_load(sums + r);
        vd_store(means + r, vd_div(s, vd_set1(n)));
        vd_store(corrections + r, vd_div(vd_mul(s, s), vd_set1(n)));
    }
    double first = 0, sum = 0, squares = 0, deviations = 0;
    for (size_t r = 0; r < rows; r++) {
        const FI_REAL(row_moments) *row = &m[r * step];
        const double own = FI_REAL(lanes_sum)(row->squares), mean = row->pivot + means[r];
        /* Squares that overflow beside a sum that does not are an infinite variance, not inf - inf. Rounding may leave
         * a tiny negative; a NaN stays one. */
        const double within = isinf(own) && isfinite(sums[r]) ? own : own - corrections[r];
        deviations += within < 0 ? 0 : within;
        if (r == 0) first = mean;
        const double d = mean - first;
        sum += d;
        squares = fma(d, d, squares);
    }
    const double between = isinf(squares) && isfinite(sum) ? squares : squares - sum * sum / k;
    return (fi_partial_moments){n * k, first + sum / k, deviations + n * (between < 0 ? 0 : between)};
}
