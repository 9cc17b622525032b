"""Initializers: frozen objects that make a weight tensor of a shape.

``HeNormal(seed=0)((512, 256), dtype="float32")``. Shapes are ``(fan_in, fan_out)`` or ``(*receptive field, in, out)``. In these
classes "normal" is never truncated: truncation has its own name.

May import: _common, _stream, theory, gains, _core.
"""

from .activation import CriticalNormal, GainNormal
from .base import Initializer
from .composed import PerGate, Times
from .convolution import Bilinear, Dirac, Icnr
from .depth import DepthwiseResidual, ResidualNormal, SmallInit, WangResidual
from .deterministic import Constant, Identity, Ones, Zeros
from .distributions import RandomNormal, RandomUniform, TruncatedNormal
from .lookup import CATALOGUE, get
from .orthogonal import DeltaOrthogonal, Orthogonal
from .recurrent import (
    S4D,
    ForgetGateBias,
    HippoLegS,
    HippoLegSB,
    MambaLogA,
    PriorBias,
)
from .signal import STFT
from .siren import SirenFirst, SirenHidden
from .structured import Hadamard, Sparse
from .transformed_uniform import ChronoBias, LogUniform, MambaDtBias
from .variance_scaling import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    KaimingNormal,
    KaimingUniform,
    LeCunNormal,
    LeCunUniform,
    SeluNormal,
    TorchLinear,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)
from .width import (
    LoraA,
    LoraB,
    MuP,
    SpectralScaling,
    UnitScaling,
    lora_scaling,
)

__all__ = [
    "CATALOGUE",
    "S4D",
    "STFT",
    "Bilinear",
    "ChronoBias",
    "Constant", "CriticalNormal",
    "DeltaOrthogonal",
    "DepthwiseResidual",
    "Dirac",
    "ForgetGateBias", "GainNormal",
    "GlorotNormal",
    "GlorotUniform",
    "Hadamard",
    "HeNormal",
    "HeUniform",
    "HippoLegS",
    "HippoLegSB",
    "Icnr",
    "Identity",
    "Initializer",
    "KaimingNormal",
    "KaimingUniform",
    "LeCunNormal",
    "LeCunUniform",
    "LogUniform",
    "LoraA",
    "LoraB",
    "MambaDtBias",
    "MambaLogA",
    "MuP",
    "Ones",
    "Orthogonal",
    "PerGate",
    "PriorBias",
    "RandomNormal",
    "RandomUniform",
    "ResidualNormal",
    "SeluNormal",
    "SirenFirst",
    "SirenHidden",
    "SmallInit",
    "Sparse",
    "SpectralScaling",
    "Times",
    "TorchLinear",
    "TruncatedNormal",
    "UnitScaling",
    "VarianceScaling",
    "WangResidual",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "get",
    "lora_scaling",
]  # fmt: skip
