"""What all claims share: the key, the size of the networks, and the handwritten digits."""

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
        The training set.
    held_out_x, held_out_y : ndarray
        The test set, a fifth of the images, in the same shapes.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    held_out_x: NDArray[Any]
    held_out_y: NDArray[Any]


@functools.lru_cache(maxsize=4)
def load_digits(seed: int) -> Digits:
    """The digits in an order drawn from the seed, split, and standardised by the mean and deviation of the training set."""
    from sklearn.datasets import load_digits as load

    data = load()
    order = np.argsort(uniform(len(data.data), key=Key(seed) / "split", dtype="float64"))
    x, y = data.data[order], data.target[order].astype(np.int64)
    cut = len(x) * 4 // 5
    mean, std = x[:cut].mean(axis=0), x[:cut].std(axis=0)
    # Three pixels at the border are 0 in every image: they stay 0.
    x = ((x - mean) / np.where(std > 0, std, 1.0)).astype(np.float32)
    return Digits(x[:cut], y[:cut], x[cut:], y[cut:])


@dataclass(frozen=True)
class Settings:
    """How a study is run.

    Parameters
    ----------
    seed : int, default 0
        In [0, 2^64): the seed of all weights, and of the split into training and test set.
    quick : bool, default False
        Smaller networks and fewer steps; the same claims, with the wider intervals that fewer samples need.
    weight_variance : float, default 1.0
        A factor on the variance of every weight. With any other number than 1 the weights are wrong on purpose: tests use
        it to see whether the measurements detect that.
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

    def weights(self, initializer: Any) -> Initializer:
        """The initializer of a claim, its variance multiplied by `weight_variance`."""
        stated: Initializer = get(initializer)
        return stated if self.weight_variance == 1 else Times(stated, math.sqrt(self.weight_variance))

    def stack(self, widths: Sequence[int], activation: str, *, weights: Any, **options: Any) -> Stack:
        """A network. All networks of the study are made here, so that `weight_variance` acts on all of them."""
        return Stack(widths, activation, weights=self.weights(weights), **options)
