"""Claim 15: Keras takes an initializer of fastinit."""

from __future__ import annotations

import importlib.util
import os
import warnings

import numpy as np

from ..initializers import HeNormal
from .rows import Check, Claim, Measurement
from .settings import Settings

__all__ = ["FRAMEWORKS"]


def keras_takes_the_initializer(settings: Settings) -> Measurement:
    backends = [name for name in ("jax", "torch", "tensorflow") if importlib.util.find_spec(name)]
    if importlib.util.find_spec("keras") is None or not backends:
        return Measurement("", skipped="not measured: Keras or a backend for it is not installed")
    # Without a choice Keras imports TensorFlow, and fails where that is not installed.
    os.environ.setdefault("KERAS_BACKEND", backends[0])
    import keras

    digits = settings.digits
    he_normal = HeNormal(seed=settings.seed)
    initializer = settings.weights(he_normal)
    layer = keras.layers.Dense(64, activation="relu", kernel_initializer=initializer)
    with warnings.catch_warnings():
        # A warning about how Keras converts its arrays to NumPy's; the values are correct.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        keras.utils.set_random_seed(settings.seed % 2**32)
        model = keras.Sequential([keras.Input((64,)), layer, keras.layers.Dense(10)])
        kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel))
        difference = float(np.abs(kernel - he_normal((64, 64), "float32")).max())
        model.compile(
            optimizer=keras.optimizers.Adam(0.003),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
        )  # fmt: skip
        model.fit(digits.x, digits.y, epochs=5, batch_size=32, verbose=0)
        outputs = np.asarray(model.predict(digits.held_out_x, verbose=0))
        accuracy = float((outputs.argmax(axis=1) == digits.held_out_y).mean())
    return Measurement(
        f"Keras {keras.__version__} on {keras.config.backend()}: the kernel differs from what the initializer returns by "
        f"{difference:g}; accuracy on held-out digits {accuracy:.1%}.",
        (
            Check("largest difference of the kernel from what the initializer returns", difference, 0, 0),
            Check("accuracy on held-out digits after 5 epochs", accuracy, 0.9, 1.0),
        ),
    )


FRAMEWORKS = (
    Claim(
        15,
        "Keras' Dense(64, activation=\"relu\", kernel_initializer=...) takes the initialiser.",
        "the installed Keras, layers of 64-64-10 units, digits, five epochs",
        keras_takes_the_initializer,
        "true",
        "A fastinit initializer works unchanged as that argument.",
    ),
)
