"""Random matrices with orthonormal columns or rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import check_shape, store, working
from .._stream.haar import haar
from .._stream.keys import Key
from .._stream.sampling import resolve_index
from .base import Initializer, choice, finite, flag
from .catalogue import registered

__all__ = ["DeltaOrthogonal", "Orthogonal"]

_SURE = 2.0**14  # no element is beyond the gain, and no gain up to here beyond a dtype that has infinities


@registered()
@dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """A random matrix with orthonormal columns or rows, exactly Haar distributed, times `gain`; unitary in complex dtypes.

    The variance of every element is gain^2 / max(rows, columns), times out / in where `spectral`.

    Parameters
    ----------
    gain : float, default 1.0
    layout : {"io", "oi"}, default "io"
        How a shape of more than two axes is a matrix: ``(product of the others, last)`` for ``"io"``, ``(first, product
        of the others)`` for ``"oi"``.
    spectral : bool, default False
        Multiplies by sqrt(outputs / inputs), so that the spectral norm is that of a map between vectors of unit mean
        square: Large et al., "Scalable optimization in the modular norm" (2024).

    References
    ----------
    Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks" (2014); see `fastinit._stream.haar` for the construction.
    """

    _complex: ClassVar[bool] = True

    gain: float = 1.0
    layout: str = "io"
    spectral: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "gain")
        choice(self, "layout", ("io", "oi"))
        flag(self, "spectral")

    def _split(self, shape: tuple[int, ...]) -> int:
        """How many leading axes are the rows of the matrix."""
        if len(shape) < 2:
            raise ValueError(f"shape: expected at least two axes for an orthogonal matrix, got {shape}")
        return len(shape) - 1 if self.layout == "io" else 1

    def _matrix(self, shape: tuple[int, ...]) -> tuple[int, int, float]:
        """Rows, columns and the factor."""
        split = self._split(shape)
        rows, columns = math.prod(shape[:split]), math.prod(shape[split:])
        if not self.spectral or not rows or not columns:
            return rows, columns, self.gain
        ratio = columns / rows if self.layout == "io" else rows / columns
        return rows, columns, self.gain * math.sqrt(ratio)

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        rows, columns, gain = self._matrix(shape)
        return haar(rows, columns, key, dtype=dtype, gain=gain).reshape(shape)

    def _check(self, values: NDArray[Any], dtype: str) -> None:
        if self.spectral or abs(self.gain) > _SURE:
            super()._check(values, dtype)

    def shard(
        self,
        shape: Any,
        index: Any,
        *,
        key: Key | None = None,
        dtype: Any = "float32",
        out: Any = None,
    ) -> Any:
        # Of a tall matrix the columns between the outermost wanted ones are made, of a wide one the rows.
        name, sizes = self._dtype(dtype), check_shape(shape)
        rows, columns, gain = self._matrix(sizes)
        axes, split = resolve_index(sizes, index), self._split(sizes)
        reach = [range(start, start + step * count, step) for start, step, count, _ in axes]
        if not all(reach):
            empty = tuple(count for _, _, count, stays in axes if stays)
            return store(np.zeros(empty), name, out)
        which = slice(None, split) if columns > rows else slice(split, None)
        first = last = 0
        for size, wanted in zip(sizes[which], reach[which], strict=True):
            first = first * size + min(wanted)
            last = last * size + max(wanted)
        part = haar(
            rows, columns, self._key(key), dtype=working(name), gain=gain, first=first, count=last + 1 - first
        )  # fmt: skip
        self._check(part, name)
        # Flat numbers of the wanted rows and columns, then the axes that stay.
        numbers: list[NDArray[Any]] = []
        for here in (slice(None, split), slice(split, None)):
            flat: NDArray[Any] = np.zeros((), dtype=np.intp)
            for size, wanted in zip(sizes[here], reach[here], strict=True):
                flat = np.add.outer(flat * size, np.array(wanted))
            numbers.append(flat.ravel() - (first if here == which else 0))
        piece = tuple(count for _, _, count, stays in axes if stays)
        return store(part[np.ix_(numbers[0], numbers[1])].reshape(piece), name, out)

    shard.__doc__ = Initializer.shard.__doc__

    def _mean(self, shape: Any) -> float:
        self._matrix(check_shape(shape))
        return 0.0

    def variance(self, shape: Any) -> float:
        rows, columns, gain = self._matrix(check_shape(shape))
        return gain / max(rows, columns, 1) * gain

    def bounds(self, shape: Any) -> tuple[float, float]:
        """[-gain, gain]: columns or rows are unit vectors."""
        gain = abs(self._matrix(check_shape(shape))[2])
        return -gain, gain


@registered()
@dataclass(frozen=True, repr=False)
class DeltaOrthogonal(Initializer):
    """A convolution that is orthogonal at its centre and zero elsewhere, so that signals pass any depth unchanged.

    Mean square over all elements: gain^2 / (c_out x size of the field).

    Parameters
    ----------
    gain : float, default 1.0
    layout : {"io", "oi"}, default "io"
        Shapes ``(*field, c_in, c_out)`` or ``(c_out, c_in, *field)``; one to three axes of field, c_in <= c_out.

    References
    ----------
    Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington, "Dynamical isometry and a mean field theory of CNNs: how to train
    10,000-layer vanilla convolutional neural networks" (2018).
    """

    _complex: ClassVar[bool] = True

    gain: float = 1.0
    layout: str = "io"

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "gain")
        choice(self, "layout", ("io", "oi"))

    def _channels(self, shape: tuple[int, ...]) -> tuple[int, int, tuple[int, ...]]:
        if not 3 <= len(shape) <= 5:
            raise ValueError(f"shape: expected three to five axes, those of a convolution, got {shape}")
        if self.layout == "io":
            inputs, outputs, field = shape[-2], shape[-1], shape[:-2]
        else:
            inputs, outputs, field = shape[1], shape[0], shape[2:]
        if inputs > outputs:
            raise ValueError(
                f"shape: expected no more input channels than outputs, got {inputs} and {outputs} in {shape}"
            )
        return inputs, outputs, field

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        inputs, outputs, field = self._channels(shape)
        kernel = np.zeros(shape, dtype=dtype)
        centre = tuple((n - 1) // 2 for n in field)
        if 0 in shape:
            return kernel
        matrix = haar(inputs, outputs, key, dtype=dtype, gain=self.gain)
        if self.layout == "io":
            kernel[centre] = matrix
        else:
            np.moveaxis(kernel, (0, 1), (-1, -2))[centre] = matrix
        return kernel

    def _check(self, values: NDArray[Any], dtype: str) -> None:
        if abs(self.gain) > _SURE:
            super()._check(values, dtype)

    def _mean(self, shape: Any) -> float:
        self._channels(check_shape(shape))
        return 0.0

    def variance(self, shape: Any) -> float:
        _, outputs, field = self._channels(check_shape(shape))
        return self.gain / max(1, outputs * math.prod(field)) * self.gain

    def bounds(self, shape: Any) -> tuple[float, float]:
        self._channels(check_shape(shape))
        return -abs(self.gain), abs(self.gain)
