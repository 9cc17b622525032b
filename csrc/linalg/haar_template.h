/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Random reflections and their product. Reflection j is I - tau v v^T with v made of the normals x of elements (j.., j):
 * v = x + sign(x_0) |x| e_0 maps x to -sign(x_0) |x| e_0 without cancellation. A complex matrix is here a real one, as a
 * number z is the matrix (re -im; im re) of its products with pairs (re; im). Its reflection I - tau v v^H, with
 * x_0 / |x_0| for the sign, is then the product of the two real ones of the pair of columns that v becomes, as these are
 * orthogonal: all that follows knows nothing of complex numbers, at four multiply-adds a product. The 64 reflections of a block
 * are I - V T V^T with a triangle T (Schreiber & Van Loan, "A storage-efficient WY representation", 1989), so that
 * nearly all of the work is in matrix products. Columns of the result are made a micropanel at a time, from the last
 * block that reaches them to the first: that needs v alone, and no other micropanel.
 *
 * Largest error, |Q^T Q - I| per element: 2e-6 in float32 and 2e-14 in float64 for up to 4096 rows.
 *
 * Parameters: a real type; gemm_template.h.
 */
#define FI_PANELS (FI_REFLECTIONS / FI_NR) /* of a block */
#define FI_CHUNK 128 /* rows of v and of a micropanel of columns: they stay in the first cache levels */
#define FI_GRAM_CHUNK 4096 /* rows between two looks at the watch, where there are no others */
#define FI_CLEARED ((size_t)1 << 20) /* numbers between two looks at the watch */

/* A worker's matrices of a block, while its reflections are made, or while they are applied. */
typedef union {
    struct {
        double t[FI_REFLECTIONS][FI_REFLECTIONS];
        real gram[FI_PANELS][FI_REFLECTIONS][FI_NR]; /* [p][i][c]: v_i . v_(p, c) */
    } made;
    struct {
        real x[FI_HAAR_PANELS][FI_REFLECTIONS * FI_NR], y[FI_HAAR_PANELS][FI_REFLECTIONS * FI_NR];
    } applied;
} FI_REAL(haar_block_scratch);

/* Row i of the first `live` blocks, to their micropanels. */
FI_INLINE void FI_REAL(haar_scatter)(const fi_haar_shared *shared, size_t i, size_t live, const real *row) {
    for (size_t k = 0; k < live; k++) {
        const size_t height = shared->rows - k * FI_REFLECTIONS;
        real *v = (real *)shared->v + fi_haar_block(shared, k) + (i - k * FI_REFLECTIONS) * FI_NR;
        for (size_t p = 0; p < FI_PANELS; p++)
            memcpy(v + p * height * FI_NR, row + k * FI_REFLECTIONS + p * FI_NR,
                   FI_NR * sizeof(real));
    }
}

/* Rows begin .. end-1 of the lower triangle, from the stream to the micropanels of all blocks. */
static void FI_REAL(haar_draw)(const fi_haar_shared *shared, unsigned worker, size_t begin, size_t end) {
    real *row = shared->scratch[worker], *numbers = row + shared->blocks * FI_REFLECTIONS;
    for (size_t i = begin; i < end; i += shared->parts) {
        const size_t live = i / FI_REFLECTIONS + 1 < shared->blocks ? i / FI_REFLECTIONS + 1 : shared->blocks;
        const size_t number = i / shared->parts, last = shared->reflections / shared->parts;
        size_t drawn = 0; /* zero: above the diagonal, in columns that nobody needs, in padding rows */
        if (number < shared->args->rows) drawn = number + 1 < last ? number + 1 : last;
        memset(row + shared->parts * drawn, 0, (live * FI_REFLECTIONS - shared->parts * drawn) * sizeof(real));
        const uint64_t element = (uint64_t)number * shared->args->columns;
        if (shared->parts == 1) {
            shared->fill(&shared->plan[0], row, element, drawn);
            FI_REAL(haar_scatter)(shared, i, live, row);
            continue;
        }
        shared->fill(&shared->plan[0], numbers, element, drawn);
        shared->fill(&shared->plan[1], numbers + drawn, element, drawn);
        for (size_t c = 0; c < drawn; c++) row[2 * c] = numbers[c], row[2 * c + 1] = -numbers[drawn + c];
        FI_REAL(haar_scatter)(shared, i, live, row);
        for (size_t c = 0; c < drawn; c++) row[2 * c] = numbers[drawn + c], row[2 * c + 1] = numbers[c];
        FI_REAL(haar_scatter)(shared, i + 1, live, row);
    }
}

/* OUT, for the columns of one micropanel: v_0, tau and D, from |x|^2 in double precision. */
static void FI_REAL(haar_panel)(const fi_haar_shared *shared, real *v, size_t column, size_t p, double *tau) {
    const size_t height = shared->rows - column / FI_REFLECTIONS * FI_REFLECTIONS;
    double squares[FI_NR] = {0};
    for (size_t r = 0; r < height; r++) {
        if (r % FI_GRAM_CHUNK == 0 && fi_stopped(shared->watch)) return;
        for (size_t c = 0; c < FI_NR; c++) {
            const double x = v[r * FI_NR + c];
            squares[c] += x * x;
        }
    }
    /* D has the phases of the diagonal of R in x = QR: then the law of Q D is Haar's (Mezzadri 2007). tau is computed from v as
     * rounded, so that the reflection is orthogonal up to the rounding of tau. */
    for (size_t c = 0; c < FI_NR; c += shared->parts) {
        const size_t j = column + c;
        real *d = (real *)shared->d + j, *diagonal = &v[(p * FI_NR + c) * FI_NR + c];
        for (size_t part = 0; part < shared->parts; part++) tau[c + part] = 0;
        if (j >= shared->reflections) continue;
        const double x0 = diagonal[0], norm = sqrt(squares[c]);
        if (shared->parts == 1) {
            diagonal[0] = (real)(x0 < 0 ? x0 - norm : x0 + norm);
            d[0] = x0 < 0 ? 1 : -1;
            const double v0 = diagonal[0];
            tau[c] = 2 / (squares[c] - x0 * x0 + v0 * v0);
            continue;
        }
        const double y0 = diagonal[FI_NR], modulus = sqrt(x0 * x0 + y0 * y0); /* no normal is 0 */
        d[0] = (real)(-x0 / modulus);
        d[1] = (real)(-y0 / modulus);
        diagonal[0] = diagonal[FI_NR + 1] = (real)(x0 + x0 / modulus * norm);
        diagonal[FI_NR] = (real)(y0 + y0 / modulus * norm);
        diagonal[1] = -diagonal[FI_NR];
        const double v0 = diagonal[0], w0 = diagonal[FI_NR];
        tau[c] = tau[c + 1] = 2 / (squares[c] - (x0 * x0 + y0 * y0) + (v0 * v0 + w0 * w0));
    }
}

/* One tile of the Gram matrix or of V^T q, continued over rows in index order. */
FI_INLINE void FI_REAL(haar_gather)(real *sums, const real *left, size_t column, const real *right,
                                    size_t rows) {
    FI_REAL(tile) tile;
    for (int i = 0; i < FI_MR; i++)
        for (int u = 0; u < FI_VECTORS; u++)
            tile.v[i][u] = VR(load)(sums + (size_t)i * FI_NR + (size_t)u * FI_REAL_LANES);
    FI_REAL(tile_multiply)(&tile, left + column, 1, FI_NR, right, rows);
    for (int i = 0; i < FI_MR; i++)
        for (int u = 0; u < FI_VECTORS; u++)
            VR(store)(sums + (size_t)i * FI_NR + (size_t)u * FI_REAL_LANES, tile.v[i][u]);
}

static void FI_REAL(haar_reflect)(const fi_haar_shared *shared, unsigned worker, size_t block) {
    const size_t height = shared->rows - block * FI_REFLECTIONS, live = fi_haar_live(shared, block);
    real *v = (real *)shared->v + fi_haar_block(shared, block);
    double tau[FI_REFLECTIONS];
    for (size_t p = 0; p < FI_PANELS; p++)
        FI_REAL(haar_panel)(shared, v + p * height * FI_NR, block * FI_REFLECTIONS + p * FI_NR, p,
                            tau + p * FI_NR);

    FI_REAL(haar_block_scratch) *const scratch = shared->block_scratch[worker];
    real (*const gram)[FI_REFLECTIONS][FI_NR] = scratch->made.gram;
    memset(gram, 0, sizeof scratch->made.gram);
    for (size_t r = 0; r < height; r += FI_GRAM_CHUNK) {
        if (fi_stopped(shared->watch)) return;
        const size_t n = height - r < FI_GRAM_CHUNK ? height - r : FI_GRAM_CHUNK;
        for (size_t a = 0; a * FI_NR < live; a++)
            for (size_t b = a; b * FI_NR < live; b++)
                for (size_t i = 0; i < FI_NR; i += FI_MR)
                    FI_REAL(haar_gather)(gram[b][a * FI_NR + i], v + (a * height + r) * FI_NR, i,
                                         v + (b * height + r) * FI_NR, n);
    }

    /* T_jj = tau_j; T_ij = -tau_j sum_{i <= l < j} T_il (v_l . v_j). t holds T by columns, so that a whole column is
     * summed at once; below the diagonal T is 0. */
    double (*const t)[FI_REFLECTIONS] = scratch->made.t;
    memset(t, 0, sizeof scratch->made.t);
    for (size_t j = 0; j < live; j++) {
        double sums[FI_REFLECTIONS] = {0};
        for (size_t l = 0; l < j; l++) {
            const double dot = gram[j / FI_NR][l][j % FI_NR];
            for (size_t i = 0; i < FI_REFLECTIONS; i++) sums[i] += t[l][i] * dot;
        }
        for (size_t i = 0; i < j; i++) t[j][i] = -tau[j] * sums[i];
        t[j][j] = tau[j];
    }
    real *target = (real *)shared->t + block * FI_REFLECTIONS * FI_REFLECTIONS;
    memset(target, 0, FI_REFLECTIONS * FI_REFLECTIONS * sizeof(real));
    for (size_t j = 0; j < live; j++)
        for (size_t i = 0; i <= j; i++)
            target[(j / FI_NR * FI_REFLECTIONS + i) * FI_NR + j % FI_NR] = (real)t[j][i];
}

/* q -= V T (V^T q) for `panels` micropanels of columns, which lie `pitch` apart; q has the rows of the block. */
static void FI_REAL(haar_block)(const fi_haar_shared *shared, unsigned worker, size_t block, real *q, size_t pitch,
                                size_t panels) {
    const size_t height = shared->rows - block * FI_REFLECTIONS, live = fi_haar_live(shared, block);
    const real *v = (const real *)shared->v + fi_haar_block(shared, block);
    const real *t = (const real *)shared->t + block * FI_REFLECTIONS * FI_REFLECTIONS;
    FI_REAL(haar_block_scratch) *const scratch = shared->block_scratch[worker];
    real (*const x)[FI_REFLECTIONS * FI_NR] = scratch->applied.x;
    real (*const y)[FI_REFLECTIONS * FI_NR] = scratch->applied.y;
    const size_t work = panels * FI_CHUNK * (FI_REFLECTIONS / FI_MR); /* of a chunk */
    fi_patience patience = {shared->watch, 0};
    memset(x, 0, panels * sizeof *x);
    for (size_t r = 0; r < height; r += FI_CHUNK) {
        if (fi_patience_ends(&patience, work)) return;
        const size_t n = height - r < FI_CHUNK ? height - r : FI_CHUNK;
        for (size_t a = 0; a * FI_NR < live; a++)
            for (size_t p = 0; p < panels; p++)
                for (size_t i = 0; i < FI_NR; i += FI_MR)
                    FI_REAL(haar_gather)(x[p] + (a * FI_NR + i) * FI_NR,
                                         v + (a * height + r) * FI_NR, i,
                                         q + p * pitch + r * FI_NR, n);
    }
    for (size_t p = 0; p < panels; p++)
        for (size_t i = 0; i < live; i += FI_MR) {
            FI_REAL(tile) tile;
            FI_REAL(tile_product)(&tile, t, FI_REFLECTIONS, i, x[p], live);
            for (size_t k = 0; k < FI_MR; k++)
                for (size_t u = 0; u < FI_VECTORS; u++)
                    VR(store)(y[p] + (i + k) * FI_NR + u * FI_REAL_LANES, tile.v[k][u]);
        }
    for (size_t r = 0; r < height; r += FI_CHUNK) {
        if (fi_patience_ends(&patience, work)) return;
        for (size_t p = 0; p < panels; p++)
            for (size_t i = r; i < height && i < r + FI_CHUNK; i += FI_MR) {
                FI_REAL(tile) tile;
                FI_REAL(tile_product)(&tile, v, height, i, y[p], live);
                for (size_t k = 0; k < FI_MR; k++)
                    for (size_t u = 0; u < FI_VECTORS; u++) {
                        real *target = q + p * pitch + (i + k) * FI_NR + u * FI_REAL_LANES;
                        VR(store)(target, VR(sub)(VR(load)(target), tile.v[k][u]));
                    }
            }
    }
}

/* A micropanel of `width` finished columns to the output, from its column `from` on. `parts` is a constant where inlined. */
FI_INLINE void FI_REAL(haar_write)(const fi_haar_shared *shared, const real *q, size_t from, size_t width, const size_t parts) {
    const fi_haar_args *args = shared->args;
    const real gain = (real)args->gain;
    real *out = args->out;
    for (size_t r = 0; r < args->rows; r++) {
        if (r % FI_GRAM_CHUNK == 0 && fi_stopped(shared->watch)) return;
        for (size_t part = 0; part < parts; part++, q += FI_NR) {
            if (args->transposed)
                for (size_t c = 0; c < width; c++) out[((from + c) * args->rows + r) * parts + part] = gain * q[c];
            else
                for (size_t c = 0; c < width; c++) out[(r * args->count + from + c) * parts + part] = gain * q[c];
        }
    }
}

static void FI_REAL(haar_apply)(const fi_haar_shared *shared, unsigned worker, size_t group) {
    const fi_haar_args *args = shared->args;
    const size_t whole = shared->panels * FI_NR, from = group * whole;
    const size_t width = args->count - from < whole ? args->count - from : whole;
    const size_t panels = (width + FI_NR - 1) / FI_NR, pitch = shared->rows * FI_NR;
    real *q = shared->scratch[worker];
    for (size_t at = 0; at < panels * pitch; at += FI_CLEARED) {
        if (fi_stopped(shared->watch)) return;
        memset(q + at, 0, (panels * pitch - at < FI_CLEARED ? panels * pitch - at : FI_CLEARED) * sizeof(real));
    }
    for (size_t c = 0; c < width; c++)
        for (size_t part = 0; part < shared->parts; part++) {
            const size_t j = shared->parts * (args->first + from + c) + part;
            q[c / FI_NR * pitch + j * FI_NR + c % FI_NR] = ((const real *)shared->d)[j];
        }
    for (size_t k = (shared->parts * (args->first + from + width) - 1) / FI_REFLECTIONS + 1; k-- > 0;) {
        if (fi_stopped(shared->watch)) return;
        FI_REAL(haar_block)(shared, worker, k, q + k * FI_REFLECTIONS * FI_NR, pitch, panels);
    }

    for (size_t p = 0; p < panels; p++) {
        const size_t column = from + p * FI_NR;
        const size_t n = width - p * FI_NR < FI_NR ? width - p * FI_NR : FI_NR;
        if (shared->parts == 1) FI_REAL(haar_write)(shared, q + p * pitch, column, n, 1);
        else FI_REAL(haar_write)(shared, q + p * pitch, column, n, 2);
    }
}

static const fi_haar_kernels FI_REAL(haar_kernels) = {
    .nr = FI_NR,
    .block_scratch = sizeof(FI_REAL(haar_block_scratch)),
    .draw = FI_REAL(haar_draw),
    .reflect = FI_REAL(haar_reflect),
    .apply = FI_REAL(haar_apply),
};
#undef FI_PANELS
#undef FI_CHUNK
#undef FI_GRAM_CHUNK
#undef FI_CLEARED
