"""One floating-point environment for all computations, whatever the caller's: round to nearest, with subnormal numbers.

Other libraries in a process may switch on flush-to-zero (any shared object linked with -ffast-math does so when it is loaded) or
another rounding mode. The kernels set their own environment at every entry; the decorator `ieee` does so for what Python and
NumPy compute around them: standard deviations, bounds, conversions of dtypes. It stands at the public entry points and so covers
everything that they call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .._core import fpenv_enter, fpenv_leave

__all__ = ["ieee"]

T = TypeVar("T")

_PUBLIC_SPECIAL = ("__init__", "__post_init__", "__call__")


def ieee(made: T) -> T:
    """Decorator: a function, or all public methods and constructors of a class, compute in this environment.

    Properties and class methods of a class stay as they are, and so do methods that are decorated already.
    """
    if not isinstance(made, type):
        return _guarded(made)  # type: ignore[arg-type, return-value]
    for name, member in tuple(vars(made).items()):
        if inspect.isfunction(member) and (name in _PUBLIC_SPECIAL or not name.startswith("_")) and not hasattr(member, "_ieee"):
            setattr(made, name, _guarded(member))
    return made


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def computed(*args: Any, **options: Any) -> Any:
        # Calls that must be fast repeat these lines instead of being decorated: one more Python call costs more than they do.
        saved = fpenv_enter()
        try:
            return function(*args, **options)
        finally:
            fpenv_leave(saved)

    computed._ieee = True  # type: ignore[attr-defined]
    return computed
