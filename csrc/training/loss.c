/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Losses: value, gradient and the number of correct answers in one pass. Everything is summed in double precision in a fixed
 * order, and rounded to the outputs' dtype once. The result is volatile, so that no compiler computes it after the caller's
 * rounding mode has been restored.
 */
#include <math.h>
#include <string.h>

#include "core/fpenv.h"
#include "training/kernels.h"
#include "core/watch.h"

/* ---- numbers of either dtype -------------------------------------------------------------- */

static void widen(double *to, const void *from, fi_dtype dtype, size_t n) {
    if (dtype == FI_FLOAT64) memcpy(to, from, n * sizeof(double));
    else
        for (size_t i = 0; i < n; i++) to[i] = (double)((const float *)from)[i];
}

static void narrow(void *to, const double *from, fi_dtype dtype, size_t n) {
    if (dtype == FI_FLOAT64) memcpy(to, from, n * sizeof(double));
    else
        for (size_t i = 0; i < n; i++) ((float *)to)[i] = (float)from[i];
}

static size_t row_bytes(fi_dtype dtype, size_t n) { return n * fi_item_size(dtype); }

/* ---- cross-entropy ------------------------------------------------------------------------ */

/* Rows of the batch are worked on by this many: one after the other in x, and transposed in e, where each is a lane. */
enum { ROWS = FI_SOFTMAX_ROWS };

size_t fi_cross_entropy_scratch(size_t classes) { return 2 * classes * ROWS * sizeof(double); }

/* Whether x[label] is the first of the largest numbers, which are `max`. In a row with a NaN (then it is `lost`) no answer is
 * correct. */
static int is_correct(const double *x, size_t n, uint64_t label, double max, int lost) {
    if (lost)
        for (size_t i = 0; i < n; i++)
            if (x[i] != x[i]) return 0;
    for (size_t i = 0; i < label; i++)
        if (x[i] == max) return 0;
    return x[label] == max;
}

static size_t first_largest(const double *x, size_t n) {
    size_t at = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[at]) at = i;
    return at;
}

/* The rows' e^(x - max) become gradients of the loss, but for the label's own term. OUT ones: how many of them were 1, as those
 * of the largest numbers are. */
static void with_labels(double *e, size_t classes, const double *over_sum, double over_batch, double *ones) {
    for (size_t r = 0; r < ROWS; r++) ones[r] = 0;
    for (size_t c = 0; c < classes; c++, e += ROWS)
        for (size_t r = 0; r < ROWS; r++) {
            ones[r] += e[r] == 1 ? 1 : 0;
            e[r] = e[r] * over_sum[r] * over_batch;
        }
}

/* A row's gradient, where each class has a probability; returns the row's loss. A class of probability 0 adds nothing, even
 * where its loss is infinite. */
static double with_probabilities(double *e, size_t classes, double over_sum, double log_sum, double max,
                                 const double *probabilities, const double *x, double over_batch) {
    double all = 0, loss = 0;
    for (size_t c = 0; c < classes; c++) all += probabilities[c];
    for (size_t c = 0; c < classes; c++) {
        double *const at = e + c * ROWS;
        *at = (*at * over_sum * all - probabilities[c]) * over_batch; /* all: 1 but for rounding */
        if (probabilities[c] > 0) loss += probabilities[c] * (log_sum - (x[c] - max));
    }
    return loss;
}

double fi_cross_entropy(const fi_cross_entropy_args *args, fi_dtype dtype, void *scratch, size_t *correct, fi_watch *watch) {
    const fi_fpenv saved = fi_fpenv_enter();
    const size_t classes = args->classes, row = row_bytes(dtype, classes);
    const double over_batch = args->batch ? 1 / (double)args->batch : 1;
    double *x = scratch, *e = x + ROWS * classes, value = 0;
    *correct = 0;
    memset(x, 0, ROWS * classes * sizeof(double)); /* padding rows may hold anything finite */
    fi_patience patience = {watch, 0};
    for (size_t first = 0; first < args->batch; first += ROWS) {
        if (fi_patience_ends(&patience, classes)) break;
        const size_t left = args->batch - first, live = left < ROWS ? left : ROWS;
        const char *outputs = (const char *)args->outputs + first * row;
        char *gradient = (char *)args->gradient + first * row;
        fi_softmax found;
        double over_sum[ROWS], ones[ROWS];
        widen(x, outputs, dtype, live * classes);
        for (size_t c = 0; c < classes; c++)
            for (size_t r = 0; r < ROWS; r++) e[c * ROWS + r] = x[r * classes + c];
        fi_active()->training->softmax(e, classes, &found);
        for (size_t r = 0; r < ROWS; r++) over_sum[r] = 1 / found.sum[r];
        if (args->labels) with_labels(e, classes, over_sum, over_batch, ones);
        for (size_t r = 0; r < live; r++) {
            const double *own = x + r * classes;
            const int lost = !(found.sum[r] >= 1);
            if (!args->labels) {
                const double *probabilities = args->probabilities + (first + r) * classes;
                value += with_probabilities(e + r, classes, over_sum[r], found.log_sum[r], found.max[r], probabilities, own,
                                            over_batch);
                *correct += (size_t)is_correct(own, classes, first_largest(probabilities, classes), found.max[r], lost);
                continue;
            }
            const uint64_t label = (uint64_t)args->labels[first + r];
            if (label >= classes) {
                value = NAN;
                continue;
            }
            value += found.log_sum[r] - (own[label] - found.max[r]);
            e[label * ROWS + r] -= over_batch;
            if (!lost && ones[r] == 1) *correct += own[label] == found.max[r]; /* the only largest: the first */
            else *correct += (size_t)is_correct(own, classes, label, found.max[r], lost);
        }
        for (size_t r = 0; r < live; r++)
            for (size_t c = 0; c < classes; c++) x[r * classes + c] = e[c * ROWS + r];
        narrow(gradient, x, dtype, live * classes);
    }
    const volatile double mean = value * over_batch;
    fi_fpenv_leave(saved);
    return mean;
}

/* ---- squared error ------------------------------------------------------------------------ */

double fi_squared_error(fi_dtype dtype, size_t n, const void *outputs, const double *targets, void *gradient,
                        fi_watch *watch) {
    const fi_fpenv saved = fi_fpenv_enter();
    const double two_over_n = n ? 2 / (double)n : 2;
    double sums[8] = {0};
    fi_patience patience = {watch, 0};
    for (size_t i = 0; i < n; i += 8) {
        if (fi_patience_ends(&patience, 1)) break;
        const size_t live = n - i < 8 ? n - i : 8;
        double x[8];
        widen(x, (const char *)outputs + row_bytes(dtype, i), dtype, live);
        for (size_t l = 0; l < live; l++) {
            const double d = x[l] - targets[i + l];
            sums[l] += d * d;
            x[l] = d * two_over_n;
        }
        narrow((char *)gradient + row_bytes(dtype, i), x, dtype, live);
    }
    const double sum = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    const volatile double mean = sum / (n ? (double)n : 1);
    fi_fpenv_leave(saved);
    return mean;
}

/* ---- batches ------------------------------------------------------------------------------ */

void fi_gather(void *out, const void *source, const int64_t *rows, size_t count, size_t bytes, fi_watch *watch) {
    fi_patience patience = {watch, 0};
    for (size_t i = 0; i < count; i++) {
        memcpy((char *)out + i * bytes, (const char *)source + (size_t)rows[i] * bytes, bytes);
        if (fi_patience_ends(&patience, bytes / 64 + 1)) return;
    }
}

/* Which of n equal intervals of [0, 1) holds u. */
static size_t bin(double u, size_t n) {
    const size_t b = (size_t)(u * (double)n);
    return b < n ? b : n - 1; /* where the product rounds up */
}

/* A bucket sort, and an insertion sort over all: uniform draws fall into n equal bins, about one into each. */
void fi_order(int64_t *order, const double *draws, size_t n, size_t *ends, fi_watch *watch) {
    fi_patience patience = {watch, 0};
    memset(ends, 0, n * sizeof *ends);
    for (size_t i = 0; i < n; i++) {
        ends[bin(draws[i], n)]++;
        if (fi_patience_ends(&patience, 1)) return;
    }
    for (size_t b = 1; b < n; b++) ends[b] += ends[b - 1];
    for (size_t i = n; i-- > 0;) {
        order[--ends[bin(draws[i], n)]] = (int64_t)i;
        if (fi_patience_ends(&patience, 1)) return;
    }
    for (size_t k = 1; k < n; k++) {
        if (fi_patience_ends(&patience, 1)) return;
        const int64_t moved = order[k];
        const double draw = draws[moved];
        size_t to = k;
        for (; to > 0 && draws[order[to - 1]] > draw; to--) order[to] = order[to - 1];
        order[to] = moved;
    }
}
