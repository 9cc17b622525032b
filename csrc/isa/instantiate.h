/* SPDX-License-Identifier: BSD-3-Clause
 *
 * All algorithms in the vocabulary of the including instruction set, and their table. The one place that says in which
 * order templates build on one another. No include guard: each set includes it once. */
#include "random/philox_template.h"
#include "random/quantile_template.h"
#include "random/dist_template.h"
#include "random/narrow_template.h"
#include "random/fill_template.h"
#include "random/map_template.h"

/* Once for each real type. */
#include "isa/real_f32.h"
#include "isa/instantiate_real.h"
#include "isa/real_undefine.h"
#include "isa/real_f64.h"
#include "isa/instantiate_real.h"

/* In float64 alone. */
#include "training/softmax_template.h"

#include "isa/kernel_table_template.h"
