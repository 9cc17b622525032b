"""Models of Flax nnx, Flax linen and Equinox of the same forms, for the tests of diagnoses; skipped without the framework."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
from jax_cases import jax, jnp

FRAMEWORKS = ["nnx", "linen", "equinox"]
WIDTH, CLASSES = 64, 10
X = jax.random.normal(jax.random.key(1), (32, WIDTH))
SEQUENCES = jax.random.normal(jax.random.key(3), (4, 16, WIDTH))
IMAGES = jax.random.normal(jax.random.key(4), (32, 8, 8, 8))


def he(scale=2.0):
    return jax.nn.initializers.variance_scaling(scale, "fan_in", "normal")


def framework(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Equinox at import
        return pytest.importorskip({"nnx": "flax.nnx", "linen": "flax.linen", "equinox": "equinox"}[name])


def _linear(eqx, kernel, key, inputs, outputs, bias=True):
    """A layer of Equinox, whose weight is the transpose of Flax's kernel."""
    made = eqx.nn.Linear(inputs, outputs, use_bias=bias, key=key)
    made = eqx.tree_at(lambda one: one.weight, made, kernel(key, (inputs, outputs), jnp.float32).T)
    return eqx.tree_at(lambda one: one.bias, made, jnp.zeros(outputs)) if bias else made


def plain(name, depth=12, raises=False, remat=False, seed=0, dtype=jnp.float32):
    """Dense layers of He; with `raises` the second of them does so, but not where linen makes parameters."""
    fw = framework(name)

    def called(layer, h):
        return layer(h)

    def forward(model, h):
        for i, layer in enumerate(model.layers):
            if remat and name != "linen":
                layer = functools.partial(fw.remat(called), layer) if name == "nnx" else fw.filter_checkpoint(layer)
            h = jax.nn.relu(layer(h))
            if raises and i == 1 and not (name == "linen" and model.is_initializing()):
                raise RuntimeError("in the middle")
        return model.head(h)

    if name == "nnx":

        class Plain(fw.Module):
            def __init__(self, rngs):
                def dense(outputs, kernel):
                    return fw.Linear(WIDTH, outputs, kernel_init=kernel, param_dtype=dtype, rngs=rngs)

                self.layers = fw.List([dense(WIDTH, he()) for _ in range(depth)])
                self.head = dense(CLASSES, he(1.0))

            __call__ = forward

        return Plain(fw.Rngs(seed))
    if name == "linen":

        class Plain(fw.Module):
            def setup(self):
                dense = fw.remat(fw.Dense) if remat else fw.Dense
                self.layers = [dense(WIDTH, kernel_init=he(), param_dtype=dtype) for _ in range(depth)]
                self.head = fw.Dense(CLASSES, kernel_init=he(1.0), param_dtype=dtype)

            __call__ = forward

        made = Plain()
        return made.bind(made.init(jax.random.key(seed), X.astype(dtype)))

    class Plain(fw.Module):
        layers: list
        head: fw.nn.Linear

        def __init__(self, key):
            keys = iter(jax.random.split(key, depth + 1))

            def dense(outputs, kernel):
                one = _linear(fw, kernel, next(keys), WIDTH, outputs)
                return jax.tree.map(lambda leaf: leaf.astype(dtype) if fw.is_array(leaf) else leaf, one)

            self.layers = [dense(WIDTH, he()) for _ in range(depth)]
            self.head = dense(CLASSES, he(1.0))

        __call__ = forward

    return Plain(jax.random.key(seed))


def noisy(name):
    """A model with statistics and dropout, and how it is called."""
    fw = framework(name)
    if name == "nnx":
        rngs = fw.Rngs(0)
        parts = fw.Linear(WIDTH, WIDTH, rngs=rngs), fw.BatchNorm(WIDTH, rngs=rngs), fw.Dropout(0.1, rngs=rngs)
        return fw.Sequential(*parts, fw.Linear(WIDTH, CLASSES, rngs=rngs)), None
    if name == "linen":
        norm, dropout = fw.BatchNorm(use_running_average=False), fw.Dropout(0.1, deterministic=False)
        made = fw.Sequential([fw.Dense(WIDTH), norm, dropout, fw.Dense(CLASSES)])
        return made.bind(made.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, X)), None
    keys = jax.random.split(jax.random.key(0))
    norm, state = fw.nn.make_with_state(fw.nn.BatchNorm)(WIDTH, "batch", mode="batch")
    model = fw.nn.Sequential([fw.nn.Linear(WIDTH, WIDTH, key=keys[0]), norm, fw.nn.Linear(WIDTH, CLASSES, key=keys[1])])
    return model, lambda model, x: jax.vmap(model, (0, None), (0, None), axis_name="batch")(x, state)[0]


def state_of(model):
    """Copies of all arrays of a model, and its form: of Flax nnx also statistics, counts and the modules' attributes."""
    form: object = None
    if framework_of(model) == "nnx":
        form, tree = framework("nnx").split(model)
    else:
        tree = model.variables if framework_of(model) == "linen" else model
        form = jax.tree.structure(tree)

    def copied(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.array(leaf).tobytes(), leaf.dtype

    return form, [copied(leaf) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]


def framework_of(model):
    return next(name for name in FRAMEWORKS if isinstance(model, framework(name).Module))
