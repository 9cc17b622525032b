"""Which parameters of new modules were drawn by PyTorch and not by fastinit, and by which operation.

While a thread is observed, every storage that it writes to is marked with the origin of its random numbers: fastinit, or
a random operation of PyTorch. The result of an operation has the mark of its arguments, views share the mark of their
storage. The report then looks up the marks of the parameters of all new modules.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ._memory import on_fill

__all__ = ["Past", "Report", "recording"]

_OURS = "fastinit"
# Operations that do not read the tensor that they write to.
_OVERWRITING = frozenset(("aten::fill_", "aten::zero_", "aten::copy_"))


class Past(NamedTuple):
    """A parameter that was not drawn by fastinit.

    Attributes
    ----------
    owner : str
        The class of the module that has it.
    name : str
        From the outermost module on, such as "encoder.layers.0.scale".
    shape : tuple of int
    how : str
        The random operation of PyTorch, such as "torch.randn".
    """

    owner: str
    name: str
    shape: tuple[int, ...]
    how: str


class Report:
    """The parameters of the modules made in a block of ``patched(report=True)`` that still exist.

    Attributes
    ----------
    past : tuple of Past
        Those with random numbers of PyTorch.
    drawn, total : int
        The number of parameters drawn by fastinit, and of all. The others are not random: zeros, ones, loaded values.

    The attributes can be read while the block is open, and are fixed when it ends. Parameters made by other threads or
    inside compiled code are not included. ``str(report)`` is a text for people.
    """

    def __init__(self, observer: _Observer) -> None:
        self._observer: _Observer | None = observer
        self._found: tuple[tuple[Past, ...], int, int] = ((), 0, 0)

    def _current(self) -> tuple[tuple[Past, ...], int, int]:
        if self._observer is not None:
            self._found = self._observer.found()
        return self._found

    def _close(self) -> None:
        self._current()
        self._observer = None

    @property
    def past(self) -> tuple[Past, ...]:
        return self._current()[0]

    @property
    def drawn(self) -> int:
        return self._current()[1]

    @property
    def total(self) -> int:
        return self._current()[2]

    def __str__(self) -> str:
        past, drawn, total = self._current()
        lines = [f"fastinit drew {drawn} of {total} parameters; past it {len(past) or 'none'}{':' if past else '.'}"]
        # Equal parameters of repeated modules share one line.
        alike: dict[tuple[Any, ...], int] = {}
        for one in past:
            brief = (one.owner, one.name.rpartition(".")[2], one.shape, one.how)
            alike[brief] = alike.get(brief, 0) + 1
        for (owner, name, shape, how), times in alike.items():
            lines.append(f"  {owner}.{name} {shape}: {how}{f', {times} times' if times > 1 else ''}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        past, drawn, total = self._current()
        return f"<Report of {total} parameters: {drawn} drawn by fastinit, {len(past)} past it>"


def _storage(tensor: torch.Tensor) -> StorageWeakRef | None:
    """A reference that identifies the memory of a tensor; while it exists, the address is not reused. None without memory."""
    tensor = getattr(tensor, "_local_tensor", tensor)  # of a DTensor
    if tensor.layout is not torch.strided or tensor.is_nested:
        return None
    storage = tensor.untyped_storage()
    return None if storage.device.type == "meta" else StorageWeakRef(storage)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class _Observer(TorchDispatchMode):
    """Observes every operation of this thread, every fill by fastinit, and every parameter that a module gets."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: dict[StorageWeakRef, str] = {}
        self.modules: dict[int, weakref.ref[torch.nn.Module]] = {}
        self.thread = threading.get_ident()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = {_storage(one) for one in _tensors((args, kwargs))}
        result = func(*args, **kwargs)
        written = []
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written += _tensors(args[position] if position < len(args) else kwargs.get(argument.name))
        name = func._schema.name
        random = torch.Tag.nondeterministic_seeded in func.tags
        if random:
            library, _, plain = name.partition("::")
            theirs = f"Tensor.{plain}" if plain.endswith("_") else f"torch.{plain}"
            origin: str | None = _OURS if library == "fastinit" else theirs
        else:
            read = _tensors((args[1:] if name in _OVERWRITING else args, kwargs))
            marks = [mark for one in read if (mark := self.marks.get(_storage(one)))]
            origin = next((mark for mark in marks if mark != _OURS), marks[0] if marks else None)
        for one in written:
            self._mark(one, origin, overwritten=name in _OVERWRITING or random)
        for one in _tensors(result):
            if _storage(one) not in before:
                self._mark(one, origin, overwritten=True)
        return result

    def _mark(self, tensor: torch.Tensor, origin: str | None, *, overwritten: bool) -> None:
        place = _storage(tensor)
        if place is None:
            return
        tensor = getattr(tensor, "_local_tensor", tensor)
        # After a write to a part of a storage, a mark of PyTorch remains for the rest.
        whole = overwritten and tensor.numel() * tensor.element_size() >= tensor.untyped_storage().nbytes()
        if origin is not None and (whole or self.marks.get(place, _OURS) == _OURS):
            self.marks[place] = origin
        elif origin is None and whole:
            self.marks.pop(place, None)

    def filled(self, tensor: torch.Tensor) -> None:
        self._mark(tensor, _OURS, overwritten=True)

    def registered(self, module: torch.nn.Module, name: str, value: Any) -> None:
        if threading.get_ident() == self.thread:
            self.modules[id(module)] = weakref.ref(module)

    def found(self) -> tuple[tuple[Past, ...], int, int]:
        """Parameters not drawn by fastinit, the number of those that it drew, and the number of all."""
        alive = [module for reference in self.modules.values() if (module := reference()) is not None]
        parents = {
            id(child): (module, name) for module in alive for name, child in module._modules.items() if child is not None
        }

        def path(module: torch.nn.Module, name: str) -> str:
            parts = [name]
            while id(module) in parents and len(parts) < 100:
                module, own = parents[id(module)]
                parts.append(own)
            return ".".join(reversed(parts))

        past: list[Past] = []
        drawn, seen = 0, set()
        for module in alive:
            for name, parameter in module._parameters.items():
                if parameter is None or id(parameter) in seen:  # shared parameters count once
                    continue
                seen.add(id(parameter))
                place = None if torch.nn.parameter.is_lazy(parameter) else _storage(parameter)
                origin = self.marks.get(place) if place is not None else None
                drawn += origin == _OURS
                if origin not in (None, _OURS):
                    past.append(Past(type(module).__name__, path(module, name), tuple(parameter.shape), str(origin)))
        return tuple(past), drawn, len(seen)


@contextlib.contextmanager
def recording() -> Iterator[Report]:
    """Observe this thread, and return the report of the modules that it makes."""
    observer = _Observer()
    report = Report(observer)
    with contextlib.ExitStack() as stack:
        for register in (register_module_parameter_registration_hook, register_module_module_registration_hook):
            stack.callback(register(observer.registered).remove)
        stack.enter_context(on_fill(observer.filled))
        stack.callback(report._close)
        stack.enter_context(observer)
        yield report
