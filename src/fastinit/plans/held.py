"""The tensors that a model holds: in memory, in files, or one rank's part of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
    """A parameter, and the memory of it that is at hand.

    Attributes
    ----------
    parameter : Parameter
    memory : ndarray
        Of the box's shape and any strides; of bfloat16 and float8 the bits as unsigned integers.
    box : tuple of (int, int)
        For each axis of the parameter the half-open interval that the memory holds.
    """

    parameter: Parameter
    memory: NDArray[Any]
    box: Box


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
            array = tensors[name]
            yield Held(Parameter(name, array.shape, tensors.dtypes[name]), array, whole_box(array.shape))
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
    shape = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
    box = whole_box(shape)
    if is_tensor(value):
        from ..torch._memory import shard_of

        dtype = str(value.dtype).removeprefix("torch.")
        shard = shard_of(value)
        if shard is not None:
            value, place = shard
            box = tuple((one.start, one.stop) for one in place)
        if str(value.device) == "meta":
            raise ValueError(f"model: expected parameters with memory, got {name} on the meta device")
        array = _array(value)
    else:
        unmasked(name, value)
        array = np.asarray(value)
        dtype = str(array.dtype.name)
        array = raw_view(array)
    if dtype.startswith(("int", "uint", "bool")):
        return None
    return Held(Parameter(name, shape, resolve(dtype), kind, aliases), array, box)


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
