/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The schedule of one pass through a stack: what is done together, what is kept, and in which order. schedule.c makes it
 * of the sizes alone, workspace.c gives it memory, propagate.c follows it, and summary.c reads what that left.
 *
 *   slice    rows of the batch, which one worker takes through the layers and back;
 *   task     what reads a layer's values of the whole batch: some micropanels of its weight gradient, the Gram matrices
 *            of some samples, or the cosines of its samples;
 *   round    layers that all slices go back through before tasks look at them: all layers, unless weights are not stored;
 *   segment  layers from one checkpoint to the next, one or more rounds. Where weights are not stored, activations are
 *            kept at checkpoints alone, and a segment is computed again before it is gone back through.
 */
#ifndef FI_SCHEDULE_H
#define FI_SCHEDULE_H

#include "stack/stack.h"

/* Layers of a round where weights are not stored: enough that the slices seldom wait for each other between rounds. */
#define FI_ROUND 16

typedef struct {
    fi_stack_shared shared;
    const fi_stack_kernels *kernels;
    size_t real_size;         /* bytes of a number */
    unsigned workers;         /* threads, for the slices and then for the tasks */
    int keep_derivatives;     /* some layer's derivative must be kept */
    int keep_gradients;       /* of all layers of a round, as tasks read the whole batch's */
    size_t segment_length;    /* layers, at least; all where all activations are kept */
    size_t round_length;      /* layers, at most */
    size_t segments, longest; /* how many, and how many layers the longest has */
    size_t rounds;
    size_t task_panels; /* micropanels of a weight gradient that one task makes */
    /* Tables in the workspace. */
    size_t *starts;             /* [round]: its first layer. Round 0 has the last layers */
    unsigned char *checkpoints; /* [layer]: a segment starts there */
    size_t *first_panel;        /* [layer]: how many micropanels the outputs of the layers before it have */
    size_t *first_task;         /* [layer]: how many tasks the layers before it have; depth + 1 numbers */
    fi_counter next, done;      /* of the list in propagate.c: pieces of work that workers have taken, and ended */
} fi_schedule;

/* OUT schedule, but for its tables, whose sizes are known then. */
void fi_schedule_make(fi_schedule *schedule, const fi_stack_args *args, fi_dtype dtype, unsigned threads);

/* OUT the tables, and shared.is_source, all in memory already. */
void fi_schedule_fill_tables(fi_schedule *schedule);

/* Cuts `workspace` up among all that the schedule and the kernels keep, and fills the tables; or measures, where it is NULL.
 * Returns how many bytes that takes. */
size_t fi_workspace_lay_out(fi_schedule *schedule, void *workspace);

/* OUT the args' statistics and norms, after both phases or a forward pass alone. */
void fi_summarise(const fi_schedule *schedule);

/* Whether the norm of a layer's weight gradient comes from Gram matrices (norm_template.h), not from the gradient itself. */
int fi_uses_gram(const fi_stack_args *args, size_t layer);

/* Whether a layer's derivative must be kept: it is no function of the values that are kept for the next layer. */
int fi_keeps_derivative(const fi_stack_args *args, size_t layer);

/* How many micropanels a matrix of `width` columns has. */
FI_INLINE size_t fi_micropanels(const fi_schedule *schedule, size_t width) {
    return (width + schedule->shared.nr - 1) / schedule->shared.nr;
}

#endif
