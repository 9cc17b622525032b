"""Shared by the tests of the JAX dialect: both modules, a key, names of the factories. They are skipped without JAX."""

import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed: the dialect is not tested")

import jax.numpy as jnp  # noqa: E402
from jax.nn import initializers as theirs  # noqa: E402

from fastinit import jax as ours  # noqa: E402

__all__ = ["FACTORIES", "FLOATS", "KEY", "PLAIN", "SCALED", "jax", "jnp", "ours", "shape_for", "theirs"]

KEY = jax.random.key(2026)
FLOATS = ["float32", "float16", "bfloat16"]
SCALED = ["glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"]
PLAIN = ["uniform", "normal", "truncated_normal"]
FACTORIES = [*PLAIN, *SCALED, "orthogonal", "delta_orthogonal"]


def shape_for(name):
    return (3, 3, 4, 6) if name == "delta_orthogonal" else (6, 5)
