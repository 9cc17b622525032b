/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Statistics of a layer, taken from its tiles while they are near. Two quantities may be under way at once, in
 * slots 0 and 1: the pre-activation and the value. Results go to the job's table by layer and quantity.
 *
 * Parameters: a real type; gemm_template.h and moments_template.h.
 */

typedef struct {
    fi_stack_job *job;
    unsigned part;
    size_t begin, end; /* rows: whole groups */
    size_t live;       /* rows of them that are samples, not padding: end of those */
    int record;
} FI_REAL(rows);

/* Of a layer's elements so far, in each lane. */
typedef struct {
    real low[FI_REAL_LANES], high[FI_REAL_LANES];
    uint64_t non_finite;
} FI_REAL(extremes);

typedef struct {
    FI_REAL(extremes) extremes[2];
    real alive[FI_COLUMNS]; /* the largest |derivative| or |value| of each unit of the panel under way */
    FI_REAL(row_moments) rows[]; /* two for each row of the part */
} FI_REAL(record);

FI_INLINE FI_REAL(record) * FI_REAL(record_of)(const FI_REAL(rows) * part) {
    return (FI_REAL(record) *)part->job->record_of[part->part];
}

static void FI_REAL(record_begin)(const FI_REAL(rows) * part, int slot) {
    FI_REAL(extremes) *e = &FI_REAL(record_of)(part)->extremes[slot];
    for (int l = 0; l < FI_REAL_LANES; l++) {
        e->low[l] = (real)INFINITY;
        e->high[l] = (real)-INFINITY;
    }
    e->non_finite = 0;
}

/* The first `vectors` of a row whose panel has `columns` columns. What lies beyond them is filled with the pivot: it adds
 * exact zeros, and is an element anyway. */
FI_INLINE void FI_REAL(load_row)(vr *row, const real *x, real pivot, size_t columns, size_t vectors) {
    real index[FI_REAL_LANES];
    for (size_t v = 0; v < vectors; v++) row[v] = VR(load)(x + v * FI_REAL_LANES);
    if (columns >= vectors * FI_REAL_LANES) return;
    for (int l = 0; l < FI_REAL_LANES; l++) index[l] = (real)l;
    const vrm within = VR(less)(VR(load)(index), VR(set1)((real)(columns - (vectors - 1) * FI_REAL_LANES)));
    row[vectors - 1] = VR(select)(within, row[vectors - 1], VR(set1)(pivot));
}

/* The tile of rows r .. in panel p, `columns` wide and with `rows` samples: x[i * FI_COLUMNS + c]. `vectors` is a constant
 * where this is inlined, as most panels are full. */
FI_INLINE void FI_REAL(record_vectors)(const FI_REAL(rows) * part, int slot, size_t r, size_t p, const real *x,
                                       size_t rows, size_t columns, size_t vectors) {
    FI_REAL(record) *record = FI_REAL(record_of)(part);
    FI_REAL(extremes) *e = &record->extremes[slot];
    vr low = VR(load)(e->low), high = VR(load)(e->high), zero = VR(set1)(0), check = zero;
    for (size_t i = 0; i < rows; i++, x += FI_COLUMNS) {
        FI_REAL(row_moments) *m = &record->rows[(r + i - part->begin) * 2 + (size_t)slot];
        if (p == 0) FI_REAL(row_moments_begin)(m, x[0]);
        vr row[FI_VECTORS];
        FI_REAL(load_row)(row, x, (real)m->pivot, columns, vectors);
        FI_REAL(row_moments_add)(m, row, vectors);
        for (size_t v = 0; v < vectors; v++) {
            low = VR(min)(row[v], low); /* a NaN leaves the second */
            high = VR(max)(row[v], high);
            check = VR(fma)(row[v], zero, check); /* NaN where one is not finite */
        }
    }
    VR(store)(e->low, low);
    VR(store)(e->high, high);
    if (FI_LIKELY(VR(count)(VR(less)(check, VR(set1)(1)), FI_REAL_LANES) == FI_REAL_LANES)) return;
    x -= rows * FI_COLUMNS;
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < columns && c < FI_COLUMNS; c++)
            e->non_finite += !(x[i * FI_COLUMNS + c] - x[i * FI_COLUMNS + c] == 0);
}

static void FI_REAL(record_tile)(const FI_REAL(rows) * part, int slot, size_t r, size_t p, const real *x,
                                 size_t rows, size_t columns) {
    if (FI_LIKELY(columns >= FI_COLUMNS))
        FI_REAL(record_vectors)(part, slot, r, p, x, rows, FI_COLUMNS, FI_VECTORS);
    else if (columns <= FI_REAL_LANES)
        FI_REAL(record_vectors)(part, slot, r, p, x, rows, columns, 1);
    else
        FI_REAL(record_vectors)(part, slot, r, p, x, rows, columns, FI_REAL(vectors_for)(columns));
}

/* The rows of a layer are complete. */
static void FI_REAL(record_end)(const FI_REAL(rows) * part, int slot, size_t layer, int quantity,
                                size_t width) {
    fi_stack_job *job = part->job;
    const FI_REAL(record) *record = FI_REAL(record_of)(part);
    const size_t which = layer * FI_QUANTITIES + (size_t)quantity;
    for (size_t r = part->begin; r < part->live; r += FI_GROUP) {
        const size_t rows = part->live - r < FI_GROUP ? part->live - r : FI_GROUP;
        job->moments[which * job->groups + r / FI_GROUP] =
            FI_REAL(group_moments)(&record->rows[(r - part->begin) * 2 + (size_t)slot], 2, rows, width);
    }
    const FI_REAL(extremes) *e = &record->extremes[slot];
    fi_extremes all = {INFINITY, -INFINITY, e->non_finite};
    for (int l = 0; l < FI_REAL_LANES; l++) {
        if ((double)e->low[l] < all.low) all.low = (double)e->low[l];
        if ((double)e->high[l] > all.high) all.high = (double)e->high[l];
    }
    job->extremes[part->part][which] = all;
}

/* Derivatives and values of a tile: whether a unit's were ever another than 0, and how many derivatives are below the
 * threshold. */
static void FI_REAL(record_slopes)(const FI_REAL(rows) * part, size_t layer, size_t r, size_t p, const real *slopes,
                                   const real *values, size_t rows, size_t columns) {
    fi_stack_job *job = part->job;
    const double threshold = fi_activation_traits[job->run->activations[layer]].saturated_below;
    const vr limit = VR(set1)((real)threshold);
    real *largest = FI_REAL(record_of)(part)->alive;
    uint64_t saturated = 0;
    if (r == part->begin) memset(largest, 0, FI_COLUMNS * sizeof(real));
    for (size_t v = 0; v < FI_REAL(vectors_for)(columns); v++) {
        const size_t first = v * FI_REAL_LANES;
        vr alive = VR(load)(largest + first);
        for (size_t i = 0; i < rows; i++) {
            const vr slope = VR(abs)(VR(load)(slopes + i * FI_COLUMNS + first));
            const vr value = VR(abs)(VR(load)(values + i * FI_COLUMNS + first));
            alive = VR(max)(value, VR(max)(slope, alive)); /* a NaN leaves the second */
            if (threshold > 0)
                saturated += (uint64_t)VR(count)(VR(less)(slope, limit), (int)(columns - first));
        }
        VR(store)(largest + first, alive);
    }
    job->saturated[part->part][layer] += saturated;
    if (r + FI_ROWS < part->end) return;
    unsigned char *alive = job->alive[part->part] + (job->first_panel[layer] + p) * (FI_COLUMNS / 8);
    for (size_t c = 0; c < FI_COLUMNS; c++) alive[c / 8] |= (unsigned char)((largest[c] > 0) << c % 8);
}

/* Units of a layer whose value and derivative were 0 in every sample, over all parts. */
static size_t FI_REAL(stack_dead)(const fi_stack_job *job, size_t layer) {
    const size_t first = job->first_panel[layer] * (FI_COLUMNS / 8);
    size_t dead = 0;
    for (size_t unit = 0; unit < job->run->widths[layer + 1]; unit++) {
        int alive = 0;
        for (unsigned w = 0; w < job->parts; w++) alive |= job->alive[w][first + unit / 8] >> unit % 8 & 1;
        dead += !alive;
    }
    return dead;
}
