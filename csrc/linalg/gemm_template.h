/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The microkernel of the matrix product, in the terms of BLIS (Van Zee & van de Geijn, 2015): one tile of MR x NR results in
 * registers. Each result has one accumulator, which starts at 0 and takes its terms in index order by fma, so that nothing
 * about blocking, lanes or threads shows in a bit.
 *
 * Matrices lie in micropanels (panels for short): NR neighbouring columns of all rows, row after row, so that element
 * (r, c) of a matrix of `rows` rows is panel[(c / NR * rows + r) * NR + c % NR]. That is what a tile wants as right-hand side
 * (rows are the summation index) and, read by broadcast, as left-hand side too, plain or transposed: unlike BLIS, which packs
 * the left-hand side in micropanels of MR rows, activations are never packed again.
 *
 * Parameters: a real type, its vocabulary, FI_VECTORS (vectors in a row of a tile), FI_MR (a divisor of FI_NR and of 8).
 */
#undef FI_NR
#define FI_NR (FI_VECTORS * FI_REAL_LANES)

typedef struct {
    vr v[FI_MR][FI_VECTORS];
} FI_REAL(tile);

/* How many vectors the first `columns` columns of a tile take. */
FI_INLINE size_t FI_REAL(vectors_for)(size_t columns) {
    return columns < FI_NR ? (columns + FI_REAL_LANES - 1) / FI_REAL_LANES : FI_VECTORS;
}

/* For i < rows, v < vectors: tile[i][v] += sum over k < count of left[i * row_step + k * sum_step] * right[k * right_step + v],
 * v counting vectors. `rows` and `vectors` are constants where this is inlined, so that a tile at the edge of a matrix costs
 * no more than what it has. */
FI_INLINE void FI_REAL(tile_multiply_sized)(FI_REAL(tile) * tile, const real *FI_RESTRICT left,
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

/* The same for a whole tile and a micropanel at the right. */
FI_INLINE void FI_REAL(tile_multiply)(FI_REAL(tile) * tile, const real *FI_RESTRICT left, size_t row_step,
                                      size_t sum_step, const real *FI_RESTRICT right, size_t count) {
    FI_REAL(tile_multiply_sized)(tile, left, row_step, sum_step, right, FI_NR, count, FI_MR,
                                 FI_VECTORS);
}

/* The same from 0, for row `row` .. of a left matrix of `rows` rows in micropanels. */
FI_INLINE void FI_REAL(tile_product_sized)(FI_REAL(tile) * tile, const real *left, size_t rows,
                                           size_t row, const real *right, size_t count,
                                           const int tile_rows, const int vectors) {
    FI_REAL(tile) sum; /* a local: registers, where the pointer's target would be memory */
    for (int i = 0; i < tile_rows; i++)
        for (int v = 0; v < vectors; v++) sum.v[i][v] = VR(set1)(0);
    const real *a = left + row * FI_NR;
    for (; count > FI_NR; count -= FI_NR) {
        FI_REAL(tile_multiply_sized)(&sum, a, FI_NR, 1, right, FI_NR, FI_NR, tile_rows, vectors);
        a += rows * FI_NR;
        right += FI_NR * FI_NR;
    }
    FI_REAL(tile_multiply_sized)(&sum, a, FI_NR, 1, right, FI_NR, count, tile_rows, vectors);
    for (int i = 0; i < tile_rows; i++)
        for (int v = 0; v < vectors; v++) tile->v[i][v] = sum.v[i][v];
}

/* OUT tile: rows row .. of left (rows, count), in micropanels, times right, one micropanel (count, FI_NR). */
FI_INLINE void FI_REAL(tile_product)(FI_REAL(tile) * tile, const real *left, size_t rows, size_t row,
                                     const real *right, size_t count) {
    FI_REAL(tile_product_sized)(tile, left, rows, row, right, count, FI_MR, FI_VECTORS);
}

FI_INLINE void FI_REAL(tile_clear)(FI_REAL(tile) * tile) {
    for (int i = 0; i < FI_MR; i++)
        for (int v = 0; v < FI_VECTORS; v++) tile->v[i][v] = VR(set1)(0);
}

FI_INLINE void FI_REAL(tile_load)(FI_REAL(tile) * tile, const real *source) {
    for (int i = 0; i < FI_MR; i++)
        for (int v = 0; v < FI_VECTORS; v++)
            tile->v[i][v] = VR(load)(source + i * FI_NR + v * FI_REAL_LANES);
}

FI_INLINE void FI_REAL(tile_store)(real *target, const FI_REAL(tile) * tile) {
    for (int i = 0; i < FI_MR; i++)
        for (int v = 0; v < FI_VECTORS; v++)
            VR(store)(target + i * FI_NR + v * FI_REAL_LANES, tile->v[i][v]);
}

FI_INLINE void FI_REAL(tile_add)(FI_REAL(tile) * tile, const real *source) {
    for (int i = 0; i < FI_MR; i++)
        for (int v = 0; v < FI_VECTORS; v++)
            tile->v[i][v] =
                VR(add)(tile->v[i][v], VR(load)(source + i * FI_NR + v * FI_REAL_LANES));
}

/* tile_product where only the first `live` rows and `width` columns are wanted: the others hold anything. */
FI_INLINE void FI_REAL(tile_product_within)(FI_REAL(tile) * tile, const real *left, size_t rows, size_t row,
                                            const real *right, size_t count, size_t live, size_t width) {
    if (FI_LIKELY(live > 1 && width > FI_REAL_LANES)) {
        FI_REAL(tile_product_sized)(tile, left, rows, row, right, count, FI_MR, FI_VECTORS);
        return;
    }
    FI_REAL(tile_clear)(tile);
    if (live > 1)
        FI_REAL(tile_product_sized)(tile, left, rows, row, right, count, FI_MR, 1);
    else if (width > FI_REAL_LANES)
        FI_REAL(tile_product_sized)(tile, left, rows, row, right, count, 1, FI_VECTORS);
    else
        FI_REAL(tile_product_sized)(tile, left, rows, row, right, count, 1, 1);
}

/* OUT tile: left^T right, of left's columns column .. (a multiple of FI_MR), summed over `count` rows. left and right are one
 * micropanel each; only the first `height` rows and `width` columns of the tile are wanted. */
FI_INLINE void FI_REAL(tile_product_transposed)(FI_REAL(tile) * tile, const real *left, size_t column,
                                                const real *right, size_t count, size_t height, size_t width) {
    FI_REAL(tile) sum;
    FI_REAL(tile_clear)(&sum);
    left += column;
    if (FI_LIKELY(height > 1 && width > FI_REAL_LANES))
        FI_REAL(tile_multiply)(&sum, left, 1, FI_NR, right, count);
    else if (height > 1)
        FI_REAL(tile_multiply_sized)(&sum, left, 1, FI_NR, right, FI_NR, count, FI_MR, 1);
    else
        FI_REAL(tile_multiply_sized)(&sum, left, 1, FI_NR, right, FI_NR, count, 1, FI_VECTORS);
    *tile = sum;
}

/* OUT panel[k][c] = w[k][column + c], anything beyond the last column. w: (rows, columns), row-major. */
FI_NOINLINE void FI_REAL(pack_columns)(real *FI_RESTRICT panel, const real *FI_RESTRICT w, size_t rows,
                                       size_t columns, size_t column) {
    const size_t width = columns - column, vectors = FI_REAL(vectors_for)(width);
    for (size_t k = 0; k < rows; k++) {
        const real *source = w + k * columns + column;
        real *target = panel + k * FI_NR;
        if (width >= FI_NR) {
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

/* OUT panel[k][c] = w[row + c][k], a micropanel of the transpose. Beyond the last row it holds 0 to the end of a vector. */
FI_NOINLINE void FI_REAL(pack_rows)(real *FI_RESTRICT panel, const real *FI_RESTRICT w, size_t rows,
                                    size_t columns, size_t row) {
    const size_t height = rows - row < FI_NR ? rows - row : FI_NR;
    const real *source = w + row * columns;
    for (size_t c = 0; c < height; c += FI_REAL_LANES) {
        const size_t end = height - c < FI_REAL_LANES ? height : c + FI_REAL_LANES;
        size_t first = 0;
        if (end - c == FI_REAL_LANES)
            for (; first + 4 <= columns; first += 4)
                VR(transpose_four)(panel + first * FI_NR + c, FI_NR, source + c * columns + first, columns);
        else
            for (size_t k = 0; k < columns; k++) VR(store)(panel + k * FI_NR + c, VR(set1)(0));
        for (size_t i = c; i < end; i++)
            for (size_t k = first; k < columns; k++) panel[k * FI_NR + i] = source[i * columns + k];
    }
}

/* Multiply-adds on registers alone, as many independent ones as a tile has: the peak rate. Returns a round's operations. */
static double FI_REAL(fma_loop)(uint64_t rounds) {
    FI_REAL(tile) tile;
    for (int i = 0; i < FI_MR; i++)
        for (int v = 0; v < FI_VECTORS; v++) tile.v[i][v] = VR(set1)((real)(i + v));
    const vr a = VR(set1)((real)0.5), b = VR(set1)((real)rounds);
    for (uint64_t n = 0; n < rounds; n++)
        for (int i = 0; i < FI_MR; i++)
            for (int v = 0; v < FI_VECTORS; v++) tile.v[i][v] = VR(fma)(tile.v[i][v], a, b);
    volatile real sink[FI_REAL_LANES];
    real lanes[FI_REAL_LANES];
    for (int i = 0; i < FI_MR; i++)
        for (int v = 0; v < FI_VECTORS; v++) {
            VR(store)(lanes, tile.v[i][v]);
            sink[0] = lanes[0];
        }
    (void)sink;
    return 2.0 * FI_MR * FI_NR;
}
