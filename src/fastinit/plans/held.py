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
    read : callable
        Returns pairs of memory and box: the memory has the box's shape and any strides, of bfloat16 and float8 it is the bits as
        unsigned integers; the box is for each axis of the parameter the half-open interval that this is. From another device or
        a file memory is copied then.
    """

    parameter: Parameter
    read: Callable[[], list[tuple[NDArray[Any], Box]]]


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
        from ..torch._parameters import kind_of, parameters_in

        for found in parameters_in(model):
            yield _of_tensor(found.names[0], found.tensor, kind_of(found.places[0][0]), found.names[1:])
    elif isinstance(model, (str, os.PathLike)):
        from .safetensors import open_tensors

        tensors = open_tensors(model)
        for name in tensors:
            shape = tensors[name].shape
            yield Held(Parameter(name, shape, tensors.dtypes[name]), partial(_whole, partial(tensors.__getitem__, name)))
    elif isinstance(model, Mapping):
        yield from _of_mapping(model)
    else:
        raise TypeError(
            "model: expected a torch.nn.Module, a mapping of names to arrays, or the path of safetensors files, got "
            f"{type(model).__name__}"
        )


def _whole(array: Callable[[], NDArray[Any]]) -> list[tuple[NDArray[Any], Box]]:
    memory = array()
    return [(memory, whole_box(memory.shape))]


def _of_mapping(model: Mapping[Any, Any]) -> Iterator[Held]:
    """Names of one tensor come together: of one object, or of the same memory."""
    groups: dict[Any, list[tuple[str, Any]]] = {}
    for name, value in model.items():
        groups.setdefault(_identity(value), []).append((name, value))
    for (name, value), *others in groups.values():
        aliases = tuple(other for other, _ in others)
        if is_tensor(value):
            if value.is_floating_point() or value.is_complex():
                yield _of_tensor(name, value, "", aliases)
            continue
        unmasked(name, value)
        array = np.asarray(value)
        if array.dtype.kind not in "iub":
            dtype = resolve(array.dtype)
            yield Held(Parameter(name, array.shape, dtype, aliases=aliases), partial(_whole, partial(raw_view, array)))


def _of_tensor(name: str, tensor: Any, kind: str, aliases: tuple[str, ...]) -> Held:
    from ..torch._parameters import dtype_name
    from ..torch._shards import held

    if tensor.device.type == "meta":
        raise ValueError(f"model: expected parameters with memory, got {name} on the meta device")
    elsewhere = 0 in tensor.shape and hasattr(tensor, "ds_id")  # DeepSpeed has partitioned it
    one = None if elsewhere else held(tensor)
    shape = tuple(tensor.shape) if one is None else one.shape
    parameter = Parameter(name, shape, dtype_name(tensor.dtype), kind, aliases)
    return Held(parameter, lambda: [(_array(piece), box) for piece, box in (one.pieces if one else ())])


def _identity(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.size:
        return value.__array_interface__["data"][0], value.shape, value.strides, value.dtype.str
    if is_tensor(value) and value.numel() and type(value).__name__ in ("Tensor", "Parameter") and str(value.device) != "meta":
        return value.data_ptr(), tuple(value.shape), value.stride(), str(value.dtype)
    return id(value)


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
