/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The list of activations as data, and one activation over an array. */
#include "core/fpenv.h"
#include "stack/stack.h"

#define FI_FROM_VALUE 0
#define FI_FROM_INPUT 1
const fi_traits fi_activation_traits[FI_ACTIVATIONS] = {
#define FI_ACTIVATION(name_, NAME, from, ...) {.name = #name_, .from_input = FI_FROM_##from, __VA_ARGS__},
#include "stack/activations.def"
};

void fi_activate(fi_activation activation, double parameter, fi_dtype dtype, const void *x, void *values,
                 void *derivatives, size_t n, fi_watch *watch) {
    const size_t at_once = 1 << 14, size = fi_item_size(dtype);
    const fi_fpenv saved = fi_fpenv_enter();
    for (size_t i = 0; i < n && !fi_stopped(watch); i += at_once)
        fi_active()->stack[dtype]->activate(activation, parameter, (const char *)x + i * size, (char *)values + i * size,
                                            derivatives ? (char *)derivatives + i * size : NULL,
                                            n - i < at_once ? n - i : at_once);
    fi_fpenv_leave(saved);
}
