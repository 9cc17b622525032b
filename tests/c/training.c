/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Losses, batches and optimizers on all instruction sets of this CPU, in blocks of memory that end where the numbers end;
 * for sanitizers, without Python. Every set must give the bytes of the first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastinit.h"

enum { ROWS = 11, CLASSES = 19, COUNT = ROWS * CLASSES };

static void *block_of(size_t bytes) {
    void *p = malloc(bytes);
    if (!p) exit(2);
    return p;
}

static void *normals(fi_dtype dtype, size_t count, uint64_t stream) {
    const fi_dist dist = {.law = FI_NORMAL, .b = 2};
    fi_plan plan;
    if (fi_plan_make(&plan, &dist, dtype, (fi_key){1, stream}) != FI_OK) exit(2);
    void *out = block_of(count * (dtype == FI_FLOAT64 ? 8 : 4));
    fi_fill(&plan, out, 0, count, 1, NULL);
    return out;
}

static size_t append(char *to, const void *from, size_t bytes) {
    memcpy(to, from, bytes);
    return bytes;
}

/* Everything that one instruction set computes; returns how many bytes. */
static size_t compute(fi_dtype dtype, char *to) {
    const size_t size = dtype == FI_FLOAT64 ? 8 : 4;
    size_t used = 0, right;
    void *outputs = normals(dtype, COUNT, 1), *gradient = block_of(COUNT * size);
    void *scratch = block_of(fi_cross_entropy_scratch(CLASSES));
    double *shares = normals(FI_FLOAT64, COUNT, 2), value;
    int64_t *labels = block_of(ROWS * sizeof *labels), *order = block_of(ROWS * sizeof *order);
    for (int i = 0; i < ROWS; i++) {
        labels[i] = i * 7 % (CLASSES + 2) - 1; /* one is no class, on either side */
        order[i] = ROWS - 1 - i;
    }
    fi_cross_entropy_args run = {ROWS, CLASSES, outputs, labels, NULL, gradient};
    fi_cross_entropy(&run, dtype, scratch, &right, NULL);
    used += append(to + used, gradient, COUNT * size);
    used += append(to + used, &right, sizeof right);
    run.labels = NULL;
    run.probabilities = shares;
    value = fi_cross_entropy(&run, dtype, scratch, &right, NULL);
    used += append(to + used, &value, sizeof value);
    value = fi_squared_error(dtype, COUNT, outputs, shares, gradient, NULL);
    used += append(to + used, &value, sizeof value);
    void *gathered = block_of(COUNT * size);
    fi_gather(gathered, outputs, order, ROWS, CLASSES * size, NULL);
    used += append(to + used, gathered, COUNT * size);
    double draws[ROWS];
    size_t *bins = block_of(ROWS * sizeof *bins);
    for (int i = 0; i < ROWS; i++) draws[i] = i % 3 ? (double)(i * 5 % ROWS) / ROWS : 1 - 0x1p-53;
    fi_order(order, draws, ROWS, bins, NULL);
    used += append(to + used, order, ROWS * sizeof *order);
    free(bins);

    void *states[2] = {block_of(COUNT * size), block_of(COUNT * size)};
    for (size_t i = 0; i < FI_OPTIMIZERS; i++) {
        for (int s = 0; s < 2; s++) memset(states[s], 0, COUNT * size);
        fi_descent descent = {(fi_optimizer)i, 0.1, 0.9, 0.99, 1e-8, 1, 1};
        const fi_parameter parameters[2] = {
            {dtype, COUNT, outputs, fi_optimizer_states(i) > 0 ? states[0] : NULL,
             fi_optimizer_states(i) > 1 ? states[1] : NULL},
            {dtype, 0, outputs, NULL, NULL}};
        const void *const gradients[2] = {gradient, gradient};
        for (int step = 0; step < 3; step++) fi_descend(&descent, parameters, gradients, 2);
        used += append(to + used, outputs, COUNT * size);
    }
    void *all[] = {outputs, gradient, scratch, shares, labels, order, gathered, states[0], states[1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    return used;
}

int main(void) {
    static char first[1 << 16], other[1 << 16];
    const char *isa;
    for (int dtype = FI_FLOAT32; dtype <= FI_FLOAT64; dtype++)
        for (size_t i = 0; (isa = fi_isa_available(i)) != NULL; i++) {
            fi_isa_select(isa);
            const size_t n = compute((fi_dtype)dtype, i ? other : first);
            if (i && memcmp(first, other, n) != 0) {
                printf("training: %s differs\n", isa);
                return 1;
            }
        }
    printf("training: the same bits on every instruction set\n");
    return 0;
}
