"""How multilayer perceptrons begin: by activation, or as PyTorch's layers do."""

from __future__ import annotations

import itertools
from typing import Any

from ..._common.checks import one_of
from ...initializers import GlorotNormal, HeNormal, LeCunNormal, TorchLinear
from ..parameters import parameters_of
from ..parts import Spelling
from ..plan import Plan
from ..rule import Rule
from .tensors import Law, Tensors, uniform, zeros

__all__ = ["SHAPES", "SOURCES", "mlp"]

SOURCES = ("torch", "relu", "tanh", "selu", "linear")

_WIDTHS = (32, 64, 64, 10)
SHAPES: dict[str, tuple[int, ...]] = {}
for _i, (_in, _out) in enumerate(itertools.pairwise(_WIDTHS)):
    SHAPES |= {f"layers.{_i}.weight": (_out, _in), f"layers.{_i}.bias": (_out,)}

_LAWS = {
    "torch": TorchLinear(), "relu": HeNormal(), "tanh": GlorotNormal(), "selu": LeCunNormal(), "linear": LeCunNormal(),
}  # fmt: skip


def mlp(model: Any, *, source: str) -> Plan:
    """How every parameter of a multilayer perceptron begins.

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter
        Linear layers in the order of the signal, under any names: ``0.weight``, ``2.weight``, ... of `torch.nn.Sequential`,
        ``Dense_0.kernel`` of Flax. In the rules they are ``layers.0``, ``layers.1``, ...
    source : {"torch", "relu", "tanh", "selu", "linear"}
        The activation: He's normal for ReLU, Glorot's for tanh, LeCun's for SELU and linear networks, in all layers, the last
        one too; biases 0. ``"torch"`` is what PyTorch's Linear draws by default: weights and biases U(+-1 / sqrt(fan_in)).

    Returns
    -------
    Plan
        Without rules for parts that the model has not.

    Raises
    ------
    ValueError
        If the model has parameters that are neither weights nor biases of linear layers, or a layer has other inputs than the
        one before has outputs.

    Examples
    --------
    >>> import fastinit.plans as plans
    >>> model = {"0.weight": (64, 32), "0.bias": (64,), "2.weight": (10, 64), "2.bias": (10,)}
    >>> [(row.name, row.law) for row in plans.mlp(model, source="relu").table(model)][2]
    ('layers.1.weight', 'normal(0, 0.176777)')
    """
    one_of("source", source, SOURCES)
    model = parameters_of(model)
    spellings = _spellings(model)
    tensors = Tensors.of("mlp", model, spellings)
    weights = [shape for name, shape in tensors.shapes.items() if name.startswith("layers.") and name.endswith(".weight")]
    for i, (before, after) in enumerate(itertools.pairwise(weights)):
        if before[0] != after[1]:
            raise ValueError(f"model: expected layers in the order of the signal, got {before[0]} outputs of layer {i} of shape "
                             f"{before} before {after}")  # fmt: skip
    laws: list[Law | Rule] = [Rule("layers.*.weight", _LAWS[source], ndim=2)]
    if source == "torch":
        laws += [(f"layers.{i}.bias", uniform(shape[1] ** -0.5)) for i, shape in enumerate(weights)]
    else:
        laws.append(Rule("layers.*.bias", zeros, ndim=1))
    return tensors.plan(source, laws)


def _spellings(model: Any) -> list[Spelling]:
    layers: list[tuple[str, str]] = []
    for one in model:
        module, _, last = one.name.rpartition(".")
        if len(one.shape) == 2 and module and last in ("weight", "kernel"):
            layers.append((module, last))
    found = []
    for i, (module, last) in enumerate(layers):
        found.append(Spelling(f"{module}.{last}", (f"layers.{i}.weight",), layout="io" if last == "kernel" else "oi"))
        found.append(Spelling(f"{module}.bias", (f"layers.{i}.bias",)))
    return found
