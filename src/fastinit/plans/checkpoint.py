"""Checkpoints of models that were never in memory: safetensors files, made in pieces, which a killed writer goes on with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.checks import shown
from .._common.dtypes import memory_dtype
from .._stream.keys import Key, check_key
from .fill import Target, check, fill, is_constant
from .parameters import dtype_name
from .parts import Box
from .plan import Plan, Planned
from .receipt import Receipt
from .safetensors import INDEX, SINGLE, UNFINISHED, Entry, entries_of, header, size_of

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["bytes_of", "write"]

_BUFFER = 1 << 25  # bytes that are drawn at once; there are two buffers, one of which is on its way to the disk
_UNITS = {"": 1} | {unit + end: base**i for i, unit in enumerate("KMGT", 1) for end, base in (("B", 1000), ("IB", 1024))}

Progress = Callable[[int, int], None]


def bytes_of(size: Any) -> int:
    """A number of bytes: an int, or a text such as "5GB" (10^9 bytes each) or "5GiB" (2^30).

    Raises
    ------
    TypeError, ValueError
        If it is neither, or less than 1.
    """
    if isinstance(size, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?B|)\s*", size.upper())
        if found is None:
            raise ValueError(f"max_shard_size: expected a number of bytes such as '5GB' or '500MiB', got {shown(size)}")
        size = int(Fraction(found[1]) * _UNITS[found[2]])
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
        raise TypeError(f"max_shard_size: expected an int or a text such as '5GB', got {type(size).__name__}")
    if size < 1:
        raise ValueError(f"max_shard_size: expected at least 1 byte, got {size}")
    return int(size)


def write(
    model: Any,
    plan: Plan,
    *,
    key: Key,
    path: Any,
    dtype: Any = None,
    max_shard_size: Any = None,
    receipt: Any = None,
    progress: Progress | None = None,
) -> Receipt:
    """Write a model's start as safetensors files that PyTorch's and Transformers' loaders read, without holding it in memory.

    Two buffers of 32 MiB are held, and of tensors whose elements are not independent, such as orthogonal matrices, one whole
    tensor. A file has its name only once it is complete, and the index comes last. If the writer is killed, or the disk was full,
    the same call goes on: of the file that was being written, bytes that are there are compared with those that belong there, and
    only what is missing is written; one that has its name is taken as it is, if its header and size are right.

    Parameters
    ----------
    model
        What `Plan.resolve` takes: a torch.nn.Module, also on the meta device, or names with shapes.
    plan : Plan
    key : Key
        Of the model: tensors have the values that `fastinit.torch.init_` gives them.
    path : str or path
        A directory, which is made; it may exist if it is empty, or has an unfinished write of the same model, plan, key and
        files.
    dtype : str or dtype, optional
        Of all tensors; by default each has the parameter's own.
    max_shard_size : int or str, optional
        The most bytes of tensors in a file, such as "5GB"; a larger tensor has a file of its own. By default there is one
        file, ``model.safetensors``; of several there is an index.
    receipt : str or path, optional
        Where the receipt is saved, too, before the write counts as complete.
    progress : callable, optional
        ``progress(done, total)`` is called with bytes.

    Returns
    -------
    Receipt

    Raises
    ------
    TypeError, ValueError
        As in `Plan.resolve`, if an argument does not fit, and as in a fill if a number is outside the range of a dtype. Nothing
        has been written then, unless it is an element of an initializer without a law, which is known once it is drawn.
    FileExistsError
        If the directory has something else in it, or another writer is writing to it.
    OSError
        If the disk is too small or cannot be written to.
    """
    planned = plan.resolve(model)
    check_key(key)
    for what, value in (("path", path), ("receipt", receipt)):
        if not isinstance(value, (str, os.PathLike)) and (value is not None or what == "path"):
            raise TypeError(f"{what}: expected a str or a path, got {type(value).__name__} {shown(value)}")
    wanted = None if dtype is None else dtype_name(dtype)
    most = None if max_shard_size is None else bytes_of(max_shard_size)
    if wanted is not None:
        planned = tuple(replace(one, parameter=replace(one.parameter, dtype=wanted)) for one in planned)
    files = _files(planned, most)
    for one in planned:
        for piece in one.pieces:
            check(piece, one.parameter.dtype)
    found = Receipt.of(planned, key, plan=plan)
    place = Path(path)
    with _claimed(place, _digest(files, key), sum(len(file.header) + file.size for file in files)):
        with _Pen(key, sum(file.size for file in files), progress) as pen:
            for file in files:
                pen.write(place / file.name, file)
        if len(files) > 1:
            _put(place / INDEX, _index(files))
        if receipt is not None:
            found.save(receipt)
    return found


# ---- what goes where --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    name: str
    header: bytes
    entries: tuple[Entry, ...]
    tensors: tuple[Planned, ...]

    @property
    def size(self) -> int:
        """Bytes behind the header."""
        return self.entries[-1].end if self.entries else 0


def _files(tensors: Sequence[Planned], most: int | None) -> list[_File]:
    groups: list[list[Planned]] = [[]]
    used = 0
    for tensor in tensors:
        size = size_of(tensor.parameter.dtype, tensor.parameter.shape)
        if groups[-1] and most is not None and used + size > most:
            groups.append([])
            used = 0
        groups[-1].append(tensor)
        used += size
    n = len(groups)
    names = [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)] if n > 1 else [SINGLE]
    return [_File(name, *_header(group), tuple(group)) for name, group in zip(names, groups, strict=True)]


def _header(tensors: Sequence[Planned]) -> tuple[bytes, tuple[Entry, ...]]:
    parameters = [tensor.parameter for tensor in tensors]
    first, entries = header([(one.name, one.dtype, one.shape) for one in parameters])
    return first, tuple(entries)


def _index(files: Sequence[_File]) -> bytes:
    entries = [(entry, file.name) for file in files for entry in file.entries]
    document = {
        "metadata": {
            "total_parameters": sum(math.prod(entry.shape) for entry, _ in entries),
            "total_size": sum(file.size for file in files),
        },
        "weight_map": {entry.name: name for entry, name in entries},
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _digest(files: Sequence[_File], key: Key) -> str:
    """Of all that the bytes of the checkpoint depend on."""
    digest = hashlib.blake2b(repr((_core.STREAM_VERSION, key)).encode(), digest_size=16)
    for file in files:
        digest.update(file.name.encode() + file.header)
        for tensor in file.tensors:
            digest.update(repr([(piece.part, piece.initializer) for piece in tensor.pieces]).encode())
    return digest.hexdigest()


# ---- the directory ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _claimed(place: Path, digest: str, size: int) -> Iterator[None]:
    """A directory for one writer at a time, marked as unfinished until all of its files are there."""
    if place.exists() and not place.is_dir():
        raise FileExistsError(f"path: expected a directory, got the file {place}")
    there = sorted(os.listdir(place)) if place.exists() else []
    if there and UNFINISHED not in there:
        raise FileExistsError(f"path: expected an empty directory, got {place} with {', '.join(there[:5])}")
    written = 0
    for name in there:
        with contextlib.suppress(FileNotFoundError):  # another writer may be renaming it
            written += os.lstat(place / name).st_size
    parent = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(parent).free
    if size - written > free:
        raise OSError(f"path: expected {size - written:,} bytes of free disk at {parent}, got {free:,}")
    place.mkdir(parents=True, exist_ok=True)
    with open(place / UNFINISHED, "a+b") as mark:
        _lock(mark, place)
        mark.seek(0)
        before = mark.read()
        # The mark is on the disk before any other file is made. Alone it is that of a writer that had not yet begun.
        if not _is_at(mark, place / UNFINISHED):
            raise FileExistsError(f"path: expected one writer, got another one that has just written to {place}")
        if before != digest.encode():
            others = [name for name in sorted(os.listdir(place)) if name != UNFINISHED]
            if others and not before:  # the other writer has just finished
                (place / UNFINISHED).unlink(missing_ok=True)
                raise FileExistsError(f"path: expected an empty directory, got {place} with {', '.join(others[:5])}")
            if others:
                raise FileExistsError(
                    f"path: expected an unfinished write of the same model, plan, key and files, got another in {place}; "
                    "remove it to begin anew"
                )
            mark.truncate(0)
            mark.write(digest.encode())
            mark.flush()
            os.fsync(mark.fileno())
            _sync_directory(place)
        yield
        if fcntl is not None:  # while the lock is held: another writer would find an unfinished write
            (place / UNFINISHED).unlink(missing_ok=True)
    if fcntl is None:  # Windows removes no open file
        (place / UNFINISHED).unlink(missing_ok=True)
    _sync_directory(place)


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether a file still has its name: another writer may have removed it between its opening and its lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(mark: BinaryIO, place: Path) -> None:
    """Keep other writers out until `mark` is closed, by whatever end of the process."""
    if fcntl is None:
        return
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileExistsError(f"path: expected one writer, got another one that is writing to {place}") from None
    except OSError:  # some network disks have no locks
        return


def _put(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    new = path.with_name(path.name + ".new")
    with open(new, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    with contextlib.suppress(OSError):  # Windows opens no directories
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ---- bytes ------------------------------------------------------------------------------------------


class _Pen:
    """Writes files in pieces: while one buffer is on its way to the disk, the other is filled."""

    def __init__(self, key: Key, total: int, progress: Progress | None) -> None:
        self._key, self._total, self._progress = key, total, progress
        self._done = 0
        self._buffers = [np.empty(_BUFFER, np.uint8) for _ in range(2)]
        self._turn = 0
        self._writing: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> _Pen:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def write(self, path: Path, file: _File) -> None:
        """Write a file, or what is missing of it, and give it its name."""
        if path.exists() and _complete(path, file):
            self._advance(file.size)
            return
        partial = path.with_name(path.name + ".partial")
        with open(partial, "r+b" if partial.exists() else "w+b", buffering=0) as out:
            there = os.path.getsize(partial)
            if there > len(file.header) + file.size:
                out.truncate(0)
                there = 0
            if there < len(file.header) or out.read(len(file.header)) != file.header:
                _write_at(out, 0, file.header)
            for begin, data in self._pieces(file):
                place = len(file.header) + begin
                self._wait()
                if place + len(data) > there or not _equal(out, place, data):
                    self._writing = self._thread.submit(_write_at, out, place, data)
                self._advance(len(data))
            self._wait()
            os.fsync(out.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _advance(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _pieces(self, file: _File) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The bytes behind the header, as many at once as a buffer holds: where they begin, and the buffer."""
        targets: list[Target] = []
        begin, buffer, used = 0, self._next_buffer(), 0
        for tensor, entry in zip(file.tensors, file.entries, strict=True):
            kind = memory_dtype(entry.dtype)
            most = entry.end - entry.begin if _at_once(tensor) else _BUFFER
            for box in _boxes(entry.shape, max(1, most // kind.itemsize)):
                shape = [high - low for low, high in box]
                size = math.prod(shape) * kind.itemsize
                if targets and (used + size > len(buffer) or used % kind.itemsize):
                    fill(targets, self._key)
                    yield begin, buffer[:used]
                    targets, begin, buffer, used = [], begin + used, self._next_buffer(), 0
                if size > len(buffer):
                    buffer = np.empty(size, np.uint8)
                memory = buffer[used : used + size].view(kind).reshape(shape)
                targets.append(Target(tensor, memory, entry.dtype, box))
                used += size
        fill(targets, self._key)
        yield begin, buffer[:used]

    def _next_buffer(self) -> NDArray[np.uint8]:
        self._turn = 1 - self._turn
        return self._buffers[self._turn]


def _at_once(planned: Planned) -> bool:
    """Whether a parameter is made as a whole, since some of its elements depend on others."""
    return not all(is_constant(piece.initializer) or piece.initializer.law(piece.part.shape) for piece in planned.pieces)


def _boxes(shape: tuple[int, ...], most: int) -> Iterator[Box]:
    """Boxes of at most so many elements, in whose order memory holds the tensor."""
    inner = math.prod(shape[1:])
    if math.prod(shape) <= most or not shape:
        yield tuple((0, n) for n in shape)
    elif inner <= most:
        rows = most // max(inner, 1)
        for row in range(0, shape[0], rows):
            yield ((row, min(row + rows, shape[0])), *((0, n) for n in shape[1:]))
    else:
        for i in range(shape[0]):
            for box in _boxes(shape[1:], most):
                yield ((i, i + 1), *box)


def _complete(path: Path, file: _File) -> bool:
    with contextlib.suppress(ValueError):
        return entries_of(path) == (len(file.header), list(file.entries))
    return False


def _write_at(out: Any, place: int, data: Any) -> None:
    view = memoryview(data)
    out.seek(place)
    while view:
        view = view[out.write(view) :]


def _equal(out: Any, place: int, data: NDArray[np.uint8]) -> bool:
    out.seek(place)
    there = np.empty(len(data), np.uint8)
    return bool(out.readinto(there) == len(data) and np.array_equal(there, data))
