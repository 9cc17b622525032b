"""How Mixtral and other mixtures of experts begin, by source."""

from __future__ import annotations

import math
from typing import Any

from ..._common.checks import one_of
from ..parameters import parameters_of
from ..parts import Spelling
from ..plan import Plan
from .llama import decoder_spellings
from .tensors import Law, Tensors, ends, module, normal, ones, three_sigma, zeros

__all__ = ["SHAPES", "SOURCES", "mixtral"]

SOURCES = ("transformers", "torchtitan")

_D, _F, _KV, _L, _V, _E = 64, 96, 32, 2, 128, 4
SHAPES: dict[str, tuple[int, ...]] = {
    "embedding.weight": (_V, _D),
    **{
        f"layers.{i}.{name}": shape
        for i in range(_L)
        for name, shape in {
            "norm1.weight": (_D,), "q.weight": (_D, _D), "k.weight": (_KV, _D), "v.weight": (_KV, _D), "o.weight": (_D, _D),
            "norm2.weight": (_D,), "router.weight": (_E, _D),
            **{
                f"experts.{k}.{part}.weight": (_D, _F) if part == "down" else (_F, _D)
                for k in range(_E) for part in ("gate", "up", "down")
            },
        }.items()
    },
    "norm.weight": (_D,),
    "head.weight": (_V, _D),
}  # fmt: skip


def mixtral(model: Any, *, source: str = "transformers", std: float | None = None, heads: int | None = None) -> Plan:
    """How every parameter of a mixture of experts begins: Mixtral's, and DeepSeek-V3's with its latent attention.

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter
        As Transformers (experts one by one, or of version 5 in tensors with three axes) or torchtitan spell it, or with this
        architecture's own names: those of `llama`, ``layers.0.router``, ``layers.0.experts.0.{gate,up,down}``,
        ``layers.0.shared.{gate,up,down}``, and of latent attention ``layers.0.{q_a,q_a_norm,q_b,kv_a,kv_a_norm,kv_b}``.
    source : {"transformers", "torchtitan"}, default "transformers"
        * ``"transformers"`` (5.24): all weights N(0, 0.02), norms 1, biases 0.
        * ``"torchtitan"`` (b5bcd76, its DeepSeek-V3): `embedding` N(0, 1); weights N(0, 0.02), but `o`, `router` and every `up`
          and `down` of layer l (from 0) N(0, 0.02 / sqrt(2 (l + 1))); `head` 1 / sqrt(d), truncated at three of them. Truncation
          of the others at -2 and 2, which is never, is left out.
    std : float, optional
        Instead of 0.02: `initializer_range` of Transformers.
    heads : int, optional
        Of the queries; torchtitan's fused ``wqkv`` needs it, which lies head by head.

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
    Transformers also sets the row of `pad_token_id`, if any, to 0. That is not done.

    Examples
    --------
    >>> import fastinit.plans as plans
    >>> model = {"layers.0.experts.0.up.weight": (96, 64), "layers.0.router.weight": (8, 64)}
    >>> [row.std for row in plans.mixtral(model).table(model)]
    [0.02, 0.02]
    """
    one_of("source", source, SOURCES)
    model = parameters_of(model)
    tensors = Tensors.of("mixtral", model, [*_spellings(), *decoder_spellings("mixtral", model, heads)])
    if source == "transformers":
        inner = normal(0.02 if std is None else std)
        laws: list[Law] = ends(tensors, inner, inner)
    else:
        if std is not None:
            raise ValueError(f"std: expected None for source {source!r}, which fixes it, got {std}")
        inner = normal(0.02)
        laws = ends(tensors, normal(1.0), three_sigma(tensors.size("{embedding,head}.weight", 1) ** -0.5), tied="head")
        for i in range(tensors.count()):
            scaled = normal(0.02 / math.sqrt(2 * (i + 1)))
            laws.append((f"layers.{i}.{{o,router,up,down}}.weight", scaled))
            laws += [(f"layers.{i}.{place}.{{up,down}}.weight", scaled) for place in ("shared", "experts.*")]
    return tensors.plan(
        source,
        [
            *laws,
            ("layers.*.{q,k,v,o,router,gate,up,down,q_a,q_b,kv_a,kv_b}.weight", inner),
            ("layers.*.experts.*.{gate,up,down}.weight", inner),
            ("layers.*.shared.{gate,up,down}.weight", inner),
            ("layers.*.{norm1,norm2,q_norm,k_norm,q_a_norm,kv_a_norm}.weight", ones),
            ("norm.weight", ones),
            ("layers.*.{q,k,v,o,router,gate,up,down,q_a,q_b,kv_a,kv_b}.bias", zeros),
        ],
    )


def _spellings() -> list[Spelling]:
    spellings: list[Spelling] = []

    def stacked(pattern: str, *parts: str) -> None:
        names = tuple(f"layers.*.experts.#.{part}.weight" for part in parts)
        spellings.append(Spelling(pattern, names, batch_axes=(0,)))

    # Transformers 5
    stacked("**.layers.*.mlp.experts.gate_up_proj", "gate", "up")
    stacked("**.layers.*.mlp.experts.down_proj", "down")
    # torchtitan, now and before
    for part, now, before in (("gate", "w1_EFD", "w1"), ("down", "w2_EDF", "w2"), ("up", "w3_EFD", "w3")):
        stacked(f"layers.*.moe.routed_experts.inner_experts.{now}", part)
        stacked(f"layers.*.moe.experts.{before}", part)
        spellings += module(f"layers.*.moe.shared_experts.{before}", f"layers.*.shared.{part}")
        # Transformers 4: Mixtral's experts, and DeepSeek-V3's
        spellings += module(f"**.layers.*.block_sparse_moe.experts.*.{before}", f"layers.*.experts.*.{part}")
        spellings += module(f"**.layers.*.mlp.experts.*.{part}_proj", f"layers.*.experts.*.{part}")
        spellings += module(f"**.layers.*.mlp.shared_experts.{part}_proj", f"layers.*.shared.{part}")
    for pattern, name in {
        "**.layers.*.mlp.gate": "router", "**.layers.*.block_sparse_moe.gate": "router", "layers.*.moe.router.gate": "router",
        "**.layers.*.self_attn.q_a_proj": "q_a", "layers.*.attention.wq_a": "q_a",
        "**.layers.*.self_attn.q_a_layernorm": "q_a_norm", "layers.*.attention.q_norm": "q_a_norm",
        "**.layers.*.self_attn.q_b_proj": "q_b", "layers.*.attention.wq_b": "q_b",
        "**.layers.*.self_attn.kv_a_proj_with_mqa": "kv_a", "layers.*.attention.wkv_a": "kv_a",
        "**.layers.*.self_attn.kv_a_layernorm": "kv_a_norm", "layers.*.attention.kv_norm": "kv_a_norm",
        "**.layers.*.self_attn.kv_b_proj": "kv_b", "layers.*.attention.wkv_b": "kv_b",
    }.items():  # fmt: skip
        spellings += module(pattern, f"layers.*.{name}")
    return spellings
