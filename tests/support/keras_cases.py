"""Shared by the tests of diagnoses of Keras models: data, and layers with seeds, so that nothing depends on the process."""

from __future__ import annotations

import numpy as np
from keras_backend import keras

import fastinit
from fastinit import Key


def data(*shape):
    return np.asarray(fastinit.normal(shape, key=Key(0)))


def weights(name="LecunNormal", i=0, **options):
    """An initializer of fastinit with a seed."""
    from fastinit import keras as ours

    return getattr(ours, name)(seed=i, **options)


def dense(units, i=0, **options):
    return keras.layers.Dense(units, kernel_initializer=weights(i=i), **options)
