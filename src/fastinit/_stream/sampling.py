"""The public functions that draw: uniform, normal and truncated normal."""

from __future__ import annotations

from typing import Any

from .. import _core
from .draw import draw
from .keys import Key

__all__ = ["normal", "truncated_normal", "uniform"]


def uniform(
    shape: Any,
    low: float = 0.0,
    high: float = 1.0,
    *,
    key: Key,
    dtype: Any = "float32",
    out: Any = None,
) -> Any:
    """Uniform random numbers in the half-open interval [low, high).

    Parameters
    ----------
    shape : int or tuple of int
    low, high : float
        Bounds, low < high, both finite in `dtype`.
    key : Key
        Names the tensor: the same key gives the same values.
    dtype : str or dtype, default "float32"
        float32, float64, float16, bfloat16, or one of ml_dtypes' float8; 16-bit and float8 values are the roundings of
        the float32 ones, kept inside the interval. Also complex64 and complex128: independent parts about the interval's
        middle and about 0, each of half the variance.
    out : writable C-contiguous buffer, optional
        An array of that shape and dtype (bfloat16 also as uint16), or bytes of that size. Its contents are undefined if a
        signal's handler raises an exception during the call, as that of Ctrl-C does.

    Returns
    -------
    ndarray of `shape`, or `out`

    Raises
    ------
    ValueError
        If low >= high, a bound is not finite, no number of the dtype lies between them, the shape is
        negative, or `out` does not fit. Nothing has been written then.
    TypeError
        If an argument is of the wrong kind.

    Examples
    --------
    >>> uniform(3, -1, 1, key=Key(0))
    array([-0.2019071,  0.9444824, -0.9611011], dtype=float32)
    """
    saved = _core.fpenv_enter()  # as `ieee` does it
    try:
        return draw("uniform", (low, high), shape, key, dtype, out)
    finally:
        _core.fpenv_leave(saved)


def normal(
    shape: Any,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    key: Key,
    dtype: Any = "float32",
    out: Any = None,
) -> Any:
    """Normal random numbers, by inversion of the distribution function.

    Tails reach beyond 8 standard deviations in every dtype, as each number is made of 64 random bits. Numbers beyond the range of
    the dtype become infinite, or the largest number of a float8 dtype.

    Parameters
    ----------
    shape : int or tuple of int
    mean, std : float
        Mean, and standard deviation >= 0.
    key, dtype, out
        As for `uniform`.

    Returns
    -------
    ndarray of `shape`, or `out`

    Raises
    ------
    ValueError, TypeError
        As for `uniform`; std < 0 is a ValueError.
    """
    saved = _core.fpenv_enter()  # as `ieee` does it
    try:
        return draw("normal", (mean, std), shape, key, dtype, out)
    finally:
        _core.fpenv_leave(saved)


def truncated_normal(
    shape: Any,
    mean: float = 0.0,
    std: float = 1.0,
    lower: float = -2.0,
    upper: float = 2.0,
    *,
    key: Key,
    dtype: Any = "float32",
    out: Any = None,
) -> Any:
    """Normal random numbers that lie in [mean + std * lower, mean + std * upper].

    The distribution function is inverted inside the bounds: nothing is drawn again, and bounds may lie far out in a tail.
    `std` is that of the normal before truncation; what is drawn has a smaller one (0.8796 `std`
    for the default bounds).

    Parameters
    ----------
    shape : int or tuple of int
    mean, std : float
        Of the normal distribution before truncation; std >= 0.
    lower, upper : float
        Bounds **in standard deviations** from the mean, lower < upper; may be infinite.
    key, dtype, out
        As for `uniform`.

    Returns
    -------
    ndarray of `shape`, or `out`

    Raises
    ------
    ValueError, TypeError
        As for `uniform`; also where both bounds are more than 36 standard deviations out on one side.
    """
    saved = _core.fpenv_enter()  # as `ieee` does it
    try:
        return draw("truncated_normal", (mean, std, lower, upper), shape, key, dtype, out)
    finally:
        _core.fpenv_leave(saved)
