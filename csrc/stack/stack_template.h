/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The deep stack: z = a W + b, a' = phi(z), layer after layer, and back: d = (d' W'^T) phi'(a). A layer at the end of a
 * residual block has a' = a_block + alpha phi(z). A part of the batch goes through all layers and back again, one
 * packed panel of weights at a time; what follows a product is done on the tile while it is near.
 *
 * Parameters: a real type; gemm_template.h, layer_template.h and statistics_template.h.
 */

/* ---- row-major memory to panels and back ------------------------------------------------ */

static void FI_REAL(to_panels)(real *panels, const real *source, size_t rows, size_t width,
                               const FI_REAL(rows) * part) {
    fi_patience patience = {part->job->watch, 0};
    for (size_t p = 0; p * FI_COLUMNS < width; p++) {
        const size_t n = width - p * FI_COLUMNS < FI_COLUMNS ? width - p * FI_COLUMNS : FI_COLUMNS;
        for (size_t r = part->begin; r < part->end; r++) {
            real *target = panels + (p * rows + r) * FI_COLUMNS;
            const size_t copied = r < part->live ? n : 0;
            if (copied) memcpy(target, source + r * width + p * FI_COLUMNS, copied * sizeof(real));
            memset(target + copied, 0, (FI_COLUMNS - copied) * sizeof(real));
            if (fi_patience_ends(&patience, 1)) return;
        }
    }
}

static void FI_REAL(from_panels)(real *target, const real *panels, size_t rows, size_t width,
                                 const FI_REAL(rows) * part) {
    fi_patience patience = {part->job->watch, 0};
    for (size_t p = 0; p * FI_COLUMNS < width; p++) {
        const size_t n = width - p * FI_COLUMNS < FI_COLUMNS ? width - p * FI_COLUMNS : FI_COLUMNS;
        for (size_t r = part->begin; r < part->live; r++) {
            memcpy(target + r * width + p * FI_COLUMNS, panels + (p * rows + r) * FI_COLUMNS,
                   n * sizeof(real));
            if (fi_patience_ends(&patience, 1)) return;
        }
    }
}

/* Samples in the tile from row r on. */
FI_INLINE size_t FI_REAL(samples)(const FI_REAL(rows) * part, size_t r) {
    if (r >= part->live) return 0;
    return part->live - r < FI_ROWS ? part->live - r : FI_ROWS;
}

/* ---- panels of weights: packed from memory, or drawn where they are not stored ------------ */

/* FI_DRAWN columns of layer's weights, from column on, as panels. */
static void FI_REAL(draw_columns)(real *panels, const fi_stack_job *job, size_t layer, size_t column) {
    const size_t in = job->run->widths[layer], out = job->run->widths[layer + 1];
    const size_t width = out - column < FI_DRAWN ? out - column : FI_DRAWN;
    real row[FI_DRAWN] = {0};
    fi_patience patience = {job->watch, 0};
    for (size_t k = 0; k < in; k++) {
        if (fi_patience_ends(&patience, FI_DRAWN / 16)) return;
        fi_stack_draw(job, layer, k * out + column, width, row);
        for (size_t c = 0; c < width; c += FI_COLUMNS)
            memcpy(panels + c * in + k * FI_COLUMNS, row + c, FI_COLUMNS * sizeof(real));
    }
}

/* Columns column .. of layer's weights as rows of a panel; of weights that are not stored, in order from column 0 on. */
static const real *FI_REAL(weight_columns)(const FI_REAL(rows) * part, size_t layer, size_t column) {
    const fi_stack_args *run = part->job->run;
    const size_t in = run->widths[layer], out = run->widths[layer + 1];
    real *panel = part->job->panel[part->part];
    if (!run->weights) {
        real *drawn = part->job->drawn[part->part];
        const size_t within = column % FI_DRAWN;
        if (within == 0) FI_REAL(draw_columns)(drawn, part->job, layer, column);
        return drawn + within * in;
    }
    FI_REAL(pack_columns)(panel, run->weights[layer], in, out, column);
    return panel;
}

/* Rows row .. of layer's weights as columns of a panel. */
static const real *FI_REAL(weight_rows)(const FI_REAL(rows) * part, size_t layer, size_t row) {
    const fi_stack_args *run = part->job->run;
    const size_t in = run->widths[layer], out = run->widths[layer + 1];
    real *panel = part->job->panel[part->part];
    if (run->weights) {
        FI_REAL(pack_rows)(panel, run->weights[layer], in, out, row);
        return panel;
    }
    real *drawn = part->job->drawn[part->part];
    const size_t height = in - row < FI_COLUMNS ? in - row : FI_COLUMNS;
    fi_stack_draw(part->job, layer, row * out, height * out, drawn);
    FI_REAL(pack_rows)(panel, drawn, height, out, 0);
    return panel;
}

/* While the tile of rows r .. multiplies, its share of the weights that the next panel wants comes nearer: `height` rows,
 * `width` wide and `step` apart. */
FI_INLINE void FI_REAL(fetch_weights)(const FI_REAL(rows) * part, size_t r, const real *weights, size_t height,
                                      size_t width, size_t step) {
    enum { LINE = 64 / sizeof(real) };
    const size_t lines = (width + LINE - 1) / LINE, all = height * lines, rows = part->end - part->begin;
    const size_t done = r - part->begin;
    for (size_t n = all * done / rows; n < all * (done + FI_ROWS) / rows; n++)
        FI_PREFETCH(weights + n / lines * step + n % lines * LINE);
}

/* ---- forward ---------------------------------------------------------------------------- */

/* The products of few samples, OUT sums of all whole panels: some rows of the weights after the others, as they lie. */
static void FI_REAL(products_of_few)(const FI_REAL(rows) * part, size_t layer, real *sums) {
    const fi_stack_job *job = part->job;
    const size_t in = job->run->widths[layer], out = job->run->widths[layer + 1];
    const real *weights = job->run->weights[layer], *left = job->activations[layer];
    fi_patience patience = {job->watch, 0};
    for (size_t k = 0; k < in; k += FI_COLUMNS, left += job->rows * FI_COLUMNS) {
        if (fi_patience_ends(&patience, out)) return;
        const size_t count = in - k < FI_COLUMNS ? in - k : FI_COLUMNS;
        for (size_t p = 0; (p + 1) * FI_COLUMNS <= out; p++) {
            const real *right = weights + k * out + p * FI_COLUMNS;
            for (size_t r = part->begin; r < part->end; r += FI_ROWS) {
                real *sum = sums + (p * job->rows + r) * FI_COLUMNS;
                FI_REAL(tile) tile;
                if (k == 0) FI_REAL(tile_clear)(&tile);
                else FI_REAL(tile_load)(&tile, sum);
                if (FI_REAL(samples)(part, r) > 1)
                    FI_REAL(tile_multiply_part)(&tile, left + r * FI_COLUMNS, FI_COLUMNS, 1, right, out, count,
                                                FI_ROWS, FI_VECTORS);
                else
                    FI_REAL(tile_multiply_part)(&tile, left + r * FI_COLUMNS, FI_COLUMNS, 1, right, out, count, 1,
                                                FI_VECTORS);
                FI_REAL(tile_store)(sum, &tile);
            }
        }
    }
}

static void FI_REAL(forward_layer)(const FI_REAL(rows) * part, size_t layer) {
    fi_stack_job *job = part->job;
    const fi_stack_args *run = job->run;
    const size_t in = run->widths[layer], out = run->widths[layer + 1];
    const int activation = run->activations[layer], skip = run->residual_sources ? run->residual_sources[layer] : -1;
    const real parameter = (real)run->parameters[layer], *biases = run->biases[layer];
    const real *left = job->activations[layer];
    if (part->record) {
        FI_REAL(record_begin)(part, 0);
        FI_REAL(record_begin)(part, 1);
    }
    const int few = run->weights && part->end - part->begin <= FI_FEW_ROWS;
    fi_patience patience = {job->watch, 0};
    if (few) FI_REAL(products_of_few)(part, layer, job->activations[layer + 1]);
    for (size_t p = 0; p * FI_COLUMNS < out; p++) {
        const size_t columns = out - p * FI_COLUMNS, vectors = FI_REAL(vectors_for)(columns);
        const int multiplied = few && columns >= FI_COLUMNS;
        const real *right = multiplied ? NULL : FI_REAL(weight_columns)(part, layer, p * FI_COLUMNS);
        real bias[FI_COLUMNS];
        for (size_t c = 0; c < FI_COLUMNS; c++)
            bias[c] = biases && c < columns ? biases[p * FI_COLUMNS + c] : 0;
        const size_t base = p * job->rows * FI_COLUMNS;
        real *values = (real *)job->activations[layer + 1] + base;
        for (size_t r = part->begin; r < part->end; r += FI_ROWS) {
            if (fi_patience_ends(&patience, in + FI_EPILOGUE_WORK)) return;
            const size_t live = FI_REAL(samples)(part, r), at = r * FI_COLUMNS;
            if (columns > FI_COLUMNS && run->weights && !few)
                FI_REAL(fetch_weights)(part, r, (const real *)run->weights[layer] + (p + 1) * FI_COLUMNS, in,
                                       FI_COLUMNS, out);
            FI_REAL(tile) tile;
            if (multiplied) FI_REAL(tile_load)(&tile, values + at);
            else FI_REAL(tile_product_within)(&tile, left, job->rows, r, right, in, live, columns);
            real z[FI_ROWS * FI_COLUMNS], local[FI_ROWS * FI_COLUMNS];
            for (size_t i = 0; i < FI_ROWS; i++)
                for (size_t v = 0; v < FI_VECTORS; v++)
                    VR(store)(z + i * FI_COLUMNS + v * FI_REAL_LANES,
                              VR(add)(tile.v[i][v], VR(load)(bias + v * FI_REAL_LANES)));
            real *slopes = job->slopes[layer] ? (real *)job->slopes[layer] + base + at
                           : part->record     ? local
                                              : NULL;
            FI_REAL(activate_tile)[activation](z, values + at, slopes, parameter, vectors);
            if (part->record) FI_REAL(record_slopes)(part, layer, r, p, slopes, values + at, live, columns);
            if (skip >= 0)
                FI_REAL(add_branch)((const real *)job->activations[skip] + base + at, values + at, slopes,
                                    (real)run->alpha);
            if (!part->record) continue;
            FI_REAL(record_tile)(part, 0, r, p, z, live, columns);
            FI_REAL(record_tile)(part, 1, r, p, values + at, live, columns);
        }
    }
    if (part->record) {
        FI_REAL(record_end)(part, 0, layer, FI_PRE_ACTIVATION, out);
        FI_REAL(record_end)(part, 1, layer, FI_VALUE, out);
    }
}

/* ---- backward --------------------------------------------------------------------------- */

/* gradients[layer] from a tile of the gradient with respect to the layer's values. */
static void FI_REAL(backward_tile)(const FI_REAL(rows) * part, const FI_REAL(tile) * tile, size_t layer,
                                   size_t p, size_t r) {
    fi_stack_job *job = part->job;
    const fi_stack_args *run = job->run;
    const size_t at = (p * job->rows + r) * FI_COLUMNS, columns = run->widths[layer + 1] - p * FI_COLUMNS;
    real *target = (real *)job->gradients[layer] + at;
    if (run->residual_sources && run->residual_sources[layer] >= 0) FI_REAL(tile_store)((real *)job->skipped + at, tile);
    const real *kept = job->slopes[layer] ? job->slopes[layer] : job->activations[layer + 1];
    const int activation = job->slopes[layer] ? FI_KEPT_ACTIVATION : run->activations[layer];
    FI_REAL(derive_tile)[activation](tile, kept + at, target, (real)run->parameters[layer],
                                     FI_REAL(vectors_for)(columns));
    if (part->record) FI_REAL(record_tile)(part, 0, r, p, target, FI_REAL(samples)(part, r), columns);
}

/* From the loss: dy is in panels already, where gradients[depth - 1] will be. */
static void FI_REAL(backward_output)(const FI_REAL(rows) * part) {
    fi_stack_job *job = part->job;
    const size_t layer = job->run->depth - 1, width = job->run->widths[layer + 1];
    if (part->record) FI_REAL(record_begin)(part, 0);
    fi_patience patience = {job->watch, 0};
    for (size_t p = 0; p * FI_COLUMNS < width; p++) {
        for (size_t r = part->begin; r < part->end; r += FI_ROWS) {
            if (fi_patience_ends(&patience, FI_EPILOGUE_WORK)) return;
            FI_REAL(tile) tile;
            FI_REAL(tile_load)(&tile, (const real *)job->gradients[layer] + (p * job->rows + r) * FI_COLUMNS);
            FI_REAL(backward_tile)(part, &tile, layer, p, r);
        }
    }
    if (part->record) FI_REAL(record_end)(part, 0, layer, FI_GRADIENT, width);
}

/* gradients[layer - 1] from gradients[layer]; for layer 0 the input's gradient, in panels in `input`. */
static void FI_REAL(backward_layer)(const FI_REAL(rows) * part, size_t layer, real *input) {
    fi_stack_job *job = part->job;
    const size_t in = job->run->widths[layer], out = job->run->widths[layer + 1];
    const real *left = job->gradients[layer];
    fi_patience patience = {job->watch, 0};
    if (part->record) FI_REAL(record_begin)(part, 0);
    for (size_t p = 0; p * FI_COLUMNS < in; p++) {
        const size_t columns = in - p * FI_COLUMNS;
        const real *right = FI_REAL(weight_rows)(part, layer, p * FI_COLUMNS);
        for (size_t r = part->begin; r < part->end; r += FI_ROWS) {
            if (fi_patience_ends(&patience, out + FI_EPILOGUE_WORK)) return;
            FI_REAL(tile) tile;
            const size_t at = (p * job->rows + r) * FI_COLUMNS;
            if (columns > FI_COLUMNS && job->run->weights) {
                const size_t rows = columns - FI_COLUMNS < FI_COLUMNS ? columns - FI_COLUMNS : FI_COLUMNS;
                FI_REAL(fetch_weights)(part, r, (const real *)job->run->weights[layer] + (p + 1) * FI_COLUMNS * out,
                                       rows, out, out);
            }
            FI_REAL(tile_product_within)(&tile, left, job->rows, r, right, out, FI_REAL(samples)(part, r), columns);
            if (job->is_source[layer]) FI_REAL(tile_add)(&tile, (const real *)job->skipped + at);
            if (layer > 0) FI_REAL(backward_tile)(part, &tile, layer - 1, p, r);
            else FI_REAL(tile_store)(input + at, &tile);
        }
    }
    if (layer > 0 && part->record) FI_REAL(record_end)(part, 0, layer - 1, FI_GRADIENT, in);
}

/* Rows i .. of panel p of a layer's weight gradient, summed over the whole batch; what is not wanted is not stored. */
FI_INLINE void FI_REAL(weight_gradient_tile)(const fi_stack_job *job, size_t layer, size_t p, size_t i,
                                              const double scale[2]) {
    const fi_stack_args *run = job->run;
    const size_t in = run->widths[layer], out = run->widths[layer + 1], column = p * FI_COLUMNS;
    const size_t width = out - column < FI_COLUMNS ? out - column : FI_COLUMNS;
    const size_t height = in - i < FI_ROWS ? in - i : FI_ROWS;
    const real *left = (const real *)job->activations[layer] + i / FI_COLUMNS * job->rows * FI_COLUMNS;
    const real *right = (const real *)job->gradients[layer] + p * job->rows * FI_COLUMNS;
    FI_REAL(tile) tile;
    FI_REAL(tile_product_transposed)(&tile, left, i % FI_COLUMNS, right, run->batch, height, width);
    if (run->norms)
        FI_REAL(add_squares)(job->squares[layer] + column, &tile, height, FI_REAL(vectors_for)(width), scale);
    if (!run->weight_gradients) return;
    real *target = (real *)run->weight_gradients[layer] + i * out + column;
    for (size_t m = 0; m < height; m++, target += out) {
        if (width == FI_COLUMNS) {
            for (int v = 0; v < FI_VECTORS; v++) VR(store)(target + v * FI_REAL_LANES, tile.v[m][v]);
        } else {
            real row[FI_COLUMNS];
            for (int v = 0; v < FI_VECTORS; v++) VR(store)(row + v * FI_REAL_LANES, tile.v[m][v]);
            memcpy(target, row, width * sizeof(real));
        }
    }
}

static void FI_REAL(bias_gradient)(const fi_stack_job *job, size_t layer, size_t p) {
    const fi_stack_args *run = job->run;
    const size_t column = p * FI_COLUMNS, rest = run->widths[layer + 1] - column;
    const real *gradients = (const real *)job->gradients[layer] + p * job->rows * FI_COLUMNS;
    real sums[FI_COLUMNS];
    vr sum[FI_VECTORS];
    for (int v = 0; v < FI_VECTORS; v++) sum[v] = VR(set1)(0);
    for (size_t r = 0; r < run->batch; r++)
        for (int v = 0; v < FI_VECTORS; v++)
            sum[v] = VR(add)(sum[v], VR(load)(gradients + r * FI_COLUMNS + (size_t)v * FI_REAL_LANES));
    for (int v = 0; v < FI_VECTORS; v++) VR(store)(sums + v * FI_REAL_LANES, sum[v]);
    memcpy((real *)run->bias_gradients[layer] + column, sums, (rest < FI_COLUMNS ? rest : FI_COLUMNS) * sizeof(real));
}

/* Panels first .. last-1 of a layer's weight and bias gradients. */
static void FI_REAL(stack_weight_gradient)(fi_stack_job *job, size_t layer, size_t first, size_t last) {
    const fi_stack_args *run = job->run;
    const size_t in = run->widths[layer];
    double scale[2] = {1, 1};
    if (run->norms) {
        memset(job->squares[layer] + first * FI_COLUMNS, 0, (last - first) * FI_COLUMNS * sizeof(double));
        int exponents[2];
        fi_stack_exponents(job, layer, FI_REAL(exponents), exponents);
        const int both = exponents[0] + exponents[1];
        scale[0] = fi_power_of_two(-both / 2);
        scale[1] = fi_power_of_two(-(both - both / 2));
    }
    fi_patience patience = {job->watch, 0};
    if (run->batch <= FI_FEW_ROWS) { /* what takes the time is to write the rows, so in the order of memory */
        for (size_t i = 0; i < in; i += FI_ROWS) {
            if (fi_patience_ends(&patience, (last - first) * (run->batch + FI_EPILOGUE_WORK))) return;
            for (size_t p = first; p < last; p++) FI_REAL(weight_gradient_tile)(job, layer, p, i, scale);
        }
    } else { /* the panel is read again and again */
        for (size_t p = first; p < last; p++)
            for (size_t i = 0; i < in; i += FI_ROWS) {
                if (fi_patience_ends(&patience, run->batch + FI_EPILOGUE_WORK)) return;
                FI_REAL(weight_gradient_tile)(job, layer, p, i, scale);
            }
    }
    for (size_t p = first; p < last && run->weight_gradients; p++) FI_REAL(bias_gradient)(job, layer, p);
}

/* ---- entries ---------------------------------------------------------------------------- */

static FI_REAL(rows) FI_REAL(rows_of)(fi_stack_job *job, unsigned part, size_t begin, size_t end, int record) {
    const size_t batch = job->run->batch;
    return (FI_REAL(rows)){job, part, begin, end, end < batch ? end : batch, record};
}

static void FI_REAL(begin_forward)(const FI_REAL(rows) * part) {
    fi_stack_job *job = part->job;
    const fi_stack_args *run = job->run;
    FI_REAL(to_panels)(job->activations[0], run->x, job->rows, run->widths[0], part);
    if (run->norms)
        job->largest_input[part->part] = FI_REAL(largest)(
            (const real *)run->x + part->begin * run->widths[0], (part->live - part->begin) * run->widths[0]);
}

/* Layers first .. last-1 of the rows begin .. end-1; `again`: for a backward pass that lacks their values. */
static void FI_REAL(stack_forward)(fi_stack_job *job, unsigned worker, size_t begin, size_t end, size_t first,
                                   size_t last, int again) {
    const fi_stack_args *run = job->run;
    const FI_REAL(rows) part = FI_REAL(rows_of)(job, worker, begin, end, job->record && !again);
    if (first == 0 && !again)
        FI_REAL(begin_forward)(&part);
    for (size_t layer = first; layer < last; layer++) {
        if (fi_stopped(job->watch)) return;
        FI_REAL(forward_layer)(&part, layer);
    }
    if (run->y && last == run->depth && !again)
        FI_REAL(from_panels)(run->y, job->activations[last], job->rows, run->widths[last], &part);
}

/* gradients[last - 1] .. gradients[first] of the rows, in this order; and the input's after those of layer 0. */
static void FI_REAL(stack_backward)(fi_stack_job *job, unsigned worker, size_t begin, size_t end, size_t first,
                                    size_t last) {
    const fi_stack_args *run = job->run;
    const FI_REAL(rows) part = FI_REAL(rows_of)(job, worker, begin, end, job->record);
    if (last == run->depth) {
        FI_REAL(to_panels)(job->gradients[last - 1], run->dy, job->rows, run->widths[last], &part);
        FI_REAL(backward_output)(&part);
        last--;
    }
    for (size_t layer = last;; layer--) {
        if (fi_stopped(job->watch)) return;
        if (job->fused) /* while the layer's gradient and its input are near */
            FI_REAL(stack_weight_gradient)(job, layer, 0, job->first_panel[layer + 1] - job->first_panel[layer]);
        else fi_ticket(&job->arrived[layer]);
        if (layer == first) break;
        FI_REAL(backward_layer)(&part, layer, NULL);
    }
    if (first > 0 || !run->dx || fi_stopped(job->watch)) return;
    FI_REAL(backward_layer)(&part, 0, job->gradients[run->depth]);
    FI_REAL(from_panels)(run->dx, job->gradients[run->depth], job->rows, run->widths[0], &part);
}

static const fi_stack_kernels FI_REAL(stack_kernels) = {
    .columns = FI_COLUMNS,
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
