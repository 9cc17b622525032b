/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A pass through a stack, over threads, by its schedule: slices of the batch forward and back, then the tasks that read
 * the whole batch. Nothing here allocates: the caller brings the workspace.
 */
#include "stack/schedule.h"

#include "core/fpenv.h"

size_t fi_stack_workspace(const fi_stack_args *args, fi_dtype dtype, unsigned threads) {
    if (args->depth == 0) return 0;
    fi_schedule schedule;
    fi_schedule_make(&schedule, args, dtype, threads);
    return fi_workspace_lay_out(&schedule, NULL);
}

void fi_stack_draw(const fi_stack_shared *shared, size_t layer, size_t first, size_t count, void *out) {
    fi_fill(&shared->args->plans[layer], out, first, count, 1, shared->watch);
}

/* ---- a slice, and a task ------------------------------------------------------------------ */

/* A slice forward, before round 0, and back through rounds first .. last-1. */
static void run_slice(fi_schedule *schedule, unsigned slice, size_t first, size_t last) {
    fi_stack_shared *shared = &schedule->shared;
    const fi_stack_kernels *kernels = schedule->kernels;
    const size_t depth = shared->args->depth;
    const int phases = shared->args->phases;
    const size_t begin = shared->groups * slice / shared->slices * FI_GROUP;
    const size_t end = shared->groups * (slice + 1) / shared->slices * FI_GROUP;
    if (begin == end) return;
    if (phases & FI_FORWARD && first == 0) kernels->forward(shared, slice, begin, end, 0, depth, 0);
    if (!(phases & FI_BACKWARD)) return;
    for (size_t r = first; r < last; r++) {
        const size_t to = r ? schedule->starts[r - 1] : depth;
        if (to < depth && schedule->checkpoints[to]) { /* another segment, to be computed again */
            size_t start = to - 1;
            while (!schedule->checkpoints[start]) start--;
            kernels->forward(shared, slice, begin, end, start, to, 1);
        }
        kernels->backward(shared, slice, begin, end, schedule->starts[r], to);
        if (fi_stopped(shared->watch)) return;
    }
}

/* The layer of a task: the last one whose first task is none after it. */
static size_t layer_of(const fi_schedule *schedule, size_t task) {
    size_t layer = 0, end = schedule->shared.args->depth;
    while (end - layer > 1) {
        const size_t middle = (layer + end) / 2;
        if (schedule->first_task[middle] <= task) layer = middle;
        else end = middle;
    }
    return layer;
}

static void run_task(fi_schedule *schedule, unsigned worker, size_t task) {
    fi_stack_shared *shared = &schedule->shared;
    const fi_stack_kernels *kernels = schedule->kernels;
    const size_t layer = layer_of(schedule, task), number = task - schedule->first_task[layer];
    if (shared->groups) fi_wait_until(&shared->arrived[layer], shared->slices, shared->watch);
    if (fi_stopped(shared->watch)) return;
    if (shared->args->cosines && task + 1 == schedule->first_task[layer + 1]) {
        kernels->cosines(shared, layer);
    } else if (fi_uses_gram(shared->args, layer)) {
        kernels->gram(shared, worker, layer, number);
    } else {
        const size_t panels = schedule->first_panel[layer + 1] - schedule->first_panel[layer];
        const size_t first = number * schedule->task_panels, rest = panels - first;
        kernels->weight_gradient(shared, layer, first, rest < schedule->task_panels ? panels : first + schedule->task_panels);
    }
}

/* ---- the list of all pieces of work ---------------------------------------------------------- */

/* Threads are started once for all pieces of work, as that takes long beside a narrow stack. The pieces stand in one list: the
 * slices, then the tasks on their layers, the last layer's first; and that for each round, if there are tasks. A worker
 * takes the next piece, and waits until what it needs is done. That ends: whatever it needs was taken before, by a worker that
 * is running. */
static void work(void *context, unsigned worker, unsigned workers) {
    fi_schedule *schedule = context;
    const size_t slices = schedule->shared.slices, depth = schedule->shared.args->depth;
    fi_watch *const watch = schedule->shared.watch;
    (void)workers;
    const int tasks = schedule->keep_gradients && schedule->shared.args->phases & FI_BACKWARD;
    const size_t rounds = tasks ? schedule->rounds : 1;
    size_t round = 0, begin = 0; /* of the list: the round's first piece */
    for (uint64_t next = fi_ticket(&schedule->next); round < rounds; round++) {
        const size_t last = tasks ? round + 1 : schedule->rounds, to = round ? schedule->starts[round - 1] : depth;
        const size_t first_task = tasks ? schedule->first_task[schedule->starts[round]] : 0;
        const size_t end = begin + slices + (tasks ? schedule->first_task[to] - first_task : 0);
        for (; next < end; next = fi_ticket(&schedule->next)) {
            if (next < begin + slices) {
                fi_wait_until(&schedule->done, begin, watch); /* tasks have read what the round before kept */
                if (!fi_stopped(watch)) run_slice(schedule, (unsigned)(next - begin), round, last);
            } else {
                run_task(schedule, worker, first_task + (end - 1 - next));
            }
            if (fi_stopped(watch)) return;
            fi_ticket(&schedule->done);
        }
        begin = end;
    }
}

static void copy(void *target, const void *source, size_t bytes) {
    if (target && bytes) memcpy(target, source, bytes);
}

void fi_stack_propagate(const fi_stack_args *args, fi_dtype dtype, unsigned threads, void *workspace, fi_watch *watch) {
    if (args->depth == 0) { /* the identity */
        const size_t bytes = args->batch * args->widths[0] * fi_item_size(dtype);
        copy(args->y, args->x, bytes);
        if (args->dy) copy(args->dx, args->dy, bytes);
        return;
    }
    fi_schedule schedule;
    fi_schedule_make(&schedule, args, dtype, threads);
    fi_workspace_lay_out(&schedule, workspace);
    schedule.shared.watch = watch;
    const fi_fpenv saved = fi_fpenv_enter();
    fi_parallel(schedule.workers, work, &schedule, watch);
    if (args->statistics) fi_summarise(&schedule);
    fi_fpenv_leave(saved);
}

double fi_fma_loop(fi_dtype dtype, uint64_t rounds) {
    return (double)rounds * fi_active()->stack[dtype]->fma_loop(rounds);
}
