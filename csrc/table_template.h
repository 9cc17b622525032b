/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of one instruction set: the only symbol that its file exports. */
const fi_kernels FI_NAME(fi_kernels) = {
    .name = FI_ISA_NAME,
    .fill =
        {
#define FI_FILL(law, LAW, dtype, DTYPE) [FI_##LAW][FI_##DTYPE] = FI_NAME(fill_##law##_##dtype),
#include "kernels.def"
        },
    .words_xor = FI_NAME(words_xor),
    .stack = {&FI_CONCAT(stack_kernels, FI_CONCAT(f32, FI_ISA)), &FI_CONCAT(stack_kernels, FI_CONCAT(f64, FI_ISA))},
};
