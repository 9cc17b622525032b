"""Headers of safetensors that are cut, contradict themselves or were made to do harm; and what is read of sound ones."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinit.plans.safetensors import INDEX, entries_of, header, open_tensors
from fastinit.plans.shapes import read_shapes


def entry(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def saved(path: Path, text: Any, data: int = 8, length: int | None = None) -> Path:
    raw = text if isinstance(text, bytes) else (text if isinstance(text, str) else json.dumps(text)).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(data))
    return path


ONE = json.dumps(entry())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"a": entry([-1, -2])}, r"got shape \[-1, -2\] for a"),
        ({"a": entry([2.0])}, r"got shape \[2.0\] for a"),
        ({"a": entry([True], [0, 4])}, r"got shape \[True\] for a"),
        ({"a": entry("ab")}, "'shape': 'ab'"),
        ({"a": entry([[2]])}, r"got shape \[\[2\]\] for a"),
        ({"a": entry([2**64, 0], [0, 0])}, "got shape .* for a"),
        ({"a": entry(offsets=[None, 8])}, "'data_offsets'"),
        ({"a": entry(offsets=[0.0, 8.0])}, "'data_offsets'"),
        ({"a": entry(offsets=[0])}, "'data_offsets'"),
        ({"a": entry(offsets=[-8, 0])}, "expected bytes 0 to 8 for a, float32 of shape .2,., got -8 to 0"),
        ({"a": entry(offsets=[0, 4])}, "expected bytes 0 to 8 for a"),
        ({"a": entry(), "b": entry(offsets=[4, 12])}, "expected bytes 8 to 16 for b"),
        ({"a": entry(), "b": entry(offsets=[12, 20])}, "expected bytes 8 to 16 for b"),
        ({"a": entry(dtype="F7")}, "got dtype 'F7' for a"),
        ({"a": entry(dtype=["F32"])}, "'dtype'"),
        ({"a": 3}, "got 3 for a"),
        ({"a": {}}, "got {} for a"),
        ([], "got a list"),
        (f'{{"a": {ONE}, "a": {ONE}}}', "got 'a' twice"),
        (b'{"\xff": 1}', "can't decode byte 0xff"),
        (f'{{"a": {ONE}}}'.encode("utf-16"), "can't decode byte"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("{", "got an error in line 1"),
    ],
)
def test_a_header_that_is_none_is_named(tmp_path: Path, text: Any, message: str) -> None:
    path = saved(tmp_path / "x.safetensors", text)
    with pytest.raises(ValueError, match=message):
        entries_of(path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 10**8 + 1, 99_999_999, 11])
def test_a_header_is_not_read_beyond_the_file(tmp_path: Path, length: int) -> None:
    with pytest.raises(ValueError, match="header does not fit"):
        entries_of(saved(tmp_path / "x.safetensors", "{}", length=length))
    (tmp_path / "x.safetensors").write_bytes(b"\0\0\0")
    with pytest.raises(ValueError, match="header does not fit"):
        entries_of(tmp_path / "x.safetensors")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    raw = bytearray(header([("a", "float32", (2, 3)), ("b.c", "bfloat16", (5,))])[0] + bytes(34))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    with contextlib.suppress(ValueError):
        tensors = open_tensors(path)
        assert all(tensors[name].nbytes <= 34 for name in tensors)


def test_tensors_of_dtypes_that_no_plan_draws_are_left_out(tmp_path: Path) -> None:
    document = {
        "bn.weight": entry([2], [0, 8]), "bn.num_batches_tracked": entry([], [8, 16], "I64"),
        "mask": entry([3], [16, 19], "BOOL"), "quantised": entry([3, 2], [19, 22], "F4"), "w": entry([1], [22, 24], "BF16"),
    }  # fmt: skip
    path = saved(tmp_path / "x.safetensors", document, 24)
    assert [one.dtype for one in entries_of(path)[1]] == ["float32", "I64", "BOOL", "F4", "bfloat16"]
    assert list(open_tensors(path)) == ["bn.weight", "w"]
    assert [(one.name, one.shape, one.dtype) for one in read_shapes(path)] == [
        ("bn.weight", (2,), "float32"), ("w", (1,), "bfloat16"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"weight_map": {"a": "../x.safetensors"}}', "a file '../x.safetensors', which is not in the directory"),
        ('{"weight_map": {"a": 3}}', "a file 3"),
        ('{"weight_map": []}', "expected an index with a weight_map"),
        ("[]", "expected an index with a weight_map"),
        ("{", "an error in line 1"),
    ],
)
def test_an_index_that_is_none_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(ValueError, match=message):
        open_tensors(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [2], "a": [3]}', "'a' twice"),
        ('{"a": {"shape": [2], "name": "b"}}', "expected shape, and perhaps dtype, kind and aliases, got shape, name"),
        ('{"a": {}}', "expected shape, .*, got none"),
        ('{"a": {"shape": [2], "aliases": "bc"}}', "aliases: expected a sequence of names, got 'bc'"),
        ('{"a": {"shape": [2], "kind": 3}}', "kind: expected the name"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_shapes_that_are_none_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "shapes.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_shapes(tmp_path / "shapes.json")


@pytest.mark.skipif(sys.platform != "linux", reason="a file with a hole takes no room here for certain")
def test_a_tensor_of_more_than_4_gib_is_read(tmp_path: Path) -> None:
    first, entries = header([("small", "float32", (3,)), ("large", "bfloat16", (70_000, 40_000)), ("last", "float32", (1,))])
    path = tmp_path / "x.safetensors"
    path.write_bytes(first)
    os.truncate(path, len(first) + entries[-1].end)
    with open(path, "r+b") as file:
        file.seek(len(first) + entries[1].end - 2)
        file.write(np.array([7], np.uint16).tobytes() + np.array([1.5], np.float32).tobytes())
    tensors = open_tensors(path)
    assert (tensors["large"][-1, -1], tensors["large"][0, 0], tensors["last"][0]) == (7, 0, 1.5)


@pytest.mark.parametrize("name", ["__metadata__", "a"])
def test_names_that_a_header_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected names that differ, and none that is __metadata__, got {name}"):
        header([("a", "float32", (2,)), (name, "float32", (2,))])


def test_a_big_endian_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.safetensors", {"a": entry()})
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(NotImplementedError, match="expected a little-endian machine"):
        open_tensors(path)
    with pytest.raises(NotImplementedError, match="expected a little-endian machine"):
        header([("a", "float32", (2,))])
