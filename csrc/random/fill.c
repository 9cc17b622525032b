/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fills over threads. Elements are shared out by index, so that the number of threads never shows in the bits.
 */
#include <string.h>

#include "core/fpenv.h"
#include "core/internal.h"
#include "core/parallel.h"

/* Elements between two looks at the watch, at most: 0.1 to 5 ms. 16 of them are a unit of work (watch.h). */
#define FI_AT_ONCE (UINT64_C(1) << 18)
#define FI_WORK(elements) ((size_t)(elements) / 16 + 1)

/* OUT `count` elements of a piece, from its element `skip` on. Returns whether the call is interrupted. */
static int fill_piece(const fi_piece *piece, uint64_t skip, uint64_t count, fi_patience *patience) {
    const fi_plan *plan = piece->plan;
    const fi_fill_fn fill = fi_active()->fill[plan->kernel][plan->dtype];
    char *out = (char *)piece->out + skip * fi_item_size(plan->dtype);
    uint64_t first = piece->first + skip;
    while (count) {
        const uint64_t n = count < FI_AT_ONCE ? count : FI_AT_ONCE;
        fill(plan, out, first, n);
        if (fi_patience_ends(patience, FI_WORK(n))) return 1;
        out += n * fi_item_size(plan->dtype);
        first += n;
        count -= n;
    }
    return 0;
}

typedef struct {
    const fi_piece *pieces;
    size_t count;
    uint64_t elements;
    fi_watch *watch;
} pieces_shared;

/* Worker i makes elements share_cut(i) .. share_cut(i + 1) - 1 of n. Cuts are multiples of 4096 elements, so that threads
 * share no cache line of an output that is aligned to one, and no tile of the stream. */
static uint64_t share_cut(uint64_t n, unsigned worker, unsigned workers) {
    const uint64_t cut = (n + 4095) / 4096 * worker / workers * 4096;
    return cut < n ? cut : n;
}

static void fill_share(void *context, unsigned worker, unsigned workers) {
    const pieces_shared *all = context;
    const uint64_t begin = share_cut(all->elements, worker, workers);
    const uint64_t end = share_cut(all->elements, worker + 1, workers);
    fi_patience patience = {all->watch, 0};
    uint64_t position = 0;
    for (size_t i = 0; i < all->count && position < end; i++) {
        const fi_piece *piece = &all->pieces[i];
        const uint64_t from = begin > position ? begin - position : 0;
        const uint64_t to = end - position < piece->count ? end - position : piece->count;
        if (from < to && fill_piece(piece, from, to - from, &patience)) return;
        position += piece->count;
    }
}

void fi_fill_many(const fi_piece *pieces, size_t pieces_count, unsigned threads, fi_watch *watch) {
    pieces_shared all = {pieces, pieces_count, 0, watch};
    uint64_t bytes = 0;
    for (size_t i = 0; i < pieces_count; i++) {
        all.elements += pieces[i].count;
        bytes += pieces[i].count * fi_item_size(pieces[i].plan->dtype);
    }
    const unsigned workers = fi_threads_for(bytes, threads);
    fi_parallel(workers, fill_share, &all, watch);
}

void fi_fill(const fi_plan *plan, void *out, uint64_t first, uint64_t count, unsigned threads, fi_watch *watch) {
    const fi_piece piece = {plan, out, first, count};
    fi_fill_many(&piece, 1, threads, watch);
}

/* Elements of the largest unit that a kernel makes at once: fewer cost as much. */
#define FI_STRETCH 128

typedef struct {
    const fi_plan *plan;
    const fi_region *region;
    char *out;
    uint64_t elements;
    fi_watch *watch;
} region_shared;

/* Index, in the tensor, of the first element of a row (along the last axis) of the region. */
static uint64_t row_start(const fi_region *region, uint64_t row) {
    uint64_t index = region->first;
    for (unsigned k = region->dimensions - 1; k-- > 0;) {
        index += (uint64_t)region->strides[k] * (row % region->counts[k]);
        row /= region->counts[k];
    }
    return index;
}

static void region_share(void *context, unsigned worker, unsigned workers) {
    const region_shared *all = context;
    const fi_plan *plan = all->plan;
    const fi_fill_fn fill = fi_active()->fill[plan->kernel][plan->dtype];
    const size_t size = fi_item_size(plan->dtype);
    const uint64_t row_length = all->region->counts[all->region->dimensions - 1];
    const uint64_t stride = (uint64_t)all->region->strides[all->region->dimensions - 1];
    const uint64_t end = share_cut(all->elements, worker + 1, workers);
    uint64_t position = share_cut(all->elements, worker, workers);
    double stretch[FI_STRETCH]; /* elements of any dtype: those that a strided row last picked from */
    uint64_t stretch_index = UINT64_MAX;
    fi_patience patience = {all->watch, 0};
    while (position < end) {
        const uint64_t column = position % row_length;
        const uint64_t at_once = stride == 1 ? FI_AT_ONCE : FI_AT_ONCE / FI_STRETCH; /* each may want a stretch of its own */
        uint64_t n = row_length - column;
        if (n > end - position) n = end - position;
        if (n > at_once) n = at_once;
        const uint64_t index = row_start(all->region, position / row_length) + stride * column;
        char *out = all->out + position * size;
        if (stride == 1 && n >= FI_STRETCH / 4) {
            fill(plan, out, index, n);
        } else {
            for (uint64_t i = 0; i < n; i++) {
                const uint64_t element = index + stride * i;
                if (element / FI_STRETCH != stretch_index) {
                    stretch_index = element / FI_STRETCH;
                    fill(plan, stretch, stretch_index * FI_STRETCH, FI_STRETCH);
                }
                memcpy(out + i * size, (char *)stretch + element % FI_STRETCH * size, size);
            }
        }
        position += n;
        if (fi_patience_ends(&patience, FI_WORK(stride == 1 ? n : n * FI_STRETCH))) return;
    }
}

void fi_fill_region(const fi_plan *plan, void *out, const fi_region *region, unsigned threads, fi_watch *watch) {
    region_shared all = {plan, region, out, 1, watch};
    for (unsigned k = 0; k < region->dimensions; k++) all.elements *= region->counts[k];
    fi_parallel(fi_threads_for(all.elements * fi_item_size(plan->dtype), threads), region_share, &all, watch);
}

void fi_map(const fi_plan *plan, const uint64_t *words, void *out, size_t count) {
    const fi_fpenv saved = fi_fpenv_enter();
    fi_active()->map[plan->kernel][plan->dtype](plan, words, out, count);
    fi_fpenv_leave(saved);
}

uint32_t fi_words_xor(fi_key key, uint64_t count) {
    const fi_fpenv saved = fi_fpenv_enter();
    const uint32_t result = fi_active()->words_xor(key, (count + FI_STRETCH - 1) / FI_STRETCH * (FI_STRETCH / FI_TILE));
    fi_fpenv_leave(saved);
    return result;
}
