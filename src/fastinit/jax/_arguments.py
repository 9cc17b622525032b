"""The arguments of a JAX initializer: keys, dtypes, shapes and shardings, accepted and refused as by JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._common.dtypes import check_shape
from .._stream.keys import Key

Shape = tuple[int, ...]


def is_traced(*values: Any) -> bool:
    return any(isinstance(value, jax.core.Tracer) for value in values)


def words_of(key: Any) -> Any:
    """The uint32 words of one JAX key, typed or raw; how many depends on its generator. A tracer inside of a trace.

    A raw key is converted to a typed one, which checks its number of words, and is a tracer inside of a trace.
    """
    if not hasattr(key, "dtype"):
        raise TypeError(f"key: expected a JAX key, got {type(key).__name__}")
    typed = key
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype != np.uint32:
            raise TypeError(f"key: expected a JAX key, got {key.dtype}{list(key.shape)}")
        typed = jax.random.wrap_key_data(key)
    if typed.shape != ():
        raise ValueError(
            f"key: expected a single key, got a key array of shape {typed.shape}; use jax.vmap for batches"
        )
    words = key if typed is not key and not is_traced(typed) else jax.random.key_data(typed)
    if words.ndim != 1 or not 1 <= words.shape[0] <= 4:
        raise TypeError(f"key: expected a JAX key of 1 to 4 words, got one of shape {words.shape}")
    return words


def key_of(words: Any) -> Key:
    """The fastinit key of the words: the first two are the seed, the others the stream."""
    numbers = [int(word) for word in words]
    seed, stream = 0, 0
    for number in numbers[:2]:
        seed = seed << 32 | number
    for number in numbers[2:]:
        stream = stream << 32 | number
    return Key(seed, stream)


def checks_keys() -> bool:
    """Whether JAX is configured to check for reused or raw keys."""
    config = jax.config
    return config.jax_debug_key_reuse or config.jax_enable_custom_prng or config.jax_legacy_prng_key != "allow"


def canonical(dtype: Any) -> np.dtype[Any]:
    """The dtype that JAX uses for `dtype`, with JAX's warning if it is narrower than requested.

    Python's float and complex request no width, and give no warning.
    """
    if dtype is None or dtype is float or dtype is complex:
        return np.dtype(jax.dtypes.canonicalize_dtype(dtype or float))
    wanted = np.dtype(dtype)
    found = np.dtype(jax.dtypes.canonicalize_dtype(wanted))
    return found if found == wanted else np.dtype(jnp.zeros(0, wanted).dtype)


def floating(dtype: Any, what: str, *, or_complex: bool = False) -> np.dtype[Any]:
    """The dtype that JAX uses, which must be floating, or complex if that is allowed."""
    found = canonical(dtype)
    if not jnp.issubdtype(found, jnp.inexact if or_complex else jnp.floating):
        kinds = "float or complex" if or_complex else "float"
        raise ValueError(f"dtype argument to `{what}` must be a {kinds} dtype, got {found}")
    return found


def sizes_of(shape: Any) -> Shape:
    """The shape as a tuple; JAX accepts any sequence of ints, and an int."""
    return check_shape(tuple(shape) if hasattr(shape, "__iter__") else shape)


def sharding_of(out_sharding: Any, shape: Shape) -> Any:
    """`out_sharding` as a sharding, or None. A PartitionSpec refers to the current mesh, which is abstract inside of a trace."""
    if isinstance(out_sharding, jax.sharding.PartitionSpec):
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty:
            raise ValueError(
                f"out_sharding: expected a NamedSharding, or jax.set_mesh around the call, got {out_sharding} and no mesh"
            )
        out_sharding = jax.sharding.NamedSharding(mesh, out_sharding)
    if out_sharding is not None and not isinstance(out_sharding, jax.sharding.Sharding):
        raise TypeError(f"out_sharding: expected a NamedSharding or PartitionSpec, got {type(out_sharding).__name__}")
    spec = getattr(out_sharding, "spec", ())
    if len(spec) > len(shape):
        raise ValueError(f"out_sharding: expected at most {len(shape)} axes for shape {shape}, got {spec}")
    return out_sharding
