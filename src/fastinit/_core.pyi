from collections.abc import Sequence
from typing import Any, Final

STREAM_VERSION: Final[int]
COMPILER: Final[str]
DTYPES: Final[tuple[str, ...]]
LAWS: Final[tuple[str, ...]]
ACTIVATIONS: Final[tuple[str, ...]]

def available_isas() -> tuple[str, ...]: ...
