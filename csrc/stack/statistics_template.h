/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Statistics of a layer, taken from its tiles while they are in the cache. Two quantities may be under way at once, in
 * slots 0 and 1: the pre-activation and the value. Results go to the shared tables by layer and quantity.
 *
 * Parameters: a real type; gemm_template.h and moments_template.h.
 */

typedef struct {
    fi_stack_shared *shared;
    unsigned number;
    size_t begin, end; /* its rows: whole groups */
    size_t live;       /* where its samples end, and padding begins */
    int record;        /* statistics are wanted */
    void *records;     /* and under way here */
    int keep;          /* every number is: traced, or for the cosines of pre-activations */
} FI_REAL(slice);

/* Of a layer's elements so far, in each lane; low and high of those that are no NaN. */
typedef struct {
    real low[FI_REAL_LANES], high[FI_REAL_LANES];
    uint64_t non_finite;
} FI_REAL(extremes);

typedef struct {
    FI_REAL(extremes) extremes[2];
    real alive[FI_NR]; /* the largest |derivative| or |value| of each unit of the micropanel under way */
    FI_REAL(row_moments) rows[]; /* two for each row of the slice */
} FI_REAL(record);

FI_INLINE FI_REAL(record) * FI_REAL(record_of)(const FI_REAL(slice) * slice) {
    return (FI_REAL(record) *)slice->records;
}

static void FI_REAL(record_begin)(const FI_REAL(slice) * slice, int slot) {
    FI_REAL(extremes) *e = &FI_REAL(record_of)(slice)->extremes[slot];
    for (int l = 0; l < FI_REAL_LANES; l++) {
        e->low[l] = (real)INFINITY;
        e->high[l] = (real)-INFINITY;
    }
    e->non_finite = 0;
}

/* OUT row: `vectors` vectors of x, whose micropanel has `columns` columns. What lies beyond those is replaced by the pivot: that
 * adds exact zeros to the moments, and as it is an element of the row, it changes no extreme. */
FI_INLINE void FI_REAL(load_row)(vr *row, const real *x, real pivot, size_t columns, size_t vectors) {
    real index[FI_REAL_LANES];
    for (size_t v = 0; v < vectors; v++) row[v] = VR(load)(x + v * FI_REAL_LANES);
    if (columns >= vectors * FI_REAL_LANES) return;
    for (int l = 0; l < FI_REAL_LANES; l++) index[l] = (real)l;
    const vrm within = VR(less)(VR(load)(index), VR(set1)((real)(columns - (vectors - 1) * FI_REAL_LANES)));
    row[vectors - 1] = VR(select)(within, row[vectors - 1], VR(set1)(pivot));
}

/* The tile x[i * FI_NR + c] of rows r .. in micropanel p, with `rows` samples and `columns` columns. `vectors` is a constant
 * where this is inlined, as most micropanels are full. */
FI_INLINE void FI_REAL(record_vectors)(const FI_REAL(slice) * slice, int slot, size_t r, size_t p, const real *x,
                                       size_t rows, size_t columns, size_t vectors) {
    FI_REAL(record) *record = FI_REAL(record_of)(slice);
    FI_REAL(extremes) *e = &record->extremes[slot];
    vr low = VR(load)(e->low), high = VR(load)(e->high), zero = VR(set1)(0), check = zero;
    for (size_t i = 0; i < rows; i++, x += FI_NR) {
        FI_REAL(row_moments) *m = &record->rows[(r + i - slice->begin) * 2 + (size_t)slot];
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
    x -= rows * FI_NR;
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < columns && c < FI_NR; c++)
            e->non_finite += !(x[i * FI_NR + c] - x[i * FI_NR + c] == 0);
}

static void FI_REAL(record_tile)(const FI_REAL(slice) * slice, int slot, size_t r, size_t p, const real *x,
                                 size_t rows, size_t columns) {
    if (FI_LIKELY(columns >= FI_NR))
        FI_REAL(record_vectors)(slice, slot, r, p, x, rows, FI_NR, FI_VECTORS);
    else if (columns <= FI_REAL_LANES)
        FI_REAL(record_vectors)(slice, slot, r, p, x, rows, columns, 1);
    else
        FI_REAL(record_vectors)(slice, slot, r, p, x, rows, columns, FI_REAL(vectors_for)(columns));
}

/* The rows of a layer are complete. */
static void FI_REAL(record_end)(const FI_REAL(slice) * slice, int slot, size_t layer, int quantity,
                                size_t width) {
    fi_stack_shared *shared = slice->shared;
    const FI_REAL(record) *record = FI_REAL(record_of)(slice);
    const size_t which = layer * FI_QUANTITIES + (size_t)quantity;
    for (size_t r = slice->begin; r < slice->live; r += FI_GROUP) {
        const size_t rows = slice->live - r < FI_GROUP ? slice->live - r : FI_GROUP;
        shared->moments[which * shared->groups + r / FI_GROUP] =
            FI_REAL(group_moments)(&record->rows[(r - slice->begin) * 2 + (size_t)slot], 2, rows, width);
    }
    const FI_REAL(extremes) *e = &record->extremes[slot];
    fi_extremes all = {INFINITY, -INFINITY, e->non_finite};
    for (int l = 0; l < FI_REAL_LANES; l++) {
        if ((double)e->low[l] < all.low) all.low = (double)e->low[l];
        if ((double)e->high[l] > all.high) all.high = (double)e->high[l];
    }
    shared->extremes[slice->number][which] = all;
}

/* Derivatives and values of a tile: which units have one that is not 0, and how many elements are saturated. */
static void FI_REAL(record_derivatives)(const FI_REAL(slice) * slice, size_t layer, size_t r, size_t p,
                                        const real *derivatives, const real *values, size_t rows, size_t columns) {
    fi_stack_shared *shared = slice->shared;
    const double threshold = fi_activation_traits[shared->args->activations[layer]].saturated_below;
    const vr limit = VR(set1)((real)threshold);
    real *largest = FI_REAL(record_of)(slice)->alive;
    uint64_t saturated = 0;
    if (r == slice->begin) memset(largest, 0, FI_NR * sizeof(real));
    for (size_t v = 0; v < FI_REAL(vectors_for)(columns); v++) {
        const size_t first = v * FI_REAL_LANES;
        vr alive = VR(load)(largest + first);
        for (size_t i = 0; i < rows; i++) {
            const vr derivative = VR(abs)(VR(load)(derivatives + i * FI_NR + first));
            const vr value = VR(abs)(VR(load)(values + i * FI_NR + first));
            alive = VR(max)(value, VR(max)(derivative, alive)); /* a NaN leaves the second */
            if (threshold > 0)
                saturated += (uint64_t)VR(count)(VR(less)(derivative, limit), (int)(columns - first));
        }
        VR(store)(largest + first, alive);
    }
    shared->saturated[slice->number][layer] += saturated;
    if (r + FI_MR < slice->end) return;
    unsigned char *alive = shared->alive[slice->number] + (shared->first_panel[layer] + p) * (FI_NR / 8);
    for (size_t c = 0; c < FI_NR; c++) alive[c / 8] |= (unsigned char)((largest[c] > 0) << c % 8);
}

/* Units of a layer whose value and derivative were 0 in every sample, over all slices. */
static size_t FI_REAL(stack_dead)(const fi_stack_shared *shared, size_t layer) {
    const size_t first = shared->first_panel[layer] * (FI_NR / 8);
    size_t dead = 0;
    for (size_t unit = 0; unit < shared->args->widths[layer + 1]; unit++) {
        int alive = 0;
        for (unsigned w = 0; w < shared->slices; w++) alive |= shared->alive[w][first + unit / 8] >> unit % 8 & 1;
        dead += !alive;
    }
    return dead;
}
