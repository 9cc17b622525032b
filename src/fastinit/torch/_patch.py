"""Makes PyTorch's functions of torch.nn.init call fastinit's, wherever they are referenced.

Functions of torch.nn.init are imported by name into modules and kept in dicts, partials and default arguments. So the
function objects stay, and their code object is replaced: every reference then calls fastinit, and calls PyTorch again
once the code is restored. Methods of tensors are written in C and have no code object; attributes of the class
torch.Tensor hide them, and check at every call whether `patch` is active.
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
# PyTorch's functions of those names; a function that another library has put there is left alone.
_PATCHED: dict[str, types.FunctionType] = {
    name: function
    for name in _OURS
    if isinstance(function := getattr(init, name, None), types.FunctionType)
    and function.__module__ == init.__name__
    and not function.__closure__
}


def _copy_of(function: types.FunctionType) -> types.FunctionType:
    """A copy of a function, whose code stays PyTorch's."""
    copied = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


def _code_that_routes(name: str, function: types.FunctionType) -> types.CodeType:
    """Code that calls `route`, with the signature of `function`, so that its defaults and keywords stay valid."""
    parameters = inspect.signature(function).parameters.values()
    bare = inspect.Signature([p.replace(default=p.empty, annotation=p.empty) for p in parameters])
    passed = ", ".join(f"{p.name}={p.name}" if p.kind is p.KEYWORD_ONLY else p.name for p in parameters)
    source = f"def {name}{bare}:\n    from {__name__} import route\n    return route({name!r}, {passed})\n"
    scope: dict[str, Any] = {}
    exec(compile(source, f"<fastinit.torch in the place of torch.nn.init.{name}>", "exec"), scope)
    code: types.CodeType = scope[name].__code__
    return code


_THEIRS = {name: _copy_of(function) for name, function in _PATCHED.items()}  # for tensors that fastinit does not fill
_ROUTING = {name: _code_that_routes(name, function) for name, function in _PATCHED.items()}


def route(name: str, tensor: Any, *args: Any, **options: Any) -> Any:
    """Handle a call of a function of torch.nn.init while patched: fastinit fills plain tensors and DTensors.

    Tensors on the meta device and fake tensors have no memory: for them PyTorch's function is called, which does nothing.
    """
    if (is_plain(tensor) or hasattr(tensor, "placements")) and not tensor.is_meta:
        return _OURS[name](tensor, *args, **options)
    return _THEIRS[name](tensor, *args, **options)


# ---- methods ----------------------------------------------------------------------------------


def _method(name: str, ours: Callable[..., Any], first: str, second: str, defaults: tuple[float, float]) -> Any:
    """A method of torch.Tensor that calls `ours` for plain real CPU tensors that autograd does not record."""
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
            # Nothing has been written yet: PyTorch accepts the arguments, or raises its own error.
            return theirs(self, *args, **options)

    return method


_METHODS = {
    "normal_": _method("normal_", _init.normal_, "mean", "std", (0.0, 1.0)),
    "uniform_": _method("uniform_", _init.uniform_, "from", "to", (0.0, 1.0)),
}
_hidden: dict[str, Any] = {}  # attributes of torch.Tensor itself that the methods hide; None where there was none


# ---- on and off -------------------------------------------------------------------------------

_lock = threading.RLock()
_patched = False  # by `patch`
_open_blocks = 0  # with blocks of `patched` in all threads
_active = False  # whether the code is replaced now


def _update() -> None:
    """Replace or restore the code, as the state demands."""
    global _active
    wanted = _patched or _open_blocks > 0
    if wanted == _active:
        return
    for name, function in _PATCHED.items():
        function.__code__ = _ROUTING[name] if wanted else _THEIRS[name].__code__
    for name, method in _METHODS.items():
        if wanted:
            _hidden[name] = torch.Tensor.__dict__.get(name)
            setattr(torch.Tensor, name, method)
        elif torch.Tensor.__dict__.get(name) is method:  # no other library has replaced it since
            if _hidden[name] is None:
                delattr(torch.Tensor, name)
            else:
                setattr(torch.Tensor, name, _hidden[name])
    _active = wanted


def patch() -> None:
    """Make PyTorch's modules, and all other callers of torch.nn.init, use fastinit.

    In the whole process and until `unpatch`, this replaces every random function of torch.nn.init, `dirac_`, and the random
    helpers (``_no_grad_normal_`` and similar), under all names by which they are referenced. It also replaces the methods
    ``tensor.normal_`` and ``tensor.uniform_`` of plain real tensors on the CPU that autograd does not record. A second
    call has no effect. Tensors on the meta device stay uninitialised, as with PyTorch. ``torch.randn`` and similar
    functions are not replaced: ``patched(report=True)`` lists the parameters that were made by them.

    Examples
    --------
    >>> patch()
    >>> layer = torch.nn.Linear(64, 64)
    >>> unpatch()
    """
    global _patched
    with _lock:
        _patched = True
        _update()


def unpatch() -> None:
    """Undo `patch`: PyTorch's functions are restored under every name. Without `patch` it has no effect.

    While a block of `patched` is open in any thread, the functions stay replaced until it ends.
    """
    global _patched
    with _lock:
        _patched = False
        _update()


@contextlib.contextmanager
def patched(*, report: bool = False) -> Iterator[Report | None]:
    """`patch` inside a ``with`` block, for the whole process; at its end the state from before is restored.

    Parameters
    ----------
    report : bool, default False
        Observe this thread, and return a `Report` of the parameters of new modules: which of them were not drawn by fastinit,
        and by which operation. Meanwhile every operation of PyTorch takes about 20 microseconds longer.

    Yields
    ------
    Report or None
        None without `report`.

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
    global _open_blocks
    with _lock:
        _open_blocks += 1
        _update()
    try:
        with recording() if report else contextlib.nullcontext() as found:
            yield found
    finally:
        with _lock:
            _open_blocks -= 1
            _update()
