"""Initializers whose values depend on the shape alone: nothing is drawn."""

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
    """Base class: a tensor that depends on its shape alone. Variance and bounds are those of its elements."""

    _complex = True

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        raise NotImplementedError

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        return self._tensor(shape)

    def _check(self, values: NDArray[Any], dtype: str) -> None:
        check_range(values, dtype, type(self).__name__)

    def _numbers(self, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Numbers in the tensor and how often each occurs, or None if all occur equally often.

        A subclass whose tensor is nearly all zeros answers without making it.
        """
        return once(self._tensor(shape)), None

    def _mean(self, shape: Any) -> float:
        return _moments(*self._numbers(check_shape(shape)))[0]

    def variance(self, shape: Any) -> float:
        return _moments(*self._numbers(check_shape(shape)))[1]

    def bounds(self, shape: Any) -> tuple[float, float]:
        values, _ = self._numbers(check_shape(shape))
        return (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan)


def _moments(values: NDArray[Any], counts: NDArray[Any] | None) -> tuple[float, float]:
    """Mean and variance of numbers with counts (see `_numbers`); NaN if there are none."""
    if not values.size:
        return math.nan, math.nan
    scale = float(np.abs(values).max()) or 1.0  # so that neither sums nor squares overflow
    values = values / scale
    mean = np.average(values, weights=counts)
    return scale * float(mean), scale * (scale * float(np.average((values - mean) ** 2, weights=counts)))


def few_among_zeros(values: NDArray[Any], copies: Any, size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """`Fixed._numbers` of a tensor of `size` elements that has `copies` of each of the values, and 0 elsewhere."""
    numbers = np.append(values, 0.0)
    counts = np.broadcast_to(np.asarray(copies, dtype=np.float64), values.shape)
    counts = np.append(counts, size - counts.sum())
    return numbers[counts > 0], counts[counts > 0]


@registered()
@dataclass(frozen=True, repr=False, eq=False)
class Constant(Fixed):
    """One value everywhere, or the values of an array.

    The units of a layer with equal weights stay equal throughout training; random weights break this symmetry.

    Parameters
    ----------
    value : float or array_like, default 0.0
        Finite. An array is copied, and broadcast to the shape of the tensor as NumPy does.

    Raises
    ------
    TypeError
        If `value` is neither a real number nor an array of real numbers.
    ValueError
        If a number is infinite or NaN. When called: if the array does not broadcast to the shape.

    Examples
    --------
    >>> Constant([1, 2])((2, 2))
    array([[1., 2.],
           [1., 2.]], dtype=float32)
    """

    value: Any = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        several = hasattr(self.value, "__array__") or hasattr(self.value, "__len__")
        if not several or isinstance(self.value, (str, bytes, np.generic)):
            finite(self, "value")
            return
        values = any_array("value", self.value)
        if values.dtype.kind not in "iufV":  # V: the dtypes of ml_dtypes
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
            self.value.flags.writeable = False  # pickles and copies lose the flag

    def _config_value(self, name: str) -> Any:
        value = getattr(self, name)
        return value.tolist() if isinstance(value, np.ndarray) else value

    _repr_value = _config_value

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
    """Zeros, for biases; in tanh and ReLU networks, weights that are all zero stay zero in training."""

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
    """`gain` on the main diagonal of a matrix, square or not, zero elsewhere; axes before the last two are a batch.

    As the recurrent weights of ReLU units it makes the "IRNN", which forgets if the gain is below 1. Le, Jaitly & Hinton, "A
    simple way to initialize recurrent networks of rectified linear units" (2015).

    Parameters
    ----------
    gain : float, default 1.0
        Finite.

    Raises
    ------
    TypeError, ValueError
        If `gain` is no finite real number. When called: a ValueError if the shape has fewer than two axes.

    Examples
    --------
    >>> Identity(0.5)((2, 3))
    array([[0.5, 0. , 0. ],
           [0. , 0.5, 0. ]], dtype=float32)
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
