"""One arithmetic, whatever the caller's is: rounded to nearest, with subnormal numbers.

Other libraries in a process switch on flush-to-zero (any shared object linked with -ffast-math does at load) or another rounding
mode. The kernels force their own floating-point environment at every entry; `ieee` does it for what Python and NumPy
compute around them: standard deviations, bounds, conversions of dtypes. It stands at the public entry points, so that
everything below them is inside.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .._core import fpenv_enter, fpenv_leave

__all__ = ["ieee"]

T = TypeVar("T")

_CALLED = ("__init__", "__post_init__", "__call__")


def ieee(made: T) -> T:
    """A function that computes so; or a class, all of whose public methods and constructors do.

    Properties and class methods of a class stay as they are, and so do methods that are so already.
    """
    if not isinstance(made, type):
        return _guarded(made)  # type: ignore[arg-type, return-value]
    for name, member in tuple(vars(made).items()):
        if inspect.isfunction(member) and (name in _CALLED or not name.startswith("_")) and not hasattr(member, "_ieee"):
            setattr(made, name, _guarded(member))
    return made


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def computed(*args: Any, **options: Any) -> Any:
        # What must be quick has these lines of its own: a call in between takes longer than they do.
        saved = fpenv_enter()
        try:
            return function(*args, **options)
        finally:
            fpenv_leave(saved)

    computed._ieee = True  # type: ignore[attr-defined]
    return computed
