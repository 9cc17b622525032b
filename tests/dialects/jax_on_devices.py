"""Placement of arrays of fastinit.jax on eight devices, against JAX's own initializers; run by test_jax_devices.py.

pytest does not collect this file by itself, because the tests need a process with eight devices.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from jax_cases import FACTORIES, PLAIN, SCALED, jax, jnp, ours, shape_for, theirs

from fastinit.jax import _laws

DEVICES = jax.devices()
KEY = jax.random.key(3)
KINDS = {"automatic": (AxisType.Auto,) * 2, "explicit": (AxisType.Explicit,) * 2, "mixed": (AxisType.Auto, AxisType.Explicit)}


def mesh_of(kind):
    return jax.make_mesh((4, 2), ("a", "b"), axis_types=KINDS[kind])


def place(array):
    return array.sharding, array.committed, jax.typeof(array)


@pytest.fixture
def drawn(monkeypatch):
    """A list with the number of elements of each array that the host draws, except empty ones."""
    sizes = []
    draw = _laws.draw

    def counted(*args):
        made = draw(*args)
        sizes.extend([made.size] if made.size else [])
        return made

    monkeypatch.setattr(_laws, "draw", counted)
    return sizes


def test_there_are_eight():
    assert len(DEVICES) == 8


# ---- placement of an array --------------------------------------------------------------------

KEYS = {
    "of no device": lambda: KEY,
    "of device 2": lambda: jax.device_put(KEY, DEVICES[2]),
    "raw, of device 2": lambda: jax.device_put(jax.random.key_data(KEY), DEVICES[2]),
    "raw, of NumPy": lambda: np.asarray(jax.random.key_data(KEY)),
    "on all devices": lambda: jax.device_put(KEY, NamedSharding(mesh_of("automatic"), P())),
    "on all devices, explicitly": lambda: jax.device_put(KEY, NamedSharding(mesh_of("explicit"), P())),
    "on two devices": lambda: jax.device_put(KEY, NamedSharding(jax.make_mesh((2,), ("c",), devices=DEVICES[2:4]), P())),
}
CONTEXTS = {
    "no mesh": contextlib.nullcontext,
    "automatic": lambda: jax.set_mesh(mesh_of("automatic")),
    "explicit": lambda: jax.set_mesh(mesh_of("explicit")),
    "mixed": lambda: jax.set_mesh(mesh_of("mixed")),
    "half of the devices": lambda: jax.set_mesh(jax.make_mesh((4,), ("a",), (AxisType.Auto,), devices=DEVICES[4:])),
    "default device": lambda: jax.default_device(DEVICES[3]),
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_an_array_is_placed_as_by_jax(context, key, jitted):
    key = KEYS[key]()
    expected = np.asarray(ours.normal()(KEY, (8, 4)))

    def call(module):
        init = module.normal()
        return (jax.jit(init, static_argnums=1) if jitted else init)(key, (8, 4))

    with CONTEXTS[context]():
        try:
            reference = call(theirs)
        except ValueError:
            if not jitted:  # here JAX refuses a key whose devices or mesh are not those of the current mesh
                with pytest.raises(ValueError):  # noqa: PT011 (the words are JAX's)
                    call(ours)
            return
        got = call(ours)
        assert place(got) == place(reference)
        assert np.array_equal(got, expected)
        for shard in got.addressable_shards:
            assert np.array_equal(shard.data, expected)


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("context", ["no mesh", "automatic", "explicit"])
def test_every_factory_is_placed_as_by_jax(name, context):
    shape, key = shape_for(name), KEY if context != "no mesh" else jax.device_put(KEY, DEVICES[5])
    expected = np.asarray(getattr(ours, name)()(KEY, shape))
    with CONTEXTS[context]():
        got = getattr(ours, name)()(key, shape)
        assert place(got) == place(getattr(theirs, name)()(key, shape))
        assert np.array_equal(got, expected)
        for dtype in ("complex64",) if name not in ("uniform", "truncated_normal") else ():
            assert getattr(ours, name)(dtype=dtype)(key, shape).sharding == got.sharding


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("context", ["no mesh", "automatic", "explicit"])
def test_array_scales_empty_shapes_and_scalars_are_placed_as_by_jax(name, context):
    key = KEY if context != "no mesh" else jax.device_put(KEY, DEVICES[5])
    with CONTEXTS[context]():
        for scale, shape in ((jnp.float32(2), (8, 4)), (np.ones(4), (8, 4)), (1.0, ()), (1.0, (0, 3)), (1.0, (7,))):
            got, reference = (getattr(module, name)(scale)(key, shape) for module in (ours, theirs))
            assert place(got) == place(reference), (scale, shape)


@pytest.mark.parametrize("kind", ["automatic", "explicit"])
def test_a_replicated_array_is_drawn_once(kind, drawn):
    with jax.set_mesh(mesh_of(kind)):
        ours.normal()(KEY, (8, 4))
        jax.jit(ours.normal(), static_argnums=1)(KEY, (8, 4)).block_until_ready()
    assert drawn == [32, 32]


# ---- shards -----------------------------------------------------------------------------------

SPECS = [P("a", "b"), P(None, ("a", "b")), P(("b", "a")), P("b"), P(None, "a"), P(), P(None, None)]


@pytest.mark.parametrize("kind", ["automatic", "explicit"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", ["uniform", "truncated_normal", "he_normal"])
def test_a_shard_is_made_separately(name, kind, spec, jitted, drawn):
    init, shape = getattr(ours, name)(), (16, 8)
    whole = np.asarray(init(KEY, shape))
    for as_spec in (False, True):
        mesh = mesh_of(kind)
        sharding = NamedSharding(mesh, spec)
        call = (lambda key: init(key, shape, out_sharding=spec if as_spec else sharding))  # noqa: B023, E731
        drawn.clear()
        with jax.set_mesh(mesh) if as_spec else contextlib.nullcontext():
            got = (jax.jit(call) if jitted else call)(KEY)
        assert got.sharding.is_equivalent_to(sharding, 2)
        assert np.array_equal(got, whole)
        cuts = whole.size // sharding.shard_shape(shape)[0] // sharding.shard_shape(shape)[1]
        assert set(drawn) == {whole.size // cuts}
        assert len(drawn) == (8 if jitted else cuts)  # in a trace every device makes its own shard


@pytest.mark.parametrize("name", ["orthogonal", "delta_orthogonal"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("kind", ["automatic", "explicit"])
def test_matrices_are_made_once_and_sliced(name, dtype, kind, monkeypatch):
    init, shape = getattr(ours, name)(dtype=dtype), (4, 2, 8, 16) if name == "delta_orthogonal" else (8, 16)
    whole, made = np.asarray(init(KEY, shape)), []
    haar = _laws.Orthogonal.__call__

    def counted(self, shape, *args, **kwargs):
        made.extend([1] if 0 not in shape else [])
        return haar(self, shape, *args, **kwargs)

    monkeypatch.setattr(_laws.Orthogonal, "__call__", counted)
    with jax.set_mesh(mesh_of(kind)):
        for call in (init, jax.jit(init, static_argnums=(1, 2, 3))):
            got = call(KEY, shape, dtype, P("a", "b"))
            assert got.sharding.is_equivalent_to(NamedSharding(mesh_of(kind), P("a", "b")), len(shape))
            assert np.array_equal(got, whole)
            assert len(made) == 1
            made.clear()


def test_out_shardings_of_jit_distribute_a_whole_array(drawn):
    mesh = mesh_of("automatic")
    for context in (contextlib.nullcontext(), jax.set_mesh(mesh)):
        sharding = NamedSharding(mesh, P("a", "b"))
        init = jax.jit(ours.he_normal(), static_argnums=1, out_shardings=sharding)
        drawn.clear()
        with context:
            got = init(KEY, (8, 4))
        assert got.sharding == sharding
        assert drawn == [32]  # docs/dialects.md says why
        assert np.array_equal(got, ours.he_normal()(KEY, (8, 4)))


@pytest.mark.parametrize("kind", ["automatic", "explicit"])
def test_batches_of_keys_in_shards(kind):
    init, keys = ours.he_normal(), jax.random.split(KEY, 4)
    expected = np.stack([init(key, (8, 4)) for key in keys])
    with jax.set_mesh(mesh_of(kind)):
        for transform in (jax.vmap, lambda f: jax.jit(jax.vmap(f))):
            got = transform(lambda key: init(key, (8, 4), out_sharding=P("a", "b")))(keys)
            assert got.sharding.spec == P(None, "a", "b")
            assert np.array_equal(got, expected)
        _, got = jax.jit(lambda keys: jax.lax.scan(lambda c, key: (c, init(key, (8, 4), out_sharding=P("a"))), 0, keys))(keys)
        assert np.array_equal(got, expected)
        bounds = jax.jit(lambda b: ours.truncated_normal(1.0, None, -b, b)(KEY, (8, 4), out_sharding=P("a", "b")))(0.5)
        assert np.array_equal(bounds, ours.truncated_normal(1.0, None, -0.5, 0.5)(KEY, (8, 4)))


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("shape", "given", "error", "words"),
    [
        ((8, 4), P("a"), ValueError, "out_sharding: expected a NamedSharding, or jax.set_mesh around the call"),
        ((8, 4), "a", TypeError, "out_sharding: expected a NamedSharding or PartitionSpec, got str"),
        ((8, 4), DEVICES[1], TypeError, "out_sharding: expected a NamedSharding or PartitionSpec, got Device"),
        ((8,), NamedSharding(mesh_of("automatic"), P("a", "b")), ValueError, r"expected at most 1 axes for shape \(8,\)"),
        ((7, 4), NamedSharding(mesh_of("automatic"), P("a", "b")), ValueError, "7"),
    ],
)
def test_bad_shardings_are_refused_before_anything_is_drawn(shape, given, error, words, jitted, drawn):
    def call(key):
        return ours.normal()(key, shape, out_sharding=given)

    with pytest.raises(error, match=words):
        (jax.jit(call) if jitted else call)(KEY)
    assert drawn == []


def test_a_sharding_of_one_device():
    sharding = SingleDeviceSharding(DEVICES[1])
    assert ours.normal()(KEY, (8, 4), out_sharding=sharding).sharding == sharding


# ---- programs of several devices --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["automatic", "explicit"])
def test_inside_of_shard_map(kind):
    mesh, keys = mesh_of(kind), jax.random.split(KEY, 8)
    expected = np.concatenate([ours.normal()(key, (1, 3)) for key in keys])
    with jax.set_mesh(mesh):
        keys = jax.device_put(keys, NamedSharding(mesh, P(("a", "b"))))

        def each(key):
            return ours.normal()(key[0], (1, 3))

        for transform in (lambda f: f, jax.jit):
            got = transform(jax.shard_map(each, in_specs=P(("a", "b")), out_specs=P(("a", "b"))))(keys)
            assert np.array_equal(got, expected)
            summed = transform(jax.shard_map(lambda k: jax.lax.psum(each(k), ("a", "b")), in_specs=P(("a", "b")), out_specs=P()))
            assert np.allclose(summed(keys)[0], expected.sum(0), rtol=1e-5)
            same = transform(jax.shard_map(lambda k: ours.normal()(k, (1, 3)), in_specs=P(), out_specs=P()))(KEY)
            assert np.array_equal(same, ours.normal()(KEY, (1, 3)))
            # An array that differs between devices is not treated as replicated.
            with pytest.raises(ValueError, match="out_specs"):
                transform(jax.shard_map(each, in_specs=P(("a", "b")), out_specs=P()))(keys)


@pytest.mark.parametrize("kind", ["automatic", "explicit"])
def test_inside_of_shard_map_over_some_axes(kind):
    mesh, keys = mesh_of(kind), jax.random.split(KEY, 4)
    with jax.set_mesh(mesh):
        keys = jax.device_put(keys, NamedSharding(mesh, P("a")))
        for spec in (None, P(None, "b")):
            for name in ("normal", "orthogonal"):
                init = getattr(ours, name)()
                expected = np.concatenate([init(key, (2, 4)) for key in keys])

                def each(key, init=init, spec=spec):
                    return init(key[0], (2, 4), out_sharding=spec)

                got = jax.jit(jax.shard_map(each, in_specs=P("a"), out_specs=P("a"), axis_names={"a"}))(keys)
                assert np.array_equal(got, expected)


def test_pmap():
    keys = jax.random.split(KEY, 8)
    got = jax.pmap(lambda key: ours.normal()(key, (3,)))(keys)
    assert np.array_equal(got, np.stack([ours.normal()(key, (3,)) for key in keys]))


def test_the_result_of_a_replicated_key_can_be_used():
    # A former error: "Cannot convert GSPMDSharding {maximal device=0}", as the array was on one device of eight.
    mesh = mesh_of("automatic")
    key, x = (jax.device_put(array, NamedSharding(mesh, P())) for array in (KEY, jnp.ones(3)))
    got = jax.jit(lambda key: ours.normal()(key, (3,)))(key)
    assert np.array_equal(got + x, ours.normal()(KEY, (3,)) + 1)
    y = jax.device_put(jnp.ones((8, 4)), NamedSharding(mesh, P("a", "b")))
    product = jax.jit(lambda key, y: y @ ours.normal()(key, (4, 3)))(key, y)
    assert np.allclose(product, np.ones((8, 4)) @ ours.normal()(KEY, (4, 3)))


def test_eval_shape_knows_the_sharding():
    for kind in ("automatic", "explicit"):
        with jax.set_mesh(mesh_of(kind)):
            for spec in (None, P("a", "b")) if kind == "explicit" else (None,):
                got, reference = (
                    jax.eval_shape(lambda key, m=module: m.he_normal()(key, (8, 4), out_sharding=spec), KEY)  # noqa: B023
                    for module in (ours, theirs)
                )
                assert got == reference


# ---- Flax -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["automatic", "explicit"])
@pytest.mark.parametrize("name", [*PLAIN, *SCALED, "orthogonal"])
def test_nnx_partitioning(name, kind):
    nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
    with jax.set_mesh(mesh_of(kind)):
        init = getattr(ours, name)()

        def make():
            partitioned = nnx.with_partitioning(init, ("a", "b"))
            return nnx.Linear(16, 8, rngs=nnx.Rngs(0), kernel_init=partitioned)

        kernel = make().kernel[...]
        assert kernel.sharding.is_equivalent_to(NamedSharding(mesh_of(kind), P("a", "b")), 2)
        assert np.array_equal(nnx.jit(make)().kernel[...], kernel)
    whole = nnx.Linear(16, 8, rngs=nnx.Rngs(0), kernel_init=init).kernel[...]
    assert np.array_equal(kernel, whole)


def test_linen_partitioning():
    nn = pytest.importorskip("flax.linen", reason="Flax is not installed")
    mesh = mesh_of("automatic")
    layer = nn.Dense(8, kernel_init=nn.with_partitioning(ours.he_normal(), ("a", "b")))
    plain = nn.Dense(8, kernel_init=ours.he_normal()).init(KEY, jnp.ones((2, 16)))
    shapes = jax.eval_shape(layer.init, KEY, jnp.ones((2, 16)))
    shardings = nn.get_sharding(shapes, mesh)
    made = jax.jit(layer.init, out_shardings=shardings)(KEY, jnp.ones((2, 16)))
    kernel = nn.unbox(made)["params"]["kernel"]
    assert kernel.sharding.is_equivalent_to(NamedSharding(mesh, P("a", "b")), 2)
    assert np.array_equal(kernel, plain["params"]["kernel"])


