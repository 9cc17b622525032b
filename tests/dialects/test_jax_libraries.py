"""fastinit.jax in Flax and Equinox."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from jax_cases import KEY, jax, jnp, ours


def test_flax_linen():
    nn = pytest.importorskip("flax.linen", reason="Flax is not installed")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(64, kernel_init=ours.he_normal())(x))
            x = nn.Conv(8, (3,), kernel_init=ours.delta_orthogonal(), bias_init=ours.normal(0.1))(x[..., None])
            return nn.Dense(1, kernel_init=ours.orthogonal())(x.reshape(x.shape[0], -1))

    x = jnp.ones((4, 8))
    parameters = Net().init(KEY, x)
    jitted = jax.jit(Net().init)(KEY, x)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), parameters, jitted))
    shapes = jax.eval_shape(Net().init, KEY, x)
    assert jax.tree.map(lambda a: a.shape, parameters) == jax.tree.map(lambda a: a.shape, shapes)
    kernel = np.asarray(parameters["params"]["Dense_0"]["kernel"])
    assert np.abs(kernel).max() <= 2 * math.sqrt(2 / 8) / 0.8796
    assert Net().apply(parameters, x).shape == (4, 1)


def test_flax_nnx_trains():
    nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
    rngs = nnx.Rngs(0)
    first = nnx.Linear(2, 32, kernel_init=ours.he_normal(), rngs=rngs)
    second = nnx.Linear(32, 1, kernel_init=ours.glorot_uniform(), rngs=rngs)
    assert first.kernel.shape == (2, 32)
    weights = [first.kernel[...], first.bias[...], second.kernel[...], second.bias[...]]
    x = jax.random.normal(jax.random.key(1), (256, 2))
    y = x[:, :1] * x[:, 1:]

    @jax.jit
    def step(w):
        def loss(w):
            return ((jax.nn.relu(x @ w[0] + w[1]) @ w[2] + w[3] - y) ** 2).mean()

        value, gradient = jax.value_and_grad(loss)(w)
        return value, [a - 0.1 * g for a, g in zip(w, gradient, strict=True)]

    before, weights = step(weights)
    for _ in range(500):
        after, weights = step(weights)
    assert after < 0.2 * before


def test_equinox():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of Equinox at import
        eqx = pytest.importorskip("equinox", reason="Equinox is not installed")
    model = eqx.nn.MLP(4, 2, 16, 2, key=KEY)
    keys = iter(jax.random.split(KEY, 3))
    init = ours.he_normal(in_axis=-1, out_axis=-2)  # Equinox has (out, in)
    weights = [init(next(keys), layer.weight.shape) for layer in model.layers]
    model = eqx.tree_at(lambda m: [layer.weight for layer in m.layers], model, weights)
    assert model(jnp.ones(4)).shape == (2,)
    made = eqx.filter_jit(lambda key: init(key, (16, 4)))(KEY)
    assert np.array_equal(made, init(KEY, (16, 4)))
    assert eqx.filter_eval_shape(lambda key: init(key, (16, 4)), KEY).shape == (16, 4)
