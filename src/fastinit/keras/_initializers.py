"""The initializers: Keras's random classes with numbers from the stream of fastinit, and `get`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import keras as _keras
import numpy as np
from keras import initializers as _theirs
from keras.initializers import (
    STFT,
    Constant,
    Identity,
    Initializer,
    Ones,
    Zeros,
    constant,
    deserialize,
    identity,
    ones,
    serialize,
    stft,
    zeros,
)

from .._common.arithmetic import ieee
from .._common.dtypes import check_shape
from .._stream.draw import draw
from .._stream.keys import Key
from ..initializers import Orthogonal as _Haar
from ..initializers.variance_scaling import law_of_variance

__all__ = [
    "STFT", "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity",
    "IdentityInitializer", "Initializer", "LecunNormal", "LecunUniform", "Ones", "Orthogonal",
    "OrthogonalInitializer", "RandomNormal", "RandomUniform", "STFTInitializer", "TruncatedNormal",
    "VarianceScaling", "Zeros", "constant", "deserialize", "get", "glorot_normal", "glorot_uniform",
    "he_normal", "he_uniform", "identity", "lecun_normal", "lecun_uniform", "ones", "orthogonal",
    "random_normal", "random_uniform", "serialize", "stft", "truncated_normal", "variance_scaling", "zeros",
]  # fmt: skip

IdentityInitializer, STFTInitializer = Identity, STFT


def _key(seed: Any, initial: Any) -> Key:
    """The key of one call of an initializer whose seed is not a SeedGenerator.

    An int gives the same key for every call. Without a seed every call has a new key from Python's `random`, which
    keras.utils.set_random_seed sets: two layers that share the initializer get different values.
    """
    return Key(random.getrandbits(64) if initial is None else seed % 2**64)


def _key_of(state: Any) -> Key:
    """The key of the state of a SeedGenerator, which is its seed and the number of calls."""
    first, count = (int(word) % 2**64 for word in np.asarray(state))
    return Key(first) / count


def _is_traced(tensor: Any) -> bool:
    """Whether a tensor is a tracer of the JAX backend, which has no value yet."""
    if _keras.backend.backend() != "jax":
        return False
    import jax

    return isinstance(tensor, jax.core.Tracer)


def _by_callback(make: Callable[[Key], Any], state: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """A tensor whose values are made on the host when the compiled program runs."""
    import jax

    return jax.pure_callback(
        lambda words: make(_key_of(words)), jax.ShapeDtypeStruct(shape, dtype), state, vmap_method="sequential"
    )


def _number(value: Any) -> Any:
    """A number, or a scalar tensor as a Python float."""
    return float(_keras.ops.convert_to_numpy(value)) if _keras.ops.is_tensor(value) else value


class _FromStream:
    """A mixin for random Keras initializers, whose values then come from the stream of fastinit."""

    seed: Any
    _init_seed: Any

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        """The law of the elements of a tensor of `shape`."""
        raise NotImplementedError

    def _array_function(self, shape: tuple[int, ...], dtype: str) -> Callable[[Key], Any]:
        """The function from a key to the array. It reads tensors of the backend now, because a callback cannot."""
        law, parameters = self._law(shape)
        if law == "uniform" and parameters[0] == parameters[1]:
            law, parameters = "normal", (parameters[0], 0.0)
        return lambda key: draw(law, parameters, shape, key, dtype, None)

    @ieee
    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """A tensor of random numbers.

        Parameters
        ----------
        shape : sequence of int
        dtype : str, optional
            Keras's default float type if not given.

        Returns
        -------
        tensor of the backend

        Raises
        ------
        ValueError
            If a parameter is out of range, or the dtype is unknown.
        """
        name = _keras.backend.standardize_dtype(dtype)
        sizes = check_shape(tuple(shape))
        make = ieee(self._array_function(sizes, name))  # a thread of JAX may call it, with other modes
        if not isinstance(self.seed, _keras.random.SeedGenerator):
            key = _key(self.seed, self._init_seed)
        else:
            state = self.seed.next()
            if _is_traced(state):
                return _by_callback(make, state, sizes, name)
            key = _key_of(_keras.ops.convert_to_numpy(state))
        return _keras.ops.convert_to_tensor(make(key), dtype=name)


class RandomNormal(_FromStream, _theirs.RandomNormal):
    """Normal, not truncated.

    Parameters
    ----------
    mean, stddev : float or scalar tensor, defaults 0 and 0.05
        stddev >= 0.
    seed : int or keras.random.SeedGenerator, optional
        An int gives the same values at every call, a SeedGenerator and None new ones.
    """

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return "normal", (_number(self.mean), _number(self.stddev))


class RandomUniform(_FromStream, _theirs.RandomUniform):
    """Uniform in the half-open interval [minval, maxval).

    Parameters
    ----------
    minval, maxval : float or scalar tensor, defaults -0.05 and 0.05
        minval <= maxval; if they are equal, all values are this number.
    seed
        As for `RandomNormal`.
    """

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return "uniform", (_number(self.minval), _number(self.maxval))


class TruncatedNormal(_FromStream, _theirs.TruncatedNormal):
    """Normal, truncated at two standard deviations from the mean.

    Parameters
    ----------
    mean, stddev : float or scalar tensor, defaults 0 and 0.05
        Before truncation: the standard deviation of the values is 0.8796 stddev.
    seed
        As for `RandomNormal`.
    """

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return "truncated_normal", (_number(self.mean), _number(self.stddev), -2.0, 2.0)


class VarianceScaling(_FromStream, _theirs.VarianceScaling):
    """Mean 0 and variance scale / fan.

    Parameters
    ----------
    scale : float, default 1
        More than 0.
    mode : {"fan_in", "fan_out", "fan_avg"}, default "fan_in"
    distribution : {"truncated_normal", "normal", "untruncated_normal", "uniform"}
        "normal" means "truncated_normal", as in Keras, and that is the default.
    seed
        As for `RandomNormal`.
    input_axes, output_axes : sequences of int, optional
        Axes whose sizes are multiplied to give the fans; only in versions of Keras that have them.
    """

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        fan_in, fan_out = self._fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out}.get(self.mode, (fan_in + fan_out) / 2)
        distribution = "normal" if self.distribution == "untruncated_normal" else self.distribution
        return law_of_variance(self.scale / max(1.0, fan), distribution)

    def _fans(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The fans as Keras defines them, for shape (*receptive field, in, out), or of the axes that were given."""
        inputs, outputs = getattr(self, "input_axes", None), getattr(self, "output_axes", None)
        if inputs is not None and outputs is not None:
            return math.prod(shape[axis] for axis in inputs), math.prod(shape[axis] for axis in outputs)
        if len(shape) < 2:
            return (math.prod(shape),) * 2
        field = math.prod(shape[:-2])
        return field * shape[-2], field * shape[-1]


class GlorotNormal(VarianceScaling, _theirs.GlorotNormal):
    """Truncated normal of variance 2 / (fan_in + fan_out): Glorot & Bengio (2010).

    Parameters
    ----------
    seed, input_axes, output_axes
        As for `VarianceScaling`.
    """


class GlorotUniform(VarianceScaling, _theirs.GlorotUniform):
    """Uniform of variance 2 / (fan_in + fan_out): Glorot & Bengio (2010).

    Parameters
    ----------
    seed, input_axes, output_axes
        As for `VarianceScaling`.
    """


class HeNormal(VarianceScaling, _theirs.HeNormal):
    """Truncated normal of variance 2 / fan_in: He, Zhang, Ren & Sun (2015).

    Parameters
    ----------
    seed, input_axes, output_axes
        As for `VarianceScaling`.
    """


class HeUniform(VarianceScaling, _theirs.HeUniform):
    """Uniform of variance 2 / fan_in: He, Zhang, Ren & Sun (2015).

    Parameters
    ----------
    seed, input_axes, output_axes
        As for `VarianceScaling`.
    """


class LecunNormal(VarianceScaling, _theirs.LecunNormal):
    """Truncated normal of variance 1 / fan_in: LeCun, Bottou, Orr & Müller (1998).

    Parameters
    ----------
    seed, input_axes, output_axes
        As for `VarianceScaling`.
    """


class LecunUniform(VarianceScaling, _theirs.LecunUniform):
    """Uniform of variance 1 / fan_in: LeCun, Bottou, Orr & Müller (1998).

    Parameters
    ----------
    seed, input_axes, output_axes
        As for `VarianceScaling`.
    """


class Orthogonal(_FromStream, _theirs.Orthogonal):
    """A random matrix with orthonormal columns or rows, exactly Haar distributed, times `gain`.

    Parameters
    ----------
    gain : float or scalar tensor, default 1
    seed
        As for `RandomNormal`.

    The shape of a call has two axes or more; the matrix has the shape (product of the others, last).
    """

    def _array_function(self, shape: tuple[int, ...], dtype: str) -> Callable[[Key], Any]:
        if len(shape) < 2:
            raise ValueError(
                "The tensor to initialize must be at least two-dimensional. "
                f"Received: shape={shape} of rank {len(shape)}."
            )
        initializer = _Haar(gain=_number(self.gain))
        return lambda key: initializer(shape, dtype, key=key)


OrthogonalInitializer = Orthogonal
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal = VarianceScaling, Orthogonal
glorot_normal, glorot_uniform = GlorotNormal, GlorotUniform
he_normal, he_uniform, lecun_normal, lecun_uniform = HeNormal, HeUniform, LecunNormal, LecunUniform

# The classes by the names that Keras uses for its own; registered below with the prefix "fastinit>".
_BY_NAME: dict[str, Any] = {
    "random_normal": RandomNormal, "normal": RandomNormal,
    "random_uniform": RandomUniform, "uniform": RandomUniform,
    "truncated_normal": TruncatedNormal, "variance_scaling": VarianceScaling,
    "glorot_normal": GlorotNormal, "glorot_uniform": GlorotUniform,
    "he_normal": HeNormal, "he_uniform": HeUniform,
    "lecun_normal": LecunNormal, "lecun_uniform": LecunUniform,
    "orthogonal": Orthogonal, "OrthogonalInitializer": Orthogonal,
}  # fmt: skip
_BY_NAME |= {cls.__name__: cls for cls in _BY_NAME.values()}
for _cls in set(_BY_NAME.values()):
    _cls.__module__ = "fastinit.keras"  # where pickles and saved models look for them
    _keras.saving.register_keras_serializable(package="fastinit")(_cls)
for _name, _cls in _BY_NAME.items():
    _keras.saving.get_custom_objects()[f"fastinit>{_name}"] = _cls


def get(identifier: Any) -> Any:
    """Like keras.initializers.get, but names of random initializers mean the classes of this module.

    Parameters
    ----------
    identifier : str, dict, class, callable, tensor, array or None
        ``"he_normal"`` and ``"HeNormal"`` are `HeNormal` of this module. Anything else is passed to Keras.

    Returns
    -------
    Initializer or callable

    Raises
    ------
    ValueError
        If Keras does not know the identifier.

    Examples
    --------
    >>> get("he_normal").__class__.__module__
    'fastinit.keras'
    """
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    return _theirs.get(identifier)
