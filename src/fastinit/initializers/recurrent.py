"""Recurrent and state-space layers: fixed biases and state matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import check_shape
from .._common.portable_math import log
from .base import choice, finite, whole
from .catalogue import registered
from .deterministic import Fixed, few_among_zeros

__all__ = ["S4D", "ForgetGateBias", "HippoLegS", "HippoLegSB", "MambaLogA", "PriorBias"]


@registered()
@dataclass(frozen=True, repr=False)
class ForgetGateBias(Fixed):
    """`value` for the forget gates of an LSTM and zero for the others, so that it remembers at first.

    Gers, Schmidhuber & Cummins, "Learning to forget" (2000); Jozefowicz, Zaremba & Sutskever, "An empirical exploration of
    recurrent network architectures" (2015).

    Parameters
    ----------
    value : float, default 1.0
    gates : int, default 4
        Blocks of the bias vector.
    forget_gate : int, default 1
        The block of the forget gates; so in Keras (i, f, c, o) and PyTorch (i, f, g, o).
    """

    value: float = 1.0
    gates: int = 4
    forget_gate: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "value")
        whole(self, "gates")
        whole(self, "forget_gate", least=0)
        if self.forget_gate >= self.gates:
            raise ValueError(f"forget_gate: expected a block of {self.gates}, got {self.forget_gate}")

    def _units(self, shape: tuple[int, ...]) -> int:
        if len(shape) != 1 or shape[0] % self.gates:
            raise ValueError(f"shape: expected one axis, a multiple of {self.gates} gates, got {shape}")
        return shape[0] // self.gates

    def _numbers(self, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        units = self._units(shape)
        return few_among_zeros(np.array([self.value]), units, shape[0])

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        bias = np.zeros((self.gates, self._units(shape)))
        bias[self.forget_gate] = self.value
        return bias.ravel()


@registered()
@dataclass(frozen=True, repr=False)
class PriorBias(Fixed):
    """-ln((1 - p) / p) everywhere: the bias with which a sigmoid says `probability` at first.

    With rare positives the first steps are not spent on learning their rarity. Lin et al., "Focal loss for dense object
    detection" (2017).

    Parameters
    ----------
    probability : float, default 0.01
        In (0, 1).
    """

    probability: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "probability")
        if not 0 < self.probability < 1:
            raise ValueError(f"probability: expected a number in (0, 1), got {self.probability}")

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        odds = (1 - self.probability) / self.probability
        return np.broadcast_to(-log(odds) if odds < math.inf else log(self.probability), shape)


@registered()
@dataclass(frozen=True, repr=False)
class HippoLegS(Fixed):
    """The state matrix A of HiPPO-LegS: -sqrt((2n+1)(2k+1)) below the diagonal, -(n+1) on it, 0 above.

    Gu, Dao, Ermon, Rudra & Ré, "HiPPO: recurrent memory with optimal polynomial projections" (2020). Shapes ``(..., N, N)``;
    axes before the last two are a batch. `HippoLegSB` is its input vector.
    """

    def _states(self, shape: tuple[int, ...]) -> int:
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ValueError(f"shape: expected square matrices, (..., N, N), got {shape}")
        return shape[-1]

    # Sums of products of two of a row's numbers, each with each once, are half of (the square of their sum less their squares').

    def _mean(self, shape: Any) -> float:
        sizes = check_shape(shape)
        n = np.arange(float(self._states(sizes)))
        if 0 in sizes:
            return math.nan
        below = (np.sqrt(2 * n + 1).sum() ** 2 - (2 * n + 1).sum()) / 2
        return float(-(below + (n + 1).sum()) / n.size**2)

    def variance(self, shape: Any) -> float:
        sizes = check_shape(shape)
        n = np.arange(float(self._states(sizes)))
        if 0 in sizes:
            return math.nan
        below = ((2 * n + 1).sum() ** 2 - ((2 * n + 1) ** 2).sum()) / 2
        return float((below + ((n + 1) ** 2).sum()) / n.size**2) - self._mean(sizes) ** 2

    def bounds(self, shape: Any) -> tuple[float, float]:
        sizes = check_shape(shape)
        states = self._states(sizes)
        if 0 in sizes:
            return math.nan, math.nan
        if states == 1:
            return -1.0, -1.0
        corner = math.sqrt(2 * states - 1) * math.sqrt(2 * states - 3)  # beside the last of the diagonal
        return -max(float(states), corner), 0.0

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        n = np.arange(self._states(shape))
        roots = np.sqrt(2.0 * n + 1)
        return np.broadcast_to(-np.tril(np.outer(roots, roots), -1) - np.diag(n + 1.0), shape)


@registered()
@dataclass(frozen=True, repr=False)
class HippoLegSB(Fixed):
    """The input vector B of HiPPO-LegS: sqrt(2n+1) along the last axis. Gu et al. (2020), see `HippoLegS`."""

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if not shape:
            raise ValueError("shape: expected at least one axis, that of the state, got ()")
        return np.broadcast_to(np.sqrt(2.0 * np.arange(shape[-1]) + 1), shape)


@registered()
@dataclass(frozen=True, repr=False)
class S4D(Fixed):
    """The diagonal state matrix of S4D along the last axis, one of each pair of conjugates.

    ``"lin"``: -1/2 + i pi n; ``"inv"``: -1/2 + i (N/pi) (N/(2n+1) - 1), N twice the last axis; ``"real"``: -(n+1), also
    Mamba's A.
    Gu, Gupta, Goel & Ré, "On the parameterization and initialization of diagonal state space models" (2022).

    Parameters
    ----------
    variant : {"lin", "inv", "real"}, default "lin"
    part : {"real", "imaginary"}, default "real"
        Which part of the complex numbers.
    """

    variant: str = "lin"
    part: str = "real"

    _complex: ClassVar[bool] = False  # the parts are two tensors: half of the pair in a complex one would be no S4D

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "variant", ("lin", "inv", "real"))
        choice(self, "part", ("real", "imaginary"))

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if not shape:
            raise ValueError("shape: expected at least one axis, that of the state, got ()")
        n = np.arange(shape[-1], dtype=np.float64)
        if self.variant == "real":
            values = -(n + 1) if self.part == "real" else 0 * n
        elif self.part == "real":
            values = 0 * n - 0.5
        elif self.variant == "lin":
            values = math.pi * n
        else:
            size = 2.0 * shape[-1]
            values = size / math.pi * (size / (2 * n + 1) - 1)
        return np.broadcast_to(values, shape)


@registered()
@dataclass(frozen=True, repr=False)
class MambaLogA(Fixed):
    """ln(n + 1) along the last axis: the logarithm of -A of Mamba, shape ``(channels, states)``. Gu & Dao (2023)."""

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if not shape:
            raise ValueError("shape: expected at least one axis, that of the state, got ()")
        return np.broadcast_to(log(np.arange(1.0, shape[-1] + 1)), shape)
