"""Rules that keep a network's training alike when its width grows, and low-rank adapters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._common.arithmetic import ieee
from .._common.checks import boolean, real_number, whole_number
from .._common.dtypes import check_shape
from .base import choice, whole
from .catalogue import registered
from .deterministic import Zeros
from .fans import compute_fans
from .variance_scaling import FanScaled

__all__ = ["LoraA", "LoraB", "MuP", "SpectralScaling", "UnitScaling", "lora_scaling"]

_ROLES = ("input", "hidden", "output")


@registered()
@dataclass(frozen=True, repr=False)
class MuP(FanScaled, distribution="normal"):
    """N(0, 1 / fan_in) for input and hidden layers, N(0, base / fan_in^2) for the output: maximal update parametrisation.

    Yang et al., "Tensor programs V: tuning large neural networks via zero-shot hyperparameter transfer" (2022). The learning
    rates of Adam are a part of it: `learning_rate_multiplier`. Attention logits are divided by d, not sqrt(d).

    Parameters
    ----------
    role : {"hidden", "input", "output"}, default "hidden"
    base : int, default 1
        The fan_in at which all three are what they would be without µP, that of the model whose learning rate was tuned.
    fans
        As in `VarianceScaling`.
    """

    role: str = "hidden"
    base: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "role", _ROLES)
        whole(self, "base")

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return self.base / fan_in**2 if self.role == "output" else 1 / fan_in

    def learning_rate_multiplier(self, shape: Any) -> float:
        """Factor on Adam's learning rate: 1 for inputs, base / fan_in for hidden layers and the output."""
        fan_in = compute_fans(check_shape(shape), self.fans).fan_in
        return 1.0 if self.role == "input" else self.base / max(1, fan_in)


@registered()
@dataclass(frozen=True, repr=False)
class SpectralScaling(FanScaled, distribution="normal"):
    """N(0, s^2) with s = min(1, sqrt(fan_out / fan_in)) / sqrt(fan_in): the spectral norm grows like sqrt(fan_out / fan_in).

    Yang, Simon & Bernstein, "A spectral condition for feature learning" (2023).
    """

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return min(1.0, fan_out / fan_in) / fan_in


@registered()
@dataclass(frozen=True, repr=False)
class UnitScaling(FanScaled, distribution="normal"):
    """N(0, 1): weights of variance 1, and a factor `multiplier` that the forward pass applies.

    Blake, Orr & Luschi, "Unit scaling: out-of-the-box low-precision training" (2023); with µP: Blake et al., "u-µP" (2025).

    Parameters
    ----------
    role : {"hidden", "input", "output"}, default "hidden"
    fans
        As in `VarianceScaling`.
    """

    role: str = "hidden"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "role", _ROLES)

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return 1.0

    def multiplier(self, shape: Any) -> float:
        """Factor of the product: 1 for inputs, 1 / sqrt(fan_in) for hidden layers, 1 / fan_in for the output."""
        fan_in = max(1, compute_fans(check_shape(shape), self.fans).fan_in)
        return {"input": 1.0, "hidden": 1 / math.sqrt(fan_in), "output": 1 / fan_in}[self.role]


@registered()
@dataclass(frozen=True, repr=False)
class LoraA(FanScaled):
    """The matrix A of a low-rank adapter, features to rank: U(-r, r) with r = 1 / sqrt(fan_in), or N(0, 1 / rank^2).

    Hu et al., "LoRA: low-rank adaptation of large language models" (2022). The uniform one has variance 1 / (3 fan_in);
    the rank is the fan_out. B is zero (`LoraB`), so that training starts from the adapted model.

    Parameters
    ----------
    distribution : {"uniform", "normal"}, default "uniform"
    fans
        As in `VarianceScaling`.
    """

    distribution: str = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "distribution", ("uniform", "normal"))

    @property
    def _distribution(self) -> str:  # type: ignore[override]
        return self.distribution

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return 1 / (3 * fan_in) if self.distribution == "uniform" else 1 / fan_out**2


@registered()
@dataclass(frozen=True, repr=False)
class LoraB(Zeros):
    """The matrix B of a low-rank adapter, rank to features: zero (Hu et al. 2022)."""


@ieee
def lora_scaling(alpha: float, rank: int, *, rank_stabilized: bool = False) -> float:
    """Factor of the product B A: alpha / rank, or alpha / sqrt(rank) if `rank_stabilized`.

    With the square root the adapter's output and gradients do not shrink as the rank grows: Kalajdzievski, "A rank stabilization
    scaling factor for fine-tuning with LoRA" (2023).
    """
    factor, count = real_number("alpha", alpha), whole_number("rank", rank)
    boolean("rank_stabilized", rank_stabilized)
    return factor / (math.sqrt(count) if rank_stabilized else count)
