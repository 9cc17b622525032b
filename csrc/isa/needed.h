/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the templates need: included by each instruction set before its target region, as ordinary headers must not be
 * compiled for it. */
#ifndef FI_NEEDED_H
#define FI_NEEDED_H

#include <math.h>
#include <string.h>

#include "core/internal.h"
#include "linalg/haar.h"
#include "random/normal_tables.h"
#include "random/ppnd16.h"
#include "stack/activation_tables.h"
#include "stack/stack.h"
#include "training/kernels.h"

#endif
