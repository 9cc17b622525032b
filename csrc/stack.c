/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The deep stack's sizes, memory, phases and threads. Phase one: workers take parts of the batch through all
 * layers and back. Phase two: weight gradients, each a sum over the whole batch, as tasks. Then the
 * groups' moments are merged in index order. Nothing here allocates: the caller brings the workspace.
 */
#include "stack.h"

#include <math.h>
#include <string.h>

#include "fpenv.h"
#include "parallel.h"

#define FI_LINE 64

#define FI_FROM_VALUE 0
#define FI_FROM_INPUT 1
const fi_traits fi_activation_traits[] = {
#define FI_ACTIVATION(name, NAME, from, saturated_below, value_ulp, slope_eps) \
    {#name, FI_FROM_##from, saturated_below, value_ulp, slope_eps},
#include "activations.def"
};

const char *fi_activation_name(size_t index) {
    return index < FI_ACTIVATIONS ? fi_activation_traits[index].name : NULL;
}
double fi_activation_value_ulp(size_t index) { return fi_activation_traits[index].value_ulp; }
double fi_activation_slope_eps(size_t index) { return fi_activation_traits[index].slope_eps; }

void fi_activate(fi_activation activation, double parameter, fi_dtype dtype, const void *x, void *values,
                 void *slopes, size_t n) {
    const fi_fpenv saved = fi_fpenv_enter();
    fi_active()->stack[dtype]->activate(activation, parameter, x, values, slopes, n);
    fi_fpenv_leave(saved);
}

/* ---- weights that are not stored ---------------------------------------------------------- */

void fi_stack_draw(const fi_stack_run *run, size_t layer, size_t row, size_t rows, size_t column,
                   size_t columns, void *out, size_t step) {
    const size_t width = run->widths[layer + 1];
    const fi_block block = {.first = row * width + column,
                            .dimensions = 2,
                            .counts = {rows, columns},
                            .strides = {(int64_t)width, 1}};
    fi_fill_block(&run->plans[layer], out, &block, 1);
    if (columns == step) return;
    const size_t size = run->plans[layer].dtype == FI_FLOAT64 ? sizeof(double) : sizeof(float);
    char *bytes = out;
    for (size_t r = rows; r-- > 0;) { /* spread out from the back */
        memmove(bytes + r * step * size, bytes + r * columns * size, columns * size);
        memset(bytes + (r * step + columns) * size, 0, (step - columns) * size);
    }
}

/* ---- memory: the caller's one block, cut up the same way to measure it and to use it ------- */

typedef struct {
    char *base; /* NULL: measuring */
    size_t used;
} arena;

static void *take(arena *a, size_t bytes) {
    void *p = a->base ? a->base + a->used : NULL;
    a->used += (bytes + FI_LINE - 1) / FI_LINE * FI_LINE;
    return p;
}

/* An entry of a table that is itself in the block. */
static void put(const arena *a, void **table, size_t i, void *p) {
    if (a->base) table[i] = p;
}

typedef struct {
    fi_stack_job job;
    const fi_stack_kernels *kernels;
    size_t real_size;
    size_t segment;     /* layers between checkpoints */
    int from_input;     /* some layer's derivative must be kept; in segments then all are, as they share memory */
    unsigned parts;     /* of the batch: each takes its rows through all layers */
    unsigned workers;   /* for the parts, and then for the weight gradients */
    size_t *first_task; /* weight gradients: first_task[l] .. first_task[l + 1] - 1 are layer l's panels */
    fi_counter next_part, parts_done, next_task;
} launch;

static size_t panels(const launch *all, size_t width) {
    return (width + all->job.columns - 1) / all->job.columns;
}

/* The arrays of pointers and offsets. */
static void lay_out_tables(launch *all, arena *a) {
    fi_stack_job *job = &all->job;
    const fi_stack_run *run = job->run;
    const size_t depth = run->depth;
    job->activations = take(a, (depth + 1) * sizeof(void *));
    job->slopes = take(a, depth * sizeof(void *));
    job->gradients = take(a, (depth + 1) * sizeof(void *));
    job->is_source = take(a, depth + 1);
    all->first_task = take(a, (depth + 1) * sizeof(size_t));
    job->panel = take(a, all->parts * sizeof(void *));
    job->drawn = take(a, all->parts * sizeof(void *));
    job->record_of = take(a, all->parts * sizeof(void *));
    job->alive = take(a, all->parts * sizeof(void *));
    job->saturated = take(a, all->parts * sizeof(void *));
    job->extremes = take(a, all->parts * sizeof(void *));
    if (!a->base) return;
    all->first_task[0] = 0;
    memset(job->is_source, 0, depth + 1);
    for (size_t l = 0; l < depth; l++) {
        all->first_task[l + 1] = all->first_task[l] + panels(all, run->widths[l + 1]);
        if (run->skips && run->skips[l] >= 0) job->is_source[run->skips[l]] = 1;
    }
    job->first_panel = all->first_task;
}

/* What must start at zero. */
static void lay_out_zeros(launch *all, arena *a) {
    fi_stack_job *job = &all->job;
    const size_t depth = job->run->depth;
    if (!job->record) return;
    size_t units = 0;
    for (size_t l = 0; l < depth; l++) units += panels(all, job->run->widths[l + 1]) * job->columns;
    job->moments = take(a, depth * FI_QUANTITIES * job->groups * sizeof(fi_partial_moments));
    for (unsigned w = 0; w < all->parts; w++) {
        put(a, job->alive, w, take(a, units * all->real_size));
        put(a, (void **)job->saturated, w, take(a, depth * sizeof(uint64_t)));
        put(a, (void **)job->extremes, w, take(a, depth * FI_QUANTITIES * sizeof(fi_extremes)));
    }
}

static void lay_out_numbers(launch *all, arena *a) {
    fi_stack_job *job = &all->job;
    const fi_stack_run *run = job->run;
    const size_t depth = run->depth, unit = job->rows * job->columns * all->real_size;
    size_t widest = 0;
    for (size_t l = 0; l <= depth; l++)
        if (run->widths[l] > widest) widest = run->widths[l];
    const size_t layer = panels(all, widest) * unit;
    const size_t groups = (job->groups + all->parts - 1) / all->parts;
    for (unsigned w = 0; w < all->parts; w++) {
        put(a, job->panel, w, take(a, widest * job->columns * all->real_size));
        if (!run->weights) put(a, job->drawn, w, take(a, widest * job->columns * all->real_size));
        if (job->record)
            put(a, job->record_of, w,
                take(a, all->kernels->record_size + groups * FI_GROUP * all->kernels->row_record_size));
    }
    /* Backward passes read every layer's values; weight gradients read every layer's gradients too. */
    void *two[2] = {NULL, NULL};
    for (size_t l = 0; l <= depth; l++) {
        void *p;
        if (all->segment && l % all->segment && l > all->segment) /* its place in the first segment */
            p = a->base ? job->activations[l % all->segment] : NULL;
        else if (run->backward || run->skips)
            p = take(a, all->segment ? layer : panels(all, run->widths[l]) * unit);
        else p = l < 2 ? (two[l] = take(a, layer)) : two[l % 2];
        put(a, job->activations, l, p);
    }
    for (size_t l = 0; l < depth; l++) {
        const int from_input = fi_activation_traits[run->activations[l]].from_input;
        const int kept = all->segment ? all->from_input : from_input || (run->skips && run->skips[l] >= 0);
        void *p = NULL;
        if (all->segment && l >= all->segment) p = a->base ? job->slopes[l % all->segment] : NULL;
        else if (run->backward && kept) p = take(a, all->segment ? layer : panels(all, run->widths[l + 1]) * unit);
        put(a, job->slopes, l, p);
    }
    if (!run->backward) return;
    if (run->skips) job->skipped = take(a, layer);
    for (size_t l = 0; l < depth; l++) {
        void *p;
        if (run->weight_gradients) p = take(a, panels(all, run->widths[l + 1]) * unit);
        else p = l < 2 ? (two[l] = take(a, layer)) : two[l % 2];
        put(a, job->gradients, l, p);
    }
    put(a, job->gradients, depth, take(a, panels(all, run->widths[0]) * unit));
}

/* Sizes and partition of a run, and its memory where `workspace` is one; returns how many bytes it takes. */
static size_t prepare(launch *all, const fi_stack_run *run, fi_dtype dtype, unsigned threads,
                      void *workspace) {
    *all = (launch){.kernels = fi_active()->stack[dtype],
                    .real_size = dtype == FI_FLOAT64 ? sizeof(double) : sizeof(float)};
    fi_stack_job *job = &all->job;
    job->run = run;
    job->columns = all->kernels->columns;
    job->groups = (run->batch + FI_GROUP - 1) / FI_GROUP;
    job->rows = job->groups * FI_GROUP;
    job->record = run->statistics != NULL;
    /* Where not even the weights are stored: checkpoints and one segment, some 2 sqrt(depth) layers. */
    if (!run->weights && run->backward)
        while (all->segment * all->segment < run->depth) all->segment++;
    for (size_t l = 0; l < run->depth; l++)
        if (fi_activation_traits[run->activations[l]].from_input) all->from_input = 1;

    /* A thread costs some 30 us: one for each two million multiply-adds, and for each group of rows. */
    double products = 0;
    for (size_t l = 0; l < run->depth; l++)
        products += (double)run->widths[l] * (double)run->widths[l + 1] * (double)run->batch;
    all->workers = threads > 1 ? threads : 1;
    if ((double)all->workers > products / 2e6) all->workers = (unsigned)(products / 2e6) + 1;
    all->parts = all->workers;
    if (all->parts > job->groups) all->parts = job->groups ? (unsigned)job->groups : 1;

    arena a = {workspace, 0};
    if (workspace) take(&a, (FI_LINE - (uintptr_t)workspace % FI_LINE) % FI_LINE);
    lay_out_tables(all, &a);
    const size_t zeros = a.used;
    lay_out_zeros(all, &a);
    if (workspace && run->phases & FI_FORWARD) memset(a.base + zeros, 0, a.used - zeros);
    lay_out_numbers(all, &a);
    return a.used + 2 * FI_LINE;
}

size_t fi_stack_workspace(const fi_stack_run *run, fi_dtype dtype, unsigned threads) {
    launch all;
    return run->depth == 0 ? 0 : prepare(&all, run, dtype, threads, NULL);
}

/* ---- phases ----------------------------------------------------------------------------- */

static void run_part(launch *all, unsigned part, size_t begin, size_t end) {
    const size_t depth = all->job.run->depth, segment = all->segment ? all->segment : depth;
    const int phases = all->job.run->phases;
    if (phases & FI_FORWARD) all->kernels->forward(&all->job, part, begin, end, 0, depth, 0);
    if (!(phases & FI_BACKWARD)) return;
    for (size_t first = (depth - 1) / segment * segment;; first -= segment) {
        const size_t last = depth - first < segment ? depth : first + segment;
        if (last < depth) all->kernels->forward(&all->job, part, begin, end, first, last, 1);
        all->kernels->backward(&all->job, part, begin, end, first, last);
        if (first == 0) return;
    }
}

static void run_parts(launch *all) {
    for (uint64_t part; (part = fi_ticket(&all->next_part)) < all->parts;) {
        const size_t begin = all->job.groups * part / all->parts * FI_GROUP;
        const size_t end = all->job.groups * (part + 1) / all->parts * FI_GROUP;
        if (begin < end) run_part(all, (unsigned)part, begin, end);
        fi_ticket(&all->parts_done);
    }
}

static void run_weight_gradients(launch *all) {
    const size_t depth = all->job.run->depth, tasks = all->first_task[depth];
    size_t layer = 0;
    for (size_t t; (t = (size_t)fi_ticket(&all->next_task)) < tasks;) {
        while (t >= all->first_task[layer + 1]) layer++;
        all->kernels->weight_gradient(&all->job, layer, t - all->first_task[layer]);
    }
}

/* One launch for both phases: threads are dear beside a narrow stack. */
static void work(void *context, unsigned worker, unsigned workers) {
    launch *all = context;
    (void)worker, (void)workers;
    run_parts(all);
    if (!(all->job.run->phases & FI_BACKWARD) || !all->job.run->weight_gradients) return;
    fi_wait_until(&all->parts_done, all->parts);
    run_weight_gradients(all);
}

static fi_moments merged(const launch *all, size_t layer, int quantity) {
    const fi_stack_job *job = &all->job;
    const size_t which = layer * FI_QUANTITIES + (size_t)quantity;
    if (quantity == FI_GRADIENT && !job->run->backward) return (fi_moments){NAN, NAN, NAN, NAN, NAN, NAN};
    fi_partial_moments total = {0, NAN, NAN};
    for (size_t g = 0; g < job->groups; g++) fi_moments_merge(&total, &job->moments[which * job->groups + g]);
    const double variance = total.deviations / total.count;
    fi_moments all_parts = {total.mean, variance, variance + total.mean * total.mean, INFINITY, -INFINITY, 0};
    for (unsigned w = 0; w < all->parts && job->groups; w++) {
        const fi_extremes *e = &job->extremes[w][which];
        if (e->low < all_parts.low) all_parts.low = e->low;
        if (e->high > all_parts.high) all_parts.high = e->high;
        all_parts.non_finite += (double)e->non_finite;
    }
    return all_parts;
}

static void summarise(const launch *all) {
    const fi_stack_run *run = all->job.run;
    for (size_t l = 0; l < run->depth; l++) {
        uint64_t saturated = 0;
        for (unsigned w = 0; w < all->parts; w++) saturated += all->job.saturated[w][l];
        const double width = (double)run->widths[l + 1];
        run->statistics[l] = (fi_layer_statistics){
            .pre_activation = merged(all, l, FI_PRE_ACTIVATION),
            .activation = merged(all, l, FI_VALUE),
            .gradient = merged(all, l, FI_GRADIENT),
            .saturated = (double)saturated / (width * (double)run->batch),
            .dead = run->batch ? (double)all->kernels->dead(&all->job, all->parts, l) / width : NAN,
        };
    }
}

static void copy(void *target, const void *source, size_t bytes) {
    if (target && bytes) memcpy(target, source, bytes);
}

void fi_stack_propagate(const fi_stack_run *run, fi_dtype dtype, unsigned threads, void *workspace) {
    if (run->depth == 0) { /* the identity */
        const size_t size = dtype == FI_FLOAT64 ? sizeof(double) : sizeof(float);
        copy(run->y, run->x, run->batch * run->widths[0] * size);
        if (run->dy) copy(run->dx, run->dy, run->batch * run->widths[0] * size);
        return;
    }
    launch all;
    prepare(&all, run, dtype, threads, workspace);
    const fi_fpenv saved = fi_fpenv_enter();
    fi_parallel(all.workers, work, &all);
    if (run->statistics) summarise(&all);
    fi_fpenv_leave(saved);
}

double fi_fma_loop(fi_dtype dtype, uint64_t rounds) {
    return (double)rounds * fi_active()->stack[dtype]->fma_loop(rounds);
}
