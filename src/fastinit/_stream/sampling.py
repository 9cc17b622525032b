"""Random tensors from the stream: uniform, normal and truncated normal.

Element e of a tensor is a pure function of (seed, stream, e, distribution, dtype), see docs/stream.md: never of
the shape, the memory, the CPU or the number of threads.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.arithmetic import ieee
from .._common.checks import any_array, shown
from .._common.dtypes import (
    LARGEST,
    LARGEST_FLOAT8,
    check_out,
    check_shape,
    new_array,
    numpy_dtype,
    part_of,
    raw_view,
    resolve,
    store,
)
from .._common.pieces import AT_ONCE, in_pieces
from .._common.threads import get_num_threads
from .keys import Key

__all__ = ["Law", "normal", "truncated_normal", "uniform"]

_LAW = {name: code for code, name in enumerate(_core.LAWS)}
_DTYPE = {name: code for code, name in enumerate(_core.DTYPES)}
_NARROW = {"float16", *LARGEST_FLOAT8}
_ROOT_HALF = 0.7071067811865476


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
        """The law of `factor` times an element."""
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
    """A parameter as a float that the dtype can hold."""
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


def check_key(key: Any) -> Key:
    """`key` itself, if it is one."""
    if not isinstance(key, Key):
        hint = f"; Key({shown(key)}) makes one of a seed" if isinstance(key, int) else ""
        raise TypeError(f"key: expected a fastinit.Key, got {type(key).__name__}{hint}")
    return key


def _fits(mean: Any, std: Any, bounds: Iterable[Any], dtype: str) -> bool:
    """Whether a truncated normal lies in the dtype's range, though the normal before truncation may not."""
    mean, std = _number(mean, "mean", "float64"), _number(std, "std", "float64")
    ends = [_number(bound, what, "float64", infinite=True) for bound, what in zip(bounds, ("lower", "upper"), strict=True)]
    return all(abs(mean + std * end) <= LARGEST[dtype] for end in ends)


def check_law(law: str, parameters: Iterable[Any], dtype: str) -> tuple[float, ...]:
    """The parameters of a law as floats, refused where the law or the dtype cannot have them.

    Laws: ``"uniform"`` (low, high), ``"normal"`` (mean, std), ``"truncated_normal"`` (mean, std, lower, upper).
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


def fill(
    out: Any, law: str, parameters: tuple[float, ...], key: Key, dtype: str, first: int = 0, plane: int = 0
) -> None:
    """Write elements first, first + 1, ... of a tensor to a checked buffer (see `check_out`)."""
    _core.fill(
        out, _LAW[law], _DTYPE[dtype], parameters, key.seed, key.stream, first, get_num_threads(), plane
    )


def _halved(law: str, parameters: tuple[float, ...], *, centred: bool) -> tuple[float, ...]:
    """The law of one part of a complex number: 1/sqrt(2) of the width, about the same centre or about 0."""
    if law == "uniform":
        low, high = parameters
        middle, reach = (low / 2 + high / 2), (high / 2 - low / 2) * _ROOT_HALF
        middle = 0.0 if centred else middle
        return middle - reach, middle + reach
    mean, std, *bounds = parameters
    return (0.0 if centred else mean, std * _ROOT_HALF, *bounds)


def _of_parts(
    law: str, parameters: tuple[float, ...], name: str, out: Any, part: Callable[..., NDArray[Any]]
) -> Any:
    """A tensor of a dtype that the kernels do not have, from tensors ``part(dtype, parameters, plane)`` of one that they have.

    Complex numbers have the variance of the law, E|z - E z|^2: real and imaginary part are independent, with half of it each.
    """
    real = part_of(name)
    if real is not None:
        parts = [part(real, _halved(law, parameters, centred=bool(i)), 2 * i) for i in range(2)]
        if out is None:
            out = new_array(parts[0].shape, name)
        memory = check_out(out, parts[0].shape, name)
        pairs = np.frombuffer(memory, numpy_dtype(real)).reshape(-1, 2)
        for i, numbers in enumerate(parts):
            for start in range(0, numbers.size, AT_ONCE):
                pairs[start : start + AT_ONCE, i] = numbers.reshape(-1)[start : start + AT_ONCE]
        return out
    values = part("float32", parameters, 0)
    if law != "normal":
        # The outermost float8 numbers inside the bounds, found among all of them.
        bits = np.arange(256, dtype=np.uint8).view(numpy_dtype(name)).astype(np.float64)
        if law == "uniform":
            inside = bits[(bits >= parameters[0]) & (bits < parameters[1])]
        else:
            low, high = (parameters[0] + parameters[1] * bound for bound in parameters[2:])
            inside = bits[(bits >= low) & (bits <= high)]
        if not inside.size:
            raise ValueError(f"dtype: expected one with numbers between the bounds of {law}{parameters}, got {name}")
        for (piece,) in in_pieces(values):
            np.clip(piece, inside.min(), inside.max(), out=piece)
    return store(values, name, out)


def draw(law: str, parameters: Iterable[Any], shape: Any, key: Any, dtype: Any, out: Any) -> Any:
    """Check every argument, then make (or fill) the tensor of a law."""
    name = resolve(dtype)
    sizes = check_shape(shape)
    checked = check_law(law, parameters, name)
    check_key(key)
    if name not in _DTYPE:

        def part(dtype: str, of_part: tuple[float, ...], plane: int) -> NDArray[Any]:
            values = new_array(sizes, dtype)
            fill(values, law, of_part, key, dtype, plane=plane)
            return values

        return _of_parts(law, checked, name, out, part)
    if out is None:
        out = new_array(sizes, name)
        memory = raw_view(out)
    else:
        memory = check_out(out, sizes, name)
    fill(memory, law, checked, key, name)
    return out


# (memory, law, dtype, parameters, seed, stream, first), as the binding wants them.
Job = tuple[Any, int, int, tuple[float, ...], int, int, int]


def job(memory: Any, law: str, parameters: Iterable[Any], key: Key, dtype: str) -> Job:
    """A fill for `fill_all`; `memory` has been checked (see `check_out`)."""
    checked = check_law(law, parameters, dtype)
    return memory, _LAW[law], _DTYPE[dtype], checked, key.seed, key.stream, 0


def fill_all(jobs: list[Job]) -> None:
    """All fills in one launch of the threads."""
    _core.fill_many(jobs, get_num_threads())


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
        An array of that shape and dtype (bfloat16 also as uint16), or bytes of that size. Where an exception comes out of a
        signal's handler during the call, such as the KeyboardInterrupt of Ctrl-C, it holds anything.

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

    The tails are whole: every dtype draws from 64 random bits, beyond 8 standard deviations. What lies beyond the range of the
    dtype becomes infinite, or the largest number of a float8 one.

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

    The distribution function is inverted inside the bounds, so nothing is redrawn and far tails are right.
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


def _axis(entry: Any, size: int, axis: int) -> tuple[int, int, int, bool]:
    """Start, step, count of an index entry, and whether the axis stays."""
    if isinstance(entry, slice):
        try:
            start, stop, step = entry.indices(size)
        except (TypeError, ValueError):  # of no ints, or a step of 0
            kind = ValueError if isinstance(entry.step, int) else TypeError
            raise kind(f"index: expected slices of ints with a step other than 0, got {shown(entry)} for axis {axis}") from None
        return start, step, len(range(start, stop, step)), True
    try:
        position = operator.index(entry)
    except TypeError:
        raise TypeError(
            f"index: expected ints and slices, got {type(entry).__name__} for axis {axis}"
        ) from None
    if isinstance(entry, bool):
        raise TypeError(f"index: expected ints and slices, got bool for axis {axis}")
    if not -size <= position < size:
        raise IndexError(f"index: expected an int in [{-size}, {size}) for axis {axis}, got {shown(position)}")
    return position % size, 1, 1, False


def resolve_index(shape: tuple[int, ...], index: Any) -> list[tuple[int, int, int, bool]]:
    """For every axis of `shape`: start, step, count and whether it stays, as ``array[index]`` has it."""
    entries = list(index) if isinstance(index, tuple) else [index]
    ellipses = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError(f"index: expected at most one ellipsis, got {len(ellipses)}")
    missing = len(shape) - (len(entries) - len(ellipses))
    if missing < 0:
        raise IndexError(f"index: expected at most {len(shape)} entries for shape {shape}, got {len(entries)}")
    at = ellipses[0] if ellipses else len(entries)
    entries[at : at + len(ellipses)] = [slice(None)] * missing
    return [_axis(entry, size, k) for k, (entry, size) in enumerate(zip(entries, shape, strict=True))]


def fill_piece(
    law: str, parameters: Iterable[Any], shape: Any, index: Any, key: Any, dtype: Any, out: Any
) -> Any:
    """``draw(law, parameters, shape, key, dtype)[index]``, without making the rest."""
    name = resolve(dtype)
    sizes = check_shape(shape)
    checked = check_law(law, parameters, name)
    check_key(key)
    axes = resolve_index(sizes, index)
    piece = tuple(count for _, _, count, stays in axes if stays)
    first, width = 0, 1
    counts: list[int] = []  # from the last axis to the first, neighbours merged where they touch
    strides: list[int] = []
    for size, (start, step, count, _) in zip(reversed(sizes), reversed(axes), strict=True):
        first += start * width
        if counts and strides[-1] * counts[-1] == step * width:
            counts[-1] *= count
        elif count != 1 or not counts:
            counts.append(count)
            strides.append(step * width)
        width *= size

    def write(memory: Any, dtype: str, of_part: tuple[float, ...], plane: int) -> None:
        if 0 not in counts:
            _core.fill_block(
                memory, _LAW[law], _DTYPE[dtype], of_part, key.seed, key.stream, first,
                counts[::-1] or [1], strides[::-1] or [1], get_num_threads(), plane,
            )  # fmt: skip

    if name not in _DTYPE:

        def part(dtype: str, of_part: tuple[float, ...], plane: int) -> NDArray[Any]:
            values = new_array(piece, dtype)
            write(values, dtype, of_part, plane)
            return values

        return _of_parts(law, checked, name, out, part)
    if out is None:
        out = new_array(piece, name)
        memory = raw_view(out)
    else:
        memory = check_out(out, piece, name)
    write(memory, name, checked, 0)
    return out
