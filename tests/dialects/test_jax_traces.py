"""fastinit.jax inside jit, vmap, scan, grad and eval_shape, and in shards on several devices."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from jax_cases import FACTORIES, FLOATS, KEY, jax, jnp, ours, shape_for

from fastinit.jax import _arrays, _init, _laws

# ---- traces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_jit_gives_the_same_bits(name, dtype):
    init, shape = getattr(ours, name)(dtype=dtype), shape_for(name)
    eager = np.asarray(init(KEY, shape))
    assert np.array_equal(jax.jit(lambda key: init(key, shape))(KEY), eager)
    assert np.array_equal(jax.jit(init, static_argnums=1)(jax.random.key_data(KEY), shape), eager)
    # A key made inside the function, and one from its closure.
    assert np.array_equal(jax.jit(lambda: init(jax.random.key(2026), shape))(), eager)
    assert np.array_equal(jax.jit(lambda: init(KEY, shape))(), eager)


@pytest.mark.parametrize("name", FACTORIES)
def test_vmap_and_scan(name):
    init, shape = getattr(ours, name)(), shape_for(name)
    keys = jax.random.split(KEY, 6).reshape(2, 3)
    expected = np.stack([[init(key, shape) for key in row] for row in keys])
    batched = jax.vmap(jax.vmap(lambda key: init(key, shape)))
    assert np.array_equal(batched(keys), expected)
    assert np.array_equal(jax.jit(batched)(keys), expected)
    inner = jax.vmap(lambda key: init(key, shape), out_axes=-1)(keys[0])
    assert np.array_equal(np.moveaxis(np.asarray(inner), -1, 0), expected[0])
    _, scanned = jax.lax.scan(lambda carry, key: (carry, init(key, shape)), 0, keys[1])
    assert np.array_equal(scanned, expected[1])


@pytest.mark.parametrize("name", FACTORIES)
def test_eval_shape_draws_nothing(name, monkeypatch):
    def refuse(*args):
        raise AssertionError("made on the host")

    def only_empty(function, place):
        return lambda *args: function(*args) if 0 in args[place] else refuse()

    monkeypatch.setattr(_arrays, "_made", refuse)
    monkeypatch.setattr(_laws, "draw", only_empty(_laws.draw, 2))
    monkeypatch.setattr(_init, "matrix", only_empty(_init.matrix, 1))
    shape = (10**4, 3, 4, 10**6) if name == "delta_orthogonal" else (10**6, 10**6)
    for call in (lambda key: getattr(ours, name)()(key, shape), lambda key: getattr(ours, name)()(KEY, shape)):
        out = jax.eval_shape(call, KEY)
        assert out.shape == shape
        assert out.dtype == jnp.zeros(()).dtype


def test_a_traced_scale():
    def draw(scale):
        return ours.normal(scale)(KEY, (50, 40)), ours.variance_scaling(scale, "fan_in", "uniform")(KEY, (50, 40))

    for traced, eager in zip(jax.jit(draw)(3.0), draw(3.0), strict=True):
        assert np.allclose(traced, eager, rtol=1e-6, atol=0)
    gradient = jax.grad(lambda s: ours.normal(s)(KEY, (50,)).sum())(2.0)
    assert np.isclose(gradient, np.asarray(ours.normal(1.0)(KEY, (50,))).sum(), rtol=1e-5)


@pytest.mark.parametrize("name", ["orthogonal", "delta_orthogonal"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_traced_scale_of_a_matrix(name, dtype):
    def draw(scale):
        return getattr(ours, name)(scale, dtype=dtype)(KEY, shape_for(name))

    assert np.allclose(jax.jit(draw)(2.0).astype("float32"), draw(2.0).astype("float32"), rtol=1e-2, atol=1e-6)
    assert jax.jit(draw)(2.0).dtype == dtype
    assert np.isfinite(jax.grad(lambda s: draw(s).sum().astype("float32"))(2.0))


def test_traced_bounds():
    def draw(bound, key=KEY):
        return ours.truncated_normal(3.0, None, -bound, bound)(key, (50, 4))

    bound = jnp.float32(0.5)
    assert np.array_equal(jax.jit(draw)(bound), draw(0.5))
    batched = jax.vmap(draw)(jnp.array([0.5, 1.0]))
    assert np.array_equal(batched, np.stack([draw(0.5), draw(1.0)]))
    keys = jax.random.split(KEY, 2)
    assert np.array_equal(jax.vmap(draw, (None, 0))(bound, keys), np.stack([draw(0.5, key) for key in keys]))
    assert jax.eval_shape(draw, bound).shape == (50, 4)
    with pytest.raises(TypeError, match="lower, upper: expected scalars"):
        draw(jnp.ones(4))


def test_gradients_of_a_function_that_calls_an_initializer():
    def loss(x, key):
        return (ours.normal(1.0)(key, (4,)) * x).sum()

    expected = ours.normal(1.0)(KEY, (4,)).sum()
    assert np.isclose(jax.grad(loss)(2.0, KEY), expected)
    assert np.isclose(jax.jit(jax.grad(loss))(2.0, KEY), expected)


def test_nothing_is_copied_on_the_cpu(monkeypatch):
    if jax.default_backend() != "cpu":
        pytest.skip("no CPU backend")
    made = []
    draw = _laws.draw
    monkeypatch.setattr(_laws, "draw", lambda *a: made.append(draw(*a)) or made[-1])
    array = ours.normal()(KEY, (1000, 100))
    assert array.unsafe_buffer_pointer() == made[0].ctypes.data


# ---- shards -----------------------------------------------------------------------------------

SHARDS = """
import numpy as np, jax
from jax.sharding import NamedSharding, PartitionSpec as P
from fastinit import jax as ours
from fastinit.jax import _laws
assert jax.device_count() == 4
key = jax.random.key(3)
mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
pieces = []
draw = _laws.draw
_laws.draw = lambda *a: pieces.append(draw(*a)) or pieces[-1]
for name in %r:
    init = getattr(ours, name)()
    shape = (2, 2, 8, 12) if name == "delta_orthogonal" else (8, 12)
    whole = np.asarray(init(key, shape))
    for spec in (P("x", "y"), P(None, ("y", "x")), P()):
        sharding = NamedSharding(mesh, P(*(None,) * (len(shape) - 2), *spec))
        pieces.clear()
        out = init(key, shape, out_sharding=sharding)
        assert out.sharding.is_equivalent_to(sharding, len(shape)), (out.sharding, sharding)
        assert np.array_equal(out, whole), (name, spec)
        for piece in pieces:
            assert piece.size <= max(s.data.size for s in out.addressable_shards)
        jitted = jax.jit(lambda k: init(k, shape, out_sharding=sharding))(key)
        assert np.array_equal(jitted, whole)
        assert jitted.sharding.is_equivalent_to(sharding, len(shape))
with jax.set_mesh(mesh):
    out = ours.he_normal()(key, (8, 12), out_sharding=P("x", "y"))
    assert out.sharding.is_equivalent_to(NamedSharding(mesh, P("x", "y")), 2)
    assert np.array_equal(out, ours.he_normal()(key, (8, 12)))
he = ours.he_normal()
whole, keys = np.asarray(he(key, (8, 12))), jax.random.split(key, 2)
for kind in (jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto):
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        for spec in (P("x", "y"), P(None, "x"), P(), None):
            out = jax.jit(lambda k: he(k, (8, 12), out_sharding=spec))(key)
            assert out.sharding.is_equivalent_to(NamedSharding(mesh, spec or P()), 2), (kind, spec, out.sharding)
            assert np.array_equal(out, whole)
        out = jax.jit(lambda k: he(k, (8, 12), out_sharding=NamedSharding(mesh, P("x"))))(key)
        assert np.array_equal(out, whole)
        scaled = jax.jit(lambda s: ours.orthogonal(s)(key, (8, 12), out_sharding=P("x", "y")))(2.0)
        assert np.allclose(scaled, ours.orthogonal(2.0)(key, (8, 12)), rtol=1e-6)
        for transform in (jax.vmap, lambda f: jax.jit(jax.vmap(f))):
            out = transform(lambda k: he(k, (8, 12), out_sharding=P("x", "y")))(keys)
            assert np.array_equal(out[0], he(keys[0], (8, 12)))
            assert out.sharding.spec == P(None, "x", "y")
explicit = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
with jax.set_mesh(explicit):
    out = ours.he_normal()(key, (8, 12), out_sharding=P("x"))
    assert jax.typeof(out).sharding.spec == P("x", None)
print("equal")
"""


def test_each_shard_is_made_separately_and_is_that_part_of_the_whole():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    run = subprocess.run(
        [sys.executable, "-c", SHARDS % FACTORIES], env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.stdout.strip() == "equal", run.stderr[-3000:]
