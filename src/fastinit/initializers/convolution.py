"""Kernels of convolutions with a prescribed form: Dirac, bilinear interpolation, sub-pixel convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import check_shape
from .._stream.keys import Key
from .base import Initializer, choice, finite, whole
from .catalogue import registered
from .composed import Nested
from .deterministic import Fixed, few_among_zeros

__all__ = ["Bilinear", "Dirac", "Icnr"]


@dataclass(frozen=True, repr=False)
class _ChannelToChannel(Fixed):
    """Channel i of each group of inputs goes to channel i of that group of outputs, through the same taps."""

    gain: float = 1.0
    groups: int = 1
    layout: str = "io"

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "gain")
        whole(self, "groups")
        choice(self, "layout", ("io", "oi"))

    def _taps(self, field: tuple[int, ...]) -> NDArray[Any]:
        raise NotImplementedError

    def _channels(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
        """The field, input channels and output channels."""
        if len(shape) < 3:
            raise ValueError(f"shape: expected at least three axes, those of a convolution, got {shape}")
        if self.layout == "io":
            field, inputs, outputs = shape[:-2], shape[-2], shape[-1]
        else:
            field, inputs, outputs = shape[2:], shape[1], shape[0]
        if outputs % self.groups:
            raise ValueError(f"groups: expected a divisor of the {outputs} output channels, got {self.groups}")
        return field, inputs, outputs

    def _numbers(self, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        field, inputs, outputs = self._channels(shape)
        if 0 in shape:
            return np.empty(0), None
        pairs = self.groups * min(inputs, outputs // self.groups)
        return few_among_zeros(self.gain * self._taps(field).ravel(), pairs, math.prod(shape))

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        field, inputs, outputs = self._channels(shape)
        if 0 in shape:
            return np.zeros(shape)
        channels = np.tile(np.eye(inputs, outputs // self.groups), (1, self.groups))
        taps = self.gain * self._taps(field)
        if self.layout == "io":
            return np.multiply.outer(taps, channels)
        return np.multiply.outer(channels.T, taps)


@registered()
@dataclass(frozen=True, repr=False)
class Dirac(_ChannelToChannel):
    """`gain` at the centre from channel i to channel i of every group, zero elsewhere: the convolution copies its input.

    Zagoruyko & Komodakis, "DiracNets: training very deep neural networks without skip-connections" (2017).

    Parameters
    ----------
    gain : float, default 1.0
    groups : int, default 1
        Of the convolution; its input channels in the shape are those of one group.
    layout : {"io", "oi"}, default "io"
        Shapes ``(*field, c_in / groups, c_out)`` or ``(c_out, c_in / groups, *field)``.
    """

    def _taps(self, field: tuple[int, ...]) -> NDArray[Any]:
        taps = np.zeros(field)
        taps[tuple(n // 2 for n in field)] = 1
        return taps


@registered()
@dataclass(frozen=True, repr=False)
class Bilinear(_ChannelToChannel):
    """Linear interpolation along every axis, from channel i to channel i: a transposed convolution that enlarges an image.

    A field of size k enlarges by f = ceil(k / 2); its taps are 1 - abs(x - (k - 1) / 2) / f. Long, Shelhamer & Darrell,
    "Fully convolutional networks for semantic segmentation" (2015).

    Parameters
    ----------
    gain, groups, layout
        As in `Dirac`. A depthwise kernel has as many groups as channels.
    """

    def _taps(self, field: tuple[int, ...]) -> NDArray[Any]:
        triangles = []
        for size in field:
            triangles.append(1 - np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2))
        return reduce(np.multiply.outer, triangles)


@registered()
@dataclass(frozen=True, repr=False)
class Icnr(Nested):
    """Copies of one kernel for all the sub-pixels of an output channel, so that enlarging starts without a checkerboard.

    Before a pixel shuffle that makes `factor` x `factor` pixels of as many channels. Aitken et al., "Checkerboard artifact
    free sub-pixel convolution" (2017). Variance and bounds are those of the initializer of the copied kernel.

    Parameters
    ----------
    initializer : anything `fastinit.get` takes, default "he_normal"
        Of the kernel that is copied, whose output channels are factor^rank times fewer.
    factor : int, default 2
    layout : {"io", "oi"}, default "io"
        ``"io"``: shapes ``(*field, in, out)``, sub-pixels outside (TensorFlow's depth_to_space); ``"oi"``: shapes
        ``(out, in, *field)``, sub-pixels inside (PyTorch's PixelShuffle). The initializer has its own option for fans.
    """

    initializer: Any = "he_normal"
    factor: int = 2
    layout: str = "io"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "factor")
        choice(self, "layout", ("io", "oi"))

    def _copied(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
        """Shape of the copied kernel, number of copies, axis."""
        if len(shape) < 3:
            raise ValueError(f"shape: expected at least three axes, those of a convolution, got {shape}")
        axis = len(shape) - 1 if self.layout == "io" else 0
        copies = self.factor ** (len(shape) - 2)
        if shape[axis] % copies:
            raise ValueError(
                f"shape: expected output channels in multiples of {copies}, factor {self.factor} along "
                f"{len(shape) - 2} axes; got {shape[axis]}"
            )
        small = list(shape)
        small[axis] //= copies
        return tuple(small), copies, axis

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        small, copies, axis = self._copied(shape)
        kernel = self._inner()(small, dtype, key=key)
        if self.layout == "io":
            return np.tile(kernel, (1,) * axis + (copies,))
        return np.repeat(kernel, copies, axis)

    def _mean(self, shape: Any) -> float:
        return self._inner()._mean(self._copied(check_shape(shape))[0])

    def variance(self, shape: Any) -> float:
        return self._inner().variance(self._copied(check_shape(shape))[0])

    def bounds(self, shape: Any) -> tuple[float, float]:
        return self._inner().bounds(self._copied(check_shape(shape))[0])

    def _inner(self) -> Initializer:
        found: Initializer = self.initializer
        return found
