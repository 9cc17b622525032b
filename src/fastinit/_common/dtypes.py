"""The dtypes of tensors: their names, their NumPy dtypes, conversions between them, and memory of them."""

from __future__ import annotations

import math
import operator
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .checks import shown, unmasked
from .pieces import in_pieces, once

__all__ = [
    "LARGEST", "LARGEST_FLOAT8", "PART", "check_out", "check_range", "check_shape", "memory_dtype", "new_array", "numpy_dtype",
    "part_of", "raw_view", "resolve", "rounded", "store", "working",
]  # fmt: skip

_NUMPY: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "complex64": np.dtype(np.complex64),
    "complex128": np.dtype(np.complex128),
}
# The largest number of each float8 dtype of ml_dtypes.
LARGEST_FLOAT8 = {
    "float8_e3m4": 15.5, "float8_e4m3": 240.0, "float8_e4m3b11fnuz": 30.0, "float8_e4m3fn": 448.0,
    "float8_e4m3fnuz": 240.0, "float8_e5m2": 57344.0, "float8_e5m2fnuz": 57344.0,
}  # fmt: skip
# The unsigned integers that hold the bits of the dtypes that NumPy does not have.
_BITS: dict[str, np.dtype[Any]] = {"bfloat16": np.dtype(np.uint16), **dict.fromkeys(LARGEST_FLOAT8, np.dtype(np.uint8))}
PART = {"complex64": "float32", "complex128": "float64"}
# The largest number of every dtype; of a complex one, the largest real or imaginary part.
LARGEST = {
    **{name: float(np.finfo(kind).max) for name, kind in _NUMPY.items()},
    "bfloat16": float.fromhex("0x1.fep127"),
    **LARGEST_FLOAT8,
}
_HELD = _NUMPY | _BITS  # the dtypes under which NumPy exports the memory of a tensor as a buffer
_NAMES = {kind: name for name, kind in _NUMPY.items()}
_ITEMSIZE = {name: kind.itemsize for name, kind in _HELD.items()}
_FORMATS = {"float16": "e", "float32": "f", "float64": "d", "complex64": "Zf", "complex128": "Zd"}
# Prefixes of a buffer's format for this machine's byte order: of ctypes, of NumPy for unaligned memory, of memoryview.
_NATIVE = ("<" if sys.byteorder == "little" else ">", "=", "@")
_ALIGNMENT = 64  # bytes of a cache line and of the widest vector; JAX takes an array that is aligned so without a copy
# Bytes. NumPy asks for huge pages, and the system gives 512 small pages instead of each one that is not entirely in the array.
_HUGE_PAGE = 1 << 21


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a supported name; those of bfloat16 and float8 come from the package ml_dtypes."""
    if name in _NUMPY:
        return _NUMPY[name]
    try:
        import ml_dtypes
    except ImportError:
        # Rounding to bfloat16 is done here, rounding to float8 by ml_dtypes.
        hint = "; without it pass a uint16 array as out= to get the bits of bfloat16" if name == "bfloat16" else ""
        raise ImportError(
            f"dtype {name}: expected the package ml_dtypes (pip install 'fastinit[bf16]'), which is not installed{hint}"
        ) from None
    if not hasattr(ml_dtypes, name):
        raise ImportError(f"dtype {name}: expected a version of ml_dtypes that has it, got {ml_dtypes.__version__}")
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


def memory_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of memory for a supported name: of bfloat16 and float8 the unsigned integers that hold the bits."""
    return _HELD[name]


def part_of(dtype: str) -> str | None:
    """The dtype of the real and imaginary parts of a complex dtype; None for a real dtype."""
    return PART.get(dtype)


def resolve(dtype: Any) -> str:
    """The name of a supported dtype.

    Parameters
    ----------
    dtype : str, type or numpy.dtype
        ``"float32"``, ``"float64"``, ``"float16"``, ``"bfloat16"``, ``"complex64"``, ``"complex128"``, one of
        ml_dtypes' float8 such as ``"float8_e4m3fn"``, or anything of that name.

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
        if dtype is None:  # NumPy takes None for float64
            raise TypeError
        found = np.dtype(dtype)
    except Exception:  # NumPy parses several syntaxes of dtypes, with errors of many types
        kind = ValueError if isinstance(dtype, str) else TypeError
        raise kind(f"dtype: expected one of {', '.join(_ITEMSIZE)}, got {shown(dtype)}") from None
    if found in _NAMES:  # NumPy takes longer to make the name than a small draw takes
        return _NAMES[found]
    name = str(found.name if found.isnative else found)
    if name not in _ITEMSIZE:
        raise ValueError(f"dtype: expected one of {', '.join(_ITEMSIZE)}, got {shown(name)}")
    return name


def working(dtype: str) -> str:
    """The dtype in which values are computed before they are rounded once to `dtype`."""
    return dtype if dtype in ("float64", *PART) else "float32"


def check_shape(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of ints >= 0; a single int is the shape of a vector."""
    # The common case first: drawing a small matrix takes two microseconds in all.
    if type(shape) is tuple and len(shape) == 2:
        rows, columns = shape
        if type(rows) is int and type(columns) is int and 0 <= rows < 1 << 29 and 0 <= columns < 1 << 29:
            return shape
    sequence = isinstance(shape, (tuple, list)) or (isinstance(shape, np.ndarray) and shape.ndim == 1)
    entries = tuple(shape) if sequence else (shape,)
    try:
        sizes = tuple(operator.index(n) for n in entries)
    except TypeError:
        sizes = None
    if sizes is None or any(isinstance(n, bool) for n in entries):
        raise TypeError(f"shape: expected an int or a sequence of ints, got {shown(shape)}")
    if any(n < 0 for n in sizes):
        raise ValueError(f"shape: expected sizes >= 0, got {shown(sizes)}")
    if len(sizes) > 64:
        raise ValueError(f"shape: expected at most 64 axes, got {len(sizes)}")
    total = math.prod(n for n in sizes if n)  # NumPy multiplies the sizes other than 0 even if the array is empty
    if total > 1 << 58:
        without = " without the empty axes" if 0 in sizes else ""
        raise ValueError(f"shape: expected at most 2**58 elements, got {shown(total)} in {shown(sizes)}{without}")
    return sizes


def new_array(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """An uninitialised array whose memory begins at a multiple of 64 bytes, or, if it is large, at the start of a huge page."""
    kind = numpy_dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    step = _ALIGNMENT if size < 16 * _HUGE_PAGE else _HUGE_PAGE
    try:
        memory = np.empty(size + step, dtype=np.uint8)
    except MemoryError:  # NumPy's message would name a shape of uint8
        raise MemoryError(f"shape: expected {size} bytes of memory for shape {shape} in {dtype}, got none") from None
    return np.ndarray(shape, kind, memory, -_core.span(memory)[0] % step)


def check_out(out: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """Check that `out` can hold an array of `shape` and `dtype`, and return its memory.

    `out` is an array of that dtype and shape, or any other writable C-contiguous buffer of the same number of bytes, aligned to
    the size of an element, or of the real part of a complex one. An array of uint16 holds bfloat16, one of uint8 float8.
    """
    if type(out) is np.ndarray and out.shape == shape and out.dtype == _HELD[dtype] and out.flags.carray:
        return out
    unmasked("out", out)
    if isinstance(out, np.ndarray):
        if out.dtype.name not in ((dtype, _BITS[dtype].name) if dtype in _BITS else (dtype,)):
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
        typed = _FORMATS[dtype] if dtype in _FORMATS else _BITS[dtype].char
        if view.format[view.format.startswith(_NATIVE) :] not in ("B", "b", "c", typed):
            raise ValueError(f"out: expected a buffer of bytes or of {dtype}, got format {view.format!r}")
        if view.nbytes != size:
            raise ValueError(
                f"out: expected {size} bytes for shape {shape} in {dtype}, got {view.nbytes}"
            )
        unit = part_of(dtype) or dtype
        address = np.frombuffer(view, np.uint8).ctypes.data if size else 0
        if address % _ITEMSIZE[unit]:
            raise ValueError(
                f"out: expected memory whose address is a multiple of {_ITEMSIZE[unit]}, the size of a {unit}, got {address:#x}"
            )
    return out


def raw_view(array: NDArray[Any]) -> Any:
    """An array, viewed as unsigned integers if its dtype is of ml_dtypes: NumPy exports no buffers of those dtypes."""
    bits = _BITS.get(array.dtype.name)
    return array if bits is None else array.view(bits)


def _bfloat16_bits(values: NDArray[Any]) -> NDArray[Any]:
    """float32 numbers rounded to their upper 16 bits, to nearest and ties to even, in integers; `values` is overwritten."""
    bits = values.view(np.uint32)
    nan = np.isnan(values)
    bits[nan] = bits[nan] & 0x80000000 | 0x7FC00000  # a quiet NaN; rounding could make others infinite
    increment = bits >> 16
    increment &= 1
    increment += 0x7FFF
    bits += increment
    bits >>= 16
    return bits.astype(np.uint16)


def rounded(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """`values` rounded to `dtype`; for bfloat16, the bits as uint16.

    Values are rounded to float32 first for 16-bit and float8 dtypes, and to the finite range for float8.
    """
    values = np.asarray(values)  # NumPy's arithmetic on arrays without axes returns scalars, which cannot be written to
    with np.errstate(over="ignore"):
        if dtype in _BITS or dtype == "float16":
            values = values.astype(np.float32)
        if dtype == "bfloat16":
            return _bfloat16_bits(values)
        if dtype in LARGEST_FLOAT8:
            values = np.clip(values, -LARGEST_FLOAT8[dtype], LARGEST_FLOAT8[dtype])
        return np.asarray(values.astype(numpy_dtype(dtype)))


def _stays_finite(number: float, dtype: str) -> bool:
    found = rounded(np.array(number), dtype)
    return bool(found & 0x7F80 != 0x7F80 if dtype == "bfloat16" else np.isfinite(found))


def check_range(values: NDArray[Any], dtype: str, what: str, *, saturating: bool = False) -> None:
    """Refuse `values` that become infinite when they are rounded to `dtype`.

    No value becomes infinite in a float8 dtype: finite values out of range are refused unless `saturating`, which rounds them to
    the largest number.
    """
    values = once(values)
    for part in (values.real, values.imag) if values.dtype.kind == "c" else (values,):
        extremes = [(piece.min(), piece.max()) for (piece,) in in_pieces(part)]
        # A NaN is the least and the largest of all, whatever comes after it.
        for extreme in (np.min([low for low, _ in extremes]), np.max([high for _, high in extremes])) if extremes else ():
            number = float(extreme)
            if abs(number) <= LARGEST[dtype]:
                continue
            saturates = dtype in LARGEST_FLOAT8
            if (saturates and not saturating) or not _stays_finite(number, dtype):
                raise ValueError(
                    f"{what}: expected values of magnitude {LARGEST[dtype]} at most, the largest {dtype}, got {number}"
                )


def store(values: NDArray[Any], dtype: str, out: Any = None) -> Any:
    """`values`, an array of float64 or of the dtype that `working` names, rounded to `dtype`: in a new array, or in `out`."""
    if out is None:
        out = new_array(values.shape, dtype)
        memory = raw_view(out)
    else:
        memory = check_out(out, values.shape, dtype)
    target = np.frombuffer(memory, dtype=_HELD[dtype]).reshape(values.shape)
    for piece, to in in_pieces(values, target):
        to[...] = raw_view(rounded(piece, dtype))
    return out
