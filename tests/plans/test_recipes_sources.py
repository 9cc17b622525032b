"""Recipes against tables that were read from the code of their sources: repository, file and commit stand above each.

Each table gives, for the recipe's own small model, the law of every tensor in numbers written out here once more. Sources that
are Python packages are compared with the packages besides, in tests/dialects/test_recipes_parity.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from fastinit.plans import RECIPES

Numbers = tuple[float, ...]
Law = tuple[str, Numbers] | str  # name and parameters, or the repr of an initializer without independent elements
D, F, L = 64, 96, 2  # widths and depth of the small models


def n(std: float) -> Law:
    return "normal", (0.0, std)


def u(bound: float) -> Law:
    return "uniform", (-bound, bound)


def t3(std: float) -> Law:
    return "truncated_normal", (0.0, std, -3.0, 3.0)


def trunc(std: float) -> Law:
    """torch.nn.init.trunc_normal_(std=std), bounds -2 and 2: beyond 90 standard deviations it is no other law."""
    assert 2 / std > 90
    return n(std)


def vs(fan: float) -> Law:
    """jax.nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")."""
    return "truncated_normal", (0.0, fan**-0.5 / 0.87962566103423978, -2.0, 2.0)


ZEROS, ONES = "Zeros()", "Ones()"
NORMS = {"norm1": ONES, "norm2": ONES, "norm": ONES}

# By architecture and source: of each role of the small model the law, or a function of the number of its layer.
TABLES: dict[tuple[str, str], dict[str, Law | Callable[[int], Law]]] = {}

# karpathy/nanoGPT 3adf61e, model.py: GPT.__init__ and _init_weights.
# NVIDIA/Megatron-LM d98e8a6, megatron/core/utils.py: init_method_normal, scaled_init_method_normal; transformer_config.py.
for source in ("nanogpt", "megatron"):
    TABLES["gpt2", source] = {
        "embedding": n(0.02), "positions": n(0.02), "head": n(0.02), "q": n(0.02), "k": n(0.02), "v": n(0.02), "up": n(0.02),
        "o": n(0.02 / math.sqrt(2 * L)), "down": n(0.02 / math.sqrt(2 * L)), "bias": ZEROS, **NORMS,
    }  # fmt: skip

# EleutherAI/gpt-neox ea7aefd, megatron/model/init_functions.py: small_init_init_method, wang_init_method; word_embeddings.py and
# gpt2_model.py pass the first to embeddings, positions and the output layer; configs/*.yml name both.
_small, _wang = n(math.sqrt(2 / (5 * D))), n(2 / L / math.sqrt(D))
TABLES["gpt2", "neox"] = {
    **dict.fromkeys(("embedding", "positions", "head", "q", "k", "v", "up"), _small), "o": _wang, "down": _wang, "bias": ZEROS,
    **NORMS,
}  # fmt: skip

# pytorch/torchtitan b5bcd76, torchtitan/models/llama3/__init__.py, common/param_init.py; w1 is the gate, w3 is up.
_titan = {
    "embedding": n(1.0), "head": t3(D**-0.5), **dict.fromkeys(("q", "k", "v", "gate"), trunc(0.02)),
    **dict.fromkeys(("o", "up", "down"), lambda i: trunc(0.02 / (2 * (i + 1)) ** 0.5)), **NORMS,
}  # fmt: skip
TABLES["llama", "torchtitan"] = _titan
# The same, torchtitan/models/deepseek_v3/__init__.py.
TABLES["mixtral", "torchtitan"] = {**_titan, "router": lambda i: trunc(0.02 / (2 * (i + 1)) ** 0.5)}

# allenai/OLMo-core fa6c501, src/olmo_core/nn/transformer/init.py, src/olmo_core/nn/attention/__init__.py: init_weights.
_inner = ("q", "k", "v", "gate")
_out = ("o", "up", "down")
TABLES["llama", "olmo"] = {**dict.fromkeys(("embedding", "head", *_inner, *_out), t3(0.02)), **NORMS}
TABLES["llama", "olmo_llama"] = {
    "embedding": n(1.0), "head": t3(D**-0.5), **dict.fromkeys(_inner, t3(0.02)), **dict.fromkeys(_out, t3(0.02 / (2 * L) ** 0.5)),
    **NORMS,
}  # fmt: skip
TABLES["llama", "olmo_llama_depth"] = {
    **TABLES["llama", "olmo_llama"], **dict.fromkeys(_out, lambda i: t3(0.02 / (2 * (i + 1)) ** 0.5))
}  # fmt: skip
TABLES["llama", "olmo_fan_in"] = {
    "embedding": n(1.0), "head": t3(D**-0.5), **dict.fromkeys((*_inner, "o", "up"), t3(D**-0.5)), "down": t3(F**-0.5), **NORMS,
}  # fmt: skip

# huggingface/nanotron 2411b02, src/nanotron/scaling/parametrization.py: StandardParametrizator; std is 0.025 here.
TABLES["llama", "nanotron"] = {
    **dict.fromkeys(("embedding", "head", "q", "k", "v", "gate", "up"), n(0.025)), "o": n(0.025 / math.sqrt(2 * L)),
    "down": n(0.025 / math.sqrt(2 * L)), **NORMS,
}  # fmt: skip

# AI-Hypercomputer/maxtext e591f30, src/maxtext/layers/{initializers,attentions,linears,decoders}.py; 4 heads of width 16. The
# embedding's variance_scaling(out_axis=0) has in_axis -2, the same axis, and so fan_in = d.
TABLES["llama", "maxtext"] = {
    "embedding": n(D**-0.5), "head": vs(D), "q": n(D**-0.5 / 16**0.5), "k": n(D**-0.5), "v": n(D**-0.5), "o": n(D**-0.5),
    "gate": vs(D), "up": vs(D), "down": vs(F), **NORMS,
}  # fmt: skip

# karpathy/nanochat 92d63d4, nanochat/gpt.py: GPT.init_weights.
_s = 3**0.5 * D**-0.5
TABLES["llama", "nanochat"] = {
    "embedding": n(0.8), "head": n(0.001), "q": u(_s), "k": u(_s), "v": u(_s), "o": ZEROS, "up": u(0.4 * _s), "down": ZEROS,
}  # fmt: skip

# state-spaces/mamba e9594ce, mamba_ssm/modules/mamba_simple.py: Mamba.__init__; models/mixer_seq_simple.py: _init_weights. What
# they leave alone is PyTorch's default, U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)). Inner width 128, rank 8, kernel 4.
TABLES["mamba", "reference"] = {
    "embedding": n(0.02), "head": u(64**-0.5), "in": u(64**-0.5), "x": u(128**-0.5), "conv": u(4**-0.5), "conv.bias": u(4**-0.5),
    "dt": u(8**-0.5), "dt.bias": "MambaDtBias()", "out": u((128 * L) ** -0.5), "A_log": "MambaLogA()", "D": ONES, "norm": ONES,
}  # fmt: skip

# timm 1.0.31, timm/models/vision_transformer.py: init_weights, init_weights_vit_timm, init_weights_vit_jax; patches of 3 x 4 x 4.
TABLES["vit", "timm"] = {
    "cls": n(1e-6), "positions": trunc(0.02), "patch": u(48**-0.5), "patch.bias": u(48**-0.5), "bias": ZEROS, **NORMS,
    **dict.fromkeys(("q", "k", "v", "o", "up", "down", "head"), trunc(0.02)),
}  # fmt: skip
TABLES["vit", "timm_jax"] = {
    "cls": n(1e-6), "positions": trunc(0.02), "patch": vs(48), "patch.bias": ZEROS, "bias": ZEROS, "up.bias": n(1e-6),
    "down.bias": n(1e-6), "head": ZEROS, **NORMS, **dict.fromkeys(("q", "k", "v"), u((6 / (D + 3 * D)) ** 0.5)),
    "o": u((6 / (D + D)) ** 0.5), "up": u((6 / (D + 2 * D)) ** 0.5), "down": u((6 / (D + 2 * D)) ** 0.5),
}  # fmt: skip


def law_of(plan: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Law]:
    found: dict[str, Law] = {}
    for planned in plan.resolve(shapes):
        (piece,) = planned.pieces
        law = piece.initializer.law(piece.part.shape)
        found[piece.part.name] = repr(piece.initializer) if law is None else (law.name, tuple(law.parameters))
    return found


@pytest.mark.parametrize(("architecture", "source"), TABLES)
def test_every_tensor_begins_as_the_source_says(architecture: str, source: str) -> None:
    recipe, table = RECIPES[architecture], TABLES[architecture, source]
    shapes = recipe.shapes
    if source == "nanochat":
        shapes = {name: shape for name, shape in shapes.items() if ".gate." not in name and "norm" not in name}
    laws = law_of(recipe.function(shapes, source=source, **recipe.options.get(source, {})), shapes)
    used = set()
    for name, law in laws.items():
        layer = re.search(r"layers\.(\d+)\.", name)
        before, _, last = name.rpartition(".")
        role = before.rpartition(".")[2] if last in ("weight", "bias") else last
        known = role if last != "bias" else f"{role}.bias" if f"{role}.bias" in table else "bias"
        used.add(known)
        expected = table[known]
        if callable(expected):
            assert layer is not None
            expected = expected(int(layer[1]))
        if isinstance(expected, str) or isinstance(law, str):
            assert law == expected, name
        else:
            assert law[0] == expected[0], name
            assert law[1] == pytest.approx(expected[1], rel=1e-12), name
    assert used == set(table)
