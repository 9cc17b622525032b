"""Initializers: frozen objects that make a weight tensor of a shape.

``HeNormal(seed=0)((512, 256), dtype="float32")``. Shapes are ``(fan_in, fan_out)`` or ``(*receptive field, in, out)``. In these
classes "normal" is never truncated: truncation has its own name.
"""

from .base import Initializer
from .fixed import Constant, Identity, Ones, Zeros
from .lookup import get
from .orthogonal import DeltaOrthogonal, Orthogonal
from .plain import RandomNormal, RandomUniform, TruncatedNormal
from .scaling import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    KaimingNormal,
    KaimingUniform,
    LeCunNormal,
    LeCunUniform,
    Scaled,
    SeluNormal,
    TorchLinear,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)

__all__ = [
    "Constant", "DeltaOrthogonal", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "Initializer",
    "KaimingNormal", "KaimingUniform", "LeCunNormal", "LeCunUniform", "Ones", "Orthogonal",
    "RandomNormal", "RandomUniform", "Scaled", "SeluNormal", "TorchLinear", "TruncatedNormal", "VarianceScaling", "XavierNormal",
    "XavierUniform", "Zeros", "get",
]  # fmt: skip
