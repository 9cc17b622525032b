"""Checks of arguments: each raises an error that names what was expected and what was received."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pieces import in_pieces

__all__ = [
    "any_array", "boolean", "check_apart", "is_masked", "is_tensor", "no_nan", "one_of", "real_array", "real_number", "shown",
    "unmasked", "whole_number",
]  # fmt: skip

# Dtypes of ml_dtypes and PyTorch that NumPy does not have; float32 holds all their numbers.
_NARROW = ("bfloat16", "float8_", "float6_", "float4_")
_MAX_QUOTED = 160  # characters of an argument that a message quotes
_MAX_COUNT = (1 << 63) - 1  # the largest number of widths, layers, groups


def shown(value: Any) -> str:
    """An argument as a message quotes it: its repr, or the beginning of a long one."""
    try:
        text = repr(value)
    except Exception:  # Python refuses to print an int of more than 4300 digits, alone or in a list; a user's repr may fail
        text = f"an int of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__} without a repr"
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."


def boolean(what: str, value: Any) -> None:
    """Refuse what is no bool, such as a non-empty str, which Python takes for true."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what}: expected a bool, got {type(value).__name__} {shown(value)}")


def one_of(what: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse what is none of the names in `choices`."""
    names = tuple(choices)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{what}: expected one of {', '.join(names)}, got {shown(value)}")


def whole_number(what: str, value: Any, *, least: int = 1, most: float = _MAX_COUNT) -> int:
    """An int in [`least`, `most`], below 2**63 by default. NumPy's ints are accepted, bools are not."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{what}: expected an int >= {least}, got {type(value).__name__} {shown(value)}")
    if not least <= number <= most:
        wanted = f">= {least}" if number < least else "< 2**63" if most == _MAX_COUNT else f"<= {most}"
        raise ValueError(f"{what}: expected an int {wanted}, got {shown(number)}")
    return number


def real_number(what: str, value: Any) -> float:
    """A finite real number as a float. NumPy's numbers are accepted, bools and strings are not."""
    # NumPy's timedelta64 is a subclass of its integers.
    if isinstance(value, (bool, np.timedelta64)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{what}: expected a real number, got {type(value).__name__} {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{what}: expected a finite number, got an int beyond float64") from None
    if not math.isfinite(number):
        raise ValueError(f"{what}: expected a finite number, got {number}")
    return number


def is_masked(value: Any) -> bool:
    """Whether an array has a mask, which may hide elements."""
    # numpy.ma is not imported, because that takes longer than to import this package. In other classes, `mask` may be a method.
    return type(value) is not np.ndarray and isinstance(getattr(value, "mask", None), (np.ndarray, np.bool_))


def unmasked(what: str, value: Any) -> None:
    """Refuse an array with a mask: hidden elements would be read or written like all others."""
    if is_masked(value):
        raise TypeError(f"{what}: expected an array without a mask, got a {type(value).__name__}; fill its hidden elements first")


def is_tensor(*values: Any) -> bool:
    """Whether one of the values is a PyTorch tensor. There is none unless torch has been imported, so it is not imported here."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and any(isinstance(value, tensor) for value in values)


def _for_numpy(value: Any) -> Any:
    """A PyTorch tensor, on any device and with or without gradients, as one that NumPy converts; anything else as it is."""
    if not is_tensor(value):
        return value
    tensor = value.detach().cpu()
    return tensor.float() if str(tensor.dtype).removeprefix("torch.").startswith(_NARROW) else tensor


def any_array(what: str, value: Any) -> NDArray[Any]:
    """`value` as a NumPy array; array_likes and PyTorch tensors are converted, and masked arrays are refused."""
    if type(value) is np.ndarray:
        return value
    unmasked(what, value)
    try:
        return np.asarray(_for_numpy(value))
    except MemoryError:
        raise
    except Exception as error:  # rows of different lengths, a tensor without memory, an error in a user's __array__
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{what}: expected an array, got a {type(value).__name__} that cannot be converted: {error}") from error


def real_array(what: str, value: Any) -> NDArray[Any]:
    """`value` as a NumPy array of ints, bools or floats (see `any_array`); bfloat16 and float8 are converted to float32."""
    array = any_array(what, value)
    if array.dtype.isbuiltin == 2 and array.dtype.name.startswith(_NARROW):
        return array.astype(np.float32)
    if array.dtype.kind in "fiub":
        return array
    found = f"a {type(value).__name__}" if isinstance(value, (str, bytes)) else f"dtype {array.dtype}"
    raise TypeError(f"{what}: expected an array of real numbers, got {found}")


def check_apart(what: str, spans: list[tuple[int, int, int]]) -> None:
    """Refuse arrays that overlap, given as (first byte, end, number): their contents would depend on the order of writing."""
    last, owner = 0, 0
    for begin, end, number in sorted(spans):
        if begin < last and begin < end:
            raise ValueError(f"{what}[{number}]: expected an array of its own, got memory that {what}[{owner}] has")
        if end > last:
            last, owner = end, number


def no_nan(what: str, array: NDArray[Any]) -> None:
    """Refuse an array that contains a NaN."""
    if array.dtype.kind != "f" or array.size == 0:
        return
    # The minimum of numbers with a NaN among them is NaN. This takes half the time of isnan().any().
    minima = [np.minimum.reduce(piece, axis=None) for (piece,) in in_pieces(array)]
    if any(minimum != minimum for minimum in minima):
        raise ValueError(f"{what}: expected no NaN, got {int(np.isnan(array).sum())}")
