"""Recipes against the packages that they are read from: every parameter of small models has the law that the recipe says.

The tensors of one role, such as the queries of all layers, are pooled. With z their numbers minus the law's mean, in units of its
standard deviation, the mean of z lies within 5 sigma of 0 and that of z^2 within 5 sigma of 1; bounds hold, and are nearly
reached where the law is uniform; constants are exact. Some 250 comparisons of means and variances give a false alarm once in
7,000 sets of seeds (5 sigma, two-sided: 5.7e-7 each); the seeds are fixed. Sources that no package index has stand as tables in
tests/plans/test_recipes_sources.py.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastinit import Key, plans
from fastinit.plans import Parameter
from fastinit.plans.fill import Target, fill, whole_box

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")

_SIGMAS = 5.0


def parameters(model: Any) -> list[Parameter]:
    """Tied parameters once, with all of their names."""
    names: dict[int, list[str]] = {}
    owner = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(value), []).append(name)
        owner[id(value)] = value
    return [Parameter(several[0], tuple(owner[i].shape), aliases=tuple(several[1:])) for i, several in names.items()]


def pooled(model: Any, plan: plans.Plan) -> dict[tuple[Any, ...], list[tuple[str, np.ndarray, np.ndarray]]]:
    """By role and law: names, the model's numbers, and those that the plan draws."""
    values = {name: value.detach().float().numpy() for name, value in model.named_parameters()}
    groups: dict[tuple[Any, ...], list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for planned in plan.resolve(parameters(model)):
        theirs = values[planned.parameter.name]
        ours = np.empty(theirs.shape, np.float32)
        box = whole_box(theirs.shape)
        fill([Target(planned, ours, "float32", box)], Key(5))
        for piece in planned.pieces:
            views = [piece.part.seen_in(array, box) for array in (theirs, ours)]
            shape = piece.part.shape
            role = (re.sub(r"\d+", "#", piece.part.name), piece.initializer, piece.initializer.law(shape), shape)
            groups.setdefault(role, []).append((piece.part.name, *(view[0] for view in views if view is not None)))
    return groups


def compare(model: Any, plan: plans.Plan) -> None:
    for (role, initializer, law, shape), members in pooled(model, plan).items():
        theirs = np.concatenate([values.ravel() for _, values, _ in members]).astype(float)
        ours = np.concatenate([values.ravel() for _, _, values in members]).astype(float)
        std = math.sqrt(initializer.variance(shape))
        if std == 0 or type(initializer).__name__ == "MambaLogA":
            if type(initializer).__name__ == "MambaLogA":  # a logarithm in float32 there
                np.testing.assert_allclose(theirs, ours, rtol=3e-7, err_msg=role)
            else:
                assert np.array_equal(theirs, ours), role
            continue
        n = len(theirs)
        low, high = initializer.bounds(shape)
        slack = 1e-5 * std
        assert theirs.min() >= low - slack, role
        assert theirs.max() <= high + slack, role
        if law is not None and law.name == "uniform":
            assert theirs.max() > high - (high - low) * 25 / n, role  # once in e^25
        elif n > 2000 and high - low > 7 * std:
            assert np.abs(theirs).max() > 2.3 * std, f"{role}: as if it were bounded"  # a normal: not once in e^40
        z = (theirs - initializer._mean(shape)) / std
        kurtosis = 1.8 if law is not None and law.name == "uniform" else 3.0
        assert abs(z.mean()) < _SIGMAS / math.sqrt(n), f"{role}: mean {theirs.mean():.4g}"
        error = math.sqrt((kurtosis - 1) / n)
        assert abs((z * z).mean() - 1) < _SIGMAS * error, f"{role}: std {theirs.std():.5g}, asked {std:.5g}"


_OPERATORS = (
    "nms", "qnms", "roi_align", "qroi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool",
    "_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward", "deform_conv2d", "_deform_conv2d_backward",
)  # fmt: skip


@functools.cache
def _without_operators() -> Any:
    """Names for torchvision's compiled operators, without which a torchvision of another build of PyTorch is not imported.

    No model here uses one; their Python code is that of every build.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "torchvision")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in _OPERATORS:
        library.define(f"{operator}(Tensor x) -> Tensor")
    return library


def package(name: str) -> Any:
    """A module of timm or torchvision."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name.partition('.')[0]} is not installed")
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _without_operators()
    return importlib.import_module(name)


def built(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build()


# ---- Transformers -----------------------------------------------------------------------------------

TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "GPT-2": ("gpt2", "GPT2LMHeadModel", {"n_layer": 3, "n_embd": 64, "n_head": 4, "vocab_size": 300, "n_positions": 90}, {}),
    "GPT-2, untied": (
        "gpt2", "GPT2LMHeadModel",
        {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 300, "n_positions": 90, "tie_word_embeddings": False,
         "initializer_range": 0.05},
        {"std": 0.05},
    ),
    "Llama": (
        "llama", "LlamaForCausalLM",
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
         "vocab_size": 300, "attention_bias": True, "mlp_bias": True},
        {},
    ),
    "Llama, tied": (
        "llama", "LlamaForCausalLM",
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300,
         "tie_word_embeddings": True, "initializer_range": 0.01},
        {"std": 0.01},
    ),
    "Gemma": (
        "llama", "GemmaForCausalLM",
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "head_dim": 16, "vocab_size": 300},
        {},
    ),
    "Mixtral": (
        "mixtral", "MixtralForCausalLM",
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "num_local_experts": 4, "vocab_size": 300},
        {},
    ),
    "DeepSeek-V3": (
        "mixtral", "DeepseekV3ForCausalLM",
        {"hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 48, "num_hidden_layers": 3,
         "first_k_dense_replace": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2,
         "topk_group": 1, "num_experts_per_tok": 2, "q_lora_rank": 24, "kv_lora_rank": 32, "qk_rope_head_dim": 8,
         "qk_nope_head_dim": 16, "v_head_dim": 16, "vocab_size": 300},
        {},
    ),
    "T5": (
        "t5", "T5ForConditionalGeneration",
        {"d_model": 64, "d_ff": 96, "num_layers": 2, "num_heads": 4, "d_kv": 24, "vocab_size": 300}, {},
    ),
    "T5, gated, untied": (
        "t5", "T5ForConditionalGeneration",
        {"d_model": 64, "d_ff": 96, "num_layers": 2, "num_heads": 4, "d_kv": 24, "vocab_size": 300, "tie_word_embeddings": False,
         "feed_forward_proj": "gated-gelu", "initializer_factor": 0.5},
        {"factor": 0.5},
    ),
    "T5, encoder": (
        "t5", "T5EncoderModel", {"d_model": 64, "d_ff": 96, "num_layers": 2, "num_heads": 4, "d_kv": 24, "vocab_size": 300}, {},
    ),
    "Mamba": ("mamba", "MambaForCausalLM", {"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 300}, {}),
    "ViT": (
        "vit", "ViTForImageClassification",
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 64}, {},
    ),
    "ResNet": (
        "resnet", "ResNetForImageClassification",
        {"embedding_size": 16, "hidden_sizes": [32, 48, 64, 96], "depths": [2, 1, 1, 1], "layer_type": "bottleneck"}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TRANSFORMERS)
def test_transformers(case: str) -> None:
    transformers = pytest.importorskip("transformers")
    architecture, name, settings, options = TRANSFORMERS[case]
    kind = getattr(transformers, name)
    model = built(lambda: kind(kind.config_class(**settings)))
    recipe = plans.RECIPES[architecture].function
    compare(model, recipe(model, source="transformers", **options))


def test_transformers_vit_with_a_mask_token_and_a_pooler() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(**TRANSFORMERS["ViT"][2])
    model = built(lambda: transformers.ViTModel(config, use_mask_token=True))
    compare(model, plans.vit(parameters(model), source="transformers"))


# ---- timm, torchvision ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["", "jax"])
def test_timm_vit(mode: str) -> None:
    models = package("timm.models.vision_transformer")
    model = built(lambda: models.VisionTransformer(
        img_size=64, patch_size=8, embed_dim=64, depth=3, num_heads=4, num_classes=50, reg_tokens=4, weight_init=mode,
    ))  # fmt: skip
    compare(model, plans.vit(parameters(model), source="timm_jax" if mode else "timm"))


@pytest.mark.parametrize("block", ["BasicBlock", "Bottleneck"])
def test_timm_resnet(block: str) -> None:
    models = package("timm.models.resnet")
    model = built(lambda: models.ResNet(getattr(models, block), (2, 1, 1, 1), num_classes=50, channels=(16, 24, 32, 48)))
    compare(model, plans.resnet(parameters(model), source="timm"))


@pytest.mark.parametrize("block", ["BasicBlock", "Bottleneck"])
def test_torchvision_resnet(block: str) -> None:
    models = package("torchvision.models.resnet")
    options = {"groups": 4, "width_per_group": 8} if block == "Bottleneck" else {}
    model = built(lambda: models.ResNet(getattr(models, block), [1, 1, 1, 1], num_classes=50, **options))
    compare(model, plans.resnet(parameters(model), source="torchvision"))


# ---- PyTorch's layers -------------------------------------------------------------------------------


def test_mlp() -> None:
    model = built(lambda: torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, 50)
    ))  # fmt: skip
    compare(model, plans.mlp(parameters(model), source="torch"))


def test_a_wrong_law_is_found() -> None:
    model = built(lambda: torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Linear(128, 64)))
    with pytest.raises(AssertionError, match=r"layers\.#\.weight"):
        compare(model, plans.mlp(parameters(model), source="linear"))
