/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of one instruction set: the only symbol that its file exports. */
static const fi_training_kernels FI_NAME(training_kernels) = {
    .softmax = FI_NAME(softmax),
    .update =
        {
#define FI_OPTIMIZER(name, NAME, states)                                         \
    [FI_##NAME] = {FI_CONCAT(update_##name, FI_CONCAT(f32, FI_ISA)),             \
                   FI_CONCAT(update_##name, FI_CONCAT(f64, FI_ISA))},
#include "training/optimizers.def"
        },
};

const fi_kernels FI_NAME(fi_kernels) = {
    .name = FI_ISA_NAME,
    .fill =
        {
#define FI_FILL(law, LAW, dtype, DTYPE) [FI_##LAW][FI_##DTYPE] = FI_NAME(fill_##law##_##dtype),
#include "isa/laws.def"
        },
    .map =
        {
            [FI_UNIFORM] = {FI_NAME(map_uniform_float32), FI_NAME(map_uniform_float64)},
            [FI_NORMAL] = {FI_NAME(map_normal_float32), FI_NAME(map_normal_float64)},
            [FI_TRUNCATED_NORMAL] = {FI_NAME(map_truncated_normal_float32), FI_NAME(map_truncated_normal_float64)},
            [FI_TRUNCATED_NORMAL_SYMMETRIC] = {FI_NAME(map_truncated_normal_symmetric_float32), NULL},
            [FI_TRUNCATED_NORMAL_NARROW] = {FI_NAME(map_truncated_normal_narrow_float32),
                                            FI_NAME(map_truncated_normal_narrow_float64)},
            [FI_TRUNCATED_NORMAL_WIDE] = {FI_NAME(map_truncated_normal_wide_float32), NULL},
        },
    .words_xor = FI_NAME(words_xor),
    .stack = {&FI_CONCAT(stack_kernels, FI_CONCAT(f32, FI_ISA)), &FI_CONCAT(stack_kernels, FI_CONCAT(f64, FI_ISA))},
    .haar = {&FI_CONCAT(haar_kernels, FI_CONCAT(f32, FI_ISA)), &FI_CONCAT(haar_kernels, FI_CONCAT(f64, FI_ISA))},
    .training = &FI_NAME(training_kernels),
};
