"""Initializers whose values are fixed by the shape: nothing is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import any_array, real_array
from .._common.dtypes import check_range, check_shape
from .._common.pieces import once
from .._stream.keys import Key
from .base import Initializer, finite
from .catalogue import registered

__all__ = ["Constant", "Identity", "Ones", "Zeros"]


class Fixed(Initializer):
    """A tensor that depends on its shape alone: variance and bounds are those of its elements."""

    _complex = True

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        raise NotImplementedError

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        return self._tensor(shape)

    def _check(self, values: NDArray[Any], dtype: str) -> None:
        check_range(values, dtype, type(self).__name__)

    def _numbers(self, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Numbers of the tensor and how often it has each, or None for equally often: what is nearly all zeros is not made."""
        return once(self._tensor(shape)), None

    def _mean(self, shape: Any) -> float:
        return _moments(*self._numbers(check_shape(shape)))[0]

    def variance(self, shape: Any) -> float:
        return _moments(*self._numbers(check_shape(shape)))[1]

    def bounds(self, shape: Any) -> tuple[float, float]:
        values, _ = self._numbers(check_shape(shape))
        return (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan)


def _moments(values: NDArray[Any], counts: NDArray[Any] | None) -> tuple[float, float]:
    """Mean and variance of numbers that a tensor has so often each; NaN of none."""
    if not values.size:
        return math.nan, math.nan
    scale = float(np.abs(values).max()) or 1.0  # that no sum and no square is beyond the range
    values = values / scale
    mean = np.average(values, weights=counts)
    return scale * float(mean), scale * (scale * float(np.average((values - mean) ** 2, weights=counts)))


def few_among_zeros(values: NDArray[Any], copies: Any, size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers and counts of a tensor of `size` elements that holds each of some values so many times, and 0 elsewhere."""
    numbers = np.append(values, 0.0)
    counts = np.broadcast_to(np.asarray(copies, dtype=np.float64), values.shape)
    counts = np.append(counts, size - counts.sum())
    return numbers[counts > 0], counts[counts > 0]


@registered()
@dataclass(frozen=True, repr=False, eq=False)
class Constant(Fixed):
    """One value everywhere, or the values of an array.

    Equal weights keep the units of a layer equal for ever (the symmetry that random weights break).

    Parameters
    ----------
    value : float or array, default 0.0
        An array is copied, and broadcast to the shape as NumPy does it.
    """

    value: Any = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        several = hasattr(self.value, "__array__") or hasattr(self.value, "__len__")
        if not several or isinstance(self.value, (str, bytes, np.generic)):
            finite(self, "value")
            return
        values = any_array("value", self.value)
        if values.dtype.kind not in "iufV":  # ml_dtypes' are V
            raise TypeError(f"value: expected real numbers, got an array of {values.dtype}")
        values = real_array("value", values).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"value: expected finite numbers, got {values[~np.isfinite(values)][0]}")
        if values.ndim == 0:
            object.__setattr__(self, "value", float(values))
            return
        values.flags.writeable = False
        object.__setattr__(self, "value", values)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.value, np.ndarray):
            self.value.flags.writeable = False  # which neither a pickle nor a copy keeps

    def _plain(self, name: str) -> Any:
        value = getattr(self, name)
        return value.tolist() if isinstance(value, np.ndarray) else value

    _shown = _plain

    def _identity(self) -> tuple[Any, ...]:
        if isinstance(self.value, np.ndarray):
            return self.value.shape, self.value.tobytes(), self.seed
        return (), self.value, self.seed

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((type(self), self._identity()))

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        try:
            return np.broadcast_to(np.asarray(self.value), shape)
        except ValueError:
            raise ValueError(
                f"shape: expected one that an array of shape {self.value.shape} broadcasts to, got {shape}"
            ) from None


@registered("zero")
@dataclass(frozen=True, repr=False)
class Zeros(Fixed):
    """Zeros: right for biases; weights of zero never move in tanh and ReLU networks."""

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.broadcast_to(np.float64(0), shape)


@registered("one")
@dataclass(frozen=True, repr=False)
class Ones(Fixed):
    """Ones."""

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.broadcast_to(np.float64(1), shape)


@registered("eye")
@dataclass(frozen=True, repr=False)
class Identity(Fixed):
    """``gain`` on the main diagonal of a matrix, square or not, zero elsewhere; axes before the last two are a batch.

    As the recurrent weight of ReLU units it makes the "IRNN"; a gain below 1 forgets.

    Parameters
    ----------
    gain : float, default 1.0

    References
    ----------
    Le, Jaitly & Hinton, "A simple way to initialize recurrent networks of rectified linear units" (2015).
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "gain")

    def _checked(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            raise ValueError(f"shape: expected at least two axes for an identity matrix, got {shape}")
        return shape

    def _numbers(self, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        rows, columns = self._checked(shape)[-2:]
        if 0 in shape:
            return np.empty(0), None
        return few_among_zeros(np.array([self.gain]), min(rows, columns), rows * columns)

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        self._checked(shape)
        return np.broadcast_to(self.gain * np.eye(shape[-2], shape[-1]), shape)
