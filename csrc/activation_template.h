/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Activation functions and their derivatives, the derivative from the value. No libm: the bits must be the
 * same everywhere. These use fma, as the matrix products do.
 *
 * Parameters: a real type (real_f32.h, real_f64.h) and its vocabulary:
 *   VR(set1 add sub mul div fma min max less select from_bits bits shl_exponent abs with_sign)
 */

/* e^y - 1 = scale * p + (scale - 1) for y <= 0, with scale = 2^k, p = e^r - 1, y = k ln 2 + r. */
FI_INLINE vr FI_REAL(expm1_parts)(vr y, vr *k) {
    const vr magic = VR(set1)(FI_EXP_MAGIC);
    *k = VR(sub)(VR(fma)(y, VR(set1)((real)1.44269504088896340736), magic), magic);
    vr r = VR(fma)(*k, VR(set1)(-FI_LN2_HIGH), y);
    r = VR(fma)(*k, VR(set1)(-FI_LN2_LOW), r);
    static const double inverse_factorial[] = {
        1.0,         1.0,          1.0 / 2,       1.0 / 6,        1.0 / 24,
        1.0 / 120,   1.0 / 720,    1.0 / 5040,    1.0 / 40320,    1.0 / 362880,
        1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
    vr p = VR(set1)((real)inverse_factorial[FI_EXP_TERMS]);
    FI_UNROLL
    for (int n = FI_EXP_TERMS - 1; n >= 2; n--)
        p = VR(fma)(p, r, VR(set1)((real)inverse_factorial[n]));
    return VR(fma)(VR(mul)(r, r), p, r);
}

/* 2^k for whole k of a normal result: k + bias in the low bits of k + magic + bias, moved to the exponent. */
FI_INLINE vr FI_REAL(power_of_two)(vr k) {
    return VR(shl_exponent)(VR(add)(k, VR(set1)(FI_EXP_MAGIC + FI_EXP_BIAS)));
}

/* tanh. Max Error: 3 ULP. Valid Range: all; tanh(+-inf) = +-1, NaN stays NaN.
 * tanh|x| = -t / (t + 2), t = e^(-2|x|) - 1: no cancellation at 0, exactly 1 far out. */
FI_INLINE vr FI_REAL(tanh)(vr x) {
    const vr y = VR(max)(VR(set1)(FI_TANH_LOWEST), VR(mul)(VR(set1)(-2), VR(abs)(x)));
    vr k;
    const vr p = FI_REAL(expm1_parts)(y, &k);
    const vr scale = FI_REAL(power_of_two)(k);
    const vr t = VR(fma)(scale, p, VR(sub)(scale, VR(set1)(1)));
    return VR(copysign)(VR(div)(t, VR(add)(t, VR(set1)(2))), x);
}

/* 1 / (1 + e^-x). Max Error: 4 ULP where the result is normal; subnormal results within 2 of their spacing.
 * Valid Range: all; 0 at -inf, 1 at +inf, NaN stays NaN.
 * With e = e^-|x| <= 1: 1 / (1 + e) on the right, e / (1 + e) on the left. */
FI_INLINE vr FI_REAL(sigmoid)(vr x) {
    const vr y = VR(max)(VR(set1)(FI_EXP_LOWEST), VR(sub)(VR(set1)(0), VR(abs)(x)));
    vr k;
    const vr p = FI_REAL(expm1_parts)(y, &k);
    /* 2^k in two factors, as k may lie below the exponents of normal numbers */
    const vr magic = VR(set1)(FI_EXP_MAGIC);
    const vr half = VR(sub)(VR(fma)(k, VR(set1)((real)0.5), magic), magic);
    const vr scale = FI_REAL(power_of_two)(half);
    const vr e = VR(mul)(VR(mul)(VR(add)(VR(set1)(1), p), scale),
                         FI_REAL(power_of_two)(VR(sub)(k, half)));
    const vr numerator = VR(select)(VR(less)(x, VR(set1)(0)), e, VR(set1)(1));
    return VR(div)(numerator, VR(add)(VR(set1)(1), e));
}

/* max(x, 0), exact; NaN stays NaN. */
FI_INLINE vr FI_REAL(relu)(vr x) { return VR(max)(VR(set1)(0), x); }

FI_INLINE vr FI_REAL(linear)(vr x) { return x; }

FI_INLINE vr FI_REAL(tanh_slope)(vr a) { return VR(fma)(VR(sub)(VR(set1)(0), a), a, VR(set1)(1)); }
FI_INLINE vr FI_REAL(sigmoid_slope)(vr a) { return VR(mul)(a, VR(sub)(VR(set1)(1), a)); }
FI_INLINE vr FI_REAL(relu_slope)(vr a) {
    return VR(select)(VR(less)(VR(set1)(0), a), VR(set1)(1), VR(set1)(0));
}
FI_INLINE vr FI_REAL(linear_slope)(vr a) {
    (void)a;
    return VR(set1)(1);
}
