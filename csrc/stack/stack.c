/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The deep stack's sizes, memory, phases and threads. First workers take parts of the batch through all layers and
 * back. Then what looks at the whole batch, weight gradients, their norms and cosines of samples, as tasks. Then the
 * groups' moments are merged in index order. Nothing here allocates: the caller brings the workspace.
 *
 * Weights that are not stored leave their activations at checkpoints alone; the layers between two of them are a
 * segment, computed again before it is gone back through. Where tasks look at some, the parts meet every few layers.
 */
#include "stack/stack.h"

#include <math.h>
#include <string.h>

#include "core/fpenv.h"

#define FI_LINE 64
/* Layers whose gradients are kept where memory is short: so many, that the parts of the batch meet seldom. */
#define FI_STEPS 16
/* Tasks for each worker, at least where there are panels enough. */
#define FI_TASKS 8

#define FI_FROM_VALUE 0
#define FI_FROM_INPUT 1
const fi_traits fi_activation_traits[] = {
#define FI_ACTIVATION(name, NAME, from, saturated_below, value_ulp, slope_eps, left_ulp) \
    {#name, FI_FROM_##from, saturated_below, value_ulp, slope_eps, left_ulp},
#include "stack/activations.def"
};

const char *fi_activation_name(size_t index) {
    return index < FI_ACTIVATIONS ? fi_activation_traits[index].name : NULL;
}
double fi_activation_value_ulp(size_t index) { return fi_activation_traits[index].value_ulp; }
double fi_activation_derivative_eps(size_t index) { return fi_activation_traits[index].slope_eps; }
double fi_activation_left_ulp(size_t index) { return fi_activation_traits[index].left_ulp; }

void fi_activate(fi_activation activation, double parameter, fi_dtype dtype, const void *x, void *values,
                 void *slopes, size_t n, fi_watch *watch) {
    const size_t at_once = 1 << 14, size = dtype == FI_FLOAT64 ? sizeof(double) : sizeof(float);
    const fi_fpenv saved = fi_fpenv_enter();
    for (size_t i = 0; i < n && !fi_stopped(watch); i += at_once)
        fi_active()->stack[dtype]->activate(activation, parameter, (const char *)x + i * size, (char *)values + i * size,
                                            slopes ? (char *)slopes + i * size : NULL, n - i < at_once ? n - i : at_once);
    fi_fpenv_leave(saved);
}

/* ---- sizes of numbers --------------------------------------------------------------------- */

void fi_stack_exponents(const fi_stack_job *job, size_t layer, int limit, int exponents[2]) {
    double largest[2] = {0, 0};
    for (unsigned w = 0; w < job->parts && job->groups; w++) {
        const fi_extremes *e = job->extremes[w], *gradients = &e[layer * FI_QUANTITIES + FI_GRADIENT];
        const fi_extremes *values = layer ? &e[(layer - 1) * FI_QUANTITIES + FI_VALUE] : NULL;
        largest[0] = fmax(largest[0], values ? fmax(-values->low, values->high) : job->largest_input[w]);
        largest[1] = fmax(largest[1], fmax(-gradients->low, gradients->high));
    }
    for (int i = 0; i < 2; i++) exponents[i] = fi_exponent(largest[i], limit);
}

/* ---- weights that are not stored ---------------------------------------------------------- */

void fi_stack_draw(const fi_stack_job *job, size_t layer, size_t first, size_t count, void *out) {
    fi_fill(&job->run->plans[layer], out, first, count, 1, job->watch);
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
    size_t length;            /* of a segment, at least; all layers where all is kept */
    size_t segments, longest; /* their number, and layers in the longest */
    size_t steps;             /* layers back in one round, at most */
    size_t rounds, *starts;   /* their number, and their first layers, the last round's first */
    unsigned char *checkpoints; /* [layer]: a segment starts there */
    int keep_slopes;          /* some layer's derivative must be kept */
    int keep_gradients;       /* of all layers of a round: something looks at the whole batch's */
    unsigned workers;         /* for the parts, and then for the tasks */
    size_t chunk;             /* panels of a weight gradient that one task makes */
    size_t *first_panel;
    size_t *first_task; /* layer l's tasks are first_task[l] .. first_task[l + 1] - 1 */
    fi_counter next, done;
} launch;

/* Whether a layer's squares come from Gram matrices: where they cost less than the product that they avoid. */
static int by_gram(const fi_stack_args *run, size_t layer) {
    const double in = (double)run->widths[layer], out = (double)run->widths[layer + 1], batch = (double)run->batch;
    return run->norms && !run->weight_gradients && batch * (in + out) < 2 * in * out;
}

/* The derivative of a layer is no function of what is kept for others. */
static int needs_slopes(const fi_stack_args *run, size_t layer) {
    return fi_activation_traits[run->activations[layer]].from_input || (run->residual_sources && run->residual_sources[layer] >= 0);
}

static size_t panels(const launch *all, size_t width) {
    return (width + all->job.columns - 1) / all->job.columns;
}

/* Layers are cut into segments of at least all->length, which hold residual blocks whole, and these into rounds of at most
 * all->steps: from the end, so that the first is what is left. OUT starts and checkpoints, unless they are NULL. */
static void cut_layers(launch *all, size_t *starts, unsigned char *checkpoints) {
    const fi_stack_args *run = all->job.run;
    size_t end = run->depth, round_end = run->depth, source = run->depth;
    all->segments = all->longest = all->rounds = 0;
    for (size_t l = run->depth; l-- > 0;) {
        if (run->residual_sources && run->residual_sources[l] >= 0) source = (size_t)run->residual_sources[l];
        const int segment = l == 0 || (end - l >= all->length && l <= source);
        if (!segment && round_end - l < all->steps) continue;
        if (starts) starts[all->rounds] = l;
        if (checkpoints) checkpoints[l] = (unsigned char)segment;
        all->rounds++;
        round_end = l;
        if (!segment) continue;
        if (end - l > all->longest) all->longest = end - l;
        all->segments++;
        end = l;
    }
}

/* The arrays of pointers and offsets. */
static void lay_out_tables(launch *all, arena *a) {
    fi_stack_job *job = &all->job;
    const fi_stack_args *run = job->run;
    const size_t depth = run->depth;
    job->activations = take(a, (depth + 1) * sizeof(void *));
    job->slopes = take(a, depth * sizeof(void *));
    job->gradients = take(a, (depth + 1) * sizeof(void *));
    job->squares = take(a, run->norms ? depth * sizeof(void *) : 0);
    job->is_source = take(a, depth + 1);
    job->arrived = take(a, depth * sizeof(fi_counter));
    all->first_panel = take(a, (depth + 1) * sizeof(size_t));
    all->first_task = take(a, (depth + 1) * sizeof(size_t));
    all->starts = take(a, all->rounds * sizeof(size_t));
    all->checkpoints = take(a, depth);
    job->panel = take(a, all->job.parts * sizeof(void *));
    job->drawn = take(a, all->job.parts * sizeof(void *));
    job->record_of = take(a, all->job.parts * sizeof(void *));
    job->alive = take(a, all->job.parts * sizeof(void *));
    job->saturated = take(a, all->job.parts * sizeof(void *));
    job->extremes = take(a, all->job.parts * sizeof(void *));
    job->largest_input = take(a, all->job.parts * sizeof(double));
    job->gram = take(a, all->workers * sizeof(void *));
    if (!a->base) return;
    memset(all->checkpoints, 0, depth);
    memset(job->is_source, 0, depth + 1);
    memset((void *)job->arrived, 0, depth * sizeof(fi_counter));
    cut_layers(all, all->starts, all->checkpoints);
    all->first_panel[0] = all->first_task[0] = 0;
    for (size_t l = 0; l < depth; l++) {
        const size_t width = run->widths[l + 1];
        size_t tasks = 0;
        if (by_gram(run, l)) tasks = panels(all, run->batch);
        else if (run->weight_gradients || run->norms) tasks = (panels(all, width) + all->chunk - 1) / all->chunk;
        all->first_panel[l + 1] = all->first_panel[l] + panels(all, width);
        all->first_task[l + 1] = all->first_task[l] + tasks + (run->cosines != NULL);
        if (run->residual_sources && run->residual_sources[l] >= 0) job->is_source[run->residual_sources[l]] = 1;
    }
    job->first_panel = all->first_panel;
}

/* What must start at zero. */
static void lay_out_zeros(launch *all, arena *a) {
    fi_stack_job *job = &all->job;
    const size_t depth = job->run->depth;
    if (!job->record) return;
    size_t units = 0;
    for (size_t l = 0; l < depth; l++) units += panels(all, job->run->widths[l + 1]) * job->columns;
    job->moments = take(a, depth * FI_QUANTITIES * job->groups * sizeof(fi_partial_moments));
    for (unsigned w = 0; w < all->job.parts; w++) {
        put(a, (void **)job->alive, w, take(a, units / 8));
        put(a, (void **)job->saturated, w, take(a, depth * sizeof(uint64_t)));
        put(a, (void **)job->extremes, w, take(a, depth * FI_QUANTITIES * sizeof(fi_extremes)));
    }
}

/* A forward pass alone: layers take turns, and so do the inputs of residual blocks, which outlive others. */
static void lay_out_passing(launch *all, arena *a, size_t layer) {
    fi_stack_job *job = &all->job;
    void *places[2][2] = {{NULL, NULL}, {NULL, NULL}};
    size_t turns[2] = {0, 0};
    for (int source = 0; source <= (job->run->residual_sources != NULL); source++)
        for (int i = 0; i < 2; i++) places[source][i] = take(a, layer);
    if (!a->base) return;
    for (size_t l = 0; l <= job->run->depth; l++) {
        const int source = job->is_source[l];
        job->activations[l] = places[source][turns[source]++ % 2];
        if (l < job->run->depth) job->slopes[l] = NULL;
    }
}

/* Backward passes read every layer's values; what looks at the whole batch reads every layer's gradients too. */
static void lay_out_kept(launch *all, arena *a, size_t layer) {
    fi_stack_job *job = &all->job;
    const fi_stack_args *run = job->run;
    const size_t depth = run->depth, unit = job->rows * job->columns * all->real_size;
    void *two[2] = {NULL, NULL};
    for (size_t l = 0; l <= depth; l++)
        put(a, job->activations, l, take(a, panels(all, run->widths[l]) * unit));
    for (size_t l = 0; l < depth; l++) {
        const size_t bytes = panels(all, run->widths[l + 1]) * unit;
        put(a, job->slopes, l, needs_slopes(run, l) ? take(a, bytes) : NULL);
        if (!all->keep_gradients && l < 2) two[l] = take(a, layer);
        put(a, job->gradients, l, all->keep_gradients ? take(a, bytes) : two[l % 2]);
    }
}

/* The same of one segment at a time, in places that all share, and the checkpoints. */
static void lay_out_segments(launch *all, arena *a, size_t layer) {
    fi_stack_job *job = &all->job;
    const size_t depth = job->run->depth, longest = all->longest;
    char *checkpoints = take(a, (all->segments + 1) * layer);
    char *values = take(a, longest * layer);
    char *slopes = take(a, all->keep_slopes ? longest * layer : 0);
    char *gradients = take(a, (all->keep_gradients ? FI_STEPS + 1 : 2) * layer);
    if (!a->base) return;
    for (size_t l = 0, start = 0; l < depth; l++) {
        if (all->checkpoints[l]) start = l;
        const size_t at = l - start;
        job->activations[l] = at ? values + at * layer : checkpoints;
        if (at == 0) checkpoints += layer;
        job->slopes[l] = needs_slopes(job->run, l) ? slopes + at * layer : NULL;
    }
    job->activations[depth] = checkpoints;
    for (size_t r = 0, end = depth; r < all->rounds; end = all->starts[r++]) {
        for (size_t l = all->starts[r]; l < end; l++) {
            /* A round's first gradients make the next round's: two places, in turn. */
            const size_t at = l - all->starts[r], kept = at == 0 && r % 2 ? FI_STEPS : at;
            job->gradients[l] = gradients + (all->keep_gradients ? kept : l % 2) * layer;
        }
    }
}

static void lay_out_numbers(launch *all, arena *a) {
    fi_stack_job *job = &all->job;
    const fi_stack_args *run = job->run;
    const size_t depth = run->depth, unit = job->rows * job->columns * all->real_size;
    size_t widest = 0;
    for (size_t l = 0; l <= depth; l++)
        if (run->widths[l] > widest) widest = run->widths[l];
    const size_t layer = panels(all, widest) * unit;
    const size_t groups = (job->groups + all->job.parts - 1) / all->job.parts;
    for (unsigned w = 0; w < all->job.parts; w++) {
        put(a, job->panel, w, take(a, widest * job->columns * all->real_size));
        if (!run->weights) put(a, job->drawn, w, take(a, widest * FI_DRAWN * all->real_size));
        if (job->record)
            put(a, job->record_of, w,
                take(a, all->kernels->record_size + groups * FI_GROUP * all->kernels->row_record_size));
    }
    for (unsigned w = 0; run->norms && w < all->workers; w++)
        put(a, job->gram, w, take(a, 2 * widest * job->columns * all->real_size));
    for (size_t l = 0; run->norms && l < depth; l++) {
        const size_t squares = by_gram(run, l) ? run->batch : panels(all, run->widths[l + 1]) * job->columns;
        put(a, (void **)job->squares, l, take(a, squares * sizeof(double)));
    }
    if (!run->backward) lay_out_passing(all, a, layer);
    else if (all->segments > 1) lay_out_segments(all, a, layer);
    else lay_out_kept(all, a, layer);
    if (!run->backward) return;
    if (run->residual_sources) job->skipped = take(a, layer);
    put(a, job->gradients, depth, take(a, panels(all, run->widths[0]) * unit));
}

/* Sizes and partition of a run, and its memory where `workspace` is one; returns how many bytes it takes. */
static size_t prepare(launch *all, const fi_stack_args *run, fi_dtype dtype, unsigned threads,
                      void *workspace) {
    *all = (launch){.kernels = (run->kernels ? run->kernels : fi_active())->stack[dtype],
                    .real_size = dtype == FI_FLOAT64 ? sizeof(double) : sizeof(float)};
    fi_stack_job *job = &all->job;
    job->run = run;
    job->columns = all->kernels->columns;
    job->groups = (run->batch + FI_GROUP - 1) / FI_GROUP;
    job->rows = job->groups * FI_GROUP;
    job->record = run->statistics != NULL;
    all->keep_gradients = run->weight_gradients || run->norms || run->cosines;
    for (size_t l = 0; l < run->depth; l++) all->keep_slopes |= needs_slopes(run, l);
    /* Where not even the weights are stored: checkpoints and one segment, of what makes their sum least. */
    all->length = all->steps = run->depth;
    if (!run->weights && run->backward) {
        const size_t kept = 1 + (size_t)all->keep_slopes;
        for (all->length = 1; kept * all->length * all->length < run->depth;) all->length++;
        if (all->keep_gradients) all->steps = FI_STEPS;
    }
    cut_layers(all, NULL, NULL);

    /* A thread costs some 30 us: one for each two million multiply-adds, and for each group of rows. */
    double products = 0;
    for (size_t l = 0; l < run->depth; l++)
        products += (double)run->widths[l] * (double)run->widths[l + 1] * (double)run->batch;
    all->workers = threads > 1 ? threads : 1;
    if ((double)all->workers > products / 2e6) all->workers = (unsigned)(products / 2e6) + 1;
    all->job.parts = all->workers;
    if (all->job.parts > job->groups) all->job.parts = job->groups ? (unsigned)job->groups : 1;
    job->fused = run->weight_gradients && !run->cosines && all->workers == 1 && job->groups > 0;
    if (job->fused) all->keep_gradients = 0;
    /* Large tasks, as neighbouring pieces of a row disturb each other, but some for each worker. */
    size_t all_panels = 0;
    for (size_t l = 0; l < run->depth; l++) all_panels += panels(all, run->widths[l + 1]);
    all->chunk = 1 + all_panels / (FI_TASKS * (size_t)all->workers);

    arena a = {workspace, 0};
    if (workspace) take(&a, (FI_LINE - (uintptr_t)workspace % FI_LINE) % FI_LINE);
    lay_out_tables(all, &a);
    const size_t zeros = a.used;
    lay_out_zeros(all, &a);
    if (workspace && run->phases & FI_FORWARD) memset(a.base + zeros, 0, a.used - zeros);
    lay_out_numbers(all, &a);
    return a.used + 2 * FI_LINE;
}

size_t fi_stack_workspace(const fi_stack_args *run, fi_dtype dtype, unsigned threads) {
    launch all;
    return run->depth == 0 ? 0 : prepare(&all, run, dtype, threads, NULL);
}

/* ---- phases ----------------------------------------------------------------------------- */

/* Rows begin .. end-1 forward, and back through rounds first .. last-1. */
static void run_rows(launch *all, unsigned part, size_t begin, size_t end, size_t first, size_t last) {
    const size_t depth = all->job.run->depth;
    const int phases = all->job.run->phases;
    if (phases & FI_FORWARD && first == 0) all->kernels->forward(&all->job, part, begin, end, 0, depth, 0);
    if (!(phases & FI_BACKWARD)) return;
    for (size_t r = first; r < last; r++) {
        const size_t to = r ? all->starts[r - 1] : depth;
        if (to < depth && all->checkpoints[to]) { /* another segment */
            size_t start = to - 1;
            while (!all->checkpoints[start]) start--;
            all->kernels->forward(&all->job, part, begin, end, start, to, 1);
        }
        all->kernels->backward(&all->job, part, begin, end, all->starts[r], to);
        if (fi_stopped(all->job.watch)) return;
    }
}

static void run_part(launch *all, unsigned part, size_t first, size_t last) {
    const size_t begin = all->job.groups * part / all->job.parts * FI_GROUP;
    const size_t end = all->job.groups * (part + 1) / all->job.parts * FI_GROUP;
    if (begin < end) run_rows(all, part, begin, end, first, last);
}

static void run_task(launch *all, unsigned worker, size_t task) {
    fi_stack_job *job = &all->job;
    size_t layer = 0, end = job->run->depth;
    while (end - layer > 1) { /* the last layer whose first task is none after this one */
        const size_t middle = (layer + end) / 2;
        if (all->first_task[middle] <= task) layer = middle;
        else end = middle;
    }
    const size_t which = task - all->first_task[layer];
    if (job->groups) fi_wait_until(&job->arrived[layer], all->job.parts, job->watch);
    if (fi_stopped(job->watch)) return;
    if (job->run->cosines && task + 1 == all->first_task[layer + 1]) {
        all->kernels->cosines(job, layer);
    } else if (by_gram(job->run, layer)) {
        all->kernels->gram(job, worker, layer, which);
    } else {
        const size_t end = all->first_panel[layer + 1] - all->first_panel[layer], first = which * all->chunk;
        all->kernels->weight_gradient(job, layer, first, end - first < all->chunk ? end : first + all->chunk);
    }
}

/* One launch for everything: threads are dear beside a narrow stack. It is a list, of the parts of the batch and then the
 * tasks on its layers, the last layer's first, and that for each round if there are tasks. Workers take what comes next,
 * and wait until what must be there first is done; it was begun before, by workers that run. */
static void work(void *context, unsigned worker, unsigned workers) {
    launch *all = context;
    fi_watch *const watch = all->job.watch;
    (void)workers;
    const int tasks = all->keep_gradients && all->job.run->phases & FI_BACKWARD;
    const size_t rounds = tasks ? all->rounds : 1, parts = all->job.parts;
    size_t round = 0, begin = 0; /* of the list: the round's first */
    for (uint64_t next = fi_ticket(&all->next); round < rounds; round++) {
        const size_t last = tasks ? round + 1 : all->rounds, to = round ? all->starts[round - 1] : all->job.run->depth;
        const size_t first_task = tasks ? all->first_task[all->starts[round]] : 0;
        const size_t end = begin + parts + (tasks ? all->first_task[to] - first_task : 0);
        for (; next < end; next = fi_ticket(&all->next)) {
            const int is_part = next < begin + parts;
            if (is_part) {
                fi_wait_until(&all->done, begin, watch); /* what the round before kept has been looked at */
                if (!fi_stopped(watch)) run_part(all, (unsigned)(next - begin), round, last);
            } else {
                run_task(all, worker, first_task + (end - 1 - next));
            }
            if (fi_stopped(watch)) return;
            fi_ticket(&all->done);
        }
        begin = end;
    }
}

static fi_moments merged(const launch *all, size_t layer, int quantity) {
    const fi_stack_job *job = &all->job;
    const size_t which = layer * FI_QUANTITIES + (size_t)quantity;
    if (quantity == FI_GRADIENT && !job->run->backward) return (fi_moments){NAN, NAN, NAN, NAN, NAN, NAN};
    fi_partial_moments total = {0, NAN, NAN};
    for (size_t g = 0; g < job->groups; g++) fi_moments_merge(&total, &job->moments[which * job->groups + g]);
    const double variance = total.deviations / total.count;
    fi_moments all_parts = {total.mean, variance, variance + total.mean * total.mean, INFINITY, -INFINITY, 0};
    for (unsigned w = 0; w < all->job.parts && job->groups; w++) {
        const fi_extremes *e = &job->extremes[w][which];
        if (e->low < all_parts.low) all_parts.low = e->low;
        if (e->high > all_parts.high) all_parts.high = e->high;
        all_parts.non_finite += (double)e->non_finite;
    }
    /* Of two zeros either may come out as the smaller one: + 0 makes them one. */
    all_parts.low += 0;
    all_parts.high += 0;
    return all_parts;
}

/* Of a layer's weight gradient: its squares, of scaled numbers, are added in index order. */
static double norm(const launch *all, size_t layer) {
    const fi_stack_args *run = all->job.run;
    const int gram = by_gram(run, layer);
    double sum = 0;
    for (size_t i = 0; i < (gram ? run->batch : run->widths[layer + 1]); i++) sum += all->job.squares[layer][i];
    if (sum < 0) sum = 0; /* rounding may leave a tiny negative; a NaN stays one */
    if (!gram && all->real_size < sizeof(double)) return sqrt(sum);
    int exponents[2];
    fi_stack_exponents(&all->job, layer, all->real_size == sizeof(double) ? 1022 : 126, exponents);
    const int both = exponents[0] + exponents[1]; /* by halves: one alone may be beyond what they make together */
    return sqrt(sum) * fi_power_of_two(both / 2) * fi_power_of_two(both - both / 2);
}

static void summarise(const launch *all) {
    const fi_stack_args *run = all->job.run;
    for (size_t l = 0; l < run->depth && !fi_stopped(all->job.watch); l++) {
        if (run->norms) run->norms[l] = norm(all, l);
        uint64_t saturated = 0;
        for (unsigned w = 0; w < all->job.parts; w++) saturated += all->job.saturated[w][l];
        const double width = (double)run->widths[l + 1];
        run->statistics[l] = (fi_layer_statistics){
            .pre_activation = merged(all, l, FI_PRE_ACTIVATION),
            .activation = merged(all, l, FI_VALUE),
            .gradient = merged(all, l, FI_GRADIENT),
            .saturated = (double)saturated / (width * (double)run->batch),
            .dead = run->batch ? (double)all->kernels->dead(&all->job, l) / width : NAN,
        };
    }
}

static void copy(void *target, const void *source, size_t bytes) {
    if (target && bytes) memcpy(target, source, bytes);
}

void fi_stack_propagate(const fi_stack_args *run, fi_dtype dtype, unsigned threads, void *workspace, fi_watch *watch) {
    if (run->depth == 0) { /* the identity */
        const size_t size = dtype == FI_FLOAT64 ? sizeof(double) : sizeof(float);
        copy(run->y, run->x, run->batch * run->widths[0] * size);
        if (run->dy) copy(run->dx, run->dy, run->batch * run->widths[0] * size);
        return;
    }
    launch all;
    prepare(&all, run, dtype, threads, workspace);
    all.job.watch = watch;
    const fi_fpenv saved = fi_fpenv_enter();
    fi_parallel(all.workers, work, &all, watch);
    if (run->statistics) summarise(&all);
    fi_fpenv_leave(saved);
}

double fi_fma_loop(fi_dtype dtype, uint64_t rounds) {
    return (double)rounds * fi_active()->stack[dtype]->fma_loop(rounds);
}
