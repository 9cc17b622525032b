"""fastinit.jax.diagnose sees the entropy of attention weights, and takes no other softmax for attention."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from jax_cases import jax, jnp, ours
from jax_models import FRAMEWORKS, SEQUENCES, WIDTH, framework

from fastinit.diagnosis.entropy import mean_entropy, some_queries

pytestmark = pytest.mark.usefixtures("hasty_jax")
LENGTH, HEADS = SEQUENCES.shape[1], 4
TOKENS = SEQUENCES  # one shape in all tests, which JAX compiles its operations for
CAUSAL = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))


@pytest.fixture
def observed(monkeypatch):
    """What the last diagnosis was judged by."""
    judge, runs = ours._diagnose.judge_model, []

    def kept(seen, *rest):
        runs[:] = seen
        return judge(seen, *rest)

    monkeypatch.setattr(ours._diagnose, "judge_model", kept)
    return lambda model, *inputs, **named: (ours.diagnose(model, *inputs, named=named), runs[0].layers)[1]


def nnx_attention(scale, **options):
    nnx = framework("nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            start = nnx.initializers.variance_scaling(scale, "fan_in", "normal")
            self.mixer = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, kernel_init=start, rngs=rngs, **options)
            self.head = nnx.Linear(WIDTH, 10, rngs=rngs)

        def __call__(self, x, mask=None):
            return self.head(self.mixer(x, mask=mask))

    return Model(nnx.Rngs(0, dropout=1))


def linen_attention(scale, **options):
    linen = framework("linen")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x, mask=None):
            start = linen.initializers.variance_scaling(scale, "fan_in", "normal")
            mixer = linen.MultiHeadDotProductAttention(HEADS, kernel_init=start, name="mixer", **options)
            return linen.Dense(10)(mixer(x, mask=mask))

    module = Model()
    return module.bind(module.init(jax.random.key(0), TOKENS))


def equinox_attention(scale, **options):
    eqx = framework("equinox")

    class Model(eqx.Module):
        mixer: eqx.nn.MultiheadAttention
        head: eqx.nn.Linear

        def __call__(self, x, mask=None):
            return jax.vmap(self.head)(self.mixer(x, x, x, mask=mask))

    one, two = jax.random.split(jax.random.key(0))
    mixer = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=one, **options)
    mixer = jax.tree.map(lambda array: array * (3 * scale) ** 0.5, mixer)
    return Model(mixer, eqx.nn.Linear(WIDTH, 10, key=two))


MAKERS = {"nnx": nnx_attention, "linen": linen_attention, "equinox": equinox_attention}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_entropy_of_attention_falls_as_its_weights_grow(name, observed):
    framework(name)
    found = []
    for scale in (1e-4, 1.0, 30.0):
        rows = [layer for layer in observed(MAKERS[name](scale), TOKENS) if layer.kind == "attention"]
        assert [row.name for row in rows] == ["mixer/attention"]
        assert not rows[0].weighted
        assert rows[0].units == LENGTH
        found.append(rows[0].entropy)
    assert found[0] > 0.999
    assert 0.7 < found[1] < 0.97
    assert found[2] < 0.1


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_masked_keys_do_not_count(name, observed):
    framework(name)
    rows = [layer for layer in observed(MAKERS[name](1e-4), TOKENS, mask=CAUSAL) if layer.kind == "attention"]
    assert rows[0].entropy > 0.999
    assert rows[0].square < 1


def test_other_ways_to_the_weights(observed):
    nnx = framework("nnx")
    dropout = nnx_attention(1.0, dropout_rate=0.1, deterministic=False)  # takes jax.nn.softmax, and without dropout the product
    assert [layer.name for layer in observed(dropout, TOKENS) if layer.kind == "attention"] == ["mixer/attention"]

    class Cross(nnx.Module):
        def __init__(self, rngs):
            self.query, self.key, self.value = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(3))

        def __call__(self, x):
            q, k, v = self.query(x[:, :5]), self.key(x), self.value(x)
            logits = jnp.einsum("bqd,bkd->bqk", q, k)
            return nnx.softmax(logits, where=jnp.arange(LENGTH) < 7) @ v

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.cross_attention, self.head = Cross(rngs), nnx.Linear(WIDTH, 10, rngs=rngs)

        def __call__(self, x):
            return self.head(self.cross_attention(x))

    rows = [layer for layer in observed(Model(nnx.Rngs(0)), TOKENS) if layer.kind == "attention"]
    assert [row.name for row in rows] == ["cross_attention/attention"]
    assert 0 < rows[0].entropy < 1


def test_routers_and_probabilities_are_no_attention(observed):
    nnx = framework("nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.router, self.head = nnx.Linear(WIDTH, 3, rngs=rngs), nnx.Linear(WIDTH, 10, rngs=rngs)

        def __call__(self, x):
            gate = jax.nn.softmax(self.router(x))
            return jax.nn.softmax(self.head(x * gate[..., :1]))

    assert not [layer for layer in observed(Model(nnx.Rngs(0)), TOKENS) if layer.kind == "attention"]


def test_softmax_is_put_back():
    from fastinit.jax import _attention

    before = {name: _attention._GLOBALS[name] for name in _attention._NAMES}
    model = nnx_attention(1.0)

    def other_thread(model, x):
        assert any(_attention._GLOBALS[name] is not plain for name, plain in before.items())
        thread = threading.Thread(target=lambda: results.append(jax.jit(jax.nn.softmax)(x[0])))
        thread.start()
        thread.join()
        raise RuntimeError("in the middle")

    results = []
    with pytest.raises(RuntimeError, match="in the middle"):
        ours.diagnose(model, TOKENS, call=other_thread)
    assert {name: _attention._GLOBALS[name] for name in _attention._NAMES} == before
    assert np.array_equal(results[0], jax.jit(jax.nn.softmax)(TOKENS[0]))


def test_mean_entropy():
    assert mean_entropy(np.zeros((3, 8)))[0] == pytest.approx(1)
    assert mean_entropy(np.eye(8) * 1e3) == (pytest.approx(0), pytest.approx(1e6 / 8))
    for masked in (-np.inf, -1e4, float(np.finfo(np.float32).min)):
        logits = np.where(np.tri(8, dtype=bool), 2.0, masked)
        assert mean_entropy(logits) == (pytest.approx(1), pytest.approx(4))
    assert np.isnan(mean_entropy(np.full((2, 1), 3.0))[0])
    assert np.isnan(mean_entropy(np.full((2, 4), -np.inf))[0])
    assert some_queries(np.zeros((2, 3, 100, 7))).shape == (6 * 32, 7)
    last = some_queries(np.arange(4 * 5).reshape(1, 4, 5))
    assert np.array_equal(last[-1], np.arange(15, 20))
