"""Buffers on the meta device: made anew by the modules that own them, or named in an error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from ._parameters import Place, places_of
from ._untouched import generators_kept

__all__ = ["MetaBuffers"]

# Methods without arguments by which modules compute their buffers: of PyTorch's batch norms, of timm, and of torchtune.
_METHODS = ("reset_running_stats", "init_non_persistent_buffers", "rope_init")
_MARK = "_is_hf_initialized"  # of Transformers, on what it must not initialise again


class MetaBuffers:
    """The buffers of a model that have no memory.

    Raises
    ------
    ValueError
        If modules do not compute them; the message names all of these.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        found = [(name, place) for name, place, buffer in places_of(model, "_buffers") if buffer.is_meta]
        self._names = {(id(module), attribute): name for name, (module, attribute) in reversed(found)}
        self._places: dict[tuple[int, str], Place] = {(id(place[0]), place[1]): place for _, place in found}
        self._roots = _transformers_in(model) if found else []
        if found:
            self._refuse_unknown()

    def _refuse_unknown(self) -> None:
        """See on the meta device, which costs no time, which buffers the modules write or replace."""
        buffers = [module._buffers[attribute] for module, attribute in self._places.values()]
        versions = [buffer._version for buffer in buffers]
        self._compute(self._places.values())
        unknown = [
            self._names[place]
            for (place, (module, attribute)), old, version in zip(self._places.items(), buffers, versions, strict=True)
            if module._buffers[attribute] is old and old._version == version
        ]
        if unknown:
            raise ValueError(
                f"model: expected buffers with values, got {', '.join(unknown)} on the meta device, which no known method of "
                "their modules computes; build the model with its buffers on a real device, or give them values first"
            )

    def materialise(self, device: torch.device, modules: Iterable[torch.nn.Module]) -> None:
        """Give the buffers of these modules memory and values."""
        own = {id(module) for module in modules}
        places = [place for (module, _), place in self._places.items() if module in own]
        fresh: dict[int, torch.Tensor] = {}  # a buffer of two modules stays one
        for module, attribute in places:
            old: Any = module._buffers[attribute]
            if old.is_meta:
                if id(old) not in fresh:
                    fresh[id(old)] = torch.empty_like(old, device=device)
                    fresh[id(old)].__dict__.update(old.__dict__)
                module._buffers[attribute] = fresh[id(old)]
        if places:
            self._compute(places)

    def _compute(self, places: Iterable[Place]) -> None:
        modules = {id(module): module for module, _ in places}
        rest = set(modules)
        with torch.no_grad(), torch.device("cpu"), generators_kept():
            for identity, module in modules.items():
                methods = [getattr(module, name) for name in _METHODS if hasattr(module, name)]
                if not methods and not module._parameters and hasattr(module, "reset_parameters"):
                    methods = [module.reset_parameters]  # which by PyTorch's convention is for buffers too
                for method in methods[:1]:
                    method()
                    rest.discard(identity)
            for root in self._roots:
                if rest & {id(module) for module in root.modules()}:
                    with _only_unmarked(root, [modules[identity] for identity in rest]):
                        root.initialize_weights()


def _transformers_in(model: torch.nn.Module) -> list[Any]:
    """The outermost models of Transformers."""
    transformers: Any = sys.modules.get("transformers")
    base = getattr(transformers, "PreTrainedModel", None)
    if base is None or not hasattr(base, "initialize_weights"):
        return []
    found: list[Any] = []
    inside: set[int] = set()
    for module in model.modules():  # a module comes before those that it contains
        if isinstance(module, base) and id(module) not in inside:
            found.append(module)
            inside |= {id(inner) for inner in module.modules()}
    return found


@contextlib.contextmanager
def _only_unmarked(root: torch.nn.Module, owners: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Inside the block Transformers initialises the buffers of `owners` alone: all other tensors are marked as loaded."""
    wanted = {id(buffer) for module in owners for buffer in module._buffers.values() if buffer is not None}
    others = [t for t in (*root.parameters(), *root.buffers()) if id(t) not in wanted]
    marks = [(one, one.__dict__.get(_MARK)) for one in (*root.modules(), *others)]
    try:
        for one, _ in marks:
            one.__dict__.pop(_MARK, None)
        for tensor in others:
            setattr(tensor, _MARK, True)
        yield
    finally:
        for one, mark in marks:
            one.__dict__.pop(_MARK, None)
            if mark is not None:
                one.__dict__[_MARK] = mark
