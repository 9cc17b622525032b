/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The deep stack's sizes, memory, phases and threads. Phase one: workers take rows of the batch through all
 * layers and back. Phase two: weight gradients, each a sum over the whole batch, as tasks. Then the groups'
 * moments are merged in index order.
 */
#include "stack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fpenv.h"
#include "parallel.h"

#define FI_LINE 64

static const char *const activation_names[] = {
#define FI_ACTIVATION(name, NAME, threshold) #name,
#include "activations.def"
};

const char *fi_activation_name(size_t index) {
    return index < FI_ACTIVATIONS ? activation_names[index] : NULL;
}

void fi_activate(fi_activation activation, fi_dtype dtype, const void *x, void *y, size_t n) {
    const fi_fpenv saved = fi_fpenv_enter();
    fi_active->stack[dtype]->activate(activation, x, y, n);
    fi_fpenv_leave(saved);
}

/* ---- memory: one block, cut up twice: first to measure it, then to hand it out ----------- */

typedef struct {
    char *base;
    size_t used;
} arena;

static void *take(arena *a, size_t bytes) {
    void *p = a->base ? a->base + a->used : NULL;
    a->used += (bytes + FI_LINE - 1) / FI_LINE * FI_LINE;
    return p;
}

typedef struct {
    fi_stack_job job;
    const fi_stack_kernels *kernels;
    size_t real_size;
    size_t units; /* of all layers, in whole panels */
    unsigned workers;
    fi_counter next;
    size_t *alive_offset;
    size_t *first_task; /* phase two: tasks first_task[l] .. first_task[l + 1] - 1 are layer l's panels */
} launch;

static size_t panels(const launch *all, size_t width) {
    return (width + all->job.columns - 1) / all->job.columns;
}

/* The arrays of pointers and offsets. */
static void lay_out_tables(launch *all, arena *a) {
    fi_stack_job *job = &all->job;
    const size_t depth = job->run->depth;
    job->activations = take(a, (depth + 1) * sizeof(void *));
    job->gradients = take(a, (depth + 1) * sizeof(void *));
    all->alive_offset = take(a, depth * sizeof(size_t));
    all->first_task = take(a, (depth + 1) * sizeof(size_t));
    job->panel = take(a, all->workers * sizeof(void *));
    job->row_moments = take(a, all->workers * sizeof(void *));
    job->alive = take(a, all->workers * sizeof(void *));
    job->saturated = take(a, all->workers * sizeof(void *));
}

/* The arrays of numbers. What must start at zero comes first; returns how many bytes that is. */
static size_t lay_out_numbers(launch *all, arena *a) {
    fi_stack_job *job = &all->job;
    const fi_stack_run *run = job->run;
    const size_t depth = run->depth, unit = job->rows * job->columns * all->real_size;
    if (job->record) {
        job->moments = take(a, depth * FI_QUANTITIES * job->groups * sizeof(fi_partial_moments));
        for (size_t w = 0; w < all->workers; w++) {
            job->alive[w] = take(a, all->units * all->real_size);
            job->saturated[w] = take(a, depth * sizeof(uint64_t));
        }
    }
    const size_t zeroed = a->used;

    size_t widest = 0;
    for (size_t l = 0; l <= depth; l++)
        if (run->widths[l] > widest) widest = run->widths[l];
    const size_t groups = (job->groups + all->workers - 1) / all->workers;
    for (size_t w = 0; w < all->workers; w++) {
        job->panel[w] = take(a, widest * job->columns * all->real_size);
        if (job->record)
            job->row_moments[w] = take(a, groups * FI_GROUP * 2 * all->kernels->row_moments_size);
    }
    /* Backward passes read every layer's values; weight gradients read every layer's gradients too. */
    void *two[2] = {NULL, NULL};
    for (size_t l = 0; l <= depth; l++) {
        if (!run->dy && l < 2) two[l] = take(a, panels(all, widest) * unit);
        job->activations[l] = run->dy ? take(a, panels(all, run->widths[l]) * unit) : two[l % 2];
    }
    if (!run->dy) return zeroed;
    for (size_t l = 0; l < depth; l++) {
        if (!run->weight_gradients && l < 2) two[l] = take(a, panels(all, widest) * unit);
        job->gradients[l] =
            run->weight_gradients ? take(a, panels(all, run->widths[l + 1]) * unit) : two[l % 2];
    }
    if (run->dx) job->gradients[depth] = take(a, panels(all, run->widths[0]) * unit);
    return zeroed;
}

/* Measures with no base, then again with memory: one way of laying out, so the two cannot differ. */
static int allocate(launch *all, void **tables, void **numbers) {
    arena a = {NULL, 0};
    lay_out_tables(all, &a);
    *tables = malloc(a.used + FI_LINE);
    *numbers = NULL;
    if (!*tables) return 0;
    a = (arena){*tables, 0};
    lay_out_tables(all, &a);

    const fi_stack_run *run = all->job.run;
    for (size_t l = 0; l < run->depth; l++) {
        all->alive_offset[l] = all->units;
        all->units += panels(all, run->widths[l + 1]) * all->job.columns;
        all->first_task[l] = all->alive_offset[l] / all->job.columns;
    }
    all->first_task[run->depth] = all->units / all->job.columns;
    all->job.alive_offset = all->alive_offset;

    a = (arena){NULL, 0};
    lay_out_numbers(all, &a);
    *numbers = malloc(a.used + FI_LINE);
    if (!*numbers) return 0;
    a = (arena){(char *)*numbers + (FI_LINE - (uintptr_t)*numbers % FI_LINE) % FI_LINE, 0};
    memset(a.base, 0, lay_out_numbers(all, &a));
    return 1;
}

/* ---- phases ----------------------------------------------------------------------------- */

static void run_rows(void *context, unsigned worker, unsigned workers) {
    launch *all = context;
    const size_t begin = all->job.groups * worker / workers * FI_GROUP;
    const size_t end = all->job.groups * (worker + 1) / workers * FI_GROUP;
    if (begin < end) all->kernels->rows(&all->job, worker, begin, end);
}

static void run_weight_gradients(void *context, unsigned worker, unsigned workers) {
    launch *all = context;
    const size_t tasks = all->first_task[all->job.run->depth];
    size_t layer = 0;
    (void)worker, (void)workers;
    for (size_t t; (t = (size_t)fi_ticket(&all->next)) < tasks;) {
        while (t >= all->first_task[layer + 1]) layer++;
        all->kernels->weight_gradient(&all->job, layer, t - all->first_task[layer]);
    }
}

static fi_moments merged(const launch *all, size_t layer, int quantity) {
    const fi_partial_moments *groups =
        all->job.moments + (layer * FI_QUANTITIES + (size_t)quantity) * all->job.groups;
    fi_partial_moments total = {0, NAN, NAN};
    for (size_t g = 0; g < all->job.groups; g++) fi_moments_merge(&total, &groups[g]);
    if (quantity == FI_GRADIENT && !all->job.run->dy) total.mean = total.deviations = NAN;
    const double variance = total.deviations / total.count;
    return (fi_moments){total.mean, variance, variance + total.mean * total.mean};
}

static void summarise(const launch *all) {
    const fi_stack_run *run = all->job.run;
    for (size_t l = 0; l < run->depth; l++) {
        uint64_t saturated = 0;
        for (unsigned w = 0; w < all->workers; w++) saturated += all->job.saturated[w][l];
        const double width = (double)run->widths[l + 1];
        run->statistics[l] = (fi_layer_statistics){
            .pre_activation = merged(all, l, FI_PRE_ACTIVATION),
            .activation = merged(all, l, FI_VALUE),
            .gradient = merged(all, l, FI_GRADIENT),
            .saturated = (double)saturated / (width * (double)run->batch),
            .dead = run->batch ? (double)all->kernels->dead(&all->job, all->workers, l) / width : NAN,
        };
    }
}

static void copy(void *target, const void *source, size_t bytes) {
    if (target && bytes) memcpy(target, source, bytes);
}

fi_status fi_stack_propagate(const fi_stack_run *run, fi_dtype dtype, unsigned threads) {
    const size_t size = dtype == FI_FLOAT64 ? sizeof(double) : sizeof(float);
    if (run->depth == 0) { /* the identity */
        copy(run->y, run->x, run->batch * run->widths[0] * size);
        if (run->dy) copy(run->dx, run->dy, run->batch * run->widths[0] * size);
        return FI_OK;
    }
    launch all = {.kernels = fi_active->stack[dtype], .real_size = size};
    fi_stack_job *job = &all.job;
    job->run = run;
    job->columns = all.kernels->columns;
    job->groups = (run->batch + FI_GROUP - 1) / FI_GROUP;
    job->rows = job->groups * FI_GROUP;
    job->record = run->statistics != NULL;

    /* A thread costs some 30 us: one for each two million multiply-adds, and for each group of rows. */
    double products = 0;
    for (size_t l = 0; l < run->depth; l++)
        products += (double)run->widths[l] * (double)run->widths[l + 1] * (double)run->batch;
    if (threads < 1) threads = 1;
    all.workers = threads;
    if ((double)all.workers > products / 2e6) all.workers = (unsigned)(products / 2e6) + 1;
    if (all.workers > threads) all.workers = threads;
    unsigned row_workers = all.workers;
    if (row_workers > job->groups) row_workers = job->groups ? (unsigned)job->groups : 1;
    const unsigned task_workers = all.workers;
    all.workers = row_workers;

    void *tables, *numbers;
    fi_status status = FI_ERR_MEMORY;
    if (allocate(&all, &tables, &numbers)) {
        const fi_fpenv saved = fi_fpenv_enter();
        fi_parallel(row_workers, run_rows, &all);
        if (run->weight_gradients) fi_parallel(task_workers, run_weight_gradients, &all);
        if (run->statistics) summarise(&all);
        fi_fpenv_leave(saved);
        status = FI_OK;
    }
    free(numbers);
    free(tables);
    return status;
}
