"""Initializers of every kind with a shape each, and the variances of the random ones, computed by hand."""

import math

from fastinit import FanRule
from fastinit.initializers import (
    S4D,
    STFT,
    Bilinear,
    ChronoBias,
    Constant,
    CriticalNormal,
    DeltaOrthogonal,
    DepthwiseResidual,
    Dirac,
    ForgetGateBias,
    GainNormal,
    GlorotNormal,
    GlorotUniform,
    Hadamard,
    HeNormal,
    HeUniform,
    HippoLegS,
    HippoLegSB,
    Icnr,
    Identity,
    LeCunNormal,
    LeCunUniform,
    LogUniform,
    LoraA,
    LoraB,
    MambaDtBias,
    MambaLogA,
    MuP,
    Ones,
    Orthogonal,
    PerGate,
    PriorBias,
    RandomNormal,
    RandomUniform,
    ResidualNormal,
    SeluNormal,
    SirenFirst,
    SirenHidden,
    SmallInit,
    Sparse,
    SpectralScaling,
    Times,
    TorchLinear,
    TruncatedNormal,
    UnitScaling,
    VarianceScaling,
    WangResidual,
    Zeros,
)

WIDE = (400, 300)


BIAS = (4000,)


KERNEL = (3, 3, 16, 64)


def mean_log_square(a, b):
    """E ln(U)^2 for U uniform in [a, b], from its antiderivative x (ln^2 x - 2 ln x + 2)."""

    def primitive(x):
        return x * (math.log(x) ** 2 - 2 * math.log(x) + 2)

    return (primitive(b) - primitive(a)) / (b - a)


# (initializer, shape, variance computed by hand, fraction of the elements that are drawn independently)
RANDOM = [
    (RandomUniform(-1, 3), WIDE, 16 / 12, 1),
    (RandomNormal(1.0, 0.3), WIDE, 0.09, 1),
    (TruncatedNormal(std=0.05, corrected=True), WIDE, 0.0025, 1),
    (TruncatedNormal(1.0, 0.05, -1.0, 3.0, corrected=True), WIDE, 0.0025, 1),
    (TruncatedNormal(std=0.02, low=-2, high=2), WIDE, 0.0004, 1),
    (VarianceScaling(fans=FanRule(batch_axes=0)), (4, 100, 300), 1 / 100, 1),
    (GlorotNormal(), WIDE, 2 / 700, 1),
    (GlorotUniform(), WIDE, 2 / 700, 1),
    (HeNormal(), WIDE, 2 / 400, 1),
    (HeUniform(), WIDE, 2 / 400, 1),
    (LeCunNormal(), WIDE, 1 / 400, 1),
    (LeCunUniform(), WIDE, 1 / 400, 1),
    (GainNormal(), WIDE, 2 / 400, 1),
    (GainNormal("tanh"), WIDE, 1 / 0.3942944904 / 400, 1),
    (GainNormal("tanh", "gradient"), WIDE, 1.46741359**2 / 400, 1),
    (CriticalNormal(), WIDE, 1.76095464 / 400, 1),
    (CriticalNormal("tanh", 1.0), WIDE, 3.44321091 / 400, 1),
    (SeluNormal(), WIDE, 1 / 400, 1),
    (TorchLinear(), WIDE, 1 / 1200, 1),
    (SirenFirst(), WIDE, 1 / (3 * 400**2), 1),
    (SirenHidden(), WIDE, 2 / (400 * 900), 1),
    (SirenHidden(15.0, True), WIDE, 1 / (400 * 225), 1),
    (SmallInit(512), WIDE, 2 / 2560, 1),
    (WangResidual(24, 512), WIDE, 4 / (576 * 512), 1),
    (ResidualNormal(12), WIDE, 0.0004 / 24, 1),
    (ResidualNormal(12, 0.01, 1), WIDE, 0.0001 / 12, 1),
    (DepthwiseResidual(3), WIDE, 0.0004 / 8, 1),
    (MuP(), WIDE, 1 / 400, 1),
    (MuP("output", 64), WIDE, 64 / 400**2, 1),
    (MuP("input", fans=FanRule(layout="oi")), WIDE, 1 / 300, 1),
    (SpectralScaling(), WIDE, 300 / 400 / 400, 1),
    (SpectralScaling(), (300, 400), 1 / 300, 1),
    (UnitScaling("output"), WIDE, 1.0, 1),
    (LoraA(), (4000, 16), 1 / 12000, 1),
    (LoraA("normal"), (4000, 16), 1 / 256, 1),
    (Orthogonal(2.0), WIDE, 4 / 400, 1),
    (DeltaOrthogonal(), (3, 3, 50, 60), 1 / 540, 1),
    (Sparse(15, std=2.0), WIDE, 15 * 4 / 400, 1),
    (Sparse(sparsity=0.901), WIDE, 39 * 0.0001 / 400, 1),
    (Icnr("he_normal"), KERNEL, 2 / 144, 1 / 4),
    (Icnr(HeNormal(fans=FanRule(layout="oi")), 3, "oi"), (90, 50, 3, 3), 2 / 450, 1 / 9),
    (ChronoBias(1000.0), BIAS, 2 / 4 * mean_log_square(1, 999), 1 / 4),
    (LogUniform(), BIAS, mean_log_square(1, 16) - ((16 * math.log(16) - 16 + 1) / 15) ** 2, 1),
    (MambaDtBias(), BIAS, None, 1),
    (PerGate(("glorot_uniform",) * 3), (400, 900), 2 / 700, 1),
    (PerGate([Zeros(), RandomNormal(3.0, 2.0)], axis=0), WIDE, 2 + 9 / 4, 1),
    (Times("glorot_normal", 0.5), WIDE, 0.25 * 2 / 700, 1),
    (Times(RandomUniform(0, 1), -2.0), WIDE, 4 / 12, 1),
    (Times(TruncatedNormal(1.0, 1.0, 0.0, 3.0), -1.0), WIDE, None, 1),
    (Times(Orthogonal(), 3.0), WIDE, 9 / 400, 1),
]  # fmt: skip


FIXED = [
    (Zeros(), WIDE),
    (Ones(), WIDE),
    (Constant([1.0, 2.0]), (3, 2)),
    (Identity(0.5), (2, 30, 20)),
    (Dirac(groups=2), KERNEL),
    (PriorBias(), (5,)),
    (LoraB(), (16, 4000)),
    (Hadamard(), (30, 100)),
    (Hadamard("oi"), (60, 30, 3, 3)),
    (Bilinear(groups=16), (4, 4, 1, 16)),
    (Bilinear(2.0, layout="oi"), (5, 5, 3, 3)),
    (STFT(), (64, 1, 33)),
    (STFT("imag", "blackman", "spectrum", True), (50, 1, 33)),
    (ForgetGateBias(2.0), (32,)),
    (HippoLegS(), (3, 8, 8)),
    (HippoLegSB(), (8,)),
    (S4D("inv", "imaginary"), (4, 16)),
    (MambaLogA(), (4, 16)),
    (Times("ones", 0.25), (3,)),
]  # fmt: skip


CASES = [(one, shape) for one, shape, *_ in RANDOM] + FIXED
