/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The templates of one real type, in the order in which they build on one another. No include guard. */
#include "linalg/gemm_template.h"
#include "stack/activation_template.h"
#include "stack/moments_template.h"
#include "stack/layer_template.h"
#include "stack/statistics_template.h"
#include "stack/norm_template.h"
#include "stack/cosine_template.h"
#include "stack/stack_template.h"
#include "linalg/haar_template.h"
#include "training/optimizer_template.h"
