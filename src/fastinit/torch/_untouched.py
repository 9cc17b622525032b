"""Running a model without changing it: its tensors are exchanged for copies, and every attribute is put back afterwards."""

from __future__ import annotations

import contextlib
import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["Copies", "generators_kept", "untouched"]

_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)


class Copies:
    """Copies of tensors, one for each: tied tensors have one copy."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, value: Any) -> Any:
        """The copy of a tensor; other values, and tensors that others were computed into, as they are."""
        if not isinstance(value, torch.Tensor) or not value.is_leaf:
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


@contextlib.contextmanager
def untouched(model: torch.nn.Module) -> Iterator[Copies]:
    """Inside the block the model computes with copies of its parameters, buffers and other tensors, which may be changed freely.

    At the end each module has the attributes that it had, and each dict, list, set and deque among them the contents that it
    had: hooks, modes, counters and caches too. The tensors themselves, and with them ``.grad`` and the hooks of tensors, take no
    part in what is computed inside.
    """
    modules = list(model.modules())
    attributes = [dict(module.__dict__) for module in modules]
    containers = {id(value): value for own in attributes for value in own.values() if type(value) in _CONTAINERS}
    contents = {number: value.copy() for number, value in containers.items()}
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    copies = Copies()
    try:
        for parameter, _ in gradients:  # of which the model may hold a reference elsewhere, in a closure or an object
            parameter.grad = None
        for module in modules:
            for name, value in list(module.__dict__.items()):
                if type(value) in (dict, OrderedDict, defaultdict):
                    for key, item in list(value.items()):
                        value[key] = copies.of(item)
                elif type(value) is list:
                    value[:] = map(copies.of, value)
                elif type(value) is tuple:
                    module.__dict__[name] = tuple(map(copies.of, value))
                else:
                    module.__dict__[name] = copies.of(value)
            module.__dict__["_compiled_call_impl"] = None  # compiled code does not call hooks
        yield copies
    finally:
        for module, own in zip(modules, attributes, strict=True):
            module.__dict__.clear()
            module.__dict__.update(own)
        for number, value in containers.items():
            value.clear()
            if isinstance(value, (list, deque)):
                value.extend(contents[number])
            else:
                value.update(contents[number])
        for parameter, gradient in gradients:
            parameter.grad = gradient


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
