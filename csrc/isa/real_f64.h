/* SPDX-License-Identifier: BSD-3-Clause
 *
 * float64 as the real type of templates; see real_f32.h. No include guard. */
#define real double
#define vr vd
#define vrm vm
#define VR(name) FI_CONCAT(vd, name)
#define FI_REAL(name) FI_NAME(FI_CONCAT(name, f64))
#define FI_OF_REAL(name) FI_CONCAT(name, f64)
#define FI_REAL_LANES FI_DOUBLE_LANES
#define FI_EXP_TERMS 13             /* remainder 1.2e-17 r */
#define FI_EXP_MAGIC 6755399441055744.0 /* 1.5 * 2^52 */
#define FI_EXP_BIAS 1023.0
#define FI_EXP_LOWEST -760.0
#define FI_TANH_LOWEST -80.0
#define FI_TANH_FAR 16.0
#define FI_LN2_HIGH 0x1.62e42fefap-1
#define FI_LN2_LOW 0x1.cf79abc9e3b3ap-40
#define FI_PI_HIGH 0x1.921fb54442d18p+1
#define FI_PI_MIDDLE 0x1.1a62633145c07p-53
#define FI_PI_LOW -0x1.f1976b7ed8fbcp-109
#define FI_SIN_FAR 1.0e13
#define FI_SIN_TERMS 12
#define FI_LOG1P_TERMS 18
#define FI_LARGEST 0x1.fffffffffffffp+1023
