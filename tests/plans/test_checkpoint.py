"""Checkpoints without the model in memory: its bits, whatever the buffer and the files, and when the writer was killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastinit import Key, plans
from fastinit.initializers import RandomNormal
from fastinit.plans import Parameter, Plan, Rule, Spelling
from fastinit.plans import checkpoint as writer
from fastinit.plans.fill import Target, fill, whole_box
from fastinit.plans.safetensors import INDEX, entries_of, open_tensors

KEY = Key(11)
PLAN = Plan([
    Rule("norm.*", "ones"), Rule("**.bias", "zeros"), Rule("orthogonal", "orthogonal"), Rule("**", RandomNormal(0.0, 0.02)),
], [Spelling("fused", ("q", "k", "v"), layout="io")])  # fmt: skip
MODEL = [
    Parameter("embedding", (300, 17)), Parameter("norm.scale", (5,), "float16"), Parameter("fused", (24, 36), "bfloat16"),
    Parameter("orthogonal", (40, 30)), Parameter("l.bias", (7,), "bfloat16"), Parameter("experts", (3, 33, 41), "float32"),
    Parameter("scalar", (), "float64"), Parameter("empty", (0, 4)), Parameter("last", (50, 5), "float64"),
]  # fmt: skip


def in_memory(dtype: str | None = None) -> dict[str, Any]:
    arrays, targets = {}, []
    for planned in PLAN.resolve(MODEL):
        kind = dtype or planned.parameter.dtype
        array = np.empty(planned.parameter.shape, np.uint16 if kind == "bfloat16" else kind)
        arrays[planned.parameter.name] = array
        targets.append(Target(planned, array, kind, whole_box(array.shape)))
    fill(targets, KEY)
    return arrays


def hash_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in sorted(os.listdir(folder)):
        digest.update(name.encode() + (folder / name).read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("buffer", [64, 1000, 1 << 25])
@pytest.mark.parametrize("most", [None, 3000, "8KB"])
def test_files_hold_the_bits_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer: int, most: Any) -> None:
    monkeypatch.setattr(writer, "_BUFFER", buffer)
    seen: list[tuple[int, int]] = []
    folder = tmp_path / "new" / "er"
    receipt = plans.write(MODEL, PLAN, key=KEY, path=folder, max_shard_size=most, progress=lambda *n: seen.append(n))
    tensors = open_tensors(folder)
    assert list(tensors.dtypes) == [one.name for one in MODEL]
    for name, values in in_memory().items():
        assert tensors[name].dtype == values.dtype
        assert np.array_equal(tensors[name], values), name
    assert seen[-1] == (sum(values.nbytes for values in in_memory().values()),) * 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {record.parameter for record in receipt} == {one.name for one in MODEL}
    files = [name for name in os.listdir(folder) if name != INDEX]
    if most is None:
        assert files == ["model.safetensors"]
    else:
        index = json.loads((folder / INDEX).read_text())
        assert set(index["weight_map"].values()) == set(files)
        assert index["metadata"]["total_size"] == seen[-1][1]
        assert index["metadata"]["total_parameters"] == sum(values.size for values in in_memory().values())
        for name in files:
            _, entries = entries_of(folder / name)
            assert entries[-1].end <= writer.bytes_of(most) or len(entries) == 1


def test_all_tensors_in_one_dtype(tmp_path: Path) -> None:
    plans.write(MODEL, PLAN, key=KEY, path=tmp_path, dtype="bfloat16")
    tensors = open_tensors(tmp_path)
    assert set(tensors.dtypes.values()) == {"bfloat16"}
    for name, values in in_memory("bfloat16").items():
        assert np.array_equal(tensors[name], values), name


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"max_shard_size": "5 parsecs"}, ValueError, "max_shard_size: expected a number of bytes such as '5GB'"),
        ({"max_shard_size": 0}, ValueError, "max_shard_size: expected at least 1"),
        ({"max_shard_size": 1.5}, TypeError, "max_shard_size: expected an int or a text"),
        ({"dtype": "float8_e3m4"}, ValueError, "dtype: expected one that safetensors has"),
        ({"dtype": "int8"}, ValueError, "dtype: expected one of"),
        ({"key": 3}, TypeError, "key: expected a fastinit.Key"),
        ({"plan": Plan([Rule("nothing", "zeros")])}, ValueError, "plan: expected a rule for every parameter"),
    ],
)
def test_nothing_is_written_on_a_wrong_argument(tmp_path: Path, change: dict[str, Any], error: Any, message: str) -> None:
    options = {"plan": PLAN, "key": KEY, "path": tmp_path / "out"} | change
    with pytest.raises(error, match=message):
        plans.write(MODEL, **options)
    assert not (tmp_path / "out").exists()


def test_a_directory_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"expected an empty directory, got .* with thesis\.txt"):
        plans.write(MODEL, PLAN, key=KEY, path=tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]
    with pytest.raises(FileExistsError, match="expected a directory, got the file"):
        plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "thesis.txt")


def test_a_disk_that_is_too_small_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda place: writer.shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(OSError, match="bytes of free disk"):
        plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Killed(BaseException):
    pass


def test_a_killed_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every write to the disk the writer is stopped once, with some bytes of the next one already there, or wrong ones."""
    monkeypatch.setattr(writer, "_BUFFER", 4096)
    plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "whole", max_shard_size=20000)
    expected, real = hash_of(tmp_path / "whole"), writer._write_at
    folder = tmp_path / "parts"
    for stop in range(100):
        calls = iter(range(stop % 4 + 1))

        def write_at(out: Any, place: int, data: Any, calls: Any = calls, stop: int = stop) -> None:
            if next(calls, None) is None:
                real(out, place, memoryview(data)[: len(data) // 3] if stop % 2 else b"\7" * (len(data) // 2))
                raise Killed
            real(out, place, data)

        monkeypatch.setattr(writer, "_write_at", write_at)
        try:
            plans.write(MODEL, PLAN, key=KEY, path=folder, max_shard_size=20000)
        except Killed:
            assert INDEX not in os.listdir(folder)
            for name in os.listdir(folder):
                if name.endswith(".safetensors"):
                    entries_of(folder / name)  # complete
            with pytest.raises(FileExistsError, match="an unfinished write of the same model"):
                plans.write(MODEL, PLAN, key=Key(12), path=folder, max_shard_size=20000)
            continue
        break
    assert stop > 3
    assert hash_of(folder) == expected


CHILD = """
import sys
from fastinit import Key, plans
from fastinit.initializers import RandomNormal
plan = plans.Plan([plans.Rule("**", RandomNormal(0.0, 0.02))])
shapes = {f"layers.{i}.weight": (1024, 1024) for i in range(24)}
plans.write(shapes, plan, key=Key(1), path=sys.argv[1], dtype="bfloat16", max_shard_size="20MB")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a process cannot be killed here")
def test_a_process_killed_at_any_moment_is_resumed(tmp_path: Path) -> None:
    def run(folder: str, seconds: float | None) -> bool:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / folder)])
        if seconds is not None:
            begin = time.monotonic()
            while not (tmp_path / folder).exists() and child.poll() is None:
                time.sleep(0.001)
            while time.monotonic() < begin + seconds and child.poll() is None:
                time.sleep(0.001)
            child.kill()
        return child.wait() == 0

    assert run("whole", None)
    moments = np.random.default_rng(5).uniform(0.0, 0.4, 10)
    for moment in moments:
        run("parts", float(moment) if not (tmp_path / "parts" / INDEX).exists() else 0.0)
        if (tmp_path / "parts" / INDEX).exists() and writer._MARK not in os.listdir(tmp_path / "parts"):
            break
    else:
        assert run("parts", None)
    assert hash_of(tmp_path / "parts") == hash_of(tmp_path / "whole")
