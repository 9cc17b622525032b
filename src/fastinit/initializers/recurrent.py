"""Fixed biases and state matrices of recurrent and state-space layers."""

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
    """`value` for the forget gate of an LSTM and zero for its other gates, so that it remembers at the start of training.

    Gers, Schmidhuber & Cummins, "Learning to forget" (2000); Jozefowicz, Zaremba & Sutskever, "An empirical exploration of
    recurrent network architectures" (2015).

    Parameters
    ----------
    value : float, default 1.0
        Finite.
    gates : int, in [1, 2**63), default 4
        Number of gates; the shape is ``(gates * units,)``.
    forget_gate : int, in [0, gates), default 1
        Position of the forget gate, as in Keras (i, f, c, o) and PyTorch (i, f, g, o).

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape is another.

    Examples
    --------
    >>> ForgetGateBias()((8,))
    array([0., 0., 1., 1., 0., 0., 0., 0.], dtype=float32)
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
            raise ValueError(f"forget_gate: expected one of {self.gates} gates, got {self.forget_gate}")

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
    """-ln((1 - p) / p) everywhere, p = `probability`: the bias with which a sigmoid output is p at the start of training.

    If positives are rare, no training steps are spent on learning how rare. Lin et al., "Focal loss for dense object
    detection" (2017).

    Parameters
    ----------
    probability : float, in (0, 1), default 0.01
        Fraction of positives.

    Raises
    ------
    TypeError, ValueError
        If `probability` is no real number or out of range.

    Examples
    --------
    >>> PriorBias(0.01)((2,)).round(4)
    array([-4.5951, -4.5951], dtype=float32)
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

    n and k are the numbers of row and column, from 0. Shapes are ``(..., N, N)``; axes before the last two are a batch.
    `HippoLegSB` is the input vector. Gu, Dao, Ermon, Rudra & Ré, "HiPPO: recurrent memory with optimal polynomial
    projections" (2020).

    Raises
    ------
    ValueError
        When called, if the last two axes are not equal.

    Examples
    --------
    >>> np.diag(HippoLegS()((3, 3)))
    array([-1., -2., -3.], dtype=float32)
    """

    def _states(self, shape: tuple[int, ...]) -> int:
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ValueError(f"shape: expected square matrices, (..., N, N), got {shape}")
        return shape[-1]

    # Below the diagonal, the sum over pairs k < n of a_n a_k is ((sum of a)^2 - sum of a^2) / 2.

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
        corner = math.sqrt(2 * states - 1) * math.sqrt(2 * states - 3)  # the element left of the last one of the diagonal
        return -max(float(states), corner), 0.0

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        n = np.arange(self._states(shape))
        roots = np.sqrt(2.0 * n + 1)
        return np.broadcast_to(-np.tril(np.outer(roots, roots), -1) - np.diag(n + 1.0), shape)


@registered()
@dataclass(frozen=True, repr=False)
class HippoLegSB(Fixed):
    """The input vector B of HiPPO-LegS: sqrt(2n+1) for n = 0, 1, ... along the last axis. Gu et al. (2020), see `HippoLegS`.

    Raises
    ------
    ValueError
        When called, if the shape has no axis.
    """

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if not shape:
            raise ValueError("shape: expected at least one axis, that of the state, got ()")
        return np.broadcast_to(np.sqrt(2.0 * np.arange(shape[-1]) + 1), shape)


@registered()
@dataclass(frozen=True, repr=False)
class S4D(Fixed):
    """The diagonal of the state matrix of S4D along the last axis, one number of each conjugate pair.

    Number n = 0, 1, ... is -1/2 + i pi n (``"lin"``), -1/2 + i (N/pi) (N/(2n+1) - 1) where N is twice the size of the last axis
    (``"inv"``), or -(n+1) (``"real"``, which is also Mamba's A). Gu, Gupta, Goel & Ré, "On the parameterization and
    initialization of diagonal state space models" (2022).

    Parameters
    ----------
    variant : {"lin", "inv", "real"}, default "lin"
        Which of the three.
    part : {"real", "imaginary"}, default "real"
        Which component of the complex numbers.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape has no axis.

    Examples
    --------
    >>> S4D("real")((3,))
    array([-1., -2., -3.], dtype=float32)
    """

    variant: str = "lin"
    part: str = "real"

    _complex: ClassVar[bool] = False  # real and imaginary components are two tensors of their own

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
    """ln(n + 1) for n = 0, 1, ... along the last axis, of shape ``(channels, states)``: A_log of Mamba, where A = -exp(A_log).

    Gu & Dao, "Mamba: linear-time sequence modeling with selective state spaces" (2023).

    Raises
    ------
    ValueError
        When called, if the shape has no axis.
    """

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if not shape:
            raise ValueError("shape: expected at least one axis, that of the state, got ()")
        return np.broadcast_to(log(np.arange(1.0, shape[-1] + 1)), shape)
