"""What is known of a model's parameters before anything is drawn: names, shapes, dtypes, the modules that own them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .._common.checks import shown
from .._common.dtypes import check_shape, resolve
from .names import canonical

__all__ = ["Parameter", "dtype_name", "parameters_of"]


@dataclass(frozen=True)
class Parameter:
    """One tensor of a model, which tied modules may share.

    Parameters
    ----------
    name : str
        The qualified name, as the model or the file spells it. Segments of wrappers, such as ``_orig_mod``, are dropped.
    shape : tuple of int
        Of the whole tensor, also where a process holds a part of it.
    dtype : str, default "float32"
    kind : str, default ""
        The class of the module that owns it, such as "Linear"; "" where it is not known.
    aliases : tuple of str, default ()
        Other names of the same tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    kind: str = ""
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.aliases, str) or not isinstance(self.aliases, Iterable):
            raise TypeError(f"aliases: expected a sequence of names, got {shown(self.aliases)}")
        if not isinstance(self.kind, str):
            raise TypeError(f"kind: expected the name of a class of modules, got {shown(self.kind)}")
        for name in (self.name, *self.aliases):
            if not isinstance(name, str) or not name or "" in name.split("."):
                raise ValueError(f"name: expected a qualified name such as 'layers.0.weight', got {shown(name)}")
        object.__setattr__(self, "name", canonical(self.name) or self.name)
        object.__setattr__(self, "aliases", tuple(canonical(name) or name for name in self.aliases))
        object.__setattr__(self, "shape", check_shape(self.shape))
        object.__setattr__(self, "dtype", resolve(self.dtype))


def parameters_of(model: Any) -> tuple[Parameter, ...]:
    """The parameters of a model, or of a table of shapes.

    Parameters
    ----------
    model : mapping, iterable of Parameter, or torch.nn.Module
        A mapping has names as keys, and as values shapes, arrays with a shape and dtype, as a ``state_dict`` of PyTorch has, or
        mappings with ``shape``, and perhaps ``dtype``, ``kind`` and ``aliases``.

    Returns
    -------
    tuple of Parameter
        In the order of the model.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If two parameters have one name once the segments of wrappers are dropped.
    """
    found = tuple(_read(model))
    seen: dict[str, Parameter] = {}
    for parameter in found:
        for name in (parameter.name, *parameter.aliases):
            if seen.setdefault(name, parameter) is not parameter:
                raise ValueError(f"model: expected names that differ, got {name} twice")
    return found


def _read(model: Any) -> Iterable[Parameter]:
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from ..torch._parameters import parameters_of_module

        return parameters_of_module(model)
    if isinstance(model, Mapping):
        return [_of_item(name, value) for name, value in model.items()]
    if isinstance(model, Iterable) and not isinstance(model, (str, bytes)):
        items = list(model)
        if all(isinstance(item, Parameter) for item in items):
            return items
    raise TypeError(
        "model: expected a torch.nn.Module, a mapping of names to shapes or arrays, or Parameters, got "
        f"{type(model).__name__}"
    )


def _of_item(name: Any, value: Any) -> Parameter:
    try:
        if isinstance(value, Mapping):
            if "shape" not in value or not set(value) <= {"shape", "dtype", "kind", "aliases"}:
                got = ", ".join(map(str, value)) or "none"
                raise ValueError(f"expected shape, and perhaps dtype, kind and aliases, got {got}")
            return Parameter(name, **value)
        if hasattr(value, "shape"):
            return Parameter(name, tuple(value.shape), dtype_name(getattr(value, "dtype", "float32")))
        return Parameter(name, check_shape(value))
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"model[{name!r}]: {error}") from None


def dtype_name(dtype: Any) -> str:
    """The name of a dtype, of PyTorch's too."""
    text = str(dtype)  # NumPy does not know the dtypes of PyTorch
    return resolve(text.removeprefix("torch.") if text.startswith("torch.") else dtype)
