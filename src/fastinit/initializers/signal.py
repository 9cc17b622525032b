"""The short-time Fourier transform as a convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._common.portable_math import cosine_of_turns, sine_of_turns
from .base import choice, flag
from .catalogue import registered
from .deterministic import Fixed

__all__ = ["STFT"]

# Coefficients a_m of the window sum over m of (-1)^m a_m cos(2 pi m t / period).
_WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "blackman": (0.42, 0.5, 0.08)}


@registered()
@dataclass(frozen=True, repr=False)
class STFT(Fixed):
    """The real or imaginary component of the short-time Fourier transform, as the kernel of a convolution over time.

    The shape is ``(frame, 1, bins)``, and element (t, 0, f) is w_t cos(2 pi t f / n) or -w_t sin(2 pi t f / n), n = 2 (bins - 1).
    Allen & Rabiner, "A unified approach to short-time Fourier analysis and synthesis" (1977).

    Parameters
    ----------
    side : {"real", "imag"}, default "real"
        Which component.
    window : {"hann", "hamming", "blackman"} or None, default "hann"
        w; for None, w = 1.
    scaling : {"density", "spectrum"} or None, default "density"
        Whether w is divided by its Euclidean norm, by its sum, or not at all.
    periodic : bool, default False
        Whether the window has the period `frame`; if not, it is symmetric about its middle.
    layout : {"io", "oi"}, default "io"
        Whether the shape is ``(frame, 1, bins)`` or ``(bins, 1, frame)``.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape is
        another, or has fewer than two bins.

    Examples
    --------
    >>> STFT(window=None, scaling=None)((4, 1, 3))[:, 0, 1]
    array([ 1.,  0., -1.,  0.], dtype=float32)
    """

    side: str = "real"
    window: str | None = "hann"
    scaling: str | None = "density"
    periodic: bool = False
    layout: str = "io"

    _complex: ClassVar[bool] = False  # real and imaginary components are two tensors of their own

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "side", ("real", "imag"))
        if self.window is not None:
            choice(self, "window", _WINDOWS)
        if self.scaling is not None:
            choice(self, "scaling", ("density", "spectrum"))
        flag(self, "periodic")
        choice(self, "layout", ("io", "oi"))

    def _window(self, frame: int) -> NDArray[Any]:
        if self.window is None or frame == 1:
            return np.ones(frame)
        period = frame if self.periodic else frame - 1
        terms = enumerate(_WINDOWS[self.window])
        window = sum(
            (-1) ** m * a * cosine_of_turns(m * np.arange(frame), period) for m, a in terms
        )
        # An exactly rounded sum: the order in which NumPy adds depends on the machine.
        scale = 1.0
        if self.scaling == "density":
            scale = math.sqrt(math.fsum(float(x) * float(x) for x in window))
        elif self.scaling == "spectrum":
            scale = math.fsum(abs(float(x)) for x in window)
        return np.asarray(window / scale if scale else window)

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if len(shape) != 3 or shape[1] != 1:
            expected = "(frame, 1, bins)" if self.layout == "io" else "(bins, 1, frame)"
            raise ValueError(f"shape: expected {expected}, got {shape}")
        frame, _, bins = shape if self.layout == "io" else shape[::-1]
        if 0 in shape:
            return np.zeros(shape)
        if bins < 2:
            raise ValueError(f"shape: expected at least two bins, got {shape}")
        turns = np.multiply.outer(np.arange(frame), np.arange(bins))
        size = 2 * (bins - 1)
        wave = cosine_of_turns(turns, size) if self.side == "real" else -sine_of_turns(turns, size)
        kernel = (self._window(frame)[:, None] * wave)[:, None, :]
        return kernel if self.layout == "io" else kernel.T
