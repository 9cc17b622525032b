/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A random orthogonal matrix, exactly Haar distributed, as a product of random reflections (Stewart, "The efficient
 * generation of random orthogonal matrices with an application to condition estimators", 1980): half the
 * arithmetic of a QR decomposition of a normal matrix, and its columns alone of each other. Three phases, each
 * a launch of the threads: draw rows, make reflections of blocks, apply them to panels of columns.
 */
#include "linalg/haar.h"

#include <stdlib.h>

#include "core/fpenv.h"
#include "core/parallel.h"

#define FI_LINE 64
/* Of one task, at most; of long rows fewer, as a task is not given up. */
#define FI_DRAWN_ROWS 64
#define FI_DRAWN_NUMBERS ((size_t)1 << 18)

typedef struct {
    fi_haar_job job;
    const fi_haar_kernels *kernels;
    size_t drawn_rows; /* an even number */
    fi_counter next;
} launch;

static void draw(void *context, unsigned worker, unsigned workers) {
    launch *all = context;
    (void)workers;
    const size_t rows = all->drawn_rows;
    for (size_t begin; (begin = rows * (size_t)fi_ticket(&all->next)) < all->job.rows;) {
        if (fi_stopped(all->job.watch)) return;
        const size_t end = all->job.rows - begin < rows ? all->job.rows : begin + rows;
        all->kernels->draw(&all->job, worker, begin, end);
    }
}

static void reflect(void *context, unsigned worker, unsigned workers) {
    launch *all = context;
    (void)workers;
    for (size_t k; (k = (size_t)fi_ticket(&all->next)) < all->job.blocks;) {
        if (fi_stopped(all->job.watch)) return;
        all->kernels->reflect(&all->job, worker, k);
    }
}

/* Later columns need more reflections: the last group first, so that the threads end together. */
static void apply(void *context, unsigned worker, unsigned workers) {
    launch *all = context;
    const size_t width = all->job.panels * all->kernels->columns;
    const size_t groups = (all->job.run->count + width - 1) / width;
    (void)workers;
    for (size_t g; (g = (size_t)fi_ticket(&all->next)) < groups;) {
        if (fi_stopped(all->job.watch)) return;
        all->kernels->apply(&all->job, worker, groups - 1 - g);
    }
}

static void phase(launch *all, unsigned workers, void (*work)(void *, unsigned, unsigned)) {
    all->next = 0;
    fi_parallel(workers, work, all, all->job.watch);
}

static char *aligned(char *p) { return p + (FI_LINE - (uintptr_t)p % FI_LINE) % FI_LINE; }

fi_status fi_haar(const fi_haar_args *run, fi_dtype dtype, unsigned threads, fi_watch *watch) {
    if (run->count == 0 || run->rows == 0) return FI_OK;
    const fi_dist normal = {.law = FI_NORMAL, .plane = FI_PLANE_REAL, .b = 1};
    const fi_dist imaginary = {.law = FI_NORMAL, .plane = FI_PLANE_IMAGINARY, .b = 1};
    const fi_kernels *kernels = fi_active();
    launch all = {.kernels = kernels->haar[dtype]};
    fi_haar_job *job = &all.job;
    job->run = run;
    job->watch = watch;
    job->parts = (size_t)run->parts;
    fi_plan_make(&job->plan[0], &normal, dtype, run->key);
    fi_plan_make(&job->plan[1], &imaginary, dtype, run->key);
    job->fill = kernels->fill[job->plan[0].kernel][dtype];
    /* Whole tiles of at most 8 rows; a whole last block, so that T's panels are as high as the others. */
    job->rows = (job->parts * run->rows + FI_REFLECTIONS - 1) / FI_REFLECTIONS * FI_REFLECTIONS;
    job->reflections = job->parts * (run->first + run->count);
    job->blocks = (job->reflections + FI_REFLECTIONS - 1) / FI_REFLECTIONS;

    all.drawn_rows = FI_DRAWN_NUMBERS / job->reflections / 2 * 2;
    if (all.drawn_rows < 2) all.drawn_rows = 2;
    if (all.drawn_rows > FI_DRAWN_ROWS) all.drawn_rows = FI_DRAWN_ROWS;

    /* A thread costs some 30 us in each phase: one for each twenty million multiply-adds. */
    const double products = 2.0 * (double)job->rows * (double)job->reflections * (double)run->count;
    if (threads < 1) threads = 1;
    const unsigned workers = products / 2e7 < threads ? (unsigned)(products / 2e7) + 1 : threads;

    /* Several tasks a thread, so that all end together. */
    const size_t wanted = (run->count + all.kernels->columns - 1) / all.kernels->columns;
    job->panels = wanted / (4 * workers);
    if (job->panels < 1) job->panels = 1;
    if (job->panels > FI_HAAR_PANELS) job->panels = FI_HAAR_PANELS;

    const size_t size = dtype == FI_FLOAT64 ? sizeof(double) : sizeof(float);
    const size_t v = fi_haar_block(job, job->blocks) * size;
    const size_t t = job->blocks * FI_REFLECTIONS * FI_REFLECTIONS * size;
    const size_t d = job->blocks * FI_REFLECTIONS * size;
    const size_t panels = job->panels * all.kernels->columns * job->rows;
    const size_t drawn = job->parts * job->blocks * FI_REFLECTIONS;
    const size_t scratch = (panels > drawn ? panels : drawn) * size, small = all.kernels->small;
    char *memory = malloc(v + t + d + workers * (scratch + small + 2 * sizeof(void *)) + FI_LINE);
    if (!memory) return FI_ERR_MEMORY;
    char *p = aligned(memory); /* every part but the last is a multiple of a line */
    job->v = p, p += v;
    job->t = p, p += t;
    job->d = p, p += d;
    job->scratch = (void **)(p + workers * (scratch + small));
    job->small = job->scratch + workers;
    for (unsigned w = 0; w < workers; w++) {
        job->scratch[w] = p, p += scratch;
        job->small[w] = p, p += small;
    }

    const fi_fpenv saved = fi_fpenv_enter();
    phase(&all, workers, draw);
    phase(&all, workers, reflect);
    phase(&all, workers, apply);
    fi_fpenv_leave(saved);
    free(memory);
    return FI_OK;
}
