/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Losses: value, gradient and the number of right answers in one pass. Everything is summed in double precision in a fixed
 * order, and rounded to the outputs' dtype once.
 */
#include <math.h>
#include <string.h>

#include "fpenv.h"
#include "training.h"

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

static size_t row_bytes(fi_dtype dtype, size_t n) { return n * (dtype == FI_FLOAT64 ? sizeof(double) : sizeof(float)); }

/* Whether x[label] is the first of the largest, `max`; of a row with a NaN (then `lost`) the first NaN is. */
static int is_right(const double *x, size_t n, uint64_t label, double max, int lost) {
    if (label >= n) return 0;
    if (lost)
        for (size_t i = 0; i < n; i++)
            if (x[i] != x[i]) return i == label;
    if (x[label] != max) return 0;
    int earlier = 0;
    for (size_t i = 0; i < label; i++) earlier |= x[i] == max;
    return !earlier;
}

/* ---- cross-entropy ------------------------------------------------------------------------ */

size_t fi_cross_entropy_scratch(size_t classes) { return (FI_SOFTMAX_ROWS + 1) * ((classes + 7) / 8) * 8 * sizeof(double); }

/* A row's e^(x - max) become its gradient; returns its loss. `wanted` is x at the label. */
static double with_label(double *e, size_t classes, double over_sum, double log_sum, double max, int64_t label,
                         double wanted, double over_batch) {
    for (size_t c = 0; c < classes; c++) e[c] = e[c] * over_sum * over_batch;
    if ((uint64_t)label >= classes) return NAN;
    e[label] -= over_batch;
    return log_sum - (wanted - max);
}

/* The same for a share of each class; 0 times the infinite loss of an impossible class is 0. */
static double with_shares(double *e, size_t classes, double over_sum, double log_sum, double max, const double *shares,
                          const double *x, double over_batch) {
    double all = 0, loss = 0;
    for (size_t c = 0; c < classes; c++) all += shares[c];
    for (size_t c = 0; c < classes; c++) {
        e[c] = (e[c] * over_sum * all - shares[c]) * over_batch; /* all: 1 but for rounding */
        if (shares[c] > 0) loss += shares[c] * (log_sum - (x[c] - max));
    }
    return loss;
}

double fi_cross_entropy(const fi_cross_entropy_run *run, fi_dtype dtype, void *scratch, size_t *right) {
    const fi_fpenv saved = fi_fpenv_enter();
    const size_t classes = run->classes, blocks = (classes + 7) / 8, stride = 8 * blocks;
    const double over_batch = run->batch ? 1 / (double)run->batch : 1;
    double *rows = scratch, *x = rows + FI_SOFTMAX_ROWS * stride, value = 0;
    *right = 0;
    for (size_t i = 0; i < FI_SOFTMAX_ROWS * stride; i++) rows[i] = -INFINITY;
    for (size_t first = 0; first < run->batch; first += FI_SOFTMAX_ROWS) {
        const size_t left = run->batch - first, live = left < FI_SOFTMAX_ROWS ? left : FI_SOFTMAX_ROWS;
        fi_softmax found;
        for (size_t r = 0; r < live; r++) {
            widen(rows + r * stride, (const char *)run->outputs + row_bytes(dtype, (first + r) * classes), dtype, classes);
            for (size_t c = classes; c < stride; c++) rows[r * stride + c] = -INFINITY;
        }
        fi_active()->training->softmax(rows, blocks, &found);
        for (size_t r = 0; r < live; r++) {
            const size_t n = first + r, at = row_bytes(dtype, n * classes);
            double *e = rows + r * stride;
            const double over_sum = 1 / found.sum[r];
            widen(x, (const char *)run->outputs + at, dtype, classes);
            if (run->labels) {
                const int64_t label = run->labels[n];
                const double wanted = (uint64_t)label < classes ? x[label] : NAN;
                value += with_label(e, classes, over_sum, found.log_sum[r], found.max[r], label, wanted, over_batch);
                *right += (size_t)is_right(x, classes, (uint64_t)label, found.max[r], !(found.sum[r] >= 1));
            } else {
                value += with_shares(e, classes, over_sum, found.log_sum[r], found.max[r], run->shares + n * classes, x,
                                     over_batch);
            }
            narrow((char *)run->gradient + at, e, dtype, classes);
        }
    }
    fi_fpenv_leave(saved);
    return value * over_batch;
}

/* ---- squared error ------------------------------------------------------------------------ */

double fi_squared_error(fi_dtype dtype, size_t n, const void *outputs, const double *targets, void *gradient) {
    const fi_fpenv saved = fi_fpenv_enter();
    const double slope = n ? 2 / (double)n : 2;
    double sums[8] = {0};
    for (size_t i = 0; i < n; i += 8) {
        const size_t live = n - i < 8 ? n - i : 8;
        double x[8];
        widen(x, (const char *)outputs + row_bytes(dtype, i), dtype, live);
        for (size_t l = 0; l < live; l++) {
            const double d = x[l] - targets[i + l];
            sums[l] += d * d;
            x[l] = d * slope;
        }
        narrow((char *)gradient + row_bytes(dtype, i), x, dtype, live);
    }
    fi_fpenv_leave(saved);
    return (((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))) /
           (n ? (double)n : 1);
}

/* ---- batches ------------------------------------------------------------------------------ */

void fi_gather(void *out, const void *source, const int64_t *rows, size_t count, size_t bytes) {
    for (size_t i = 0; i < count; i++)
        memcpy((char *)out + i * bytes, (const char *)source + (size_t)rows[i] * bytes, bytes);
}
