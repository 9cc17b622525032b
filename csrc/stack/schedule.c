/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The schedule of a pass, from sizes alone: the same for a forward and a backward phase that are called apart. */
#include "stack/schedule.h"

/* Tasks for each worker, at least, where there are micropanels enough: so that all end together. */
#define FI_TASKS 8

/* Where Gram matrices cost less than the product that they avoid. */
int fi_uses_gram(const fi_stack_args *args, size_t layer) {
    const double in = (double)args->widths[layer], out = (double)args->widths[layer + 1], batch = (double)args->batch;
    return args->norms && !args->weight_gradients && batch * (in + out) < 2 * in * out;
}

int fi_keeps_derivative(const fi_stack_args *args, size_t layer) {
    return fi_activation_traits[args->activations[layer]].from_input || fi_ends_block(args, layer);
}

/* Cuts the layers into segments, which hold residual blocks whole, and these into rounds. It begins at the last layer, so that
 * what is short is the first. OUT starts and checkpoints, unless they are NULL. */
static void cut_layers(fi_schedule *schedule, size_t *starts, unsigned char *checkpoints) {
    const fi_stack_args *args = schedule->shared.args;
    size_t end = args->depth, round_end = args->depth, source = args->depth;
    schedule->segments = schedule->longest = schedule->rounds = 0;
    for (size_t l = args->depth; l-- > 0;) {
        if (fi_ends_block(args, l)) source = (size_t)args->residual_sources[l];
        const int segment = l == 0 || (end - l >= schedule->segment_length && l <= source);
        if (!segment && round_end - l < schedule->round_length) continue;
        if (starts) starts[schedule->rounds] = l;
        if (checkpoints) checkpoints[l] = (unsigned char)segment;
        schedule->rounds++;
        round_end = l;
        if (!segment) continue;
        if (end - l > schedule->longest) schedule->longest = end - l;
        schedule->segments++;
        end = l;
    }
}

/* How many threads, and how many slices of the batch. A thread costs some 30 us to make: one for each two million
 * multiply-adds. A slice has whole groups of rows. */
static void share_work(fi_schedule *schedule, unsigned threads) {
    fi_stack_shared *shared = &schedule->shared;
    const fi_stack_args *args = shared->args;
    double products = 0;
    for (size_t l = 0; l < args->depth; l++)
        products += (double)args->widths[l] * (double)args->widths[l + 1] * (double)args->batch;
    schedule->workers = threads > 1 ? threads : 1;
    if ((double)schedule->workers > products / 2e6) schedule->workers = (unsigned)(products / 2e6) + 1;
    shared->slices = schedule->workers;
    if (shared->slices > shared->groups) shared->slices = shared->groups ? (unsigned)shared->groups : 1;
}

void fi_schedule_make(fi_schedule *schedule, const fi_stack_args *args, fi_dtype dtype, unsigned threads) {
    *schedule = (fi_schedule){.kernels = (args->kernels ? args->kernels : fi_active())->stack[dtype],
                              .real_size = fi_item_size(dtype)};
    fi_stack_shared *shared = &schedule->shared;
    shared->args = args;
    shared->nr = schedule->kernels->nr;
    shared->groups = (args->batch + FI_GROUP - 1) / FI_GROUP;
    shared->rows = shared->groups * FI_GROUP;
    shared->record = args->statistics != NULL;
    schedule->keep_gradients = args->weight_gradients || args->norms || args->cosines;
    for (size_t l = 0; l < args->depth; l++) schedule->keep_derivatives |= fi_keeps_derivative(args, l);

    /* Where weights are not stored, the checkpoints and one segment are kept: of the length that makes their sum least,
     * about the root of the depth. */
    schedule->segment_length = schedule->round_length = args->depth;
    if (!args->weights && args->backward) {
        /* matrices for each layer of a segment */
        const size_t kept = 1 + (size_t)schedule->keep_derivatives + (args->pre_activation_cosines != NULL);
        size_t length = 1;
        while (kept * length * length < args->depth) length++;
        schedule->segment_length = length;
        if (schedule->keep_gradients) schedule->round_length = FI_ROUND;
    }
    cut_layers(schedule, NULL, NULL);

    share_work(schedule, threads);
    shared->fused = args->weight_gradients && !args->cosines && schedule->workers == 1 && shared->groups > 0;
    if (shared->fused) schedule->keep_gradients = 0;
    /* Large tasks, as two that write neighbouring pieces of a row disturb each other, but some for each worker. */
    size_t panels = 0;
    for (size_t l = 0; l < args->depth; l++) panels += fi_micropanels(schedule, args->widths[l + 1]);
    schedule->task_panels = 1 + panels / (FI_TASKS * (size_t)schedule->workers);
}

void fi_schedule_fill_tables(fi_schedule *schedule) {
    fi_stack_shared *shared = &schedule->shared;
    const fi_stack_args *args = shared->args;
    const size_t depth = args->depth;
    memset(schedule->checkpoints, 0, depth);
    memset(shared->is_source, 0, depth + 1);
    cut_layers(schedule, schedule->starts, schedule->checkpoints);
    schedule->first_panel[0] = schedule->first_task[0] = 0;
    for (size_t l = 0; l < depth; l++) {
        const size_t panels = fi_micropanels(schedule, args->widths[l + 1]);
        size_t tasks = 0;
        if (fi_uses_gram(args, l)) tasks = fi_micropanels(schedule, args->batch);
        else if (args->weight_gradients || args->norms) tasks = (panels + schedule->task_panels - 1) / schedule->task_panels;
        schedule->first_panel[l + 1] = schedule->first_panel[l] + panels;
        schedule->first_task[l + 1] = schedule->first_task[l] + tasks + (args->cosines != NULL);
        if (fi_ends_block(args, l)) shared->is_source[args->residual_sources[l]] = 1;
    }
    shared->first_panel = schedule->first_panel;
}
