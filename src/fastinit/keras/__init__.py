"""Keras initializers with the random numbers of fastinit: ``from fastinit import keras as initializers``.

The random classes are subclasses of Keras's with the same arguments, attributes and configuration; their values are the
same on every backend and machine. They are registered with Keras as ``"fastinit>HeNormal"`` and ``"fastinit>he_normal"``:
saved models load again once this module is imported, and Keras accepts these strings as names of initializers. Classes
without random numbers (`Zeros`, `Constant`, ...) are Keras's own. docs/dialects.md lists the differences from Keras.

`diagnose` says whether a Keras model will train from its start.

May import: _common, _stream, initializers, diagnosis, _core.
"""

from __future__ import annotations

from .._common.frameworks import import_failure, keras_backend_advice

try:
    import keras as _keras
except (ImportError, ValueError) as error:  # a backend is not installed, or unknown to Keras
    raise import_failure(__name__, "Keras", "keras", error, keras_backend_advice()) from error

if tuple(int(part) for part in _keras.__version__.split(".")[:2]) < (3, 8):
    raise ImportError(f"fastinit.keras: expected Keras 3.8 or newer, got Keras {_keras.__version__}")

from ._diagnose import diagnose
from ._initializers import (
    STFT,
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    IdentityInitializer,
    Initializer,
    LecunNormal,
    LecunUniform,
    Ones,
    Orthogonal,
    OrthogonalInitializer,
    RandomNormal,
    RandomUniform,
    STFTInitializer,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
    constant,
    deserialize,
    get,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    identity,
    lecun_normal,
    lecun_uniform,
    ones,
    orthogonal,
    random_normal,
    random_uniform,
    serialize,
    stft,
    truncated_normal,
    variance_scaling,
    zeros,
)

__all__ = [
    "STFT", "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity",
    "IdentityInitializer", "Initializer", "LecunNormal", "LecunUniform", "Ones", "Orthogonal",
    "OrthogonalInitializer", "RandomNormal", "RandomUniform", "STFTInitializer", "TruncatedNormal",
    "VarianceScaling", "Zeros", "constant", "deserialize", "diagnose", "get", "glorot_normal", "glorot_uniform",
    "he_normal", "he_uniform", "identity", "lecun_normal", "lecun_uniform", "ones", "orthogonal",
    "random_normal", "random_uniform", "serialize", "stft", "truncated_normal", "variance_scaling", "zeros",
]  # fmt: skip
