"""Convolution kernels of a given structure: Dirac, bilinear interpolation, sub-pixel convolution."""

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
    """Base class: in each group, input channel i goes to output channel i alone, through the same taps for every i."""

    gain: float = 1.0
    groups: int = 1
    layout: str = "io"

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "gain")
        whole(self, "groups")
        choice(self, "layout", ("io", "oi"))

    def _taps(self, field: tuple[int, ...]) -> NDArray[Any]:
        """The kernel from one channel to one channel, of the shape of the receptive field."""
        raise NotImplementedError

    def _channels(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
        """The receptive field, input channels of one group, and output channels."""
        if len(shape) < 3:
            raise ValueError(f"shape: expected at least three axes for a convolution, got {shape}")
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
    """`gain` at the centre from channel i to channel i of every group, zero elsewhere: the convolution returns its input.

    Zagoruyko & Komodakis, "DiracNets: training very deep neural networks without skip-connections" (2017).

    Parameters
    ----------
    gain : float, default 1.0
        Finite.
    groups : int, in [1, 2**63), default 1
        Groups of the convolution, a divisor of the output channels.
    layout : {"io", "oi"}, default "io"
        Shapes are ``(*field, c_in / groups, c_out)`` or ``(c_out, c_in / groups, *field)``.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape has fewer than three axes, or
        its output channels are no multiple of `groups`.

    Examples
    --------
    >>> Dirac()((3, 1, 1)).ravel()
    array([0., 1., 0.], dtype=float32)
    """

    def _taps(self, field: tuple[int, ...]) -> NDArray[Any]:
        taps = np.zeros(field)
        taps[tuple(n // 2 for n in field)] = 1
        return taps


@registered()
@dataclass(frozen=True, repr=False)
class Bilinear(_ChannelToChannel):
    """Linear interpolation along every axis, from channel i to channel i: a transposed convolution that upsamples an image.

    A kernel of size k upsamples by f = ceil(k / 2); its taps are 1 - abs(x - (k - 1) / 2) / f, 0 <= x < k.
    Long, Shelhamer & Darrell, "Fully convolutional networks for semantic segmentation" (2015).

    Parameters
    ----------
    gain, groups, layout
        As in `Dirac`, and so are the errors. A depthwise kernel has as many groups as channels.

    Examples
    --------
    >>> Bilinear()((3, 1, 1)).ravel()
    array([0.5, 1. , 0.5], dtype=float32)
    """

    def _taps(self, field: tuple[int, ...]) -> NDArray[Any]:
        triangles = []
        for size in field:
            triangles.append(1 - np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2))
        return reduce(np.multiply.outer, triangles)


@registered()
@dataclass(frozen=True, repr=False)
class Icnr(Nested):
    """The same kernel for all sub-pixels of an output channel, so that upsampling starts without a checkerboard pattern.

    For a convolution before a pixel shuffle, which turns factor^rank channels into ``factor`` sub-pixels along each of the `rank`
    axes of an image. Aitken et al., "Checkerboard artifact free sub-pixel convolution" (2017). Variance and bounds are those
    of the initializer of the copied kernel.

    Parameters
    ----------
    initializer : initializer or str, default "he_normal"
        Of the copied kernel, which has factor^rank times fewer output channels; anything that `fastinit.get` takes. It has its
        own option for fans.
    factor : int, in [1, 2**63), default 2
        Upsampling factor along each axis.
    layout : {"io", "oi"}, default "io"
        ``"io"``: shapes ``(*field, in, out)``, where the sub-pixel is the slower index of the output channels (TensorFlow's
        depth_to_space). ``"oi"``: shapes ``(out, in, *field)``, where it is the faster index (PyTorch's PixelShuffle).

    Raises
    ------
    TypeError, ValueError
        As in `fastinit.get`, or if an option is of another type or out of range. When called: a ValueError if the shape
        has fewer than three axes, or its output channels are no multiple of factor^rank.
    """

    initializer: Any = "he_normal"
    factor: int = 2
    layout: str = "io"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "factor")
        choice(self, "layout", ("io", "oi"))

    def _copied(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
        """Shape of the copied kernel, number of copies, and the axis of the output channels."""
        if len(shape) < 3:
            raise ValueError(f"shape: expected at least three axes for a convolution, got {shape}")
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
