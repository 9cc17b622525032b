/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Optimizers: the coefficients of a step, in double precision and without libm, and one call of a kernel for each
 * array of parameters.
 */
#include <math.h>

#include "core/fpenv.h"
#include "training/kernels.h"

static const struct {
    const char *name;
    size_t states;
} traits[] = {
#define FI_OPTIMIZER(name, NAME, states) {#name, states},
#include "training/optimizers.def"
};

const char *fi_optimizer_name(size_t index) { return traits[index].name; }
size_t fi_optimizer_states(size_t index) { return traits[index].states; }

void fi_descend(fi_descent *descent, const fi_parameter *parameters, const void *const *gradients, size_t count) {
    const fi_fpenv saved = fi_fpenv_enter();
    fi_rates rates = {.rate = descent->rate, .keep_1 = descent->beta_1};
    if (descent->optimizer == FI_ADAM) {
        descent->power_1 *= descent->beta_1; /* beta^t as a running product: pow differs between machines */
        descent->power_2 *= descent->beta_2;
        /* rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), the corrections taken out of the loop (Kingma & Ba, end of
         * section 2): one division and one root an element. */
        const double correction = sqrt(1 - descent->power_2);
        rates = (fi_rates){.rate = descent->rate * correction / (1 - descent->power_1),
                           .keep_1 = descent->beta_1,
                           .take_1 = 1 - descent->beta_1,
                           .keep_2 = descent->beta_2,
                           .take_2 = 1 - descent->beta_2,
                           .epsilon = descent->epsilon * correction};
    }
    const fi_training_kernels *kernels = fi_active()->training;
    for (size_t i = 0; i < count; i++)
        kernels->update[descent->optimizer][parameters[i].dtype](&parameters[i], gradients[i], &rates);
    fi_fpenv_leave(saved);
}
