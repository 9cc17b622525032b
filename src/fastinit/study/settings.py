"""What all rows of a study share: the key, the sizes, and the handwritten digits."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._engine.stack import Stack
from .._stream.keys import Key
from .._stream.sampling import uniform
from ..initializers import Initializer, Times, get

__all__ = ["Digits", "Settings", "load_digits"]


@dataclass(frozen=True)
class Digits:
    """The digits of scikit-learn: 1,797 images of 8 x 8 pixels in 10 classes, every pixel standardised.

    Attributes
    ----------
    x, y : ndarray of shapes (samples, 64) float32 and (samples,) int
        For training.
    held_out_x, held_out_y : ndarray
        A fifth of the images, never trained on.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    held_out_x: NDArray[Any]
    held_out_y: NDArray[Any]


@functools.lru_cache(maxsize=4)
def load_digits(seed: int) -> Digits:
    """The digits, split by an order drawn from the seed; standardised by the training part alone."""
    from sklearn.datasets import load_digits as load

    data = load()
    order = np.argsort(uniform(len(data.data), key=Key(seed) / "split", dtype="float64"))
    x, y = data.data[order], data.target[order].astype(np.int64)
    cut = len(x) * 4 // 5
    mean, std = x[:cut].mean(axis=0), x[:cut].std(axis=0)
    # Three pixels at the border are never inked: they stay 0.
    x = ((x - mean) / np.where(std > 0, std, 1.0)).astype(np.float32)
    return Digits(x[:cut], y[:cut], x[cut:], y[cut:])


@dataclass(frozen=True)
class Settings:
    """How a study is run.

    Parameters
    ----------
    seed : int, default 0
    quick : bool, default False
        Smaller networks and fewer steps; the same claims, with the wider intervals that fewer samples need.
    weight_variance : float, default 1.0
        What the variance of every weight is multiplied by. Only at 1 are the weights those that the claims speak of: any other
        number makes the study wrong on purpose, to see whether its measurements find that out.
    """

    seed: int = 0
    quick: bool = False
    weight_variance: float = 1.0

    @property
    def key(self) -> Key:
        return Key(self.seed) / "study"

    @property
    def digits(self) -> Digits:
        return load_digits(self.seed)

    def weights(self, law: Any) -> Initializer:
        """The initializer that a claim names, its variance multiplied by `weight_variance`."""
        initializer: Initializer = get(law)
        return initializer if self.weight_variance == 1 else Times(initializer, math.sqrt(self.weight_variance))

    def stack(self, widths: Sequence[int], activation: str, *, weights: Any, **options: Any) -> Stack:
        """A network with weights drawn by a law; the rows of the study make all their networks here."""
        return Stack(widths, activation, weights=self.weights(weights), **options)
