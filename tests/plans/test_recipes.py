"""Recipes: one model spelled by several libraries has the same bits, depth and widths are counted, and nothing unknown passes."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest

from fastinit import Key, plans
from fastinit.plans import RECIPES, Parameter, Plan, gpt2, llama, mamba, mixtral, mlp, resnet, t5, vit
from fastinit.plans.fill import Target, fill, whole_box

KEY = Key(11)
EVERY = [(architecture, source) for architecture, recipe in RECIPES.items() for source in recipe.sources]


def filled(plan: Plan, model: Any) -> dict[str, np.ndarray]:
    arrays, targets = {}, []
    for planned in plan.resolve(model):
        array = arrays[planned.parameter.name] = np.empty(planned.parameter.shape, planned.parameter.dtype)
        targets.append(Target(planned, array, planned.parameter.dtype, whole_box(array.shape)))
    fill(targets, KEY)
    return arrays


def small(architecture: str, source: str) -> tuple[Plan, dict[str, tuple[int, ...]]]:
    """The plan of a source for its architecture's own small model, without the parts that the source has not."""
    recipe = RECIPES[architecture]
    shapes = dict(recipe.shapes)
    if source == "nanochat":
        shapes = {name: shape for name, shape in shapes.items() if ".gate." not in name and "norm" not in name}
    return recipe.function(shapes, source=source, **recipe.options.get(source, {})), shapes


def same_bits(recipe: Any, spelled: dict[str, Any], own: dict[str, np.ndarray], **options: Any) -> None:
    """`spelled` maps each name of a library to how its array looks, made of the arrays by the architecture's own names."""
    expected = {name: np.asarray(value) for name, value in spelled.items()}
    plan = recipe({name: value.shape for name, value in expected.items()}, **options)
    found = filled(plan, {name: value.shape for name, value in expected.items()})
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name
    assert sum(value.size for value in expected.values()) == sum(value.size for value in own.values())


# ---- every recipe and source ------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "source"), EVERY)
def test_every_rule_is_used_and_every_tensor_has_one(architecture: str, source: str) -> None:
    plan, shapes = small(architecture, source)
    table = plan.table(shapes)  # raises for an unused rule
    assert [row.name for row in table] == list(shapes)
    assert plan.source == f"{architecture}, {source}"
    for value in filled(plan, shapes).values():
        assert np.isfinite(value).all()


@pytest.mark.parametrize(("architecture", "source"), EVERY)
def test_unknown_parameters_are_named(architecture: str, source: str) -> None:
    recipe = RECIPES[architecture]
    _, shapes = small(architecture, source)
    with pytest.raises(ValueError, match=r"does not know .*adapter\.lora_a"):
        recipe.function({**shapes, "adapter.lora_a": (2, 2, 2)}, source=source, **recipe.options.get(source, {}))


@pytest.mark.parametrize(("architecture", "source"), EVERY)
def test_plans_of_recipes_are_equal_after_a_round_trip(architecture: str, source: str) -> None:
    plan, _ = small(architecture, source)
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_toml(plan.to_toml()) == plan


@pytest.mark.parametrize("architecture", RECIPES)
def test_other_sources_are_refused(architecture: str) -> None:
    with pytest.raises(ValueError, match="source: expected"):
        RECIPES[architecture].function(RECIPES[architecture].shapes, source="x")


def test_layers_without_a_number_between_are_refused() -> None:
    shapes = {name: shape for name, shape in RECIPES["llama"].shapes.items() if not name.startswith("layers.0")}
    with pytest.raises(ValueError, match=r"expected layers 0, 1, \.\.\. of llama without a gap, got \['1'\]"):
        llama(shapes, source="torchtitan")
    with pytest.raises(ValueError, match=r"without a gap, got none among embedding\.weight$"):
        gpt2({"gpt_neox.embed_in.weight": (9, 4)}, source="neox")


def test_eighty_layers_resolve_in_a_second() -> None:
    one = {name.partition("layers.0.")[2]: shape for name, shape in RECIPES["llama"].shapes.items() if "layers.0." in name}
    shapes = {name: shape for name, shape in RECIPES["llama"].shapes.items() if "layers" not in name}
    shapes |= {f"layers.{i}.{name}": shape for i in range(80) for name, shape in one.items()}
    begin = time.process_time()
    llama(shapes, source="torchtitan").resolve(shapes)
    assert time.process_time() - begin < 3  # 0.4 s on an idle machine


# ---- GPT-2 ------------------------------------------------------------------------------------------


def _gpt2(own: dict[str, np.ndarray], spell: Any) -> dict[str, np.ndarray]:
    """The parameters of Transformers and nanoGPT, which differ in the order of the axes of four weights."""
    layers = range(len({name.split(".")[1] for name in own if name.startswith("layers.")}))
    found = {
        "transformer.wte.weight": own["embedding.weight"], "transformer.wpe.weight": own["positions.weight"],
        "transformer.ln_f.weight": own["norm.weight"], "transformer.ln_f.bias": own["norm.bias"],
        "lm_head.weight": own["head.weight"],
    }  # fmt: skip
    for i in layers:
        for theirs, ours in {"ln_1": "norm1", "ln_2": "norm2"}.items():
            for last in ("weight", "bias"):
                found[f"transformer.h.{i}.{theirs}.{last}"] = own[f"layers.{i}.{ours}.{last}"]
        for theirs, names in {"attn.c_attn": "qkv", "attn.c_proj": "o", "mlp.c_fc": ["up"], "mlp.c_proj": ["down"]}.items():
            weight = np.concatenate([own[f"layers.{i}.{one}.weight"] for one in names])
            found[f"transformer.h.{i}.{theirs}.weight"] = spell(weight)
            found[f"transformer.h.{i}.{theirs}.bias"] = np.concatenate([own[f"layers.{i}.{one}.bias"] for one in names])
    return found


@pytest.mark.parametrize("source", RECIPES["gpt2"].sources)
def test_gpt2_has_the_same_bits_in_every_spelling(source: str) -> None:
    shapes = RECIPES["gpt2"].shapes
    own = filled(gpt2(shapes, source=source), shapes)
    nanogpt, conv1d = _gpt2(own, lambda weight: weight), _gpt2(own, np.transpose)
    same_bits(gpt2, nanogpt, own, source=source)
    same_bits(gpt2, conv1d, own, source=source)
    same_bits(gpt2, {name.removeprefix("transformer."): value for name, value in conv1d.items()}, own, source=source)
    last = {"wte.weight": "wte.embedding", "wpe.weight": "wpe.embedding"}
    flax = {}
    for name, value in nanogpt.items():
        kernel = any(one in name for one in ("c_attn", "c_proj", "c_fc"))
        head = name == "lm_head.weight"
        for theirs, ours in last.items():
            name = name.replace(theirs, ours)
        name = name.replace(".weight", ".kernel" if kernel or head else ".scale")
        flax[name] = value.T if head else value  # Conv1D's kernel is (out, in) in Flax, Dense's (in, out)
    same_bits(gpt2, flax, own, source=source)
    stacked = {name: value for name, value in conv1d.items() if ".h." not in name}
    for name in (name for name in conv1d if ".h.0." in name):
        stacked[name.replace(".0.", ".")] = np.stack([conv1d[name], conv1d[name.replace(".0.", ".1.")]])
    same_bits(gpt2, stacked, own, source=source)


def by_head(own: dict[str, np.ndarray], layer: str, groups: int, last: str = "weight") -> np.ndarray:
    """Q, K and V with the heads of each K and V together, as Megatron and torchtitan hold them."""
    each = [np.split(own[f"{layer}.{one}.{last}"], groups) for one in "qkv"]
    return np.concatenate([part for group in zip(*each, strict=True) for part in group])


def test_gpt2_as_megatron_spells_it() -> None:
    spelled = {"embedding.word_embeddings": "embedding", "embedding.position_embeddings": "positions", "output_layer": "head",
               "decoder.final_layernorm": "norm"}  # fmt: skip
    of_layer = {"input_layernorm": "norm1", "pre_mlp_layernorm": "norm2", "self_attention.linear_proj": "o",
                "mlp.linear_fc1": "up", "mlp.linear_fc2": "down"}  # fmt: skip
    spelled |= {f"decoder.layers.{i}.{theirs}": f"layers.{i}.{ours}" for i in range(2) for theirs, ours in of_layer.items()}
    shapes = RECIPES["gpt2"].shapes
    own = filled(gpt2(shapes), shapes)
    model = {f"{theirs}.{last}": own[f"{ours}.{last}"] for theirs, ours in spelled.items() for last in ("weight", "bias")
             if f"{ours}.{last}" in shapes}  # fmt: skip
    for i, last in itertools.product(range(2), ("weight", "bias")):
        model[f"decoder.layers.{i}.self_attention.linear_qkv.{last}"] = by_head(own, f"layers.{i}", 4, last)
    same_bits(gpt2, model, own, source="megatron", heads=4)
    with pytest.raises(ValueError, match=r"heads: expected the number of heads of the queries, by which .*linear_qkv is ordered"):
        gpt2(model, source="megatron")
    with pytest.raises(ValueError, match="heads: expected a number that divides 64 queries and 64 keys into heads, got 7"):
        gpt2(model, source="megatron", heads=7)


def test_gpt_neox_as_transformers_spells_it() -> None:
    spelled = {"gpt_neox.embed_in": "embedding", "embed_out": "head", "gpt_neox.final_layer_norm": "norm"}
    of_layer = {"input_layernorm": "norm1", "post_attention_layernorm": "norm2", "attention.dense": "o",
                "mlp.dense_h_to_4h": "up", "mlp.dense_4h_to_h": "down"}  # fmt: skip
    spelled |= {f"gpt_neox.layers.{i}.{theirs}": f"layers.{i}.{ours}" for i in range(2) for theirs, ours in of_layer.items()}
    shapes = {name: shape for name, shape in RECIPES["gpt2"].shapes.items() if name != "positions.weight"}  # they are rotary
    own = filled(gpt2(shapes, source="neox"), shapes)
    model = {f"{theirs}.{last}": own[f"{ours}.{last}"] for theirs, ours in spelled.items() for last in ("weight", "bias")
             if f"{ours}.{last}" in shapes}  # fmt: skip
    for i, last in itertools.product(range(2), ("weight", "bias")):
        model[f"gpt_neox.layers.{i}.attention.query_key_value.{last}"] = by_head(own, f"layers.{i}", 4, last)
    same_bits(gpt2, model, own, source="neox", heads=4)
    with pytest.raises(ValueError, match=r"heads: expected the number of heads of the queries, by which .*query_key_value"):
        gpt2(model, source="neox")


def test_llama_with_torchtitans_fused_weight() -> None:
    shapes = RECIPES["llama"].shapes
    own = filled(llama(shapes, source="torchtitan"), shapes)
    model = {name: value for name, value in own.items() if name.rpartition(".")[0][-2:] not in (".q", ".k", ".v")}
    for i in range(2):
        model[f"layers.{i}.attention.qkv_linear.wqkv.weight"] = by_head(own, f"layers.{i}", 2)  # four heads of 16, two of K and V
    same_bits(llama, model, own, source="torchtitan", heads=4)
    with pytest.raises(ValueError, match="heads: expected the number of heads"):
        llama(model, source="torchtitan")
    planned = llama(model, source="torchtitan", heads=4).resolve(model)
    receipt = plans.Receipt.of(planned, KEY)
    assert not plans.audit(model, receipt).differences
    model["layers.1.attention.qkv_linear.wqkv.weight"][70, 3] += 1
    (found,) = plans.audit(model, receipt).differences
    assert found.name == "layers.1.q.weight"


def test_gpt2_without_biases_and_with_a_narrow_mlp() -> None:
    shapes = {name: shape for name, shape in RECIPES["gpt2"].shapes.items() if "bias" not in name}
    assert not [rule for rule in gpt2(shapes).rules if "bias" in rule.pattern]
    model = {"wte.weight": (50, 8), "h.0.attn.c_attn.weight": (24, 8), "h.0.mlp.c_fc.weight": (4, 8)}
    assert [row.shape for row in gpt2(model, source="nanogpt").table(model)][-1] == (4, 8)


def test_gpt2_in_numbers() -> None:
    shapes = RECIPES["gpt2"].shapes
    std = {row.name: row.std for row in gpt2(shapes, std=0.1).table(shapes)}
    assert std["layers.1.q.weight"] == pytest.approx(0.1)
    assert std["layers.1.down.weight"] == pytest.approx(0.05)
    std = {row.name: row.std for row in gpt2(shapes, source="neox").table(shapes)}
    assert std["embedding.weight"] == pytest.approx(math.sqrt(2 / (5 * 64)))
    assert std["layers.0.o.weight"] == pytest.approx(2 / 2 / 8)
    with pytest.raises(ValueError, match="std: expected None for source 'nanogpt'"):
        gpt2(shapes, source="nanogpt", std=0.1)


def test_a_tied_embedding_begins_once() -> None:
    ends = ("embedding.weight", "head.weight")
    tied = [Parameter(name, shape) for name, shape in RECIPES["llama"].shapes.items() if name not in ends]
    tied.append(Parameter("embedding.weight", (128, 64), aliases=("head.weight",)))
    for source, std in {"transformers": 0.02, "olmo_llama": 1.0, "torchtitan": 0.1233}.items():
        (row,) = [row for row in llama(tied, source=source).table(tied) if row.parameter == "embedding.weight"]
        assert row.name == "embedding.weight"
        assert row.std == pytest.approx(std, rel=1e-3)  # 1/8 truncated at three standard deviations


# ---- Llama ------------------------------------------------------------------------------------------

LLAMA = {
    "transformers": (
        "model.embed_tokens model.norm lm_head", "model.layers.{i}.",
        "input_layernorm post_attention_layernorm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj "
        "mlp.gate_proj mlp.up_proj mlp.down_proj",
    ),
    "torchtitan": (
        "tok_embeddings norm lm_head", "layers.{i}.",
        "attention_norm ffn_norm attention.qkv_linear.wq attention.qkv_linear.wk attention.qkv_linear.wv attention.wo "
        "feed_forward.w1 feed_forward.w3 feed_forward.w2",
    ),
    "torchtitan, as it was": (
        "tok_embeddings norm output", "layers.{i}.",
        "attention_norm ffn_norm attention.wq attention.wk attention.wv attention.wo feed_forward.w1 feed_forward.w3 "
        "feed_forward.w2",
    ),
    "olmo": (
        "embeddings lm_head.norm lm_head.w_out", "blocks.{i}.",
        "attention_norm feed_forward_norm attention.w_q attention.w_k attention.w_v attention.w_out feed_forward.w1 "
        "feed_forward.w3 feed_forward.w2",
    ),
}  # fmt: skip
OURS = ["norm1", "norm2", "q", "k", "v", "o", "gate", "up", "down"]


def _llama(own: dict[str, np.ndarray], library: str) -> dict[str, np.ndarray]:
    outside, prefix, inside = LLAMA[library]
    ends = zip(outside.split(), ("embedding", "norm", "head"), strict=True)
    found = {f"{theirs}.weight": own[f"{ours}.weight"] for theirs, ours in ends}
    for i in range(2):
        for theirs, ours in zip(inside.split(), OURS, strict=True):
            found[f"{prefix.format(i=i)}{theirs}.weight"] = own[f"layers.{i}.{ours}.weight"]
    return found


@pytest.mark.parametrize("source", [source for source in RECIPES["llama"].sources if source != "nanochat"])
def test_llama_has_the_same_bits_in_every_spelling(source: str) -> None:
    shapes, options = RECIPES["llama"].shapes, {"source": source, **RECIPES["llama"].options.get(source, {})}
    own = filled(llama(shapes, **options), shapes)
    for library in LLAMA:
        same_bits(llama, _llama(own, library), own, **options)
    spelled = _llama(own, "transformers")
    flax = {
        name.replace(".weight", ".embedding" if "embed" in name else ".kernel" if value.ndim == 2 else ".weight"):
            value.T if value.ndim == 2 and "embed" not in name else value
        for name, value in spelled.items()
    }  # fmt: skip
    same_bits(llama, flax, own, **options)
    scan = {name: value for name, value in flax.items() if ".layers." not in name}
    for name in (name for name in flax if ".layers.0." in name):
        scan[name.replace(".0.", ".")] = np.stack([flax[name], flax[name.replace(".0.", ".1.")]])
    same_bits(llama, scan, own, **options)
    fused = {name: value for name, value in spelled.items() if "up_proj" not in name and "gate_proj" not in name}
    for i in range(2):
        mlp, attention = f"model.layers.{i}.mlp.", f"model.layers.{i}.self_attn."
        fused[f"{mlp}gate_up_proj.weight"] = np.concatenate([spelled[f"{mlp}{one}_proj.weight"] for one in ("gate", "up")])
        qkv = [fused.pop(f"{attention}{one}_proj.weight") for one in "qkv"]
        fused[f"{attention}qkv_proj.weight"] = np.concatenate(qkv)
    same_bits(llama, fused, own, **options)


def test_nanochat() -> None:
    model: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (64, 48), "lm_head.weight": (64, 48), "resid_lambdas": (3,), "x0_lambdas": (3,),
        "smear_gate.weight": (1, 24), "smear_lambda": (1,), "backout_lambda": (1,), "value_embeds.0.weight": (64, 24),
        "value_embeds.2.weight": (64, 24),
    }  # fmt: skip
    for i in range(3):
        block = f"transformer.h.{i}."
        model |= {f"{block}attn.c_q.weight": (48, 48), f"{block}attn.c_k.weight": (24, 48), f"{block}attn.c_v.weight": (24, 48)}
        model |= {f"{block}attn.c_proj.weight": (48, 48), f"{block}mlp.c_fc.weight": (192, 48)}
        model |= {f"{block}mlp.c_proj.weight": (48, 192)}
        if i != 1:
            model[f"{block}attn.ve_gate.weight"] = (2, 12)
    values = filled(llama(model, source="nanochat"), model)
    assert np.allclose(values["resid_lambdas"], [1.15, 1.10, 1.05])
    assert np.allclose(values["x0_lambdas"], [0.20, 0.125, 0.05])
    assert values["backout_lambda"] == np.float32(0.2)
    assert values["smear_lambda"] == 0
    assert not values["transformer.h.1.attn.c_proj.weight"].any()
    assert 0.9 < np.abs(values["transformer.h.1.attn.c_q.weight"]).max() / (3 / 48) ** 0.5 <= 1
    with pytest.raises(ValueError, match=r"does not know layers.0.gate.weight"):
        llama({**model, "layers.0.gate.weight": (96, 48)}, source="nanochat")


def test_options_that_a_source_needs() -> None:
    shapes = RECIPES["llama"].shapes
    with pytest.raises(ValueError, match="heads: expected the number of heads"):
        llama(shapes, source="maxtext")
    with pytest.raises(ValueError, match="heads: expected a divisor of the 64 outputs"):
        llama(shapes, source="maxtext", heads=5)
    with pytest.raises(ValueError, match="std: expected a number for source 'nanotron'"):
        llama(shapes, source="nanotron")
    with pytest.raises(ValueError, match=r"expected layers\.\*\.o\.weight of llama with one size"):
        llama({"model.layers.0.self_attn.qkv_proj.weight": (128, 64)})


# ---- mixtures of experts ----------------------------------------------------------------------------


def renamed(own: dict[str, np.ndarray], table: dict[str, str]) -> dict[str, np.ndarray]:
    """Arrays under names in which words are replaced."""
    found = {}
    for name, value in own.items():
        for ours, theirs in table.items():
            name = name.replace(ours, theirs)
        found[name] = value
    return found


@pytest.mark.parametrize("source", RECIPES["mixtral"].sources)
def test_mixtral_has_the_same_bits_in_every_spelling(source: str) -> None:
    shapes = RECIPES["mixtral"].shapes
    own = filled(mixtral(shapes, source=source), shapes)
    attention = {
        "embedding.": "model.embed_tokens.", "layers.": "model.layers.", ".norm1.": ".input_layernorm.",
        ".norm2.": ".post_attention_layernorm.", "head.": "lm_head.", ".q.": ".self_attn.q_proj.", ".k.": ".self_attn.k_proj.",
        ".v.": ".self_attn.v_proj.", ".o.": ".self_attn.o_proj.",
    }  # fmt: skip
    moe = ".block_sparse_moe.experts"
    experts = {".gate.": ".w1.", ".down.": ".w2.", ".up.": ".w3.", ".experts": moe}
    version4 = {**attention, **experts, ".router.": ".block_sparse_moe.gate."}
    same_bits(mixtral, renamed(own, version4), own, source=source)
    stacked: dict[str, list[np.ndarray]] = {}
    for name, value in own.items():
        if ".experts." in name:
            layer, _, rest = name.partition(".experts.")
            stacked.setdefault(f"{layer}.{rest.split('.')[1]}", []).append(value)
    others = {name: value for name, value in own.items() if ".experts." not in name}
    version5 = renamed(others, {**attention, ".router.": ".mlp.gate."})
    titan = renamed(others, {
        "embedding.": "tok_embeddings.", ".norm1.": ".attention_norm.", ".norm2.": ".ffn_norm.", "head.": "lm_head.",
        ".q.": ".attention.wq.", ".k.": ".attention.wk.", ".v.": ".attention.wv.", ".o.": ".attention.wo.",
        ".router.": ".moe.router.gate.",
    })  # fmt: skip
    for i in range(2):
        gate, up, down = (np.stack(stacked[f"layers.{i}.{part}"]) for part in ("gate", "up", "down"))
        version5[f"model.layers.{i}.mlp.experts.gate_up_proj"] = np.concatenate([gate, up], axis=1)
        version5[f"model.layers.{i}.mlp.experts.down_proj"] = down
        for name, value in {"w1_EFD": gate, "w2_EDF": down, "w3_EFD": up}.items():
            titan[f"layers.{i}.moe.routed_experts.inner_experts.{name}"] = value
    same_bits(mixtral, version5, own, source=source)
    same_bits(mixtral, titan, own, source=source)


def test_deepseek_of_torchtitan() -> None:
    model = {"tok_embeddings.weight": (100, 64), "lm_head.weight": (100, 64), "norm.weight": (64,)}
    for i in range(2):
        layer = f"layers.{i}"
        model |= {f"{layer}.attention.{name}.weight": shape for name, shape in {
            "wq_a": (24, 64), "q_norm": (24,), "wq_b": (96, 24), "wkv_a": (40, 64), "kv_norm": (32,), "wkv_b": (128, 32),
            "wo": (64, 64),
        }.items()}  # fmt: skip
        model |= {f"{layer}.attention_norm.weight": (64,), f"{layer}.ffn_norm.weight": (64,)}
    model |= {f"layers.0.feed_forward.{name}.weight": (64, 64) for name in ("w1", "w2", "w3")}
    model |= {f"layers.1.moe.shared_experts.{name}.weight": (64, 64) for name in ("w1", "w2", "w3")}
    model |= {"layers.1.moe.router.gate.weight": (4, 64), "layers.1.moe.routed_experts.inner_experts.w2_EDF": (4, 64, 32)}
    std = {row.name: row.std for row in mixtral(model, source="torchtitan").table(model)}
    for name in ("layers.0.q_b", "layers.0.gate", "layers.1.shared.gate", "layers.1.kv_b"):
        assert std[f"{name}.weight"] == pytest.approx(0.02)
    for name in ("layers.1.o", "layers.1.router", "layers.1.shared.up", "layers.1.experts.3.down"):
        assert std[f"{name}.weight"] == pytest.approx(0.01)
    assert std["layers.0.up.weight"] == std["layers.0.down.weight"] == pytest.approx(0.02 / 2**0.5)


# ---- T5 ---------------------------------------------------------------------------------------------


def test_t5_has_the_same_bits_in_every_spelling() -> None:
    shapes = RECIPES["t5"].shapes
    own = filled(t5(shapes), shapes)
    transformers, t5x, flax = {}, {}, {}
    for name, value in own.items():
        hf = name.replace("embedding.", "shared.").replace("head.", "lm_head.")
        x = name.replace("embedding.weight", "token_embedder.embedding").replace("head.", "decoder.logits_dense.")
        for stack, last, attention in (("encoder", 1, "attention"), ("decoder", 2, "self_attention")):
            if not name.startswith(stack):
                continue
            hf = hf.replace(".layers.", ".block.").replace(".norm2.", f".layer.{last}.layer_norm.")
            hf = hf.replace(".norm1.", ".layer.0.layer_norm.").replace(".norm_cross.", ".layer.1.layer_norm.")
            hf = hf.replace(f"{stack}.norm.", f"{stack}.final_layer_norm.")
            hf = hf.replace(f"{stack}.relative.", f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.")
            x = x.replace(".layers.", ".layers_").replace(".norm2.", ".pre_mlp_layer_norm.")
            x = x.replace(".norm1.", f".pre_{attention}_layer_norm.").replace(".norm_cross.", ".pre_cross_attention_layer_norm.")
            x = x.replace(f"{stack}.norm.", f"{stack}.{stack}_norm.")
            x = x.replace(f"{stack}.relative.weight", f"{stack}.relpos_bias.rel_embedding")
            for ours, theirs in {"up": "wi", "down": "wo"}.items():
                hf = hf.replace(f".{ours}.", f".layer.{last}.DenseReluDense.{theirs}.")
                x = x.replace(f".{ours}.", f".mlp.{theirs}.")
            for ours, theirs in {"q": "query", "k": "key", "v": "value", "o": "out"}.items():
                hf = hf.replace(f".cross.{ours}.", f".layer.1.EncDecAttention.{ours}.")
                x = x.replace(f".cross.{ours}.", f".encoder_decoder_attention.{theirs}.")
                if f".layer.1.EncDecAttention.{ours}." not in hf:
                    hf = hf.replace(f".{ours}.", f".layer.0.SelfAttention.{ours}.")
                    x = x.replace(f".{ours}.", f".{attention}.{theirs}.")
        transformers[hf] = value
        t5x[x.replace(".weight", ".kernel" if value.ndim == 2 else ".scale")] = value if x.endswith("r.embedding") else value.T
        table = "shared" in hf or "relative" in hf
        flax[hf.replace(".weight", ".embedding" if table else ".kernel" if value.ndim == 2 else ".weight")] = (
            value if table else value.T
        )
    for spelled in (transformers, t5x, flax):
        same_bits(t5, spelled, own)


def test_t5_counts_heads_or_asks() -> None:
    shapes = {name: shape for name, shape in RECIPES["t5"].shapes.items() if "relative" not in name}
    with pytest.raises(ValueError, match="heads: expected the number of heads"):
        t5(shapes)
    std = {row.name: row.std for row in t5(shapes, heads=4).table(shapes)}
    assert std["decoder.layers.1.cross.q.weight"] == pytest.approx((64 * 24) ** -0.5)
    assert std["encoder.layers.1.o.weight"] == pytest.approx((4 * 24) ** -0.5)
    with pytest.raises(ValueError, match="heads: expected 4, as the model's relative biases have"):
        t5(RECIPES["t5"].shapes, heads=8)
    twice = {row.name: row.std for row in t5(shapes, heads=4, factor=2.0).table(shapes)}
    assert twice["encoder.layers.1.o.weight"] == 2 * std["encoder.layers.1.o.weight"]


# ---- vision transformers ----------------------------------------------------------------------------


@pytest.mark.parametrize("source", RECIPES["vit"].sources)
def test_vit_has_the_same_bits_in_every_spelling(source: str) -> None:
    shapes = RECIPES["vit"].shapes
    own = filled(vit(shapes, source=source), shapes)
    norms = {"layers.0.norm1": "layers.0.layernorm_before", "layers.1.norm1": "layers.1.layernorm_before",
             "layers.0.norm2": "layers.0.layernorm_after", "layers.1.norm2": "layers.1.layernorm_after"}  # fmt: skip
    outside = {"cls": "vit.embeddings.cls_token", "positions": "vit.embeddings.position_embeddings", "layers.": "vit.layers.",
               "patch.": "vit.embeddings.patch_embeddings.projection.", "head.": "classifier."}  # fmt: skip
    version5 = renamed(own, {
        **norms, **outside, ".q.": ".attention.q_proj.", ".k.": ".attention.k_proj.", ".v.": ".attention.v_proj.",
        ".o.": ".attention.o_proj.", ".up.": ".mlp.fc1.", ".down.": ".mlp.fc2.",
    })  # fmt: skip
    version4 = renamed(own, {
        **norms, **outside, "vit.layers.": "vit.encoder.layer.", ".q.": ".attention.attention.query.",
        ".k.": ".attention.attention.key.", ".v.": ".attention.attention.value.", ".o.": ".attention.output.dense.",
        ".up.": ".intermediate.dense.", ".down.": ".output.dense.",
    })  # fmt: skip
    for spelled in (version5, version4):
        for last in ("weight", "bias"):
            spelled[f"vit.layernorm.{last}"] = spelled.pop(f"norm.{last}")
        same_bits(vit, spelled, own, source=source)
    flax = {}
    for name, value in version4.items():
        axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(value.ndim, range(value.ndim))
        last = ".kernel" if value.ndim in (2, 4) else ".scale"
        flax[name.replace(".weight", last)] = value.transpose(axes)
    same_bits(vit, flax, own, source=source)
    timm = renamed({name: value for name, value in own.items() if name.split(".")[-2:-1] not in (["q"], ["k"], ["v"])}, {
        "cls": "cls_token", "positions": "pos_embed", "patch.": "patch_embed.proj.", "layers.": "blocks.", ".o.": ".attn.proj.",
        ".up.": ".mlp.fc1.", ".down.": ".mlp.fc2.",
    })  # fmt: skip
    for i in range(2):
        for last in ("weight", "bias"):
            timm[f"blocks.{i}.attn.qkv.{last}"] = np.concatenate([own[f"layers.{i}.{one}.{last}"] for one in "qkv"])
    same_bits(vit, timm, own, source=source)


# ---- Mamba, ResNet, MLP -----------------------------------------------------------------------------


@pytest.mark.parametrize("source", RECIPES["mamba"].sources)
def test_mamba_has_the_same_bits_in_every_spelling(source: str) -> None:
    shapes = RECIPES["mamba"].shapes
    own = filled(mamba(shapes, source=source), shapes)
    mixer = {".in.": ".mixer.in_proj.", ".conv.": ".mixer.conv1d.", ".x.": ".mixer.x_proj.", ".dt.": ".mixer.dt_proj.",
             ".out.": ".mixer.out_proj.", ".A_log": ".mixer.A_log", ".D": ".mixer.D", "head.": "lm_head."}  # fmt: skip
    for embedding in ("embedding", "embeddings"):
        spelled = renamed(own, {**mixer, "embedding.": f"backbone.{embedding}.", "layers.": "backbone.layers."})
        spelled["backbone.norm_f.weight"] = spelled.pop("norm.weight")
        same_bits(mamba, spelled, own, source=source)


@pytest.mark.parametrize("source", RECIPES["resnet"].sources)
def test_resnet_has_the_same_bits_in_every_spelling(source: str) -> None:
    shapes = RECIPES["resnet"].shapes
    own = filled(resnet(shapes, source=source), shapes)
    blocks = {".conv1.": ".layer.0.convolution.", ".conv2.": ".layer.1.convolution.", ".bn1.": ".layer.0.normalization.",
              ".bn2.": ".layer.1.normalization.", "downsample.0.": "shortcut.convolution.", "fc.": "classifier.1.",
              "downsample.1.": "shortcut.normalization."}  # fmt: skip
    blocks |= {f"layer{i + 1}.": f"resnet.encoder.stages.{i}.layers." for i in range(4)}
    spelled = renamed(own, blocks)
    for name in list(spelled):
        for ours, theirs in {"conv1.": "convolution.", "bn1.": "normalization."}.items():
            if name.startswith(ours):
                spelled[name.replace(ours, f"resnet.embedder.embedder.{theirs}")] = spelled.pop(name)
    same_bits(resnet, spelled, own, source=source)
    assert (own["layer2.0.bn2.weight"] == (source != "timm")).all()
    assert (own["layer2.0.bn1.weight"] == 1).all()


def test_resnet_with_bottlenecks_and_a_deep_stem() -> None:
    model = {"conv1.0.weight": (8, 3, 3, 3), "conv1.1.weight": (8,), "conv1.1.bias": (8,), "layer1.0.conv2.weight": (8, 2, 3, 3),
             "layer1.0.bn2.weight": (8,), "layer1.0.conv3.weight": (32, 8, 1, 1), "layer1.0.bn3.weight": (32,)}  # fmt: skip
    std = {row.name: (row.std, row.law) for row in resnet(model, source="timm").table(model)}
    assert std["layer1.0.conv2.weight"][0] == pytest.approx((2 / 72) ** 0.5)  # four groups: fan_out does not count them
    assert std["layer1.0.bn3.weight"][1] == "Zeros()"
    assert std["layer1.0.bn2.weight"][1] == std["conv1.1.weight"][1] == "Ones()"


@pytest.mark.parametrize("source", RECIPES["mlp"].sources)
def test_mlp_has_the_same_bits_in_every_spelling(source: str) -> None:
    shapes = RECIPES["mlp"].shapes
    own = filled(mlp(shapes, source=source), shapes)
    same_bits(mlp, {f"{2 * int(name[7])}{name[8:]}": value for name, value in own.items()}, own, source=source)
    dense = renamed(own, {"layers.": "Dense_", "weight": "kernel"})
    same_bits(mlp, {name: value.T for name, value in dense.items()}, own, source=source)
    with pytest.raises(ValueError, match="expected layers in the order of the signal, got 64 outputs of layer 0"):
        mlp({"0.weight": (64, 32), "1.weight": (10, 60)}, source=source)


def test_an_mlp_with_norms_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not know norm\.weight"):
        mlp({"fc.weight": (8, 4), "norm.weight": (8,)}, source="relu")
    with pytest.raises(ValueError, match=r"layers\.2\.weight and another parameter are both layers\.1\.weight of mlp"):
        mlp({"layers.0.weight": (8, 4), "layers.1.weight": (8,), "layers.2.weight": (8, 8)}, source="relu")


@pytest.mark.parametrize(("recipe", "embedding", "norm", "layer"), [
    (gpt2, "transformer.wte.weight", "transformer.ln_f.weight", "transformer.h.0.attn.c_proj.weight"),
    (llama, "model.embed_tokens.weight", "model.norm.weight", "model.layers.0.self_attn.o_proj.weight"),
])  # fmt: skip
def test_a_model_inside_of_another_has_the_same_bits(recipe: Any, embedding: str, norm: str, layer: str) -> None:
    def values(prefix: str) -> list[np.ndarray]:
        tied = Parameter(prefix + embedding, (9, 4), aliases=(f"{prefix}lm_head.weight",))
        model = [tied, Parameter(prefix + norm, (4,)), Parameter(prefix + layer, (4, 4))]
        return list(filled(recipe(model), model).values())

    for alone, inside in zip(values(""), values("body."), strict=True):
        assert np.array_equal(alone, inside)
