"""The PyTorch dialect against torch.nn.init: what PyTorch's users and its own tests rely on, and where ours is better.

Statistical tests: Kolmogorov-Smirnov at p > 1e-6, so a false alarm of one in a million each; seeds are fixed, so none varies.
"""

from __future__ import annotations

import copy
import inspect
import math
import subprocess
import sys
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")
stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed: the laws are not tested")

from torch.nn import init as theirs  # noqa: E402

import fastinit  # noqa: E402
from fastinit import torch as init  # noqa: E402

KEY = fastinit.Key(2026) / "torch"
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
DRAWN = {
    "uniform_": {}, "normal_": {}, "trunc_normal_": {}, "xavier_uniform_": {}, "xavier_normal_": {},
    "kaiming_uniform_": {}, "kaiming_normal_": {}, "orthogonal_": {}, "sparse_": {"sparsity": 0.3},
}  # fmt: skip


def ks(values, law, *args) -> float:
    return stats.kstest(np.asarray(values, dtype=np.float64).ravel(), law, args=args).pvalue


# ---- the same interface -----------------------------------------------------------------------


def test_every_public_name_is_here():
    assert set(theirs.__all__) <= set(init.__all__)


@pytest.mark.parametrize("name", [n for n in theirs.__all__ if n.endswith("_")])
def test_signature_is_theirs_with_key_on_top(name):
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
def test_calculate_gain_has_their_values(nonlinearity, param):
    assert init.calculate_gain(nonlinearity, param) == theirs.calculate_gain(nonlinearity, param)


@pytest.mark.parametrize("param", [True, [1], {"a": "b"}, "1"])
def test_the_slope_must_be_a_number(param):
    with pytest.raises(ValueError, match="not a valid number"):
        init.calculate_gain("leaky_relu", param)


@pytest.mark.parametrize("name", ["", "gelu", "xyzxy"])
def test_unknown_nonlinearity(name):
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain(name)


@pytest.mark.parametrize("shape", [(3, 4), (8, 2, 3), (6, 5, 3, 3), (2, 3, 1, 2, 5)])
def test_the_private_fan_functions_that_everybody_calls(shape):
    tensor = torch.empty(shape)
    assert init._calculate_fan_in_and_fan_out(tensor) == theirs._calculate_fan_in_and_fan_out(tensor)
    for mode in ("fan_in", "FAN_OUT"):
        assert init._calculate_correct_fan(tensor, mode) == theirs._calculate_correct_fan(tensor, mode)


# A call that PyTorch refuses is refused here, by the same kind of error with the same words to match.
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
def test_refuses_what_they_refuse(case):
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


def test_truncation_far_from_the_mean_warns_and_is_right():
    tensor = torch.empty(20_000, dtype=torch.float64)
    with pytest.warns(UserWarning, match="mean is more than 2 std from") as seen:
        init.trunc_normal_(tensor, 0.0, 1.0, 5.25, 8.0, key=KEY)
    assert seen[0].filename == __file__
    assert ks(tensor, "truncnorm", 5.25, 8.0) > 1e-6


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


# ---- memory -----------------------------------------------------------------------------------


def layouts(dtype):
    yield "transposed", torch.zeros(7, 6, dtype=dtype).t()
    yield "every second", torch.zeros(12, 14, dtype=dtype)[::2, ::2]
    yield "offset", torch.zeros(6, 9, dtype=dtype)[:, 2:]
    yield "column", torch.zeros(6, 7, 3, dtype=dtype)[..., 1]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype)
     for name in ("uniform_", "normal_", "xavier_normal_", "orthogonal_", "sparse_")
     for dtype in (*FLOATS, torch.complex64)
     if (name, dtype) != ("orthogonal_", torch.complex64)],
)  # fmt: skip
def test_values_follow_the_logical_index(name, dtype):
    call, options = getattr(init, name), DRAWN[name]
    expected = call(torch.empty(6, 7, dtype=dtype), **options, key=KEY)
    for _, view in layouts(dtype):
        assert torch.equal(call(view, **options, key=KEY), expected)
    kernel = torch.empty(4, 3, 5, 2, dtype=dtype)
    last = kernel.to(memory_format=torch.channels_last)
    if name != "sparse_":
        assert torch.equal(call(last, key=KEY), call(kernel, key=KEY))
        assert last.is_contiguous(memory_format=torch.channels_last)


def test_a_view_writes_nothing_beside_itself():
    whole = torch.full((10, 10), 7.0)
    init.normal_(whole[2:5, ::3], key=KEY)
    init.normal_(whole[7], key=KEY)
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[2:5, ::3] = True
    mask[7] = True
    assert (whole[~mask] == 7).all()
    assert (whole[mask] != 7).all()


def test_overlapping_memory_is_refused():
    with pytest.raises(RuntimeError, match="single memory location"):
        init.normal_(torch.zeros(1).expand(3))


def test_no_memory_is_copied(monkeypatch):
    tensor = torch.empty(1 << 16)
    monkeypatch.setattr(torch.Tensor, "copy_", None)
    address = tensor.data_ptr()
    init.normal_(tensor, key=KEY)
    assert tensor.data_ptr() == address
    assert np.array_equal(tensor.numpy(), fastinit.normal(1 << 16, key=KEY))


def test_zero_dimensional():
    for name in ("uniform_", "normal_", "trunc_normal_"):
        assert getattr(init, name)(torch.empty(()), key=KEY).shape == ()


def test_autograd_sees_the_write_and_records_nothing():
    weight = torch.nn.Parameter(torch.ones(3, 3))
    for name, options in DRAWN.items():
        before = weight._version
        assert getattr(init, name)(weight, **options) is weight
        assert weight._version > before
        assert weight.is_leaf
        assert weight.requires_grad
        assert weight.grad_fn is None
    x = torch.ones(3, requires_grad=True)
    y = (x * weight).sum()
    init.normal_(weight)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_inference_tensors():
    with torch.inference_mode():
        tensor = torch.zeros(3)
        init.normal_(tensor)
    with pytest.raises(RuntimeError, match="inference"):
        init.normal_(tensor)


def test_conjugate_and_negative_views():
    base = torch.zeros(5, dtype=torch.complex64)
    expected = init.normal_(torch.empty(5, dtype=torch.complex64), key=KEY)
    assert torch.equal(init.normal_(base.conj(), key=KEY), expected)
    negative = torch.zeros(5, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    assert torch.equal(init.normal_(negative, key=KEY), init.normal_(torch.empty(5), key=KEY))


def test_sparse_layout_is_refused():
    with pytest.raises(NotImplementedError, match="strided"):
        init.normal_(torch.zeros(3, 3).to_sparse())


def test_a_tensor_subclass_has_its_say():
    seen = []

    class Tracked(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            seen.append(function)
            return super().__torch_function__(function, types, args, kwargs)

    tensor = torch.zeros(5).as_subclass(Tracked)
    out = init.normal_(tensor, key=KEY)
    assert seen[0] is init.normal_
    assert np.array_equal(out.as_subclass(torch.Tensor).numpy(), fastinit.normal(5, key=KEY))


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
def test_16_bit_truncation_neither_leaves_nor_sticks_to_the_bounds(dtype):
    tensor = torch.empty(200_000, dtype=dtype)
    init.trunc_normal_(tensor, std=0.01, key=KEY)
    assert not (tensor.abs() == 2).any()
    assert abs(tensor.double().std() - 0.01) < 6 * 0.01 / math.sqrt(2 * tensor.numel()) + 1e-5
    init.trunc_normal_(tensor, key=KEY)
    assert tensor.abs().max() <= 2
    # A law without atoms, but two-sigma bounds at a number of the dtype: rounding puts less than half a spacing's
    # mass there, 0.057 * 0.0078 of bfloat16.
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
    # Exponential: the mean square of 120,000 values within 6 standard errors.
    assert abs((z.abs() ** 2).mean() / (2 / 400) - 1) < 6 / math.sqrt(z.numel())
    with pytest.raises(NotImplementedError, match="real"):
        init.trunc_normal_(z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (20, 2, 3, 4), (2, 3, 4, 5), (5, 5), (1, 7)])
def test_orthogonal(shape, dtype):
    tensor = init.orthogonal_(torch.empty(shape, dtype=dtype), gain=1.5, key=KEY).double()
    matrix = tensor.reshape(shape[0], -1) / 1.5
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 0.02}[dtype]
    assert torch.allclose(gram, torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=tolerance)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_sparse_has_the_exact_count_in_every_column(sparsity, dtype):
    tensor = init.sparse_(torch.empty(53, 60, dtype=dtype), sparsity, std=0.1, key=KEY)
    assert ((tensor == 0).sum(dim=0) == math.ceil(sparsity * 53)).all()
    if sparsity < 1 and dtype is torch.float32:
        assert ks(tensor[tensor != 0], "norm", 0, 0.1) > 1e-6


def test_sparse_chooses_evenly_and_by_the_generator():
    zero = torch.zeros(10)
    for i in range(400):
        zero += (init.sparse_(torch.empty(10, 10), 0.3, key=KEY / i) == 0).sum(dim=1)
    # 4000 columns, 1200 zeros expected of each row with a standard deviation below 29; beyond 5 of them: 6e-6.
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


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (0, 4)])
def test_eye(shape):
    assert torch.equal(init.eye_(torch.full(shape, 9.0)), torch.eye(*shape))
    assert torch.equal(init.eye_(torch.full(shape, 9.0).t()), torch.eye(*shape[::-1]))


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("tail", [(3,), (4, 3), (2, 5, 1)])
@pytest.mark.parametrize("channels", [(6, 2), (6, 4), (12, 1), (6, 0)])
def test_dirac_is_theirs(groups, tail, channels):
    shape = (*channels, *tail)
    expected = theirs.dirac_(torch.randn(shape, generator=torch.Generator().manual_seed(0)), groups)
    assert torch.equal(init.dirac_(torch.full(shape, 9.0), groups), expected)


# ---- in the place of PyTorch's own ------------------------------------------------------------


@pytest.fixture
def clean():
    yield
    init.unpatch()
    assert theirs.uniform_ is torch.nn.modules.rnn.init.uniform_


def network():
    return torch.nn.ModuleList([
        torch.nn.Linear(5, 7), torch.nn.Conv2d(4, 6, 3), torch.nn.Embedding(9, 4), torch.nn.LSTM(3, 4),
        torch.nn.MultiheadAttention(8, 2), torch.nn.Bilinear(2, 3, 4), torch.nn.BatchNorm1d(3),
        torch.nn.TransformerEncoderLayer(8, 2, 16),
    ])  # fmt: skip


def test_patch_reaches_every_module(clean, monkeypatch):
    calls = []
    fill = sys.modules["fastinit.torch._init"].fill
    monkeypatch.setattr(
        sys.modules["fastinit.torch._init"], "fill", lambda *a: calls.append(a[5]) or fill(*a)
    )
    with init.patched():
        torch.manual_seed(0)
        state = network().state_dict()
    assert set(calls) == {"kaiming_uniform_", "uniform_", "normal_", "xavier_uniform_"}
    # MultiheadAttention imported xavier_uniform_ by name: twice here, in_proj of two modules.
    assert calls.count("xavier_uniform_") == 2
    calls.clear()
    with init.patched():
        torch.manual_seed(0)
        again = network().state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
    calls.clear()
    network()
    assert not calls


def test_patched_layers_have_pytorchs_laws(clean):
    with init.patched():
        layer = torch.nn.Linear(400, 300)
        embedding = torch.nn.Embedding(500, 40)
    assert ks(layer.weight.detach(), "uniform", -1 / 20, 1 / 10) > 1e-6
    assert ks(layer.bias.detach(), "uniform", -1 / 20, 1 / 10) > 1e-6
    assert ks(embedding.weight.detach(), "norm") > 1e-6


def test_patch_and_unpatch_leave_no_trace(clean):
    by_name = torch.nn.modules.activation
    before = theirs.__dict__.copy(), by_name.xavier_uniform_
    init.patch()
    init.patch()
    assert theirs.kaiming_uniform_ is not before[0]["kaiming_uniform_"]
    assert by_name.xavier_uniform_ is theirs.xavier_uniform_
    assert theirs.kaiming_uniform_.__name__ == "kaiming_uniform_"
    assert inspect.signature(theirs.kaiming_uniform_) == inspect.signature(before[0]["kaiming_uniform_"])
    with init.patched():
        pass
    assert theirs.kaiming_uniform_ is not before[0]["kaiming_uniform_"]  # patched before, patched after
    init.unpatch()
    init.unpatch()
    assert theirs.__dict__ == before[0]
    assert by_name.xavier_uniform_ is before[1]
    with pytest.raises(KeyError), init.patched():
        raise KeyError
    assert theirs.__dict__ == before[0]


def test_unpatch_leaves_what_users_imported(clean):
    module = type(sys)("a_users_module")
    module.mine = init.normal_
    sys.modules["a_users_module"] = module
    try:
        with init.patched():
            module.late = theirs.normal_
        assert module.mine is init.normal_
        assert module.late is theirs.normal_
    finally:
        del sys.modules["a_users_module"]


def test_patched_modules_can_still_be_built_on_meta(clean):
    with init.patched():
        with torch.device("meta"):
            model = network()
        assert all(p.is_meta for p in model.parameters())
        layer = torch.nn.Linear(3, 4, device="meta").to_empty(device="cpu")
        torch.manual_seed(1)
        layer.reset_parameters()
        torch.manual_seed(1)
        assert torch.equal(layer.weight, torch.nn.Linear(3, 4).weight)


def test_a_patched_model_trains_and_copies(clean):
    torch.manual_seed(0)
    with init.patched():
        model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    twin = copy.deepcopy(model)
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = torch.tensor([[0.0], [1], [1], [0]])
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
    assert not torch.equal(twin[0].weight, model[0].weight)


# ---- shards -----------------------------------------------------------------------------------

SHARDS = """
import torch, fastinit
from fastinit import torch as init
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, empty
import sys
key = fastinit.Key(3)
rank = int(sys.argv[1])
dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=4)
calls = {"normal_": {}, "uniform_": {}, "trunc_normal_": {}, "kaiming_uniform_": {}, "orthogonal_": {}}
for mesh_shape, cases in (
    ((4,), [[Shard(0)], [Shard(1)], [Replicate()]]),
    ((2, 2), [[Shard(0), Shard(1)], [Shard(0), Shard(0)], [Replicate(), Shard(1)]]),
):
    mesh = init_device_mesh("cpu", mesh_shape)
    for placements in cases:
        for shape in ((10, 7), (8, 12), (2, 9)):
            for name in calls:
                part = empty(shape, device_mesh=mesh, placements=placements)
                whole = getattr(init, name)(torch.empty(shape), key=key)
                assert getattr(init, name)(part, key=key) is part
                expected = whole
                position = mesh.get_coordinate()
                for axis, placement in enumerate(placements):
                    if placement.is_shard():
                        pieces = torch.chunk(expected, mesh.size(axis), placement.dim)
                        at = position[axis]
                        expected = pieces[at] if at < len(pieces) else expected.narrow(placement.dim, 0, 0)
                assert torch.equal(part.to_local(), expected), (rank, mesh_shape, placements, shape, name)
print("equal")
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed")
@pytest.mark.parametrize("rank", [0, 3])
def test_a_shard_of_a_dtensor_is_the_piece_of_the_whole(rank):
    run = subprocess.run(
        [sys.executable, "-c", SHARDS, str(rank)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout.strip() == "equal", run.stderr[-2000:]


def test_import_of_fastinit_imports_no_framework():
    code = "import sys, fastinit; assert not {'torch', 'keras', 'jax', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
