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
from .._stream.sampling import Law
from .base import Initializer, finite
from .catalogue import registered
from .lookup import get

__all__ = ["PerGate", "Times"]


def _as_config(initializer: Initializer) -> dict[str, Any]:
    return {"class_name": type(initializer).__name__, "config": initializer.get_config()}


@dataclass(frozen=True, repr=False)
class Nested(Initializer):
    """An initializer with the option `initializer`, one or a tuple of them. Not one itself.

    A seed of the one inside is taken over where there is no other. Several have to be without seeds: blocks are
    drawn from the children of one key.
    """

    _complex = True  # as far as those are
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
            raise ValueError("initializer: expected ones without a seed of their own, or a seed beside them")
        if self.seed is None and isinstance(made, Initializer):
            object.__setattr__(self, "seed", made.seed)

    def _plain(self, name: str) -> Any:
        value = getattr(self, name)
        if isinstance(value, Initializer):
            return _as_config(value)
        if isinstance(value, tuple):
            return [_as_config(one) for one in value]
        return value


@registered()
@dataclass(frozen=True, repr=False)
class Times(Nested):
    """The values of another initializer times `factor`: what residual policies ask for.

    Parameters
    ----------
    initializer : anything `fastinit.get` takes
    factor : float

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
        with np.errstate(over="ignore", invalid="ignore"):  # which the check of the values refuses
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
    """Equal blocks along one axis, each by its own initializer and with its own fans: the gates of an LSTM, or packed Q, K and V.

    Initialising a packed matrix in one piece counts the outputs of all its blocks; Glorot's variance then is too small.
    Block i is drawn from ``key / i``. Mean, variance and bounds are those of all elements together.

    Parameters
    ----------
    initializer : sequence of anything `fastinit.get` takes
        One for each block.
    axis : int, optional
        By default that of the outputs: the last one of a shape, the first of a PyTorch tensor.
    """

    _several: ClassVar[bool] = True

    initializer: Any
    axis: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axis is not None and (isinstance(self.axis, bool) or not isinstance(self.axis, (int, np.integer))):
            raise TypeError(f"axis: expected an int or None, got {shown(self.axis)}")

    def _outputs_first(self) -> Initializer:
        blocks = tuple(one._outputs_first() for one in self.initializer)
        return dataclasses.replace(self, initializer=blocks, axis=0 if self.axis is None else self.axis)

    def _block(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """The shape of one block, and the axis that they lie along."""
        axis = -1 if self.axis is None else self.axis
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"axis: expected one of shape {shape}, got {shown(axis)}")
        block, gates = list(shape), len(self.initializer)
        if shape[axis] % gates:
            raise ValueError(f"shape: expected a multiple of {gates} along axis {axis}, got {shape}")
        block[axis] //= gates
        return tuple(block), axis

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        block, axis = self._block(shape)
        return np.concatenate([one(block, dtype, key=key / i) for i, one in enumerate(self.initializer)], axis)

    def _mean(self, shape: Any) -> float:
        block, _ = self._block(check_shape(shape))
        return float(sum(one._mean(block) / len(self.initializer) for one in self.initializer))

    def variance(self, shape: Any) -> float:
        block, _ = self._block(check_shape(shape))
        mean, gates = self._mean(shape), len(self.initializer)
        apart = [one._mean(block) - mean for one in self.initializer]
        return float(sum(one.variance(block) / gates + d / gates * d for one, d in zip(self.initializer, apart, strict=True)))

    def bounds(self, shape: Any) -> tuple[float, float]:
        block, _ = self._block(check_shape(shape))
        lows, highs = zip(*(one.bounds(block) for one in self.initializer), strict=True)
        return min(lows), max(highs)
