/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The workspace of a pass: the caller's memory, cut up by the same code to measure it and to use it. */
#include "stack/schedule.h"

#define FI_LINE 64 /* bytes of a cache line, to which all is aligned */

typedef struct {
    char *base; /* NULL: measuring */
    size_t used;
} arena;

static void *take(arena *a, size_t bytes) {
    void *p = a->base ? a->base + a->used : NULL;
    a->used += (bytes + FI_LINE - 1) / FI_LINE * FI_LINE;
    return p;
}

/* An entry of a table that is itself in the arena. */
static void put(const arena *a, void **table, size_t i, void *p) {
    if (a->base) table[i] = p;
}

/* The arrays of pointers and offsets. */
static void lay_out_tables(fi_schedule *schedule, arena *a) {
    fi_stack_shared *shared = &schedule->shared;
    const fi_stack_args *args = shared->args;
    const size_t depth = args->depth;
    shared->activations = take(a, (depth + 1) * sizeof(void *));
    shared->pre_activations = take(a, depth * sizeof(void *));
    shared->derivatives = take(a, depth * sizeof(void *));
    shared->gradients = take(a, (depth + 1) * sizeof(void *));
    shared->squares = take(a, args->norms ? depth * sizeof(void *) : 0);
    shared->is_source = take(a, depth + 1);
    shared->arrived = take(a, depth * sizeof(fi_counter));
    schedule->first_panel = take(a, (depth + 1) * sizeof(size_t));
    schedule->first_task = take(a, (depth + 1) * sizeof(size_t));
    schedule->starts = take(a, schedule->rounds * sizeof(size_t));
    schedule->checkpoints = take(a, depth);
    shared->panel = take(a, shared->slices * sizeof(void *));
    shared->drawn = take(a, shared->slices * sizeof(void *));
    shared->record_of = take(a, shared->slices * sizeof(void *));
    shared->alive = take(a, shared->slices * sizeof(void *));
    shared->saturated = take(a, shared->slices * sizeof(void *));
    shared->extremes = take(a, shared->slices * sizeof(void *));
    shared->largest_input = take(a, shared->slices * sizeof(double));
    shared->gram = take(a, schedule->workers * sizeof(void *));
    if (!a->base) return;
    memset((void *)shared->arrived, 0, depth * sizeof(fi_counter));
    fi_schedule_fill_tables(schedule);
}

/* Statistics that start at zero. */
static void lay_out_zeros(fi_schedule *schedule, arena *a) {
    fi_stack_shared *shared = &schedule->shared;
    const size_t depth = shared->args->depth;
    if (!shared->record) return;
    size_t units = 0;
    for (size_t l = 0; l < depth; l++) units += fi_micropanels(schedule, shared->args->widths[l + 1]) * shared->nr;
    shared->moments = take(a, depth * FI_QUANTITIES * shared->groups * sizeof(fi_partial_moments));
    for (unsigned w = 0; w < shared->slices; w++) {
        put(a, (void **)shared->alive, w, take(a, units / 8));
        put(a, (void **)shared->saturated, w, take(a, depth * sizeof(uint64_t)));
        put(a, (void **)shared->extremes, w, take(a, depth * FI_QUANTITIES * sizeof(fi_extremes)));
    }
}

/* A forward pass alone: two places that layers use in turn, and two more for the inputs of residual blocks, which outlive
 * the layers after them. `layer`: the bytes of the widest. */
static void lay_out_forward(fi_schedule *schedule, arena *a, size_t layer) {
    fi_stack_shared *shared = &schedule->shared;
    void *places[2][2] = {{NULL, NULL}, {NULL, NULL}};
    size_t turns[2] = {0, 0};
    for (int source = 0; source <= (shared->args->residual_sources != NULL); source++)
        for (int i = 0; i < 2; i++) places[source][i] = take(a, layer);
    if (!a->base) return;
    for (size_t l = 0; l <= shared->args->depth; l++) {
        const int source = shared->is_source[l];
        shared->activations[l] = places[source][turns[source]++ % 2];
        if (l < shared->args->depth) shared->pre_activations[l] = shared->derivatives[l] = NULL;
    }
}

/* Backward passes read every layer's values, and tasks every layer's gradients too. */
static void lay_out_all(fi_schedule *schedule, arena *a, size_t layer) {
    fi_stack_shared *shared = &schedule->shared;
    const fi_stack_args *args = shared->args;
    const size_t depth = args->depth, unit = shared->rows * shared->nr * schedule->real_size;
    void *two[2] = {NULL, NULL};
    for (size_t l = 0; l <= depth; l++)
        put(a, shared->activations, l, take(a, fi_micropanels(schedule, args->widths[l]) * unit));
    for (size_t l = 0; l < depth; l++) {
        const size_t bytes = fi_micropanels(schedule, args->widths[l + 1]) * unit;
        put(a, shared->pre_activations, l, args->pre_activation_cosines ? take(a, bytes) : NULL);
        put(a, shared->derivatives, l, fi_keeps_derivative(args, l) ? take(a, bytes) : NULL);
        if (!schedule->keep_gradients && l < 2) two[l] = take(a, layer);
        put(a, shared->gradients, l, schedule->keep_gradients ? take(a, bytes) : two[l % 2]);
    }
}

/* The checkpoints, and the same of one segment, in places that all segments use. */
static void lay_out_segments(fi_schedule *schedule, arena *a, size_t layer) {
    fi_stack_shared *shared = &schedule->shared;
    const size_t depth = shared->args->depth, longest = schedule->longest;
    char *checkpoints = take(a, (schedule->segments + 1) * layer);
    char *values = take(a, longest * layer);
    char *pre_activations = take(a, shared->args->pre_activation_cosines ? longest * layer : 0);
    char *derivatives = take(a, schedule->keep_derivatives ? longest * layer : 0);
    char *gradients = take(a, (schedule->keep_gradients ? FI_ROUND + 1 : 2) * layer);
    if (!a->base) return;
    for (size_t l = 0, start = 0; l < depth; l++) {
        if (schedule->checkpoints[l]) start = l;
        const size_t at = l - start;
        shared->activations[l] = at ? values + at * layer : checkpoints;
        if (at == 0) checkpoints += layer;
        shared->pre_activations[l] = shared->args->pre_activation_cosines ? pre_activations + at * layer : NULL;
        shared->derivatives[l] = fi_keeps_derivative(shared->args, l) ? derivatives + at * layer : NULL;
    }
    shared->activations[depth] = checkpoints;
    for (size_t r = 0, end = depth; r < schedule->rounds; end = schedule->starts[r++]) {
        for (size_t l = schedule->starts[r]; l < end; l++) {
            /* The gradients of a round's first layer are what the next round is made of: two places for them, in turn. */
            const size_t at = l - schedule->starts[r], kept = at == 0 && r % 2 ? FI_ROUND : at;
            shared->gradients[l] = gradients + (schedule->keep_gradients ? kept : l % 2) * layer;
        }
    }
}

/* The matrices, and what each slice or worker has for itself. */
static void lay_out_numbers(fi_schedule *schedule, arena *a) {
    fi_stack_shared *shared = &schedule->shared;
    const fi_stack_args *args = shared->args;
    const size_t depth = args->depth, unit = shared->rows * shared->nr * schedule->real_size;
    size_t widest = 0;
    for (size_t l = 0; l <= depth; l++)
        if (args->widths[l] > widest) widest = args->widths[l];
    const size_t layer = fi_micropanels(schedule, widest) * unit;
    const size_t groups = (shared->groups + shared->slices - 1) / shared->slices; /* of a slice, at most */
    for (unsigned w = 0; w < shared->slices; w++) {
        put(a, shared->panel, w, take(a, widest * shared->nr * schedule->real_size));
        if (!args->weights) put(a, shared->drawn, w, take(a, widest * FI_DRAWN * schedule->real_size));
        if (shared->record)
            put(a, shared->record_of, w,
                take(a, schedule->kernels->record_size + groups * FI_GROUP * schedule->kernels->row_record_size));
    }
    for (unsigned w = 0; args->norms && w < schedule->workers; w++)
        put(a, shared->gram, w, take(a, 2 * widest * shared->nr * schedule->real_size));
    for (size_t l = 0; args->norms && l < depth; l++) {
        const size_t columns = fi_micropanels(schedule, args->widths[l + 1]) * shared->nr;
        put(a, (void **)shared->squares, l, take(a, (fi_uses_gram(args, l) ? args->batch : columns) * sizeof(double)));
    }
    if (!args->backward) lay_out_forward(schedule, a, layer);
    else if (schedule->segments > 1) lay_out_segments(schedule, a, layer);
    else lay_out_all(schedule, a, layer);
    if (!args->backward) return;
    if (args->residual_sources) shared->residual_gradient = take(a, layer);
    put(a, shared->gradients, depth, take(a, fi_micropanels(schedule, args->widths[0]) * unit));
}

size_t fi_workspace_lay_out(fi_schedule *schedule, void *workspace) {
    arena a = {workspace, 0};
    if (workspace) take(&a, (FI_LINE - (uintptr_t)workspace % FI_LINE) % FI_LINE);
    lay_out_tables(schedule, &a);
    const size_t zeros = a.used;
    lay_out_zeros(schedule, &a);
    if (workspace && schedule->shared.args->phases & FI_FORWARD) memset(a.base + zeros, 0, a.used - zeros);
    lay_out_numbers(schedule, &a);
    return a.used + 2 * FI_LINE;
}
