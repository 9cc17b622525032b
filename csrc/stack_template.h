/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The deep stack: z = a W + b, a' = phi(z), layer after layer, and back: d = (d' W'^T) phi'(a).
 * A worker takes its rows of the batch forward through all layers and backward again, one packed panel of weights
 * at a time; what follows a product (bias, activation, statistics) is done on the tile in registers.
 *
 * Parameters: a real type; gemm_template.h, activation_template.h and moments_template.h.
 */

typedef struct {
    fi_stack_job *job;
    unsigned worker;
    size_t begin, end;  /* rows: whole groups */
    size_t live;        /* rows of them that are samples, not padding: end of those */
    int record;
} FI_REAL(rows);

/* ---- row-major memory to panels and back ------------------------------------------------ */

static void FI_REAL(to_panels)(real *panels, const real *source, size_t rows, size_t width,
                               const FI_REAL(rows) * part) {
    for (size_t p = 0; p * FI_COLUMNS < width; p++) {
        const size_t n = width - p * FI_COLUMNS < FI_COLUMNS ? width - p * FI_COLUMNS : FI_COLUMNS;
        for (size_t r = part->begin; r < part->end; r++) {
            real *target = panels + (p * rows + r) * FI_COLUMNS;
            const size_t copied = r < part->live ? n : 0;
            if (copied) memcpy(target, source + r * width + p * FI_COLUMNS, copied * sizeof(real));
            memset(target + copied, 0, (FI_COLUMNS - copied) * sizeof(real));
        }
    }
}

static void FI_REAL(from_panels)(real *target, const real *panels, size_t rows, size_t width,
                                 const FI_REAL(rows) * part) {
    for (size_t p = 0; p * FI_COLUMNS < width; p++) {
        const size_t n = width - p * FI_COLUMNS < FI_COLUMNS ? width - p * FI_COLUMNS : FI_COLUMNS;
        for (size_t r = part->begin; r < part->live; r++)
            memcpy(target + r * width + p * FI_COLUMNS, panels + (p * rows + r) * FI_COLUMNS,
                   n * sizeof(real));
    }
}

/* ---- statistics ------------------------------------------------------------------------- */

/* Adds row r's part in panel p to the moments kept in slot 0 or 1 of that row. */
FI_INLINE void FI_REAL(record_row)(const FI_REAL(rows) * part, int slot, size_t r, size_t p,
                                   const vr x[FI_VECTORS], size_t width) {
    FI_REAL(row_moments) *m = (FI_REAL(row_moments) *)part->job->row_moments[part->worker] +
                              (r - part->begin) * 2 + (size_t)slot;
    if (p == 0) {
        real lanes[FI_REAL_LANES];
        VR(store)(lanes, x[0]);
        FI_REAL(row_moments_begin)(m, lanes[0]);
    }
    FI_REAL(row_moments_add)(m, x, width - p * FI_COLUMNS);
}

/* The rows of a layer are complete: merges them by groups. */
static void FI_REAL(record_end)(const FI_REAL(rows) * part, int slot, size_t layer, int quantity,
                                size_t width) {
    fi_stack_job *job = part->job;
    const FI_REAL(row_moments) *m = (FI_REAL(row_moments) *)job->row_moments[part->worker] + slot;
    fi_partial_moments *groups =
        job->moments + (layer * FI_QUANTITIES + (size_t)quantity) * job->groups;
    for (size_t r = part->begin; r < part->live; r++) {
        const fi_partial_moments row = FI_REAL(row_moments_end)(&m[(r - part->begin) * 2], width);
        fi_moments_merge(&groups[r / FI_GROUP], &row);
    }
}

/* ---- forward ---------------------------------------------------------------------------- */

/* What follows the product of one tile: bias, activation, statistics. `activate` and `slope` are the
 * functions of one activation: this is inlined once for each. */
#define FI_FORWARD_TILE(name_, NAME, threshold)                                                     \
    FI_NOINLINE void FI_REAL(forward_tile_##name_)(                                                 \
        const FI_REAL(rows) * part, FI_REAL(tile) * tile, const real *bias, real *target,           \
        size_t layer, size_t p, size_t r, size_t width) {                                           \
        vr alive[FI_VECTORS];                                                                       \
        const size_t valid = width - p * FI_COLUMNS;                                                \
        for (int v = 0; v < FI_VECTORS; v++) alive[v] = VR(set1)(0);                                \
        uint64_t saturated = 0;                                                                     \
        for (int i = 0; i < FI_ROWS; i++) {                                                         \
            vr a[FI_VECTORS];                                                                       \
            for (int v = 0; v < FI_VECTORS; v++) {                                                  \
                tile->v[i][v] = VR(add)(tile->v[i][v], VR(load)(bias + v * FI_REAL_LANES));         \
                a[v] = FI_REAL(name_)(tile->v[i][v]);                                               \
                VR(store)(target + (size_t)i * FI_COLUMNS + v * FI_REAL_LANES, a[v]);               \
            }                                                                                       \
            if (!part->record || r + (size_t)i >= part->live) continue;                             \
            FI_REAL(record_row)(part, 0, r + (size_t)i, p, tile->v[i], width);                      \
            FI_REAL(record_row)(part, 1, r + (size_t)i, p, a, width);                               \
            for (int v = 0; v < FI_VECTORS; v++) {                                                  \
                const vr slope = FI_REAL(name_##_slope)(a[v]);                                      \
                alive[v] = VR(max)(alive[v], VR(abs)(slope));                                       \
                if ((threshold) > 0) {                                                              \
                    const vrm below = VR(less)(slope, VR(set1)((real)(threshold)));                 \
                    const size_t first = (size_t)v * FI_REAL_LANES;                                 \
                    if (first < valid)                                                              \
                        saturated += (uint64_t)VR(count)(below, (int)(valid - first));              \
                }                                                                                   \
            }                                                                                       \
        }                                                                                           \
        if (!part->record) return;                                                                  \
        real *largest = (real *)part->job->alive[part->worker] +                                    \
                        (part->job->first_panel[layer] + p) * FI_COLUMNS;                           \
        for (int v = 0; v < FI_VECTORS; v++)                                                        \
            VR(store)(largest + v * FI_REAL_LANES,                                                  \
                      VR(max)(alive[v], VR(load)(largest + v * FI_REAL_LANES)));                    \
        part->job->saturated[part->worker][layer] += saturated;                                     \
    }
#define FI_ACTIVATION(name, NAME, threshold) FI_FORWARD_TILE(name, NAME, threshold)
#include "activations.def"

static void FI_REAL(forward_layer)(const FI_REAL(rows) * part, size_t layer) {
    fi_stack_job *job = part->job;
    const fi_stack_run *run = job->run;
    const size_t in = run->widths[layer], out = run->widths[layer + 1];
    const real *weights = run->weights[layer], *biases = run->biases[layer];
    const real *left = job->activations[layer];
    real *panel = job->panel[part->worker], bias[FI_COLUMNS];
    for (size_t p = 0; p * FI_COLUMNS < out; p++) {
        FI_REAL(pack_columns)(panel, weights, in, out, p * FI_COLUMNS);
        for (size_t c = 0; c < FI_COLUMNS; c++)
            bias[c] = biases && p * FI_COLUMNS + c < out ? biases[p * FI_COLUMNS + c] : 0;
        real *target = (real *)job->activations[layer + 1] + p * job->rows * FI_COLUMNS;
        for (size_t r = part->begin; r < part->end; r += FI_ROWS) {
            FI_REAL(tile) tile;
            FI_REAL(tile_product)(&tile, left, job->rows, r, panel, in);
            switch (run->activations[layer]) {
#define FI_ACTIVATION(name, NAME, threshold)                                                      \
    case FI_##NAME:                                                                               \
        FI_REAL(forward_tile_##name)(part, &tile, bias, target + r * FI_COLUMNS, layer, p, r, out); \
        break;
#include "activations.def"
            }
        }
    }
    if (part->record) {
        FI_REAL(record_end)(part, 0, layer, FI_PRE_ACTIVATION, out);
        FI_REAL(record_end)(part, 1, layer, FI_VALUE, out);
    }
}

/* ---- backward --------------------------------------------------------------------------- */

/* The gradient with respect to a layer's values becomes that with respect to its pre-activation. */
#define FI_BACKWARD_TILE(name_)                                                                     \
    FI_NOINLINE void FI_REAL(backward_tile_##name_)(const FI_REAL(rows) * part,                     \
                                                    const FI_REAL(tile) * tile, const real *values, \
                                                    real *target, size_t p, size_t r,               \
                                                    size_t width) {                                 \
        for (int i = 0; i < FI_ROWS; i++) {                                                         \
            vr d[FI_VECTORS];                                                                       \
            for (int v = 0; v < FI_VECTORS; v++) {                                                  \
                const size_t at = (size_t)i * FI_COLUMNS + (size_t)v * FI_REAL_LANES;               \
                d[v] = VR(mul)(tile->v[i][v], FI_REAL(name_##_slope)(VR(load)(values + at)));       \
                VR(store)(target + at, d[v]);                                                       \
            }                                                                                       \
            if (part->record && r + (size_t)i < part->live)                                         \
                FI_REAL(record_row)(part, 0, r + (size_t)i, p, d, width);                           \
        }                                                                                           \
    }
#define FI_ACTIVATION(name, NAME, threshold) FI_BACKWARD_TILE(name)
#include "activations.def"

/* gradients[layer] from a tile of the gradient with respect to the layer's values. */
static void FI_REAL(backward_tile)(const FI_REAL(rows) * part, const FI_REAL(tile) * tile, size_t layer,
                                   size_t p, size_t r) {
    fi_stack_job *job = part->job;
    const size_t at = (p * job->rows + r) * FI_COLUMNS, width = job->run->widths[layer + 1];
    const real *values = (const real *)job->activations[layer + 1] + at;
    real *target = (real *)job->gradients[layer] + at;
    switch (job->run->activations[layer]) {
#define FI_ACTIVATION(name, NAME, threshold)                                       \
    case FI_##NAME:                                                                \
        FI_REAL(backward_tile_##name)(part, tile, values, target, p, r, width);    \
        break;
#include "activations.def"
    }
}

/* From the loss: dy is in panels already, where gradients[depth - 1] will be. */
static void FI_REAL(backward_output)(const FI_REAL(rows) * part) {
    fi_stack_job *job = part->job;
    const size_t layer = job->run->depth - 1, width = job->run->widths[layer + 1];
    for (size_t p = 0; p * FI_COLUMNS < width; p++) {
        for (size_t r = part->begin; r < part->end; r += FI_ROWS) {
            const real *dy = (const real *)job->gradients[layer] + (p * job->rows + r) * FI_COLUMNS;
            FI_REAL(tile) tile;
            for (int i = 0; i < FI_ROWS; i++)
                for (int v = 0; v < FI_VECTORS; v++)
                    tile.v[i][v] = VR(load)(dy + i * FI_COLUMNS + v * FI_REAL_LANES);
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
    real *panel = job->panel[part->worker];
    for (size_t p = 0; p * FI_COLUMNS < in; p++) {
        FI_REAL(pack_rows)(panel, job->run->weights[layer], in, out, p * FI_COLUMNS);
        for (size_t r = part->begin; r < part->end; r += FI_ROWS) {
            FI_REAL(tile) tile;
            FI_REAL(tile_product)(&tile, left, job->rows, r, panel, out);
            if (layer > 0) {
                FI_REAL(backward_tile)(part, &tile, layer - 1, p, r);
                continue;
            }
            real *target = input + (p * job->rows + r) * FI_COLUMNS;
            for (int i = 0; i < FI_ROWS; i++)
                for (int v = 0; v < FI_VECTORS; v++)
                    VR(store)(target + i * FI_COLUMNS + v * FI_REAL_LANES, tile.v[i][v]);
        }
    }
    if (layer > 0 && part->record) FI_REAL(record_end)(part, 0, layer - 1, FI_GRADIENT, in);
}

/* ---- entries ---------------------------------------------------------------------------- */

static FI_REAL(rows) FI_REAL(rows_of)(fi_stack_job *job, unsigned worker, size_t begin, size_t end) {
    const size_t batch = job->run->batch;
    return (FI_REAL(rows)){job, worker, begin, end, end < batch ? end : batch, job->record};
}

static void FI_REAL(stack_forward)(fi_stack_job *job, unsigned worker, size_t begin, size_t end) {
    const fi_stack_run *run = job->run;
    const FI_REAL(rows) part = FI_REAL(rows_of)(job, worker, begin, end);
    FI_REAL(to_panels)(job->activations[0], run->x, job->rows, run->widths[0], &part);
    for (size_t layer = 0; layer < run->depth; layer++) FI_REAL(forward_layer)(&part, layer);
    if (run->y)
        FI_REAL(from_panels)(run->y, job->activations[run->depth], job->rows, run->widths[run->depth], &part);
}

static void FI_REAL(stack_backward)(fi_stack_job *job, unsigned worker, size_t begin, size_t end) {
    const fi_stack_run *run = job->run;
    const FI_REAL(rows) part = FI_REAL(rows_of)(job, worker, begin, end);
    FI_REAL(to_panels)(job->gradients[run->depth - 1], run->dy, job->rows, run->widths[run->depth], &part);
    FI_REAL(backward_output)(&part);
    for (size_t layer = run->depth - 1; layer > 0; layer--) FI_REAL(backward_layer)(&part, layer, NULL);
    if (run->dx) {
        real *input = job->gradients[run->depth];
        FI_REAL(backward_layer)(&part, 0, input);
        FI_REAL(from_panels)(run->dx, input, job->rows, run->widths[0], &part);
    }
}

/* Columns of panel p of layer's weight gradient, and of its bias gradient, summed over the whole batch. */
static void FI_REAL(stack_weight_gradient)(fi_stack_job *job, size_t layer, size_t p) {
    const fi_stack_run *run = job->run;
    const size_t in = run->widths[layer], out = run->widths[layer + 1], column = p * FI_COLUMNS;
    const size_t width = out - column < FI_COLUMNS ? out - column : FI_COLUMNS;
    const real *right = (const real *)job->gradients[layer] + p * job->rows * FI_COLUMNS;
    real *gradient = run->weight_gradients[layer];
    for (size_t i = 0; i < in; i += FI_ROWS) {
        const real *left = (const real *)job->activations[layer] + i / FI_COLUMNS * job->rows * FI_COLUMNS;
        FI_REAL(tile) tile;
        FI_REAL(tile_product_transposed)(&tile, left, i % FI_COLUMNS, right, run->batch);
        for (size_t m = 0; m < FI_ROWS && i + m < in; m++) {
            real *target = gradient + (i + m) * out + column;
            if (width == FI_COLUMNS) {
                for (int v = 0; v < FI_VECTORS; v++)
                    VR(store)(target + v * FI_REAL_LANES, tile.v[m][v]);
            } else {
                real row[FI_COLUMNS];
                for (int v = 0; v < FI_VECTORS; v++) VR(store)(row + v * FI_REAL_LANES, tile.v[m][v]);
                memcpy(target, row, width * sizeof(real));
            }
        }
    }
    real sums[FI_COLUMNS];
    vr sum[FI_VECTORS];
    for (int v = 0; v < FI_VECTORS; v++) sum[v] = VR(set1)(0);
    for (size_t r = 0; r < run->batch; r++)
        for (int v = 0; v < FI_VECTORS; v++)
            sum[v] = VR(add)(sum[v], VR(load)(right + r * FI_COLUMNS + (size_t)v * FI_REAL_LANES));
    for (int v = 0; v < FI_VECTORS; v++) VR(store)(sums + v * FI_REAL_LANES, sum[v]);
    memcpy((real *)run->bias_gradients[layer] + column, sums, width * sizeof(real));
}

/* Units of a layer whose derivative was 0 in every sample, over all workers. */
static size_t FI_REAL(stack_dead)(const fi_stack_job *job, unsigned workers, size_t layer) {
    const size_t first = job->first_panel[layer] * FI_COLUMNS;
    size_t dead = 0;
    for (size_t unit = 0; unit < job->run->widths[layer + 1]; unit++) {
        real largest = 0;
        for (unsigned w = 0; w < workers; w++) {
            const real one = ((const real *)job->alive[w])[first + unit];
            if (one > largest) largest = one;
        }
        dead += largest == 0;
    }
    return dead;
}

/* phi over an array, for tests of its stated error. */
static void FI_REAL(stack_activate)(int activation, const void *source, void *target, size_t n) {
    const real *x = source;
    real *y = target;
    for (size_t i = 0; i < n; i += FI_REAL_LANES) {
        real lanes[FI_REAL_LANES] = {0};
        const size_t k = n - i < FI_REAL_LANES ? n - i : FI_REAL_LANES;
        memcpy(lanes, x + i, k * sizeof(real));
        vr a = VR(load)(lanes);
        switch (activation) {
#define FI_ACTIVATION(name, NAME, threshold) \
    case FI_##NAME:                          \
        a = FI_REAL(name)(a);                \
        break;
#include "activations.def"
        }
        VR(store)(lanes, a);
        memcpy(y + i, lanes, k * sizeof(real));
    }
}

static const fi_stack_kernels FI_REAL(stack_kernels) = {
    .columns = FI_COLUMNS,
    .row_moments_size = sizeof(FI_REAL(row_moments)),
    .forward = FI_REAL(stack_forward),
    .backward = FI_REAL(stack_backward),
    .weight_gradient = FI_REAL(stack_weight_gradient),
    .dead = FI_REAL(stack_dead),
    .activate = FI_REAL(stack_activate),
    .fma_loop = FI_REAL(fma_loop),
};
