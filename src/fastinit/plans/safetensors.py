"""The safetensors format: u64 length of the header, the header as JSON, and the tensors' bytes without a gap.

Files are read by memory maps, and a header is written before the tensors: all shapes are known then.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import memory_dtype

__all__ = ["INDEX", "SINGLE", "Entry", "Tensors", "entries_of", "header", "open_tensors", "size_of"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_LONGEST = 100_000_000  # bytes of a header that readers accept
_CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip
_NAMES = {code: name for name, code in _CODES.items()}


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: its name, dtype and shape, and the half-open interval of its bytes behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


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
    # Transformers refuses files without a format.
    document: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    entries, place = [], 0
    for name, dtype, shape in tensors:
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
            document = json.loads(file.read(length))
            found = [_entry(name, one) for name, one in document.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: expected the header of a safetensors file, got {type(error).__name__}: {error}") from None
    found.sort(key=lambda entry: (entry.begin, entry.end))
    place = 0
    for entry in found:
        if entry.begin != place or entry.end - entry.begin != size_of(entry.dtype, entry.shape):
            raise ValueError(f"{path}: expected bytes {place} and on for {entry.name} of shape {entry.shape}, got {entry.begin}")
        place = entry.end
    if 8 + length + place != size:
        raise ValueError(f"{path}: expected {8 + length + place} bytes, got {size}")
    return 8 + length, found


def _entry(name: str, one: Mapping[str, Any]) -> Entry:
    begin, end = one["data_offsets"]
    if one["dtype"] not in _NAMES:
        raise ValueError(f"dtype of {name}: expected one of {', '.join(_NAMES)}, got {one['dtype']}")
    return Entry(name, _NAMES[one["dtype"]], tuple(one["shape"]), begin, end)


class Tensors(Mapping[str, NDArray[Any]]):
    """The tensors of a file, or of a directory of files, as arrays that are read when they are touched.

    bfloat16 and float8 are the unsigned integers of their bits; `dtypes` says what they are.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.dtypes: dict[str, str] = {}
        self._places: dict[str, tuple[Path, int, Entry]] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        for path in files:
            begin, entries = entries_of(path)
            for entry in entries:
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
        If a file is no safetensors file, or a tensor is in two.
    """
    place = Path(path)
    if not place.is_dir():
        return Tensors([place])
    if (place / INDEX).exists():
        try:
            names = sorted(set(json.loads((place / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{place / INDEX}: expected an index with a weight_map, got {error}") from None
        return Tensors([place / name for name in names])
    files = sorted(place.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{place}: expected *.safetensors in it, found none")
    return Tensors(files)
