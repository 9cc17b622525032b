"""Keys of fastinit.jax: JAX's checks of reused and raw keys work, and keys of all generators are accepted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from jax_cases import FACTORIES, KEY, jax, jnp, ours, shape_for, theirs

import fastinit

# ---- reused keys ------------------------------------------------------------------------------


def again(init, key):
    init(key, (3, 3))
    init(key, (3, 3))


def beside_split(init, key):
    jax.random.split(key)
    init(key, (3, 3))


def before_split(init, key):
    init(key, (3, 3))
    jax.random.split(key)


def inside_of_jit(init, key):
    jax.jit(lambda key: init(key, (3, 3)) + init(key, (3, 3)))(key)


def by_two_calls_of_jit(init, key):
    jitted = jax.jit(lambda key: init(key, (3, 3)))
    jitted(key)
    jitted(key)


def inside_of_scan(init, key):
    jax.lax.scan(lambda carry, _: (carry, init(key, (3, 3))), 0, None, length=3)


def in_batches(init, key):
    keys = jax.random.split(key, 2)
    jax.vmap(lambda key: init(key, (3, 3)))(keys)
    jax.vmap(lambda key: init(key, (3, 3)))(keys)


def empty_arrays(init, key):
    init(key, (0, 3))
    init(key, (3, 3))


REUSES = [again, beside_split, before_split, inside_of_jit, by_two_calls_of_jit, inside_of_scan, in_batches, empty_arrays]


@pytest.mark.parametrize("reuse", REUSES)
@pytest.mark.parametrize("name", ["normal", "orthogonal"])
def test_reuse_is_detected(reuse, name):
    if name == "orthogonal" and reuse is empty_arrays:
        return  # JAX itself draws nothing then
    for module in (theirs, ours):
        reuse(getattr(module, name)(), jax.random.key(0))
        with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
            reuse(getattr(module, name)(), jax.random.key(0))


@pytest.mark.parametrize("name", FACTORIES)
def test_reuse_is_detected_for_every_factory(name):
    init, shape = getattr(ours, name)(), shape_for(name)
    with jax.debug_key_reuse(True):
        key = jax.random.key(0)
        init(key, shape)
        with pytest.raises(jax.errors.KeyReuseError):
            init(key, shape)


def test_other_uses_of_keys_pass():
    def each(keys):
        return [ours.normal()(keys[0], (3,)), ours.orthogonal()(keys[1], (3, 3))]

    with jax.debug_key_reuse(True):
        each(jax.random.split(jax.random.key(0)))
        jax.jit(lambda key: each(jax.random.split(key)))(jax.random.key(0))
        jax.vmap(lambda key: ours.normal()(key, (3,)))(jax.random.split(jax.random.key(0), 3))
        key = jax.random.key(0)
        theirs.zeros(key, (3,))
        with pytest.raises(ValueError, match="1-dimensional"):
            ours.he_normal()(key, (3,))  # refused, so the key is not used
        assert np.array_equal(ours.normal()(key, (3,)), ours.normal()(jax.random.key(0), (3,)))
        for _ in range(2):
            ours.normal()(jax.random.PRNGKey(0), (3,))  # JAX does not check raw keys


# ---- raw keys ---------------------------------------------------------------------------------

RAW = np.array([0, 3], np.uint32)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_errors_and_warnings_for_raw_keys_are_those_of_jax(transform):
    for module in (theirs, ours):
        call = transform(lambda key, m=module: m.normal()(key, (3,)))
        with jax.legacy_prng_key("error"), pytest.raises(ValueError, match="Legacy uint32 key"):
            call(RAW)
        jax.clear_caches()
        with jax.legacy_prng_key("warn"), pytest.warns(UserWarning, match="Legacy uint32 key"):
            call(RAW)
        jax.clear_caches()
        with jax.enable_custom_prng(True), pytest.warns(FutureWarning, match="Raw arrays as random keys"):
            call(RAW)
        with warnings.catch_warnings(), jax.legacy_prng_key("error"):
            warnings.simplefilter("error")
            transform(lambda key, m=module: m.normal()(key, (3,)))(KEY)


@pytest.mark.parametrize("key", [*(np.zeros(n, np.uint32) for n in ((), 1, 3, 4)), np.zeros(2), 7, None, [0, 3]], ids=str)
def test_bad_keys_are_refused(key):
    with pytest.raises(Exception) as error:  # noqa: PT011 (whatever JAX's is)
        theirs.normal()(key, (3,))
    with pytest.raises((TypeError, ValueError), match="key"):
        ours.normal()(key, (3,))
    assert isinstance(error.value, (TypeError, ValueError))


def test_a_raw_key_closed_over_is_not_drawn_by_eval_shape():
    out = jax.eval_shape(lambda: ours.normal()(RAW, (10**6, 10**6)))
    assert out.shape == (10**6, 10**6)
    assert np.array_equal(jax.jit(lambda: ours.normal()(RAW, (3,)))(), ours.normal()(jax.random.key(3), (3,)))


# ---- generators -------------------------------------------------------------------------------

WORDS = {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4, "philox2x32": 1, "philox4x32": 2, "threefry4x32": 4}


def key_by(implementation, seed):
    try:
        return jax.random.key(seed, impl=implementation)
    except ValueError:
        pytest.skip(f"this JAX has no generator {implementation}")


@pytest.mark.parametrize("implementation", WORDS)
def test_keys_of_every_generator(implementation):
    key = key_by(implementation, 5)
    keys = jax.random.split(key, 4)
    words = np.asarray(jax.random.key_data(key)).tolist()
    assert len(words) == WORDS[implementation]
    words = [0, *words] if len(words) == 1 else words
    seed, stream = words[0] << 32 | words[1], words[2] << 32 | words[3] if len(words) == 4 else 0
    expected = fastinit.normal((50,), 0.0, 0.01, key=fastinit.Key(seed, stream))
    assert np.array_equal(ours.normal()(key, (50,)), expected)
    arrays = np.stack([ours.normal()(key, (50,)) for key in keys])
    assert len({array.tobytes() for array in arrays}) == 4
    assert np.array_equal(jax.vmap(lambda key: ours.normal()(key, (50,)))(keys), arrays)
    assert np.array_equal(jax.jit(lambda key: ours.normal()(key, (50,)))(key), expected)
    with jax.default_prng_impl(implementation):
        assert np.array_equal(ours.normal()(jax.random.key_data(key), (50,)), expected)
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        again(ours.normal(), key_by(implementation, 6))


# ---- dtypes and shapes ------------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize(
    "dtype",
    ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16"), np.float16, np.dtype("<f4"), float, "f4", jnp.float8_e4m3fn, "float8_e5m2"],
)
def test_dtypes_by_every_name(name, dtype):
    init, shape = getattr(ours, name)(1.0) if name in ("normal", "uniform") else getattr(ours, name)(), shape_for(name)
    wanted = theirs.normal()(KEY, (1,), dtype).dtype
    for array in (init(KEY, shape, dtype), jax.jit(lambda key: init(key, shape, dtype))(KEY)):
        assert array.dtype == wanted
        assert np.isfinite(np.asarray(array.astype("float32"))).all()
        assert np.asarray(array.astype("float32")).any()


@pytest.mark.parametrize("dtype", ["float4_e2m1fn", "float8_e8m0fnu", "int4", "int32", "bool", "uint8", np.longdouble])
def test_dtypes_without_a_distribution_are_refused(dtype):
    for call in (ours.normal(), jax.jit(ours.normal(), static_argnums=(1, 2))):
        with pytest.raises((ValueError, TypeError), match="dtype"):
            call(KEY, (3,), dtype)


@pytest.mark.parametrize("name", [*FACTORIES, "bounds"])
def test_bad_parameters_are_refused_when_traced(name):
    call, shape = {
        "normal": (ours.normal(-1.0), (3,)),
        "uniform": (ours.uniform(np.inf), (3,)),
        "truncated_normal": (ours.truncated_normal(np.nan), (3,)),
        "bounds": (ours.truncated_normal(1.0, lower=2.0, upper=-2.0), (3,)),
        "orthogonal": (ours.orthogonal(np.inf), (3, 3)),
        "delta_orthogonal": (ours.delta_orthogonal(np.inf), (3, 3, 3)),
    }.get(name, (getattr(ours, name if name in FACTORIES else "normal")(dtype="float8_e8m0fnu"), (3, 3)))
    for transform in (jax.jit, jax.vmap, lambda f: lambda key: jax.eval_shape(f, key)):
        with pytest.raises(ValueError, match="expected"):
            transform(lambda key: call(key, shape))(KEY[None] if transform is jax.vmap else KEY)


@pytest.mark.parametrize("dtype", [float, complex])
def test_float_and_complex_mean_the_default_dtypes_without_a_warning(dtype):
    for module in (theirs, ours):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert module.normal()(KEY, (3,), dtype).dtype == jnp.zeros((), dtype).dtype


def test_symbolic_dimensions_are_refused():
    (n,) = jax.export.symbolic_shape("n")
    for name in ("normal", "he_normal", "orthogonal"):
        with pytest.raises(TypeError, match=r"shape: expected an int or a sequence of ints, got \(n, 4\)"):
            jax.eval_shape(lambda key, name=name: getattr(ours, name)()(key, (n, 4)), KEY)


def test_x64_enabled_in_a_context():
    with jax.enable_x64(True):
        assert ours.normal()(KEY, (3,)).dtype == "float64"
        assert jax.jit(lambda key: ours.normal(dtype="complex128")(key, (3,)))(KEY).dtype == "complex128"
        assert np.array_equal(ours.normal()(KEY, (3,)), fastinit.normal((3,), 0.0, 0.01, key=fastinit.Key(2026), dtype="float64"))
    assert ours.normal()(KEY, (3,)).dtype == "float32"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_strict_promotion(dtype):
    with jax.numpy_dtype_promotion("strict"):
        for scale in (0.5, jnp.float32(0.5), jnp.array([0.5, 1.0, 2.0], jnp.float32)):
            assert ours.normal(scale)(KEY, (3,), dtype).dtype == dtype
            assert jax.jit(lambda s: ours.variance_scaling(s, "fan_in", "normal")(KEY, (3, 3), dtype))(scale).dtype == dtype


# ---- transformations --------------------------------------------------------------------------


def loss(w, key):
    def body(carry, _):
        key, total = carry
        key, sub = jax.random.split(key)
        return (key, total + jnp.sin(ours.normal(1.0)(sub, (3,)) * w).sum()), None

    return jax.lax.scan(body, (key, 0.0), None, length=3)[0][1]


def test_derivatives_through_loops_remat_and_conditions():
    reference = jax.grad(loss)(2.0, KEY)
    step = 1e-2
    assert np.isclose(reference, (loss(2.0 + step, KEY) - loss(2.0 - step, KEY)) / (2 * step), rtol=1e-2)
    for derivative in (jax.jit(jax.grad(loss)), jax.jacfwd(loss), jax.jacrev(loss), jax.grad(jax.checkpoint(loss))):
        assert np.isclose(derivative(2.0, KEY), reference, rtol=1e-5)
    assert np.isfinite(jax.hessian(loss)(2.0, KEY))
    cotangent = jax.vjp(lambda key: ours.normal()(key, (3,)), KEY)[1](jnp.ones(3))[0]
    assert cotangent.dtype == jax.dtypes.float0


def test_control_flow():
    expected = np.asarray(ours.normal()(KEY, (3,)))
    init = ours.normal()
    assert np.array_equal(jax.jit(lambda p: jax.lax.cond(p, lambda: init(KEY, (3,)), lambda: jnp.zeros(3)))(True), expected)
    keys = jnp.stack([KEY, KEY])
    chosen = jax.vmap(lambda p, key: jax.lax.cond(p, lambda: init(key, (3,)), lambda: jnp.zeros(3)))
    assert np.array_equal(chosen(jnp.array([True, False]), keys), [expected, np.zeros(3)])
    summed = jax.lax.fori_loop(0, 3, lambda i, total: total + init(KEY, (3,)), jnp.zeros(3))
    assert np.allclose(summed, 3 * expected, rtol=1e-6)
    assert np.array_equal(jax.lax.map(lambda key: init(key, (3,)), keys, batch_size=1)[1], expected)
    with jax.disable_jit():
        assert np.array_equal(jax.jit(lambda key: init(key, (3,)))(KEY), expected)


def test_export_is_refused_by_jax():
    # docs/dialects.md says so; change it when JAX can export callbacks.
    with pytest.raises((NotImplementedError, ValueError), match="callback"):
        jax.export.export(jax.jit(lambda key: ours.normal()(key, (3,))))(RAW).serialize()
