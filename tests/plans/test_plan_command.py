"""The command ``fastinit plan``: what it prints and writes, and its exit status."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastinit import Key, RandomNormal, plans
from fastinit._command.terminal import progress_bar
from fastinit.cli import main
from fastinit.plans.safetensors import open_tensors

SHAPES = {"0.weight": [32, 16], "0.bias": [32], "head.weight": {"shape": [64, 32], "dtype": "float16"}}
PLAN = plans.Plan([plans.Rule("**.bias", "zeros"), plans.Rule("**", RandomNormal(0.0, 0.02))])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("shapes.json").write_text(json.dumps(SHAPES))
    Path("plan.toml").write_text(PLAN.to_toml())
    Path("plan.json").write_text(PLAN.to_json())
    return tmp_path


@pytest.mark.parametrize("name", ["plan.toml", "plan.json"])
def test_a_table_of_a_plan(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["plan", "table", name, "--shapes", "shapes.json"]) == 0
    out = capsys.readouterr().out
    assert out.strip() == str(PLAN.table(SHAPES | {"0.weight": (32, 16), "0.bias": (32,)}))
    assert "normal(0, 0.02)" in out


def test_a_recipe_as_a_document_that_gives_the_same_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("gpt2.json").write_text(json.dumps({name: list(shape) for name, shape in plans.RECIPES["gpt2"].shapes.items()}))
    assert main(["plan", "table", "gpt2:nanogpt", "--shapes", "gpt2.json"]) == 0
    table = capsys.readouterr().out
    assert main(["plan", "table", "gpt2:nanogpt", "--shapes", "gpt2.json", "--as", "toml"]) == 0
    Path("gpt2.toml").write_text(capsys.readouterr().out)
    assert main(["plan", "table", "gpt2.toml", "--shapes", "gpt2.json"]) == 0
    assert capsys.readouterr().out == table


def test_sources_are_compared_with_the_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "diff", "llama", "transformers", "torchtitan", "maxtext", "--set", "heads=4"]) == 0
    out = capsys.readouterr().out
    assert "embedding.weight" in out
    assert out.count("transformers") == 2
    assert main(["plan", "diff", "llama", "transformers", "nonsense"]) == 2
    assert "source: expected" in capsys.readouterr().err


@pytest.mark.parametrize("size", [[], ["--max-shard-size", "2KB"]])
def test_a_checkpoint_is_written_and_audited(folder: Path, capsys: pytest.CaptureFixture[str], size: list[str]) -> None:
    command = ["plan", "write", "plan.toml", "--shapes", "shapes.json", "--out", "start", "--seed", "7", *size]
    assert main(command) == 0
    capsys.readouterr()
    tensors = open_tensors("start")
    expected = RandomNormal(0.0, 0.02)((32, 16), key=Key(7) / "0.weight")
    assert np.array_equal(tensors["0.weight"], expected)
    assert tensors.dtypes["head.weight"] == "float16"
    assert main(["plan", "audit", "start"]) == 0
    assert main(["plan", "audit", "start", "--plan", "plan.toml"]) == 0
    capsys.readouterr()
    name = next(name for name in sorted(os.listdir("start")) if name.endswith(".safetensors"))
    data = bytearray(Path("start", name).read_bytes())
    data[-40] ^= 255
    Path("start", name).write_bytes(data)
    assert main(["plan", "audit", "start"]) == 1
    assert ".weight" in capsys.readouterr().out
    assert main(command) == 2
    assert "expected an empty directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "missing.toml", "--shapes", "shapes.json"], "missing.toml"),
        (["table", "nonsense", "--shapes", "shapes.json"], "PLAN: expected a file .json or .toml, or one of gpt2"),
        (["table", "gpt2", "--shapes", "shapes.json"], "model: "),
        (["table", "plan.toml", "--shapes", "plan.toml"], "expected JSON, a safetensors file"),
        (["table", "plan.toml", "--shapes", "shapes.json", "--set", "heads=4"], "--set: expected no options for a plan"),
        (["table", "mlp", "--shapes", "shapes.json", "--set", "nonsense=4"], "--set: expected no options for mlp, got nonsense"),
        (["table", "llama", "--shapes", "shapes.json", "--set", "stdd=4"], "--set: expected std or heads for llama, got stdd"),
        (["write", "plan.toml", "--shapes", "shapes.json", "--out", "o", "--max-shard-size", "x"], "max_shard_size: expected"),
        (["write", "plan.toml", "--shapes", "shapes.json", "--out", "o", "--dtype", "int8"], "dtype: expected one of"),
        (["audit", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_use_is_a_message_and_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = set(os.listdir())
    assert main(["plan", *arguments]) == 2
    captured: Any = capsys.readouterr()
    assert message in captured.err
    assert not captured.out
    assert set(os.listdir()) == before


def test_what_an_interrupted_write_leaves_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: Any, path: Path, **options: Any) -> None:
        path.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(plans, "write", stopped)
    assert main(["plan", "write", "plan.toml", "--shapes", "shapes.json", "--out", "start"]) == 130
    assert capsys.readouterr().err == "fastinit: interrupted; written: a part of start; the same command goes on\n"


def test_the_bar_of_a_write_counts_bytes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 2.0))
    monkeypatch.setattr("fastinit._command.terminal.time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar(of_bytes=True) as progress:
        progress(3_000_000_000, 12_000_000_000)
    assert "#######.......................] 3.00/12.00 GB, 1.50 GB/s" in capsys.readouterr().err
