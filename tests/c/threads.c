/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Calls that make four threads each, from three threads at once, while the instruction set changes under those that
 * allow it; for sanitizers, without Python. Every result must have the bytes that one thread alone makes. Then the same
 * calls, given up in the middle.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastinit.h"

enum { CALLERS = 3, THREADS = 4 };

/* All output of a call. */
typedef struct {
    size_t bytes;
    char *data;
} result;

static void *block_of(size_t bytes) { /* of that size: a sanitizer sees the first byte too many */
    void *p = malloc(bytes);
    if (!p) exit(2);
    memset(p, 0, bytes);
    return p;
}

static result result_of(size_t bytes) { return (result){bytes, block_of(bytes)}; }

static fi_plan normal_plan(fi_dtype dtype, uint64_t stream) {
    const fi_dist dist = {.law = FI_NORMAL, .b = 0.1};
    fi_plan plan;
    if (fi_plan_make(&plan, &dist, dtype, (fi_key){7, stream}) != FI_OK) exit(2);
    return plan;
}

/* Three tensors, 5 MB: cuts between threads fall inside and between them. */
static result fill(unsigned threads, fi_watch *watch) {
    const fi_plan plans[3] = {normal_plan(FI_FLOAT32, 1), normal_plan(FI_FLOAT64, 2), normal_plan(FI_BFLOAT16, 3)};
    const uint64_t counts[3] = {600001, 300000, 100003};
    result r = result_of(8 * 300000 + 4 * 600001 + 2 * 100003);
    const fi_piece pieces[3] = {{&plans[1], r.data, 5, counts[1]},
                                {&plans[0], r.data + 8 * 300000, 0, counts[0]},
                                {&plans[2], r.data + 8 * 300000 + 4 * 600001, 77, counts[2]}};
    fi_fill_many(pieces, 3, threads, watch);
    return r;
}

/* Every third row, backwards, every other column: 4.5 MB. */
static result fill_block(unsigned threads, fi_watch *watch) {
    const fi_plan plan = normal_plan(FI_FLOAT32, 4);
    const fi_region block = {.first = 3300 * 2048, .dimensions = 2, .counts = {1100, 1024}, .strides = {-3 * 2048, 2}};
    result r = result_of(4 * 1100 * 1024);
    fi_fill_region(&plan, r.data, &block, threads, watch);
    return r;
}

/* 8.6 million multiply-adds, four times as many of complex numbers. */
static result haar(unsigned threads, int parts, fi_watch *watch) {
    enum { ROWS = 190, COLUMNS = 150 };
    result r = result_of(sizeof(float) * (size_t)parts * ROWS * COLUMNS);
    const fi_haar_args run = {.key = {7, 5}, .rows = ROWS, .columns = COLUMNS, .count = COLUMNS, .gain = 1, .parts = parts,
                             .out = r.data};
    if (fi_haar(&run, FI_FLOAT32, threads, watch) != FI_OK) exit(2);
    return r;
}

static result haar_real(unsigned threads, fi_watch *watch) { return haar(threads, 1, watch); }
static result haar_complex(unsigned threads, fi_watch *watch) { return haar(threads, 2, watch); }

/* Forward and back, with a residual block, biases, statistics, norms and a pair of samples, and the weights stored or drawn: then
 * no weight gradients, but checkpoints. 8.6 million multiply-adds; the batch is of five groups of rows. */
static result propagate(unsigned threads, int stored, fi_watch *watch) {
    enum { DEPTH = 5, BATCH = 37, WIDTH = 240 };
    const size_t widths[DEPTH + 1] = {WIDTH, WIDTH, WIDTH, WIDTH, WIDTH, 10};
    const int activations[DEPTH] = {FI_TANH, FI_RELU, FI_SIN, FI_GELU, FI_LINEAR}, skips[DEPTH] = {-1, -1, 1, -1, -1};
    const double parameters[DEPTH] = {0};
    const fi_plan weights = normal_plan(FI_FLOAT32, 6);
    fi_plan plans[DEPTH];
    void *w[DEPTH], *b[DEPTH], *dw[DEPTH] = {NULL}, *db[DEPTH] = {NULL};
    size_t numbers = BATCH * (WIDTH + 10);
    for (int l = 0; l < DEPTH; l++) numbers += stored ? (widths[l] + 1) * widths[l + 1] : 0;
    result r = result_of(DEPTH * sizeof(fi_layer_statistics) + 3 * DEPTH * sizeof(double) + sizeof(float) * numbers);
    double *norms = (double *)(void *)(r.data + DEPTH * sizeof(fi_layer_statistics));
    float *out = (float *)(norms + 3 * DEPTH);
    static const size_t pair[2] = {0, BATCH - 1};
    float *x = block_of(sizeof(float) * BATCH * WIDTH), *dy = block_of(sizeof(float) * BATCH * 10);
    fi_fill(&weights, x, 0, BATCH * WIDTH, 1, NULL);
    fi_fill(&weights, dy, 0, BATCH * 10, 1, NULL);
    fi_stack_args run = {.depth = DEPTH, .batch = BATCH, .widths = widths, .activations = activations,
                        .parameters = parameters, .residual_sources = skips, .alpha = 0.5, .plans = plans, .biases = (const void *const *)b,
                        .backward = 1, .phases = FI_FORWARD | FI_BACKWARD, .x = x, .dy = dy, .y = out,
                        .dx = out + BATCH * 10, .statistics = (fi_layer_statistics *)(void *)r.data, .norms = norms,
                        .pairs_count = 1, .pairs = pair, .cosines = norms + DEPTH};
    out += BATCH * (WIDTH + 10);
    for (int l = 0; l < DEPTH; l++) {
        const size_t n = widths[l] * widths[l + 1];
        plans[l] = normal_plan(FI_FLOAT32, 10 + (uint64_t)l);
        w[l] = block_of(sizeof(float) * n);
        b[l] = block_of(sizeof(float) * widths[l + 1]);
        fi_fill(&plans[l], w[l], 0, n, 1, NULL);
        fi_fill(&weights, b[l], 0, widths[l + 1], 1, NULL);
        if (!stored) continue;
        dw[l] = out, out += n;
        db[l] = out, out += widths[l + 1];
    }
    if (stored) {
        run.weights = (const void *const *)w;
        run.weight_gradients = dw;
        run.bias_gradients = db;
    }
    void *workspace = block_of(fi_stack_workspace(&run, FI_FLOAT32, threads));
    fi_stack_propagate(&run, FI_FLOAT32, threads, workspace, watch);
    for (int l = 0; l < DEPTH; l++) free(w[l]), free(b[l]);
    free(x), free(dy), free(workspace);
    return r;
}

static result propagate_stored(unsigned threads, fi_watch *watch) { return propagate(threads, 1, watch); }
static result propagate_drawn(unsigned threads, fi_watch *watch) { return propagate(threads, 0, watch); }

static const struct {
    const char *name;
    result (*call)(unsigned threads, fi_watch *watch);
} calls[] = {{"fill_many", fill}, {"fill_block", fill_block}, {"haar", haar_real},
             {"complex haar", haar_complex}, {"stack", propagate_stored},
             {"stack of drawn weights", propagate_drawn}};
enum { CALLS = sizeof calls / sizeof *calls };

static result expected[CALLS];
static int wrong[CALLERS];

static int never(void *asked) {
    ++*(int *)asked;
    return 0;
}

static int now(void *asked) {
    ++*(int *)asked;
    return 1;
}

/* One that asks as soon as it is looked at. */
static fi_watch watch_of(int (*ask)(void *), int *asked) {
    fi_watch watch;
    fi_watch_begin(&watch, ask, asked);
    watch.next = 0;
    return watch;
}

static void check(int caller, int call) {
    int asked = 0;
    fi_watch watch = watch_of(never, &asked);
    result r = calls[call].call(THREADS, &watch);
    if (memcmp(r.data, expected[call].data, r.bytes) != 0) {
        printf("%s, caller %d: other bytes than one thread makes\n", calls[call].name, caller);
        wrong[caller]++;
    }
    free(r.data);
}

/* Callers walk the calls from another one each, so that all meet all. */
static void *caller(void *number) {
    const int me = *(const int *)number;
    for (int i = 0; i < CALLS; i++) check(me, (i + me) % CALLS);
    return NULL;
}

static void *filler(void *number) {
    for (int i = 0; i < 2; i++) check(*(const int *)number, i);
    return NULL;
}

/* A call that is given up asks once, says so, and leaves nothing behind that a sanitizer finds. */
static void *quitter(void *number) {
    const int me = *(const int *)number;
    for (int i = 0; i < CALLS; i++) {
        int asked = 0;
        fi_watch watch = watch_of(now, &asked);
        free(calls[(i + me) % CALLS].call(2, &watch).data);
        if (watch.stopped && asked == 1) continue;
        printf("%s, caller %d: expected one question, got %d\n", calls[(i + me) % CALLS].name, me, asked);
        wrong[me]++;
    }
    return NULL;
}

static void at_once(void *(*body)(void *), int choose_sets) {
    pthread_t threads[CALLERS];
    int numbers[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, body, &numbers[i]) != 0) exit(2);
    }
    for (int i = 0; choose_sets && fi_isa_available((size_t)i); i++) fi_isa_select(fi_isa_available((size_t)i));
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
}

int main(void) {
    int bad = 0;
    for (int i = 0; i < CALLS; i++) expected[i] = calls[i].call(1, NULL);
    for (int i = 0; fi_isa_available((size_t)i); i++) {
        fi_isa_select(fi_isa_available((size_t)i));
        at_once(caller, 0);
        at_once(quitter, 0);
        printf("%s: %d calls from %d threads at once\n", fi_isa_name(), CALLS, CALLERS);
    }
    at_once(filler, 1);
    for (int i = 0; i < CALLERS; i++) bad += wrong[i];
    for (int i = 0; i < CALLS; i++) free(expected[i].data);
    return bad != 0;
}
