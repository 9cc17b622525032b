"""How ResNets begin, by source."""

from __future__ import annotations

from typing import Any

from ..._common.checks import one_of
from ...initializers import TorchLinear, VarianceScaling
from ..parts import Spelling
from ..plan import Plan
from ..rule import Rule
from .tensors import Law, Tensors, module, ones, uniform, zeros

__all__ = ["SHAPES", "SOURCES", "resnet"]

SOURCES = ("timm", "torchvision", "transformers")

_NORM = ("weight", "bias")
SHAPES: dict[str, tuple[int, ...]] = {"conv1.weight": (16, 3, 7, 7), **{f"bn1.{last}": (16,) for last in _NORM}}
for _stage, (_in, _out) in enumerate(((16, 16), (16, 32), (32, 48), (48, 64)), 1):
    SHAPES |= {f"layer{_stage}.0.conv1.weight": (_out, _in, 3, 3), **{f"layer{_stage}.0.bn1.{last}": (_out,) for last in _NORM}}
    SHAPES |= {f"layer{_stage}.0.conv2.weight": (_out, _out, 3, 3), **{f"layer{_stage}.0.bn2.{last}": (_out,) for last in _NORM}}
    if _in != _out:
        SHAPES[f"layer{_stage}.0.downsample.0.weight"] = (_out, _in, 1, 1)
        SHAPES |= {f"layer{_stage}.0.downsample.1.{last}": (_out,) for last in _NORM}
SHAPES |= {"fc.weight": (10, 64), "fc.bias": (10,)}


def resnet(model: Any, *, source: str) -> Plan:
    """How every parameter of a ResNet begins: basic blocks or bottlenecks, with groups, with deep stems.

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter
        As torchvision, timm or Transformers spell it. The architecture's own names are torchvision's: `conv1`, `bn1`,
        ``layer1.0.{conv1,bn1,conv2,bn2,conv3,bn3,downsample.0,downsample.1}``, `fc`.
    source : {"timm", "torchvision", "transformers"}
        Of timm (1.0.31), torchvision (0.29) and Transformers (5.24) alike: convolutions He's normal by fan_out, which does not
        count groups; norms 1 and 0; `fc` PyTorch's default, U(+-1 / sqrt(fan_in)), its bias too. In timm the last norm of a block
        begins at 0, so that the block is the identity.

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
    >>> model = {"layer1.0.conv2.weight": (64, 64, 3, 3), "layer1.0.bn2.weight": (64,)}
    >>> [row.law for row in plans.resnet(model, source="timm").table(model)]
    ['normal(0, 0.0589256)', 'Zeros()']
    """
    one_of("source", source, SOURCES)
    tensors = Tensors.of("resnet", model, _spellings())
    conv = VarianceScaling(2.0, "fan_out", "normal")
    laws: list[Law | Rule] = []
    if source == "timm":
        last = 3 if tensors.has("layer*.*.conv3.weight") else 2
        laws.append((f"layer*.*.bn{last}.weight", zeros))
    for place in ("conv1.**", "layer*.*.{conv1,conv2,conv3}", "layer*.*.downsample.*"):
        laws.append(Rule(f"{place}.weight", conv, ndim=4))
    for place in ("bn1", "conv1.*", "layer*.*.{bn1,bn2,bn3}", "layer*.*.downsample.*"):
        laws += [Rule(f"{place}.weight", ones, ndim=1), Rule(f"{place}.bias", zeros, ndim=1)]
    if "fc.weight" in tensors.shapes:
        laws += [("fc.weight", TorchLinear()), ("fc.bias", uniform(tensors.shapes["fc.weight"][1] ** -0.5))]
    return tensors.plan(source, laws)


def _spellings() -> list[Spelling]:
    spelled = {
        "**.embedder.embedder.convolution": "conv1", "**.embedder.embedder.normalization": "bn1", "classifier.1": "fc",
    }  # fmt: skip
    for stage in range(4):  # Transformers counts stages and convolutions from 0
        theirs, ours = f"**.encoder.stages.{stage}.layers.*", f"layer{stage + 1}.*"
        for k in range(3):
            spelled |= {f"{theirs}.layer.{k}.convolution": f"{ours}.conv{k + 1}"}
            spelled |= {f"{theirs}.layer.{k}.normalization": f"{ours}.bn{k + 1}"}
        spelled |= {f"{theirs}.shortcut.convolution": f"{ours}.downsample.0"}
        spelled |= {f"{theirs}.shortcut.normalization": f"{ours}.downsample.1"}
    return [line for pattern, name in spelled.items() for line in module(pattern, name)]
