"""Versions, compiler, instruction sets and threads of this build on this machine.

May import: _common, _core.
"""

from __future__ import annotations

import os

import numpy as np

from . import _core
from ._common.threads import get_num_threads

__all__ = ["show_config"]


def show_config() -> None:
    """Print versions, compiler, instruction sets and number of threads, one per line, as bug reports should quote them."""
    from ._version import __version__

    rows = {
        "fastinit": __version__,
        "stream version": _core.STREAM_VERSION,
        "compiler": _core.COMPILER,
        "instruction sets": ", ".join(_core.available_isas()),
        "instruction set in use": _core.isa(),
        "threads": get_num_threads(),
        "CPUs": os.cpu_count(),
        "NumPy": np.__version__,
    }
    for name, value in rows.items():
        print(f"{name + ':':<24}{value}")
