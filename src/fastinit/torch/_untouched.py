"""Running a model without changing it: its tensors are exchanged for copies, and every attribute is put back afterwards."""

from __future__ import annotations

import contextlib
import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["Copies", "generators_kept", "outside_of_modules", "untouched"]

_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)
_GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


class Copies:
    """Copies of tensors, one for each: tied tensors have one copy."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, value: Any) -> Any:
        """The copy of a tensor, alone or in a tuple; other values, and tensors that others were computed into, as they are."""
        if type(value) is tuple:
            return tuple(map(self.of, value))
        if not isinstance(value, torch.Tensor) or not value.is_leaf or torch.nn.parameter.is_lazy(value):
            return value
        if id(value) not in self._made:
            copied = value.detach().clone()
            if isinstance(value, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, requires_grad=value.requires_grad)
                copied.__dict__.update(value.__dict__)  # what libraries note on a parameter
            else:
                copied.requires_grad_(value.requires_grad)
            self._made[id(value)] = (value, copied)  # which keeps the id from being given to another tensor
        return self._made[id(value)][1]


def _held(roots: tuple[torch.nn.Module, ...]) -> list[Any]:
    """The modules, containers and generators that modules hold, also those in a plain list, which are not registered."""
    seen: dict[int, Any] = {}
    waiting: list[Any] = list(roots)
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, torch.jit.ScriptModule):
            continue
        if isinstance(value, torch.nn.Module):
            waiting += value.__dict__.values()
        elif type(value) in _CONTAINERS or type(value) is tuple:
            waiting += value.values() if isinstance(value, dict) else value
        elif not isinstance(value, _GENERATORS):
            continue
        seen[id(value)] = value
    return list(seen.values())


def outside_of_modules(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors that require a gradient and that modules hold elsewhere than as parameters, as in a plain list, with names."""
    seen = {id(module) for module in model.modules()} | {id(parameter) for parameter in model.parameters()}
    waiting: list[tuple[str, Any]] = []
    of_all = vars(torch.nn.Module())  # such as dicts of hooks
    for name, module in model.named_modules():
        own = f"{name}." if name else ""
        waiting += [(own + key, value) for key, value in vars(module).items() if key not in of_all]
    while waiting:
        name, value = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.nn.Module):
            waiting += [(f"{name}.{own}", parameter) for own, parameter in value.named_parameters()]
        elif isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad:
            yield name, value
        elif isinstance(value, dict):
            waiting += [(f"{name}[{key!r}]", item) for key, item in value.items()]
        elif type(value) in (list, tuple, deque):
            waiting += [(f"{name}[{i}]", item) for i, item in enumerate(value)]


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


@contextlib.contextmanager
def untouched(*roots: torch.nn.Module) -> Iterator[Copies]:
    """Inside the block models compute with copies of their parameters, buffers and other tensors, which may be changed freely.

    At the end each module has the attributes that it had, and each dict, list, set and deque among them the contents that it
    had: hooks, modes, counters and caches too; generators have their states. The tensors themselves, and with them ``.grad`` and
    the hooks of tensors, take no part in what is computed inside.
    """
    held = _held(roots)
    modules = [value for value in held if isinstance(value, torch.nn.Module)]
    attributes = [dict(module.__dict__) for module in modules]
    containers = [(value, value.copy()) for value in held if type(value) in _CONTAINERS]
    states = [(value, _state(value)) for value in held if isinstance(value, _GENERATORS)]
    gradients = [(p, p.grad) for module in modules for p in module._parameters.values() if p is not None]
    copies = Copies()
    try:
        for parameter, _ in gradients:  # of which the model may hold a reference elsewhere, in a closure or an object
            parameter.grad = None
        for value in [module.__dict__ for module in modules] + [value for value, _ in containers]:
            if isinstance(value, dict):
                for key, item in list(value.items()):
                    value[key] = copies.of(item)
            elif isinstance(value, list):
                value[:] = map(copies.of, value)
        for module in modules:
            module.__dict__["_compiled_call_impl"] = None  # compiled code does not call hooks
        with _uncompiled():
            yield copies
    finally:
        for module, own in zip(modules, attributes, strict=True):
            module.__dict__.clear()
            module.__dict__.update(own)
        for value, contents in containers:
            value.clear()
            if isinstance(value, (list, deque)):
                value.extend(contents)
            else:
                value.update(contents)
        for generator, state in states:
            _set_state(generator, state)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Functions and modules that `torch.compile` made run as they were written, from PyTorch 2.6 on."""
    compiler = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")
    return torch.compiler.set_stance("force_eager") if compiler else contextlib.nullcontext()


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """The default generators of PyTorch, Python and NumPy have the same state at the end of the block."""
    accelerators = [module for name in ("cuda", "xpu") if (module := getattr(torch, name)).is_initialized()]
    states = [(module, module.get_rng_state_all()) for module in accelerators]
    metal = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    state, of_python, of_numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(state)
        for module, saved in states:
            module.set_rng_state_all(saved)
        if metal is not None:
            torch.mps.set_rng_state(metal)
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
