"""Our functions in the place of PyTorch's own.

PyTorch's modules call torch.nn.init in their reset_parameters, some through the module and some by names that they imported.
Both are found by looking for the functions themselves in every loaded module.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import init

from . import _fixed, _init

__all__ = ["patch", "patched", "unpatch"]

_OURS: dict[str, Callable[..., Any]] = {
    name: getattr(_fixed if name == "dirac_" else _init, name)
    for name in (
        "uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_",
        "kaiming_normal_", "orthogonal_", "sparse_", "dirac_",
    )
}  # fmt: skip
_lock = threading.RLock()
_patched = False


def _routed(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """PyTorch's function, with plain tensors going to ours.

    A module may be built on the meta device, or of fake tensors, to be filled later: that stays PyTorch's no-op.
    """
    plain = (torch.Tensor, torch.nn.Parameter)

    @functools.wraps(theirs)
    def routed(tensor: Any, *args: Any, **options: Any) -> Any:
        if tensor.is_meta or not (type(tensor) in plain or hasattr(tensor, "placements")):
            return theirs(tensor, *args, **options)
        return ours(tensor, *args, **options)

    return routed


# Objects of their own, so that unpatching finds what patching put there, and nothing that a user imported.
_THEIRS = {name: getattr(init, name) for name in _OURS}
_ROUTED = {name: _routed(_THEIRS[name], ours) for name, ours in _OURS.items()}


def _replace(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Wherever a loaded module holds a function of `old`, put that of `new`."""
    successor = {id(function): new[name] for name, function in old.items()}
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict) or names is globals():
            continue
        for name, value in list(names.items()):
            if id(value) in successor:
                names[name] = successor[id(value)]


def patch() -> None:
    """Let PyTorch's own modules, and whoever imported the functions of torch.nn.init by name, call ours.

    Every random function of torch.nn.init and `dirac_` is replaced, in every module that is loaded, until `unpatch`; modules
    imported meanwhile are included. A second call does nothing more. Tensors on the meta device stay uninitialised,
    as PyTorch leaves them. Functions that were stored elsewhere (a partial, a dict, a default argument) are not found.

    Examples
    --------
    >>> patch()
    >>> layer = torch.nn.Linear(64, 64)
    >>> unpatch()
    """
    global _patched
    with _lock:
        _replace(_THEIRS, _ROUTED)
        _patched = True


def unpatch() -> None:
    """Put PyTorch's own functions back wherever `patch` replaced them; without it, do nothing."""
    global _patched
    with _lock:
        if _patched:
            _replace(_ROUTED, _THEIRS)
        _patched = False


@contextlib.contextmanager
def patched() -> Iterator[None]:
    """`patch` inside a ``with`` block, for the whole process; afterwards what was before.

    Examples
    --------
    >>> with patched():
    ...     layer = torch.nn.Linear(64, 64)
    """
    before = _patched
    patch()
    try:
        yield
    finally:
        if not before:
            unpatch()
