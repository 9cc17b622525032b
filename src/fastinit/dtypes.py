"""The dtypes of weights: their names, their NumPy types, and memory to put them in."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_out", "check_shape", "new_array", "raw_view", "resolve", "store", "working"]

_NUMPY = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
}
_ITEMSIZE = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
_LINE = 64  # bytes of a cache line, and of the widest vector: what JAX wants to take an array as it is


def bfloat16() -> np.dtype[Any]:
    """The bfloat16 dtype of ml_dtypes, which NumPy itself does not have."""
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            "dtype bfloat16: expected the package ml_dtypes (pip install 'fastinit[bf16]'), which is "
            "not installed; without it pass a uint16 array as out= to get the bits"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)


def resolve(dtype: Any) -> str:
    """The name of a supported dtype.

    Parameters
    ----------
    dtype : str, type or numpy.dtype
        ``"float32"``, ``"float64"``, ``"float16"``, ``"bfloat16"``, or anything of that name.

    Raises
    ------
    ValueError
        If it is another dtype.
    TypeError
        If it is no dtype at all.
    """
    if isinstance(dtype, str) and dtype in _ITEMSIZE:
        return dtype
    try:
        found = np.dtype(dtype)
    except TypeError:
        kind = ValueError if isinstance(dtype, str) else TypeError
        raise kind(f"dtype: expected one of {', '.join(_ITEMSIZE)}, got {dtype!r}") from None
    name = str(found.name if found.isnative else found)
    if name not in _ITEMSIZE:
        raise ValueError(f"dtype: expected one of {', '.join(_ITEMSIZE)}, got {name!r}")
    return name


def working(dtype: str) -> str:
    """The dtype that values are computed in before the one rounding to `dtype`."""
    return "float64" if dtype == "float64" else "float32"


def check_shape(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of ints >= 0; a single int is the shape of a vector."""
    # The common case at once: a small matrix is drawn in two microseconds.
    if type(shape) is tuple and len(shape) == 2:
        rows, columns = shape
        if type(rows) is int and type(columns) is int and 0 <= rows < 1 << 29 and 0 <= columns < 1 << 29:
            return shape
    try:
        sizes = (operator.index(shape),) if not np.iterable(shape) else tuple(
            operator.index(n) for n in shape
        )
    except TypeError:
        raise TypeError(f"shape: expected an int or a sequence of ints, got {shape!r}") from None
    if any(n < 0 for n in sizes):
        raise ValueError(f"shape: expected sizes >= 0, got {sizes}")
    if len(sizes) > 64:
        raise ValueError(f"shape: expected at most 64 axes, got {len(sizes)}")
    total = math.prod(sizes)
    if total > 1 << 58:
        raise ValueError(f"shape: expected at most 2**58 elements, got {total} in {sizes}")
    return sizes


def new_array(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """An uninitialised array that starts at a multiple of 64 bytes."""
    kind = bfloat16() if dtype == "bfloat16" else _NUMPY[dtype]
    size = math.prod(shape) * kind.itemsize
    memory = np.empty(size + _LINE, dtype=np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(kind).reshape(shape)


def check_out(out: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """Check that `out` can hold an array of `shape` and `dtype`, and return its memory.

    `out` is an array of that dtype and shape, or any other writable C-contiguous buffer of as
    many bytes. bfloat16 may come as uint16.
    """
    if type(out) is np.ndarray and dtype != "bfloat16":
        if out.shape == shape and out.dtype == _NUMPY[dtype] and out.flags.carray:
            return out
    if isinstance(out, np.ndarray):
        if out.dtype.name != dtype and not (dtype == "bfloat16" and out.dtype == np.uint16):
            raise ValueError(f"out: expected dtype {dtype}, got {out.dtype}")
        if not out.dtype.isnative:
            raise ValueError(f"out: expected native byte order, got {out.dtype}")
        if out.shape != shape:
            raise ValueError(f"out: expected shape {shape}, got {out.shape}")
        if not out.flags.c_contiguous:
            raise ValueError(
                f"out: expected a C-contiguous array, got shape {out.shape} with strides {out.strides}"
            )
        if not out.flags.writeable:
            raise ValueError("out: expected a writable array, got a read-only one")
        if not out.flags.aligned:
            raise ValueError(f"out: expected memory aligned to {out.dtype}, got an unaligned array")
        return raw_view(out)
    try:
        view = memoryview(out)
    except TypeError:
        raise TypeError(
            f"out: expected an array or a writable buffer, got {type(out).__name__}"
        ) from None
    with view:
        if view.readonly:
            raise ValueError("out: expected a writable buffer, got a read-only one")
        if not view.c_contiguous:
            raise ValueError("out: expected a C-contiguous buffer, got a strided one")
        size = math.prod(shape) * _ITEMSIZE[dtype]
        typed = {"bfloat16": "H", "float16": "e", "float32": "f", "float64": "d"}[dtype]
        if view.format not in ("B", "b", "c", typed):
            raise ValueError(f"out: expected a buffer of bytes or of {dtype}, got format {view.format!r}")
        if view.nbytes != size:
            raise ValueError(
                f"out: expected {size} bytes for shape {shape} in {dtype}, got {view.nbytes}"
            )
    return out


def raw_view(array: NDArray[Any]) -> Any:
    """An array as something that exports a buffer: bfloat16 does not, its bits as uint16 do."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def store(values: NDArray[Any], dtype: str, out: Any = None) -> Any:
    """`values`, an array of float64, rounded to `dtype`: a new array, or written to `out`.

    The 16-bit dtypes are the roundings of the float32 values.
    """
    if out is None:
        out = new_array(values.shape, dtype)
        memory = raw_view(out)
    else:
        memory = check_out(out, values.shape, dtype)
    with np.errstate(over="ignore"):
        if dtype in ("float16", "bfloat16"):
            values = values.astype(np.float32)
        rounded = values.astype(bfloat16() if dtype == "bfloat16" else _NUMPY[dtype])
    rounded = raw_view(rounded)
    np.frombuffer(memory, dtype=rounded.dtype).reshape(values.shape)[...] = rounded
    return out
