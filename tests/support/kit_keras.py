"""What `diagnosed_models` builds models of, in Keras on the backend of KERAS_BACKEND. Every layer is built when it is made."""

from __future__ import annotations

import types

import numpy as np
import pytest
from keras_backend import keras

if keras.config.backend() == "tensorflow":
    pytest.skip("Keras on TensorFlow is refused", allow_module_level=True)

from fastinit.keras import diagnose as _diagnose

layers = keras.layers
ops = types.SimpleNamespace(
    **{name: getattr(keras.ops, name) for name in (
        "reshape", "swapaxes", "matmul", "softmax", "relu", "silu", "tanh", "mean", "argmax", "where", "stop_gradient",
    )},
    gelu=lambda x: keras.ops.gelu(x, approximate=False), array=keras.ops.convert_to_tensor,
)  # fmt: skip


class _Model(keras.Model):
    def __init__(self, forward, parts):
        super().__init__()
        self._run = forward
        for name, part in parts.items():
            for i, layer in enumerate(part if isinstance(part, list) else [part]):
                layer.name = f"{name}_{i}" if isinstance(part, list) else name
            setattr(self, name, part)
        self.built = True

    def call(self, *inputs):
        return self._run(self, *(inputs[0] if isinstance(inputs[0], list) else inputs))


def begin():
    """Keras's own starts are the same for each model, whatever was made before."""
    keras.utils.set_random_seed(0)


def module(forward, **parts):
    return _Model(forward, parts)


def initializing(model):
    return False


def _given(start, what="kernel"):
    return {} if start is None else {f"{what}_initializer": lambda shape, dtype=None: keras.ops.convert_to_tensor(start(shape))}


def _built(layer, *shape):
    layer.build(shape)
    return layer


def dense(inputs, outputs, start=None, bias=None):
    given = _given(start) | ({} if bias is None or bias is False else _given(lambda shape: np.broadcast_to(bias, shape), "bias"))
    return _built(layers.Dense(outputs, use_bias=bias is not False, **given), None, inputs)


def conv(inputs, outputs, size, stride, start):
    how = {"strides": stride, "padding": "same" if size % 2 else "valid", "use_bias": False}
    return _built(layers.Conv2D(outputs, size, **how, **_given(start)), None, None, None, inputs)


def embedding(count, width, start):
    return _built(layers.Embedding(count, width, **_given(start, "embeddings")), None, None)


def attend(layer, hidden):
    return keras.ops.matmul(hidden, keras.ops.transpose(layer.embeddings))


def layernorm(width):
    return _built(layers.LayerNormalization(epsilon=1e-5), None, width)


def rmsnorm(width):
    return _built(layers.RMSNormalization(), None, width)


def batchnorm(channels, scale=1.0):
    gamma = keras.initializers.Constant(scale)
    return _built(layers.BatchNormalization(epsilon=1e-5, gamma_initializer=gamma), None, None, None, channels)


class _Scale(layers.Layer):
    def __init__(self, shape, value, trained):
        super().__init__()
        self.value = self.add_weight(shape=shape, initializer=keras.initializers.Constant(value), trainable=trained, name="value")
        self.built = True

    def call(self, x):
        return self.value * x


def scale(shape, value, trained=True):
    return _Scale(shape, value, trained)


def activation(name):
    return layers.Activation(name)


def frozen(layer):
    layer.trainable = False
    return layer


def images(x):
    return x


def pooled(x):
    return keras.ops.mean(x, axis=(-3, -2))


def patches(x):
    return keras.ops.reshape(x, (x.shape[0], -1, x.shape[-1]))


def diagnose(model, *inputs):
    return _diagnose(model, inputs[0] if len(inputs) == 1 else list(inputs))
