"""Files of `fastinit.plans.write`, read back by the packages that others read them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastinit import Key, plans
from fastinit._common.dtypes import memory_dtype
from fastinit.initializers import RandomNormal
from fastinit.plans import Parameter, Plan, Rule
from fastinit.plans.fill import Target, fill, whole_box
from fastinit.plans.parameters import parameters_of
from fastinit.plans.safetensors import open_tensors
from fastinit.plans.shapes import read_shapes

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")
safetensors = pytest.importorskip("safetensors")

KEY = Key(21)
PLAN = Plan([Rule("**", RandomNormal(0.0, 0.02))])
# Sizes that leave what follows without alignment.
MODEL = [
    Parameter("h", (3,), "float16"), Parameter("b", (5,), "bfloat16"), Parameter("w", (4, 3), "float32"), Parameter("s", ()),
    Parameter("e", (0, 3)), Parameter("d", (3, 3), "float64"), Parameter("c", (2, 2), "complex64"),
    Parameter('odd "\\\n\U0001f600.w', (7, 2)),
]  # fmt: skip
FLOAT8 = [Parameter(name, (3, 5), name) for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")]


def bits_of(parameter: Parameter) -> Any:
    (planned,) = PLAN.resolve([parameter])
    memory = np.empty(parameter.shape, memory_dtype(parameter.dtype))
    fill([Target(planned, memory, parameter.dtype, whole_box(parameter.shape))], KEY)
    return memory.tobytes()


@pytest.mark.parametrize("most", [None, 100])
@pytest.mark.parametrize("model", [MODEL, FLOAT8])
def test_safetensors_reads_the_bits(tmp_path: Path, most: Any, model: list[Parameter]) -> None:
    if model is FLOAT8:
        pytest.importorskip("ml_dtypes")
    plans.write(model, PLAN, key=KEY, path=tmp_path, max_shard_size=most)
    found = {}
    for path in tmp_path.glob("*.safetensors"):
        with safetensors.safe_open(path, "pt") as file:
            assert file.metadata() == {"format": "pt"}
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert set(found) == {one.name for one in model}
    for one in model:
        tensor = found[one.name]
        assert (str(tensor.dtype), tuple(tensor.shape)) == (f"torch.{one.dtype}", one.shape)
        assert tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() == bits_of(one), one.name


def test_files_of_safetensors_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {
        "bn.weight": torch.randn(3), "bn.num_batches_tracked": torch.tensor(7), "mask": torch.ones(5, dtype=torch.bool),
        "half": torch.randn(3, 3).bfloat16(), "eight": torch.randn(2, 3).to(torch.float8_e5m2),
    }  # fmt: skip
    save_file(tensors, tmp_path / "x.safetensors", metadata={"any": "thing"})
    found = open_tensors(tmp_path)
    assert sorted(found) == ["bn.weight", "eight", "half"]
    for name, values in found.items():
        assert values.tobytes() == tensors[name].view(-1).view(torch.uint8).numpy().tobytes()


def test_a_state_dict_is_a_model(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).bfloat16()
    plan = Plan([Rule("**.bias", "zeros"), Rule("**.weight", "he_normal")])
    assert [row.dtype for row in plan.table(model.state_dict())] == ["bfloat16"] * 4
    plans.write(model.state_dict(), plan, key=KEY, path=tmp_path)
    from safetensors.torch import load_file

    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert not model[0].bias.any()


@pytest.mark.parametrize("most", [None, "20KB"])
def test_transformers_loads_the_files(tmp_path: Path, most: Any) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=100, n_positions=16)
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(config)
    plan = plans.gpt2(model)
    plans.write(model, plan, key=KEY, path=tmp_path, max_shard_size=most)
    config.save_pretrained(tmp_path)
    loaded, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for planned in plan.resolve(model):
        memory = np.empty(planned.parameter.shape, np.float32)
        fill([Target(planned, memory, "float32", whole_box(memory.shape))], KEY)
        assert np.array_equal(loaded.get_parameter(planned.parameter.name).detach().numpy(), memory), planned.parameter.name
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


@pytest.mark.parametrize("architectures", [["LlamaForCausalLM"], None])
def test_a_configuration_of_transformers_says_the_dtype(tmp_path: Path, architectures: list[str] | None) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}
    path = tmp_path / "config.json"
    transformers.LlamaConfig(**sizes, architectures=architectures, dtype="bfloat16").to_json_file(path)
    assert {one.dtype for one in parameters_of(read_shapes(path))} == {"bfloat16"}
    transformers.LlamaConfig(**sizes, architectures=architectures).to_json_file(path)
    assert {one.dtype for one in parameters_of(read_shapes(path))} == {"float32"}


def test_a_dtype_of_torch(tmp_path: Path) -> None:
    receipt = plans.write({"w": (4, 3)}, PLAN, key=KEY, path=tmp_path, dtype=torch.float16)
    assert [record.dtype for record in receipt] == ["float16"]
