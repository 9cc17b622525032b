"""fastinit.torch against torch.nn.init: the behaviour that users and PyTorch's own tests rely on, and the differences.

Statistical tests: Kolmogorov-Smirnov at p > 1e-6, so a false alarm of one in a million each; seeds are fixed, so none varies.
"""

from __future__ import annotations

import inspect
import math
import threading
import warnings

import numpy as np
import pytest
import truncated_law
from dialect_laws import ks
from torch_cases import DRAWN, FLOATS, KEY, torch  # which skips all of this where PyTorch is not installed

theirs = torch.nn.init

import fastinit  # noqa: E402
from fastinit import torch as init  # noqa: E402

# ---- the same interface -----------------------------------------------------------------------


def test_every_public_name_is_here():
    assert set(theirs.__all__) <= set(init.__all__)


@pytest.mark.parametrize("name", [n for n in theirs.__all__ if n.endswith("_")])
def test_the_signature_is_that_of_pytorch_with_a_key(name):
    own, other = inspect.signature(getattr(init, name)), inspect.signature(getattr(theirs, name))
    names = [p for p in own.parameters if p != "key"]
    assert names == list(other.parameters)
    for parameter in names:
        assert own.parameters[parameter].default == other.parameters[parameter].default
        assert own.parameters[parameter].kind == other.parameters[parameter].kind
    if name in DRAWN:
        assert own.parameters["key"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", DRAWN)
def test_returns_the_tensor_itself_and_takes_it_by_keyword(name):
    tensor = torch.empty(6, 5)
    assert getattr(init, name)(tensor=tensor, **DRAWN[name]) is tensor


@pytest.mark.parametrize(
    "nonlinearity",
    ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
     "sigmoid", "tanh", "relu", "leaky_relu", "selu"],
)  # fmt: skip
@pytest.mark.parametrize("param", [None, 0, 0.2, 10])
def test_calculate_gain_has_the_values_of_pytorch(nonlinearity, param):
    assert init.calculate_gain(nonlinearity, param) == theirs.calculate_gain(nonlinearity, param)


@pytest.mark.parametrize("param", [True, [1], {"a": "b"}, "1"])
def test_the_slope_must_be_a_number(param):
    with pytest.raises(ValueError, match="not a valid number"):
        init.calculate_gain("leaky_relu", param)


@pytest.mark.parametrize("name", ["", "gelu", "xyzxy", [], None, 3])
def test_unknown_nonlinearity(name):
    with pytest.raises(ValueError, match="Unsupported nonlinearity") as their_error:
        theirs.calculate_gain(name)
    with pytest.raises(ValueError, match="Unsupported nonlinearity") as error:
        init.calculate_gain(name)
    assert str(error.value) == str(their_error.value)


@pytest.mark.parametrize("shape", [(3, 4), (8, 2, 3), (6, 5, 3, 3), (2, 3, 1, 2, 5)])
def test_the_private_fan_functions_that_libraries_call(shape):
    tensor = torch.empty(shape)
    assert init._calculate_fan_in_and_fan_out(tensor) == theirs._calculate_fan_in_and_fan_out(tensor)
    for mode in ("fan_in", "FAN_OUT"):
        assert init._calculate_correct_fan(tensor, mode) == theirs._calculate_correct_fan(tensor, mode)


# Calls for which PyTorch raises an error: here it has the same type, and text that the same pattern matches.
REFUSED = {
    "uniform from > to": ("uniform_", (3,), (1.0, 0.0), "from=1 > to=0"),
    "normal std": ("normal_", (3,), (0.0, -1.0), "std >= 0.0, but found std -1"),
    "normal str": ("normal_", (3,), ("a", 1.0), "float"),
    "trunc from > to": ("trunc_normal_", (3,), (0.0, 1.0, 2.0, -2.0), "=2 > .*=-2"),
    "eye 1": ("eye_", (3,), (), "2 dimensions"),
    "eye 3": ("eye_", (3, 3, 3), (), "2 dimensions"),
    "dirac 2": ("dirac_", (3, 3), (), "3, 4, or 5"),
    "dirac 6": ("dirac_", (1,) * 6, (), "3, 4, or 5"),
    "dirac groups": ("dirac_", (3, 3, 3), (2,), "divisible by groups"),
    "xavier 0": ("xavier_uniform_", (), (), "fewer than 2 dimensions"),
    "xavier 1": ("xavier_normal_", (3,), (), "fewer than 2 dimensions"),
    "xavier gain": ("xavier_uniform_", (3, 3), (-1.0,), "from=1 > to=-1"),
    "xavier gain n": ("xavier_normal_", (3, 3), (-1.0,), "std >= 0.0, but found std -0.57735"),
    "kaiming 0": ("kaiming_uniform_", (), (), "fewer than 2 dimensions"),
    "kaiming 1": ("kaiming_normal_", (3,), (), "fewer than 2 dimensions"),
    "kaiming mode": ("kaiming_normal_", (3, 3), (0, "fan_avg"), "Mode fan_avg not supported"),
    "kaiming gain": ("kaiming_uniform_", (3, 3), (0, "fan_in", "gelu"), "Unsupported nonlinearity gelu"),
    "orthogonal 1": ("orthogonal_", (3,), (), "2 or more dimensions"),
    "sparse 1": ("sparse_", (3,), (0.5,), "2 dimensions"),
    "sparse 3": ("sparse_", (3, 3, 3), (0.5,), "2 dimensions"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_pytorch_refuses(case):
    name, shape, args, words = REFUSED[case]
    tensor = torch.zeros(shape)
    with pytest.raises(Exception, match=words) as their_error:
        getattr(theirs, name)(tensor, *args)
    with pytest.raises(their_error.type, match=words):
        getattr(init, name)(tensor, *args)
    assert not tensor.any()


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.float8_e4m3fn])
def test_dtypes_without_a_law_are_refused(name, dtype):
    tensor = torch.zeros(3, 3, dtype=dtype)
    with pytest.raises(NotImplementedError, match="dtype"):
        getattr(init, name)(tensor, **DRAWN[name])
    with pytest.raises(NotImplementedError):
        getattr(theirs, name)(tensor, **DRAWN[name])


@pytest.mark.parametrize("sparsity", [-0.1, 1.5])
def test_sparsity_is_a_fraction(sparsity):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        init.sparse_(torch.zeros(3, 3), sparsity)


def test_non_finite_parameters_are_refused():
    tensor = torch.zeros(3)
    for call in (
        lambda: init.normal_(tensor, math.nan),
        lambda: init.normal_(tensor, 0.0, math.inf),
        lambda: init.uniform_(tensor, 0.0, math.inf),
        lambda: init.normal_(torch.zeros(3, dtype=torch.float16), 0.0, 1e6),
    ):
        with pytest.raises(ValueError, match="expected a"):
            call()
    assert not tensor.any()


def test_errors_that_differ_from_pytorch():
    for call, theirs_is, ours_is in (
        (lambda m: m.normal_(torch.zeros(3), std=math.nan), RuntimeError, ValueError),
        (lambda m: m.trunc_normal_(torch.zeros(3), std=-1.0), None, RuntimeError),
        (lambda m: m.dirac_(torch.zeros(4, 4, 3), -1), None, ValueError),
        (lambda m: m.ones_([1.0]), AttributeError, TypeError),
    ):
        if theirs_is is None:
            call(theirs)
        else:
            with pytest.raises(theirs_is):
                call(theirs)
        with pytest.raises(ours_is):
            call(init)


def test_a_key_or_generator_of_another_kind():
    with pytest.raises(TypeError, match=r"fastinit\.Key"):
        init.normal_(torch.zeros(3), key=7)
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        init.normal_(torch.zeros(3), generator=7)
    with pytest.raises(TypeError, match=r"torch\.Tensor"):
        init.normal_(np.zeros(3))


@pytest.mark.parametrize("name", [n for n in theirs.__all__ if n.endswith("_")])
def test_a_meta_tensor_is_an_error(name):
    shape = (4, 4, 3) if name == "dirac_" else (4, 4)
    args = {"constant_": (1.0,), "sparse_": (0.5,)}.get(name, ())
    with pytest.raises(ValueError, match="meta"):
        getattr(init, name)(torch.empty(shape, device="meta"), *args)


@pytest.mark.parametrize("name", [n for n in theirs.__all__ if not n.endswith("_") and n != "calculate_gain"])
def test_names_without_underscore_are_deprecated(name):
    shape = (4, 4, 3) if name == "dirac" else (4, 4)
    args = {"constant": (1.0,), "sparse": (0.5,)}.get(name, ())
    tensor = torch.empty(shape)
    with pytest.warns(FutureWarning, match=rf"`nn\.init\.{name}` is now deprecated") as seen:
        assert getattr(init, name)(tensor, *args) is tensor
    assert seen[0].filename == __file__
    assert getattr(init, name).__name__ == name


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_kaiming_of_an_empty_tensor_warns(name):
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op") as seen:
        getattr(init, name)(torch.empty(0, 1))
    assert seen[0].filename == __file__


@pytest.mark.parametrize("name", [n for n in DRAWN if not n.startswith("kaiming")])
@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_an_empty_tensor_is_left_alone(name, shape):
    before = torch.get_rng_state()
    assert getattr(init, name)(torch.empty(shape), **DRAWN[name]).shape == shape
    assert torch.equal(before, torch.get_rng_state())


def test_truncation_far_from_the_mean_warns_and_is_correct():
    tensor = torch.empty(20_000, dtype=torch.float64)
    with pytest.warns(UserWarning, match="mean is more than 2 std from") as seen:
        init.trunc_normal_(tensor, 0.0, 1.0, 5.25, 8.0, key=KEY)
    assert seen[0].filename == __file__
    assert ks(tensor, "truncnorm", 5.25, 8.0) > 1e-6


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("std", "a", "b"),
    [
        (1.0, -1e-6, 1e-6), (1.0, 0.0, 1e-8), (0.5, 1e-4, 1.1e-4), (1.0, 1.0, 1.001), (1.0, 5.0, 5.01), (1.0, 30.0, 30.1),
        (1e8, -2.0, 2.0), (1e16, -2.0, 2.0), (3e38, -2.0, 1.0), (1e20, 1.0, 1.5),
    ],
)  # fmt: skip
def test_truncation_narrow_against_std(dtype, std, a, b):
    """The truncated normal of PyTorch, with absolute bounds. False alarms: one in 10^5 each."""
    tensor = torch.empty(30_000, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "mean is more than 2 std from")
        init.trunc_normal_(tensor, 0.0, std, a, b, key=KEY)
    name = str(dtype).removeprefix("torch.")
    sample = truncated_law.Sample(tensor.double().numpy(), name, a / std, b / std, std=std)
    assert sample.kolmogorov() > 1e-5
    assert sample.at_bounds().max() < 6
    low, high = torch.tensor([a, b], dtype=dtype)
    assert ((low <= tensor) & (tensor <= high)).all()
    if std >= 1e8 and dtype in (torch.float32, torch.float64):
        assert len(torch.unique(tensor)) > 29_800


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bounds_closer_than_float_numbers_of_standard_deviations(dtype):
    """Between these bounds float32 has only z = 0 for 1 + z, but the dtype has millions of numbers."""
    tensor = init.trunc_normal_(torch.empty(30_000, dtype=dtype), 1.0, 1.0, -1e-9, 2e-9, key=KEY)
    assert ks(tensor.double() * 1e9, "uniform", -1, 3) > 1e-5
    assert len(torch.unique(tensor)) > (29_800 if dtype is torch.float32 else 1000)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "mean is more than 2 std from")
        with pytest.raises(ValueError, match="a, b: expected bounds less than 36 std from the mean, got 40 of them"):
            init.trunc_normal_(tensor, 40.0, 1.0, 0.0, 1e-9, key=KEY)


# ---- the seed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWN)
def test_manual_seed_governs(name):
    def draw(**options):
        return getattr(init, name)(torch.empty(9, 7), **DRAWN[name], **options)

    torch.manual_seed(5)
    first, second = draw(), draw()
    torch.manual_seed(5)
    again = draw()
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    generator = torch.Generator().manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(draw(generator=generator), first)
    assert torch.equal(draw(generator=generator), second)
    assert torch.equal(state, torch.get_rng_state())  # a given generator leaves the default one alone


def test_a_draw_takes_64_bits_whatever_the_size():
    states = []
    for n in (1, 100_000):
        generator = torch.Generator().manual_seed(1)
        init.normal_(torch.empty(n), generator=generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_a_single_number_leaves_the_generator_unchanged():
    before = torch.get_rng_state()
    init.uniform_(torch.empty(3), 1.0, 1.0)
    init.xavier_uniform_(torch.empty(3, 3), 0.0)
    assert torch.equal(before, torch.get_rng_state())


def test_a_longer_tensor_begins_with_the_shorter_one():
    for name in ("uniform_", "normal_", "trunc_normal_"):
        short, long = torch.empty(15), torch.empty(1000)
        getattr(init, name)(short, generator=torch.Generator().manual_seed(3))
        getattr(init, name)(long, generator=torch.Generator().manual_seed(3))
        assert torch.equal(short, long[:15])


def test_key_names_the_values_of_fastinit():
    for dtype in (torch.float32, torch.float64, torch.float16):
        name = str(dtype).removeprefix("torch.")
        got = init.normal_(torch.empty(33, 5, dtype=dtype), 1.0, 2.0, key=KEY)
        assert np.array_equal(got.numpy(), fastinit.normal((33, 5), 1.0, 2.0, key=KEY, dtype=name))
        got = init.uniform_(torch.empty(33, 5, dtype=dtype), -1.0, 2.0, key=KEY)
        assert np.array_equal(got.numpy(), fastinit.uniform((33, 5), -1.0, 2.0, key=KEY, dtype=name))
    got = init.orthogonal_(torch.empty(8, 3, 2), gain=2.0, key=KEY)
    assert np.array_equal(got.numpy().reshape(8, 6), fastinit.Orthogonal(gain=2.0)((8, 6), key=KEY))


def test_a_first_draw_in_inference_mode_does_not_prevent_later_ones():
    out = []

    def draw():
        with torch.inference_mode():
            init.normal_(torch.empty(3))
        out.append(init.normal_(torch.empty(3)))

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert out[0].any()


def test_threads_draw_their_own_seeds():
    out = []
    threads = [
        threading.Thread(target=lambda: out.append(init.normal_(torch.empty(4)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tuple(t.tolist()) for t in out}) == 8


# ---- laws -------------------------------------------------------------------------------------

SHAPES = [(40, 50), (12, 9, 5, 4)]


def fans(shape):
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


@pytest.mark.parametrize("shape", [(2000,), *SHAPES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_laws(shape, dtype):
    tensor = torch.empty(shape, dtype=dtype)
    assert ks(init.uniform_(tensor, -2.0, 0.5, key=KEY), "uniform", -2.0, 2.5) > 1e-6
    assert ks(init.normal_(tensor, 3.0, 1.5, key=KEY), "norm", 3.0, 1.5) > 1e-6
    init.trunc_normal_(tensor, 0.1, 0.7, -0.2, 0.9, key=KEY)
    assert ks((tensor - 0.1) / 0.7, "truncnorm", -0.3 / 0.7, 0.8 / 0.7) > 1e-6
    assert tensor.min() >= torch.tensor(-0.2, dtype=dtype)
    assert tensor.max() <= torch.tensor(0.9, dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gain", [1.0, 1.7])
def test_xavier(shape, gain):
    std = gain * math.sqrt(2 / sum(fans(shape)))
    r = math.sqrt(3) * std
    tensor = torch.empty(shape)
    assert ks(init.xavier_uniform_(tensor, gain, key=KEY), "uniform", -r, 2 * r) > 1e-6
    assert ks(init.xavier_normal_(tensor, gain, key=KEY), "norm", 0, std) > 1e-6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("a", [0, 1.3])
def test_kaiming(shape, mode, a):
    std = math.sqrt(2 / ((1 + a * a) * fans(shape)[mode == "fan_out"]))
    r = math.sqrt(3) * std
    tensor = torch.empty(shape)
    assert ks(init.kaiming_uniform_(tensor, a=a, mode=mode, key=KEY), "uniform", -r, 2 * r) > 1e-6
    assert ks(init.kaiming_normal_(tensor, a=a, mode=mode, key=KEY), "norm", 0, std) > 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_truncation_stays_inside_and_does_not_accumulate_at_the_bounds(dtype):
    tensor = torch.empty(200_000, dtype=dtype)
    init.trunc_normal_(tensor, std=0.01, key=KEY)
    assert not (tensor.abs() == 2).any()
    assert abs(tensor.double().std() - 0.01) < 6 * 0.01 / math.sqrt(2 * tensor.numel()) + 1e-5
    init.trunc_normal_(tensor, key=KEY)
    assert tensor.abs().max() <= 2
    # The bounds of two sigma are numbers of the dtype: rounding gives them at most the probability of half a spacing,
    # 0.057 * 0.0078 for bfloat16.
    assert (tensor.abs() == 2).float().mean() < 1e-3
    assert tensor.unique().numel() > (1000 if dtype is torch.bfloat16 else 3000)


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_never_returns_its_upper_bound(dtype):
    tensor = init.uniform_(torch.empty(1_000_000, dtype=dtype), key=KEY)
    assert tensor.min() >= 0
    assert tensor.max() < 1


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("mean", "std", "a", "b"), [(0.1, 0.3, -0.07, 0.45), (1e-3, 7e-4, 0.0, 2e-3), (0.0, 0.02, -2.0, 2.0)])
def test_truncation_bounds_hold_in_the_dtype(dtype, mean, std, a, b):
    tensor = init.trunc_normal_(torch.empty(100_000, dtype=dtype), mean, std, a, b, key=KEY)
    low, high = torch.tensor([a, b], dtype=dtype)
    assert tensor.min() >= low
    assert tensor.max() <= high


@pytest.mark.parametrize("dtype", FLOATS)
def test_degenerate_laws_are_constants(dtype):
    tensor = torch.empty(4, dtype=dtype)
    assert (init.uniform_(tensor, 1.5, 1.5) == 1.5).all()
    assert (init.normal_(tensor, 1.5, 0.0) == 1.5).all()
    assert (init.trunc_normal_(tensor, 0.0, 1.0, 0.5, 0.5) == 0.5).all()
    assert (init.trunc_normal_(tensor, 0.25, 0.0) == 0.25).all()
    assert (init.xavier_uniform_(torch.empty(2, 2, dtype=dtype), 0.0) == 0).all()
    assert (init.uniform_(tensor, 1.0, 1.0 + 1e-20) == 1.0).all()
    narrow = init.uniform_(torch.empty(4, dtype=torch.float16), 1.0, 1.0001)
    assert (narrow == 1).all()


def test_complex_laws():
    z = init.normal_(torch.empty(200_000, dtype=torch.complex64), 2.0, 3.0, key=KEY)
    for part, mean in ((z.real, 2.0), (z.imag, 0.0)):
        assert ks(part, "norm", mean, 3 / math.sqrt(2)) > 1e-6
    assert abs(np.corrcoef(z.real, z.imag)[0, 1]) < 5 / math.sqrt(200_000)
    z = init.uniform_(torch.empty(10_000, dtype=torch.complex128), -1.0, 2.0, key=KEY)
    assert ks(z.real, "uniform", -1, 3) > 1e-6
    assert ks(z.imag, "uniform", -1, 3) > 1e-6
    z = init.kaiming_normal_(torch.empty(300, 400, dtype=torch.complex64), key=KEY)
    # |z|^2 is exponential: the mean of 120,000 values within 6 standard errors.
    assert abs((z.abs() ** 2).mean() / (2 / 400) - 1) < 6 / math.sqrt(z.numel())
    with pytest.raises(NotImplementedError, match="real"):
        init.trunc_normal_(z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.complex128])
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (20, 2, 3, 4), (2, 3, 4, 5), (5, 5), (1, 7)])
def test_orthogonal(shape, dtype):
    tensor = init.orthogonal_(torch.empty(shape, dtype=dtype), gain=1.5, key=KEY)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    matrix = tensor.to(wide).reshape(shape[0], -1) / 1.5
    gram = matrix @ matrix.mH if matrix.shape[0] <= matrix.shape[1] else matrix.mH @ matrix
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 0.02}[dtype.to_real()]
    assert torch.allclose(gram, torch.eye(len(gram), dtype=wide), rtol=0, atol=tolerance)


def test_complex_orthogonal_is_that_of_the_library():
    u = init.orthogonal_(torch.empty(6, 2, 2, dtype=torch.complex64), key=KEY)
    assert np.array_equal(u.reshape(6, 4).numpy(), fastinit.Orthogonal()((6, 4), "complex64", key=KEY))
    with pytest.raises(NotImplementedError, match=r"complex128, complex64, .* got torch\.int32"):
        init.orthogonal_(torch.empty(3, 3, dtype=torch.int32))


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_sparse_has_the_exact_count_in_every_column(sparsity, dtype):
    tensor = init.sparse_(torch.empty(53, 60, dtype=dtype), sparsity, std=0.1, key=KEY)
    assert ((tensor == 0).sum(dim=0) == math.ceil(sparsity * 53)).all()
    if sparsity < 1 and dtype is torch.float32:
        assert ks(tensor[tensor != 0], "norm", 0, 0.1) > 1e-6


def test_sparse_chooses_rows_uniformly_and_by_the_generator():
    zero = torch.zeros(10)
    for i in range(400):
        zero += (init.sparse_(torch.empty(10, 10), 0.3, key=KEY / i) == 0).sum(dim=1)
    # 4000 columns: 1200 zeros are expected in each row, with a standard deviation below 29; false alarms beyond 5: 6e-6.
    assert (zero - 1200).abs().max() < 145
    one = init.sparse_(torch.empty(20, 20), 0.5, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(99)
    two = init.sparse_(torch.empty(20, 20), 0.5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(one, two)


# ---- fixed values -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3, 4), (0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.complex64])
def test_constants(shape, dtype):
    tensor = torch.empty(shape, dtype=dtype)
    assert (init.constant_(tensor, 3) == 3).all()
    assert (init.ones_(tensor) == 1).all()
    assert (init.zeros_(tensor) == 0).all()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize(
    ("name", "args", "layout"),
    [("zeros_", (), torch.sparse_coo), ("zeros_", (), torch.sparse_csr), ("ones_", (), torch.sparse_csr),
     ("constant_", (3.0,), torch.sparse_csc)],
)  # fmt: skip
def test_sparse_layouts_are_filled_as_by_pytorch(name, args, layout):
    tensor = torch.eye(3).to_sparse(layout=layout)
    assert getattr(init, name)(tensor, *args) is tensor
    expected = getattr(theirs, name)(torch.eye(3).to_sparse(layout=layout), *args)
    assert torch.equal(tensor.to_dense(), expected.to_dense())


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (0, 4)])
def test_eye(shape):
    assert torch.equal(init.eye_(torch.full(shape, 9.0)), torch.eye(*shape))
    assert torch.equal(init.eye_(torch.full(shape, 9.0).t()), torch.eye(*shape[::-1]))


def test_dirac_refuses_a_negative_number_of_groups_before_it_writes():
    tensor = torch.full((6, 2, 3), 9.0)
    with pytest.raises(ValueError, match="groups: expected an int > 0, got -1"):
        init.dirac_(tensor, -1)
    assert (tensor == 9).all()


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("tail", [(3,), (4, 3), (2, 5, 1)])
@pytest.mark.parametrize("channels", [(6, 2), (6, 4), (12, 1), (6, 0)])
def test_dirac_is_that_of_pytorch(groups, tail, channels):
    shape = (*channels, *tail)
    expected = theirs.dirac_(torch.randn(shape, generator=torch.Generator().manual_seed(0)), groups)
    assert torch.equal(init.dirac_(torch.full(shape, 9.0), groups), expected)


# ---- the caller's floating-point mode -----------------------------------------------------------

# Made at import, because under flush-to-zero subnormal numbers cannot be made.
TINY = 1e-40
TINY_F4 = np.float32(TINY)


def drawn_and_fixed():
    """Bytes of all results, for shapes whose deviations depend on the rounding mode, and with subnormal numbers."""
    found = []

    def write(name, shape, dtype, **options):
        tensor = torch.zeros(shape, dtype=dtype)
        getattr(init, name)(tensor, **options)
        found.append(tensor.view(torch.uint8).numpy().tobytes())

    for dtype in FLOATS:
        for n in range(3, 40):
            for name in ("xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"):
                write(name, (3, n), dtype, key=KEY)
        for name, options in DRAWN.items():
            write(name, (9, 7), dtype, key=KEY, **options)
        write("normal_", (9,), dtype, std=TINY_F4, key=KEY)
        write("trunc_normal_", (9,), dtype, std=TINY, a=-TINY, b=TINY, key=KEY)
        write("trunc_normal_", (9,), dtype, std=0.3, a=-0.7, b=0.9, key=KEY)
        write("orthogonal_", (5, 5), dtype, gain=1e-39, key=KEY)
        write("constant_", (3,), dtype, val=TINY)
        write("dirac_", (3, 3, 3), dtype)
    for name in ("normal_", "uniform_", "xavier_normal_", "kaiming_uniform_", "orthogonal_"):
        write(name, (9, 7), torch.complex64, key=KEY)
    for made in (fastinit.Constant(TINY), fastinit.Identity(TINY), fastinit.Times("orthogonal", 1e-39)):
        found.append(made(torch.zeros(4, 4), key=KEY).numpy().tobytes())
    if hasattr(torch.library, "register_vmap"):
        with torch.library._scoped_library("fastinit", "FRAGMENT"):
            tensor = torch.zeros(9, 7, dtype=torch.float64)
            torch.ops.fastinit.init_(tensor, "kaiming_normal_", [0.3], ["fan_in", "leaky_relu"], "1 2", None)
            found.append(tensor.numpy().tobytes())
    return found


def test_the_same_bits_in_every_mode(mode):
    expected = drawn_and_fixed()
    with mode():
        found = drawn_and_fixed()
    assert found == expected
    assert sum(any(0 < value < 2.0**-126 for value in np.frombuffer(one, "f4")) for one in expected if len(one) == 64) == 3
