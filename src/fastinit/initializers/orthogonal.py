"""Random matrices with orthonormal columns or rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import check_shape, store, working
from .._stream.haar import haar
from .._stream.indexing import resolve_index
from .._stream.keys import Key
from .base import Initializer, choice, finite, flag
from .catalogue import registered

__all__ = ["DeltaOrthogonal", "Orthogonal"]

# No element is larger than the gain, and every dtype with infinities holds numbers up to this: values need no check.
_UNCHECKED_GAIN = 2.0**14


@registered()
@dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """A random matrix with orthonormal columns or rows, exactly Haar distributed, times `gain`; unitary in complex dtypes.

    The variance of every element is gain^2 / max(rows, columns), times outputs / inputs if `spectral`. Saxe, McClelland &
    Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks" (2014).

    Parameters
    ----------
    gain : float, default 1.0
        Factor on the matrix; finite.
    layout : {"io", "oi"}, default "io"
        How a shape of more than two axes is read as a matrix of rows and columns: ``(product of the others, last)`` for
        ``"io"``, ``(first, product of the others)`` for ``"oi"``.
    spectral : bool, default False
        Whether the matrix is multiplied by sqrt(outputs / inputs), so that it maps vectors of mean square 1 to such vectors:
        Large et al., "Scalable optimization in the modular norm" (2024).

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape has fewer than two axes.

    Examples
    --------
    >>> q = Orthogonal(seed=0)((64, 32), "float64")
    >>> bool(np.allclose(q.T @ q, np.eye(32)))
    True
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
        """Rows and columns of the matrix, and the factor on it."""
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
        if self.spectral or abs(self.gain) > _UNCHECKED_GAIN:
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
        # Of a tall matrix, a range of columns can be made without the rest; of a wide one, a range of rows. It is the range
        # between the outermost ones that the index selects.
        name, sizes = self._dtype(dtype), check_shape(shape)
        rows, columns, gain = self._matrix(sizes)
        axes, split = resolve_index(sizes, index), self._split(sizes)
        selected = [range(start, start + step * count, step) for start, step, count, _ in axes]
        if not all(selected):
            empty = tuple(count for _, _, count, stays in axes if stays)
            return store(np.zeros(empty), name, out)
        separable = slice(None, split) if columns > rows else slice(split, None)
        first = last = 0
        for size, wanted in zip(sizes[separable], selected[separable], strict=True):
            first = first * size + min(wanted)
            last = last * size + max(wanted)
        slab = haar(
            rows, columns, self._key(key), dtype=working(name), gain=gain, first=first, count=last + 1 - first
        )  # fmt: skip
        self._check(slab, name)
        # The flat numbers of the selected rows and columns; their block is reshaped to the axes that the index keeps.
        numbers: list[NDArray[Any]] = []
        for here in (slice(None, split), slice(split, None)):
            flat: NDArray[Any] = np.zeros((), dtype=np.intp)
            for size, wanted in zip(sizes[here], selected[here], strict=True):
                flat = np.add.outer(flat * size, np.array(wanted))
            numbers.append(flat.ravel() - (first if here == separable else 0))
        kept = tuple(count for _, _, count, stays in axes if stays)
        return store(slab[np.ix_(numbers[0], numbers[1])].reshape(kept), name, out)

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
    """A convolution that is an orthogonal matrix at its centre and zero elsewhere, so that it preserves the norm of signals.

    The mean square over all elements is gain^2 / (c_out x size of the field). Xiao, Bahri, Sohl-Dickstein, Schoenholz &
    Pennington, "Dynamical isometry and a mean field theory of CNNs: how to train 10,000-layer vanilla convolutional neural
    networks" (2018).

    Parameters
    ----------
    gain : float, default 1.0
        Factor on the matrix; finite.
    layout : {"io", "oi"}, default "io"
        Shapes are ``(*field, c_in, c_out)`` or ``(c_out, c_in, *field)``, with one to three axes of field and c_in <= c_out.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape is another.

    Examples
    --------
    >>> kernel = DeltaOrthogonal(seed=0)((3, 4, 8))
    >>> bool(kernel[0].any()), bool(kernel[1].all())
    (False, True)
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
            raise ValueError(f"shape: expected three to five axes for a convolution, got {shape}")
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
        if abs(self.gain) > _UNCHECKED_GAIN:
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
