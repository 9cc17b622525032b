"""Initializers whose elements are each a function of one uniform random number, such as its logarithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import check_shape, store
from .._common.pieces import in_pieces
from .._common.portable_math import exp, log, log_1_minus_exp
from .._stream.draw import draw
from .._stream.keys import Key
from .._stream.sampling import uniform
from .base import Initializer, finite, positive, whole
from .catalogue import registered

__all__ = ["ChronoBias", "LogUniform", "MambaDtBias"]


def _quadrature() -> tuple[NDArray[Any], NDArray[Any]]:
    """Nodes and weights for means over U(0, 1), dense towards both ends, where functions may be steep."""
    x, w = np.polynomial.legendre.leggauss(16)
    left = np.concatenate([[0.0], np.geomspace(1e-12, 0.5, 40)])
    edges = np.concatenate([left, 1 - left[-2::-1]])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


class TransformedUniform(Initializer):
    """Base class: element e is a monotone function of the stream's uniform number e, computed in float64."""

    def _transform(self, u: NDArray[Any]) -> NDArray[Any]:
        """The elements that belong to the uniform numbers u in [0, 1); monotone."""
        raise NotImplementedError

    def _transform_in_place(self, u: NDArray[Any]) -> NDArray[Any]:
        for (piece,) in in_pieces(u):
            piece[...] = self._transform(piece)
        return u

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        return self._transform_in_place(uniform(shape, key=key, dtype="float64"))

    def shard(
        self,
        shape: Any,
        index: Any,
        *,
        key: Key | None = None,
        dtype: Any = "float32",
        out: Any = None,
    ) -> Any:
        name, sizes = self._dtype(dtype), check_shape(shape)
        u = draw("uniform", (0.0, 1.0), sizes, self._key(key), "float64", index=index)
        values = self._transform_in_place(u)
        self._check(values, name)
        return store(values, name, out)

    shard.__doc__ = Initializer.shard.__doc__

    def _mean(self, shape: Any) -> float:
        u, weights = _quadrature()
        return float(weights @ self._transform(u))

    def variance(self, shape: Any) -> float:
        u, weights = _quadrature()
        values = self._transform(u) - self._mean(shape)
        scale = float(np.abs(values).max()) or 1.0  # so that no square overflows or underflows
        return scale * (scale * float(weights @ (values / scale) ** 2))

    def bounds(self, shape: Any) -> tuple[float, float]:
        low, high = sorted(float(x) for x in self._transform(np.array([0.0, 1.0])))
        return low, high


@registered()
@dataclass(frozen=True, repr=False)
class LogUniform(TransformedUniform):
    """ln U(low, high), the logarithm of a uniform number; not the distribution that is called log-uniform.

    The defaults are those of Mamba-2's A_log: Dao & Gu, "Transformers are SSMs" (2024).

    Parameters
    ----------
    low, high : float, defaults 1.0 and 16.0
        0 < low < high < inf; the uniform number lies in [low, high).

    Raises
    ------
    TypeError, ValueError
        If an option is no real number or out of range.

    Examples
    --------
    >>> LogUniform(low=1.0).bounds((4,))[0]
    0.0
    """

    low: float = 1.0
    high: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "low", "high")
        if not self.low < self.high:
            raise ValueError(f"low, high: expected low < high, got {self.low} and {self.high}")

    def _transform(self, u: NDArray[Any]) -> NDArray[Any]:
        return log(self.low + (self.high - self.low) * u)


@registered()
@dataclass(frozen=True, repr=False)
class MambaDtBias(TransformedUniform):
    """The bias of Mamba's step size dt = softplus(bias), for dt log-uniform in [dt_min, dt_max) and at least `floor`.

    softplus^-1(dt) = dt + ln(1 - e^-dt). Gu & Dao, "Mamba: linear-time sequence modeling with selective state
    spaces" (2023). Mamba's other parameters: `MambaLogA` for A_log (A itself is ``S4D("real")``), `Ones` for D.

    Parameters
    ----------
    dt_min, dt_max : float, defaults 0.001 and 0.1
        0 < dt_min < dt_max < inf.
    floor : float, in (0, inf), default 1e-4
        The least step size.

    Raises
    ------
    TypeError, ValueError
        If an option is no real number or out of range.
    """

    dt_min: float = 0.001
    dt_max: float = 0.1
    floor: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "dt_min", "dt_max", "floor")
        if not self.dt_min < self.dt_max:
            raise ValueError(f"dt_min, dt_max: expected dt_min < dt_max, got {self.dt_min} and {self.dt_max}")

    def _transform(self, u: NDArray[Any]) -> NDArray[Any]:
        low, high = float(log(self.dt_min)), float(log(self.dt_max))
        dt = np.maximum(exp(low + (high - low) * u), self.floor)
        return dt + log_1_minus_exp(dt)


@registered()
@dataclass(frozen=True, repr=False)
class ChronoBias(Initializer):
    """Gate biases of an LSTM that is to remember up to `max_time` steps: b = ln U(1, max_time - 1) for the forget gate.

    The bias of the input gate is -b, that of the others 0. Tallec & Ollivier, "Can recurrent neural networks warp time?" (2018).
    Variance and bounds are those of all gates together.

    Parameters
    ----------
    max_time : float, in (2, inf)
        Longest range of dependencies, in steps.
    gates : int, in [2, 2**63), default 4
        Number of gates; the shape is ``(gates * units,)``.
    input_gate, forget_gate : int, in [0, gates), defaults 0 and 1
        Their positions, as in Keras (i, f, c, o) and PyTorch (i, f, g, o).

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range, or the two gates are the same. When called: a ValueError if the
        shape is another.

    Examples
    --------
    >>> ChronoBias(max_time=100, seed=0)((8,))[4:]
    array([0., 0., 0., 0.], dtype=float32)
    """

    max_time: float
    gates: int = 4
    input_gate: int = 0
    forget_gate: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "max_time")
        if self.max_time <= 2:
            raise ValueError(f"max_time: expected a number > 2, got {self.max_time}")
        whole(self, "gates", least=2)
        whole(self, "input_gate", "forget_gate", least=0)
        if self.input_gate == self.forget_gate or max(self.input_gate, self.forget_gate) >= self.gates:
            raise ValueError(
                f"input_gate, forget_gate: expected two of {self.gates} gates, got {self.input_gate} and {self.forget_gate}"
            )

    def _forget_bias(self) -> LogUniform:
        return LogUniform(1.0, self.max_time - 1)

    def _units(self, shape: tuple[int, ...]) -> int:
        if len(shape) != 1 or shape[0] % self.gates:
            raise ValueError(f"shape: expected one axis, a multiple of {self.gates} gates, got {shape}")
        return shape[0] // self.gates

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        bias = np.zeros((self.gates, self._units(shape)))
        bias[self.forget_gate] = self._forget_bias()._values(bias.shape[1:], dtype, key)
        bias[self.input_gate] = -bias[self.forget_gate]
        return bias.ravel()

    def _mean(self, shape: Any) -> float:
        self._units(check_shape(shape))
        return 0.0

    def variance(self, shape: Any) -> float:
        self._units(check_shape(shape))
        forget = self._forget_bias()
        return 2 / self.gates * (forget.variance(shape) + forget._mean(shape) ** 2)

    def bounds(self, shape: Any) -> tuple[float, float]:
        self._units(check_shape(shape))
        largest = self._forget_bias().bounds(shape)[1]
        return -largest, largest
