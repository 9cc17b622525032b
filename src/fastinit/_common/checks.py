"""What arguments must be: a check refuses an argument that is something else, and says what came instead."""

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

_NARROW = ("bfloat16", "float8_", "float6_", "float4_")  # of ml_dtypes and PyTorch, not of NumPy: float32 holds their numbers
_LONGEST = 160  # characters of an argument that a message quotes
_MOST = (1 << 63) - 1  # of what is counted: widths, layers, groups


def shown(value: Any) -> str:
    """An argument as a message quotes it: its repr, or the beginning of a long one."""
    try:
        text = repr(value)
    except Exception:  # Python writes no int of more than 4300 digits, nor a list of it; somebody's repr may fail
        text = f"an int of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__} without a repr"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def boolean(what: str, value: Any) -> None:
    """Refuse what is no bool, such as a str, which is true whatever it says."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what}: expected a bool, got {type(value).__name__} {shown(value)}")


def one_of(what: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse what is none of a few names."""
    names = tuple(choices)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{what}: expected one of {', '.join(names)}, got {shown(value)}")


def whole_number(what: str, value: Any, *, least: int = 1, most: float = _MOST) -> int:
    """An int in [`least`, `most`], below 2**63 by default; of NumPy's too, but no bool."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{what}: expected an int >= {least}, got {type(value).__name__} {shown(value)}")
    if not least <= number <= most:
        wanted = f">= {least}" if number < least else "< 2**63" if most == _MOST else f"<= {most}"
        raise ValueError(f"{what}: expected an int {wanted}, got {shown(number)}")
    return number


def real_number(what: str, value: Any) -> float:
    """A finite number as a float; of NumPy's too, but no bool and no str."""
    # NumPy's differences of dates are integers to it.
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
    # A NaN is the least of all; half of the time of isnan().any().
    leasts = [np.minimum.reduce(piece, axis=None) for (piece,) in in_pieces(array)]
    if any(least != least for least in leasts):
        raise ValueError(f"{what}: expected no NaN, got {int(np.isnan(array).sum())}")
