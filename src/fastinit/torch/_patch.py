"""Our functions in the place of PyTorch's own, wherever somebody holds one of those.

A function of torch.nn.init is imported by name into modules, kept in dicts, in partials, in default arguments. So the function
objects stay, and it is their code that is exchanged: whoever holds one calls ours, and has PyTorch's own again when the code is
put back, however many names were made meanwhile. Methods of tensors are of C and have no such code; they are covered by
attributes of the class, which ask at every call whether they are wanted.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import init

from . import _fixed, _init
from ._memory import is_plain
from ._report import Report, recording

__all__ = ["patch", "patched", "unpatch"]

_OURS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(_init, name)
        for name in (
            "uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_",
            "kaiming_normal_", "orthogonal_", "sparse_",
        )
    },
    "dirac_": _fixed.dirac_,
    "_no_grad_uniform_": _init.uniform_,
    "_no_grad_normal_": _init.normal_,
    "_no_grad_trunc_normal_": _init.trunc_normal_,
}  # fmt: skip
# PyTorch's functions of those names; what somebody else has put there is left alone.
_PATCHED: dict[str, types.FunctionType] = {
    name: function
    for name in _OURS
    if isinstance(function := getattr(init, name, None), types.FunctionType)
    and function.__module__ == init.__name__
    and not function.__closure__
}


def _twin(function: types.FunctionType) -> types.FunctionType:
    """Another function of the same code, which stays as it is."""
    twin = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def _code_that_routes(name: str, function: types.FunctionType) -> types.CodeType:
    """Code of the signature of `function`, so that its defaults and keywords stay, that calls `route`."""
    parameters = inspect.signature(function).parameters.values()
    bare = inspect.Signature([p.replace(default=p.empty, annotation=p.empty) for p in parameters])
    passed = ", ".join(f"{p.name}={p.name}" if p.kind is p.KEYWORD_ONLY else p.name for p in parameters)
    source = f"def {name}{bare}:\n    from {__name__} import route\n    return route({name!r}, {passed})\n"
    scope: dict[str, Any] = {}
    exec(compile(source, f"<fastinit.torch in the place of torch.nn.init.{name}>", "exec"), scope)
    code: types.CodeType = scope[name].__code__
    return code


_THEIRS = {name: _twin(function) for name, function in _PATCHED.items()}  # for tensors that are not ours to fill
_ROUTING = {name: _code_that_routes(name, function) for name, function in _PATCHED.items()}


def route(name: str, tensor: Any, *args: Any, **options: Any) -> Any:
    """A call of a function of torch.nn.init while patched: plain tensors go to ours.

    A module may be built on the meta device, or of fake tensors, to be filled later: that stays PyTorch's no-op.
    """
    if (is_plain(tensor) or hasattr(tensor, "placements")) and not tensor.is_meta:
        return _OURS[name](tensor, *args, **options)
    return _THEIRS[name](tensor, *args, **options)


# ---- methods ----------------------------------------------------------------------------------


def _method(name: str, ours: Callable[..., Any], first: str, second: str, defaults: tuple[float, float]) -> Any:
    """The method of that name: ours on the memory of plain tensors of the CPU that autograd does not record."""
    theirs = getattr(torch._C.TensorBase, name)

    @functools.wraps(theirs)
    def method(self: Any, *args: Any, **options: Any) -> Any:
        if not (
            _active
            and is_plain(self)
            and self.is_cpu
            and not self.is_complex()
            and not (self.requires_grad and torch.is_grad_enabled())
            and options.keys() <= {first, second, "generator"}
            and len(args) + len(options.keys() - {"generator"}) <= 2
        ):
            return theirs(self, *args, **options)
        given = dict(zip((first, second), args, strict=False)) | options
        try:
            return ours(
                self, given.get(first, defaults[0]), given.get(second, defaults[1]), given.get("generator")
            )
        except (NotImplementedError, RuntimeError, TypeError, ValueError):
            # Refused before it was written to: PyTorch says itself what it thinks of these arguments.
            return theirs(self, *args, **options)

    return method


_METHODS = {
    "normal_": _method("normal_", _init.normal_, "mean", "std", (0.0, 1.0)),
    "uniform_": _method("uniform_", _init.uniform_, "from", "to", (0.0, 1.0)),
}
_covered: dict[str, Any] = {}  # what the class itself had under these names


# ---- on and off -------------------------------------------------------------------------------

_lock = threading.RLock()
_wanted = False  # by `patch`
_blocks = 0  # of `patched` that are open, in whatever thread
_active = False


def _settle() -> None:
    """Exchange the code, or put it back, if that is not as it should be."""
    global _active
    wanted = _wanted or _blocks > 0
    if wanted == _active:
        return
    for name, function in _PATCHED.items():
        function.__code__ = _ROUTING[name] if wanted else _THEIRS[name].__code__
    for name, method in _METHODS.items():
        if wanted:
            _covered[name] = torch.Tensor.__dict__.get(name)
            setattr(torch.Tensor, name, method)
        elif torch.Tensor.__dict__.get(name) is method:  # nobody has covered it since
            if _covered[name] is None:
                delattr(torch.Tensor, name)
            else:
                setattr(torch.Tensor, name, _covered[name])
    _active = wanted



def patch() -> None:
    """Let PyTorch's own modules, and whoever else calls the functions of torch.nn.init, call ours.

    Every random function of torch.nn.init and `dirac_` is replaced in the whole process until `unpatch`, with those of its
    helpers that draw (``_no_grad_normal_`` and its like): under all names that they have or get anywhere. So are the methods
    ``tensor.normal_`` and ``tensor.uniform_`` of plain real tensors on the CPU where autograd does not record them. A second
    call does nothing more. Tensors on the meta device stay uninitialised, as PyTorch leaves them. ``torch.randn`` and its
    like are not replaced: ``patched(report=True)`` names the parameters that are made so.

    Examples
    --------
    >>> patch()
    >>> layer = torch.nn.Linear(64, 64)
    >>> unpatch()
    """
    global _wanted
    with _lock:
        _wanted = True
        _settle()


def unpatch() -> None:
    """Take back `patch`: PyTorch's own functions are what they were, under every name. Without it, do nothing.

    A block of `patched` that is open, in this or another thread, keeps them replaced until it ends.
    """
    global _wanted
    with _lock:
        _wanted = False
        _settle()


@contextlib.contextmanager
def patched(*, report: bool = False) -> Iterator[Report | None]:
    """`patch` inside a ``with`` block, for the whole process; afterwards what was before.

    Parameters
    ----------
    report : bool, default False
        Watch this thread, and give a `Report` of the parameters of the modules that it makes: which of them were drawn past
        fastinit, and by what. Every operation of PyTorch takes some 20 microseconds longer meanwhile.

    Examples
    --------
    >>> with patched():
    ...     layer = torch.nn.Linear(64, 64)
    >>> with patched(report=True) as report:
    ...     layer.scale = torch.nn.Parameter(torch.randn(64))
    >>> print(report)
    fastinit drew 0 of 3 parameters; past it 1:
      Linear.scale (64,): torch.randn
    """
    global _blocks
    with _lock:
        _blocks += 1
        _settle()
    try:
        with recording() if report else contextlib.nullcontext() as found:
            yield found
    finally:
        with _lock:
            _blocks -= 1
            _settle()
