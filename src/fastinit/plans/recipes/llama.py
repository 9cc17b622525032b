"""How Llama begins, by source."""

from __future__ import annotations

import math
import re
from typing import Any

from ..._common.checks import one_of, whole_number
from ...initializers import Constant, Initializer, RandomUniform, VarianceScaling
from ..parameters import parameters_of
from ..parts import Spelling
from ..plan import Plan
from .fused import fused_spellings
from .tensors import Law, Tensors, ends, module, normal, ones, three_sigma, uniform, zeros

__all__ = ["OPTIONS", "SHAPES", "SOURCES", "decoder_spellings", "llama"]

SOURCES = (
    "transformers", "torchtitan", "olmo", "olmo_llama", "olmo_llama_depth", "olmo_fan_in", "nanotron", "maxtext", "nanochat",
)  # fmt: skip

_D, _F, _KV, _L, _V = 64, 96, 32, 2, 128
SHAPES: dict[str, tuple[int, ...]] = {
    "embedding.weight": (_V, _D),
    **{
        f"layers.{i}.{name}": shape
        for i in range(_L)
        for name, shape in {
            "norm1.weight": (_D,), "q.weight": (_D, _D), "k.weight": (_KV, _D), "v.weight": (_KV, _D), "o.weight": (_D, _D),
            "norm2.weight": (_D,), "gate.weight": (_F, _D), "up.weight": (_F, _D), "down.weight": (_D, _F),
        }.items()
    },
    "norm.weight": (_D,),
    "head.weight": (_V, _D),
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {"maxtext": {"heads": 4}, "nanotron": {"std": 0.025}}  # for the small model


def llama(model: Any, *, source: str = "transformers", std: float | None = None, heads: int | None = None) -> Plan:
    """How every parameter of a Llama begins: RMSNorm, a gated MLP, grouped queries, fused weights or separate ones.

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter
        As Transformers (PyTorch and Flax), torchtitan, OLMo-core, nanotron or nanochat spell it, or with this architecture's own
        names: `embedding`, ``layers.0.{norm1,q,k,v,o,norm2,gate,up,down}``, `norm`, `head`. Depth L and width d are counted from
        it, and of a fused QKV the sizes: Q has as many outputs as `o` has inputs. Weights of norms begin at 1, but those of
        Gemma, which is a Llama by its names, at 0, as they are added to 1; of shapes alone this is not known.
    source : str, default "transformers"
        * ``"transformers"`` (5.24): all weights N(0, 0.02). Not done: it also sets the row of `pad_token_id`, if any, to 0.
        * ``"torchtitan"`` (b5bcd76): `embedding` N(0, 1); `q`, `k`, `v` and `gate` N(0, 0.02), `o`, `up` and `down` of layer l
          (from 0) N(0, 0.02 / sqrt(2 (l + 1))); `head` 1 / sqrt(d), truncated at three of them. Truncation of the others at -2
          and 2, which is never, is left out. Where embedding and head are one tensor it begins as the head.
        * ``"olmo"`` (OLMo-core fa6c501, `normal`): all weights 0.02, truncated at three of them.
        * ``"olmo_llama"``: so, but `embedding` N(0, 1), `o`, `up` and `down` 0.02 / sqrt(2 L), `head` 1 / sqrt(d).
        * ``"olmo_llama_depth"``: so, with l + 1 instead of L.
        * ``"olmo_fan_in"``: `embedding` N(0, 1), the others 1 / sqrt(fan_in), truncated at three of them.
        * ``"nanotron"`` (2411b02): all weights N(0, std), `o` and `down` std / sqrt(2 L).
        * ``"maxtext"`` (e591f30): variance 1 / fan_in, of `q` divided by the width of a head unless queries are normalised;
          embedding and attention normal, the others truncated at two standard deviations.
        * ``"nanochat"`` (92d63d4): `embedding` N(0, 0.8), `head` N(0, 0.001), `q`, `k` and `v` U(+-sqrt(3 / d)), `up` 0.4 times
          that, `o` and `down` 0. It has neither gates nor weights of norms, but per-layer scalars and value embeddings.
    std : float, optional
        Instead of 0.02: `initializer_range` of Transformers, `init_std` of OLMo-core. Nanotron has no default.
    heads : int, optional
        Of the queries; source "maxtext" needs it, and torchtitan's fused ``wqkv``, which lies head by head.

    Returns
    -------
    Plan
        Without rules for parts that the model has not.

    Raises
    ------
    ValueError
        If the model has parameters that the recipe does not know, layers are missing, or an option that the source needs; if the
        source is another one, or takes no `std`.

    Examples
    --------
    >>> import fastinit.plans as plans
    >>> model = plans.RECIPES["llama"].shapes
    >>> print(plans.llama(model, source="torchtitan").table(model)[0].law)
    normal(0, 1)
    """
    one_of("source", source, SOURCES)
    model = parameters_of(model)
    tensors = Tensors.of("llama", model, decoder_spellings("llama", model, heads))
    if std is not None and source not in ("transformers", "nanotron", "olmo", "olmo_llama", "olmo_llama_depth"):
        raise ValueError(f"std: expected None for source {source!r}, which fixes it, got {std}")
    if std is None and source == "nanotron":
        raise ValueError("std: expected a number for source 'nanotron', which has no default, got None")
    return tensors.plan(source, _laws(tensors, source, 0.02 if std is None else std, heads))


def _laws(tensors: Tensors, source: str, std: float, heads: int | None) -> list[Law]:
    layers = tensors.count()
    if source == "nanochat":
        return _nanochat(tensors, layers)
    # Gemma's norms multiply by 1 + weight.
    one = zeros if any(re.fullmatch("Gemma.*RMSNorm", parameter.kind) for parameter in tensors.model) else ones
    norms: list[Law] = [
        ("layers.*.{norm1,norm2,q_norm,k_norm}.weight", one),
        ("norm.weight", one),
        ("layers.*.{q,k,v,o,gate,up,down}.bias", zeros),
    ]
    if source == "maxtext":
        return [*_maxtext(tensors, heads), *norms]
    if source == "olmo_fan_in":
        laws = ends(tensors, normal(1.0), three_sigma(tensors.size("embedding.weight", 1) ** -0.5))
        for name in ("q", "k", "v", "o", "gate", "up", "down"):
            if tensors.has(f"layers.*.{name}.weight"):
                laws.append((f"layers.*.{name}.weight", three_sigma(tensors.size(f"layers.*.{name}.weight", 1) ** -0.5)))
        return [*laws, *norms]
    law = normal if source in ("transformers", "nanotron", "torchtitan") else three_sigma
    if source in ("torchtitan", "olmo_llama", "olmo_llama_depth"):
        head = three_sigma(tensors.size("embedding.weight", 1) ** -0.5)
        laws = ends(tensors, normal(1.0), head, tied="head" if source == "torchtitan" else "embedding")
    else:
        laws = ends(tensors, law(std), law(std))
    if source in ("torchtitan", "olmo_llama_depth"):
        laws += [(f"layers.{i}.{{o,up,down}}.weight", law(std / math.sqrt(2 * (i + 1)))) for i in range(layers)]
    elif source == "olmo_llama":
        laws.append(("layers.*.{o,up,down}.weight", law(std / math.sqrt(2 * layers))))
    elif source == "nanotron":
        laws.append(("layers.*.{o,down}.weight", law(std / math.sqrt(2 * layers))))
    return [*laws, ("layers.*.{q,k,v,o,gate,up,down}.weight", law(std)), *norms]


def _maxtext(tensors: Tensors, heads: int | None) -> list[Law]:
    dense, truncated = VarianceScaling(1.0, "fan_in", "normal"), VarianceScaling(1.0, "fan_in", "truncated_normal")
    query: Initializer = dense
    if not tensors.has("layers.*.q_norm.weight"):
        if heads is None:
            raise ValueError("heads: expected the number of heads of the queries, which source 'maxtext' scales by, got None")
        heads, outputs = whole_number("heads", heads), tensors.size("layers.*.q.weight", 0)
        if outputs % heads:
            raise ValueError(f"heads: expected a divisor of the {outputs} outputs of q, got {heads}")
        query = VarianceScaling(heads / outputs, "fan_in", "normal")
    return [
        *ends(tensors, dense, truncated),
        ("layers.*.q.weight", query),
        ("layers.*.{k,v,o}.weight", dense),
        ("layers.*.{gate,up,down}.weight", truncated),
    ]


def _nanochat(tensors: Tensors, layers: int) -> list[Law]:
    bound = math.sqrt(3) * tensors.size("embedding.weight", 1) ** -0.5
    last = max(layers - 1, 1)
    return [
        *ends(tensors, normal(0.8), normal(0.001)),
        ("layers.*.{q,k,v}.weight", uniform(bound)),
        ("layers.*.up.weight", uniform(0.4 * bound)),
        ("layers.*.{o,down}.weight", zeros),
        ("value_embeds.*.weight", uniform(bound)),
        ("smear_gate.weight", RandomUniform(0.0, 0.02)),
        ("layers.*.ve_gate.weight", RandomUniform(0.0, 0.02)),
        ("resid_lambdas", Constant([1.15 - 0.10 * i / last for i in range(layers)])),
        ("x0_lambdas", Constant([0.20 - 0.15 * i / last for i in range(layers)])),
        ("smear_lambda", zeros),
        ("backout_lambda", Constant(0.2)),
    ]


_SPELLED: dict[str, str | tuple[str, ...]] = {
    # Transformers, PyTorch and Flax
    "**.embed_tokens": "embedding", "**.model.norm": "norm", "**.lm_head": "head",
    "**.layers.*.input_layernorm": "layers.*.norm1", "**.layers.*.post_attention_layernorm": "layers.*.norm2",
    "**.layers.*.self_attn.q_proj": "layers.*.q", "**.layers.*.self_attn.k_proj": "layers.*.k",
    "**.layers.*.self_attn.v_proj": "layers.*.v", "**.layers.*.self_attn.o_proj": "layers.*.o",
    "**.layers.*.self_attn.q_norm": "layers.*.q_norm", "**.layers.*.self_attn.k_norm": "layers.*.k_norm",
    "**.layers.*.mlp.gate_proj": "layers.*.gate", "**.layers.*.mlp.up_proj": "layers.*.up",
    "**.layers.*.mlp.down_proj": "layers.*.down", "**.layers.*.mlp.gate_up_proj": ("layers.*.gate", "layers.*.up"),
    # torchtitan, before and since its projections stand in a module of their own
    "tok_embeddings": "embedding", "output": "head",
    "layers.*.attention_norm": "layers.*.norm1", "layers.*.ffn_norm": "layers.*.norm2",
    "layers.*.attention.wq": "layers.*.q", "layers.*.attention.wk": "layers.*.k", "layers.*.attention.wv": "layers.*.v",
    "layers.*.attention.qkv_linear.wq": "layers.*.q", "layers.*.attention.qkv_linear.wk": "layers.*.k",
    "layers.*.attention.qkv_linear.wv": "layers.*.v",
    "layers.*.attention.wo": "layers.*.o", "layers.*.feed_forward.w1": "layers.*.gate",
    "layers.*.feed_forward.w3": "layers.*.up", "layers.*.feed_forward.w2": "layers.*.down",
    # OLMo-core
    "embeddings": "embedding", "lm_head.norm": "norm", "lm_head.w_out": "head",
    "blocks.*.attention_norm": "layers.*.norm1", "blocks.*.feed_forward_norm": "layers.*.norm2",
    "blocks.*.attention.w_q": "layers.*.q", "blocks.*.attention.w_k": "layers.*.k", "blocks.*.attention.w_v": "layers.*.v",
    "blocks.*.attention.w_out": "layers.*.o", "blocks.*.attention.q_norm": "layers.*.q_norm",
    "blocks.*.attention.k_norm": "layers.*.k_norm", "blocks.*.feed_forward.w1": "layers.*.gate",
    "blocks.*.feed_forward.w3": "layers.*.up", "blocks.*.feed_forward.w2": "layers.*.down",
    # nanotron
    "**.token_position_embeddings.pp_block.token_embedding": "embedding", "**.final_layer_norm.pp_block": "norm",
    "**.lm_head.pp_block": "head", "**.decoder.*.pp_block.input_layernorm": "layers.*.norm1",
    "**.decoder.*.pp_block.post_attention_layernorm": "layers.*.norm2", "**.decoder.*.pp_block.attn.o_proj": "layers.*.o",
    "**.decoder.*.pp_block.mlp.gate_up_proj": ("layers.*.gate", "layers.*.up"),
    "**.decoder.*.pp_block.mlp.down_proj": "layers.*.down",
    # nanochat
    "transformer.wte": "embedding", "transformer.h.*.attn.c_q": "layers.*.q", "transformer.h.*.attn.c_k": "layers.*.k",
    "transformer.h.*.attn.c_v": "layers.*.v", "transformer.h.*.attn.c_proj": "layers.*.o",
    "transformer.h.*.attn.ve_gate": "layers.*.ve_gate", "transformer.h.*.mlp.c_fc": "layers.*.up",
    "transformer.h.*.mlp.c_proj": "layers.*.down",
}  # fmt: skip

# Modules with Q, K and V side by side, and torchtitan's, head by head.
_FUSED = ("**.layers.*.self_attn.qkv_proj", "blocks.*.attention.w_qkv", "**.decoder.*.pp_block.attn.qkv_proj")
_BY_HEAD = ("layers.*.attention.qkv_linear.wqkv",)


def decoder_spellings(architecture: str, model: Any, heads: int | None) -> list[Spelling]:
    """The map of names of a decoder with a gated MLP."""
    spellings = [line for pattern, names in _SPELLED.items() for line in module(pattern, names)]
    tensors = Tensors.of(architecture, model, spellings)
    return spellings + fused_spellings(tensors, side_by_side=_FUSED, by_head=_BY_HEAD, heads=heads)
