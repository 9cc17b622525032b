"""Initializers made of other initializers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._common.checks import shown
from .._common.dtypes import check_shape
from .._stream.keys import Key
from .._stream.laws import Law
from .base import Initializer, finite
from .catalogue import registered
from .lookup import get

__all__ = ["PerGate", "Times"]


def _as_config(initializer: Initializer) -> dict[str, Any]:
    return {"class_name": type(initializer).__name__, "config": initializer.get_config()}


@dataclass(frozen=True, repr=False)
class Nested(Initializer):
    """Base class: an initializer with the option `initializer`, which is one other initializer or a tuple of them.

    Without a seed of its own, it takes the seed of a single inner initializer. Several inner ones must have no seeds,
    because they draw from children of one key.
    """

    _complex = True  # the inner initializers refuse complex dtypes themselves
    _several: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = getattr(self, "initializer")  # noqa: B009
        if isinstance(given, (list, tuple)) != self._several or (self._several and not given):
            wanted = "a sequence of initializers" if self._several else "one initializer"
            raise TypeError(f"initializer: expected {wanted}, got {shown(given)}")
        made = tuple(get(one) for one in given) if isinstance(given, (list, tuple)) else get(given)
        object.__setattr__(self, "initializer", made)
        if self.seed is None and isinstance(made, tuple) and any(one.seed is not None for one in made):
            raise ValueError("initializer: expected initializers without seeds, or a seed given next to them")
        if self.seed is None and isinstance(made, Initializer):
            object.__setattr__(self, "seed", made.seed)

    def _config_value(self, name: str) -> Any:
        value = getattr(self, name)
        if isinstance(value, Initializer):
            return _as_config(value)
        if isinstance(value, tuple):
            return [_as_config(one) for one in value]
        return value


@registered()
@dataclass(frozen=True, repr=False)
class Times(Nested):
    """The values of another initializer times `factor`, as residual policies use it.

    Parameters
    ----------
    initializer : initializer or str
        Anything that `fastinit.get` takes.
    factor : float
        Finite.

    Raises
    ------
    TypeError, ValueError
        As in `fastinit.get`, and if `factor` is no finite real number.

    Examples
    --------
    >>> Times("glorot_normal", 0.5).variance((300, 100))
    0.00125
    """

    initializer: Any
    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "factor")

    def _law(self, shape: tuple[int, ...]) -> Law | None:
        law: Law | None = self.initializer._law(shape)
        return law if law is None else law.times(self.factor)

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        values: NDArray[Any] = self.initializer(shape, dtype, key=key)
        with np.errstate(over="ignore", invalid="ignore"):  # _check refuses the infinities
            return np.asarray(values * np.dtype(dtype).type(self.factor))

    def _mean(self, shape: Any) -> float:
        return self.factor * float(self.initializer._mean(shape))

    def variance(self, shape: Any) -> float:
        return self.factor * (self.factor * float(self.initializer.variance(shape)))

    def bounds(self, shape: Any) -> tuple[float, float]:
        low, high = sorted(self.factor * bound if self.factor else 0.0 for bound in self.initializer.bounds(shape))
        return low, high


@registered()
@dataclass(frozen=True, repr=False)
class PerGate(Nested):
    """Equal gates along one axis, each with its own initializer and its own fans: those of an LSTM, or packed Q, K and V.

    An initializer of the whole packed matrix would count the outputs of all gates together, and Glorot's variance would be too
    small. Gate i is drawn from ``key / i``. Variance and bounds are those of all elements together.

    Parameters
    ----------
    initializer : sequence of initializer or str
        One for each gate, anything that `fastinit.get` takes.
    axis : int, optional
        By default that of the outputs: the last one of a shape, the first one of a PyTorch tensor. Its size is a multiple of
        the number of gates.

    Raises
    ------
    TypeError, ValueError
        As in `fastinit.get`; if `initializer` is no sequence, or empty; if `axis` is no int; if an initializer has a
        seed and there is no common one. When called: if the axis does not exist, or its size is no multiple.

    Examples
    --------
    >>> PerGate(["orthogonal", "zeros"], seed=0)((2, 4)).round(6)[:, 2:]
    array([[0., 0.],
           [0., 0.]], dtype=float32)
    """

    _several: ClassVar[bool] = True

    initializer: Any
    axis: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axis is not None and (isinstance(self.axis, bool) or not isinstance(self.axis, (int, np.integer))):
            raise TypeError(f"axis: expected an int or None, got {shown(self.axis)}")

    def _outputs_first(self) -> Initializer:
        gates = tuple(one._outputs_first() for one in self.initializer)
        return dataclasses.replace(self, initializer=gates, axis=0 if self.axis is None else self.axis)

    def _gate_shape(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """The shape of one gate, and the axis along which they lie."""
        axis = -1 if self.axis is None else self.axis
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"axis: expected one of shape {shape}, got {shown(axis)}")
        gate, gates = list(shape), len(self.initializer)
        if shape[axis] % gates:
            raise ValueError(f"shape: expected a multiple of {gates} along axis {axis}, got {shape}")
        gate[axis] //= gates
        return tuple(gate), axis

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        gate, axis = self._gate_shape(shape)
        return np.concatenate([one(gate, dtype, key=key / i) for i, one in enumerate(self.initializer)], axis)

    def _mean(self, shape: Any) -> float:
        gate, _ = self._gate_shape(check_shape(shape))
        return float(sum(one._mean(gate) / len(self.initializer) for one in self.initializer))

    def variance(self, shape: Any) -> float:
        gate, _ = self._gate_shape(check_shape(shape))
        mean, gates = self._mean(shape), len(self.initializer)
        deviations = [one._mean(gate) - mean for one in self.initializer]
        return float(sum(one.variance(gate) / gates + d / gates * d for one, d in zip(self.initializer, deviations, strict=True)))

    def bounds(self, shape: Any) -> tuple[float, float]:
        gate, _ = self._gate_shape(check_shape(shape))
        lows, highs = zip(*(one.bounds(gate) for one in self.initializer), strict=True)
        return min(lows), max(highs)
