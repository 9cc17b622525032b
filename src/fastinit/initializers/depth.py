"""Standard deviations that depend on the depth of a residual network, as large language models are initialised.

All are normals of mean 0, whatever the shape; N counts residual branches, two a layer (attention and feed-forward).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._stream.sampling import Law
from .base import positive, whole
from .catalogue import registered
from .independent import Drawn

__all__ = ["DepthwiseResidual", "ResidualNormal", "SmallInit", "WangResidual"]


class _Normal(Drawn):
    def _std(self) -> float:
        raise NotImplementedError

    def _law(self, shape: tuple[int, ...]) -> Law:
        return Law("normal", (0.0, self._std()))


@registered()
@dataclass(frozen=True, repr=False)
class ResidualNormal(_Normal):
    """N(0, std^2 / N), N = `branches_per_layer` x `layers`: the last layer of each residual branch.

    So that the sum of all branches has the variance of one: Radford et al., "Language models are unsupervised multitask
    learners" (GPT-2, 2019); Megatron's scaled initialisation is the same formula. All other weights are N(0, std^2).

    Parameters
    ----------
    layers : int
    std : float, default 0.02
    branches_per_layer : int, default 2
        1 for layers of a single branch (Mamba).
    """

    layers: int
    std: float = 0.02
    branches_per_layer: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "layers", "branches_per_layer")
        positive(self, "std")

    def _std(self) -> float:
        return self.std / math.sqrt(self.branches_per_layer * self.layers)


@registered()
@dataclass(frozen=True, repr=False)
class DepthwiseResidual(_Normal):
    """N(0, std^2 / (2 (layer + 1))): the last layer of the branches of layer number `layer`, counted from 0.

    The deeper the layer the smaller: Llama models as pre-trained by torchtitan, which also cuts
    the normal, at +-2 absolute: never in effect. The head of such a model is
    ``TruncatedNormal(std=width**-0.5, lower=-3, upper=3)``.

    Parameters
    ----------
    layer : int
    std : float, default 0.02
    """

    layer: int
    std: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "layer", least=0)
        positive(self, "std")

    def _std(self) -> float:
        return self.std / math.sqrt(2 * (self.layer + 1))


@registered()
@dataclass(frozen=True, repr=False)
class SmallInit(_Normal):
    """N(0, 2 / (5 width)): Nguyen & Salazar, "Transformers without tears" (2019). Every matrix but the last of a branch.

    Parameters
    ----------
    width : int
        Of the model, also for matrices of another fan_in.
    """

    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "width")

    def _std(self) -> float:
        return math.sqrt(2 / (5 * self.width))


@registered()
@dataclass(frozen=True, repr=False)
class WangResidual(_Normal):
    """N(0, 4 / (layers^2 width)): the last matrix of a branch beside `SmallInit`, after Wang's GPT-J; used by GPT-NeoX.

    Parameters
    ----------
    layers, width : int
        Of the model.
    """

    layers: int
    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "layers", "width")

    def _std(self) -> float:
        return 2 / (self.layers * math.sqrt(self.width))
