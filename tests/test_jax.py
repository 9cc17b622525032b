"""The JAX dialect against jax.nn.initializers: eager, traced, sharded, and in Flax and Equinox.

Statistical tests: Kolmogorov-Smirnov at p > 1e-6, so a false alarm of one in a million each; keys are fixed, so none varies.
"""

from __future__ import annotations

import inspect
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed: the dialect is not tested")
stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed: the laws are not tested")

import jax.numpy as jnp  # noqa: E402
from jax.nn import initializers as theirs  # noqa: E402

import fastinit  # noqa: E402
from fastinit import jax as ours  # noqa: E402

KEY = jax.random.key(2026)
FLOATS = ["float32", "float16", "bfloat16"]
SCALED = ["glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"]
PLAIN = ["uniform", "normal", "truncated_normal"]
FACTORIES = [*PLAIN, *SCALED, "orthogonal", "delta_orthogonal"]


def shape_for(name):
    return (3, 3, 4, 6) if name == "delta_orthogonal" else (6, 5)


def ks(x, law, *args) -> float:
    return stats.kstest(np.asarray(x, dtype=np.float64).ravel(), law, args=args).pvalue


# ---- the same interface -----------------------------------------------------------------------


def test_every_public_name_is_here():
    assert {name for name in dir(theirs) if not name.startswith("_")} <= set(ours.__all__)
    assert ours.xavier_normal is ours.glorot_normal
    assert ours.kaiming_uniform is ours.he_uniform


@pytest.mark.parametrize("name", [*FACTORIES, "variance_scaling"])
def test_signatures_are_theirs(name):
    own, other = inspect.signature(getattr(ours, name)), inspect.signature(getattr(theirs, name))
    assert list(own.parameters) == list(other.parameters)
    for parameter in own.parameters:
        assert own.parameters[parameter].default == other.parameters[parameter].default
    args = (1.0, "fan_in", "normal") if name == "variance_scaling" else ()
    init, their_init = getattr(ours, name)(*args), getattr(theirs, name)(*args)
    assert list(inspect.signature(init).parameters) == list(inspect.signature(their_init).parameters)
    assert isinstance(init, theirs.Initializer)
    assert getattr(ours, name).__name__ == name


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(2,), (2, 2), (2, 3), (3, 2), (2, 3, 4), (4, 3, 2), (2, 3, 4, 5)])
def test_shape_and_dtype(name, dtype, shape):
    if name not in PLAIN and len(shape) < 2:
        return
    if name == "delta_orthogonal" and (len(shape) < 3 or shape[-1] < shape[-2]):
        return
    for array in (getattr(ours, name)()(KEY, shape, dtype), getattr(ours, name)(dtype=dtype)(KEY, shape)):
        assert isinstance(array, jax.Array)
        assert array.shape == shape
        assert array.dtype == dtype
        assert np.isfinite(np.asarray(array, "float32")).all()
    assert getattr(ours, name)()(KEY, shape).dtype == jnp.zeros(()).dtype
    assert getattr(ours, name)()(KEY, list(shape)).shape == shape


def test_scalar_parameters_do_not_widen():
    scale = jnp.array(1.0, dtype=jnp.float32)
    for name in PLAIN:
        assert getattr(ours, name)(scale, jnp.bfloat16)(KEY, (4, 4)).dtype == jnp.bfloat16
        traced = jax.jit(lambda s, name=name: getattr(ours, name)(s, jnp.bfloat16)(KEY, (4, 4)))(scale)
        assert traced.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.he_normal()(KEY, (5,)), "Can't compute input and output sizes of a 1-dimensional"),
        (lambda m: m.he_normal()(KEY, ()), "Can't compute input and output sizes of a 0-dimensional"),
        (lambda m: m.variance_scaling(1.0, "fan", "normal")(KEY, (5, 5)), "invalid mode"),
        (lambda m: m.variance_scaling(1.0, "fan_in", "cauchy")(KEY, (5, 5)), "invalid distribution"),
        (lambda m: m.orthogonal()(KEY, (5,)), "at least a 2D shape"),
        (lambda m: m.delta_orthogonal()(KEY, (5, 5)), "3D, 4D or 5D"),
        (lambda m: m.delta_orthogonal()(KEY, (3, 6, 5)), "`fan_in` must be less or equal"),
        (lambda m: m.normal()(KEY, (5,), jnp.int32), "dtype argument to `normal` must be a float"),
        (lambda m: m.uniform()(KEY, (5,), jnp.complex64), "dtype argument to `uniform` must be a float"),
        (lambda m: m.normal()(jax.random.split(KEY, 3), (5,)), "single key"),
        (lambda m: m.normal()(jnp.zeros(3), (5,)), "key"),
        (lambda m: m.normal()(7, (5,)), "key"),
        (lambda m: m.normal()(jnp.zeros(2, jnp.int32), (5,)), "key"),
    ],
)
def test_refuses_what_they_refuse(call, words):
    with pytest.raises((ValueError, TypeError), match=words) as their_error:
        call(theirs)
    with pytest.raises(their_error.type, match=words):
        call(ours)


def test_refuses_what_has_no_law():
    for call in (
        lambda: ours.normal(-1.0)(KEY, (3,)),
        lambda: ours.variance_scaling(-1.0, "fan_in", "normal")(KEY, (3, 3)),
        lambda: ours.truncated_normal(1.0, lower=2.0, upper=-2.0)(KEY, (3,)),
        lambda: ours.normal()(KEY, (3, -1)),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()


def test_float64_without_x64_is_float32_with_jaxs_warning():
    if jax.config.jax_enable_x64:
        assert ours.normal()(KEY, (3,), "float64").dtype == "float64"
        return
    with pytest.warns(UserWarning, match="float64"):
        assert ours.normal()(KEY, (3,), "float64").dtype == "float32"


def test_float64_with_x64():
    code = """
import jax; jax.config.update("jax_enable_x64", True)
import numpy as np, fastinit
from fastinit import jax as ours
key = jax.random.key(5)
x = ours.normal(1.0)(key, (40, 3))
assert x.dtype == "float64"
assert np.array_equal(x, fastinit.normal((40, 3), key=fastinit.Key(5), dtype="float64"))
assert np.array_equal(x, jax.jit(lambda k: ours.normal(1.0)(k, (40, 3)))(key))
assert ours.normal()(key, (3,), "float32").dtype == "float32"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# ---- values -----------------------------------------------------------------------------------


def test_a_key_is_the_seed():
    for seed in (0, 7, 2**31 + 5):
        got = ours.normal(2.0)(jax.random.key(seed), (33, 5))
        assert np.array_equal(got, fastinit.normal((33, 5), 0.0, 2.0, key=fastinit.Key(seed)))
        assert np.array_equal(got, ours.normal(2.0)(jax.random.PRNGKey(seed), (33, 5)))
    core = fastinit.VarianceScaling(2.0, "fan_in", "truncated_normal", seed=7)
    # The dialect squares the root of the variance again: equal but for a last digit of the law's parameter.
    assert np.allclose(ours.he_normal()(jax.random.key(7), (33, 5)), core((33, 5)), rtol=1e-6, atol=0)
    got = ours.orthogonal(2.0)(jax.random.key(7), (6, 5))
    assert np.array_equal(got, fastinit.Orthogonal(gain=2.0, seed=7)((6, 5)))


@pytest.mark.parametrize("name", FACTORIES)
def test_keys_differ_and_repeat(name):
    init, shape = getattr(ours, name)(), shape_for(name)
    one, two = jax.random.split(KEY)
    assert np.array_equal(init(one, shape), init(one, shape))
    assert not np.array_equal(init(one, shape), init(two, shape))


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_keys_of_four_words(implementation):
    keys = jax.random.split(jax.random.key(3, impl=implementation), 4)
    arrays = [np.asarray(ours.normal()(key, (50,))) for key in keys]
    assert len({array.tobytes() for array in arrays}) == 4
    assert np.array_equal(jax.vmap(lambda key: ours.normal()(key, (50,)))(keys), arrays)


def test_plain_laws():
    x = np.asarray(ours.uniform(0.5)(KEY, (1000, 50)))
    assert ks(x, "uniform", 0, 0.5) > 1e-6
    assert x.min() >= 0
    assert x.max() < 0.5
    assert ks(ours.uniform(-0.5)(KEY, (1000, 50)), "uniform", -0.5, 0.5) > 1e-6
    assert ks(ours.normal(0.5)(KEY, (1000, 50)), "norm", 0, 0.5) > 1e-6
    assert ks(ours.truncated_normal(0.5)(KEY, (1000, 50)) / 0.5, "truncnorm", -2, 2) > 1e-6
    # Where JAX has returned 1e6.
    x = np.asarray(ours.truncated_normal(1.0, lower=5.25, upper=8.0)(KEY, (1000, 50)))
    assert ks(x, "truncnorm", 5.25, 8.0) > 1e-6
    assert (np.asarray(ours.uniform(0.0)(KEY, (4,))) == 0).all()
    assert (np.asarray(ours.normal(0.0)(KEY, (4,))) == 0).all()


FANS = {
    (50, 40): ((), (50.0, 40.0)),
    (3, 2, 20, 30): ((), (120.0, 180.0)),
    (8, 30, 20): ((0,), (30.0, 20.0)),
}


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("shape", FANS)
def test_variance_scaling(name, shape):
    batch, (fan_in, fan_out) = FANS[shape]
    fan = (fan_in + fan_out) / 2 if name.startswith("glorot") else fan_in
    std = math.sqrt((2 if name.startswith("he") else 1) / fan)
    x = getattr(ours, name)(batch_axis=batch)(KEY, shape)
    if name.endswith("uniform"):
        assert ks(x, "uniform", -math.sqrt(3) * std, 2 * math.sqrt(3) * std) > 1e-6
    else:
        assert ks(np.asarray(x) / (std / 0.87962566103423978), "truncnorm", -2, 2) > 1e-6


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
@pytest.mark.parametrize(
    ("axes", "fans"),
    [
        ({"in_axis": (0, 1), "out_axis": (-2, -1)}, (30.0, 20.0)),
        ({"in_axis": 0, "out_axis": (2, 3), "batch_axis": 1}, (6.0, 20.0)),
        ({"in_axis": 1, "out_axis": 2}, (5 * 6 * 5, 4 * 6 * 5)),
        ({"in_axis": ()}, (6 * 5 * 4, 5 * 6 * 5 * 4)),
    ],
)
def test_axes_and_modes(mode, axes, fans):
    from jax._src.nn.initializers import _compute_fans

    shape = (6, 5, 4, 5)
    assert _compute_fans(shape, **axes) == fans
    fan = {"fan_in": fans[0], "fan_out": fans[1], "fan_avg": sum(fans) / 2, "fan_geo_avg": math.sqrt(math.prod(fans))}
    x = ours.variance_scaling(3.0, mode, "normal", **axes)(KEY, shape)
    assert ks(x, "norm", 0, math.sqrt(3 / fan[mode])) > 1e-6


@pytest.mark.parametrize(("shape", "axis"), [((6, 5), -1), ((5, 6), 0), ((3, 4, 5), 1), ((2, 3, 3), -1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_orthogonal(shape, axis, dtype):
    x = np.asarray(ours.orthogonal(2.0, axis)(KEY, shape, dtype), "float64")
    x = np.moveaxis(x, axis, -1).reshape(-1, shape[axis]) / 2
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    assert np.allclose(gram, np.eye(len(gram)), rtol=0, atol=1e-6 if dtype == "float32" else 0.02)


@pytest.mark.parametrize("shape", [(3, 4, 6), (4, 5, 4, 4), (2, 3, 4, 3, 5)])
def test_delta_orthogonal(shape):
    x = np.asarray(ours.delta_orthogonal()(KEY, shape))
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    assert np.allclose(x[centre] @ x[centre].T, np.eye(shape[-2]), rtol=0, atol=1e-6)
    assert np.count_nonzero(x) == np.count_nonzero(x[centre])
    reference = np.asarray(theirs.delta_orthogonal()(KEY, shape))
    assert np.array_equal(reference != 0, x != 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [*PLAIN, *SCALED])
def test_16_bits_are_roundings(name, dtype):
    init = getattr(ours, name)()
    got = np.asarray(init(KEY, (300, 200), dtype), "float32")
    expected = np.asarray(init(KEY, (300, 200)).astype(dtype), "float32")
    # Equal but where a value is kept inside a bound.
    assert np.mean(got == expected) > 0.99
    if name == "normal" and dtype == "bfloat16":
        assert np.unique(got).size > 1000  # JAX has 128


@pytest.mark.parametrize("name", FACTORIES)
def test_empty(name):
    shape = (0, 3, 4, 6) if name == "delta_orthogonal" else (0, 3)
    assert getattr(ours, name)()(KEY, shape).shape == shape
    assert jax.jit(lambda key: getattr(ours, name)()(key, shape))(KEY).shape == shape


@pytest.mark.parametrize("name", PLAIN)
def test_zero_dimensional(name):
    assert getattr(ours, name)()(KEY, ()).shape == ()


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("scale", [[1.0, 2.0], [[1.0], [2.0], [-3.0]]])
def test_an_array_of_scales_multiplies(name, scale):
    unit = np.asarray(getattr(ours, name)(1.0)(KEY, (3, 2)))
    for given in (jnp.array(scale), scale):
        assert np.allclose(getattr(ours, name)(given)(KEY, (3, 2)), unit * np.array(scale), rtol=1e-6)
    assert np.allclose(jax.jit(lambda s: getattr(ours, name)(s)(KEY, (3, 2)))(jnp.array(scale)), unit * np.array(scale))
    reference = getattr(theirs, name)(jnp.array(scale), jnp.bfloat16)
    got = getattr(ours, name)(jnp.array(scale), jnp.bfloat16)
    for shape in ((3, 2), (1, 1)):
        assert got(KEY, shape).shape == reference(KEY, shape).shape
        assert got(KEY, shape).dtype == jnp.bfloat16


def test_an_array_of_scales_of_variances_and_matrices():
    scale = jnp.array([1.0, 4.0])
    unit = np.asarray(ours.variance_scaling(1.0, "fan_in", "normal")(KEY, (3, 2)))
    assert np.allclose(ours.variance_scaling(scale, "fan_in", "normal")(KEY, (3, 2)), unit * [1, 2], rtol=1e-6)
    assert np.allclose(ours.orthogonal(scale)(KEY, (3, 2)), ours.orthogonal()(KEY, (3, 2)) * scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.normal(math.inf)(KEY, (3,)), ValueError),
        (lambda m: m.normal(math.nan)(KEY, (3,)), ValueError),
        (lambda m: m.truncated_normal(1.0, None, 1.0, 1.0)(KEY, (3,)), ValueError),
    ],
)
def test_refuses_what_they_accept(call, error):
    call(theirs)
    with pytest.raises(error):
        call(ours)


@pytest.mark.parametrize("name", PLAIN)
def test_an_int_is_the_shape_of_a_vector(name):
    for shape in (3, np.int64(3)):
        assert np.array_equal(getattr(ours, name)()(KEY, shape), getattr(ours, name)()(KEY, (3,)))


@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_no_variance_is_zeros(distribution, dtype):
    x = ours.variance_scaling(0.0, "fan_in", distribution, dtype=dtype)(KEY, (3, 2))
    assert x.dtype == dtype
    assert not x.any()
    with pytest.raises(ValueError, match="scale: expected a number >= 0, got -1"):
        ours.variance_scaling(-1.0, "fan_in", distribution, dtype=dtype)(KEY, (3, 2))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal"])
def test_complex_numbers_have_the_variance_that_is_asked_for(distribution, dtype):
    init = ours.variance_scaling(3.0, "fan_in", distribution)
    if dtype == "complex128" and not jax.config.jax_enable_x64:
        with pytest.warns(UserWarning, match="complex128"):
            assert init(KEY, (3, 3), dtype).dtype == "complex64"
        return
    z = np.asarray(init(KEY, (300, 400), dtype))
    assert z.dtype == dtype
    squares = np.abs(z.astype("complex128")) ** 2 / (3 / 300)
    # False alarm of a mean beyond 6 standard errors: 2 in 10^9. (JAX's truncated normal has 1.0186.)
    assert abs(squares.mean() - 1) < 6 * squares.std() / math.sqrt(z.size)
    assert ks(np.angle(z), "uniform", -math.pi, 2 * math.pi) > 1e-6
    if distribution == "uniform":
        assert ks(squares, "uniform", 0, 2) > 1e-6
    elif distribution == "normal":
        assert ks(squares, "expon") > 1e-6
    else:
        limit = 4 / 0.9619618280082135**2
        assert squares.max() <= limit * (1 + 1e-6)
        assert ks(squares * 0.9619618280082135**2, "truncexpon", 4) > 1e-6
    assert np.array_equal(jax.jit(lambda key: init(key, (300, 400), dtype))(KEY), z)
    assert np.array_equal(jax.vmap(lambda key: init(key, (3, 4), dtype))(KEY[None])[0], init(KEY, (3, 4), dtype))


def test_complex_normal_by_its_deviation():
    z = np.asarray(ours.normal(2.0, "complex64")(KEY, (200_000,)))
    for part in (z.real, z.imag):
        assert ks(part, "norm", 0, math.sqrt(2)) > 1e-6
    traced = jax.jit(lambda s: ours.normal(s, "complex64")(KEY, (200_000,)))(2.0)
    assert np.allclose(traced, z, rtol=1e-5, atol=0)
    assert ours.he_uniform(dtype="complex64")(KEY, (0, 3)).shape == (0, 3)


@pytest.mark.parametrize(("shape", "axis"), [((5, 3), -1), ((3, 5), -1), ((4, 4), 0), ((2, 3, 7), 1)])
def test_complex_matrices_are_unitary(shape, axis):
    init = ours.orthogonal(1.5, axis, "complex64")
    u = init(KEY, shape)
    assert (u.dtype, u.shape) == ("complex64", shape)
    matrix = np.moveaxis(np.asarray(u), axis, -1).reshape(-1, shape[axis]) / 1.5
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    assert np.abs(matrix.conj().T @ matrix - np.eye(matrix.shape[1])).max() < 2e-6
    assert np.array_equal(jax.jit(lambda key: init(key, shape))(KEY), u)
    assert np.array_equal(jax.vmap(lambda key: init(key, shape))(KEY[None])[0], u)
    reference = theirs.orthogonal(1.5, axis, "complex64")(KEY, shape)
    assert (reference.dtype, reference.shape) == (u.dtype, u.shape)


def test_complex_kernels_and_scales():
    u = np.asarray(ours.orthogonal(dtype="complex64")(KEY, (4, 6)))
    kernel = np.asarray(ours.delta_orthogonal(dtype="complex64")(KEY, (3, 3, 4, 6)))
    assert np.array_equal(kernel[1, 1], u)
    assert np.count_nonzero(kernel) == 24
    for name in ("orthogonal", "normal"):
        unit = np.asarray(getattr(ours, name)(1.0, dtype="complex64")(KEY, (4, 6)))
        scaled = getattr(ours, name)(2 - 1j, dtype="complex64")(KEY, (4, 6))
        assert np.allclose(scaled, unit * (2 - 1j), rtol=1e-6)
        assert scaled.dtype == "complex64"
        for module in (theirs, ours):
            with pytest.raises(TypeError):
                getattr(module, name)(2 - 1j)(KEY, (4, 6))


# ---- traces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_jit_gives_the_same_bits(name, dtype):
    init, shape = getattr(ours, name)(dtype=dtype), shape_for(name)
    eager = np.asarray(init(KEY, shape))
    assert np.array_equal(jax.jit(lambda key: init(key, shape))(KEY), eager)
    assert np.array_equal(jax.jit(init, static_argnums=1)(jax.random.key_data(KEY), shape), eager)
    # A key made inside, and one closed over.
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
def test_eval_shape_makes_nothing(name, monkeypatch):
    def refuse(*args):
        raise AssertionError("made on the host")

    monkeypatch.setattr(ours, "_batch", refuse)
    monkeypatch.setattr(ours, "draw", refuse)
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


def test_gradients_go_past_an_initializer():
    def loss(x, key):
        return (ours.normal(1.0)(key, (4,)) * x).sum()

    expected = ours.normal(1.0)(KEY, (4,)).sum()
    assert np.isclose(jax.grad(loss)(2.0, KEY), expected)
    assert np.isclose(jax.jit(jax.grad(loss))(2.0, KEY), expected)


def test_nothing_is_copied_on_the_cpu(monkeypatch):
    if jax.default_backend() != "cpu":
        pytest.skip("no CPU backend")
    made = []
    draw = ours.draw
    monkeypatch.setattr(ours, "draw", lambda *a: made.append(draw(*a)) or made[-1])
    array = ours.normal()(KEY, (1000, 100))
    assert array.unsafe_buffer_pointer() == made[0].ctypes.data


# ---- shards -----------------------------------------------------------------------------------

SHARDS = """
import numpy as np, jax
from jax.sharding import NamedSharding, PartitionSpec as P
from fastinit import jax as ours
assert jax.device_count() == 4
key = jax.random.key(3)
mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
pieces = []
for name in ("fill_piece", "draw"):
    function = getattr(ours, name)
    setattr(ours, name, lambda *a, f=function: pieces.append(f(*a)) or pieces[-1])
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


def test_each_shard_is_made_alone_and_is_the_piece_of_the_whole():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    run = subprocess.run(
        [sys.executable, "-c", SHARDS % FACTORIES], env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.stdout.strip() == "equal", run.stderr[-3000:]


# ---- in libraries -----------------------------------------------------------------------------


def test_flax_linen_takes_them():
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


def test_flax_nnx_takes_them_and_trains():
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


def test_equinox_takes_them():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Equinox's own, at import
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
