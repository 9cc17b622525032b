"""How T5 begins."""

from __future__ import annotations

from typing import Any

from ..._common.checks import one_of, whole_number
from ...initializers import Constant
from ..parts import Spelling
from ..plan import Plan
from .tensors import Law, Tensors, ends, module, normal

__all__ = ["SHAPES", "SOURCES", "t5"]

SOURCES = ("transformers",)

_D, _F, _H, _KV, _L, _V = 64, 96, 4, 24, 2, 128
_ATTENTION = {"q.weight": (_H * _KV, _D), "k.weight": (_H * _KV, _D), "v.weight": (_H * _KV, _D), "o.weight": (_D, _H * _KV)}
_LAYER = {"norm1.weight": (_D,), **_ATTENTION, "norm2.weight": (_D,), "up.weight": (_F, _D), "down.weight": (_D, _F)}
_CROSS = {"norm_cross.weight": (_D,), **{f"cross.{name}": shape for name, shape in _ATTENTION.items()}}
SHAPES: dict[str, tuple[int, ...]] = {"embedding.weight": (_V, _D)}
for _stack, _parts in (("encoder", _LAYER), ("decoder", {**_LAYER, **_CROSS})):
    SHAPES |= {f"{_stack}.layers.{i}.{name}": shape for i in range(_L) for name, shape in _parts.items()}
    SHAPES |= {f"{_stack}.relative.weight": (32, _H), f"{_stack}.norm.weight": (_D,)}
SHAPES["head.weight"] = (_V, _D)


def t5(model: Any, *, source: str = "transformers", factor: float = 1.0, heads: int | None = None) -> Plan:
    """How every parameter of a T5 begins: encoder and decoder or one of them, gated MLPs or plain ones.

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter
        As Transformers (PyTorch and Flax) or T5X spell it, or with this architecture's own names: `embedding`,
        ``encoder.layers.0.{norm1,q,k,v,o,norm2,gate,up,down}``, `encoder.relative`, `encoder.norm`, the same of the decoder with
        ``decoder.layers.0.{norm_cross,cross.q,cross.k,cross.v,cross.o}``, `head`.
    source : {"transformers"}
        Version 5.24, with d the width, f that of the MLP, h heads of width d_kv: `embedding` and `head` N(0, 1); `q`
        1 / sqrt(d d_kv); `k`, `v`, `gate`, `up` and relative biases 1 / sqrt(d); `o` 1 / sqrt(h d_kv); `down` 1 / sqrt(f);
        norms 1. All of them are normal.
    factor : float, default 1.0
        `initializer_factor`: on everything, also the norms.
    heads : int, optional
        Needed if the model has no relative biases, which have one column for each.

    Returns
    -------
    Plan
        Without rules for parts that the model has not.

    Raises
    ------
    ValueError
        If the model has parameters that the recipe does not know, or the number of heads is unknown or does not fit.

    Examples
    --------
    >>> import fastinit.plans as plans
    >>> model = plans.RECIPES["t5"].shapes
    >>> plan = plans.t5(model)
    >>> print(plan.source)
    t5, transformers
    """
    one_of("source", source, SOURCES)
    tensors = Tensors.of("t5", model, _spellings())
    width = tensors.size("embedding.weight", 1)
    laws: list[Law] = [
        *ends(tensors, normal(factor), normal(factor)),
        ("{encoder,decoder}.relative.weight", normal(factor * width**-0.5)),
        ("{encoder,decoder}.layers.*.{gate,up}.weight", normal(factor * width**-0.5)),
        ("{encoder,decoder}.layers.*.down.weight", normal(factor * tensors.size("*.layers.*.down.weight", 1) ** -0.5)),
        ("{encoder,decoder}.layers.*.{norm1,norm2,norm_cross}.weight", Constant(factor)),
        ("{encoder,decoder}.norm.weight", Constant(factor)),
    ]
    query = normal(factor * (width * _head(tensors, heads)) ** -0.5)
    out = normal(factor * tensors.size("*.layers.*.**.o.weight", 1) ** -0.5)
    for attention in ("{encoder,decoder}.layers.*", "decoder.layers.*.cross"):
        laws += [(f"{attention}.q.weight", query), (f"{attention}.o.weight", out)]
        laws.append((f"{attention}.{{k,v}}.weight", normal(factor * width**-0.5)))
    return tensors.plan(source, laws)


def _head(tensors: Tensors, heads: int | None) -> int:
    """The width of a head."""
    if tensors.has("*.relative.weight"):
        counted = tensors.size("*.relative.weight", 1)
        if heads is not None and heads != counted:
            raise ValueError(f"heads: expected {counted}, as the model's relative biases have, got {heads}")
        heads = counted
    if heads is None:
        raise ValueError("heads: expected the number of heads of a model without relative biases, got None")
    outputs = tensors.size("*.layers.*.**.q.weight", 0)
    if outputs % whole_number("heads", heads):
        raise ValueError(f"heads: expected a divisor of the {outputs} outputs of q, got {heads}")
    return outputs // heads


def _spellings() -> list[Spelling]:
    attention = {"q": ("q", "query"), "k": ("k", "key"), "v": ("v", "value"), "o": ("o", "out")}
    # By stack: the place of each sublayer in Transformers and in T5X, and its norm there.
    encoder = [("0.SelfAttention", "attention", "", "pre_attention_layer_norm", "norm1")]
    decoder = [
        ("0.SelfAttention", "self_attention", "", "pre_self_attention_layer_norm", "norm1"),
        ("1.EncDecAttention", "encoder_decoder_attention", "cross.", "pre_cross_attention_layer_norm", "norm_cross"),
    ]
    spelled = {"shared": "embedding", "lm_head": "head", "token_embedder": "embedding", "decoder.logits_dense": "head"}
    for stack, sublayers in (("encoder", encoder), ("decoder", decoder)):
        block, layer, ours = f"{stack}.block.*.layer", f"{stack}.layers_*", f"{stack}.layers.*"
        for place, theirs, prefix, norm, name in sublayers:
            spelled |= {f"{block}.{place}.{hf}": f"{ours}.{prefix}{one}" for one, (hf, _) in attention.items()}
            spelled |= {f"{layer}.{theirs}.{t5x}": f"{ours}.{prefix}{one}" for one, (_, t5x) in attention.items()}
            spelled |= {f"{block}.{place[0]}.layer_norm": f"{ours}.{name}", f"{layer}.{norm}": f"{ours}.{name}"}
        last = len(sublayers)
        for one, name in {"wi": "up", "wi_0": "gate", "wi_1": "up", "wo": "down"}.items():
            spelled |= {f"{block}.{last}.DenseReluDense.{one}": f"{ours}.{name}", f"{layer}.mlp.{one}": f"{ours}.{name}"}
        spelled |= {
            f"{block}.{last}.layer_norm": f"{ours}.norm2", f"{layer}.pre_mlp_layer_norm": f"{ours}.norm2",
            f"{stack}.embed_tokens": "embedding", f"{stack}.final_layer_norm": f"{stack}.norm",
            f"{stack}.{stack}_norm": f"{stack}.norm",
            f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias": f"{stack}.relative",
        }  # fmt: skip
    spellings = [line for pattern, name in spelled.items() for line in module(pattern, name)]
    for stack in ("encoder", "decoder"):  # T5X: (heads, buckets)
        name = f"{stack}.relative.weight"
        spellings.append(Spelling(f"{stack}.relpos_bias.rel_embedding", (name,), layout="io"))
    return spellings
