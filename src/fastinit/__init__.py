"""Weight initialisation at the speed of the hardware, the same bits on every machine."""

from types import FunctionType as _Function

# ruff: noqa: F403
from . import gains, initializers, plans, residual
from ._common.threads import get_num_threads, num_threads, set_num_threads
from ._core import STREAM_VERSION
from ._engine.recorder import Recorder
from ._engine.recording import Recording
from ._engine.results import Gradients, LayerReport, Moments, Propagation
from ._engine.stack import Stack
from ._stream.keys import Key
from ._stream.sampling import normal, truncated_normal, uniform
from ._training.fit import History, fit, predict
from ._training.losses import mean_squared_error, softmax_cross_entropy
from ._training.optimizers import SGD, Adam, Momentum
from ._version import __version__
from .config import show_config
from .diagnosis.compare import Comparison, compare
from .diagnosis.diagnose import diagnose
from .diagnosis.judge import Finding
from .diagnosis.result import Change, DiagnosedLayer, Diagnosis
from .diagnosis.starts import ScaledLayer, lsuv, variance_fit
from .diagnosis.thresholds import Thresholds
from .initializers import *

__all__ = [
    "SGD",
    "STREAM_VERSION",
    "Adam",
    "Change",
    "Comparison",
    "DiagnosedLayer",
    "Diagnosis",
    "Finding",
    "Gradients",
    "History",
    "Key",
    "LayerReport",
    "Moments",
    "Momentum",
    "Propagation",
    "Recorder",
    "Recording",
    "ScaledLayer",
    "Stack",
    "Thresholds",
    "__version__",
    "compare",
    "diagnose",
    "fit",
    "gains",
    "get_num_threads",
    "lsuv",
    "mean_squared_error",
    "normal",
    "num_threads",
    "plans",
    "predict",
    "residual",
    "set_num_threads",
    "show_config",
    "softmax_cross_entropy",
    "truncated_normal",
    "uniform",
    "variance_fit",
]
__all__ += initializers.__all__

# Public names belong to the package and not to the file in which they are defined: pickles stay valid when files move.
for _name in __all__:
    _value = globals()[_name]
    if isinstance(_value, (type, _Function)):
        _value.__module__ = __name__
del _name, _value
