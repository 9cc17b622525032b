"""The initializers of JAX with the random numbers of fastinit: ``from fastinit import jax as initializers``.

The factories have the arguments of jax.nn.initializers and return functions of (key, shape, dtype, out_sharding), for
Flax and Equinox too. The 64 bits of a JAX key are the seed, so ``jax.random.key(7)`` gives the values of
``fastinit.Key(7)``. Outside of a trace the array is made on the host, and passed to JAX without a copy on the CPU; inside
of one (jit, vmap, scan, eval_shape) it is made by a host callback. It is placed as JAX would place it: on the device of
the key, or replicated over the current mesh. With `out_sharding` every shard is made separately.
`diagnose` says whether a model of Flax or Equinox will train from its start.
docs/dialects.md lists the differences from JAX.

May import: _common, _stream, initializers, diagnosis, _core.
"""

from __future__ import annotations

from .._common.frameworks import import_failure

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise import_failure(__name__, "JAX", "jax", error) from error

from jax.nn.initializers import Initializer, ones, zeros

from ._diagnose import diagnose
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
    "Initializer", "constant", "delta_orthogonal", "diagnose", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform",
    "kaiming_normal", "kaiming_uniform", "lecun_normal", "lecun_uniform", "normal", "ones", "orthogonal",
    "truncated_normal", "uniform", "variance_scaling", "xavier_normal", "xavier_uniform", "zeros",
]  # fmt: skip
