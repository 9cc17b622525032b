"""Weight initialisation at the speed of the hardware, the same bits on every machine."""

from ._core import STREAM_VERSION
from ._version import __version__
from .config import show_config
from .keys import Key
from .sampling import normal, truncated_normal, uniform
from .threads import get_num_threads, num_threads, set_num_threads

__all__ = [
    "STREAM_VERSION",
    "Key",
    "__version__",
    "get_num_threads",
    "normal",
    "num_threads",
    "set_num_threads",
    "show_config",
    "truncated_normal",
    "uniform",
]
