"""Standard deviations that depend on the depth of a residual network, as large language models use them.

All are normal with mean 0, whatever the shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._stream.laws import Law
from .base import positive, whole
from .catalogue import registered
from .independent import Independent

__all__ = ["DepthwiseResidual", "ResidualNormal", "SmallInit", "WangResidual"]


class _CentredNormal(Independent):
    def _std(self) -> float:
        raise NotImplementedError

    def _law(self, shape: tuple[int, ...]) -> Law:
        return Law("normal", (0.0, self._std()))


@registered()
@dataclass(frozen=True, repr=False)
class ResidualNormal(_CentredNormal):
    """N(0, std^2 / N), N = `branches_per_layer` x `layers`: for the last layer of each of the N residual branches.

    The sum of all branches then has the variance of one branch. All other weights are N(0, std^2). Radford et al., "Language
    models are unsupervised multitask learners" (GPT-2, 2019); Megatron's scaled initialisation is the same formula.

    Parameters
    ----------
    layers : int, in [1, 2**63)
        Layers of the whole network.
    std : float, in (0, inf), default 0.02
        Standard deviation of the other weights.
    branches_per_layer : int, in [1, 2**63), default 2
        2 for a transformer (attention and feed-forward); 1 for layers with a single branch (Mamba).

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range.

    Examples
    --------
    >>> round(ResidualNormal(layers=8).variance((512, 512)), 9)
    2.5e-05
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
class DepthwiseResidual(_CentredNormal):
    """N(0, std^2 / (2 (layer + 1))): for the last layer of each branch in layer number `layer`, smaller in deeper layers.

    Used by torchtitan to pre-train Llama models. It also truncates the normal to [-2, 2], which is so far out that
    nothing changes. The head of such a model is ``TruncatedNormal(std=width**-0.5, lower=-3, upper=3)``.

    Parameters
    ----------
    layer : int, in [0, 2**63)
        Number of the layer, counted from 0.
    std : float, in (0, inf), default 0.02
        Standard deviation of the other weights.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range.
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
class SmallInit(_CentredNormal):
    """N(0, 2 / (5 width)): for every matrix except the last of a branch. Nguyen & Salazar, "Transformers without tears" (2019).

    Parameters
    ----------
    width : int, in [1, 2**63)
        Width of the model, also for matrices whose fan_in is another.

    Raises
    ------
    TypeError, ValueError
        If `width` is no int or out of range.

    Examples
    --------
    >>> round(SmallInit(width=400).variance((400, 1600)), 9)
    0.001
    """

    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "width")

    def _std(self) -> float:
        return math.sqrt(2 / (5 * self.width))


@registered()
@dataclass(frozen=True, repr=False)
class WangResidual(_CentredNormal):
    """N(0, 4 / (layers^2 width)): for the last matrix of a branch, where the others have `SmallInit`. After GPT-J, by Wang.

    GPT-NeoX uses both.

    Parameters
    ----------
    layers, width : int, in [1, 2**63)
        Number of layers and width of the model.

    Raises
    ------
    TypeError, ValueError
        If an option is no int or out of range.
    """

    layers: int
    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "layers", "width")

    def _std(self) -> float:
        return 2 / (self.layers * math.sqrt(self.width))
