"""fastinit.keras against keras.initializers on the backend of KERAS_BACKEND, and on PyTorch in a second process.

Statistical tests: Kolmogorov-Smirnov at p > 1e-6, so a false alarm of one in a million each; seeds are fixed, so none varies.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from dialect_laws import ks
from keras_backend import BACKENDS, keras

import fastinit
from fastinit import keras as ours

# A warning about how Keras converts its tensors to NumPy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

theirs = keras.initializers
RANDOM = [
    "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform", "Orthogonal",
    "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling",
]  # fmt: skip


def values(initializer, shape=(25, 20), dtype="float32"):
    tensor = initializer(shape, dtype=dtype)
    assert tuple(tensor.shape) == tuple(shape)
    return np.asarray(keras.ops.convert_to_numpy(tensor))


# ---- the same interface -----------------------------------------------------------------------


def test_every_public_name_is_here():
    assert {name for name in dir(theirs) if not name.startswith("_")} <= set(ours.__all__)
    for name in ours.__all__:
        assert hasattr(ours, name)


@pytest.mark.parametrize("name", RANDOM)
def test_a_subclass_with_the_same_arguments(name):
    own, other = getattr(ours, name), getattr(theirs, name)
    assert issubclass(own, other)
    assert inspect.signature(own) == inspect.signature(other)
    assert list(inspect.signature(own.__call__).parameters)[:3] == ["self", "shape", "dtype"]


@pytest.mark.parametrize("name", [n for n in dir(theirs) if n.islower() and not n.startswith("_")])
def test_lower_case_names_mean_the_same_class(name):
    other = getattr(theirs, name)
    if inspect.isclass(other):
        assert getattr(ours, name) is getattr(ours, other.__name__)


def serialization(instance):
    """As in Keras's own tests, configuration, dir() and serialised form of every class survive a round trip."""
    cls, config = type(instance), instance.get_config()
    text = json.dumps(config, sort_keys=True)
    before = dir(instance)
    revived = cls.from_config(config)
    assert json.dumps(revived.get_config(), sort_keys=True) == text
    assert dir(revived) == before
    serialized = keras.saving.serialize_keras_object(instance)
    revived = keras.saving.deserialize_keras_object(json.loads(json.dumps(serialized)))
    assert type(revived) is cls
    assert json.dumps(revived.get_config(), sort_keys=True) == text
    assert json.dumps(keras.saving.serialize_keras_object(revived), sort_keys=True) == json.dumps(
        serialized, sort_keys=True
    )
    assert type(ours.deserialize(ours.serialize(instance))) is cls


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("seed", [None, 1234, "generator"])
def test_serialization(name, seed):
    if seed == "generator":
        seed = keras.random.SeedGenerator(1337)
    instance = getattr(ours, name)(seed=seed)
    serialization(instance)
    before, state = dir(instance), dict(vars(instance))
    values(instance)
    assert dir(instance) == before
    assert vars(instance) == state
    serialization(instance)


@pytest.mark.parametrize("name", RANDOM)
def test_clone_and_copies(name):
    instance = getattr(ours, name)(seed=7)
    for twin in (instance.clone(), copy.deepcopy(instance), pickle.loads(pickle.dumps(instance))):
        assert type(twin) is type(instance)
        assert np.array_equal(values(twin), values(instance))
    unseeded = getattr(ours, name)()
    assert not np.array_equal(values(unseeded.clone()), values(unseeded))


def test_attributes():
    normal = ours.RandomNormal(mean=1.0, stddev=2.0, seed=3)
    assert (normal.mean, normal.stddev, normal.seed) == (1.0, 2.0, 3)
    uniform = ours.RandomUniform(minval=-1.0, maxval=2.0, seed=3)
    assert (uniform.minval, uniform.maxval, uniform.seed) == (-1.0, 2.0, 3)
    scaling = ours.VarianceScaling(scale=2.0, mode="fan_out", distribution="normal", seed=3)
    assert (scaling.scale, scaling.mode, scaling.distribution) == (2.0, "fan_out", "truncated_normal")
    assert ours.HeNormal().scale == 2.0
    assert ours.Orthogonal(gain=2.0).gain == 2.0
    generator = keras.random.SeedGenerator(1)
    assert ours.HeNormal(seed=generator).seed is generator
    assert isinstance(ours.HeNormal().seed, int)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": -1.0}, "Argument `scale` must be positive float."),
        ({"scale": 0.0}, "Argument `scale` must be positive float."),
        ({"mode": "invalid_mode"}, "Invalid `mode` argument:"),
        ({"distribution": "invalid_dist"}, "Invalid `distribution` argument:"),
        ({"seed": "1"}, "`seed` argument should be an instance of"),
        ({"seed": 1.5}, "`seed` argument should be an instance of"),
    ],
)
def test_refused_at_construction(options, words):
    with pytest.raises(ValueError, match=words):
        ours.VarianceScaling(**options)


def test_refused_at_the_call():
    with pytest.raises(ValueError, match="at least two-dimensional"):
        ours.Orthogonal(seed=1)((5,))
    with pytest.raises(ValueError, match="dtype"):
        ours.HeNormal(seed=1)((5, 5), dtype="int32")
    with pytest.raises(ValueError, match="sizes >= 0"):
        ours.HeNormal(seed=1)((5, -5))
    with pytest.raises(ValueError, match="std"):
        ours.RandomNormal(stddev=-1.0)((5,))


# ---- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM)
def test_registered_names(name):
    cls = getattr(ours, name)
    snake = "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")
    for identifier in (f"fastinit>{name}", f"fastinit>{snake}"):
        assert type(theirs.get(identifier)) is cls
    for identifier in (name, snake, cls, cls(seed=1), {"class_name": f"fastinit>{name}", "config": {"seed": 1}}):
        assert type(ours.get(identifier)) is cls
    # Names without the prefix still mean the classes of Keras.
    assert type(theirs.get(snake)) is getattr(theirs, name)


def test_get_passes_other_identifiers_to_keras():
    assert ours.get(None) is None
    assert type(ours.get("zeros")) is theirs.Zeros
    assert ours.get("normal").__class__ is ours.RandomNormal
    array = np.arange(6.0, dtype="float32").reshape(2, 3)
    assert np.array_equal(values(ours.get(array), (2, 3)), array)
    with pytest.raises(ValueError, match="typo"):
        ours.get("typo")


# ---- the seed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM)
def test_an_int_gives_the_same_values_every_call(name):
    initializer = getattr(ours, name)(seed=1337)
    first = values(initializer)
    assert np.array_equal(first, values(initializer))
    assert not np.array_equal(first, values(getattr(ours, name)(seed=1338)))


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_generator_gives_new_values_every_call(name):
    def series(seed):
        initializer = getattr(ours, name)(seed=keras.random.SeedGenerator(seed))
        return [values(initializer) for _ in range(3)]

    one, two = series(1337), series(1337)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    distinct = [*one, *series(1338)]
    assert all(
        not np.array_equal(a, b) for i, a in enumerate(distinct) for b in distinct[:i]
    )


@pytest.mark.parametrize("name", RANDOM)
def test_layers_that_share_an_unseeded_initializer_differ(name):
    initializer = getattr(ours, name)()
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [keras.Input((8,)), *(keras.layers.Dense(8, kernel_initializer=initializer) for _ in range(2))]
    )
    first, second = (np.asarray(w) for w in model.get_weights()[::2])
    assert not np.array_equal(first, second)
    keras.utils.set_random_seed(5)
    assert np.array_equal(values(initializer, (8, 8)), first)


def test_the_values_are_those_of_the_stream():
    got = values(ours.RandomNormal(1.0, 2.0, seed=9), (7, 5))
    assert np.array_equal(got, fastinit.normal((7, 5), 1.0, 2.0, key=fastinit.Key(9)))
    got = values(ours.HeNormal(seed=9), (7, 5))
    core = fastinit.VarianceScaling(2.0, "fan_in", "truncated_normal", seed=9)
    assert np.array_equal(got, core((7, 5)))
    got = values(ours.Orthogonal(gain=2.0, seed=9), (7, 5))
    assert np.array_equal(got, fastinit.Orthogonal(gain=2.0, seed=9)((7, 5)))
    values(ours.HeNormal(seed=-1))  # Keras takes negative seeds


# ---- laws -------------------------------------------------------------------------------------


def test_plain_laws():
    assert ks(values(ours.RandomNormal(1.0, 0.5, seed=1)), "norm", 1.0, 0.5) > 1e-6
    x = values(ours.RandomUniform(-1.0, 0.5, seed=1), (1000, 100))
    assert ks(x, "uniform", -1.0, 1.5) > 1e-6
    assert x.min() >= -1
    assert x.max() < 0.5
    # Keras on PyTorch exceeds two standard deviations.
    x = values(ours.TruncatedNormal(0.0, 0.5, seed=1), (1000, 2000))
    assert np.abs(x).max() <= 1
    assert ks(x[:20] / 0.5, "truncnorm", -2, 2) > 1e-6
    assert (values(ours.RandomUniform(0.25, 0.25)) == 0.25).all()
    assert (values(ours.RandomNormal(0.25, 0.0)) == 0.25).all()


def test_parameters_may_be_scalar_tensors():
    scalar = keras.ops.convert_to_tensor(0.5)
    assert ks(values(ours.RandomNormal(scalar, scalar, seed=1)), "norm", 0.5, 0.5) > 1e-6


@pytest.mark.parametrize(
    ("name", "options", "variance"),
    [
        ("GlorotNormal", {}, lambda i, o: 2 / (i + o)),
        ("GlorotUniform", {}, lambda i, o: 2 / (i + o)),
        ("HeNormal", {}, lambda i, o: 2 / i),
        ("HeUniform", {}, lambda i, o: 2 / i),
        ("LecunNormal", {}, lambda i, o: 1 / i),
        ("LecunUniform", {}, lambda i, o: 1 / i),
        ("VarianceScaling", {"scale": 3.0, "mode": "fan_out"}, lambda i, o: 3 / o),
        ("VarianceScaling", {"scale": 3.0, "distribution": "untruncated_normal"}, lambda i, o: 3 / i),
        ("VarianceScaling", {"mode": "fan_avg", "distribution": "uniform"}, lambda i, o: 2 / (i + o)),
    ],
)
@pytest.mark.parametrize(
    ("shape", "fans"), [((60, 40), (60, 40)), ((3, 2, 20, 30), (120, 180)), ((2000,), (2000, 2000))]
)
def test_variance_scaling(name, options, variance, shape, fans):
    initializer = getattr(ours, name)(seed=11, **options)
    x, std = values(initializer, shape), math.sqrt(variance(*fans))
    if "niform" in name or options.get("distribution") == "uniform":
        r = math.sqrt(3) * std
        assert ks(x, "uniform", -r, 2 * r) > 1e-6
    elif options.get("distribution") == "untruncated_normal":
        assert ks(x, "norm", 0, std) > 1e-6
    else:
        assert ks(x / (std / 0.87962566103423978), "truncnorm", -2, 2) > 1e-6


@pytest.mark.skipif(
    "input_axes" not in inspect.signature(theirs.HeNormal).parameters, reason="this Keras has no input_axes"
)
def test_axes_of_the_fans():
    x = values(ours.HeUniform(seed=1, input_axes=[0], output_axes=[1, 2]), (16, 8, 4))
    r = math.sqrt(6 / 16)
    assert ks(x, "uniform", -r, 2 * r) > 1e-6


@pytest.mark.parametrize("shape", [(5, 5), (20, 3), (3, 20), (3, 2, 4, 5)])
def test_orthogonal(shape):
    x = values(ours.Orthogonal(gain=2.0, seed=1234), shape).reshape(-1, shape[-1]) / 2
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    assert np.allclose(gram, np.eye(len(gram)), rtol=0, atol=1e-6)


def test_orthogonal_of_complex_numbers_is_unitary():
    u = values(ours.Orthogonal(gain=2.0, seed=9), (7, 5), "complex64")
    assert np.array_equal(u, fastinit.Orthogonal(gain=2.0, seed=9)((7, 5), "complex64"))
    assert np.abs(u.conj().T @ u / 4 - np.eye(5)).max() < 2e-6


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_empty(name, shape):
    values(getattr(ours, name)(), shape)


@pytest.mark.parametrize("name", RANDOM[:6] + RANDOM[7:])
def test_zero_dimensional(name):
    values(getattr(ours, name)(), ())


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_are_roundings(name, dtype):
    initializer = getattr(ours, name)(seed=1)
    tensor = initializer((30, 20), dtype=dtype)
    assert keras.backend.standardize_dtype(tensor.dtype) == dtype
    expected = keras.ops.convert_to_numpy(keras.ops.cast(initializer((30, 20)), dtype)).astype("float32")
    got = keras.ops.convert_to_numpy(tensor).astype("float32")
    # Equal except where rounding would leave a bound.
    assert np.mean(got == expected) > 0.99
    spacing = {"float16": 2**-10, "bfloat16": 2**-7}[dtype]
    assert np.abs(got - expected).max() <= spacing * np.abs(expected).max()


def test_default_dtype_is_keras():
    before = keras.config.floatx()
    try:
        keras.config.set_floatx("float16")
        assert keras.backend.standardize_dtype(ours.HeNormal()((3, 3)).dtype) == "float16"
    finally:
        keras.config.set_floatx(before)


# ---- in models --------------------------------------------------------------------------------


def test_trains_saves_and_loads(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((2,)),
        keras.layers.Dense(64, activation="relu", kernel_initializer=ours.HeNormal(seed=0)),
        keras.layers.Dense(64, activation="tanh", kernel_initializer="fastinit>orthogonal"),
        keras.layers.Dense(1, kernel_initializer=ours.VarianceScaling(0.5, seed=keras.random.SeedGenerator(3))),
    ])  # fmt: skip
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 2)).astype("float32")
    y = (x[:, :1] * x[:, 1:]).astype("float32")
    model.compile(keras.optimizers.Adam(0.01), "mse")
    history = model.fit(x, y, epochs=30, batch_size=32, verbose=0).history["loss"]
    assert history[-1] < 0.1 * history[0]
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    for layer, cls in zip(loaded.layers, (ours.HeNormal, ours.Orthogonal, ours.VarianceScaling), strict=True):
        assert type(layer.kernel_initializer) is cls
    assert loaded.layers[0].kernel_initializer.seed == 0
    assert loaded.layers[2].kernel_initializer.scale == 0.5
    assert np.allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    fresh = keras.models.clone_model(model)
    assert np.array_equal(fresh.get_weights()[0], values(ours.HeNormal(seed=0), (2, 64)))


def test_layers_of_every_kind_accept_them():
    x = np.ones((2, 6, 4), "float32")
    layers = [
        keras.layers.Conv1D(3, 2, kernel_initializer=ours.HeUniform()),
        keras.layers.LSTM(3, kernel_initializer=ours.GlorotUniform(), recurrent_initializer=ours.Orthogonal()),
        keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 3), kernel_initializer=ours.LecunNormal()),
    ]
    for layer in layers:
        assert np.isfinite(keras.ops.convert_to_numpy(layer(x))).all()
    attention = keras.layers.MultiHeadAttention(2, 4, kernel_initializer=ours.GlorotNormal())
    assert np.isfinite(keras.ops.convert_to_numpy(attention(x, x))).all()
    query, key = (np.asarray(w) for w in attention.get_weights()[:3:2])
    assert query.shape == key.shape
    assert not np.array_equal(query, key)
    embedding = keras.layers.Embedding(10, 4, embeddings_initializer="fastinit>random_normal")
    assert embedding(np.array([1, 2])).shape == (2, 4)


@pytest.mark.skipif(
    "FASTINIT_SECOND_BACKEND" in os.environ or len(BACKENDS) < 2, reason="no second backend of Keras, or this is it"
)
def test_the_other_backend():
    """The tests that depend on the backend, in a process with another backend."""
    other = next(name for name in BACKENDS if name != keras.backend.backend())
    environment = os.environ | {"KERAS_BACKEND": other, "FASTINIT_SECOND_BACKEND": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__,
         "-k", "stream or generator or share or plain or orthogonal or bits or floatx or trains or kind"],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]
    assert " passed" in run.stdout


@pytest.mark.parametrize(
    ("name", "options"),
    [("RandomUniform", {"minval": 1.0, "maxval": 0.0}), ("RandomNormal", {"stddev": -1.0}),
     ("RandomNormal", {"stddev": math.inf})],
)  # fmt: skip
def test_refuses_parameters_out_of_range(name, options):
    with pytest.raises(ValueError, match="expected"):
        getattr(ours, name)(**options)((2,))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="a trace of the JAX backend")
@pytest.mark.parametrize("name", ["HeNormal", "RandomUniform", "Orthogonal"])
def test_a_seed_generator_under_a_trace(name):
    import jax

    cls = getattr(ours, name)
    eager = np.asarray(cls(seed=keras.random.SeedGenerator(1))((3, 4)))

    def call():
        return cls(seed=keras.random.SeedGenerator(1))((3, 4))

    out = jax.eval_shape(call)
    assert (out.shape, out.dtype) == ((3, 4), "float32")
    assert np.array_equal(jax.jit(call)(), eager)
    generator = keras.random.SeedGenerator(1)
    init = cls(seed=generator)

    def twice(state):
        with keras.StatelessScope(state_mapping=[(generator.state, state)]) as scope:
            pair = init((3, 4)), init((3, 4))
            return *pair, scope.get_current_value(generator.state)

    first, second, state = jax.jit(twice)(generator.state.value)
    assert np.array_equal(first, eager)
    assert not np.array_equal(second, eager)
    assert np.array_equal(state, [1, 2])
    states = np.array([[1, 0], [2, 0]], "uint32")
    batched = jax.vmap(twice)(states)[0]
    assert np.array_equal(batched[0], eager)
    assert not np.array_equal(batched[1], eager)


def test_the_same_bits_in_every_mode(mode):
    """Shapes whose standard deviations depend on the rounding mode, and subnormal numbers."""

    def drawn():
        made = [(getattr(ours, name)(seed=3), (25, 20)) for name in RANDOM]
        made += [(ours.HeNormal(seed=3), (n, 3)) for n in range(3, 30)]
        made += [(ours.RandomNormal(stddev=1e-40, seed=3), (9,)), (ours.Orthogonal(1e-39, seed=3), (4, 4))]
        return [
            np.asarray(keras.ops.convert_to_numpy(initializer(shape, dtype=dtype))).tobytes()
            for initializer, shape in made
            for dtype in ("float32", "float16")
        ]

    expected = drawn()
    with mode():
        found = drawn()
    assert found == expected
