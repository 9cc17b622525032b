"""From a law and a key to memory: the one place that calls the kernels which draw.

Element e of a tensor is a pure function of (seed, stream, e, law, dtype), see docs/stream.md: never of the shape, the memory,
the CPU or the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.dtypes import (
    LARGEST_FLOAT8,
    PART,
    check_out,
    check_shape,
    new_array,
    numpy_dtype,
    raw_view,
    resolve,
    store,
)  # fmt: skip
from .._common.pieces import AT_ONCE, in_pieces
from .._common.threads import get_num_threads
from .indexing import Region, region_of
from .keys import Key, check_key
from .laws import check_law

__all__ = ["Job", "draw", "fill", "fill_all", "fill_complex", "job", "words"]

_LAW = {name: code for code, name in enumerate(_core.LAWS)}
_DTYPE = {name: code for code, name in enumerate(_core.DTYPES)}  # those that kernels write
_PLANES_OF_PARTS = (_core.PLANE_REAL, _core.PLANE_IMAGINARY)
_ROOT_HALF = 0.7071067811865476
_EMPTY = np.empty(0)


def fill(
    memory: Any,
    law: str,
    parameters: tuple[float, ...],
    key: Key,
    dtype: str,
    *,
    plane: int = _core.PLANE_REAL,
    region: Region | None = None,
) -> None:
    """Write a tensor, or a region of one, to memory that has been checked (see `check_out`).

    Parameters
    ----------
    memory : writable C-contiguous buffer
        Of as many elements as are written.
    law, parameters : str, tuple of float
        As `check_law` returns the parameters for `dtype`; or ``"words"`` and (), see `words`.
    key : Key
    dtype : str
        One of ``_core.DTYPES``.
    plane : int
        The first of the two planes of random bits that a value takes.
    region : Region, optional
        Which elements of the tensor; by default 0, 1, 2, ...
    """
    if region is None:
        _core.fill(memory, _LAW[law], _DTYPE[dtype], parameters, key.seed, key.stream, 0, get_num_threads(), plane)
    elif 0 not in region.counts:
        _core.fill_block(
            memory, _LAW[law], _DTYPE[dtype], parameters, key.seed, key.stream, region.first, region.counts, region.strides,
            get_num_threads(), plane,
        )  # fmt: skip


def words(shape: tuple[int, ...], key: Key, plane: int) -> NDArray[np.uint32]:
    """The random words of a plane, 32 bits for each element of a tensor of `shape`."""
    out = np.empty(shape, np.uint32)
    fill(out, "words", (), key, "float32", plane=plane)  # a float32 has as many bits
    return out


def fill_complex(
    memory: Any,
    law: str,
    parameters: Iterable[tuple[float, ...]],
    key: Key,
    part: str,
    *,
    region: Region | None = None,
) -> None:
    """Write a complex tensor, or a region of one: independent parts, which have planes of their own.

    Parameters
    ----------
    memory : writable C-contiguous buffer
        Of the complex numbers, real and imaginary parts in turn.
    law : str
        Of either part.
    parameters : pair of tuples of float
        Those of the real, and of the imaginary parts.
    key : Key
    part : str
        The dtype of a part.
    region : Region, optional
        As of `fill`.
    """
    pairs = np.frombuffer(memory, numpy_dtype(part)).reshape(-1, 2)
    values = new_array((len(pairs),), part)
    for i, (plane, of_part) in enumerate(zip(_PLANES_OF_PARTS, parameters, strict=True)):
        fill(values, law, of_part, key, part, plane=plane, region=region)
        for start in range(0, len(pairs), AT_ONCE):
            pairs[start : start + AT_ONCE, i] = values[start : start + AT_ONCE]


def _halved(law: str, parameters: tuple[float, ...], *, centred: bool) -> tuple[float, ...]:
    """The parameters of a part that has half the variance of the law, about the law's centre or about 0."""
    if law == "uniform":
        low, high = parameters
        middle, reach = (low / 2 + high / 2), (high / 2 - low / 2) * _ROOT_HALF
        middle = 0.0 if centred else middle
        return middle - reach, middle + reach
    mean, std, *bounds = parameters
    return (0.0 if centred else mean, std * _ROOT_HALF, *bounds)


def _clip_to_float8(values: NDArray[Any], law: str, parameters: tuple[float, ...], dtype: str) -> None:
    """Clip float32 values to the outermost numbers of a float8 dtype that lie inside the bounds of a law."""
    numbers = np.arange(256, dtype=np.uint8).view(numpy_dtype(dtype)).astype(np.float64)
    if law == "uniform":
        inside = numbers[(numbers >= parameters[0]) & (numbers < parameters[1])]
    else:
        low, high = (parameters[0] + parameters[1] * bound for bound in parameters[2:])
        inside = numbers[(numbers >= low) & (numbers <= high)]
    if not inside.size:
        raise ValueError(f"dtype: expected one with numbers between the bounds of {law}{parameters}, got {dtype}")
    for (piece,) in in_pieces(values):
        np.clip(piece, inside.min(), inside.max(), out=piece)


def draw(
    law: str, parameters: Iterable[Any], shape: Any, key: Any, dtype: Any, out: Any = None, index: Any = ...
) -> Any:
    """The tensor of a law, or its piece at `index` without making the rest. Every argument is checked first.

    Parameters
    ----------
    law, parameters : str, iterable of float
        See `Law`.
    shape : int or tuple of int
        Of the whole tensor.
    key : Key
    dtype : str or dtype
        Of a complex one, whose numbers have the variance E|z - E z|^2 of the law, either part has half of it: the real part
        about the law's centre, the imaginary part about 0. Of a float8 one the values are the roundings of float32 ones.
    out : writable C-contiguous buffer, optional
        Of the shape and dtype of what is drawn.
    index : int, slice, Ellipsis or a tuple of them
        The whole by default.

    Returns
    -------
    ndarray, or `out`
    """
    name = resolve(dtype)
    sizes = check_shape(shape)
    checked = check_law(law, parameters, name)
    check_key(key)
    region = None
    if index is not ...:
        region = region_of(sizes, index)
        sizes = region.shape
    if name in LARGEST_FLOAT8:
        values = new_array(sizes, "float32")
        fill(values, law, checked, key, "float32", region=region)
        if law != "normal":
            _clip_to_float8(values, law, checked, name)
        return store(values, name, out)
    if out is None:
        out = new_array(sizes, name)
        memory = raw_view(out)
    else:
        memory = check_out(out, sizes, name)
    if name in _DTYPE:
        fill(memory, law, checked, key, name, region=region)
    else:
        halves = [_halved(law, checked, centred=centred) for centred in (False, True)]
        fill_complex(memory, law, halves, key, PART[name], region=region)
    return out


# (memory, law, dtype, parameters, seed, stream, first), as the binding takes them.
Job = tuple[Any, int, int, tuple[float, ...], int, int, int]


def job(memory: Any, law: str, parameters: Iterable[Any], key: Key, dtype: str, *, first: int = 0) -> Job:
    """A fill for `fill_all` from element `first` on, which is refused here if it cannot be done.

    `memory` has been checked (see `check_out`).
    """
    checked = check_law(law, parameters, dtype)
    if law != "normal":  # the bounds of the others may have no number of the dtype between them
        fill(_EMPTY, law, checked, key, dtype)
    return memory, _LAW[law], _DTYPE[dtype], checked, key.seed, key.stream, first


def fill_all(jobs: list[Job]) -> None:
    """All fills in one launch of the threads."""
    _core.fill_many(jobs, get_num_threads())
