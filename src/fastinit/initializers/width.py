"""Rules under which training stays the same when a network becomes wider, and low-rank adapters."""

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

    It also changes the learning rates of Adam (`learning_rate_multiplier`), and divides attention logits by d, not by sqrt(d).
    Yang et al., "Tensor programs V: tuning large neural networks via zero-shot hyperparameter transfer" (2022).

    Parameters
    ----------
    role : {"hidden", "input", "output"}, default "hidden"
        Which layer of the network the weights belong to.
    base : int, in [1, 2**63), default 1
        The fan_in of the model whose learning rate was tuned; at this fan_in nothing differs from training without µP.
    fans
        As in `VarianceScaling`.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape does not tell the fans.

    Examples
    --------
    >>> MuP("output", base=64).variance((256, 10)) == 64 / 256**2
    True
    >>> MuP("hidden", base=64).learning_rate_multiplier((256, 256))
    0.25
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
        """Factor on Adam's learning rate: 1 for the input layer, base / fan_in for hidden layers and the output.

        Parameters
        ----------
        shape : tuple of int
            Of the weights.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If the shape does not tell the fans.
        """
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
    """N(0, 1): weights of variance 1, whose product the forward pass multiplies by the factor `multiplier`.

    Blake, Orr & Luschi, "Unit scaling: out-of-the-box low-precision training" (2023); with µP: Blake et al., "u-µP" (2025).

    Parameters
    ----------
    role : {"hidden", "input", "output"}, default "hidden"
        Which layer of the network the weights belong to.
    fans
        As in `VarianceScaling`.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape does not tell the fans.

    Examples
    --------
    >>> UnitScaling("hidden").multiplier((64, 64))
    0.125
    """

    role: str = "hidden"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "role", _ROLES)

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return 1.0

    def multiplier(self, shape: Any) -> float:
        """Factor on the product of inputs and weights.

        Parameters
        ----------
        shape : tuple of int
            As in `MuP.learning_rate_multiplier`, and so are the errors.

        Returns
        -------
        float
            1 for the input layer, 1 / sqrt(fan_in) for hidden layers, 1 / fan_in for the output.
        """
        fan_in = max(1, compute_fans(check_shape(shape), self.fans).fan_in)
        return {"input": 1.0, "hidden": 1 / math.sqrt(fan_in), "output": 1 / fan_in}[self.role]


@registered()
@dataclass(frozen=True, repr=False)
class LoraA(FanScaled):
    """The matrix A of a low-rank adapter, of shape ``(features, rank)``: U(-r, r) with r = 1 / sqrt(fan_in), or N(0, 1 / rank^2).

    B is zero (`LoraB`), so that training starts from the model that is adapted. The variance of the uniform distribution is
    1 / (3 fan_in). Hu et al., "LoRA: low-rank adaptation of large language models" (2022).

    Parameters
    ----------
    distribution : {"uniform", "normal"}, default "uniform"
        Which of the two.
    fans
        As in `VarianceScaling`.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape does not tell the fans.

    Examples
    --------
    >>> LoraA("normal").variance((512, 4))
    0.0625
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
    """The matrix B of a low-rank adapter, of shape ``(rank, features)``: zero. Hu et al. (2022), see `LoraA`."""


@ieee
def lora_scaling(alpha: float, rank: int, *, rank_stabilized: bool = False) -> float:
    """Factor on the product of a low-rank adapter's matrices: alpha / rank, or alpha / sqrt(rank).

    Parameters
    ----------
    alpha : float
        Finite.
    rank : int, in [1, 2**63)
        Rank of the adapter.
    rank_stabilized : bool, default False
        Whether the rank's square root is taken, so that the adapter's output and gradients do not shrink as the rank grows:
        Kalajdzievski, "A rank stabilization scaling factor for fine-tuning with LoRA" (2023).

    Returns
    -------
    float
        The factor.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range.

    Examples
    --------
    >>> lora_scaling(16, 4)
    4.0
    >>> lora_scaling(16, 4, rank_stabilized=True)
    8.0
    """
    factor, count = real_number("alpha", alpha), whole_number("rank", rank)
    boolean("rank_stabilized", rank_stabilized)
    return factor / (math.sqrt(count) if rank_stabilized else count)
