"""How vision transformers begin, by source."""

from __future__ import annotations

import math
from typing import Any

from ..._common.checks import one_of
from ...initializers import GlorotUniform, TorchLinear, VarianceScaling
from ..parts import Spelling
from ..plan import Plan
from .tensors import Law, Tensors, module, normal, ones, uniform, zeros

__all__ = ["SHAPES", "SOURCES", "vit"]

SOURCES = ("timm", "timm_jax", "transformers")

_D, _F, _L, _P, _T = 64, 128, 2, 4, 17
SHAPES: dict[str, tuple[int, ...]] = {
    "cls": (1, 1, _D), "positions": (1, _T, _D), "patch.weight": (_D, 3, _P, _P), "patch.bias": (_D,),
    **{
        f"layers.{i}.{name}": shape
        for i in range(_L)
        for name, shape in {
            "norm1.weight": (_D,), "norm1.bias": (_D,), "q.weight": (_D, _D), "k.weight": (_D, _D), "v.weight": (_D, _D),
            "q.bias": (_D,), "k.bias": (_D,), "v.bias": (_D,), "o.weight": (_D, _D), "o.bias": (_D,), "norm2.weight": (_D,),
            "norm2.bias": (_D,), "up.weight": (_F, _D), "up.bias": (_F,), "down.weight": (_D, _F), "down.bias": (_D,),
        }.items()
    },
    "norm.weight": (_D,), "norm.bias": (_D,), "head.weight": (10, _D), "head.bias": (10,),
}  # fmt: skip


def vit(model: Any, *, source: str) -> Plan:
    """How every parameter of a vision transformer begins.

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter
        As timm or Transformers (versions 4 and 5, PyTorch and Flax) spell it, or with this architecture's own names: `cls`,
        `registers`, `mask`, `positions`, `patch`, ``layers.0.{norm1,q,k,v,o,norm2,up,down}``, `norm`, `pooler`, `head`.
    source : {"timm", "timm_jax", "transformers"}
        * ``"timm"`` (1.0.31, `weight_init=""`): linear layers and positions N(0, 0.02); `cls` and `registers` N(0, 1e-6); `patch`
          PyTorch's default, U(+-1 / sqrt(fan_in)), its bias too.
        * ``"timm_jax"`` (`weight_init="jax"`): linear layers Glorot's uniform, Q, K and V with the fans of the three as one
          matrix, biases of the MLP N(0, 1e-6); `patch` LeCun's normal, truncated; `head` 0; the rest as above.
        * ``"transformers"`` (5.24): linear layers, `patch`, `cls` and positions N(0, 0.02); `mask` 0.

        Norms are 1, and biases not named are 0. Truncation at -2 and 2, which is never, is left out.

    Returns
    -------
    Plan
        Without rules for parts that the model has not.

    Raises
    ------
    ValueError
        If the model has parameters that the recipe does not know.

    Examples
    --------
    >>> import fastinit.plans as plans
    >>> model = {"head.weight": (10, 64), "head.bias": (10,)}
    >>> [row.law for row in plans.vit(model, source="timm_jax").table(model)]
    ['Zeros()', 'Zeros()']
    """
    one_of("source", source, SOURCES)
    tensors = Tensors.of("vit", model, _spellings())
    small, linear = normal(1e-6), normal(0.02)
    laws: list[Law] = [("positions", linear)]
    if source == "transformers":
        laws += [("cls", linear), ("mask", zeros), ("patch.weight", linear), ("pooler.weight", linear)]
    else:
        laws += [("{cls,registers}", small), ("fc_norm.weight", ones), ("fc_norm.bias", zeros)]
        laws += [("norm_pre.weight", ones), ("norm_pre.bias", zeros), ("layers.*.{q_norm,k_norm}.weight", ones)]
    if source == "timm":
        laws.append(("patch.weight", TorchLinear()))
        if "patch.bias" in tensors.shapes:
            laws.append(("patch.bias", uniform(math.prod(tensors.shapes["patch.weight"][1:]) ** -0.5)))
    if source == "timm_jax":
        laws += [
            ("patch.weight", VarianceScaling(1.0, "fan_in", "truncated_normal")),
            ("head.weight", zeros),
            *_glorot_of_qkv(tensors),
            ("layers.*.{o,up,down}.weight", GlorotUniform()),
            ("layers.*.{up,down}.bias", small),
        ]
    return tensors.plan(
        source,
        [
            *laws,
            ("layers.*.{q,k,v,o,up,down}.weight", linear),
            ("head.weight", linear),
            ("layers.*.{q,k,v,o,up,down,norm1,norm2,q_norm,k_norm}.bias", zeros),
            ("{patch,head,norm,pooler}.bias", zeros),
            ("layers.*.{norm1,norm2}.weight", ones),
            ("norm.weight", ones),
        ],
    )


def _glorot_of_qkv(tensors: Tensors) -> list[Law]:
    if not tensors.has("layers.*.q.weight"):
        return []
    inputs, outputs = (tensors.size("layers.*.q.weight", 1), sum(tensors.size(f"layers.*.{one}.weight", 0) for one in "qkv"))
    return [("layers.*.{q,k,v}.weight", uniform(math.sqrt(6 / (inputs + outputs))))]


def _spellings() -> list[Spelling]:
    qkv = ("layers.*.q", "layers.*.k", "layers.*.v")
    spelled: dict[str, str | tuple[str, ...]] = {
        # timm
        "patch_embed.proj": "patch", "blocks.*.norm1": "layers.*.norm1", "blocks.*.norm2": "layers.*.norm2",
        "blocks.*.attn.qkv": qkv, "blocks.*.attn.proj": "layers.*.o", "blocks.*.attn.q_norm": "layers.*.q_norm",
        "blocks.*.attn.k_norm": "layers.*.k_norm", "blocks.*.mlp.fc1": "layers.*.up", "blocks.*.mlp.fc2": "layers.*.down",
        # Transformers
        "**.embeddings.patch_embeddings.projection": "patch", "classifier": "head", "**.pooler.dense": "pooler",
        "vit.layernorm": "norm", "layernorm": "norm",
        "**.layers.*.layernorm_before": "layers.*.norm1", "**.layers.*.layernorm_after": "layers.*.norm2",
        "**.layers.*.attention.q_proj": "layers.*.q", "**.layers.*.attention.k_proj": "layers.*.k",
        "**.layers.*.attention.v_proj": "layers.*.v", "**.layers.*.attention.o_proj": "layers.*.o",
        "**.layers.*.mlp.fc1": "layers.*.up", "**.layers.*.mlp.fc2": "layers.*.down",
        # Transformers 4
        "**.encoder.layer.*.layernorm_before": "layers.*.norm1", "**.encoder.layer.*.layernorm_after": "layers.*.norm2",
        "**.encoder.layer.*.attention.attention.query": "layers.*.q", "**.encoder.layer.*.attention.attention.key": "layers.*.k",
        "**.encoder.layer.*.attention.attention.value": "layers.*.v", "**.encoder.layer.*.attention.output.dense": "layers.*.o",
        "**.encoder.layer.*.intermediate.dense": "layers.*.up", "**.encoder.layer.*.output.dense": "layers.*.down",
    }  # fmt: skip
    plain = {
        "cls_token": "cls", "reg_token": "registers", "pos_embed": "positions", "**.embeddings.cls_token": "cls",
        "**.embeddings.mask_token": "mask", "**.embeddings.position_embeddings": "positions",
    }  # fmt: skip
    spellings = [line for pattern, names in spelled.items() for line in module(pattern, names)]
    return [*(Spelling(pattern, (name,)) for pattern, name in plain.items()), *spellings]
