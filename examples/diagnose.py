"""Asks whether a network will train, changes what the diagnosis recommends, and trains both to see who was right.

    python examples/diagnose.py

Twenty layers of GELU with a head for the ten handwritten digits, from Keras' default start. Needs scikit-learn; takes a few
seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import fastinit
from fastinit import Key, Stack

WIDTHS = (64,) * 20 + (10,)
NETWORK: dict[str, Any] = {"activation": "gelu", "output_activation": "linear", "weights": "glorot_uniform"}
TRAINED = 1400  # samples; the others are held out

Array = NDArray[Any]


def digits() -> tuple[Array, Array]:
    """Images with mean 0 and variance 1 over all pixels, and their classes, in a random order."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return ((x - x.mean()) / x.std())[order].astype(np.float32), y[order]


def accuracy(options: dict[str, Any], x: Array, y: Array) -> float:
    """On the samples held out, after five epochs of gradient descent with momentum."""
    stack = Stack(WIDTHS, key=Key(0), **options)
    fastinit.fit(stack, x[:TRAINED], y[:TRAINED], optimizer=fastinit.Momentum(0.01), epochs=5, key=Key(1))
    return float(np.mean(fastinit.predict(stack, x[TRAINED:]) == y[TRAINED:]))


def main() -> None:
    x, y = digits()
    found = fastinit.diagnose(WIDTHS, x=x[:64], labels=y[:64], **NETWORK)
    print(found)

    changed = {**NETWORK, **(found.findings[0].changes or {})}
    again = fastinit.diagnose(WIDTHS, x=x[:64], labels=y[:64], **changed)
    print(f"\n{'start':<10}{'verdict':<12}accuracy")
    for name, verdict, options in (("given", found.verdict, NETWORK), ("changed", again.verdict, changed)):
        print(f"{name:<10}{verdict:<12}{accuracy(options, x, y):.2f}")


if __name__ == "__main__":
    main()
