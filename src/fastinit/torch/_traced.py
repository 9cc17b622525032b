"""fastinit.torch under torch.compile, torch.vmap, with fake tensors and in dispatch modes, where PyTorch records operations.

A fill writes to memory without an operation of PyTorch. Where operations are recorded it is called through one,
``fastinit::init_``; elsewhere that would only cost time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._C import _functorch as functorch
from torch.compiler import is_dynamo_compiling

from .._common.arithmetic import ieee
from .._stream.keys import Key, check_key
from ._memory import in_place, is_plain, refuse_unwritable
from ._shards import shard_of

# Before 2.14 the compiler merges two draws of similar tensors into one, and does not support a key that changes.
_COMPILES = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 14)

__all__ = ["draws", "is_traced", "is_wrapped"]

Function = Callable[..., Any]
_functions: dict[str, tuple[Function, dict[str, Any]]] = {}  # each with the defaults of its options

_modes = torch._C._len_torch_dispatch_stack
_transforms = functorch.peek_interpreter_stack


def is_traced(tensor: torch.Tensor) -> bool:
    """Whether a direct write to the tensor's memory would be missing from what PyTorch records, or is impossible."""
    return _modes() > 0 if is_plain(tensor) and _transforms() is None else is_wrapped(tensor)


def is_wrapped(tensor: torch.Tensor) -> bool:
    """Whether the tensor may stand for others, under a transform such as torch.vmap or by its class."""
    if _transforms() is not None:
        return True
    dispatches = not is_plain(tensor) and type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    return dispatches and shard_of(tensor) is None


# ---- the operation ----------------------------------------------------------------------------

_library = torch.library.Library("fastinit", "DEF")
_library.define(
    "init_(Tensor(a!) tensor, str function, float[] numbers, str[] words, str key, Generator? generator) -> ()",
    tags=(torch.Tag.nondeterministic_seeded, torch.Tag.pt2_compliant_tag),
)


def _run(
    tensor: torch.Tensor,
    function: str,
    numbers: Sequence[float],
    words: Sequence[str],
    key: str,
    generator: torch.Generator | None,
) -> None:
    called, defaults = _functions[function]
    left, right = iter(numbers), iter(words)
    options = {name: next(right if isinstance(default, str) else left) for name, default in defaults.items()}
    named = Key(*(int(part) for part in key.split())) if key else None
    refuse_unwritable(tensor, function)
    called(tensor, **options, generator=generator, key=named)


def _pretend(tensor: torch.Tensor, *rest: Any) -> None:
    """A fake tensor has no values to draw."""


def _check_shared(tensor: torch.Tensor) -> None:
    """Raise the error of PyTorch for a draw that the `randomness` of torch.vmap does not allow."""
    interpreter = _transforms()
    if interpreter is None or interpreter.key() != functorch.TransformType.Vmap:
        return
    randomness = functorch.CVmapInterpreterPtr(interpreter).randomness()
    if randomness == functorch.RandomnessType.Error:
        raise RuntimeError(
            "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
            "randomness flags on vmap or perform the randomness operation out of vmap"
        )
    batched = functorch.is_batchedtensor(tensor) and functorch.maybe_get_level(tensor) == interpreter.level()
    if randomness == functorch.RandomnessType.Different and not batched:
        raise RuntimeError(
            "vmap: expected a tensor with the axis of the batch for randomness='different', got one of shape "
            f"{tuple(tensor.shape)} that all examples share"
        )


def _over_batch(info: Any, in_dims: Any, tensor: torch.Tensor, *rest: Any) -> tuple[None, None]:
    """Under torch.vmap draw every example separately, or copy the first, as the `randomness` and the key demand."""
    axis, key = in_dims[0], rest[3]
    first = None
    for example in (tensor.select(axis, i) for i in range(tensor.shape[axis])):
        if first is None or (info.randomness == "different" and not key):
            torch.ops.fastinit.init_(example, *rest)
            first = example
        else:
            example.copy_(first)
    return None, None


_library.impl("init_", _run, "CompositeExplicitAutograd")
torch.library.register_fake("fastinit::init_", _pretend, lib=_library)
if hasattr(torch.library, "register_vmap"):  # since PyTorch 2.5
    torch.library.register_vmap("fastinit::init_", _over_batch, lib=_library)


def draws(function: Function) -> Function:
    """`in_place` for a random function: where operations are recorded, it is called through ``fastinit::init_``."""
    name = function.__name__
    options = {p.name: p.default for p in list(inspect.signature(function).parameters.values())[1:]}
    defaults = {name: value for name, value in options.items() if name not in ("generator", "key")}
    _functions[name] = ieee(function), defaults
    order = tuple(options)

    def through_operation(tensor: torch.Tensor, args: tuple[Any, ...], given: dict[str, Any]) -> torch.Tensor:
        if is_dynamo_compiling() and not _COMPILES:
            raise NotImplementedError(f"{name}: expected PyTorch 2.14 or newer under torch.compile, got {torch.__version__}")
        if len(args) > len(order) - 1:  # the key is named
            raise TypeError(f"{name}: expected at most {len(order)} positional arguments, got {len(args) + 1}")
        values = {**options, **dict(zip(order, args, strict=False)), **given}
        for one, value in values.items():
            if one not in options:
                raise TypeError(f"{name}: got an unexpected keyword argument '{one}'")
            if value is inspect.Parameter.empty:
                raise TypeError(f"{name}: expected the argument '{one}', got none")
        numbers = [float(values[one]) for one, usual in defaults.items() if not isinstance(usual, str)]
        words = [values[one] for one, usual in defaults.items() if isinstance(usual, str)]
        key = values["key"]
        named = "" if key is None else f"{check_key(key).seed} {key.stream}"
        if not named and not is_dynamo_compiling():
            _check_shared(tensor)
        with torch.no_grad():
            torch.ops.fastinit.init_(tensor, name, numbers, words, named, values["generator"])
        return tensor

    return in_place(function, is_traced, through_operation)


