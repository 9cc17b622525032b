"""The tensors of a plan into memory: any box of any parameter, all in one launch of the threads."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.arithmetic import ieee
from .._common.dtypes import memory_dtype
from .._common.threads import get_num_threads, num_threads
from .._stream import draw
from .._stream.indexing import region_of
from .._stream.keys import Key
from .._stream.laws import Law, check_law
from ..initializers import Constant, Initializer, Ones, Zeros
from .parts import Box
from .plan import Piece, Planned

__all__ = ["Target", "check", "fill", "is_constant", "whole_box"]

_STAGED = 1 << 18  # numbers that a thread draws at once where memory has another order than the tensor: they stay in its cache
_ALIGNED = 64  # bytes
_ANY_KEY = Key(0)  # for what no random number goes into
_ROWS = 32  # of a tensor that memory holds transposed: so many of its rows are whole cache lines there


@dataclass(frozen=True)
class Target:
    """Memory for a parameter, or for a box of it.

    Attributes
    ----------
    planned : Planned
    memory : ndarray
        Writable, of the box's shape and any strides; of bfloat16 and float8 the bits as unsigned integers.
    dtype : str
        Of the numbers, such as "bfloat16".
    box : tuple of (int, int)
        For each axis of the parameter the half-open interval that the memory holds.

    Raises
    ------
    ValueError
        If the memory is not what is said here, in this machine's order of bytes, or the box is not in the parameter.
    """

    planned: Planned
    memory: NDArray[Any]
    dtype: str
    box: Box

    def __post_init__(self) -> None:
        name, whole = self.planned.parameter.name, self.planned.parameter.shape
        if len(self.box) != len(whole) or not all(0 <= low <= high <= n for (low, high), n in zip(self.box, whole, strict=True)):
            raise ValueError(f"{name}: expected a box of shape {whole}, got {self.box}")
        if self.memory.shape != (shape := tuple(high - low for low, high in self.box)):
            raise ValueError(f"{name}: expected memory of shape {shape}, got {self.memory.shape}")
        if self.memory.dtype != (kind := memory_dtype(self.dtype)):  # which is native, so that swapped bytes are refused
            raise ValueError(f"{name}: expected memory of {kind} for {self.dtype}, got {self.memory.dtype.str}")
        if not self.memory.flags.writeable:
            raise ValueError(f"{name}: expected writable memory, got an array that is read-only")


def whole_box(shape: tuple[int, ...]) -> Box:
    """The box that is all of a parameter."""
    return tuple((0, n) for n in shape)


@dataclass(frozen=True)
class _Fill:
    """A box of a piece, and its memory in the piece's order of axes."""

    piece: Piece
    view: NDArray[Any]
    inside: Box
    dtype: str
    key: Key

    @property
    def index(self) -> tuple[slice, ...]:
        return tuple(slice(low, high) for low, high in self.inside)


@ieee
def fill(targets: Iterable[Target], key: Key) -> None:
    """Fill memory with the values of a plan. Each number is a function of its tensor's key and of its place in the tensor.

    Parameters
    ----------
    targets : iterable of Target
        No two may share memory.
    key : Key
        Of the model; that of a tensor is ``key / name``, also where an initializer has a seed.

    Raises
    ------
    ValueError
        If a number is outside the range of a dtype, or an initializer has no tensor of a dtype. The message names the tensor.
        Nothing has been written then, unless it is an element of an initializer without a law, such as an orthogonal matrix: its
        size is known once it is drawn, and those that come before it are written by then.
    """
    direct: list[draw.Job] = []
    staged: list[tuple[_Fill, Law]] = []
    drawn_first: list[_Fill] = []  # which may still turn out not to fit
    others: list[_Fill] = []
    for one in _fills(targets, key):
        law = one.piece.initializer.law(one.piece.part.shape)
        if law is None or one.dtype not in _core.DTYPES:
            check(one.piece, one.dtype)
            (drawn_first if law is None and not is_constant(one.piece.initializer) else others).append(one)
            continue
        first = _first_of_run(one.piece.part.shape, one.inside)
        try:
            if first is not None and one.view.flags.carray:
                direct.append(draw.job(one.view.reshape(-1), *law, one.key, one.dtype, first=first))
            else:
                draw.job(np.empty(0, one.view.dtype), *law, one.key, one.dtype)  # refuses what cannot be drawn
                staged.append((one, law))
        except ValueError as error:
            raise ValueError(f"{one.piece.part.name}: {error}") from None
    for one in drawn_first + others:
        _write(one)
    draw.fill_all(direct)
    _fill_staged(staged)


def _fills(targets: Iterable[Target], key: Key) -> Iterable[_Fill]:
    for target in targets:
        for piece in target.planned.pieces:
            for view, inside in piece.part.views(target.memory, target.box):
                yield _Fill(piece, view, inside, target.dtype, key / piece.part.name)


def _first_of_run(shape: tuple[int, ...], inside: Box) -> int | None:
    """The number of the first element of a box whose elements follow one another in the tensor; None of other boxes."""
    first, several = 0, False
    for n, (low, high) in zip(shape, inside, strict=True):
        if several and (low, high) != (0, n):
            return None
        several |= high - low > 1
        first = first * n + low
    return first


def is_constant(initializer: Initializer) -> bool:
    return isinstance(initializer, (Zeros, Ones)) or (isinstance(initializer, Constant) and np.ndim(initializer.value) == 0)


def check(piece: Piece, dtype: str) -> None:
    """Refuse a piece that has no numbers in a dtype, as far as that is known before it is drawn.

    Raises
    ------
    ValueError
        The message names the piece.
    ImportError
        If the dtype needs a package that is not installed.
    """
    initializer = piece.initializer
    law = initializer.law(piece.part.shape)
    try:
        if law is not None:
            draw.draw(*law, (0,), _ANY_KEY, dtype, np.empty(0, memory_dtype(dtype)))
        elif is_constant(initializer):
            _constant(initializer, dtype)
        else:
            initializer._dtype(dtype)
    except ValueError as error:
        raise ValueError(f"{piece.part.name}: {error}") from None


def _constant(initializer: Initializer, dtype: str) -> NDArray[Any]:
    """The number that all elements of a tensor are."""
    number = np.empty((), memory_dtype(dtype))
    initializer((), dtype, key=_ANY_KEY, out=number)
    return number


def _write(one: _Fill) -> None:
    """Of an initializer without a law of independent elements, or of a dtype that no kernel writes."""
    initializer, shape = one.piece.initializer, one.piece.part.shape
    if is_constant(initializer):
        one.view[...] = _constant(initializer, one.dtype)
        return
    values = np.empty(one.view.shape, one.view.dtype)
    try:
        initializer.shard(shape, one.index, key=one.key, dtype=one.dtype, out=values)
    except ValueError as error:
        raise ValueError(f"{one.piece.part.name}: {error}") from None
    one.view[...] = values


# Rows of a tensor, one after the other, and where they lie.
_Block = tuple[_Fill, Law, Box, NDArray[Any]]


def _fill_staged(staged: Sequence[tuple[_Fill, Law]]) -> None:
    """Draw blocks of rows in the order of the tensors, and copy each to where it lies. Each thread draws what it copies."""
    batches = _batches(staged)
    sizes = [sum(_padded(view.nbytes) for *_, view in batch) for batch in batches]
    threads = min(get_num_threads(), len(batches))
    own = threading.local()

    @ieee
    def draw_and_copy(batch: list[_Block]) -> None:
        if not hasattr(own, "stage"):
            own.stage = np.empty(max(sizes), np.uint8)
        with num_threads(1):
            _draw_and_copy(batch, own.stage)

    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(draw_and_copy, batches):
                pass
    else:
        for batch in batches:
            draw_and_copy(batch)


def _batches(staged: Sequence[tuple[_Fill, Law]]) -> list[list[_Block]]:
    """All blocks, as many together as stay in the cache."""
    batches: list[list[_Block]] = []
    room = 0
    for one, law in staged:
        inner = math.prod(high - low for low, high in one.inside[1:])
        begin, end = one.inside[0] if one.inside else (0, 1)
        turned = bool(one.inside) and abs(one.view.strides[0]) < abs(one.view.strides[-1])
        rows = max(1, min(_STAGED // max(inner, 1), _ROWS if turned else end - begin))
        for row in range(begin, end, rows):
            box = ((row, min(row + rows, end)), *one.inside[1:]) if one.inside else ()
            view = one.view[row - begin : row - begin + rows] if one.inside else one.view
            if view.size > room:
                batches.append([])
                room = _STAGED
            batches[-1].append((one, law, box, view))
            room -= view.size
    return batches


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _draw_and_copy(batch: list[_Block], stage: NDArray[np.uint8]) -> None:
    jobs: list[draw.Job] = []
    drawn: list[NDArray[Any]] = []
    used = 0
    for one, law, box, view in batch:
        shape = one.piece.part.shape
        block = stage[used : used + view.nbytes].view(view.dtype)
        used += _padded(view.nbytes)
        first = _first_of_run(shape, box)
        if first is None:  # each row is a run of its own
            region = region_of(shape, tuple(slice(low, high) for low, high in box))
            draw.fill(block, law.name, check_law(*law, one.dtype), one.key, one.dtype, region=region)
        else:
            jobs.append(draw.job(block, *law, one.key, one.dtype, first=first))
        drawn.append(block)
    draw.fill_all(jobs)
    for block, (*_, view) in zip(drawn, batch, strict=True):
        view[...] = block.reshape(view.shape)
