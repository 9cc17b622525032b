"""Checkpoints without the model in memory: its bits, whatever the buffer and the files, and when the writer was killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastinit import Key, plans
from fastinit.initializers import Constant, RandomNormal
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
        ({"path": None}, TypeError, "path: expected a str or a path, got NoneType None"),
        ({"max_shard_size": "0.4"}, ValueError, "max_shard_size: expected at least 1"),
        ({"max_shard_size": True}, TypeError, "max_shard_size: expected an int or a text"),
        ({"plan": Plan([Rule("**", Constant(1e30))]), "dtype": "float16"}, ValueError, "embedding: Constant: expected values"),
        ({"plan": Plan([Rule("**", RandomNormal(0.0, 1e6))]), "dtype": "float16"}, ValueError, "embedding: std: expected a num"),
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


@pytest.mark.parametrize(("text", "size"), [
    ("5GB", 5 * 10**9), ("1.5 KiB", 1536), ("7", 7), (" 2tb ", 2 * 10**12), ("9" * 400, int("9" * 400)), (np.int64(3), 3),
])  # fmt: skip
def test_sizes_of_files(text: Any, size: int) -> None:
    assert writer.bytes_of(text) == size


def test_each_tensor_in_a_file_of_its_own(tmp_path: Path) -> None:
    plans.write(MODEL, PLAN, key=KEY, path=tmp_path, max_shard_size=1)
    tensors = open_tensors(tmp_path)
    assert list(tensors) == [one.name for one in MODEL]
    assert all(np.array_equal(tensors[name], values) for name, values in in_memory().items())


@pytest.mark.skipif(sys.platform == "win32", reason="names of files are less free there")
@pytest.mark.parametrize("name", ["a b", "\u00fc\U0001f600", "a\nb", "%s{}", "-rf", "x.safetensors"])
def test_any_name_of_a_directory_and_of_a_tensor(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    plan = Plan([Rule("**", RandomNormal(0.0, 0.02))])
    plans.write({name: (3, 3), '"\\.\0': (2,)}, plan, key=KEY, path=str(tmp_path / "link" / name), max_shard_size=36)
    assert list(open_tensors(tmp_path / "elsewhere" / name)) == [name, '"\\.\0']


# ---- another writer, another's files ----------------------------------------------------------------


def test_two_writers_do_not_share_a_directory(tmp_path: Path) -> None:
    """While one is writing, another is refused, whatever it wants to write; then all is as if it had not been."""
    plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "alone", max_shard_size=8000)
    refused = []

    def meanwhile(done: int, total: int) -> None:
        for key in (KEY, Key(12)):
            with pytest.raises(FileExistsError, match="expected one writer, got another one that is writing to"):
                plans.write(MODEL, PLAN, key=key, path=tmp_path / "shared", max_shard_size=8000)
            refused.append(done)

    plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "shared", max_shard_size=8000, progress=meanwhile)
    assert refused
    assert hash_of(tmp_path / "shared") == hash_of(tmp_path / "alone")


def test_of_many_writers_at_once_one_writes(tmp_path: Path) -> None:
    plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "alone")

    def attempt(_: int) -> bool:
        try:
            plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "shared")
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(24))) == 1
    assert hash_of(tmp_path / "shared") == hash_of(tmp_path / "alone")


def test_a_receipt_is_there_before_the_write_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: Any, path: Any) -> None:
        raise Killed

    real = plans.Receipt.save
    monkeypatch.setattr(plans.Receipt, "save", stopped)
    with pytest.raises(Killed):
        plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "out", receipt=tmp_path / "out" / "receipt.jsonl")
    monkeypatch.setattr(plans.Receipt, "save", real)
    found = plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "out", receipt=tmp_path / "out" / "receipt.jsonl")
    assert plans.Receipt.load(tmp_path / "out" / "receipt.jsonl") == found
    with pytest.raises(TypeError, match="receipt: expected a str or a path, got int 3"):
        plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "new", receipt=3)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("mark", [b"", b"torn", b"0" * 32])
def test_a_mark_alone_keeps_nobody_out(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / writer.UNFINISHED).write_bytes(mark)
    plans.write(MODEL, PLAN, key=KEY, path=tmp_path)
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_part_of_a_write_is_not_read_as_the_whole(tmp_path: Path) -> None:
    plans.write(MODEL, PLAN, key=KEY, path=tmp_path, max_shard_size=8000)
    (tmp_path / INDEX).unlink()
    (tmp_path / writer.UNFINISHED).touch()
    with pytest.raises(ValueError, match="expected all files of a write, got a part of them"):
        plans.audit(tmp_path)


def test_files_that_were_changed_between_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "whole", max_shard_size=8000)
    real, calls = os.replace, iter(range(2))

    def stopped(source: Any, target: Any) -> None:
        if next(calls, None) is None:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(Killed):
        plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "parts", max_shard_size=8000)
    monkeypatch.undo()
    done = sorted((tmp_path / "parts").glob("*.safetensors"))
    (partial,) = (tmp_path / "parts").glob("*.partial")
    os.truncate(done[0], 100)  # cut
    done[1].write_bytes(done[1].read_bytes().replace(b'"F32"', b'"I32"'))  # another header
    with open(partial, "ab") as file:
        file.write(b"longer than it may be" * 10000)
    plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "parts", max_shard_size=8000)
    assert hash_of(tmp_path / "parts") == hash_of(tmp_path / "whole")


FULL = """
import resource, sys
from fastinit import Key, plans
from fastinit.initializers import RandomNormal
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
plan = plans.Plan([plans.Rule("**", RandomNormal(0.0, 0.02))])
try:
    plans.write({"a": (100, 100), "b": (300, 300)}, plan, key=Key(1), path=sys.argv[1], max_shard_size="50KB")
except OSError as error:
    print("refused", error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
plans.write({"a": (100, 100), "b": (300, 300)}, plan, key=Key(1), path=sys.argv[1], max_shard_size="50KB")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the size of files cannot be limited here")
def test_a_disk_that_gets_full_stops_the_writer_and_it_goes_on_later(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert child.stdout.startswith("refused")
    assert sorted(os.listdir(tmp_path)) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX]
    assert open_tensors(tmp_path)["b"].std() == pytest.approx(0.02, rel=0.02)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        plans.write(MODEL, PLAN, key=KEY, path=tmp_path / "out")
    tmp_path.chmod(0o700)


# ---- killed -----------------------------------------------------------------------------------------


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
        if (tmp_path / "parts" / INDEX).exists() and writer.UNFINISHED not in os.listdir(tmp_path / "parts"):
            break
    else:
        assert run("parts", None)
    assert hash_of(tmp_path / "parts") == hash_of(tmp_path / "whole")
