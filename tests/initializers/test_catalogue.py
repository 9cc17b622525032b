"""Every initializer of the catalogue as an object, and the structured ones against the definitions in their papers.

Variances are those of the formulas, worked out here by hand. Statistical tests have fixed seeds; a mean square is
within five standard errors (false alarm 6e-7 a case), a Kolmogorov-Smirnov distance at level 1e-6.
"""

import dataclasses
import json
import math
import pickle
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from catalogue_cases import CASES, FIXED, KERNEL, RANDOM, WIDE
from initializer_laws import kolmogorov_smirnov, moved_inside, phi

import fastinit
from fastinit import Key, uniform
from fastinit._common.portable_math import log
from fastinit.initializers import (
    CATALOGUE,
    S4D,
    STFT,
    Bilinear,
    ChronoBias,
    CriticalNormal,
    DepthwiseResidual,
    Dirac,
    ForgetGateBias,
    GainNormal,
    GlorotUniform,
    Hadamard,
    HeNormal,
    HeUniform,
    HippoLegS,
    HippoLegSB,
    Icnr,
    LeCunNormal,
    LeCunUniform,
    LogUniform,
    LoraA,
    MambaDtBias,
    MambaLogA,
    MuP,
    Orthogonal,
    PerGate,
    PriorBias,
    RandomNormal,
    RandomUniform,
    ResidualNormal,
    SirenFirst,
    SirenHidden,
    SmallInit,
    Sparse,
    SpectralScaling,
    Times,
    TorchLinear,
    TruncatedNormal,
    UnitScaling,
    VarianceScaling,
    lora_scaling,
)
from fastinit.initializers.independent import Independent
from fastinit.initializers.transformed_uniform import TransformedUniform


def ids(value):
    return repr(value) if isinstance(value, fastinit.Initializer) else ""


def test_no_file_is_left_out():
    for path in Path(fastinit.initializers.__file__).parent.glob("*.py"):
        if "\n@registered(" in path.read_text(encoding="utf-8"):
            module = sys.modules.get(f"fastinit.initializers.{path.stem}")
            assert module, f"initializers/__init__.py: expected it to import {path.stem}"
            assert set(module.__all__) <= set(fastinit.__all__), f"initializers/__init__.py: expected {path.stem}.__all__, too"


def test_no_initializer_is_left_out():
    assert {type(one) for one, _ in CASES} == set(CATALOGUE)
    for one in CATALOGUE:
        assert getattr(fastinit, one.__name__) is one
        assert fastinit.get.__globals__["BY_CLASS"][one.__name__] is one


@pytest.mark.parametrize(("initializer", "shape"), CASES, ids=ids)
def test_objects_survive_repr_config_pickle_and_copy(initializer, shape):
    scope = {name: getattr(fastinit, name) for name in fastinit.__all__}
    config = json.loads(json.dumps(initializer.get_config()))
    copies = [
        eval(repr(initializer), scope),
        pickle.loads(pickle.dumps(initializer)),
        type(initializer).from_config(config),
        fastinit.get({"class_name": type(initializer).__name__, "config": config}),
    ]
    values = initializer(shape, key=Key(1))
    for copy in copies:
        assert copy == initializer
        assert hash(copy) == hash(initializer)
        assert np.array_equal(copy(shape, key=Key(1)), values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("initializer", "shape"), CASES, ids=ids)
def test_a_shard_is_a_slice(initializer, shape, dtype):
    whole = initializer(shape, dtype, key=Key(4))
    for piece in (np.s_[1:3], np.s_[..., ::-2], np.s_[0], np.s_[2:2]):
        part = initializer.shard(shape, piece, dtype=dtype, key=Key(4))
        assert np.array_equal(part, whole[piece])


@pytest.mark.parametrize(("initializer", "shape"), CASES, ids=ids)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_the_rounding_of_float32(initializer, shape, dtype):
    moved_inside(initializer, shape, dtype)


@pytest.mark.parametrize("one", [one for one, _ in CASES], ids=ids)
def test_no_attribute_can_be_set(one):
    before, names = repr(one), set(vars(one))
    for name in ("sclae", *(field.name for field in dataclasses.fields(one))):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, name, 1)
    assert repr(one) == before
    assert set(vars(one)) == names


@pytest.mark.parametrize(("initializer", "shape", "variance", "share"), RANDOM, ids=ids)
def test_the_stated_variance(initializer, shape, variance, share):
    if variance is not None:
        assert initializer.variance(shape) == pytest.approx(variance, rel=1e-8)
    x = initializer(shape, "float64", key=Key(2026))
    assert np.array_equal(x.astype(np.float32), initializer(shape, "float32", key=Key(2026))) or np.allclose(
        x, initializer(shape, "float32", key=Key(2026)), rtol=2e-5, atol=2e-6 * np.abs(x).max()
    )
    low, high = initializer.bounds(shape)
    assert low <= x.min()
    assert x.max() <= high
    centre = initializer._mean(shape)
    draws = x.size * share
    deviations = (x - centre) ** 2
    assert abs(x.mean() - centre) <= 5 * math.sqrt(initializer.variance(shape) / draws)
    assert abs(deviations.mean() - initializer.variance(shape)) <= 5 * deviations.std() / math.sqrt(draws)


UNIFORM = (RandomUniform, GlorotUniform, HeUniform, LeCunUniform, TorchLinear, SirenFirst, SirenHidden)
TRUNCATED = (TruncatedNormal, VarianceScaling)  # see test_the_stated_law of test_initializers.py
INDEPENDENT = [row[:3] for row in RANDOM if isinstance(row[0], Independent) and not isinstance(row[0], TRUNCATED)]


@pytest.mark.parametrize(("initializer", "shape", "variance"), INDEPENDENT, ids=ids)
def test_the_stated_form(initializer, shape, variance):
    z = (initializer(shape, "float64", key=Key(7)) - initializer._mean(shape)) / math.sqrt(variance)
    law, _ = initializer.law(shape)
    assert law == "uniform" or not (isinstance(initializer, UNIFORM) or initializer == LoraA())
    assert law == "normal" or "Normal" not in type(initializer).__name__
    if law == "uniform":
        kolmogorov_smirnov(z, lambda z: np.clip(z / math.sqrt(12) + 0.5, 0, 1))
    else:
        kolmogorov_smirnov(z, phi)


@pytest.mark.parametrize(("initializer", "shape"), FIXED, ids=ids)
def test_fixed_tensors_state_their_moments(initializer, shape):
    values = initializer(shape, "float64")
    assert np.array_equal(values, initializer(shape, "float64"))
    assert initializer.variance(shape) == pytest.approx(values.var(), rel=1e-12)
    assert initializer.bounds(shape) == (values.min(), values.max())


# ---- distributions other than uniform and normal -------------------------------------------------------------------


class Exponential(TransformedUniform):
    def _transform(self, u):
        return log(np.maximum(u, 1e-300))


class Reversed(Exponential):
    def _transform(self, u):
        return super()._transform(1 - u)


@pytest.mark.parametrize("one", [Exponential(), Reversed()], ids=repr)
def test_moments_of_functions_that_are_steep_at_either_end(one):
    assert one._mean(1) == pytest.approx(-1, rel=1e-8)
    assert one.variance(1) == pytest.approx(1, rel=1e-8)


def test_logarithms_of_uniforms():
    x = LogUniform(2.0, 9.0)((20_000,), "float64", key=Key(3))
    kolmogorov_smirnov(x, lambda x: (np.exp(x) - 2) / 7)
    assert LogUniform(2.0, 9.0).bounds(1) == (pytest.approx(math.log(2)), pytest.approx(math.log(9)))
    u = uniform((20_000,), key=Key(3), dtype="float64")
    assert np.allclose(x, np.log(2 + 7 * u), rtol=1e-15)


def test_mamba_steps_are_log_uniform():
    bias = MambaDtBias()((20_000,), "float64", key=Key(3))
    dt = np.log1p(np.exp(bias))
    assert dt.min() >= 0.001 * (1 - 1e-9)
    assert dt.max() <= 0.1 * (1 + 1e-9)
    kolmogorov_smirnov(np.log(dt), lambda x: (x - math.log(0.001)) / math.log(100))
    floored = np.log1p(np.exp(MambaDtBias(1e-5, 0.1, 1e-3)((20_000,), "float64", key=Key(3))))
    assert floored.min() == pytest.approx(1e-3)
    # Half of a log-uniform distribution on (1e-5, 0.1) lies below 1e-3.
    assert abs(np.mean(floored < 1.000001e-3) - 0.5) < 5 * math.sqrt(0.25 / 20_000)


def test_chrono():
    bias = ChronoBias(1000.0)((40_000,), "float64", key=Key(5)).reshape(4, -1)
    assert (bias[2:] == 0).all()
    assert np.array_equal(bias[0], -bias[1])
    kolmogorov_smirnov(bias[1], lambda x: (np.exp(x) - 1) / 998)
    other = ChronoBias(50, gates=3, input_gate=2, forget_gate=0)((30,), key=Key(5)).reshape(3, -1)
    assert (other[1] == 0).all()
    assert (other[0] > 0).all()


def test_truncation_by_absolute_bounds_and_with_corrected_variance():
    x = TruncatedNormal(0.5, 2.0, low=-1.0, high=2.0)((100_000,), "float64", key=Key(6))
    assert (x.min() >= -1, x.max() <= 2) == (True, True)
    low, high = phi(-0.75), phi(0.75)
    kolmogorov_smirnov(x, lambda x: (phi((x - 0.5) / 2) - low) / (high - low))
    # Truncation at 100 standard deviations changes nothing.
    far = TruncatedNormal(std=0.02, low=-2, high=2)
    assert far.variance(1) == pytest.approx(0.0004, rel=1e-15)
    assert far.bounds(1) == (-2, 2)
    wide = TruncatedNormal(std=0.05, corrected=True)
    same = VarianceScaling(0.0025, "fan_in")  # which also corrects the variance for truncation
    assert np.array_equal(wide((1, 9), key=Key(1)), same((1, 9), key=Key(1)))


def test_sparse_keeps_the_smallest_words_of_plane_four():
    x = Sparse(7)((50, 40), "float64", key=Key(9))
    assert (np.count_nonzero(x, axis=0) == 7).all()
    words = np.empty((50, 40), np.uint32)
    fastinit._core.fill(words, 0, 0, (), 9, 0, 0, 1, 4)
    for column in range(40):
        assert set(np.flatnonzero(x[:, column])) == set(sorted(range(50), key=lambda i: (words[i, column], i))[:7])
    kept = x[x != 0] / 0.01
    kolmogorov_smirnov(kept, phi)
    # Each row is chosen equally often: in 7 / 50 of the columns, to five standard errors.
    rows = np.count_nonzero(Sparse(7)((50, 20_000), key=Key(2)), axis=1)
    assert np.abs(rows - 2800).max() < 5.5 * math.sqrt(20_000 * 0.14 * 0.86)
    zeros = np.count_nonzero(Sparse(sparsity=0.9)((55, 3), key=Key(1)) == 0, axis=0)
    assert (zeros == math.ceil(0.9 * 55)).all()


def test_icnr_is_constant_after_a_pixel_shuffle():
    x = Icnr("he_normal", 2)(KERNEL, key=Key(1)).reshape(3, 3, 16, 4, 16)  # sub-pixels outside
    assert (x == x[..., :1, :]).all()
    assert np.array_equal(x[..., 0, :], HeNormal()((3, 3, 16, 16), key=Key(1)))
    y = Icnr("lecun_uniform", 3, "oi")((18, 5, 2, 2), key=Key(1)).reshape(2, 9, 5, 2, 2)  # inside
    assert (y == y[:, :1]).all()


# ---- fixed tensors by their definitions -------------------------------------------------------------


def test_dirac_convolutions_copy_their_input():
    kernel = Dirac()((3, 4, 5))
    assert np.array_equal(kernel[1], np.eye(4, 5))
    assert np.count_nonzero(kernel) == 4
    grouped = Dirac(3.0, 2, "oi")((6, 2, 3, 5))
    expected = np.zeros((6, 2, 3, 5))
    for group in range(2):
        for i in range(2):
            expected[group * 3 + i, i, 1, 2] = 3
    assert np.array_equal(grouped, expected)
    assert np.array_equal(Dirac(3.0, 2)((3, 5, 2, 6)), grouped.transpose(2, 3, 1, 0))


def test_bilinear_interpolates_a_line_exactly():
    # Enlarge a linear ramp twice with the transposed convolution of stride 2: it stays linear.
    taps = Bilinear()((4, 1, 1), "float64")[:, 0, 0]
    assert taps.tolist() == [0.25, 0.75, 0.75, 0.25]
    assert Bilinear()((3, 1, 1), "float64").ravel().tolist() == [0.5, 1.0, 0.5]
    large = np.zeros(2 * 20 + 4)
    for i in range(20):
        large[2 * i : 2 * i + 4] += i * taps
    assert np.allclose(np.diff(large[4:38]), 0.5)
    kernel = Bilinear()((4, 3, 2, 2), "float64")
    assert np.allclose(kernel[:, :, 0, 0], np.outer(taps, [0.5, 1, 0.5]))
    assert (kernel[:, :, 0, 1] == 0).all()


def test_hadamard():
    assert np.array_equal(Hadamard()((5, 3)), np.eye(5, 3))
    assert np.array_equal(Hadamard()((4, 4)), np.eye(4))
    one = np.array([[1.0]])
    matrix = one
    for _ in range(4):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    assert np.allclose(Hadamard()((7, 12), "float64"), 2**-1.5 * matrix[:7, :12], rtol=1e-15)
    kernel = Hadamard("oi")((12, 7, 3), "float64")
    assert np.array_equal(kernel[:, :, 1], Hadamard()((7, 12), "float64").T)
    assert (kernel[:, :, ::2] == 0).all()


@pytest.mark.parametrize("window", ["hann", "hamming", "blackman", None])
def test_stft_is_a_windowed_fourier_transform(window):
    frame, bins = 20, 17
    shape = (frame, 1, bins)
    real = STFT("real", window)(shape, "float64")[:, 0]
    imaginary = STFT("imag", window)(shape, "float64")[:, 0]
    n = np.arange(frame) * 2 * np.pi / (frame - 1)
    w = {
        "hann": 0.5 - 0.5 * np.cos(n),
        "hamming": 0.54 - 0.46 * np.cos(n),
        "blackman": 0.42 - 0.5 * np.cos(n) + 0.08 * np.cos(2 * n),
        None: np.ones(frame),
    }[window]
    scale = 1 if window is None else math.sqrt((w**2).sum())
    signal = np.random.default_rng(0).standard_normal(frame)
    expected = np.fft.rfft(signal * w / scale, 32)
    assert np.allclose(signal @ real + 1j * (signal @ imaginary), expected, atol=1e-13)
    spectrum = STFT(window=window or "hann", scaling="spectrum", periodic=True)(shape, "float64")[:, 0, 0]
    assert spectrum.sum() == pytest.approx(1)


def test_state_spaces():
    a = HippoLegS()((5, 5), "float64")
    for n in range(5):
        for k in range(5):
            expected = -math.sqrt((2 * n + 1) * (2 * k + 1)) if n > k else -(n + 1) if n == k else 0
            assert a[n, k] == pytest.approx(expected, rel=1e-15)
    assert HippoLegSB()((3,), "float64") == pytest.approx([1, math.sqrt(3), math.sqrt(5)])
    assert S4D()((3,)).tolist() == [-0.5] * 3
    assert S4D(part="imaginary")((3,), "float64") == pytest.approx([0, math.pi, 2 * math.pi])
    # N = 8 of four conjugate pairs.
    inverse = [8 / math.pi * (8 / (2 * n + 1) - 1) for n in range(4)]
    assert S4D("inv", "imaginary")((2, 4), "float64")[1] == pytest.approx(inverse)
    assert S4D("real")((3,)).tolist() == [-1, -2, -3]
    assert np.exp(MambaLogA()((2, 3), "float64"))[1] == pytest.approx([1, 2, 3], rel=1e-15)


def test_biases():
    assert ForgetGateBias(1.5)((8,)).tolist() == [0, 0, 1.5, 1.5, 0, 0, 0, 0]
    assert PriorBias()((2,), "float64") == pytest.approx([-math.log(99)] * 2, rel=1e-15)
    assert PriorBias(0.5)((1,))[0] == 0


def test_widths():
    assert MuP().learning_rate_multiplier(WIDE) == 1 / 400
    assert MuP("output", 100).learning_rate_multiplier(WIDE) == 1 / 4
    assert MuP("input").learning_rate_multiplier(WIDE) == 1
    assert UnitScaling().multiplier(WIDE) == 1 / 20
    assert UnitScaling("output").multiplier(WIDE) == 1 / 400
    assert UnitScaling("input").multiplier(WIDE) == 1
    assert lora_scaling(16, 4) == 4
    assert lora_scaling(16, 4, rank_stabilized=True) == 8
    # The spectral norm of a large normal matrix is std (sqrt(rows) + sqrt(columns)), to 2 % at these sizes.
    for shape in ((400, 100), (100, 400)):
        norm = np.linalg.norm(SpectralScaling()(shape, "float64", key=Key(0)), 2)
        std = min(1, math.sqrt(shape[1] / shape[0])) / math.sqrt(shape[0])
        assert norm == pytest.approx(std * (math.sqrt(shape[0]) + math.sqrt(shape[1])), rel=0.03)


def test_critical_weights_have_their_biases():
    assert CriticalNormal("tanh", 0.09).biases == RandomNormal(0.0, 0.3)
    assert CriticalNormal("relu", 0).biases == RandomNormal(0.0, 0.0)


@pytest.mark.parametrize(
    ("activation", "bias", "same"),
    [("relu", 0, HeNormal()), ("leaky_relu(0.5)", 0.0, HeNormal(negative_slope=0.5)), ("linear", 0, LeCunNormal()),
     ("tanh", 0, LeCunNormal())],
)  # fmt: skip
def test_critical_weights_without_biases(activation, bias, same):
    one = CriticalNormal(activation, bias)
    assert one.variance(WIDE) == pytest.approx(same.variance(WIDE), rel=1e-9)
    np.testing.assert_allclose(one((64, 5), "float64", key=Key(1)), same((64, 5), "float64", key=Key(1)), rtol=1e-9)


def test_gates_have_their_own_fans_and_keys():
    packed = PerGate(("glorot_uniform", "orthogonal", "he_normal"))((30, 90), "float64", key=Key(4))
    blocks = np.split(packed, 3, axis=1)
    assert np.array_equal(blocks[0], GlorotUniform()((30, 30), "float64", key=Key(4) / 0))
    assert np.array_equal(blocks[1], Orthogonal()((30, 30), "float64", key=Key(4) / 1))
    assert np.array_equal(blocks[2], HeNormal()((30, 30), "float64", key=Key(4) / 2))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: GainNormal("tanh", "activation"), ValueError, "reaches a mean square of 1"),
        (lambda: GainNormal("nothing"), ValueError, "activation: expected one of"),
        (lambda: CriticalNormal(bias_variance=-1e-9), ValueError, "bias_variance: expected a finite number >= 0.0, got -1e-09"),
        (lambda: CriticalNormal("relu"), ValueError, "expected 0 for"),
        (lambda: CriticalNormal("gelu"), ValueError, "bias_variance: expected at least 0.172923 for gelu, .*, got 0.05"),
        (lambda: CriticalNormal("gelu_tanh", 0.17), ValueError, "bias_variance: expected at least 0.172896 for gelu_tanh"),
        (lambda: CriticalNormal("silu"), ValueError, "bias_variance: expected at least 0.555144 for silu, .*, got 0.05"),
        (lambda: CriticalNormal("mish", 0), ValueError, "bias_variance: expected at least 0.094522 for mish, .*, got 0"),
        (lambda: CriticalNormal(3), TypeError, "activation: expected a str"),
        (lambda: GainNormal(keep="all"), ValueError, "keep: expected one of preactivation"),
        (lambda: ResidualNormal(0), ValueError, "layers: expected an int >= 1"),
        (lambda: ResidualNormal(2.0), TypeError, "layers: expected an int"),
        (lambda: DepthwiseResidual(-1), ValueError, "layer: expected an int >= 0"),
        (lambda: SmallInit(8)(3, "int8"), ValueError, "dtype: expected one of"),
        (lambda: MuP("last"), ValueError, "role: expected one of input, hidden, output"),
        (lambda: SirenHidden(0), ValueError, "omega: expected a number > 0"),
        (lambda: SirenHidden(corrected=1), TypeError, "corrected: expected a bool"),
        (lambda: LoraA("truncated_normal"), ValueError, "distribution: expected one of"),
        (lambda: lora_scaling(1, 0), ValueError, "rank: expected an int >= 1"),
        (lambda: lora_scaling(1, 2.0), TypeError, "rank: expected an int"),
        (lambda: Sparse(), ValueError, "nonzero, sparsity: expected one of them"),
        (lambda: Sparse(3, 0.5), ValueError, "nonzero, sparsity: expected one of them"),
        (lambda: Sparse(sparsity=1.0), ValueError, r"sparsity: expected a number in \[0, 1\)"),
        (lambda: Sparse(9)((8, 3)), ValueError, "nonzero: expected at most 8"),
        (lambda: Sparse(1)((8,)), ValueError, "expected two axes"),
        (lambda: Dirac(groups=2)((3, 2, 5)), ValueError, "groups: expected a divisor of the 5"),
        (lambda: Dirac()((3, 2)), ValueError, "at least three axes"),
        (lambda: Icnr(factor=2)((3, 3, 4, 6)), ValueError, "multiples of 4"),
        (lambda: Icnr("nothing"), ValueError, "initializer: expected one of"),
        (lambda: Hadamard()((3,)), ValueError, "at least two axes"),
        (lambda: STFT(window="kaiser"), ValueError, "window: expected one of hann"),
        (lambda: STFT()((8, 2, 5)), ValueError, r"expected \(frame, 1, bins\)"),
        (lambda: ForgetGateBias()((6,)), ValueError, "a multiple of 4 gates"),
        (lambda: ForgetGateBias(gates=3, forget_gate=3), ValueError, "one of 3 gates"),
        (lambda: ChronoBias(2.0), ValueError, "max_time: expected a number > 2"),
        (lambda: ChronoBias(9.0, forget_gate=0), ValueError, "expected two of 4 gates"),
        (lambda: HippoLegS()((3, 4)), ValueError, "expected square matrices"),
        (lambda: S4D("legs"), ValueError, "variant: expected one of lin"),
        (lambda: S4D()(()), ValueError, "at least one axis"),
        (lambda: LogUniform(2, 1), ValueError, "expected low < high"),
        (lambda: MambaDtBias(0.1, 0.01), ValueError, "expected dt_min < dt_max"),
        (lambda: PriorBias(1.0), ValueError, r"probability: expected a number in \(0, 1\)"),
        (lambda: PerGate("zeros"), TypeError, "expected a sequence of initializers"),
        (lambda: PerGate([]), TypeError, "expected a sequence of initializers"),
        (lambda: PerGate(["zeros"] * 3)((2, 4)), ValueError, "expected a multiple of 3"),
        (lambda: PerGate(["zeros"], axis=2)((2, 4)), ValueError, r"axis: expected one of shape \(2, 4\)"),
        (lambda: Times("zeros", math.inf), ValueError, "factor: expected a finite number"),
        (lambda: Times(["zeros"], 1), TypeError, "expected one initializer"),
        (lambda: TruncatedNormal(low=1.0), ValueError, "low, high: expected both or neither"),
        (lambda: TruncatedNormal(low=2.0, high=1.0), ValueError, "low, high: expected low < high"),
        (lambda: TruncatedNormal(low=0, high=1, corrected=True), ValueError, "nor corrected"),
        (lambda: TruncatedNormal(low=0, high=1, std=0), ValueError, "std: expected a number > 0"),
    ],
)  # fmt: skip
def test_options_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_the_seed_of_an_inner_initializer_is_taken_over():
    inner = fastinit.HeNormal(seed=3)
    for outer in (fastinit.Times(inner, 0.5), fastinit.Icnr(inner, factor=1)):
        shape = (4, 5) if isinstance(outer, fastinit.Times) else (3, 4, 5)
        factor = 0.5 if isinstance(outer, fastinit.Times) else 1.0
        np.testing.assert_array_equal(outer(shape), np.float32(factor) * inner(shape))
        assert outer.seed == 3
        assert eval(repr(outer), vars(fastinit)) == outer
        other = dataclasses.replace(outer, seed=4)  # the outer seed wins
        assert (other(shape) != outer(shape)).any()
    with pytest.raises(ValueError, match="initializer: expected initializers without seeds"):
        fastinit.PerGate((inner, fastinit.HeNormal()))
    np.testing.assert_array_equal(*(fastinit.PerGate((inner, inner), seed=1)((2, 4)) for _ in range(2)))


@pytest.mark.parametrize("index", [slice(-100, None, -1), slice(3, 3), slice(2, 5, -1), (slice(None), slice(9, 4, 2))])
def test_empty_pieces_of_fixed_tensors_are_empty(index):
    for one in (fastinit.Zeros(), fastinit.Constant(2.0), fastinit.Hadamard(), fastinit.Identity()):
        assert one.shard((4, 5), index).shape == one((4, 5))[index].shape


@pytest.mark.parametrize("bounds", [{"lower": 40, "upper": 41}, {"lower": -50.0, "upper": -37.0}, {"low": 2.0, "high": 3.0}])
def test_bounds_without_probability_are_refused_at_construction(bounds):
    with pytest.raises(ValueError, match="expected bounds less than 36 standard deviations out"):
        fastinit.TruncatedNormal(**bounds)


def test_constants_cannot_be_changed():
    for value in ([np.nan], [1.0, np.inf]):
        with pytest.raises(ValueError, match="value: expected finite numbers"):
            fastinit.Constant(value)
    assert fastinit.Constant(np.array(1.5)) == fastinit.Constant(1.5)
    for copied in (pickle.loads(pickle.dumps(fastinit.Constant([1.0, 2.0]))), deepcopy(fastinit.Constant([1.0, 2.0]))):
        assert not copied.value.flags.writeable
    one = fastinit.TruncatedNormal(lower=-math.inf)
    assert eval(repr(one), vars(fastinit)) == one


@pytest.mark.parametrize("one", [fastinit.S4D("lin"), fastinit.STFT()])
def test_components_of_complex_tensors_refuse_complex_dtypes(one):
    with pytest.raises(ValueError, match="dtype: expected a real one"):
        one((3,), "complex64")


def test_names_of_aliases():
    assert fastinit.get("XavierNormal") == fastinit.GlorotNormal()
    assert fastinit.get("KaimingUniform") == fastinit.HeUniform()
    assert fastinit.get("LecunNormal") == fastinit.LeCunNormal()
    with pytest.raises(ValueError, match="groups: expected 1 for a kernel of two axes, got 4"):
        fastinit.FanRule(groups=4)((64, 8))
