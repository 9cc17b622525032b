/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Random reflections and their product. Reflection j is I - tau v v^T with v made of the normals x of elements (j.., j):
 * v = x + sign(x_0) |x| e_0 maps x to -sign(x_0) |x| e_0 without cancellation. The 64 reflections of a block
 * are I - V T V^T with a triangle T (Schreiber & Van Loan, "A storage-efficient WY representation", 1989), so that
 * nearly all of the work is in matrix products. Columns of the result are made a panel at a time, from the last
 * block that reaches them to the first: a panel asks for nothing but v, and its bits depend on no other.
 *
 * Largest error, |Q^T Q - I| per element: 2e-6 in float32 and 2e-14 in float64 for up to 4096 rows.
 *
 * Parameters: a real type; gemm_template.h.
 */
#define FI_PANELS (FI_REFLECTIONS / FI_COLUMNS) /* of a block */
#define FI_CHUNK 128 /* rows of v and of a panel of columns that stay in the first cache levels */

/* Rows begin .. end-1 of the lower triangle, from the stream to the panels of all blocks. */
static void FI_REAL(haar_draw)(const fi_haar_job *job, unsigned worker, size_t begin, size_t end) {
    real *row = job->scratch[worker];
    for (size_t i = begin; i < end; i++) {
        const size_t live = i / FI_REFLECTIONS + 1 < job->blocks ? i / FI_REFLECTIONS + 1 : job->blocks;
        size_t drawn = 0; /* zero: above the diagonal, in columns that nobody needs, in padding rows */
        if (i < job->run->rows) drawn = i + 1 < job->reflections ? i + 1 : job->reflections;
        job->fill(&job->plan, row, (uint64_t)i * job->run->columns, drawn);
        memset(row + drawn, 0, (live * FI_REFLECTIONS - drawn) * sizeof(real));
        for (size_t k = 0; k < live; k++) {
            const size_t height = job->rows - k * FI_REFLECTIONS;
            real *v = (real *)job->v + fi_haar_block(job, k) + (i - k * FI_REFLECTIONS) * FI_COLUMNS;
            for (size_t p = 0; p < FI_PANELS; p++)
                memcpy(v + p * height * FI_COLUMNS, row + k * FI_REFLECTIONS + p * FI_COLUMNS,
                       FI_COLUMNS * sizeof(real));
        }
    }
}

/* Columns of one panel: |x|^2 in double, v_0, tau and the sign of D. */
static void FI_REAL(haar_panel)(const fi_haar_job *job, real *v, size_t column, size_t p, double *tau) {
    const size_t height = job->rows - column / FI_REFLECTIONS * FI_REFLECTIONS;
    double squares[FI_COLUMNS] = {0};
    for (size_t r = 0; r < height; r++)
        for (size_t c = 0; c < FI_COLUMNS; c++) {
            const double x = v[r * FI_COLUMNS + c];
            squares[c] += x * x;
        }
    for (size_t c = 0; c < FI_COLUMNS; c++) {
        const size_t j = column + c;
        tau[c] = 0;
        if (j >= job->reflections) continue;
        real *diagonal = &v[(p * FI_COLUMNS + c) * FI_COLUMNS + c];
        const double x0 = *diagonal, norm = sqrt(squares[c]);
        *diagonal = (real)(x0 < 0 ? x0 - norm : x0 + norm);
        /* D has the signs of the diagonal of R in x = QR: then the law of Q D is Haar's (Mezzadri 2007). */
        ((real *)job->sign)[j] = x0 < 0 ? 1 : -1;
        /* From v as it was rounded: the reflection is then orthogonal to the last bits of tau. */
        const double v0 = *diagonal;
        tau[c] = 2 / (squares[c] - x0 * x0 + v0 * v0);
    }
}

/* One tile of the Gram matrix or of V^T q, continued over rows in index order. */
FI_INLINE void FI_REAL(haar_gather)(real *sums, const real *left, size_t column, const real *right,
                                    size_t rows) {
    FI_REAL(tile) tile;
    for (int i = 0; i < FI_ROWS; i++)
        for (int u = 0; u < FI_VECTORS; u++)
            tile.v[i][u] = VR(load)(sums + (size_t)i * FI_COLUMNS + (size_t)u * FI_REAL_LANES);
    FI_REAL(tile_multiply)(&tile, left + column, 1, FI_COLUMNS, right, rows);
    for (int i = 0; i < FI_ROWS; i++)
        for (int u = 0; u < FI_VECTORS; u++)
            VR(store)(sums + (size_t)i * FI_COLUMNS + (size_t)u * FI_REAL_LANES, tile.v[i][u]);
}

static void FI_REAL(haar_reflect)(const fi_haar_job *job, size_t block) {
    const size_t height = job->rows - block * FI_REFLECTIONS;
    real *v = (real *)job->v + fi_haar_block(job, block);
    double tau[FI_REFLECTIONS];
    for (size_t p = 0; p < FI_PANELS; p++)
        FI_REAL(haar_panel)(job, v + p * height * FI_COLUMNS, block * FI_REFLECTIONS + p * FI_COLUMNS, p,
                            tau + p * FI_COLUMNS);

    real gram[FI_PANELS][FI_REFLECTIONS][FI_COLUMNS]; /* [p][i][c]: v_i . v_(p, c) */
    memset(gram, 0, sizeof gram);
    for (size_t a = 0; a < FI_PANELS; a++)
        for (size_t b = a; b < FI_PANELS; b++)
            for (size_t i = 0; i < FI_COLUMNS; i += FI_ROWS)
                FI_REAL(haar_gather)(gram[b][a * FI_COLUMNS + i], v + a * height * FI_COLUMNS, i,
                                     v + b * height * FI_COLUMNS, height);

    /* T_jj = tau_j; T_ij = -tau_j sum_{i <= l < j} T_il (v_l . v_j). t holds T by columns, so that a whole column is
     * summed at once; below the diagonal T is 0. */
    double t[FI_REFLECTIONS][FI_REFLECTIONS] = {{0}};
    for (size_t j = 0; j < FI_REFLECTIONS; j++) {
        double sums[FI_REFLECTIONS] = {0};
        for (size_t l = 0; l < j; l++) {
            const double dot = gram[j / FI_COLUMNS][l][j % FI_COLUMNS];
            for (size_t i = 0; i < FI_REFLECTIONS; i++) sums[i] += t[l][i] * dot;
        }
        for (size_t i = 0; i < j; i++) t[j][i] = -tau[j] * sums[i];
        t[j][j] = tau[j];
    }
    real *target = (real *)job->t + block * FI_REFLECTIONS * FI_REFLECTIONS;
    for (size_t i = 0; i < FI_REFLECTIONS; i++)
        for (size_t j = 0; j < FI_REFLECTIONS; j++)
            target[(j / FI_COLUMNS * FI_REFLECTIONS + i) * FI_COLUMNS + j % FI_COLUMNS] = (real)t[j][i];
}

/* q -= V T (V^T q) for `panels` panels of columns; q has the rows of the block, panels lie `pitch` apart. */
static void FI_REAL(haar_block)(const fi_haar_job *job, size_t block, real *q, size_t pitch, size_t panels) {
    const size_t height = job->rows - block * FI_REFLECTIONS;
    const real *v = (const real *)job->v + fi_haar_block(job, block);
    const real *t = (const real *)job->t + block * FI_REFLECTIONS * FI_REFLECTIONS;
    real x[FI_HAAR_PANELS][FI_REFLECTIONS * FI_COLUMNS], y[FI_HAAR_PANELS][FI_REFLECTIONS * FI_COLUMNS];
    memset(x, 0, sizeof x);
    for (size_t r = 0; r < height; r += FI_CHUNK) {
        const size_t n = height - r < FI_CHUNK ? height - r : FI_CHUNK;
        for (size_t a = 0; a < FI_PANELS; a++)
            for (size_t p = 0; p < panels; p++)
                for (size_t i = 0; i < FI_COLUMNS; i += FI_ROWS)
                    FI_REAL(haar_gather)(x[p] + (a * FI_COLUMNS + i) * FI_COLUMNS,
                                         v + (a * height + r) * FI_COLUMNS, i,
                                         q + p * pitch + r * FI_COLUMNS, n);
    }
    for (size_t p = 0; p < panels; p++)
        for (size_t i = 0; i < FI_REFLECTIONS; i += FI_ROWS) {
            FI_REAL(tile) tile;
            FI_REAL(tile_product)(&tile, t, FI_REFLECTIONS, i, x[p], FI_REFLECTIONS);
            for (size_t k = 0; k < FI_ROWS; k++)
                for (size_t u = 0; u < FI_VECTORS; u++)
                    VR(store)(y[p] + (i + k) * FI_COLUMNS + u * FI_REAL_LANES, tile.v[k][u]);
        }
    for (size_t r = 0; r < height; r += FI_CHUNK)
        for (size_t p = 0; p < panels; p++)
            for (size_t i = r; i < height && i < r + FI_CHUNK; i += FI_ROWS) {
                FI_REAL(tile) tile;
                FI_REAL(tile_product)(&tile, v, height, i, y[p], FI_REFLECTIONS);
                for (size_t k = 0; k < FI_ROWS; k++)
                    for (size_t u = 0; u < FI_VECTORS; u++) {
                        real *target = q + p * pitch + (i + k) * FI_COLUMNS + u * FI_REAL_LANES;
                        VR(store)(target, VR(sub)(VR(load)(target), tile.v[k][u]));
                    }
            }
}

static void FI_REAL(haar_apply)(const fi_haar_job *job, unsigned worker, size_t group) {
    const fi_haar_run *run = job->run;
    const size_t whole = job->panels * FI_COLUMNS, from = group * whole;
    const size_t width = run->count - from < whole ? run->count - from : whole;
    const size_t panels = (width + FI_COLUMNS - 1) / FI_COLUMNS, pitch = job->rows * FI_COLUMNS;
    real *q = job->scratch[worker];
    memset(q, 0, panels * pitch * sizeof(real));
    for (size_t c = 0; c < width; c++) {
        const size_t j = run->first + from + c;
        q[c / FI_COLUMNS * pitch + j * FI_COLUMNS + c % FI_COLUMNS] = ((const real *)job->sign)[j];
    }
    for (size_t k = (run->first + from + width - 1) / FI_REFLECTIONS + 1; k-- > 0;)
        FI_REAL(haar_block)(job, k, q + k * FI_REFLECTIONS * FI_COLUMNS, pitch, panels);

    const real gain = (real)run->gain;
    real *out = run->out;
    for (size_t p = 0; p < panels; p++) {
        const size_t n = width - p * FI_COLUMNS < FI_COLUMNS ? width - p * FI_COLUMNS : FI_COLUMNS;
        const size_t column = from + p * FI_COLUMNS;
        for (size_t r = 0; r < run->rows; r++) {
            const real *source = q + p * pitch + r * FI_COLUMNS;
            if (run->transposed)
                for (size_t c = 0; c < n; c++) out[(column + c) * run->rows + r] = gain * source[c];
            else
                for (size_t c = 0; c < n; c++) out[r * run->count + column + c] = gain * source[c];
        }
    }
}

static const fi_haar_kernels FI_REAL(haar_kernels) = {
    .columns = FI_COLUMNS,
    .draw = FI_REAL(haar_draw),
    .reflect = FI_REAL(haar_reflect),
    .apply = FI_REAL(haar_apply),
};
#undef FI_PANELS
#undef FI_CHUNK
