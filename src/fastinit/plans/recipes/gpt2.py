"""How GPT-2 begins, by source."""

from __future__ import annotations

import math
from typing import Any

from ..._common.checks import one_of
from ...initializers.base import Initializer
from ..parameters import Parameter, parameters_of
from ..parts import Spelling
from ..plan import Plan
from .fused import fused_spellings
from .tensors import Law, Tensors, ends, module, normal, ones, zeros

__all__ = ["SHAPES", "SOURCES", "gpt2"]

SOURCES = ("transformers", "nanogpt", "megatron", "neox")

_D, _L, _V, _T = 64, 2, 128, 32
SHAPES: dict[str, tuple[int, ...]] = {
    "embedding.weight": (_V, _D),
    "positions.weight": (_T, _D),
    **{
        f"layers.{i}.{name}": shape
        for i in range(_L)
        for name, shape in {
            "norm1.weight": (_D,), "norm1.bias": (_D,), "q.weight": (_D, _D), "k.weight": (_D, _D), "v.weight": (_D, _D),
            "q.bias": (_D,), "k.bias": (_D,), "v.bias": (_D,), "o.weight": (_D, _D), "o.bias": (_D,), "norm2.weight": (_D,),
            "norm2.bias": (_D,), "up.weight": (4 * _D, _D), "up.bias": (4 * _D,), "down.weight": (_D, 4 * _D), "down.bias": (_D,),
        }.items()
    },
    "norm.weight": (_D,),
    "norm.bias": (_D,),
    "head.weight": (_V, _D),
}  # fmt: skip


def gpt2(model: Any, *, source: str = "transformers", std: float | None = None, heads: int | None = None) -> Plan:
    """How every parameter of a GPT-2 begins: learned positions, LayerNorm, fused or separate Q, K and V.

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter
        As Transformers (PyTorch and Flax; also its GPT-NeoX), nanoGPT or Megatron spell it, or with this architecture's own
        names: `embedding`, `positions`, ``layers.0.{norm1,q,k,v,o,norm2,up,down}``, `norm`, `head`. Depth L and width d are
        counted from it.
    source : {"transformers", "nanogpt", "megatron", "neox"}, default "transformers"
        ``"transformers"`` (5.24), ``"nanogpt"`` (3adf61e) and ``"megatron"`` (Core 0.20): weights N(0, 0.02), `o` and `down`
        N(0, 0.02 / sqrt(2 L)). ``"neox"`` (GPT-NeoX, ea7aefd, `small_init` and `wang_init`): N(0, sqrt(2 / (5 d))), `o` and
        `down` N(0, 2 / (L sqrt(d))). Biases are 0 and norms 1 in all of them.
    std : float, optional
        Instead of 0.02: `initializer_range` of Transformers, `init_method_std` of Megatron.
    heads : int, optional
        Of the queries; Megatron's fused ``linear_qkv`` and ``query_key_value`` of GPT-NeoX need it, which lie head by head.

    Returns
    -------
    Plan
        Without rules for parts that the model has not.

    Raises
    ------
    ValueError
        If the model has parameters that the recipe does not know, or layers are missing; if the source is another one, or takes
        no `std`.

    Notes
    -----
    Whether weights are (in, out), as Transformers' Conv1D holds them, is seen by `c_attn` and `c_fc`, whose outputs are more than
    their inputs. A plan is for models with the order of axes of the one that it was made for.

    Examples
    --------
    >>> import fastinit.plans as plans
    >>> model = {"wte.weight": (50, 8), "h.0.attn.c_attn.weight": (24, 8), "h.0.attn.c_proj.weight": (8, 8)}
    >>> print(plans.gpt2(model, source="nanogpt").table(model)[4].law)
    normal(0, 0.0141421)
    """
    one_of("source", source, SOURCES)
    model = parameters_of(model)
    tensors = Tensors.of("gpt2", model, _spellings(model, heads))
    layers = tensors.count()
    if std is not None and source not in ("transformers", "megatron"):
        raise ValueError(f"std: expected None for source {source!r}, which fixes it, got {std}")
    if source == "neox":
        width = tensors.size("embedding.weight", 1)
        inner, residual = normal(math.sqrt(2 / (5 * width))), normal(2 / layers / math.sqrt(width))
    else:
        inner, residual = (normal((0.02 if std is None else std) / scale) for scale in (1.0, math.sqrt(2 * layers)))
    return tensors.plan(source, _laws(tensors, inner, residual))


def _laws(tensors: Tensors, inner: Initializer, residual: Initializer) -> list[Law]:
    return [
        *ends(tensors, inner, inner),
        ("positions.weight", inner),
        ("layers.*.{q,k,v,up}.weight", inner),
        ("layers.*.{o,down}.weight", residual),
        ("layers.*.{q,k,v,o,up,down}.bias", zeros),
        ("layers.*.{norm1,norm2}.weight", ones),
        ("layers.*.{norm1,norm2}.bias", zeros),
        ("norm.weight", ones),
        ("norm.bias", zeros),
    ]


def _spellings(model: tuple[Parameter, ...], heads: int | None) -> list[Spelling]:
    # Transformers and nanoGPT have the same names, but the former's Conv1D holds (in, out). Outputs are more than inputs; c_attn
    # decides, as an MLP may be narrow.
    layout = "oi"
    for last in (".c_fc.weight", ".c_attn.weight"):
        for one in model:
            if one.name.endswith(last):
                layout = "io" if one.shape[-1] > one.shape[-2] else "oi"
    qkv = ("layers.*.q", "layers.*.k", "layers.*.v")
    linear = {
        "**.h.*.attn.c_attn": qkv, "**.h.*.attn.c_proj": "layers.*.o", "**.h.*.mlp.c_fc": "layers.*.up",
        "**.h.*.mlp.c_proj": "layers.*.down",
    }  # fmt: skip
    others = {
        "**.wte": "embedding", "**.wpe": "positions", "**.h.*.ln_1": "layers.*.norm1", "**.h.*.ln_2": "layers.*.norm2",
        "**.ln_f": "norm", "**.lm_head": "head",
        # Megatron Core
        "embedding.word_embeddings": "embedding", "embedding.position_embeddings": "positions", "output_layer": "head",
        "decoder.layers.*.input_layernorm": "layers.*.norm1", "decoder.layers.*.pre_mlp_layernorm": "layers.*.norm2",
        "decoder.layers.*.self_attention.linear_proj": "layers.*.o",
        "decoder.layers.*.mlp.linear_fc1": "layers.*.up", "decoder.layers.*.mlp.linear_fc2": "layers.*.down",
        "decoder.final_layernorm": "norm",
        # GPT-NeoX of Transformers
        "**.embed_in": "embedding", "embed_out": "head", "**.layers.*.input_layernorm": "layers.*.norm1",
        "**.layers.*.post_attention_layernorm": "layers.*.norm2", "**.layers.*.attention.dense": "layers.*.o",
        "**.layers.*.mlp.dense_h_to_4h": "layers.*.up", "**.layers.*.mlp.dense_4h_to_h": "layers.*.down",
        "**.final_layer_norm": "norm",
    }  # fmt: skip
    spellings = []
    for pattern, names in linear.items():  # the kernel of Flax's Conv1D is no Dense's: it is (out, in)
        spellings += module(pattern, names, weight=layout, kernel="oi")
    for pattern, name in others.items():
        spellings += module(pattern, name)
    for last in ("weight", "bias"):  # the norms that Transformer Engine fuses into the linear layers behind them
        spellings += [
            Spelling(f"decoder.layers.*.self_attention.linear_qkv.layer_norm_{last}", (f"layers.*.norm1.{last}",)),
            Spelling(f"decoder.layers.*.mlp.linear_fc1.layer_norm_{last}", (f"layers.*.norm2.{last}",)),
        ]
    tensors = Tensors.of("gpt2", model, spellings)
    by_head = ("decoder.layers.*.self_attention.linear_qkv", "**.layers.*.attention.query_key_value")
    return spellings + fused_spellings(tensors, by_head=by_head, heads=heads)
