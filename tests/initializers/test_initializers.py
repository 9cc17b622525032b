"""Initializers: objects, lookup, options, seeds and keys, shards, dtypes, and the law that each one states.

Statistical tests have fixed seeds. Each asserts a mean square within five standard errors (false alarm 6e-7 a case,
were the seed drawn anew) and a Kolmogorov-Smirnov distance at level 1e-6.
"""

import json
import math
import pickle
import tracemalloc

import numpy as np
import pytest
from initializer_laws import kolmogorov_smirnov, moved_inside, phi

import fastinit
from fastinit import FanRule, Key
from fastinit.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    Initializer,
    LeCunNormal,
    LeCunUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    SeluNormal,
    TorchLinear,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)

SHAPE = (400, 300)

# (initializer, its standard deviation for SHAPE by hand, its bounds in standard deviations)
DRAWN = [
    (RandomUniform(), 0.05 / math.sqrt(3), math.sqrt(3)),
    (RandomUniform(-0.25, 0.25), 0.25 / math.sqrt(3), math.sqrt(3)),
    (RandomNormal(), 0.05, math.inf),
    (RandomNormal(std=3.0), 3.0, math.inf),
    (TruncatedNormal(), 0.05 * 0.87962566103423978, 2 / 0.87962566103423978),
    (TruncatedNormal(std=0.02, lower=-3, upper=3), 0.02 * 0.98658, 3 / 0.98658),
    (VarianceScaling(), math.sqrt(1 / 400), 2 / 0.87962566103423978),
    (VarianceScaling(3.0, "fan_out", "normal"), math.sqrt(3 / 300), math.inf),
    (VarianceScaling(0.5, "fan_avg", "uniform"), math.sqrt(0.5 / 350), math.sqrt(3)),
    (VarianceScaling(2.0, "fan_geo_avg", "normal"), math.sqrt(2 / math.sqrt(120000)), math.inf),
    (GlorotNormal(), math.sqrt(2 / 700), math.inf),
    (GlorotUniform(), math.sqrt(2 / 700), math.sqrt(3)),
    (HeNormal(), math.sqrt(2 / 400), math.inf),
    (HeUniform(), math.sqrt(2 / 400), math.sqrt(3)),
    (HeNormal(negative_slope=0.2), math.sqrt(2 / 1.04 / 400), math.inf),
    (HeUniform(negative_slope=1.0), math.sqrt(1 / 400), math.sqrt(3)),
    (LeCunNormal(), math.sqrt(1 / 400), math.inf),
    (SeluNormal(), math.sqrt(1 / 400), math.inf),
    (TorchLinear(), math.sqrt(1 / 1200), math.sqrt(3)),
    (GlorotNormal(gain=2.0), 2 * math.sqrt(2 / 700), math.inf),
    (HeNormal(mode="fan_out"), math.sqrt(2 / 300), math.inf),
    (HeNormal(fans=FanRule(layout="oi")), math.sqrt(2 / 300), math.inf),
    (LeCunUniform(fans=(64, 3)), math.sqrt(1 / 64), math.sqrt(3)),
    (LeCunUniform(), math.sqrt(1 / 400), math.sqrt(3)),
]  # fmt: skip

OTHERS = [
    Zeros(),
    Ones(),
    Constant(0.25),
    Constant(np.arange(300.0) / 7),
    Identity(),
    Identity(gain=0.5),
    Orthogonal(),
    Orthogonal(gain=1.5, seed=3),
    HeNormal(negative_slope=0.1, seed=2**64 - 1),
]

KERAS_RULES = [
    GlorotNormal, GlorotUniform, HeNormal, HeUniform, LeCunNormal, LeCunUniform, fastinit.initializers.KaimingNormal,
    fastinit.initializers.KaimingUniform, fastinit.initializers.XavierNormal, fastinit.initializers.XavierUniform,
]  # fmt: skip

ALL = [case[0] for case in DRAWN] + OTHERS
by_repr = {"ids": repr}


# ---- objects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("initializer", ALL, **by_repr)
def test_initializers_compare_hash_and_pickle(initializer):
    scope = {"np": np, **{name: getattr(fastinit, name) for name in fastinit.__all__}}
    copies = [
        eval(repr(initializer), scope),
        pickle.loads(pickle.dumps(initializer)),
        type(initializer).from_config(json.loads(json.dumps(initializer.get_config()))),
        fastinit.get({"class_name": type(initializer).__name__, "config": initializer.get_config()}),
    ]
    for copy in copies:
        assert type(copy) is type(initializer)
        assert copy == initializer
        assert hash(copy) == hash(initializer)
        assert np.array_equal(
            copy(SHAPE, "float64", key=Key(1)), initializer(SHAPE, "float64", key=Key(1))
        )
    with pytest.raises(AttributeError):
        initializer.seed = 1
    assert initializer != type(initializer).from_config(initializer.get_config() | {"seed": 77})


def test_constants_copy_their_array():
    source = np.arange(6.0).reshape(2, 3)
    initializer = Constant(source)
    source[:] = 0
    assert np.array_equal(initializer((2, 3)), np.arange(6).reshape(2, 3))
    assert initializer != Constant(source)
    with pytest.raises(ValueError, match="read-only"):
        initializer.value[0, 0] = 1


def test_get():
    assert fastinit.get("he_normal") == HeNormal()
    assert fastinit.get("HeNormal") == HeNormal()
    assert fastinit.get("xavier_uniform") == fastinit.get("glorot_uniform") == GlorotUniform()
    assert fastinit.get(HeNormal) == HeNormal()
    given = Orthogonal(2.0)
    assert fastinit.get(given) is given
    assert fastinit.get(np.eye(2)) == Constant(np.eye(2))
    config = {"class_name": "TruncatedNormal", "config": {"std": 0.02}}
    assert fastinit.get(config) == TruncatedNormal(std=0.02)
    assert fastinit.get({"class_name": "zeros"}) == Zeros()
    called = fastinit.get(lambda shape, dtype: np.full(shape, 3.0))
    assert np.array_equal(called((2, 2), "float16"), np.full((2, 2), 3.0, np.float16))
    assert np.array_equal(called.shard((4, 2), slice(1, 3)), np.full((2, 2), 3.0, np.float32))
    with pytest.raises(ValueError, match=r"shape \(2, 2\), got \(3,\)"):
        fastinit.get(lambda shape, dtype: np.zeros(3))((2, 2))
    with pytest.raises(ValueError, match=r"expected one of bilinear, .*, zeros; got 'he'"):
        fastinit.get("he")
    with pytest.raises(ValueError, match="class_name"):
        fastinit.get({"config": {}})
    with pytest.raises(TypeError, match="got int"):
        fastinit.get(3)
    with pytest.raises(TypeError, match="subclass"):
        Initializer()((2, 2))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: HeNormal(negative_slope="relu"), TypeError, "negative_slope: expected a real number, got str"),
        (lambda: HeNormal(negative_slope=math.inf), ValueError, "negative_slope: expected a finite number"),
        (lambda: HeNormal(negative_slope=True), TypeError, "got bool"),
        (lambda: VarianceScaling(0.0), ValueError, "scale: expected a number > 0"),
        (lambda: VarianceScaling(mode="fan"), ValueError, "mode: expected one of fan_in"),
        (lambda: VarianceScaling(mode=["fan_in"]), ValueError, "mode: expected one of"),
        (lambda: VarianceScaling(distribution="cauchy"), ValueError, "distribution: expected one of"),
        (lambda: RandomUniform(1.0, 1.0), ValueError, "expected low < high"),
        (lambda: RandomNormal(std=-1.0), ValueError, "std: expected a number >= 0"),
        (lambda: TruncatedNormal(lower=2.0, upper=1.0), ValueError, "expected lower < upper"),
        (lambda: TruncatedNormal(mean=math.nan), ValueError, "mean: expected a finite number"),
        (lambda: Constant("a"), TypeError, "value: expected a real number, got str"),
        (lambda: Constant(np.array(["a"])), TypeError, "value: expected real numbers"),
        (lambda: Orthogonal(math.nan), ValueError, "gain: expected a finite number"),
        (lambda: Zeros(seed=-1), ValueError, r"seed: expected an int in \[0, 2\*\*64\)"),
        (lambda: Zeros(seed=1.5), TypeError, "seed: expected an int"),
        (lambda: Zeros(3), TypeError, "positional"),
        # positional: the first argument of Keras' classes of these names is the seed
        *((lambda kind=kind: kind(7), TypeError, "positional") for kind in KERAS_RULES),
    ],
)
def test_options_are_refused_at_construction(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda out: HeNormal()((3,), out=out), ValueError, "at least two axes"),
        (lambda out: Orthogonal()((3,), out=out), ValueError, "at least two axes"),
        (lambda out: Identity()((3,), out=out), ValueError, "at least two axes"),
        (lambda out: Constant(np.ones(2))((3,), out=out), ValueError, r"shape \(2,\) broadcasts to"),
        (lambda out: HeNormal()((-1, 3), out=out), ValueError, "sizes >= 0"),
        (lambda out: HeNormal()((2.5, 3), out=out), TypeError, "sequence of ints"),
        (lambda out: HeNormal()((3, 1), "int32", out=out), ValueError, "dtype: expected one of"),
        (lambda out: HeNormal()((3, 1), key=5, out=out), TypeError, "expected a fastinit.Key"),
        (lambda out: HeNormal()((3, 2), out=out), ValueError, "out: expected shape"),
        (lambda out: Zeros()((3, 2), out=out), ValueError, "out: expected shape"),
        (lambda out: Orthogonal()((3, 1), "float64", out=out), ValueError, "out: expected dtype"),
        (lambda out: HeNormal().shard((9, 2), (9, 0), out=out), IndexError, "index: expected an int"),
        (lambda out: Ones().shard((9, 2), (0, 0, 0), out=out), IndexError, "at most 2 entries"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(call, error, words):
    out = np.full((3, 1), 7.0, np.float32)
    with pytest.raises(error, match=words):
        call(out)
    assert (out == 7).all()


def test_numbers_outside_the_range_of_the_dtype():
    """Parameters of a law and elements that are not drawn are refused; a draw is rounded, and may become infinite."""
    for initializer in (RandomNormal(std=7e4), RandomUniform(-7e4, 1.0), Constant(7e4), Identity(7e4), Orthogonal(2e5)):
        out = np.full((2, 2), 7, np.float16)
        with pytest.raises(ValueError, match=r"expected .* got -?\d"):
            initializer((2, 2), out=out, dtype="float16", key=Key(0))
        assert (out == 7).all()
    wide = RandomNormal(std=3e4)
    half, single = (wide((1000,), dtype, key=Key(0)) for dtype in ("float16", "float32"))
    with np.errstate(over="ignore"):
        assert np.array_equal(half, single.astype(np.float16))
    assert np.isinf(half).sum() == (np.abs(single) >= 65520).sum() > 0
    assert "may become infinite" in " ".join(Initializer.__call__.__doc__.split())


# ---- seeds and keys -----------------------------------------------------------------------------

RANDOM = [HeNormal, GlorotUniform, TruncatedNormal, Orthogonal, VarianceScaling, RandomUniform]


@pytest.mark.parametrize("kind", RANDOM)
def test_seeds_and_keys(kind):
    shape = (16, 8)
    seeded, unseeded = kind(seed=5), kind()
    assert np.array_equal(seeded(shape), seeded(shape))
    assert np.array_equal(seeded(shape), kind(seed=5)(shape))
    assert np.array_equal(seeded(shape), unseeded(shape, key=Key(5)))
    assert not np.array_equal(seeded(shape), kind(seed=6)(shape))
    assert not np.array_equal(unseeded(shape), unseeded(shape))
    key = Key(9) / "layer"
    assert np.array_equal(seeded(shape, key=key), unseeded(shape, key=key))
    assert not np.array_equal(seeded(shape, key=key), seeded(shape))


# ---- shapes, shards and dtypes ------------------------------------------------------------------

PIECES = [
    np.s_[:],
    np.s_[3],
    np.s_[-1, 2],
    np.s_[..., 1:7:2],
    np.s_[10:2:-3, ::-1],
    np.s_[4:4],
    np.s_[2:5, 3:9],
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("initializer", ALL, **by_repr)
def test_a_shard_is_a_slice(initializer, dtype):
    shape = (12, 300) if isinstance(initializer, Constant) else (12, 10)
    whole = initializer(shape, dtype, key=Key(4))
    assert whole.dtype == dtype
    assert whole.shape == shape
    for piece in PIECES:
        part = initializer.shard(shape, piece, dtype=dtype, key=Key(4))
        assert part.dtype == dtype
        assert np.array_equal(part, whole[piece]), piece
        out = np.empty(whole[piece].shape, dtype)
        assert initializer.shard(shape, piece, dtype=dtype, key=Key(4), out=out) is out
        assert np.array_equal(out, part)


@pytest.mark.parametrize("initializer", ALL, **by_repr)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_the_rounding_of_float32(initializer, dtype):
    assert moved_inside(initializer, SHAPE, dtype).mean() < 0.01


@pytest.mark.parametrize("initializer", ALL, **by_repr)
@pytest.mark.parametrize("shape", [(0, 300), (4, 0), (0, 0), (2, 0, 3, 300)])
def test_empty_shapes(initializer, shape):
    if isinstance(initializer, Constant) and shape[-1] != 300 and np.ndim(initializer.value):
        with pytest.raises(ValueError, match="broadcasts"):
            initializer(shape)
        return
    values = initializer(shape, key=Key(0))
    assert values.shape == shape
    assert values.size == 0
    assert initializer.shard(shape, np.s_[0:0], key=Key(0)).shape == (0, *shape[1:])


@pytest.mark.parametrize("initializer", [Zeros(), Ones(), Constant(2.0), RandomNormal(), RandomUniform(), TruncatedNormal()])
def test_a_number_and_a_vector(initializer):
    number = initializer((), key=Key(3))
    assert number.shape == ()
    vector = initializer(5, key=Key(3))
    assert vector.shape == (5,)
    assert vector[0] == number


# ---- the stated law -----------------------------------------------------------------------------


@pytest.mark.parametrize(("initializer", "std", "reach"), DRAWN, ids=repr)
def test_the_stated_law(initializer, std, reach):
    assert initializer.variance(SHAPE) == pytest.approx(std**2, rel=1e-5)
    low, high = initializer.bounds(SHAPE)
    assert (low, high) == (pytest.approx(-reach * std, rel=1e-5), pytest.approx(reach * std, rel=1e-5))
    z = initializer(SHAPE, "float64", key=Key(2026)) / math.sqrt(initializer.variance(SHAPE))
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    fourth = np.mean(z**4)
    assert abs(np.mean(z**2) - 1) < 5 * math.sqrt((fourth - 1) / z.size)
    assert np.abs(z).max() <= reach * (1 + 1e-12)
    if reach == math.sqrt(3):  # uniform
        kolmogorov_smirnov(z, lambda x: (x / reach + 1) / 2)
        assert np.abs(z).max() > 0.999 * reach
    elif math.isinf(reach):
        kolmogorov_smirnov(z, phi)
    else:
        cut = getattr(initializer, "upper", 2.0)
        tail = phi(-cut)
        kolmogorov_smirnov(z, lambda x: (phi(x * cut / reach) - tail) / (1 - 2 * tail))


def test_distributions_with_a_mean():
    n = 200_000
    x = RandomUniform(2.0, 5.0)((n,), "float64", key=Key(1))
    assert abs(x.mean() - 3.5) < 5 * math.sqrt(0.75 / n)
    assert RandomUniform(2.0, 5.0).variance(n) == pytest.approx(0.75)
    x = TruncatedNormal(1.0, 2.0, 0.5, math.inf)((n,), "float64", key=Key(1))
    # Mean and variance of z > a: h = phi(a) / (1 - Phi(a)), 1 + a h - h^2.
    h = math.exp(-0.125) / math.sqrt(2 * math.pi) / (math.erfc(0.5 / math.sqrt(2)) / 2)
    assert TruncatedNormal(1.0, 2.0, 0.5, math.inf).variance(n) == pytest.approx(4 * (1 + 0.5 * h - h * h))
    assert abs(x.mean() - (1 + 2 * h)) < 5 * math.sqrt(4 * (1 + 0.5 * h - h * h) / n)
    assert TruncatedNormal(1.0, 2.0, 0.5, math.inf).bounds(n) == (2.0, math.inf)
    assert x.min() >= 2.0
    assert np.all(RandomNormal(3.0, 0.0)((10,), key=Key(0)) == 3.0)


@pytest.mark.parametrize("initializer", [x for x in OTHERS if not isinstance(x, (Orthogonal, HeNormal))], **by_repr)
def test_fixed_tensors_state_their_moments(initializer):
    values = initializer(SHAPE, "float64")
    assert np.array_equal(values, initializer(SHAPE, "float64"))
    assert initializer.variance(SHAPE) == pytest.approx(values.var(), rel=1e-12)
    assert initializer.bounds(SHAPE) == (values.min(), values.max())


def test_moments_of_a_large_fixed_tensor_take_no_memory():
    """They are computed from the definition: a tensor of this shape would take half a gigabyte."""
    n, field = 8192, (3, 3, 1024, 1024)
    row = np.arange(n, dtype="float64")
    diagonal = 4 * (1 / n - 1 / n**2)
    bilinear = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
    mean, square = bilinear.sum() / (9 * 1024), (bilinear**2).sum() / (9 * 1024)
    # HiPPO: sums of (2i + 1)(2k + 1) over k < i and of (i + 1)^2, less the square of the mean
    odd = [2 * i + 1 for i in range(n)]
    below = (math.fsum(math.sqrt(k) for k in odd) ** 2 - sum(odd)) / 2
    legs = ((sum(odd) ** 2 - sum(k * k for k in odd)) // 2 + n * (n + 1) * (2 * n + 1) // 6) / n**2
    legs -= ((below + n * (n + 1) / 2) / n**2) ** 2
    cases = [
        (Zeros(), (n, n), 0.0, (0.0, 0.0)),
        (Ones(), (n, n), 0.0, (1.0, 1.0)),
        (Constant(0.25), (n, n), 0.0, (0.25, 0.25)),
        (Constant(row), (n, n), (n * n - 1) / 12, (0.0, n - 1.0)),
        (Identity(2.0), (n, n), diagonal, (0.0, 2.0)),
        (Identity(-2.0), (2, n, n), diagonal, (-2.0, 0.0)),
        (fastinit.Times("identity", 2.0), (n, n), diagonal, (0.0, 2.0)),
        (fastinit.PerGate(["zeros", "ones"]), (n, n), 0.25, (0.0, 1.0)),
        (fastinit.Dirac(groups=2), field, 1 / 9216 - 1 / 9216**2, (0.0, 1.0)),
        (fastinit.Bilinear(), field, square - mean**2, (0.0, 1.0)),
        # half of Hadamard's rows: squares are 2^-12, and only two columns, of 4096 ones each, have a sum other than 0
        (fastinit.Hadamard(), (n // 2, n), 2**-12 - 2.0**-36, (-(2.0**-6), 2.0**-6)),
        (fastinit.Hadamard(), (3, n, n // 2), (1 / (3 * n)) * (1 - 1 / (3 * n)), (0.0, 1.0)),
        (fastinit.ForgetGateBias(2.0), (n * n,), 0.75, (0.0, 2.0)),
        (fastinit.HippoLegS(), (n, n), legs, (-math.sqrt((2 * n - 1) * (2 * n - 3)), 0.0)),
    ]
    tracemalloc.start()
    try:
        for initializer, shape, variance, bounds in cases:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            assert initializer.variance(shape) == pytest.approx(variance, rel=1e-12), initializer
            assert initializer.bounds(shape) == pytest.approx(bounds, rel=1e-15), initializer
            assert tracemalloc.get_traced_memory()[1] - before < 1 << 20, initializer
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("initializer", "shape"), [(Identity(), (0, 3, 3)), (fastinit.Dirac(), (3, 0, 2)), (Zeros(), (0,))])
def test_empty_fixed_tensors_have_no_moments(initializer, shape):
    assert math.isnan(initializer.variance(shape))
    assert np.isnan(initializer.bounds(shape)).all()


def test_identity():
    assert np.array_equal(Identity(2.0)((3, 5)), 2 * np.eye(3, 5))
    batch = Identity()((4, 2, 3, 2))
    assert batch.shape == (4, 2, 3, 2)
    assert (batch == np.eye(3, 2)).all()
