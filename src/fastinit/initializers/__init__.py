"""Initializers: frozen objects that make a weight tensor of a given shape.

``HeNormal(seed=0)((512, 256), dtype="float32")``. Shapes are ``(fan_in, fan_out)`` or ``(*receptive field, in, out)``. A class
with "Normal" in its name never truncates; `TruncatedNormal` does.

May import: _common, _stream, theory, gains, _core.
"""

# ruff: noqa: F403
from . import (
    activation,
    composed,
    convolution,
    depth,
    deterministic,
    distributions,
    orthogonal,
    recurrent,
    signal,
    siren,
    structured,
    transformed_uniform,
    variance_scaling,
    width,
)
from .activation import *
from .base import Initializer
from .catalogue import catalogue
from .composed import *
from .convolution import *
from .depth import *
from .deterministic import *
from .distributions import *
from .fans import FanRule, Fans, compute_fans
from .fill_many import fill_many
from .lookup import get
from .orthogonal import *
from .recurrent import *
from .signal import *
from .siren import *
from .structured import *
from .transformed_uniform import *
from .variance_scaling import *
from .width import *

CATALOGUE = catalogue()

__all__ = ["CATALOGUE", "FanRule", "Fans", "Initializer", "compute_fans", "fill_many", "get"]
__all__ += deterministic.__all__
__all__ += distributions.__all__
__all__ += variance_scaling.__all__
__all__ += activation.__all__
__all__ += siren.__all__
__all__ += depth.__all__
__all__ += width.__all__
__all__ += orthogonal.__all__
__all__ += structured.__all__
__all__ += convolution.__all__
__all__ += signal.__all__
__all__ += recurrent.__all__
__all__ += transformed_uniform.__all__
__all__ += composed.__all__
