"""The JAX dialect: ``from fastinit import jax as initializers`` stands where ``from jax.nn import initializers`` stood.

The factories take the arguments of jax.nn.initializers and return functions of (key, shape, dtype, out_sharding), which Flax and
Equinox take as they take JAX's own. The 64 bits of a JAX key are the seed, so ``jax.random.key(7)`` names the values of
``fastinit.Key(7)``. Outside of a trace the array is made on the host and handed over without a copy on the CPU; inside of
one (jit, vmap, scan, eval_shape) by a host callback. It lies where JAX's own would: on the device of the key, or
replicated over the mesh that is set. With `out_sharding` each shard is made alone.
docs/dialects.md lists where the two differ.

May import: _common, _stream, initializers, _core.
"""

from __future__ import annotations

from .._common.frameworks import import_failure

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise import_failure(__name__, "JAX", "jax", error) from error

from jax.nn.initializers import Initializer, ones, zeros

from ._init import (
    constant,
    delta_orthogonal,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    orthogonal,
    truncated_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
)

__all__ = [
    "Initializer", "constant", "delta_orthogonal", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform",
    "kaiming_normal", "kaiming_uniform", "lecun_normal", "lecun_uniform", "normal", "ones", "orthogonal",
    "truncated_normal", "uniform", "variance_scaling", "xavier_normal", "xavier_uniform", "zeros",
]  # fmt: skip
