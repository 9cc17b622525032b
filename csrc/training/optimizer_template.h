/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Updates of parameters, element by element: each operation rounds, in the written order, and nothing is contracted.
 *
 * Parameters: a real type; VR(set1 add sub mul div sqrt load store).
 */

/* w -= rate g */
FI_INLINE void FI_REAL(step_sgd)(real *w, const real *g, real *m, real *v, const vr *c) {
    (void)m, (void)v;
    VR(store)(w, VR(sub)(VR(load)(w), VR(mul)(c[0], VR(load)(g))));
}

/* m = keep_1 m + g; w -= rate m */
FI_INLINE void FI_REAL(step_momentum)(real *w, const real *g, real *m, real *v, const vr *c) {
    const vr velocity = VR(add)(VR(mul)(VR(load)(m), c[1]), VR(load)(g));
    (void)v;
    VR(store)(m, velocity);
    VR(store)(w, VR(sub)(VR(load)(w), VR(mul)(c[0], velocity)));
}

/* m = keep_1 m + take_1 g; v = keep_2 v + (take_2 g) g; w -= (rate m) / (sqrt v + epsilon) */
FI_INLINE void FI_REAL(step_adam)(real *w, const real *g, real *m, real *v, const vr *c) {
    const vr gradient = VR(load)(g);
    const vr first = VR(add)(VR(mul)(VR(load)(m), c[1]), VR(mul)(c[2], gradient));
    const vr second = VR(add)(VR(mul)(VR(load)(v), c[3]), VR(mul)(VR(mul)(c[4], gradient), gradient));
    VR(store)(m, first);
    VR(store)(v, second);
    VR(store)(w, VR(sub)(VR(load)(w), VR(div)(VR(mul)(c[0], first), VR(add)(VR(sqrt)(second), c[5]))));
}

/* The rest of a parameter, less than a vector, goes through copies; an array that an optimizer does not have is not read. */
#define FI_OPTIMIZER(name, NAME, states)                                                                              \
    static void FI_REAL(update_##name)(const fi_parameter *parameter, const void *gradient, const fi_rates *rates) {  \
        real *w = parameter->values, *m = parameter->first, *v = parameter->second;                                   \
        const real *g = gradient;                                                                                     \
        const size_t n = parameter->count, whole = n - n % FI_REAL_LANES, rest = n - whole;                           \
        const vr c[] = {VR(set1)((real)rates->rate),   VR(set1)((real)rates->keep_1), VR(set1)((real)rates->take_1),  \
                        VR(set1)((real)rates->keep_2), VR(set1)((real)rates->take_2), VR(set1)((real)rates->epsilon)}; \
        for (size_t i = 0; i < whole; i += FI_REAL_LANES)                                                             \
            FI_REAL(step_##name)(w + i, g + i, states > 0 ? m + i : NULL, states > 1 ? v + i : NULL, c);              \
        if (rest == 0) return;                                                                                        \
        real last[4][FI_REAL_LANES] = {{0}};                                                                          \
        memcpy(last[0], w + whole, rest * sizeof(real));                                                              \
        memcpy(last[1], g + whole, rest * sizeof(real));                                                              \
        if (states > 0) memcpy(last[2], m + whole, rest * sizeof(real));                                              \
        if (states > 1) memcpy(last[3], v + whole, rest * sizeof(real));                                              \
        FI_REAL(step_##name)(last[0], last[1], last[2], last[3], c);                                                  \
        memcpy(w + whole, last[0], rest * sizeof(real));                                                              \
        if (states > 0) memcpy(m + whole, last[2], rest * sizeof(real));                                              \
        if (states > 1) memcpy(v + whole, last[3], rest * sizeof(real));                                              \
    }
#include "training/optimizers.def"
