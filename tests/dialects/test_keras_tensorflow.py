"""Lessons import `tensorflow.keras`: their lines run, and the same argument accepts initializers of fastinit.

Runs where TensorFlow is installed and KERAS_BACKEND names it; the whole of test_keras.py passes there, too. Statistical
tests: Kolmogorov-Smirnov at p > 1e-6 with fixed seeds, so a false alarm had a probability of one in a million, once.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    pytest.skip("Keras runs on another backend", allow_module_level=True)

from dialect_laws import ks
from tensorflow.keras import layers

import fastinit

# A warning about how Keras converts its tensors to NumPy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def built(layer, inputs=256):
    layer.build((None, inputs))
    return np.asarray(layer.kernel), np.asarray(layer.bias)


def test_the_lines_of_the_lesson():
    """The default is Glorot's uniform; "he_normal" is truncated at two standard deviations of the uncorrected normal."""
    kernel, bias = built(layers.Dense(64, activation="relu"))
    limit = np.sqrt(6 / (256 + 64))
    assert not bias.any()
    assert ks(kernel.ravel(), lambda x: (x + limit) / (2 * limit)) > 1e-6
    kernel, bias = built(layers.Dense(64, activation="relu", kernel_initializer="he_normal"))
    std = np.sqrt(2 / 256)
    assert not bias.any()
    assert abs(kernel.std() / std - 1) < 5 / np.sqrt(2 * kernel.size)  # five standard errors: a false alarm in 2e6
    assert np.abs(kernel).max() < 2 * std / 0.8796


@pytest.mark.parametrize("initializer", [
    lambda: fastinit.HeNormal(seed=0),
    lambda: __import__("fastinit.keras").keras.HeNormal(seed=0),
])  # fmt: skip
def test_an_initializer_of_fastinit_as_argument(initializer):
    kernel, bias = built(layers.Dense(64, activation="relu", kernel_initializer=initializer()))
    assert np.array_equal(kernel, np.asarray(initializer()((256, 64))))
    assert not bias.any()


def test_by_name_in_a_model_that_trains_and_is_saved(tmp_path):
    import keras

    import fastinit.keras as ours

    model = keras.Sequential([
        keras.Input((2,)),
        layers.Dense(64, activation="relu", kernel_initializer="fastinit>he_normal"),
        layers.Dense(1, kernel_initializer=ours.GlorotUniform(seed=1)),
    ])  # fmt: skip
    assert type(model.layers[0].kernel_initializer) is ours.HeNormal
    x = np.random.default_rng(0).standard_normal((256, 2)).astype("float32")
    y = x[:, :1] * x[:, 1:]
    model.compile("adam", "mse")
    losses = model.fit(x, y, epochs=20, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[1].kernel_initializer) is ours.GlorotUniform
    assert np.array_equal(loaded.get_weights()[0], model.get_weights()[0])
