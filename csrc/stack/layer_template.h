/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What follows the product of a tile: the activation forward, its derivative backward; one small function for each
 * activation, chosen through a table.
 *
 * Parameters: a real type; gemm_template.h and activation_template.h.
 */

#define FI_EVALUATE_VALUE(name, z, a, s, derivative) \
    a = FI_REAL(name)(z, s);                         \
    derivative = FI_REAL(name##_slope)(a, s);
#define FI_EVALUATE_INPUT(name, z, a, s, derivative) a = FI_REAL(name)(z, s, &derivative);

/* OUT values and, unless NULL, derivatives of a tile's pre-activations z, in the first `vectors` of each of its rows. */
#define FI_ACTIVATION(name_, NAME, from, ...)                                                       \
    FI_NOINLINE void FI_REAL(activate_tile_##name_)(const real *z, real *values, real *derivatives, \
                                                    real parameter, size_t vectors) {               \
        const vr s = VR(set1)(parameter);                                                           \
        for (size_t row = 0; row < FI_MR * FI_NR; row += FI_NR)                                     \
            for (size_t at = row; at < row + vectors * FI_REAL_LANES; at += FI_REAL_LANES) {        \
                vr a, derivative;                                                                   \
                FI_EVALUATE_##from(name_, VR(load)(z + at), a, s, derivative);                      \
                VR(store)(values + at, a);                                                          \
                if (derivatives) VR(store)(derivatives + at, derivative);                           \
            }                                                                                       \
    }
#include "stack/activations.def"

static void (*const FI_REAL(activate_tile)[])(const real *, real *, real *, real, size_t) = {
#define FI_ACTIVATION(name, NAME, from, ...) FI_REAL(activate_tile_##name),
#include "stack/activations.def"
};

/* OUT target: gradient * phi', in the first `vectors` of each row. kept: the derivatives phi', or the values that they are a
 * function of. */
#define FI_DERIVATIVE_VALUE(name, kept, s) FI_REAL(name##_slope)(kept, s)
#define FI_DERIVATIVE_INPUT(name, kept, s) kept
#define FI_ACTIVATION(name_, NAME, from, ...)                                                       \
    FI_NOINLINE void FI_REAL(derive_tile_##name_)(const FI_REAL(tile) * gradient, const real *kept, \
                                                  real *target, real parameter, size_t vectors) {   \
        const vr s = VR(set1)(parameter);                                                           \
        for (size_t i = 0; i < FI_MR; i++)                                                          \
            for (size_t v = 0; v < vectors; v++) {                                                  \
                const size_t at = i * FI_NR + v * FI_REAL_LANES;                                    \
                const vr derivative = FI_DERIVATIVE_##from(name_, VR(load)(kept + at), s);          \
                (void)s;                                                                            \
                VR(store)(target + at, VR(mul)(gradient->v[i][v], derivative));                     \
            }                                                                                       \
    }
#include "stack/activations.def"

static void (*const FI_REAL(derive_tile)[])(const FI_REAL(tile) *, const real *, real *, real, size_t) = {
#define FI_ACTIVATION(name, NAME, from, ...) FI_REAL(derive_tile_##name),
#include "stack/activations.def"
};

/* The end of a residual block: values become source + alpha * values, and derivatives alpha * derivatives. */
static void FI_REAL(add_source)(const real *source, real *values, real *derivatives, real alpha) {
    const vr s = VR(set1)(alpha);
    for (size_t at = 0; at < FI_MR * FI_NR; at += FI_REAL_LANES) {
        VR(store)(values + at, VR(fma)(s, VR(load)(values + at), VR(load)(source + at)));
        if (derivatives) VR(store)(derivatives + at, VR(mul)(s, VR(load)(derivatives + at)));
    }
}

/* Values and derivatives of an array, for tests of the stated errors and for the theory. */
static void FI_REAL(stack_activate)(int activation, double parameter, const void *source, void *values,
                                    void *derivatives, size_t n) {
    enum { SIZE = FI_MR * FI_NR };
    const real *x = source;
    for (size_t i = 0; i < n; i += SIZE) {
        real z[SIZE] = {0}, a[SIZE], d[SIZE];
        const size_t k = n - i < SIZE ? n - i : SIZE;
        memcpy(z, x + i, k * sizeof(real));
        FI_REAL(activate_tile)[activation](z, a, d, (real)parameter, FI_VECTORS);
        memcpy((real *)values + i, a, k * sizeof(real));
        if (derivatives) memcpy((real *)derivatives + i, d, k * sizeof(real));
    }
}
