/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a pass leaves behind, made into the statistics of its layers: moments merged in index order, so that neither slices
 * nor threads show in a bit. */
#include "stack/schedule.h"

void fi_stack_exponents(const fi_stack_shared *shared, size_t layer, int limit, int exponents[2]) {
    double largest[2] = {0, 0};
    for (unsigned w = 0; w < shared->slices && shared->groups; w++) {
        const fi_extremes *e = shared->extremes[w], *gradients = &e[layer * FI_QUANTITIES + FI_GRADIENT];
        const fi_extremes *values = layer ? &e[(layer - 1) * FI_QUANTITIES + FI_VALUE] : NULL;
        largest[0] = fmax(largest[0], values ? fmax(-values->low, values->high) : shared->largest_input[w]);
        largest[1] = fmax(largest[1], fmax(-gradients->low, gradients->high));
    }
    for (int i = 0; i < 2; i++) exponents[i] = fi_exponent(largest[i], limit);
}

/* The moments of a quantity over all groups, and its extremes over all slices. */
static fi_moments merged(const fi_stack_shared *shared, size_t layer, int quantity) {
    const size_t which = layer * FI_QUANTITIES + (size_t)quantity;
    if (quantity == FI_GRADIENT && !shared->args->backward) return (fi_moments){NAN, NAN, NAN, NAN, NAN, NAN};
    fi_partial_moments total = {0, NAN, NAN};
    for (size_t g = 0; g < shared->groups; g++) fi_moments_merge(&total, &shared->moments[which * shared->groups + g]);
    const double variance = total.deviations / total.count;
    fi_moments result = {total.mean, variance, variance + total.mean * total.mean, INFINITY, -INFINITY, 0};
    for (unsigned w = 0; w < shared->slices && shared->groups; w++) {
        const fi_extremes *e = &shared->extremes[w][which];
        if (e->low < result.low) result.low = e->low;
        if (e->high > result.high) result.high = e->high;
        result.non_finite += (double)e->non_finite;
    }
    /* Of 0 and -0 either may come out as the smaller one: adding 0 makes both 0. */
    result.low += 0;
    result.high += 0;
    return result;
}

/* The norm of a layer's weight gradient: its squares, of scaled numbers, are added in index order. */
static double norm(const fi_schedule *schedule, size_t layer) {
    const fi_stack_args *args = schedule->shared.args;
    const int gram = fi_uses_gram(args, layer);
    double sum = 0;
    for (size_t i = 0; i < (gram ? args->batch : args->widths[layer + 1]); i++) sum += schedule->shared.squares[layer][i];
    if (sum < 0) sum = 0; /* rounding may leave a tiny negative; a NaN stays one */
    if (!gram && schedule->real_size < sizeof(double)) return sqrt(sum);
    int exponents[2];
    fi_stack_exponents(&schedule->shared, layer, schedule->real_size == sizeof(double) ? 1022 : 126, exponents);
    const int both = exponents[0] + exponents[1]; /* in two factors: one alone may overflow where the product does not */
    return sqrt(sum) * fi_power_of_two(both / 2) * fi_power_of_two(both - both / 2);
}

void fi_summarise(const fi_schedule *schedule) {
    const fi_stack_shared *shared = &schedule->shared;
    const fi_stack_args *args = shared->args;
    for (size_t l = 0; l < args->depth && !fi_stopped(shared->watch); l++) {
        if (args->norms) args->norms[l] = norm(schedule, l);
        uint64_t saturated = 0;
        for (unsigned w = 0; w < shared->slices; w++) saturated += shared->saturated[w][l];
        const double width = (double)args->widths[l + 1];
        args->statistics[l] = (fi_layer_statistics){
            .pre_activation = merged(shared, l, FI_PRE_ACTIVATION),
            .activation = merged(shared, l, FI_VALUE),
            .gradient = merged(shared, l, FI_GRADIENT),
            .saturated = (double)saturated / (width * (double)args->batch),
            .dead = args->batch ? (double)schedule->kernels->dead(shared, l) / width : NAN,
        };
    }
}
