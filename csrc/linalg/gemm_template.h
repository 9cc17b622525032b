/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The matrix product's inner part: one tile of FI_ROWS x FI_COLUMNS results in registers, each with one
 * accumulator that starts at 0 and takes its terms in index order by fma. Nothing about blocking, lanes or threads
 * can therefore show in a result.
 *
 * Matrices of the stack lie in column panels: FI_COLUMNS neighbouring columns of all rows, row after
 * row. Such a panel is what the tile wants as right-hand side (rows are the summation index) and, read by
 * broadcast, as left-hand side too, plain or transposed: activations are never repacked.
 *
 * Parameters: a real type, its vocabulary, FI_VECTORS (vectors a row), FI_ROWS (dividing the columns and 8).
 */
#undef FI_COLUMNS
#define FI_COLUMNS (FI_VECTORS * FI_REAL_LANES)

typedef struct {
    vr v[FI_ROWS][FI_VECTORS];
} FI_REAL(tile);

/* How many of a tile's vectors hold one of its first `columns` columns. */
FI_INLINE size_t FI_REAL(vectors_for)(size_t columns) {
    return columns < FI_COLUMNS ? (columns + FI_REAL_LANES - 1) / FI_REAL_LANES : FI_VECTORS;
}

/* For i < rows, v < vectors: tile[i][v] += sum over k < count of left[i * row_step + k * sum_step] * right[k][v].
 * `rows` and `vectors` are constants where this is inlined: a narrow or shallow rest costs what it is worth. */
FI_INLINE void FI_REAL(tile_multiply_part)(FI_REAL(tile) * tile, const real *FI_RESTRICT left,
                                           size_t row_step, size_t sum_step, const real *FI_RESTRICT right,
                                           size_t right_step, size_t count, const int rows,
                                           const int vectors) {
    FI_UNROLL_FOUR
    for (size_t k = 0; k < count; k++) {
        vr b[FI_VECTORS];
        for (int v = 0; v < vectors; v++) b[v] = VR(load)(right + v * FI_REAL_LANES);
        for (int i = 0; i < rows; i++) {
            const vr a = VR(set1)(left[(size_t)i * row_step]);
            for (int v = 0; v < vectors; v++) tile->v[i][v] = VR(fma)(a, b[v], tile->v[i][v]);
        }
        left += sum_step;
        right += right_step;
    }
}

/* The same with a whole tile and a packed panel at the right. */
FI_INLINE void FI_REAL(tile_multiply)(FI_REAL(tile) * tile, const real *FI_RESTRICT left, size_t row_step,
                                      size_t sum_step, const real *FI_RESTRICT right, size_t count) {
    FI_REAL(tile_multiply_part)(tile, left, row_step, sum_step, right, FI_COLUMNS, count, FI_ROWS,
                                FI_VECTORS);
}

FI_INLINE void FI_REAL(tile_product_part)(FI_REAL(tile) * tile, const real *left, size_t rows,
                                          size_t row, const real *right, size_t count,
                                          const int tile_rows, const int vectors) {
    FI_REAL(tile) sum; /* a local: registers, where the pointer's target would be memory */
    for (int i = 0; i < tile_rows; i++)
        for (int v = 0; v < vectors; v++) sum.v[i][v] = VR(set1)(0);
    const real *a = left + row * FI_COLUMNS;
    for (; count > FI_COLUMNS; count -= FI_COLUMNS) {
        FI_REAL(tile_multiply_part)(&sum, a, FI_COLUMNS, 1, right, FI_COLUMNS, FI_COLUMNS, tile_rows, vectors);
        a += rows * FI_COLUMNS;
        right += FI_COLUMNS * FI_COLUMNS;
    }
    FI_REAL(tile_multiply_part)(&sum, a, FI_COLUMNS, 1, right, FI_COLUMNS, count, tile_rows, vectors);
    for (int i = 0; i < tile_rows; i++)
        for (int v = 0; v < vectors; v++) tile->v[i][v] = sum.v[i][v];
}

/* A tile of (left panels, rows from `row` on) x (packed right panel): the sum runs through the panels.
 * left: ceil(count / FI_COLUMNS) panels of `rows` rows each. */
FI_INLINE void FI_REAL(tile_product)(FI_REAL(tile) * tile, const real *left, size_t rows, size_t row,
                                     const real *right, size_t count) {
    FI_REAL(tile_product_part)(tile, left, rows, row, right, count, FI_ROWS, FI_VECTORS);
}

FI_INLINE void FI_REAL(tile_clear)(FI_REAL(tile) * tile) {
    for (int i = 0; i < FI_ROWS; i++)
        for (int v = 0; v < FI_VECTORS; v++) tile->v[i][v] = VR(set1)(0);
}

FI_INLINE void FI_REAL(tile_load)(FI_REAL(tile) * tile, const real *source) {
    for (int i = 0; i < FI_ROWS; i++)
        for (int v = 0; v < FI_VECTORS; v++)
            tile->v[i][v] = VR(load)(source + i * FI_COLUMNS + v * FI_REAL_LANES);
}

FI_INLINE void FI_REAL(tile_store)(real *target, const FI_REAL(tile) * tile) {
    for (int i = 0; i < FI_ROWS; i++)
        for (int v = 0; v < FI_VECTORS; v++)
            VR(store)(target + i * FI_COLUMNS + v * FI_REAL_LANES, tile->v[i][v]);
}

FI_INLINE void FI_REAL(tile_add)(FI_REAL(tile) * tile, const real *source) {
    for (int i = 0; i < FI_ROWS; i++)
        for (int v = 0; v < FI_VECTORS; v++)
            tile->v[i][v] =
                VR(add)(tile->v[i][v], VR(load)(source + i * FI_COLUMNS + v * FI_REAL_LANES));
}

/* tile_product of which `width` columns and `live` rows are wanted: what is not is anything. */
FI_INLINE void FI_REAL(tile_product_within)(FI_REAL(tile) * tile, const real *left, size_t rows, size_t row,
                                            const real *right, size_t count, size_t live, size_t width) {
    if (FI_LIKELY(live > 1 && width > FI_REAL_LANES)) {
        FI_REAL(tile_product_part)(tile, left, rows, row, right, count, FI_ROWS, FI_VECTORS);
        return;
    }
    FI_REAL(tile_clear)(tile);
    if (live > 1)
        FI_REAL(tile_product_part)(tile, left, rows, row, right, count, FI_ROWS, 1);
    else if (width > FI_REAL_LANES)
        FI_REAL(tile_product_part)(tile, left, rows, row, right, count, 1, FI_VECTORS);
    else
        FI_REAL(tile_product_part)(tile, left, rows, row, right, count, 1, 1);
}

/* A tile of left^T x right, left's columns from `column` on (a multiple of FI_ROWS), summed over `count` rows:
 * left and right are single panels, and `height` columns of the left one and `width` of the right one are wanted. */
FI_INLINE void FI_REAL(tile_product_transposed)(FI_REAL(tile) * tile, const real *left, size_t column,
                                                const real *right, size_t count, size_t height, size_t width) {
    FI_REAL(tile) sum;
    FI_REAL(tile_clear)(&sum);
    left += column;
    if (FI_LIKELY(height > 1 && width > FI_REAL_LANES))
        FI_REAL(tile_multiply)(&sum, left, 1, FI_COLUMNS, right, count);
    else if (height > 1)
        FI_REAL(tile_multiply_part)(&sum, left, 1, FI_COLUMNS, right, FI_COLUMNS, count, FI_ROWS, 1);
    else
        FI_REAL(tile_multiply_part)(&sum, left, 1, FI_COLUMNS, right, FI_COLUMNS, count, 1, FI_VECTORS);
    *tile = sum;
}

/* OUT panel[k][c] = w[k][column + c], anything beyond the last column; w is (rows, columns) row-major. */
FI_NOINLINE void FI_REAL(pack_columns)(real *FI_RESTRICT panel, const real *FI_RESTRICT w, size_t rows,
                                       size_t columns, size_t column) {
    const size_t width = columns - column, vectors = FI_REAL(vectors_for)(width);
    for (size_t k = 0; k < rows; k++) {
        const real *source = w + k * columns + column;
        real *target = panel + k * FI_COLUMNS;
        if (width >= FI_COLUMNS) {
            for (int v = 0; v < FI_VECTORS; v++)
                VR(store)(target + v * FI_REAL_LANES, VR(load)(source + v * FI_REAL_LANES));
        } else if ((rows - k) * columns - column >= vectors * FI_REAL_LANES) { /* goes on into the next rows */
            for (size_t v = 0; v < vectors; v++)
                VR(store)(target + v * FI_REAL_LANES, VR(load)(source + v * FI_REAL_LANES));
        } else {
            for (size_t c = 0; c < vectors * FI_REAL_LANES; c++) target[c] = c < width ? source[c] : 0;
        }
    }
}

/* OUT panel[k][c] = w[row + c][k], zero beyond the last row in its vector: a column panel of the transpose. */
FI_NOINLINE void FI_REAL(pack_rows)(real *FI_RESTRICT panel, const real *FI_RESTRICT w, size_t rows,
                                    size_t columns, size_t row) {
    const size_t height = rows - row < FI_COLUMNS ? rows - row : FI_COLUMNS;
    const real *source = w + row * columns;
    for (size_t c = 0; c < height; c += FI_REAL_LANES) {
        const size_t end = height - c < FI_REAL_LANES ? height : c + FI_REAL_LANES;
        size_t first = 0;
        if (end - c == FI_REAL_LANES)
            for (; first + 4 <= columns; first += 4)
                VR(transpose_four)(panel + first * FI_COLUMNS + c, FI_COLUMNS, source + c * columns + first, columns);
        else
            for (size_t k = 0; k < columns; k++) VR(store)(panel + k * FI_COLUMNS + c, VR(set1)(0));
        for (size_t i = c; i < end; i++)
            for (size_t k = first; k < columns; k++) panel[k * FI_COLUMNS + i] = source[i * columns + k];
    }
}

/* Multiply-adds at the rate that registers alone allow, as many at once as a tile has. */
static double FI_REAL(fma_loop)(uint64_t rounds) {
    FI_REAL(tile) tile;
    for (int i = 0; i < FI_ROWS; i++)
        for (int v = 0; v < FI_VECTORS; v++) tile.v[i][v] = VR(set1)((real)(i + v));
    const vr a = VR(set1)((real)0.5), b = VR(set1)((real)rounds);
    for (uint64_t n = 0; n < rounds; n++)
        for (int i = 0; i < FI_ROWS; i++)
            for (int v = 0; v < FI_VECTORS; v++) tile.v[i][v] = VR(fma)(tile.v[i][v], a, b);
    volatile real sink[FI_REAL_LANES];
    real lanes[FI_REAL_LANES];
    for (int i = 0; i < FI_ROWS; i++)
        for (int v = 0; v < FI_VECTORS; v++) {
            VR(store)(lanes, tile.v[i][v]);
            sink[0] = lanes[0];
        }
    (void)sink;
    return 2.0 * FI_ROWS * FI_COLUMNS;
}
