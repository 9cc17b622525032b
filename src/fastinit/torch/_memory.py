"""Writing random numbers to the memory of a tensor: keys, dtypes, layouts, devices, shards.

Elements are numbered by their row-major *logical* index, so a transposed or channels-last tensor gets the same
values as a contiguous one.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function_unary

from .. import _core
from .._stream import draw
from .._stream.indexing import region_of
from .._stream.keys import Key, check_key
from .._stream.laws import check_law
from ._shards import shard_of

__all__ = ["borrowed", "drawn_key", "fill", "in_place", "is_plain", "names_of", "on_fill", "refuse_unwritable", "tell", "write"]

_NAMES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
_COMPLEX = {torch.complex64: "complex64", torch.complex128: "complex128"}
_PARTS = {torch.complex64: "float32", torch.complex128: "float64", torch.complex32: "float16"}
# NumPy has no bfloat16, float8 and complex32: their memory is seen as integers (_BITS).
_FLOAT8 = {
    dtype: name
    for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
    if (dtype := getattr(torch, name, None)) is not None
}
_BITS = {torch.bfloat16: torch.uint16, torch.complex32: torch.int32, **dict.fromkeys(_FLOAT8, torch.uint8)}
_NUMPY: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.complex64: np.dtype(np.complex64),
    torch.complex128: np.dtype(np.complex128),
    torch.uint16: np.dtype(np.uint16),
    torch.uint8: np.dtype(np.uint8),
}
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_FILLS = frozenset(("constant_", "ones_", "zeros_"))  # PyTorch's own fills, which also know sparse layouts


def names_of(*, complex_too: bool, float8_too: bool = False) -> dict[torch.dtype, str]:
    """fastinit's names of the dtypes that have laws."""
    return _NAMES | (_COMPLEX if complex_too else {}) | (_FLOAT8 if float8_too else {})


class _Scratch(threading.local):
    """A tensor of one number for each thread, because making a tensor takes longer than drawing a number into it."""

    def __init__(self) -> None:
        # A thread may first draw in inference mode; a tensor made there could not be written to outside of it.
        with torch.inference_mode(False):
            self.word = torch.empty((), dtype=torch.int64, device="cpu")


_scratch = _Scratch()
# Make it now, outside of any PyTorch mode that would make another kind of tensor.
assert _scratch.word.device.type == "cpu"

_observers: list[Callable[[torch.Tensor], None]] = []


@contextlib.contextmanager
def on_fill(observer: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Call `observer` with every tensor that is filled with random numbers, since that is no operation of PyTorch."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def tell(tensor: torch.Tensor) -> None:
    for observer in tuple(_observers):
        observer(tensor)


# make(shape, dtype, key, index, out) writes the tensor of `shape`, or the part of it at `index`, to the array `out`.
Make = Callable[[tuple[int, ...], str, Key, Any, Any], Any]


def refuse_unwritable(tensor: Any, what: str) -> None:
    """Refuse a tensor without memory, for which PyTorch returns as if it had written."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{what}: expected a torch.Tensor, got {type(tensor).__name__}")
    if tensor.is_meta:
        raise ValueError(
            f"{what}: expected a tensor with memory, got one of shape {tuple(tensor.shape)} on the meta "
            "device; give the module memory first, module.to_empty(device=...)"
        )
    if (tensor.layout is not torch.strided or tensor.is_nested) and what not in _FILLS:
        kind = "a nested one" if tensor.is_nested else f"layout {tensor.layout}"
        raise NotImplementedError(f"{what}: expected a strided tensor, got {kind}")
    if not is_dynamo_compiling() and tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError(
            f"{what}: expected a normal tensor; an inference tensor is written inside torch.inference_mode() only"
        )


def _never(tensor: Any) -> bool:
    return False


def in_place(
    function: Callable[..., Any],
    is_traced: Callable[[Any], bool] = _never,
    traced: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any] | None = None,
) -> Callable[..., Any]:
    """Wrap a function that fills a tensor: it calls ``__torch_function__`` of subclasses and refuses tensors without memory.

    Under torch.compile, or where `is_traced` holds, `traced` is called instead of `function`.
    """

    @functools.wraps(function)
    def checked(tensor: Any, *args: Any, **options: Any) -> Any:
        if isinstance(tensor, torch.Tensor):
            if has_torch_function_unary(tensor):
                return handle_torch_function(checked, (tensor,), tensor, *args, **options)
            if traced is not None and (is_dynamo_compiling() or is_traced(tensor)):
                return traced(tensor, args, options)
        refuse_unwritable(tensor, function.__name__)
        if is_dynamo_compiling():  # torch.compile follows only operations of PyTorch
            return function(tensor, *args, **options)
        saved = _core.fpenv_enter()  # as `fastinit._common.arithmetic.ieee` does it
        try:
            return function(tensor, *args, **options)
        finally:
            _core.fpenv_leave(saved)

    return checked


def drawn_key(generator: torch.Generator | None, key: Key | None) -> Key:
    """`key`, or a key whose seed is the next 64 bits of the generator.

    Without a generator it is the default one of the CPU whatever the tensor's device, so that
    torch.manual_seed gives the same weights on every device.
    """
    if key is not None:
        return check_key(key)
    if generator is None:
        word = _scratch.word.random_(-(2**63), None)
    elif isinstance(generator, torch.Generator):
        word = torch.empty((), dtype=torch.int64, device=generator.device)
        word.random_(-(2**63), None, generator=generator)
    else:
        raise TypeError(f"generator: expected a torch.Generator, got {type(generator).__name__}")
    return Key(word.item() % 2**64)


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The memory of a strided CPU tensor as an array, without a copy; a dtype that NumPy has not as integers."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    bits = _BITS.get(tensor.dtype)
    if bits is not None:
        tensor = tensor.view(bits)
    array: np.ndarray[Any, Any] = tensor.numpy()
    return array


def borrowed(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """As `_array`, but PyTorch does not know of the array, which must not outlive the tensor.

    PyTorch never again resizes memory that it has exported once, and FSDP, for one, resizes what it has gathered.
    """
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    dtype = _NUMPY[_BITS.get(tensor.dtype, tensor.dtype)]
    size = (last + 1) * dtype.itemsize if tensor.numel() else 0
    memory: Any = (ctypes.c_char * size).from_address(tensor.data_ptr())
    return np.ndarray(tuple(tensor.shape), dtype, memory, strides=[step * dtype.itemsize for step in tensor.stride()])


def is_plain(tensor: Any) -> bool:
    """Whether it is a torch.Tensor or torch.nn.Parameter and not a subclass."""
    return type(tensor) in _PLAIN


def write(
    tensor: Any,
    make: Make,
    generator: torch.Generator | None,
    key: Key | None,
    what: str,
    *,
    names: dict[torch.dtype, str] = _NAMES,
) -> Any:
    """Let `make` fill the tensor, and return it; an empty tensor takes nothing from the generator."""
    name = names.get(tensor.dtype)
    if name is None:
        known = ", ".join(sorted(names.values()))
        raise NotImplementedError(f'"{what}": expected dtype {known}, got {tensor.dtype}')
    if tensor.numel() == 0:
        return tensor
    shape, index, memory = tuple(tensor.shape), None, tensor
    shard = shard_of(tensor)
    if shard is not None:
        memory, index = shard
    key = drawn_key(generator, key)
    if memory.is_cpu and memory.is_contiguous() and not memory.is_neg() and not memory.is_conj():
        make(shape, name, key, index, _array(memory))
        # By this version autograd notices that a saved tensor has been overwritten.
        torch.autograd.graph.increment_version(tensor)
    else:
        # On another device or in another layout: made in row-major order, then copied.
        staged = torch.empty(memory.shape, dtype=memory.dtype, device="cpu")
        make(shape, name, key, index, _array(staged))
        with torch.no_grad():
            memory.copy_(staged)
    if _observers:
        tell(tensor)
    return tensor


def _is_one_number(low: float, high: float, dtype: torch.dtype) -> bool:
    """Whether the dtype rounds both ends of the interval [low, high) to the same number."""
    if high - low > 0.01 * abs(low) + 1e-6:  # wider than the spacing of every dtype; cheaper to compute
        return low == high
    first, last = torch.tensor((low, high), dtype=dtype, device="cpu").tolist()
    return bool(first == last)


def fill(
    tensor: Any,
    law: str,
    parameters: tuple[float, ...],
    generator: torch.Generator | None,
    key: Key | None,
    what: str,
) -> Any:
    """Fill a tensor with a law of `fastinit._stream.laws`, and return it.

    The parts of a complex tensor are uniform in [low, high) each, or normal with E |z - mean|^2 = std^2. A uniform
    interval that is a single number of the dtype is filled with it, as PyTorch does.
    """
    if law == "uniform" and (tensor.dtype in _NAMES or tensor.dtype in _PARTS):
        low, high = parameters
        if _is_one_number(low, high, tensor.dtype.to_real()):
            with torch.no_grad():
                return tensor.fill_(complex(low, low) if tensor.is_complex() else low)
    if tensor.dtype in _PARTS and law != "truncated_normal":
        return _fill_complex(tensor, law, parameters, generator, key, what)
    if tensor.dtype in _NAMES:
        parameters = check_law(law, parameters, _NAMES[tensor.dtype])

    def make(shape: tuple[int, ...], dtype: str, key: Key, index: Any, out: Any) -> Any:
        draw.fill(out, law, parameters, key, dtype, region=None if index is None else region_of(shape, index))

    return write(tensor, make, generator, key, what)


def _fill_complex(
    tensor: Any, law: str, parameters: tuple[float, ...], generator: torch.Generator | None, key: Key | None, what: str
) -> Any:
    """`fill` of a complex tensor."""
    part, (first, second) = _PARTS[tensor.dtype], parameters
    of_parts = [(first, second)] * 2 if law == "uniform" else [(first, second / 2**0.5), (0.0, second / 2**0.5)]
    checked = [check_law(law, pair, part) for pair in of_parts]

    def make(shape: tuple[int, ...], dtype: str, key: Key, index: Any, out: Any) -> Any:
        draw.fill_complex(out, law, checked, key, part, region=None if index is None else region_of(shape, index))

    return write(tensor, make, generator, key, what, names=_PARTS)
