"""Laws: what the elements of a tensor are drawn from, and the checks of their parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from .._common.arithmetic import ieee
from .._common.checks import any_array, shown
from .._common.dtypes import LARGEST, LARGEST_FLOAT8

__all__ = ["Law", "check_law"]

_NARROW = {"float16", *LARGEST_FLOAT8}  # dtypes whose range is narrower than float32's


class Law(NamedTuple):
    """What the elements of a tensor are drawn from, each independently of all others.

    Attributes
    ----------
    name : {"uniform", "normal", "truncated_normal"}
    parameters : tuple of float
        ``(low, high)`` of a uniform law, the half-open interval; ``(mean, std)`` of a normal one; ``(mean, std, lower,
        upper)`` of a truncated one, whose std is that before truncation and whose bounds are in standard deviations.
    """

    name: str
    parameters: tuple[float, ...]

    @ieee
    def times(self, factor: float) -> Law:
        """The law of an element multiplied by `factor`; a constant is a normal law of standard deviation 0."""
        if self.name == "uniform":
            low, high = sorted(factor * bound for bound in self.parameters)
            return Law("uniform", (low, high)) if low < high else Law("normal", (low, 0.0))
        mean, std, *bounds = self.parameters
        if factor == 0:
            return Law("normal", (0.0, 0.0))
        if factor < 0:
            bounds = [-bound for bound in reversed(bounds)]
        return Law(self.name, (factor * mean, abs(factor) * std, *bounds))


def _number(value: Any, what: str, dtype: str, *, infinite: bool = False) -> float:
    """A parameter as a float in the range of the dtype; where `infinite`, it may be infinite or beyond the range."""
    if type(value) is float and -3e38 < value < 3e38 and dtype not in _NARROW:
        return value
    if not isinstance(value, (int, float)):
        array = any_array(what, value)
        if array.ndim != 0 or array.dtype.kind in "bcUSmM":
            raise TypeError(f"{what}: expected a real number, got {shown(value)}")
    elif isinstance(value, bool):
        raise TypeError(f"{what}: expected a real number, got {value}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{what}: expected a number in the range of {dtype}, got one beyond float64") from None
    except (TypeError, ValueError):
        raise TypeError(f"{what}: expected a real number, got {type(value).__name__}") from None
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise ValueError(f"{what}: expected a finite number, got {number}")
    if not infinite and abs(number) > LARGEST[dtype]:
        raise ValueError(f"{what}: expected a number in the range of {dtype}, got {number}")
    return number


def _fits(mean: Any, std: Any, bounds: Iterable[Any], dtype: str) -> bool:
    """Whether a truncated normal lies in the dtype's range, though the normal before truncation may not."""
    mean, std = _number(mean, "mean", "float64"), _number(std, "std", "float64")
    ends = [_number(bound, what, "float64", infinite=True) for bound, what in zip(bounds, ("lower", "upper"), strict=True)]
    return all(abs(mean + std * end) <= LARGEST[dtype] for end in ends)


def check_law(law: str, parameters: Iterable[Any], dtype: str) -> tuple[float, ...]:
    """The parameters of a law as floats, checked for the law and the dtype.

    Parameters
    ----------
    law, parameters : str, iterable of numbers
        The name and the parameters of a `Law`.
    dtype : str
        What is drawn must be in its range: the bounds of a uniform law, mean and std of a normal one. Of a truncated normal in
        float16 or float8 it suffices that the truncated interval is.

    Raises
    ------
    TypeError
        If a parameter is not a real number.
    ValueError
        If one is not finite (bounds in standard deviations may be infinite) or out of range, std < 0, or bounds are not
        in rising order.
    """
    if law == "uniform":
        low, high = parameters
        low, high = _number(low, "low", dtype), _number(high, "high", dtype)
        if not low < high:
            raise ValueError(f"low, high: expected low < high, got low={low}, high={high}")
        return low, high
    mean, std, *bounds = parameters
    range_of = "float32" if bounds and dtype in _NARROW and _fits(mean, std, bounds, dtype) else dtype
    mean, std = _number(mean, "mean", range_of), _number(std, "std", range_of)
    if std < 0:
        raise ValueError(f"std: expected a number >= 0, got {std}")
    if law == "normal":
        return mean, std
    lower = _number(bounds[0], "lower", dtype, infinite=True)
    upper = _number(bounds[1], "upper", dtype, infinite=True)
    if not lower < upper:
        raise ValueError(f"lower, upper: expected lower < upper, got lower={lower}, upper={upper}")
    return mean, std, lower, upper
