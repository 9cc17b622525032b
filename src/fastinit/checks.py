"""What arguments must be: a check refuses an argument that is something else, and says what came instead."""

from __future__ import annotations

import math
import operator
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "any_array", "boolean", "check_apart", "is_masked", "is_tensor", "no_nan", "real_array", "real_number", "unmasked",
    "whole_number",
]  # fmt: skip

_NARROW = ("bfloat16", "float8_", "float6_", "float4_")  # of ml_dtypes and PyTorch, not of NumPy: float32 holds their numbers


def boolean(what: str, value: Any) -> None:
    """Refuse what is no bool, such as a str, which is true whatever it says."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what}: expected a bool, got {type(value).__name__} {value!r}")


def whole_number(what: str, value: Any, *, least: int = 1) -> int:
    """An int not below `least`; of NumPy's too, but no bool."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{what}: expected an int >= {least}, got {type(value).__name__} {value!r}")
    if number < least:
        raise ValueError(f"{what}: expected an int >= {least}, got {number}")
    return number


def real_number(what: str, value: Any) -> float:
    """A finite number as a float; of NumPy's too, but no bool and no str."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{what}: expected a real number, got {type(value).__name__} {value!r}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{what}: expected a finite number, got an int beyond float64") from None
    if not math.isfinite(number):
        raise ValueError(f"{what}: expected a finite number, got {number}")
    return number


def is_masked(value: Any) -> bool:
    """Whether some of an array may be hidden."""
    # Without importing numpy.ma, which takes longer than we do; elsewhere `mask` may be a method.
    return type(value) is not np.ndarray and isinstance(getattr(value, "mask", None), (np.ndarray, np.bool_))


def unmasked(what: str, value: Any) -> None:
    """Refuse an array some of which may be hidden: what is under the mask would be read or written as if it were not."""
    if is_masked(value):
        raise TypeError(f"{what}: expected an array without a mask, got a {type(value).__name__}; fill what it hides")


def is_tensor(*values: Any) -> bool:
    """Whether one of the values is a PyTorch tensor: nobody has one who has not imported torch."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and any(isinstance(value, tensor) for value in values)


def _numbers_of(value: Any) -> Any:
    """A PyTorch tensor as something that NumPy takes: wherever it is, and whether or not autograd follows it."""
    if not is_tensor(value):
        return value
    tensor = value.detach().cpu()
    return tensor.float() if str(tensor.dtype).removeprefix("torch.").startswith(_NARROW) else tensor


def any_array(what: str, value: Any) -> NDArray[Any]:
    """What NumPy makes of something, or of a PyTorch tensor; nothing of it is hidden behind a mask."""
    if type(value) is np.ndarray:
        return value
    unmasked(what, value)
    try:
        return np.asarray(_numbers_of(value))
    except MemoryError:
        raise
    except Exception as error:  # rows of several lengths, a tensor without memory, an __array__ of somebody's
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{what}: expected an array, got a {type(value).__name__} that is none: {error}") from error


def real_array(what: str, value: Any) -> NDArray[Any]:
    """An array of ints, bools or floats of NumPy's, see `any_array`; bfloat16 and float8 come as float32."""
    array = any_array(what, value)
    if array.dtype.isbuiltin == 2 and array.dtype.name.startswith(_NARROW):
        return array.astype(np.float32)
    if array.dtype.kind in "fiub":
        return array
    found = f"a {type(value).__name__}" if isinstance(value, (str, bytes)) else f"dtype {array.dtype}"
    raise TypeError(f"{what}: expected an array of real numbers, got {found}")


def check_apart(what: str, spans: list[tuple[int, int, int]]) -> None:
    """Refuse arrays that overlap, given as (first byte, end, number): which is written last would decide what they hold."""
    last, owner = 0, 0
    for begin, end, number in sorted(spans):
        if begin < last and begin < end:
            raise ValueError(f"{what}[{number}]: expected an array of its own, got memory that {what}[{owner}] has")
        if end > last:
            last, owner = end, number


def no_nan(what: str, array: NDArray[Any]) -> None:
    """Refuse an array in which a number is missing."""
    if array.dtype.kind != "f" or array.size == 0:
        return
    least = np.minimum.reduce(array, axis=None)  # a NaN is the least of all; half of the time of isnan().any()
    if least != least:
        raise ValueError(f"{what}: expected no NaN, got {int(np.isnan(array).sum())}")
