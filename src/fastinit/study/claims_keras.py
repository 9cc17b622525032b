"""Claim 15: Keras takes the initialiser."""

from __future__ import annotations

import importlib.util
import os
import warnings

import numpy as np

from ..initializers import HeNormal
from .rows import Check, Claim, Measurement
from .settings import Settings

__all__ = ["FRAMEWORKS"]


def keras_takes_it(settings: Settings) -> Measurement:
    backends = [name for name in ("jax", "torch", "tensorflow") if importlib.util.find_spec(name)]
    if importlib.util.find_spec("keras") is None or not backends:
        return Measurement("", skipped="not measured: Keras or a backend for it is not installed")
    # Keras takes TensorFlow where nobody chose, and fails where that is absent.
    os.environ.setdefault("KERAS_BACKEND", backends[0])
    import keras

    digits = settings.digits
    law = HeNormal(seed=settings.seed)
    initializer = settings.weights(law)
    layer = keras.layers.Dense(64, activation="relu", kernel_initializer=initializer)
    with warnings.catch_warnings():
        # Keras's own, of how its arrays become NumPy's; it does not touch the values.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        keras.utils.set_random_seed(settings.seed % 2**32)
        model = keras.Sequential([keras.Input((64,)), layer, keras.layers.Dense(10)])
        kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel))
        unequal = float(np.abs(kernel - law((64, 64), "float32")).max())
        model.compile(
            optimizer=keras.optimizers.Adam(0.003),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
        )  # fmt: skip
        model.fit(digits.x, digits.y, epochs=5, batch_size=32, verbose=0)
        outputs = np.asarray(model.predict(digits.held_out_x, verbose=0))
        accuracy = float((outputs.argmax(axis=1) == digits.held_out_y).mean())
    return Measurement(
        f"Keras {keras.__version__} on {keras.config.backend()}: the kernel differs from our own draw by {unequal:g}; "
        f"held-out accuracy {accuracy:.1%}",
        (
            Check("largest difference from our own draw", unequal, 0, 0),
            Check("held-out accuracy after 5 epochs", accuracy, 0.9, 1.0),
        ),
    )


FRAMEWORKS = (
    Claim(
        15,
        "Keras' Dense(64, activation=\"relu\", kernel_initializer=...) takes the initialiser.",
        "the real Keras, 64-64-10 on the digits, five epochs",
        keras_takes_it,
        "true",
        "An initializer of ours works as it is in that argument.",
    ),
)
