"""Whether a network will train from its start: what is measured, what is judged, what is recommended and tried.

May import: _common, _stream, gains, initializers, theory, _engine, _core.
"""

from .compare import Comparison, compare
from .diagnose import diagnose
from .judge import Finding
from .result import Change, DiagnosedLayer, Diagnosis
from .starts import lsuv, variance_fit
from .thresholds import VERDICTS, Thresholds

__all__ = [
    "VERDICTS",
    "Change",
    "Comparison",
    "DiagnosedLayer",
    "Diagnosis",
    "Finding",
    "Thresholds",
    "compare",
    "diagnose",
    "lsuv",
    "variance_fit",
]
