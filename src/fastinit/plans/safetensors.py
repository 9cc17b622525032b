"""The safetensors format: u64 length of the header, the header as JSON, and the tensors' bytes without a gap.

Files are read by memory maps, and a header is written before the tensors: all shapes are known then.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import shown
from .._common.dtypes import check_shape, memory_dtype
from .reading import read_json

__all__ = ["INDEX", "SINGLE", "UNFINISHED", "Entry", "Tensors", "entries_of", "header", "open_tensors", "size_of"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
UNFINISHED = ".fastinit-unfinished"  # a file that is beside them until all are written

_LONGEST = 100_000_000  # bytes of a header that readers accept
_CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "complex64": "C64",
}  # fmt: skip
_NAMES = {code: name for name, code in _CODES.items()}
# Bits of the numbers that no plan draws: counters, masks, quantised weights.
_OTHER_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "F8_E8M0": 8, "F6_E2M3": 6,
    "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: its name, dtype and shape, and the half-open interval of its bytes behind the header.

    A dtype that fastinit does not have, such as "I64", is named as the file names it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _check_order_of_bytes() -> None:
    if sys.byteorder != "little":  # files are little-endian, and numbers go there and come from there as memory holds them
        raise NotImplementedError("safetensors: expected a little-endian machine, got a big-endian one")


def size_of(dtype: str, shape: tuple[int, ...]) -> int:
    """The bytes of a tensor.

    Raises
    ------
    ValueError
        If the format has no such dtype.
    """
    if dtype not in _CODES:
        raise ValueError(f"dtype: expected one that safetensors has, {', '.join(_CODES)}, got {dtype}")
    return math.prod(shape) * memory_dtype(dtype).itemsize


def header(tensors: Sequence[tuple[str, str, tuple[int, ...]]]) -> tuple[bytes, list[Entry]]:
    """The beginning of a file with these tensors, names, dtypes and shapes, in this order; and where each lies."""
    _check_order_of_bytes()
    # Transformers refuses files without a format.
    document: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    entries, place = [], 0
    for name, dtype, shape in tensors:
        if name in document:
            raise ValueError(f"file: expected names that differ, and none that is __metadata__, got {name}")
        end = place + size_of(dtype, shape)
        document[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [place, end]}
        entries.append(Entry(name, dtype, shape, place, end))
        place = end
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST:
        raise ValueError(f"file: expected a header of at most {_LONGEST} bytes, got {len(text)}; use more files")
    return struct.pack("<Q", len(text)) + text, entries


def entries_of(path: Path) -> tuple[int, list[Entry]]:
    """Where the tensors of a file begin, and its entries in the order of their bytes.

    Raises
    ------
    ValueError
        If it is no safetensors file, or a cut one.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else _LONGEST + 1
        if length > min(_LONGEST, size - 8):
            raise ValueError(f"{path}: expected a safetensors file, got one whose header does not fit")
        try:
            document = read_json(file.read(length))
            if not isinstance(document, dict):
                raise ValueError(f"a {type(document).__name__}")
            found = [_entry(name, one) for name, one in document.items() if name != "__metadata__"]
        except ValueError as error:
            raise ValueError(f"{path}: expected the header of a safetensors file, got {error}") from None
    found.sort(key=lambda entry: (entry.begin, entry.end))
    place = 0
    for entry in found:
        bits = _OTHER_BITS.get(entry.dtype) or 8 * memory_dtype(entry.dtype).itemsize
        end = place + -(-math.prod(entry.shape) * bits // 8)
        if (entry.begin, entry.end) != (place, end):
            what = f"{entry.name}, {entry.dtype} of shape {entry.shape}"
            raise ValueError(f"{path}: expected bytes {place} to {end} for {what}, got {entry.begin} to {entry.end}")
        place = end
    if 8 + length + place != size:
        raise ValueError(f"{path}: expected {8 + length + place} bytes, got {size}")
    return 8 + length, found


def _entry(name: str, one: Any) -> Entry:
    match one:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise ValueError(f"{shown(one)} for {name}")
    if dtype not in _NAMES and dtype not in _OTHER_BITS:
        raise ValueError(f"dtype {shown(dtype)} for {name}")
    try:
        return Entry(name, _NAMES.get(dtype, dtype), check_shape(shape), begin, end)
    except (TypeError, ValueError):
        raise ValueError(f"shape {shown(shape)} for {name}") from None


class Tensors(Mapping[str, NDArray[Any]]):
    """The tensors of a file, or of a directory of files, as arrays that are read when they are touched.

    bfloat16 and float8 are the unsigned integers of their bits; `dtypes` says what they are. Tensors of dtypes that fastinit does
    not have, such as counters and masks, are left out.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        _check_order_of_bytes()
        self.dtypes: dict[str, str] = {}
        self._places: dict[str, tuple[Path, int, Entry]] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        for path in files:
            begin, entries = entries_of(path)
            for entry in entries:
                if entry.dtype not in _CODES:
                    continue
                if entry.name in self._places:
                    raise ValueError(f"{path}: expected {entry.name} in one file, got it also in {self._places[entry.name][0]}")
                self._places[entry.name] = path, begin + entry.begin, entry
                self.dtypes[entry.name] = entry.dtype

    def __getitem__(self, name: str) -> NDArray[Any]:
        path, begin, entry = self._places[name]
        kind, count = memory_dtype(entry.dtype), math.prod(entry.shape)
        if not count:
            return np.empty(entry.shape, kind)
        if path not in self._maps:
            with open(path, "rb") as file:
                self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(self._maps[path], kind, count, begin).reshape(entry.shape)

    def entry(self, name: str) -> Entry:
        """What a file says of a tensor, without reading it."""
        return self._places[name][2]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def open_tensors(path: Any) -> Tensors:
    """The tensors of a safetensors file, or of all that a directory has: those that its index names, if it has one.

    Raises
    ------
    FileNotFoundError
        If there is nothing, or a file that the index names is missing.
    ValueError
        If a file is no safetensors file, a tensor is in two, or some are not yet written.
    """
    place = Path(path)
    if not place.is_dir():
        return Tensors([place])
    if (place / UNFINISHED).exists():
        raise ValueError(f"{place}: expected all files of a write, got a part of them; the call that began it goes on")
    if (place / INDEX).exists():
        return Tensors([place / name for name in _indexed(place / INDEX)])
    files = sorted(place.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{place}: expected *.safetensors in it, found none")
    return Tensors(files)


def _indexed(path: Path) -> list[str]:
    """The names of the files that an index has."""
    try:
        match read_json(path.read_bytes()):
            case {"weight_map": dict(found)}:
                names = list(dict.fromkeys(found.values()))
            case _:
                raise ValueError("none")
        for name in names:
            if not isinstance(name, str) or Path(name).name != name:
                raise ValueError(f"a file {shown(name)}, which is not in the directory")
    except ValueError as error:
        raise ValueError(f"{path}: expected an index with a weight_map, got {error}") from None
    return sorted(names)
