/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A random orthogonal matrix, exactly Haar distributed, as a product of random reflections (Stewart, "The efficient
 * generation of random orthogonal matrices with an application to condition estimators", 1980): half the
 * arithmetic of a QR decomposition of a normal matrix, and columns that can be made independently. Three phases, each over
 * threads: draw rows, turn them into blocks of reflections, apply these to micropanels of columns.
 */
#include "linalg/haar.h"

#include <stdlib.h>

#include "core/fpenv.h"
#include "core/parallel.h"

#define FI_LINE 64
/* Rows of one task of drawing, at most; fewer of long rows, as it is not interrupted. */
#define FI_DRAWN_ROWS 64
#define FI_DRAWN_NUMBERS ((size_t)1 << 18)

typedef struct {
    fi_haar_shared shared;
    const fi_haar_kernels *kernels;
    size_t drawn_rows; /* an even number */
    fi_counter next;
} schedule;

static void draw(void *context, unsigned worker, unsigned workers) {
    schedule *all = context;
    (void)workers;
    const size_t rows = all->drawn_rows;
    for (size_t begin; (begin = rows * (size_t)fi_ticket(&all->next)) < all->shared.rows;) {
        if (fi_stopped(all->shared.watch)) return;
        const size_t end = all->shared.rows - begin < rows ? all->shared.rows : begin + rows;
        all->kernels->draw(&all->shared, worker, begin, end);
    }
}

static void reflect(void *context, unsigned worker, unsigned workers) {
    schedule *all = context;
    (void)workers;
    for (size_t k; (k = (size_t)fi_ticket(&all->next)) < all->shared.blocks;) {
        if (fi_stopped(all->shared.watch)) return;
        all->kernels->reflect(&all->shared, worker, k);
    }
}

/* Later columns need more reflections: the last group first, so that the threads end together. */
static void apply(void *context, unsigned worker, unsigned workers) {
    schedule *all = context;
    const size_t width = all->shared.panels * all->kernels->nr;
    const size_t groups = (all->shared.args->count + width - 1) / width;
    (void)workers;
    for (size_t g; (g = (size_t)fi_ticket(&all->next)) < groups;) {
        if (fi_stopped(all->shared.watch)) return;
        all->kernels->apply(&all->shared, worker, groups - 1 - g);
    }
}

static void phase(schedule *all, unsigned workers, void (*work)(void *, unsigned, unsigned)) {
    all->next = 0;
    fi_parallel(workers, work, all, all->shared.watch);
}

static char *aligned(char *p) { return p + (FI_LINE - (uintptr_t)p % FI_LINE) % FI_LINE; }

fi_status fi_haar(const fi_haar_args *args, fi_dtype dtype, unsigned threads, fi_watch *watch) {
    if (args->count == 0 || args->rows == 0) return FI_OK;
    const fi_dist normal = {.law = FI_NORMAL, .plane = FI_PLANE_REAL, .b = 1};
    const fi_dist imaginary = {.law = FI_NORMAL, .plane = FI_PLANE_IMAGINARY, .b = 1};
    const fi_kernels *kernels = fi_active();
    schedule all = {.kernels = kernels->haar[dtype]};
    fi_haar_shared *shared = &all.shared;
    shared->args = args;
    shared->watch = watch;
    shared->parts = (size_t)args->parts;
    fi_plan_make(&shared->plan[0], &normal, dtype, args->key);
    fi_plan_make(&shared->plan[1], &imaginary, dtype, args->key);
    shared->fill = kernels->fill[shared->plan[0].kernel][dtype];
    /* Whole tiles of at most 8 rows; a whole last block, so that T's panels are as high as the others. */
    shared->rows = (shared->parts * args->rows + FI_REFLECTIONS - 1) / FI_REFLECTIONS * FI_REFLECTIONS;
    shared->reflections = shared->parts * (args->first + args->count);
    shared->blocks = (shared->reflections + FI_REFLECTIONS - 1) / FI_REFLECTIONS;

    all.drawn_rows = FI_DRAWN_NUMBERS / shared->reflections / 2 * 2;
    if (all.drawn_rows < 2) all.drawn_rows = 2;
    if (all.drawn_rows > FI_DRAWN_ROWS) all.drawn_rows = FI_DRAWN_ROWS;

    /* A thread costs some 30 us in each phase: one for each twenty million multiply-adds. */
    const double products = 2.0 * (double)shared->rows * (double)shared->reflections * (double)args->count;
    if (threads < 1) threads = 1;
    const unsigned workers = products / 2e7 < threads ? (unsigned)(products / 2e7) + 1 : threads;

    /* Several tasks a thread, so that all end together. */
    const size_t wanted = (args->count + all.kernels->nr - 1) / all.kernels->nr;
    shared->panels = wanted / (4 * workers);
    if (shared->panels < 1) shared->panels = 1;
    if (shared->panels > FI_HAAR_PANELS) shared->panels = FI_HAAR_PANELS;

    const size_t size = fi_item_size(dtype);
    const size_t v = fi_haar_block(shared, shared->blocks) * size;
    const size_t t = shared->blocks * FI_REFLECTIONS * FI_REFLECTIONS * size;
    const size_t d = shared->blocks * FI_REFLECTIONS * size;
    const size_t panels = shared->panels * all.kernels->nr * shared->rows;
    const size_t drawn = shared->parts * shared->blocks * FI_REFLECTIONS;
    const size_t scratch = (panels > drawn ? panels : drawn) * size, block = all.kernels->block_scratch;
    char *memory = malloc(v + t + d + workers * (scratch + block + 2 * sizeof(void *)) + FI_LINE);
    if (!memory) return FI_ERR_MEMORY;
    char *p = aligned(memory); /* every part but the last is a multiple of a line */
    shared->v = p, p += v;
    shared->t = p, p += t;
    shared->d = p, p += d;
    shared->scratch = (void **)(p + workers * (scratch + block));
    shared->block_scratch = shared->scratch + workers;
    for (unsigned w = 0; w < workers; w++) {
        shared->scratch[w] = p, p += scratch;
        shared->block_scratch[w] = p, p += block;
    }

    const fi_fpenv saved = fi_fpenv_enter();
    phase(&all, workers, draw);
    phase(&all, workers, reflect);
    phase(&all, workers, apply);
    fi_fpenv_leave(saved);
    free(memory);
    return FI_OK;
}
