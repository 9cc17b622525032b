"""How Mamba begins, by source."""

from __future__ import annotations

from typing import Any

from ..._common.checks import one_of
from ...initializers import MambaDtBias, MambaLogA, TorchLinear
from ..parts import Spelling
from ..plan import Plan
from .tensors import Law, Tensors, ends, module, normal, ones, uniform, zeros

__all__ = ["SHAPES", "SOURCES", "mamba"]

SOURCES = ("transformers", "reference")

_D, _I, _N, _R, _L, _V = 64, 128, 16, 8, 2, 128
SHAPES: dict[str, tuple[int, ...]] = {
    "embedding.weight": (_V, _D),
    **{
        f"layers.{i}.{name}": shape
        for i in range(_L)
        for name, shape in {
            "norm.weight": (_D,), "A_log": (_I, _N), "D": (_I,), "conv.weight": (_I, 1, 4), "conv.bias": (_I,),
            "in.weight": (2 * _I, _D), "x.weight": (_R + 2 * _N, _I), "dt.weight": (_I, _R), "dt.bias": (_I,),
            "out.weight": (_D, _I),
        }.items()
    },
    "norm.weight": (_D,),
    "head.weight": (_V, _D),
}  # fmt: skip


def mamba(model: Any, *, source: str) -> Plan:
    """How every parameter of a Mamba begins (the first version, whose `A_log` has the states as an axis).

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter
        As state-spaces/mamba or Transformers spell it, or with this architecture's own names: `embedding`,
        ``layers.0.{norm,in,conv,x,dt,out,A_log,D}``, `norm`, `head`. Depth L is counted from it.
    source : {"transformers", "reference"}
        * ``"reference"`` (state-spaces/mamba e9594ce): `embedding` N(0, 0.02); `in`, `x` and `conv` PyTorch's default,
          U(+-1 / sqrt(fan_in)), the bias of `conv` too, and of a `head` of its own; `out` U(+-1 / sqrt(L fan_in)).
        * ``"transformers"`` (5.24): `embedding`, `in`, `x` and `head` N(0, 0.1), `out` and `conv` U(+-1 / sqrt(fan_in)), the
          bias of `conv` 0. Of the setting `rescale_prenorm_residual`, which it has off, nothing is done.

        In both: `dt` U(+-1 / sqrt(fan_in)), its bias `MambaDtBias`; `A_log` ln 1, ln 2, ...; `D` and norms 1; other biases 0.

    Returns
    -------
    Plan
        Without rules for parts that the model has not.

    Raises
    ------
    ValueError
        If the model has parameters that the recipe does not know, or layers are missing.

    Examples
    --------
    >>> import fastinit.plans as plans
    >>> model = {"layers.0.out.weight": (64, 100), "layers.1.out.weight": (64, 100)}
    >>> print(plans.mamba(model, source="reference").table(model)[0].law)
    uniform(-0.0707107, 0.0707107)
    """
    one_of("source", source, SOURCES)
    tensors = Tensors.of("mamba", model, _spellings())
    if source == "transformers":
        laws: list[Law] = [
            *ends(tensors, normal(0.1), normal(0.1)),
            ("layers.*.{in,x}.weight", normal(0.1)),
            ("layers.*.{conv,out}.weight", TorchLinear()),
        ]
    else:
        laws = [*ends(tensors, normal(0.02), TorchLinear()), ("layers.*.{in,x,conv}.weight", TorchLinear())]
        if tensors.has("layers.*.conv.bias"):
            laws.append(("layers.*.conv.bias", uniform(tensors.size("layers.*.conv.weight", 2) ** -0.5)))
        if tensors.has("layers.*.out.weight"):
            inputs = tensors.size("layers.*.out.weight", 1)
            laws.append(("layers.*.out.weight", uniform((tensors.count() * inputs) ** -0.5)))
    return tensors.plan(
        source,
        [
            *laws,
            ("layers.*.dt.weight", TorchLinear()),
            ("layers.*.dt.bias", MambaDtBias()),
            ("layers.*.A_log", MambaLogA()),
            ("layers.*.D", ones),
            ("layers.*.{in,conv,out,norm}.bias", zeros),
            ("layers.*.norm.weight", ones),
            ("norm.weight", ones),
            ("norm.bias", zeros),
        ],
    )


def _spellings() -> list[Spelling]:
    spelled = {
        "backbone.embedding": "embedding", "**.embeddings": "embedding", "**.lm_head": "head", "**.norm_f": "norm",
        "**.layers.*.mixer.in_proj": "layers.*.in", "**.layers.*.mixer.conv1d": "layers.*.conv",
        "**.layers.*.mixer.x_proj": "layers.*.x", "**.layers.*.mixer.dt_proj": "layers.*.dt",
        "**.layers.*.mixer.out_proj": "layers.*.out", "backbone.layers.*.norm": "layers.*.norm",
    }  # fmt: skip
    plain = [Spelling(f"**.layers.*.mixer.{name}", (f"layers.*.{name}",)) for name in ("A_log", "D")]
    return plain + [line for pattern, name in spelled.items() for line in module(pattern, name)]
