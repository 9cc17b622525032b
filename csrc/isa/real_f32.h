/* SPDX-License-Identifier: BSD-3-Clause
 *
 * float32 as the real type of templates: its vocabulary, and the constants of its elementary functions. No include guard. */
#define real float
#define vr vf
#define vrm vfm
#define VR(name) FI_CONCAT(vf, name)
#define FI_REAL(name) FI_NAME(FI_CONCAT(name, f32))
#define FI_OF_REAL(name) FI_CONCAT(name, f32)
#define FI_REAL_LANES FI_LANES
#define FI_EXP_TERMS 7             /* Taylor terms of e^r, |r| <= ln 2 / 2: remainder 1.5e-8 r */
#define FI_EXP_MAGIC 12582912.0f   /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
#define FI_EXP_BIAS 127.0f
#define FI_EXP_LOWEST -120.0f      /* a thousand times e^x is 0 from here down */
#define FI_TANH_LOWEST -40.0f      /* 1 - e^x is 1 long before */
#define FI_TANH_FAR 8.0f           /* beyond, tanh x = 1 - 2 e^-2x, sigmoid 2x = 1 - e^-2x to a millionth of a rounding error */
#define FI_LN2_HIGH 0x1.62e4p-1f   /* 15 bits: its products with exponents are exact */
#define FI_LN2_LOW 0x1.7f7d1cp-20f
#define FI_PI_HIGH 0x1.921fb60000000p+1f  /* pi in three parts, each the nearest to what is left */
#define FI_PI_MIDDLE -0x1.777a5c0000000p-24f
#define FI_PI_LOW -0x1.ee59da0000000p-49f
#define FI_SIN_FAR 8.0e5f     /* k = x / pi is found to within 1/50 below */
#define FI_SIN_TERMS 7        /* of the series of sin and cos up to pi / 2 */
#define FI_LOG1P_TERMS 8
#define FI_LARGEST 0x1.fffffep+127f
