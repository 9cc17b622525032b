/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Activation functions and their derivatives. No libm: the bits must be the same everywhere. These use fma, as
 * the matrix products do. Their errors stand in activations.def and are asserted by a test.
 *
 * Of an activation listed with VALUE, name(z, s) is the value and name_slope(a, s) the derivative from the value; of one
 * listed with INPUT, name(z, s, &slope) is both. s is the layer's parameter.
 *
 * Parameters: a real type (real_f32.h, real_f64.h) and its vocabulary:
 *   VR(set1 add sub mul div fma min max less select abs copysign shl_exponent count load store)
 */

/* min(a, b) and max(a, b) are b where either is NaN: the argument that may be NaN stands second. */
FI_INLINE vr FI_REAL(negative)(vr x) { return VR(sub)(VR(set1)(0), x); }

/* ---- exponentials ----------------------------------------------------------------------- */

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

/* e^y = m * 2^k, y <= 0, m near 1: apart, as 2^k may lie below the exponents of normal numbers, and a factor of e^y
 * should not be rounded where e^y is subnormal. */
typedef struct {
    vr m, high, low; /* e^y = (m * high) * low */
} FI_REAL(exponential);

/* And p = m - 1, of which m has lost digits. */
FI_INLINE FI_REAL(exponential) FI_REAL(exp_and_p)(vr y, vr *p) {
    vr k;
    *p = FI_REAL(expm1_parts)(VR(max)(VR(set1)(FI_EXP_LOWEST), y), &k);
    const vr magic = VR(set1)(FI_EXP_MAGIC);
    const vr half = VR(sub)(VR(fma)(k, VR(set1)((real)0.5), magic), magic);
    return (FI_REAL(exponential)){VR(add)(VR(set1)(1), *p), FI_REAL(power_of_two)(half),
                                  FI_REAL(power_of_two)(VR(sub)(k, half))};
}

FI_INLINE FI_REAL(exponential) FI_REAL(exp_negative)(vr y) {
    vr p;
    return FI_REAL(exp_and_p)(y, &p);
}

/* x * 2^k */
FI_INLINE vr FI_REAL(scaled)(vr x, const FI_REAL(exponential) * e) {
    return VR(mul)(VR(mul)(x, e->high), e->low);
}

/* x * e^y */
FI_INLINE vr FI_REAL(times)(vr x, const FI_REAL(exponential) * e) { return FI_REAL(scaled)(VR(mul)(e->m, x), e); }

FI_INLINE vr FI_REAL(expm1_negative)(vr y) {
    vr k;
    const vr p = FI_REAL(expm1_parts)(VR(max)(VR(set1)(FI_TANH_LOWEST), y), &k);
    const vr scale = FI_REAL(power_of_two)(k);
    return VR(fma)(scale, p, VR(sub)(scale, VR(set1)(1)));
}

/* log(1 + e) = 2 artanh(e / (2 + e)), 0 <= e <= 1. Doubled before the division, which would halve the least number to 0. */
FI_INLINE vr FI_REAL(log1p)(vr e) {
    const vr twice = VR(div)(VR(add)(e, e), VR(add)(VR(set1)(2), e));
    const vr s = VR(mul)(twice, VR(set1)((real)0.5)), s2 = VR(mul)(s, s);
    vr p = VR(set1)((real)(1.0 / (2 * FI_LOG1P_TERMS + 1)));
    FI_UNROLL
    for (int n = FI_LOG1P_TERMS - 1; n >= 1; n--)
        p = VR(fma)(p, s2, VR(set1)((real)(1.0 / (2 * n + 1))));
    return VR(fma)(VR(mul)(twice, s2), p, twice);
}

/* ---- the derivative from the value ------------------------------------------------------ */

/* That of tanh, and of the sigmoid on the right, is 0 where the value rounds to 1, as in every framework. An exponential on
 * the left, which a value near -1 no longer tells, is kept with the value instead: see below. */

FI_INLINE vr FI_REAL(linear)(vr x, vr s) { return (void)s, x; }
FI_INLINE vr FI_REAL(linear_slope)(vr a, vr s) { return (void)a, (void)s, VR(set1)(1); }

/* -tanh|x| = t / (t + 2), t = e^(-2|x|) - 1, without cancellation at 0. Far out, where t rounds to -1 too early, it is
 * 2e - 1, e = e^(-2|x|): exactly -1 where that is nearest, at infinity too. */
FI_INLINE vr FI_REAL(tanh)(vr x, vr s) {
    const vr y = VR(abs)(x);
    vr k;
    const vr p = FI_REAL(expm1_parts)(VR(max)(VR(set1)(FI_TANH_LOWEST), VR(mul)(VR(set1)(-2), y)), &k);
    const vr scale = FI_REAL(power_of_two)(k);
    const vr t = VR(fma)(scale, p, VR(sub)(scale, VR(set1)(1))), e = VR(fma)(scale, p, scale);
    const vr near = VR(div)(t, VR(add)(t, VR(set1)(2))), far = VR(fma)(VR(set1)(2), e, VR(set1)(-1));
    (void)s;
    return VR(copysign)(VR(select)(VR(less)(VR(set1)(FI_TANH_FAR), y), far, near), x);
}
FI_INLINE vr FI_REAL(tanh_slope)(vr a, vr s) {
    (void)s;
    return VR(fma)(FI_REAL(negative)(a), a, VR(set1)(1));
}

/* 1 / (1 + e^-x). With e = e^-|x| <= 1: 1 / (1 + e) on the right, e / (1 + e) on the left. Far out on the right, where 1 + e
 * rounds to 1 too early, it is 1 - e. */
FI_INLINE vr FI_REAL(sigmoid)(vr x, vr s) {
    const FI_REAL(exponential) parts = FI_REAL(exp_negative)(FI_REAL(negative)(VR(abs)(x)));
    const vr e = FI_REAL(scaled)(parts.m, &parts);
    const vr numerator = VR(select)(VR(less)(x, VR(set1)(0)), e, VR(set1)(1));
    const vr near = VR(div)(numerator, VR(add)(VR(set1)(1), e)), far = VR(sub)(VR(set1)(1), e);
    (void)s;
    return VR(select)(VR(less)(VR(set1)(2 * FI_TANH_FAR), x), far, near);
}
FI_INLINE vr FI_REAL(sigmoid_slope)(vr a, vr s) {
    (void)s;
    return VR(mul)(a, VR(sub)(VR(set1)(1), a));
}

FI_INLINE vr FI_REAL(relu)(vr x, vr s) { return (void)s, VR(max)(VR(set1)(0), x); }
FI_INLINE vr FI_REAL(relu_slope)(vr a, vr s) {
    (void)s;
    return VR(select)(VR(less)(VR(set1)(0), a), VR(set1)(1), VR(set1)(0));
}

/* s x on the left, s >= 0 */
FI_INLINE vr FI_REAL(leaky_relu)(vr x, vr s) {
    return VR(select)(VR(less)(VR(set1)(0), x), x, VR(mul)(s, x));
}
FI_INLINE vr FI_REAL(leaky_relu_slope)(vr a, vr s) {
    return VR(select)(VR(less)(VR(set1)(0), a), VR(set1)(1), s);
}

FI_INLINE vr FI_REAL(hard_tanh)(vr x, vr s) {
    (void)s;
    return VR(max)(VR(set1)(-1), VR(min)(VR(set1)(1), x));
}
FI_INLINE vr FI_REAL(hard_tanh_slope)(vr a, vr s) {
    (void)s;
    return VR(select)(VR(less)(VR(abs)(a), VR(set1)(1)), VR(set1)(1), VR(set1)(0));
}

/* log(1 + e^x) = max(x, 0) + log(1 + e^-|x|) */
FI_INLINE vr FI_REAL(softplus)(vr x, vr s) {
    const FI_REAL(exponential) e = FI_REAL(exp_negative)(FI_REAL(negative)(VR(abs)(x)));
    (void)s;
    return VR(add)(VR(max)(VR(set1)(0), x),
                   FI_REAL(log1p)(FI_REAL(scaled)(e.m, &e)));
}
/* 1 - e^-a: of a small a it is as right as a. */
FI_INLINE vr FI_REAL(softplus_slope)(vr a, vr s) {
    (void)s;
    return FI_REAL(negative)(FI_REAL(expm1_negative)(FI_REAL(negative)(a)));
}

/* ---- the derivative with the value ------------------------------------------------------ */

/* e^x - 1 on the left, with its derivative e^x, which the value would round away. */
FI_INLINE vr FI_REAL(elu)(vr x, vr s, vr *slope) {
    const vrm right = VR(less)(VR(set1)(0), x);
    vr p;
    const FI_REAL(exponential) e = FI_REAL(exp_and_p)(VR(min)(VR(set1)(0), x), &p);
    const vr scale = VR(mul)(e.high, e.low);
    (void)s;
    *slope = VR(select)(right, VR(set1)(1), FI_REAL(scaled)(e.m, &e));
    return VR(select)(right, x, VR(fma)(scale, p, VR(sub)(scale, VR(set1)(1))));
}

/* Klambauer, Unterthiner, Mayr & Hochreiter, "Self-normalizing neural networks" (2017). */
#define FI_SELU_SCALE ((real)1.0507009873554804934)
#define FI_SELU_LEFT ((real)1.7580993408473768599) /* scale * alpha */
FI_INLINE vr FI_REAL(selu)(vr x, vr s, vr *slope) {
    const vrm right = VR(less)(VR(set1)(0), x);
    vr p;
    const FI_REAL(exponential) e = FI_REAL(exp_and_p)(VR(min)(VR(set1)(0), x), &p);
    const vr scale = VR(mul)(e.high, e.low), left = VR(set1)(FI_SELU_LEFT);
    (void)s;
    *slope = VR(select)(right, VR(set1)(FI_SELU_SCALE), FI_REAL(times)(left, &e));
    return VR(select)(right, VR(mul)(VR(set1)(FI_SELU_SCALE), x),
                      VR(mul)(left, VR(fma)(scale, p, VR(sub)(scale, VR(set1)(1)))));
}
#undef FI_SELU_SCALE
#undef FI_SELU_LEFT

/* x / (1 + |x|), 1 at infinity; with 1 / (1 + |x|)^2. */
FI_INLINE vr FI_REAL(softsign)(vr x, vr s, vr *slope) {
    const vr y = VR(min)(VR(set1)(FI_LARGEST), VR(abs)(x)), d = VR(add)(VR(set1)(1), y);
    const vr inverse = VR(div)(VR(set1)(1), d);
    (void)s;
    *slope = VR(mul)(inverse, inverse);
    return VR(copysign)(VR(div)(y, d), x);
}

/* x sigmoid(u), and its derivative sigmoid(u) (1 + h sigmoid(-u)), h = x u'. u = y + lost, x and y have one sign, and |lost|
 * is within the rounding of y, which the exponential would blow up. On the left everything is without its power of two until
 * the end: a factor of e^y may be subnormal, and the product not. */
FI_INLINE vr FI_REAL(gated)(vr x, vr h, vr y, vr lost, vr *slope) {
    const vrm left = VR(less)(y, VR(set1)(0));
    FI_REAL(exponential) e = FI_REAL(exp_negative)(FI_REAL(negative)(VR(abs)(y)));
    e.m = VR(fma)(VR(select)(left, lost, FI_REAL(negative)(lost)), e.m, e.m);
    const vr large_gate = VR(div)(VR(set1)(1), VR(add)(VR(set1)(1), FI_REAL(scaled)(e.m, &e)));
    const vr small_gate = VR(mul)(e.m, large_gate); /* without its power of two */
    const vr gate = VR(select)(left, small_gate, large_gate);
    const vr rest = VR(select)(left, large_gate, FI_REAL(scaled)(small_gate, &e));
    const vr product = VR(mul)(x, large_gate), derivative = VR(fma)(VR(mul)(h, gate), rest, gate);
    *slope = VR(select)(left, FI_REAL(scaled)(derivative, &e), derivative);
    return VR(select)(left, FI_REAL(times)(product, &e), product);
}

/* Far out on the left x times a vanishing factor: bounded, so that -inf gives 0 and not NaN. */
FI_INLINE vr FI_REAL(not_below)(vr x) { return VR(max)(VR(set1)(FI_EXP_LOWEST * 2), x); }

/* x sigmoid(x) */
FI_INLINE vr FI_REAL(silu)(vr x, vr s, vr *slope) {
    (void)s;
    x = FI_REAL(not_below)(x);
    /* far out on the right x times the rest may be inf * 0 */
    return FI_REAL(gated)(x, VR(min)(VR(set1)(-FI_EXP_LOWEST), x), x, VR(set1)(0), slope);
}

/* x (1 + tanh(u / 2)) / 2 = x sigmoid(u), u = 2 sqrt(2 / pi) (x + 0.044715 x^3): constants in two parts. */
#define FI_GELU_TWICE 0x1.9884533d43651p+0
#define FI_GELU_TWICE_LOW -0x1.cbc0d30ebfd15p-54
#define FI_GELU_CUBIC 0x1.6e4e26d4801f7p-5
#define FI_GELU_CUBIC_LOW 0x1.441355475a31ap-59
#define FI_LOW_PART(high, low) VR(set1)((real)((high) - (double)(real)(high) + (low)))
FI_INLINE vr FI_REAL(gelu_tanh)(vr x, vr s, vr *slope) {
    const vr cubic = VR(set1)((real)FI_GELU_CUBIC), twice = VR(set1)((real)FI_GELU_TWICE);
    const vr one = VR(set1)(1);
    x = FI_REAL(not_below)(x);
    /* beyond +-30 the gate is 0 or 1 and the slope of u would only overflow */
    const vr y = VR(max)(VR(set1)(-30), VR(min)(VR(set1)(30), x)), y2 = VR(mul)(y, y);
    /* u = a b, a = twice y, b = 1 + c, c = cubic y^2, and what each of them lost to rounding */
    const vr a = VR(mul)(twice, y), c = VR(mul)(cubic, y2), b = VR(add)(one, c), u = VR(mul)(a, b);
    const vr y2_lost = VR(fma)(y, y, FI_REAL(negative)(y2));
    const vr a_lost = VR(fma)(twice, y, FI_REAL(negative)(a));
    const vr c_lost = VR(fma)(cubic, y2_lost, VR(fma)(cubic, y2, FI_REAL(negative)(c)));
    const vr c_part = VR(sub)(b, one); /* Knuth's two-sum */
    const vr b_lost = VR(add)(VR(sub)(one, VR(sub)(b, c_part)), VR(sub)(c, c_part));
    const vr a_all = VR(fma)(FI_LOW_PART(FI_GELU_TWICE, FI_GELU_TWICE_LOW), y, a_lost);
    const vr b_all = VR(fma)(FI_LOW_PART(FI_GELU_CUBIC, FI_GELU_CUBIC_LOW), y2, VR(add)(b_lost, c_lost));
    const vr lost = VR(fma)(a, b_all, VR(fma)(b, a_all, VR(fma)(a, b, FI_REAL(negative)(u))));
    const vr slope_u = VR(mul)(twice, VR(fma)(VR(set1)(3), c, one));
    (void)s;
    return FI_REAL(gated)(x, VR(mul)(y, slope_u), u, lost, slope);
}
#undef FI_GELU_TWICE
#undef FI_GELU_TWICE_LOW
#undef FI_GELU_CUBIC
#undef FI_GELU_CUBIC_LOW
#undef FI_LOW_PART

/* x Phi(x). The tail Phi(-|x|) = exp(-x^2 / 2) t P(t), t = 1 / (1 + |x| / 4), has a small relative error everywhere. */
FI_INLINE vr FI_REAL(gelu)(vr x, vr s, vr *slope) {
    x = FI_REAL(not_below)(x);
    const vr far = VR(set1)((real)(FI_OF_REAL(FI_TAIL_FAR)));
    const vr y = VR(min)(far, VR(abs)(x)), half = VR(set1)((real)0.5);
    const vr t = VR(div)(VR(set1)(1), VR(fma)(VR(set1)((real)0.25), y, VR(set1)(1)));
    const vr at = VR(fma)(VR(set1)((real)FI_OF_REAL(FI_TAIL_SLOPE)), t,
                          VR(set1)((real)FI_OF_REAL(FI_TAIL_SHIFT)));
    vr p = VR(set1)((real)FI_OF_REAL(fi_tail)[FI_OF_REAL(FI_TAIL_DEGREE)]);
    FI_UNROLL
    for (int n = FI_OF_REAL(FI_TAIL_DEGREE) - 1; n >= 0; n--)
        p = VR(fma)(p, at, VR(set1)((real)FI_OF_REAL(fi_tail)[n]));
    p = VR(mul)(p, t);
    /* y^2 and what its rounding lost, which e^(-y^2/2) would blow up */
    const vr y2 = VR(mul)(y, y), lost = VR(fma)(y, y, FI_REAL(negative)(y2));
    FI_REAL(exponential) e = FI_REAL(exp_negative)(VR(mul)(VR(set1)((real)-0.5), y2));
    e.m = VR(fma)(VR(mul)(FI_REAL(negative)(half), lost), e.m, e.m);
    const vrm left = VR(less)(x, VR(set1)(0));
    /* Phi(-y) and phi(y), without their power of two: on the left either may be subnormal, and the derivative not */
    const vr tail = VR(mul)(e.m, p), density = VR(mul)(e.m, VR(set1)((real)0.39894228040143267794));
    const vr gate = VR(sub)(VR(set1)(1), FI_REAL(scaled)(tail, &e));
    (void)s;
    *slope = VR(select)(left, FI_REAL(scaled)(VR(fma)(FI_REAL(negative)(y), density, tail), &e),
                        VR(fma)(y, FI_REAL(scaled)(density, &e), gate));
    return VR(select)(left, FI_REAL(times)(VR(mul)(x, p), &e), VR(mul)(x, gate));
}

/* x tanh(log(1 + e^x)) (Misra 2019). With w = e^-|x|: tanh = n / d, n = 1 + 2w and d = n + 2w^2 on the right,
 * n = w (w + 2) and d = n + 2 on the left. */
FI_INLINE vr FI_REAL(mish)(vr x, vr s, vr *slope) {
    x = FI_REAL(not_below)(x);
    const FI_REAL(exponential) e = FI_REAL(exp_negative)(FI_REAL(negative)(VR(abs)(x)));
    const vr w = FI_REAL(scaled)(e.m, &e), one = VR(set1)(1), two = VR(set1)(2);
    const vrm left = VR(less)(x, VR(set1)(0));
    const vr w2 = VR(add)(w, two);
    const vr n = VR(select)(left, VR(mul)(w, w2), VR(fma)(two, w, one));
    const vr more = VR(select)(left, two, VR(mul)(VR(mul)(two, w), w)); /* d - n */
    const vr inverse = VR(div)(one, VR(add)(n, more)), t = VR(mul)(n, inverse);
    /* 1 - t^2 = (d - n)(d + n) / d^2; and, on the left without the power of two of w, the sigmoid and t */
    const vr other = VR(mul)(VR(mul)(more, inverse), VR(add)(one, t));
    const vr sigmoid = VR(div)(VR(select)(left, e.m, one), VR(add)(one, w));
    const vr first = VR(select)(left, VR(mul)(VR(mul)(e.m, w2), inverse), t);
    (void)s;
    const vr bounded = VR(min)(VR(set1)(-FI_EXP_LOWEST), x);
    const vr derivative = VR(fma)(VR(mul)(bounded, other), sigmoid, first);
    *slope = VR(select)(left, FI_REAL(scaled)(derivative, &e), derivative);
    return VR(select)(left, FI_REAL(times)(VR(mul)(VR(mul)(x, w2), inverse), &e), VR(mul)(x, t));
}

/* Far arguments, one lane at a time: x becomes x - n pi, sign (-1)^n. */
FI_NOINLINE void FI_REAL(reduce_far)(vr x, vr *r, vr *sign) {
    real lanes[FI_REAL_LANES], signs[FI_REAL_LANES], far[FI_REAL_LANES];
    VR(store)(far, x);
    VR(store)(lanes, *r);
    VR(store)(signs, *sign);
    for (int l = 0; l < FI_REAL_LANES; l++) {
        const double y = (double)far[l];
        if (!(y >= (double)FI_SIN_FAR || y <= -(double)FI_SIN_FAR)) continue;
        int odd = 0;
        lanes[l] = y - y == 0 ? (real)fi_reduce_pi(y, &odd) : (real)(y - y); /* NaN of an infinity */
        signs[l] = odd ? (real)-1 : (real)1;
    }
    *r = VR(load)(lanes);
    *sign = VR(load)(signs);
}

/* x - n pi in three steps of Cody and Waite, the first exact; then series for sin and cos. */
FI_INLINE vr FI_REAL(sin)(vr x, vr s, vr *slope) {
    const vr magic = VR(set1)(FI_EXP_MAGIC);
    const vr n = VR(sub)(VR(fma)(x, VR(set1)((real)0.31830988618379067154), magic), magic);
    vr r = VR(fma)(n, VR(set1)(-FI_PI_HIGH), x);
    r = VR(fma)(n, VR(set1)(-FI_PI_MIDDLE), r);
    r = VR(fma)(n, VR(set1)(-FI_PI_LOW), r);
    /* (-1)^n = 1 - 4 |n/2 - [n/2]|, the bracket to the nearest: the difference is 0 or +-1/2 */
    const vr half = VR(mul)(n, VR(set1)((real)0.5));
    const vr odd = VR(sub)(half, VR(sub)(VR(add)(half, magic), magic));
    vr sign = VR(fma)(VR(set1)(-4), VR(abs)(odd), VR(set1)(1));
    if (VR(count)(VR(less)(VR(abs)(x), VR(set1)(FI_SIN_FAR)), FI_REAL_LANES) != FI_REAL_LANES)
        FI_REAL(reduce_far)(x, &r, &sign);
    static const double over_factorial[] = {FI_OVER_FACTORIALS};
    const vr r2 = VR(mul)(r, r);
    vr p = VR(set1)((real)over_factorial[2 * FI_SIN_TERMS + 1]);
    vr q = VR(set1)((real)over_factorial[2 * FI_SIN_TERMS]);
    FI_UNROLL
    for (int i = FI_SIN_TERMS - 1; i >= 1; i--) {
        p = VR(fma)(p, r2, VR(set1)((real)over_factorial[2 * i + 1]));
        q = VR(fma)(q, r2, VR(set1)((real)over_factorial[2 * i]));
    }
    (void)s;
    *slope = VR(mul)(sign, VR(fma)(r2, q, VR(set1)(1)));
    return VR(mul)(sign, VR(fma)(VR(mul)(r, r2), p, r));
}
