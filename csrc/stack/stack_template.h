/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The deep stack, layer after layer: z_l = a_l W_l + b_l, a_{l+1} = phi(z_l), or a_s + alpha phi(z_l) at the end of a residual
 * block that began at a_s; and back: d_l = (d_{l+1} W_{l+1}^T) phi'(z_l), the gradient with respect to z_l. A slice of the
 * batch goes through all layers and back, one packed micropanel of weights at a time; what follows a product is done on its
 * tile while that is in registers or the cache.
 *
 * Parameters: a real type; gemm_template.h, layer_template.h and statistics_template.h.
 */

/* ---- row-major memory to micropanels and back -------------------------------------------- */

/* The slice's rows of a row-major matrix (batch, width), to micropanels of `rows` rows each. Padding is zero. */
static void FI_REAL(to_micropanels)(real *panels, const real *source, size_t rows, size_t width,
                                    const FI_REAL(slice) * slice) {
    fi_patience patience = {slice->shared->watch, 0};
    for (size_t p = 0; p * FI_NR < width; p++) {
        const size_t n = width - p * FI_NR < FI_NR ? width - p * FI_NR : FI_NR;
        for (size_t r = slice->begin; r < slice->end; r++) {
            real *target = panels + (p * rows + r) * FI_NR;
            const size_t copied = r < slice->live ? n : 0;
            if (copied) memcpy(target, source + r * width + p * FI_NR, copied * sizeof(real));
            memset(target + copied, 0, (FI_NR - copied) * sizeof(real));
            if (fi_patience_ends(&patience, 1)) return;
        }
    }
}

static void FI_REAL(from_micropanels)(real *target, const real *panels, size_t rows, size_t width,
                                      const FI_REAL(slice) * slice) {
    fi_patience patience = {slice->shared->watch, 0};
    for (size_t p = 0; p * FI_NR < width; p++) {
        const size_t n = width - p * FI_NR < FI_NR ? width - p * FI_NR : FI_NR;
        for (size_t r = slice->begin; r < slice->live; r++) {
            memcpy(target + r * width + p * FI_NR, panels + (p * rows + r) * FI_NR, n * sizeof(real));
            if (fi_patience_ends(&patience, 1)) return;
        }
    }
}

/* How many samples the tile from row r on has. */
FI_INLINE size_t FI_REAL(samples)(const FI_REAL(slice) * slice, size_t r) {
    if (r >= slice->live) return 0;
    return slice->live - r < FI_MR ? slice->live - r : FI_MR;
}

/* ---- micropanels of weights: packed from memory, or drawn where they are not stored --------- */

/* OUT panels: FI_DRAWN columns of the layer's weights, from `column` on, as micropanels of (widths[layer], FI_NR). */
static void FI_REAL(draw_columns)(real *panels, const fi_stack_shared *shared, size_t layer, size_t column) {
    const size_t in = shared->args->widths[layer], out = shared->args->widths[layer + 1];
    const size_t width = out - column < FI_DRAWN ? out - column : FI_DRAWN;
    real row[FI_DRAWN] = {0};
    fi_patience patience = {shared->watch, 0};
    for (size_t k = 0; k < in; k++) {
        if (fi_patience_ends(&patience, FI_DRAWN / 16)) return;
        fi_stack_draw(shared, layer, k * out + column, width, row);
        for (size_t c = 0; c < width; c += FI_NR)
            memcpy(panels + c * in + k * FI_NR, row + c, FI_NR * sizeof(real));
    }
}

/* The micropanel W[:, column .. column + FI_NR - 1] of the layer's weights, for the product a W. Where weights are not stored,
 * all columns must be asked for in order, from 0 on: several micropanels are drawn at once. */
static const real *FI_REAL(weight_columns)(const FI_REAL(slice) * slice, size_t layer, size_t column) {
    const fi_stack_args *args = slice->shared->args;
    const size_t in = args->widths[layer], out = args->widths[layer + 1];
    real *panel = slice->shared->panel[slice->number];
    if (!args->weights) {
        real *drawn = slice->shared->drawn[slice->number];
        const size_t within = column % FI_DRAWN;
        if (within == 0) FI_REAL(draw_columns)(drawn, slice->shared, layer, column);
        return drawn + within * in;
    }
    FI_REAL(pack_columns)(panel, args->weights[layer], in, out, column);
    return panel;
}

/* The micropanel W^T[:, row .. row + FI_NR - 1] of the layer's weights, for the product d W^T. */
static const real *FI_REAL(weight_rows)(const FI_REAL(slice) * slice, size_t layer, size_t row) {
    const fi_stack_args *args = slice->shared->args;
    const size_t in = args->widths[layer], out = args->widths[layer + 1];
    real *panel = slice->shared->panel[slice->number];
    if (args->weights) {
        FI_REAL(pack_rows)(panel, args->weights[layer], in, out, row);
        return panel;
    }
    real *drawn = slice->shared->drawn[slice->number];
    const size_t height = in - row < FI_NR ? in - row : FI_NR;
    fi_stack_draw(slice->shared, layer, row * out, height * out, drawn);
    FI_REAL(pack_rows)(panel, drawn, height, out, 0);
    return panel;
}

/* Prefetches weights of the next micropanel, `height` rows of `width` numbers that lie `step` apart, while this one is
 * multiplied: before the tile of rows r .., this tile's share of them. */
FI_INLINE void FI_REAL(fetch_weights)(const FI_REAL(slice) * slice, size_t r, const real *weights, size_t height,
                                      size_t width, size_t step) {
    enum { LINE = 64 / sizeof(real) };
    const size_t lines = (width + LINE - 1) / LINE, all = height * lines, rows = slice->end - slice->begin;
    const size_t done = r - slice->begin;
    for (size_t n = all * done / rows; n < all * (done + FI_MR) / rows; n++)
        FI_PREFETCH(weights + n / lines * step + n % lines * LINE);
}

/* ---- forward ---------------------------------------------------------------------------- */

/* OUT sums: a W of few samples, in all whole micropanels. Weights are read once, a few rows after the others, as they lie in
 * memory. */
static void FI_REAL(products_of_few)(const FI_REAL(slice) * slice, size_t layer, real *sums) {
    const fi_stack_shared *shared = slice->shared;
    const size_t in = shared->args->widths[layer], out = shared->args->widths[layer + 1];
    const real *weights = shared->args->weights[layer], *left = shared->activations[layer];
    fi_patience patience = {shared->watch, 0};
    for (size_t k = 0; k < in; k += FI_NR, left += shared->rows * FI_NR) {
        if (fi_patience_ends(&patience, out)) return;
        const size_t count = in - k < FI_NR ? in - k : FI_NR;
        for (size_t p = 0; (p + 1) * FI_NR <= out; p++) {
            const real *right = weights + k * out + p * FI_NR;
            for (size_t r = slice->begin; r < slice->end; r += FI_MR) {
                real *sum = sums + (p * shared->rows + r) * FI_NR;
                FI_REAL(tile) tile;
                if (k == 0) FI_REAL(tile_clear)(&tile);
                else FI_REAL(tile_load)(&tile, sum);
                if (FI_REAL(samples)(slice, r) > 1)
                    FI_REAL(tile_multiply_sized)(&tile, left + r * FI_NR, FI_NR, 1, right, out, count,
                                                 FI_MR, FI_VECTORS);
                else
                    FI_REAL(tile_multiply_sized)(&tile, left + r * FI_NR, FI_NR, 1, right, out, count, 1,
                                                 FI_VECTORS);
                FI_REAL(tile_store)(sum, &tile);
            }
        }
    }
}

/* OUT a traced matrix of a layer, row-major: the columns of micropanel p of the `live` samples from r on. quantity: as in
 * stack.h. */
FI_NOINLINE void FI_REAL(trace_tile)(const fi_stack_args *args, int quantity, size_t layer, size_t r, size_t p, const real *tile,
                                size_t live) {
    const size_t width = args->widths[layer + 1], rest = width - p * FI_NR;
    real *target = args->trace[(size_t)quantity * args->depth + layer];
    for (size_t i = 0; target && i < live; i++)
        memcpy(target + (r + i) * width + p * FI_NR, tile + i * FI_NR, (rest < FI_NR ? rest : FI_NR) * sizeof(real));
}

/* What is kept of a tile of a layer's pre-activations z and of the values that it passes on. at: where it lies in matrices. */
FI_NOINLINE void FI_REAL(keep_tile)(const FI_REAL(slice) * slice, size_t layer, size_t r, size_t p, size_t at, const real *z,
                                    const real *values, size_t live) {
    const fi_stack_shared *shared = slice->shared;
    if (shared->pre_activations[layer])
        memcpy((real *)shared->pre_activations[layer] + at, z, FI_MR * FI_NR * sizeof *z);
    if (!shared->args->trace) return;
    FI_REAL(trace_tile)(shared->args, FI_PRE_ACTIVATION, layer, r, p, z, live);
    FI_REAL(trace_tile)(shared->args, FI_VALUE, layer, r, p, values, live);
}

static void FI_REAL(forward_layer)(const FI_REAL(slice) * slice, size_t layer) {
    fi_stack_shared *shared = slice->shared;
    const fi_stack_args *args = shared->args;
    const size_t in = args->widths[layer], out = args->widths[layer + 1];
    const int activation = args->activations[layer], ends_block = fi_ends_block(args, layer);
    const real parameter = (real)args->parameters[layer], *biases = args->biases[layer];
    const real *left = shared->activations[layer];
    if (slice->record) {
        FI_REAL(record_begin)(slice, 0);
        FI_REAL(record_begin)(slice, 1);
    }
    const int few = args->weights && slice->end - slice->begin <= FI_FEW_ROWS;
    fi_patience patience = {shared->watch, 0};
    if (few) FI_REAL(products_of_few)(slice, layer, shared->activations[layer + 1]);
    for (size_t p = 0; p * FI_NR < out; p++) {
        const size_t columns = out - p * FI_NR, vectors = FI_REAL(vectors_for)(columns);
        const int multiplied = few && columns >= FI_NR, fetched = columns > FI_NR && args->weights && !few;
        const real *right = multiplied ? NULL : FI_REAL(weight_columns)(slice, layer, p * FI_NR);
        real bias[FI_NR];
        for (size_t c = 0; c < FI_NR; c++)
            bias[c] = biases && c < columns ? biases[p * FI_NR + c] : 0;
        const size_t base = p * shared->rows * FI_NR;
        real *values = (real *)shared->activations[layer + 1] + base;
        real *const kept = shared->derivatives[layer] ? (real *)shared->derivatives[layer] + base : NULL;
        for (size_t r = slice->begin; r < slice->end; r += FI_MR) {
            if (fi_patience_ends(&patience, in + FI_EPILOGUE_WORK)) return;
            const size_t live = FI_REAL(samples)(slice, r), at = r * FI_NR;
            if (fetched)
                FI_REAL(fetch_weights)(slice, r, (const real *)args->weights[layer] + (p + 1) * FI_NR, in,
                                       FI_NR, out);
            FI_REAL(tile) tile;
            if (multiplied) FI_REAL(tile_load)(&tile, values + at);
            else FI_REAL(tile_product_within)(&tile, left, shared->rows, r, right, in, live, columns);
            real z[FI_MR * FI_NR], local[FI_MR * FI_NR];
            for (size_t i = 0; i < FI_MR; i++)
                for (size_t v = 0; v < FI_VECTORS; v++)
                    VR(store)(z + i * FI_NR + v * FI_REAL_LANES,
                              VR(add)(tile.v[i][v], VR(load)(bias + v * FI_REAL_LANES)));
            real *derivatives = kept ? kept + at : slice->record ? local : NULL;
            FI_REAL(activate_tile)[activation](z, values + at, derivatives, parameter, vectors);
            if (slice->record) FI_REAL(record_derivatives)(slice, layer, r, p, derivatives, values + at, live, columns);
            if (ends_block)
                FI_REAL(add_source)((const real *)shared->activations[args->residual_sources[layer]] + base + at,
                                    values + at, derivatives, (real)args->alpha);
            if (FI_UNLIKELY(slice->keep)) FI_REAL(keep_tile)(slice, layer, r, p, base + at, z, values + at, live);
            if (!slice->record) continue;
            FI_REAL(record_tile)(slice, 0, r, p, z, live, columns);
            FI_REAL(record_tile)(slice, 1, r, p, values + at, live, columns);
        }
    }
    if (slice->record) {
        FI_REAL(record_end)(slice, 0, layer, FI_PRE_ACTIVATION, out);
        FI_REAL(record_end)(slice, 1, layer, FI_VALUE, out);
    }
}

/* ---- backward --------------------------------------------------------------------------- */

/* OUT one tile of gradients[layer], of rows r .. and micropanel p. tile: the gradient with respect to the layer's values. */
static void FI_REAL(backward_tile)(const FI_REAL(slice) * slice, const FI_REAL(tile) * tile, size_t layer,
                                   size_t p, size_t r) {
    fi_stack_shared *shared = slice->shared;
    const fi_stack_args *args = shared->args;
    const size_t at = (p * shared->rows + r) * FI_NR, columns = args->widths[layer + 1] - p * FI_NR;
    real *target = (real *)shared->gradients[layer] + at;
    if (fi_ends_block(args, layer)) FI_REAL(tile_store)((real *)shared->residual_gradient + at, tile);
    const real *const derivatives = shared->derivatives[layer];
    const real *kept = derivatives ? derivatives : shared->activations[layer + 1];
    const int activation = derivatives ? FI_KEPT_ACTIVATION : args->activations[layer];
    FI_REAL(derive_tile)[activation](tile, kept + at, target, (real)args->parameters[layer],
                                     FI_REAL(vectors_for)(columns));
    const size_t live = FI_REAL(samples)(slice, r);
    if (FI_UNLIKELY(slice->keep) && args->trace) FI_REAL(trace_tile)(args, FI_GRADIENT, layer, r, p, target, live);
    if (slice->record) FI_REAL(record_tile)(slice, 0, r, p, target, live, columns);
}

/* OUT gradients[depth - 1], from dy, which already lies there in micropanels. */
static void FI_REAL(backward_output)(const FI_REAL(slice) * slice) {
    fi_stack_shared *shared = slice->shared;
    const size_t layer = shared->args->depth - 1, width = shared->args->widths[layer + 1];
    if (slice->record) FI_REAL(record_begin)(slice, 0);
    fi_patience patience = {shared->watch, 0};
    for (size_t p = 0; p * FI_NR < width; p++) {
        for (size_t r = slice->begin; r < slice->end; r += FI_MR) {
            if (fi_patience_ends(&patience, FI_EPILOGUE_WORK)) return;
            FI_REAL(tile) tile;
            FI_REAL(tile_load)(&tile, (const real *)shared->gradients[layer] + (p * shared->rows + r) * FI_NR);
            FI_REAL(backward_tile)(slice, &tile, layer, p, r);
        }
    }
    if (slice->record) FI_REAL(record_end)(slice, 0, layer, FI_GRADIENT, width);
}

/* OUT gradients[layer - 1], from gradients[layer]; for layer 0 OUT input, the input's gradient, in micropanels. */
static void FI_REAL(backward_layer)(const FI_REAL(slice) * slice, size_t layer, real *input) {
    fi_stack_shared *shared = slice->shared;
    const size_t in = shared->args->widths[layer], out = shared->args->widths[layer + 1];
    const real *left = shared->gradients[layer];
    fi_patience patience = {shared->watch, 0};
    if (slice->record) FI_REAL(record_begin)(slice, 0);
    for (size_t p = 0; p * FI_NR < in; p++) {
        const size_t columns = in - p * FI_NR;
        const int fetched = columns > FI_NR && shared->args->weights;
        const real *right = FI_REAL(weight_rows)(slice, layer, p * FI_NR);
        for (size_t r = slice->begin; r < slice->end; r += FI_MR) {
            if (fi_patience_ends(&patience, out + FI_EPILOGUE_WORK)) return;
            FI_REAL(tile) tile;
            const size_t at = (p * shared->rows + r) * FI_NR;
            if (fetched) {
                const size_t rows = columns - FI_NR < FI_NR ? columns - FI_NR : FI_NR;
                FI_REAL(fetch_weights)(slice, r, (const real *)shared->args->weights[layer] + (p + 1) * FI_NR * out,
                                       rows, out, out);
            }
            FI_REAL(tile_product_within)(&tile, left, shared->rows, r, right, out, FI_REAL(samples)(slice, r), columns);
            if (shared->is_source[layer]) FI_REAL(tile_add)(&tile, (const real *)shared->residual_gradient + at);
            if (layer > 0) FI_REAL(backward_tile)(slice, &tile, layer - 1, p, r);
            else FI_REAL(tile_store)(input + at, &tile);
        }
    }
    if (layer > 0 && slice->record) FI_REAL(record_end)(slice, 0, layer - 1, FI_GRADIENT, in);
}

/* The tile of rows i .. and micropanel p of a layer's weight gradient, summed over the whole batch: its squares are added, and
 * it is stored, where that is wanted. scale: for the squares, see norm_template.h. */
FI_INLINE void FI_REAL(weight_gradient_tile)(const fi_stack_shared *shared, size_t layer, size_t p, size_t i,
                                             const double scale[2]) {
    const fi_stack_args *args = shared->args;
    const size_t in = args->widths[layer], out = args->widths[layer + 1], column = p * FI_NR;
    const size_t width = out - column < FI_NR ? out - column : FI_NR;
    const size_t height = in - i < FI_MR ? in - i : FI_MR;
    const real *left = (const real *)shared->activations[layer] + i / FI_NR * shared->rows * FI_NR;
    const real *right = (const real *)shared->gradients[layer] + p * shared->rows * FI_NR;
    FI_REAL(tile) tile;
    FI_REAL(tile_product_transposed)(&tile, left, i % FI_NR, right, args->batch, height, width);
    if (args->norms)
        FI_REAL(add_squares)(shared->squares[layer] + column, &tile, height, FI_REAL(vectors_for)(width), scale);
    if (!args->weight_gradients) return;
    real *target = (real *)args->weight_gradients[layer] + i * out + column;
    for (size_t m = 0; m < height; m++, target += out) {
        if (width == FI_NR) {
            for (int v = 0; v < FI_VECTORS; v++) VR(store)(target + v * FI_REAL_LANES, tile.v[m][v]);
        } else {
            real row[FI_NR];
            for (int v = 0; v < FI_VECTORS; v++) VR(store)(row + v * FI_REAL_LANES, tile.v[m][v]);
            memcpy(target, row, width * sizeof(real));
        }
    }
}

static void FI_REAL(bias_gradient)(const fi_stack_shared *shared, size_t layer, size_t p) {
    const fi_stack_args *args = shared->args;
    const size_t column = p * FI_NR, rest = args->widths[layer + 1] - column;
    const real *gradients = (const real *)shared->gradients[layer] + p * shared->rows * FI_NR;
    real sums[FI_NR];
    vr sum[FI_VECTORS];
    for (int v = 0; v < FI_VECTORS; v++) sum[v] = VR(set1)(0);
    for (size_t r = 0; r < args->batch; r++)
        for (int v = 0; v < FI_VECTORS; v++)
            sum[v] = VR(add)(sum[v], VR(load)(gradients + r * FI_NR + (size_t)v * FI_REAL_LANES));
    for (int v = 0; v < FI_VECTORS; v++) VR(store)(sums + v * FI_REAL_LANES, sum[v]);
    memcpy((real *)args->bias_gradients[layer] + column, sums, (rest < FI_NR ? rest : FI_NR) * sizeof(real));
}

/* Micropanels first .. last-1 of a layer's weight and bias gradients. */
static void FI_REAL(stack_weight_gradient)(fi_stack_shared *shared, size_t layer, size_t first, size_t last) {
    const fi_stack_args *args = shared->args;
    const size_t in = args->widths[layer];
    double scale[2] = {1, 1};
    if (args->norms) {
        memset(shared->squares[layer] + first * FI_NR, 0, (last - first) * FI_NR * sizeof(double));
        int exponents[2];
        fi_stack_exponents(shared, layer, FI_REAL(exponents), exponents);
        const int both = exponents[0] + exponents[1];
        scale[0] = fi_power_of_two(-both / 2);
        scale[1] = fi_power_of_two(-(both - both / 2));
    }
    fi_patience patience = {shared->watch, 0};
    if (args->batch <= FI_FEW_ROWS) { /* writing takes the time: in the order of memory */
        for (size_t i = 0; i < in; i += FI_MR) {
            if (fi_patience_ends(&patience, (last - first) * (args->batch + FI_EPILOGUE_WORK))) return;
            for (size_t p = first; p < last; p++) FI_REAL(weight_gradient_tile)(shared, layer, p, i, scale);
        }
    } else { /* each micropanel stays in the cache while it is read again and again */
        for (size_t p = first; p < last; p++)
            for (size_t i = 0; i < in; i += FI_MR) {
                if (fi_patience_ends(&patience, args->batch + FI_EPILOGUE_WORK)) return;
                FI_REAL(weight_gradient_tile)(shared, layer, p, i, scale);
            }
    }
    for (size_t p = first; p < last && args->weight_gradients; p++) FI_REAL(bias_gradient)(shared, layer, p);
}

/* ---- entries of the table of kernels ---------------------------------------------------------------------------- */

static FI_REAL(slice) FI_REAL(slice_of)(fi_stack_shared *shared, unsigned number, size_t begin, size_t end, int record) {
    const size_t batch = shared->args->batch;
    const int keep = shared->args->trace || shared->args->pre_activation_cosines;
    return (FI_REAL(slice)){shared, number, begin, end, end < batch ? end : batch, record,
                            record ? shared->record_of[number] : NULL, keep};
}

static void FI_REAL(begin_forward)(const FI_REAL(slice) * slice) {
    fi_stack_shared *shared = slice->shared;
    const fi_stack_args *args = shared->args;
    FI_REAL(to_micropanels)(shared->activations[0], args->x, shared->rows, args->widths[0], slice);
    if (args->norms)
        shared->largest_input[slice->number] = FI_REAL(largest)(
            (const real *)args->x + slice->begin * args->widths[0], (slice->live - slice->begin) * args->widths[0]);
}

static void FI_REAL(stack_forward)(fi_stack_shared *shared, unsigned number, size_t begin, size_t end, size_t first,
                                   size_t last, int again) {
    const fi_stack_args *args = shared->args;
    const FI_REAL(slice) slice = FI_REAL(slice_of)(shared, number, begin, end, shared->record && !again);
    if (first == 0 && !again)
        FI_REAL(begin_forward)(&slice);
    for (size_t layer = first; layer < last; layer++) {
        if (fi_stopped(shared->watch)) return;
        FI_REAL(forward_layer)(&slice, layer);
    }
    if (args->y && last == args->depth && !again)
        FI_REAL(from_micropanels)(args->y, shared->activations[last], shared->rows, args->widths[last], &slice);
}

/* After layer 0 also the input's gradient, where it is wanted. */
static void FI_REAL(stack_backward)(fi_stack_shared *shared, unsigned number, size_t begin, size_t end, size_t first,
                                    size_t last) {
    const fi_stack_args *args = shared->args;
    const FI_REAL(slice) slice = FI_REAL(slice_of)(shared, number, begin, end, shared->record);
    if (last == args->depth) {
        FI_REAL(to_micropanels)(shared->gradients[last - 1], args->dy, shared->rows, args->widths[last], &slice);
        FI_REAL(backward_output)(&slice);
        last--;
    }
    for (size_t layer = last;; layer--) {
        if (fi_stopped(shared->watch)) return;
        if (shared->fused) /* while the layer's gradient and its input are in the cache */
            FI_REAL(stack_weight_gradient)(shared, layer, 0, shared->first_panel[layer + 1] - shared->first_panel[layer]);
        else fi_ticket(&shared->arrived[layer]);
        if (layer == first) break;
        FI_REAL(backward_layer)(&slice, layer, NULL);
    }
    if (first > 0 || !args->dx || fi_stopped(shared->watch)) return;
    FI_REAL(backward_layer)(&slice, 0, shared->gradients[args->depth]);
    FI_REAL(from_micropanels)(args->dx, shared->gradients[args->depth], shared->rows, args->widths[0], &slice);
}

static const fi_stack_kernels FI_REAL(stack_kernels) = {
    .nr = FI_NR,
    .record_size = sizeof(FI_REAL(record)),
    .row_record_size = 2 * sizeof(FI_REAL(row_moments)),
    .forward = FI_REAL(stack_forward),
    .backward = FI_REAL(stack_backward),
    .weight_gradient = FI_REAL(stack_weight_gradient),
    .gram = FI_REAL(stack_gram),
    .cosines = FI_REAL(stack_cosines),
    .dead = FI_REAL(stack_dead),
    .activate = FI_REAL(stack_activate),
    .fma_loop = FI_REAL(fma_loop),
};
