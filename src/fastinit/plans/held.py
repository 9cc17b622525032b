"""The tensors that a model holds: in memory, in files, or one rank's part of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import is_tensor, unmasked
from .._common.dtypes import raw_view, resolve
from .fill import whole_box
from .parameters import Parameter
from .parts import Box

__all__ = ["Held", "held_in"]


@dataclass(frozen=True)
class Held:
    """A parameter, and what of it is at hand.

    Attributes
    ----------
    parameter : Parameter
    box : tuple of (int, int)
        For each axis of the parameter the half-open interval that is at hand.
    read : callable
        Returns the memory, of the box's shape and any strides; of bfloat16 and float8 the bits as unsigned integers. From another
        device or a file it is copied then.
    """

    parameter: Parameter
    box: Box
    read: Callable[[], NDArray[Any]]


def held_in(model: Any) -> Iterator[Held]:
    """The parameters of a model, one after the other; a tensor that modules share comes once.

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to arrays or tensors, str or Path
        A path is that of a safetensors file, or of a directory of them. Of a DTensor this process's part is read. Tensors of
        integers are left out: they are no parameters.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        yield from _of_tensors((name, tensor, kind) for name, tensor, kind in _named(model))
    elif isinstance(model, (str, os.PathLike)):
        from .safetensors import open_tensors

        tensors = open_tensors(model)
        for name in tensors:
            shape = tensors[name].shape
            yield Held(Parameter(name, shape, tensors.dtypes[name]), whole_box(shape), partial(tensors.__getitem__, name))
    elif isinstance(model, Mapping):
        yield from _of_tensors((name, value, "") for name, value in model.items())
    else:
        raise TypeError(
            "model: expected a torch.nn.Module, a mapping of names to arrays, or the path of safetensors files, got "
            f"{type(model).__name__}"
        )


def _named(model: Any) -> Iterator[tuple[str, Any, str]]:
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            yield f"{prefix}.{name}" if prefix else name, tensor, type(module).__name__


def _of_tensors(named: Iterator[tuple[str, Any, str]]) -> Iterator[Held]:
    """Names of one tensor together: of one object, or of the same memory."""
    groups: dict[Any, list[tuple[str, Any, str]]] = {}
    for name, value, kind in named:
        groups.setdefault(_identity(value), []).append((name, value, kind))
    for (name, value, kind), *others in groups.values():
        aliases = tuple(dict.fromkeys(other for other, _, _ in others if other != name))
        found = _one(name, value, kind, aliases)
        if found is not None:
            yield found


def _identity(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.size:
        return value.__array_interface__["data"][0], value.shape, value.strides, value.dtype.str
    if is_tensor(value) and value.numel() and type(value).__name__ in ("Tensor", "Parameter") and str(value.device) != "meta":
        return value.data_ptr(), tuple(value.shape), value.stride(), str(value.dtype)
    return id(value)


def _one(name: str, value: Any, kind: str, aliases: tuple[str, ...]) -> Held | None:
    if not is_tensor(value):
        unmasked(name, value)
        array = np.asarray(value)
        dtype, shape = array.dtype.name, array.shape
        box, read = whole_box(shape), partial(raw_view, array)
    else:
        from ..torch._memory import shard_of

        if str(value.device) == "meta":
            raise ValueError(f"model: expected parameters with memory, got {name} on the meta device")
        dtype, shape = str(value.dtype).removeprefix("torch."), tuple(value.shape)
        local, place = shard_of(value) or (value, None)
        box = whole_box(shape) if place is None else tuple((one.start, one.stop) for one in place)
        read = partial(_array, local)
    if dtype.startswith(("int", "uint", "bool")):
        return None
    return Held(Parameter(name, shape, resolve(dtype), kind, aliases), box, read)


def _array(tensor: Any) -> NDArray[Any]:
    """A tensor's memory, or a copy of it where it is on another device."""
    torch: Any = sys.modules["torch"]
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    elif tensor.dtype.itemsize == 1:
        tensor = tensor.view(torch.uint8)
    array: NDArray[Any] = tensor.numpy()
    return array
