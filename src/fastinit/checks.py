"""What arguments must be: a check refuses an argument that is something else, and says what came instead."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["boolean", "is_masked", "no_nan", "real_array", "real_number", "whole_number"]


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


def real_array(what: str, value: Any) -> NDArray[Any]:
    """An array of ints, bools or floats of NumPy's, of which nothing is hidden behind a mask."""
    if is_masked(value):
        raise TypeError(f"{what}: expected an array without a mask, got a {type(value).__name__}; fill what it hides")
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{what}: expected an array, got a {type(value).__name__} that is none: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what}: expected an array of real numbers, got dtype {array.dtype}")
    return array


def no_nan(what: str, array: NDArray[Any]) -> None:
    """Refuse an array in which a number is missing."""
    if array.dtype.kind != "f" or array.size == 0:
        return
    least = np.minimum.reduce(array, axis=None)  # a NaN is the least of all; half of the time of isnan().any()
    if least != least:
        raise ValueError(f"{what}: expected no NaN, got {int(np.isnan(array).sum())}")
