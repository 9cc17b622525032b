"""The parameters of a PyTorch model: each tensor once, with all its names and the modules that own it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..plans import Parameter
from ..plans.names import canonical
from ._memory import names_of
from ._shards import whole_shape

__all__ = ["Found", "Place", "dtype_name", "kind_of", "naming", "parameters_in", "parameters_of_module", "places_of"]

Place = tuple[torch.nn.Module, str]  # a module and the name of an attribute
_NAMES = names_of(complex_too=True, float8_too=True)


@dataclass(frozen=True)
class Found:
    """A parameter of a model, and where it lies.

    Attributes
    ----------
    names : tuple of str
        Qualified names without the segments of wrappers, in the order of the model; more than one where it is tied.
    places : tuple of Place
        Modules and attributes that hold it.
    tensor : torch.nn.Parameter
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]
    tensor: torch.nn.Parameter

    def as_planned(self, dtype: str, tensor_parallel: tuple[int, int] | None = None) -> Parameter:
        """What a plan needs to know of it, where its numbers are of a dtype."""
        shape = whole_shape(self.tensor, tensor_parallel)
        return Parameter(self.names[0], shape, dtype, kind_of(self.places[0][0]), self.names[1:])


def parameters_of_module(model: torch.nn.Module) -> list[Parameter]:
    """The parameters of a model as `fastinit.plans` knows them, on any device."""
    found = []
    for one in parameters_in(model):
        with naming(one):
            found.append(one.as_planned(dtype_name(one.tensor.dtype)))
    return found


@contextlib.contextmanager
def naming(found: Found) -> Iterator[None]:
    """Put the name of a parameter before the message of an error."""
    try:
        yield
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise type(error)(f"{found.names[0]}: {error}") from None


def dtype_name(dtype: torch.dtype) -> str:
    """fastinit's name of a dtype of parameters."""
    if dtype not in _NAMES:
        raise ValueError(f"expected a dtype of {', '.join(sorted(_NAMES.values()))}, got {dtype}; protect= leaves it as it is")
    return _NAMES[dtype]


def kind_of(module: torch.nn.Module) -> str:
    """The name of a module's class; of one that FSDP2 has exchanged for a class of its own, the name of before."""
    kind = type(module)
    while len(kind.__bases__) == 2 and kind.__bases__[0].__name__ in ("FSDPModule", "ReplicateModule"):
        kind = kind.__bases__[1]
    return kind.__name__


def places_of(model: torch.nn.Module, tensors: str) -> Iterator[tuple[str, Place, torch.Tensor]]:
    """Canonical name, place and tensor for each entry of ``module._parameters`` or ``module._buffers``, tied ones each time."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        for attribute, tensor in getattr(module, tensors).items():
            if tensor is not None:
                name = f"{prefix}.{attribute}" if prefix else attribute
                yield canonical(name) or name, (module, attribute), tensor


def parameters_in(model: torch.nn.Module) -> list[Found]:
    """Each parameter once. Parameters are one if they are the same object, or all of the same memory."""
    refuse_flat(model)
    groups: dict[Any, Found] = {}
    for name, place, tensor in places_of(model, "_parameters"):
        if torch.nn.parameter.is_lazy(tensor):
            raise ValueError(f"{name}: expected a parameter with a shape, got a lazy one; call the model once")
        identity = _memory_of(tensor)
        before = groups.get(identity)
        names = before.names if before else ()
        places = before.places if before else ()
        if name not in names:
            names = (*names, name)
        if not any(module is place[0] and attribute == place[1] for module, attribute in places):
            places = (*places, place)
        groups[identity] = Found(names, places, before.tensor if before else tensor)
    return list(groups.values())


def _memory_of(tensor: torch.Tensor) -> Any:
    """Equal for parameters that are one."""
    if type(tensor) is torch.nn.Parameter and tensor.device.type != "meta" and tensor.layout is torch.strided and tensor.numel():
        return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
    return id(tensor)


def refuse_flat(model: torch.nn.Module) -> None:
    """Refuse a model that FSDP1 has wrapped: its parameters are ranges of a flat tensor."""
    if not torch.distributed.is_available():
        return
    from torch.distributed.fsdp import FullyShardedDataParallel

    for module in model.modules():
        if isinstance(module, FullyShardedDataParallel) and module.training_state.name != "SUMMON_FULL_PARAMS":
            raise ValueError(
                "model: expected parameters in their shapes, got some that FullyShardedDataParallel has flattened; give it "
                "param_init_fn=fastinit.torch.param_init_fn(model, plan, key=key), or use "
                "FullyShardedDataParallel.summon_full_params(model)"
            )
