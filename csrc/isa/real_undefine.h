/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Undefines what real_f32.h has defined, for real_f64.h. No include guard. */
#undef real
#undef vr
#undef vrm
#undef VR
#undef FI_REAL
#undef FI_OF_REAL
#undef FI_REAL_LANES
#undef FI_EXP_TERMS
#undef FI_EXP_MAGIC
#undef FI_EXP_BIAS
#undef FI_EXP_LOWEST
#undef FI_TANH_LOWEST
#undef FI_TANH_FAR
#undef FI_LN2_HIGH
#undef FI_LN2_LOW
#undef FI_PI_HIGH
#undef FI_PI_MIDDLE
#undef FI_PI_LOW
#undef FI_SIN_FAR
#undef FI_SIN_TERMS
#undef FI_LOG1P_TERMS
#undef FI_LARGEST
