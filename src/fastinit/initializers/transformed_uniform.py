"""Initializers whose elements are a function of one uniform number each: logarithms of uniforms and the like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import check_shape, store
from .._common.pieces import in_pieces
from .._common.portable_math import exp, log, log_1_minus_exp
from .._stream.keys import Key
from .._stream.sampling import fill_piece, uniform
from .base import Initializer, finite, positive, whole
from .catalogue import registered

__all__ = ["ChronoBias", "LogUniform", "MambaDtBias"]


def _quadrature() -> tuple[NDArray[Any], NDArray[Any]]:
    """Nodes and weights on [0, 1], dense towards 0 where the functions are steep."""
    x, w = np.polynomial.legendre.leggauss(16)
    edges = np.concatenate([[0.0], np.geomspace(1e-12, 1.0, 41)])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


class Mapped(Initializer):
    """Element e is a monotone function of the uniform number u in [0, 1) of element e, in double precision."""

    def _of(self, u: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError

    def _map(self, u: NDArray[Any]) -> NDArray[Any]:
        """`_of` of an array, in its place."""
        for (piece,) in in_pieces(u):
            piece[...] = self._of(piece)
        return u

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        return self._map(uniform(shape, key=key, dtype="float64"))

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
        u = fill_piece("uniform", (0.0, 1.0), sizes, index, self._key(key), "float64", None)
        values = self._map(u)
        self._check(values, name)
        return store(values, name, out)

    shard.__doc__ = Initializer.shard.__doc__

    def _mean(self, shape: Any) -> float:
        u, weights = _quadrature()
        return float(weights @ self._of(u))

    def variance(self, shape: Any) -> float:
        u, weights = _quadrature()
        values = self._of(u) - self._mean(shape)
        scale = float(np.abs(values).max()) or 1.0  # of numbers that have no square
        return scale * (scale * float(weights @ (values / scale) ** 2))

    def bounds(self, shape: Any) -> tuple[float, float]:
        low, high = sorted(float(x) for x in self._of(np.array([0.0, 1.0])))
        return low, high


@registered()
@dataclass(frozen=True, repr=False)
class LogUniform(Mapped):
    """The logarithm of a uniform number, ln U(low, high); not the law of that name.

    Mamba-2's A_log is that of (1, 16): Dao & Gu, "Transformers are SSMs" (2024).

    Parameters
    ----------
    low, high : float, defaults 1.0 and 16.0
        0 < low < high.
    """

    low: float = 1.0
    high: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "low", "high")
        if not self.low < self.high:
            raise ValueError(f"low, high: expected low < high, got {self.low} and {self.high}")

    def _of(self, u: NDArray[Any]) -> NDArray[Any]:
        return log(self.low + (self.high - self.low) * u)


@registered()
@dataclass(frozen=True, repr=False)
class MambaDtBias(Mapped):
    """The bias of Mamba's step size: softplus of it is log-uniform in [dt_min, dt_max), and not below `floor`.

    softplus^-1(dt) = dt + ln(1 - e^-dt). Gu & Dao, "Mamba: linear-time sequence modeling with selective state
    spaces" (2023). The other parameters: ``S4D("real")`` for A (its logarithm: `MambaLogA`), `Ones` for D.

    Parameters
    ----------
    dt_min, dt_max : float, defaults 0.001 and 0.1
    floor : float, default 1e-4
    """

    dt_min: float = 0.001
    dt_max: float = 0.1
    floor: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "dt_min", "dt_max", "floor")
        if not self.dt_min < self.dt_max:
            raise ValueError(f"dt_min, dt_max: expected dt_min < dt_max, got {self.dt_min} and {self.dt_max}")

    def _of(self, u: NDArray[Any]) -> NDArray[Any]:
        low, high = float(log(self.dt_min)), float(log(self.dt_max))
        dt = np.maximum(exp(low + (high - low) * u), self.floor)
        return dt + log_1_minus_exp(dt)


@registered()
@dataclass(frozen=True, repr=False)
class ChronoBias(Initializer):
    """Biases of an LSTM's gates for memories of up to `max_time` steps: forget b = ln U(1, max_time - 1), input -b, others 0.

    Tallec & Ollivier, "Can recurrent neural networks warp time?" (2018). Mean, variance and bounds are those of all
    gates together.

    Parameters
    ----------
    max_time : float
        Greater than 2.
    gates : int, default 4
        Blocks of the bias vector.
    input_gate, forget_gate : int, defaults 0 and 1
        Their blocks; so in Keras (i, f, c, o) and PyTorch (i, f, g, o).
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
                f"input_gate, forget_gate: expected two blocks of {self.gates}, got {self.input_gate} and {self.forget_gate}"
            )

    def _forget(self) -> LogUniform:
        return LogUniform(1.0, self.max_time - 1)

    def _units(self, shape: tuple[int, ...]) -> int:
        if len(shape) != 1 or shape[0] % self.gates:
            raise ValueError(f"shape: expected one axis, a multiple of {self.gates} gates, got {shape}")
        return shape[0] // self.gates

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        bias = np.zeros((self.gates, self._units(shape)))
        bias[self.forget_gate] = self._forget()._values(bias.shape[1:], dtype, key)
        bias[self.input_gate] = -bias[self.forget_gate]
        return bias.ravel()

    def _mean(self, shape: Any) -> float:
        self._units(check_shape(shape))
        return 0.0

    def variance(self, shape: Any) -> float:
        self._units(check_shape(shape))
        forget = self._forget()
        return 2 / self.gates * (forget.variance(shape) + forget._mean(shape) ** 2)

    def bounds(self, shape: Any) -> tuple[float, float]:
        self._units(check_shape(shape))
        reach = self._forget().bounds(shape)[1]
        return -reach, reach
