"""Receipts: what each tensor was filled with, kept in a file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastinit import Key
from fastinit.initializers import Constant, FanRule, HeNormal, LogUniform, Orthogonal, RandomNormal, TruncatedNormal
from fastinit.plans import Plan, Receipt, Rule, Spelling
from fastinit.plans.fill import Target, fill, whole_box
from fastinit.plans.receipt import elements_hash, places

KEY = Key(11)
PLAN = Plan(
    [
        Rule("**.bias", "zeros"),
        Rule("**.norm.weight", "ones"),
        Rule("**.qkv.weight", RandomNormal(0.0, 0.02), slices=("q", "k", "v")),
        Rule("**.experts", HeNormal(), batch_axes=0),
        Rule("**.orthogonal.weight", Orthogonal()),
        Rule("**.step", LogUniform(0.001, 0.1)),
        Rule("**.table", Constant([1.0, 2.0])),
        Rule("**.weight", TruncatedNormal(std=0.1)),
    ],
    [Spelling("**.conv1d", "conv1d.weight", layout="io")],
    source="a test",
)
SHAPES = {
    "a.0.weight": (64, 48), "a.0.bias": (64,), "a.norm.weight": (64,), "a.qkv.weight": (96, 32), "a.experts": (3, 40, 24),
    "a.orthogonal.weight": (20, 16), "a.step": (300,), "a.table": (4, 2), "a.conv1d": (24, 36), "a.empty.weight": (0, 3),
}  # fmt: skip


def receipt(dtype: str = "float32", **options: Any) -> Receipt:
    return Receipt.of(PLAN.resolve({name: {"shape": shape, "dtype": dtype} for name, shape in SHAPES.items()}), KEY, **options)


def test_a_receipt_lists_every_tensor_with_its_key() -> None:
    found = receipt(plan=PLAN)
    assert len(found) == len(SHAPES) + 2 + 2
    by_name = {one.name: one for one in found}
    one = by_name["a.k.weight"]
    assert (one.parameter, one.shape, one.start) == ("a.qkv.weight", (32, 32), (32, 0))
    assert one.key == KEY / "a.k.weight"
    assert one.law == ("normal", (0.0, 0.02))
    assert one.rule == "**.qkv.weight"
    assert by_name["a.2.experts"].fans == (24, 40)
    assert by_name["conv1d.weight"].axes == (1, 0)
    assert by_name["a.orthogonal.weight"].law is None
    assert by_name["a.orthogonal.weight"].made() == Orthogonal(layout="oi")
    assert found.source == "a test"
    assert "a.k.weight" in str(found)
    assert str(found).splitlines()[0].startswith("Receipt of 14 tensors")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn"])
def test_sampled_hashes_are_of_the_tensors_elements(dtype: str) -> None:
    from fastinit._common.dtypes import numpy_dtype, raw_view

    shapes = {name: {"shape": shape, "dtype": dtype} for name, shape in SHAPES.items()}
    found = {one.name: one for one in Receipt.of(PLAN.resolve(shapes), KEY)}
    seen = 0
    for planned in PLAN.resolve(shapes):
        array = np.empty(planned.parameter.shape, numpy_dtype(dtype))
        fill([Target(planned, raw_view(array), dtype, whole_box(array.shape))], KEY)
        for piece in planned.pieces:
            view = piece.part.seen_in(array, whole_box(array.shape))
            if view is None:
                continue
            chosen = places(piece.part.name, view[0].size)
            assert found[piece.part.name].sampled == elements_hash(view[0].reshape(-1)[list(chosen)])
            seen += 1
    assert seen == 13


def test_places_are_of_at_least_half_of_a_tensor() -> None:
    for size in (0, 1, 255, 256, 257, 300, 511, 512, 1000, 4096, 10**6, 2**50):
        for name in ("a", "b", "layers.0.weight"):
            chosen = places(name, size)
            assert len(chosen) == min(size, 256)
            assert size == 0 or 0 <= chosen[0] <= chosen[-1] < size
            assert size <= 256 or 2 * (chosen[-1] - chosen[0]) >= size - 512
    assert places("a", 10**6) != places("b", 10**6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_receipt_is_equal_after_a_round_trip(tmp_path: Path, dtype: str) -> None:
    found = receipt(dtype, plan=PLAN, hashes={"a.0.weight": "0" * 64})
    path = tmp_path / "receipt.jsonl"
    path.write_text("an older one")
    found.save(path)
    again = Receipt.load(path)
    assert again == found
    assert hash(again) == hash(found)
    assert str(again) == str(found)
    assert {one.sha256 for one in again} == {None, "0" * 64}
    assert pickle.loads(pickle.dumps(found)) == found
    assert found != Receipt.of(PLAN.resolve({n: {"shape": s, "dtype": dtype} for n, s in SHAPES.items()}), Key(12))
    assert [file.name for file in tmp_path.iterdir()] == ["receipt.jsonl"]
    lines = path.read_text().splitlines()
    assert len(lines) == len(found) + 1
    assert json.loads(lines[0])["tensors"] == len(found)


def test_a_loaded_receipt_makes_the_same_tensors(tmp_path: Path) -> None:
    path = tmp_path / "receipt.jsonl"
    receipt().save(path)
    for planned, other in zip(PLAN.resolve(SHAPES), Receipt.load(path).planned(), strict=True):
        arrays = [np.empty(planned.parameter.shape, np.float32) for _ in range(2)]
        for one, array in zip((planned, other), arrays, strict=True):
            fill([Target(one, array, "float32", whole_box(array.shape))], KEY)
        np.testing.assert_array_equal(*arrays)


def test_what_cannot_be_written_is_known_by_its_hash(tmp_path: Path) -> None:
    plan = Plan([Rule("f", lambda shape, dtype: np.ones(shape)), Rule("array", Constant(np.arange(40_000.0)))])
    found = Receipt.of(plan.resolve({"f": (3, 2), "array": (40_000,)}), KEY, plan=plan)
    assert [one.made() for one in found] == [None, None]
    assert all(one.sampled for one in found)
    found.save(tmp_path / "receipt")
    assert Receipt.load(tmp_path / "receipt") == found
    assert "function" in str(found)
    assert [planned.pieces for planned in found.planned()] == [(), ()]


def test_explicit_fans_and_infinite_bounds_survive(tmp_path: Path) -> None:
    plan = Plan([
        Rule("a", HeNormal(fans=FanRule(layout="oi", groups=2))),
        Rule("b", TruncatedNormal(std=1.0, lower=0.0, upper=float("inf"))),
    ])
    found = Receipt.of(plan.resolve({"a": (4, 4, 3), "b": (5,)}), KEY)
    found.save(tmp_path / "receipt")
    assert Receipt.load(tmp_path / "receipt") == found


def spoilt(path: Path, line: int, text: str | None = None, **changes: Any) -> None:
    lines = path.read_text().splitlines()
    values = json.loads(lines[line - 1])
    values.update(changes)
    lines[line - 1] = json.dumps({k: v for k, v in values.items() if v != "gone"}) if text is None else text
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "change", "message"),
    [
        (1, {"format": 99}, "line 1: expected a receipt of format 1, got 99"),
        (1, {"seed": "x"}, "line 1: expected seed"),
        (1, {"seed": "gone"}, "line 1: expected seed"),
        (1, {"tensors": 77}, "expected 77 whole lines of tensors, got 14"),
        (1, {"tensors": "14"}, "line 1: expected seed, .*tensors: expected an int"),
        (1, {"source": 3}, "line 1: expected seed, .*source 3"),
        (3, {"text": "{"}, "line 3: expected a line of JSON"),
        (3, {"text": '{"name": 1, "name": 2}'}, "line 3: expected a line of JSON, got 'name' twice"),
        (3, {"text": "[" * 100_000}, "line 3: expected a line of JSON, got .* nested too deeply"),
        (3, {"text": "[1]"}, "line 3: expected a JSON object"),
        (4, {"name": "another"}, "line 4: another: expected seed and stream"),
        (4, {"shape": [-1]}, "line 4: shape: expected sizes >= 0"),
        (4, {"shape": "gone"}, "line 4: no 'shape'"),
        (4, {"more": 1}, "line 4: expected .* got more too"),
        (4, {"law": ["cauchy", 1.0]}, "line 4: law: expected one of normal"),
        (4, {"dtype": "int7"}, "line 4: dtype"),
        (2, {"law": ["normal", 0.0, -1.0]}, "line 2: std: expected a number >= 0"),
    ],
)
def test_a_bad_file_is_an_error_that_names_the_line(tmp_path: Path, line: int, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "receipt"
    receipt().save(path)
    spoilt(path, line, **change)
    with pytest.raises(ValueError, match=message):
        Receipt.load(path)


@pytest.mark.parametrize("kept", [0, 1, 100, -1, -2, -200])
def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "receipt"
    receipt().save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="line"):
        Receipt.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "receipt"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        receipt().save(path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_receipt_never_changes() -> None:
    with pytest.raises(AttributeError):
        receipt().key = Key(0)  # type: ignore[misc]
