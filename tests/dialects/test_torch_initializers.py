"""Initializers called with PyTorch tensors: in place, as `out`, and with the axes (out, in) of PyTorch.

Statistical tests: six standard errors of a sample's standard deviation, a false alarm of two in a billion each; keys are fixed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")

import fastinit  # noqa: E402
from fastinit import FanRule, Key  # noqa: E402
from fastinit import torch as init  # noqa: E402

KEY = Key(2026) / "torch initializers"
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def close(tensor, std):
    """Check the standard deviation of independent elements."""
    return abs(tensor.detach().double().std().item() / std - 1) < 6 / math.sqrt(2 * tensor.numel())


# ---- axes and fans ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("initializer", "fan"),
    [(fastinit.HeNormal(), 2.0), (fastinit.LeCunUniform(), 1.0), (fastinit.VarianceScaling(3.0, distribution="normal"), 3.0),
     (fastinit.MuP(), 1.0), (fastinit.TorchLinear(), 1 / 3), (fastinit.Times("lecun_normal", 2.0), 4.0)],
)  # fmt: skip
def test_fans_are_those_of_the_layer(initializer, fan):
    linear, convolution = torch.nn.Linear(1000, 10), torch.nn.Conv2d(64, 8, 3)
    assert close(initializer(linear.weight, key=KEY), math.sqrt(fan / 1000))
    assert close(initializer(convolution.weight, key=KEY), math.sqrt(fan / (64 * 9)))
    weight = linear.weight
    assert close(initializer(weight.shape, key=KEY, out=weight), math.sqrt(fan / 1000))


def test_explicit_fans_are_kept():
    weight = torch.empty(10, 1000)
    assert close(fastinit.HeNormal(fans=FanRule(layout="io"))(weight, key=KEY), math.sqrt(2 / 10))
    assert close(fastinit.HeNormal(fans=(50, 7))(weight, key=KEY), math.sqrt(2 / 50))
    transposed = FanRule(layout="oi", kind="transposed")
    assert close(fastinit.HeNormal(fans=transposed)(torch.empty(8, 40, 3, 3), key=KEY), math.sqrt(2 / (8 * 9)))
    # The biases of a layer have no fans of their own.
    with pytest.raises(ValueError, match="at least two axes"):
        fastinit.HeNormal()(torch.empty(10))


SAME = {  # the function of fastinit.torch with the same distribution
    "he_normal": (fastinit.HeNormal(), lambda t, **k: init.kaiming_normal_(t, nonlinearity="relu", **k), (12, 30)),
    "he_uniform": (fastinit.HeUniform(negative_slope=0.5, mode="fan_out"),
                   lambda t, **k: init.kaiming_uniform_(t, 0.5, "fan_out", **k), (12, 30, 3)),
    "glorot_normal": (fastinit.GlorotNormal(gain=2.0), lambda t, **k: init.xavier_normal_(t, 2.0, **k), (12, 30)),
    "glorot_uniform": (fastinit.GlorotUniform(), init.xavier_uniform_, (12, 30, 3, 3)),
    "torch_linear": (fastinit.TorchLinear(), lambda t, **k: init.kaiming_uniform_(t, math.sqrt(5), **k), (12, 30)),
    "normal": (fastinit.RandomNormal(1.0, 2.0), lambda t, **k: init.normal_(t, 1.0, 2.0, **k), (12, 30)),
    "uniform": (fastinit.RandomUniform(-1.0, 2.0), lambda t, **k: init.uniform_(t, -1.0, 2.0, **k), (7,)),
    "truncated": (fastinit.TruncatedNormal(std=1.0), init.trunc_normal_, (12, 30)),
    "orthogonal": (fastinit.Orthogonal(gain=2.0), lambda t, **k: init.orthogonal_(t, 2.0, **k), (12, 5, 2)),
    "orthogonal wide": (fastinit.Orthogonal(), init.orthogonal_, (4, 5, 3)),
    "sparse": (fastinit.Sparse(sparsity=0.4), lambda t, **k: init.sparse_(t, 0.4, **k), (12, 30)),
    "identity": (fastinit.Identity(), lambda t, key: init.eye_(t), (5, 8)),
    "dirac": (fastinit.Dirac(groups=2), lambda t, key: init.dirac_(t, 2), (6, 3, 3, 4)),
    "zeros": (fastinit.Zeros(), lambda t, key: init.zeros_(t), (3, 4)),
    "constant": (fastinit.Constant(0.5), lambda t, key: init.constant_(t, 0.5), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_values_are_those_of_fastinit_torch(case, dtype):
    initializer, function, shape = SAME[case]
    expected = function(torch.empty(shape, dtype=dtype), key=KEY)
    found = initializer(torch.full(shape, 9.0, dtype=dtype), key=KEY)
    # The same random numbers; PyTorch's formula for a bound may round differently by a unit in the last place or two.
    spacing = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=spacing, atol=0)
    if not case.startswith(("he", "glorot", "torch")):
        assert torch.equal(found, expected)


def test_matrices_and_kernels_are_transposed():
    for initializer, shape in (
        (fastinit.Hadamard(), (8, 3)), (fastinit.Bilinear(), (4, 4, 3, 5)), (fastinit.DeltaOrthogonal(), (9, 4, 3)),
        (fastinit.STFT(), (5, 1, 8)), (fastinit.STFT("imag"), (5, 1, 9)),
    ):  # fmt: skip
        tensor = initializer(torch.empty(shape, dtype=torch.float64), key=KEY)
        array = initializer((*shape[2:], shape[1], shape[0]), "float64", key=KEY)
        assert np.array_equal(np.moveaxis(tensor.numpy(), (0, 1), (-1, -2)), array)
    spectral = fastinit.Orthogonal(spectral=True)(torch.empty(90, 10), key=KEY)
    np.testing.assert_allclose(torch.linalg.matrix_norm(spectral, 2), 3, rtol=1e-5)


def test_gates_are_along_the_outputs():
    gates = fastinit.PerGate(["lecun_normal", "zeros", fastinit.Constant(3.0), "orthogonal"])
    weight = gates(torch.empty(4 * 50, 30), key=KEY)
    assert close(weight[:50], 30**-0.5)
    assert torch.equal(weight[:50], fastinit.LeCunNormal()(torch.empty(50, 30), key=KEY / 0))
    assert not weight[50:100].any()
    assert (weight[100:150] == 3).all()
    torch.testing.assert_close(weight[150:].T @ weight[150:], torch.eye(30), atol=1e-5, rtol=0)
    assert (fastinit.PerGate(["zeros", "ones"], axis=1)(torch.empty(3, 4)) == torch.tensor([0.0, 0, 1, 1])).all()
    assert fastinit.PerGate(["zeros", "ones"])((2, 4)).tolist() == [[0, 0, 1, 1]] * 2
    kernel = fastinit.Icnr("he_normal", 2)(torch.empty(16, 40, 3, 3), key=KEY)
    assert torch.equal(kernel[0], kernel[3])
    assert not torch.equal(kernel[0], kernel[4])
    assert close(kernel[::4], math.sqrt(2 / 360))


# ---- memory -----------------------------------------------------------------------------------


def test_a_parameter_is_filled_in_place_and_autograd_sees_it():
    for initializer in (fastinit.HeNormal(), fastinit.Orthogonal(), fastinit.Times("he_normal", 0.5), fastinit.Zeros()):
        weight = torch.nn.Parameter(torch.ones(3, 3))
        product = (torch.ones(3, requires_grad=True) * weight).sum()
        version, address = weight._version, weight.data_ptr()
        assert initializer(weight) is weight
        assert weight._version > version
        assert weight.data_ptr() == address
        assert weight.is_leaf
        assert weight.requires_grad
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.backward()


@pytest.mark.parametrize("initializer", [fastinit.HeNormal(), fastinit.Orthogonal(), fastinit.PerGate(["ones", "he_normal"])])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.complex64, torch.complex128])
def test_every_layout_and_dtype(initializer, dtype):
    expected = initializer(torch.empty(6, 8, dtype=dtype), key=KEY)
    name = str(dtype).removeprefix("torch.")
    wide = np.uint16 if dtype is torch.bfloat16 else name
    array = np.zeros((6, 8), wide)
    initializer._outputs_first()((6, 8), name, key=KEY, out=array)
    assert torch.equal(expected, torch.from_numpy(array).view(dtype))
    for view in (torch.zeros(8, 6, dtype=dtype).t(), torch.zeros(12, 16, dtype=dtype)[::2, ::2]):
        assert torch.equal(initializer(view, key=KEY), expected)
        assert torch.equal(initializer((6, 8), dtype, key=KEY, out=view), expected)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_float8(name):
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: it rounds to float8")
    weight = fastinit.HeNormal()(torch.empty(6, 8, dtype=getattr(torch, name)), key=KEY)
    array = fastinit.HeNormal(fans=FanRule(layout="oi"))((6, 8), name, key=KEY)
    assert np.array_equal(weight.view(torch.uint8).numpy(), array.view(np.uint8))


def test_seeds():
    torch.manual_seed(5)
    first, second = (fastinit.HeNormal()(torch.empty(4, 5)) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(first, fastinit.HeNormal()(torch.empty(4, 5)))
    state = torch.get_rng_state()
    seeded = fastinit.HeNormal(seed=3)
    assert torch.equal(seeded(torch.empty(4, 5)), seeded(torch.empty(4, 5)))
    assert torch.equal(seeded(torch.empty(4, 5)), fastinit.HeNormal()(torch.empty(4, 5), key=Key(3)))
    fastinit.Zeros()(torch.empty(4, 5))
    fastinit.HeNormal()(torch.empty(0, 5))
    assert torch.equal(state, torch.get_rng_state())


REFUSED = {
    "meta": (lambda: torch.empty(3, 3, device="meta"), {}, ValueError, "HeNormal: expected a tensor with memory"),
    "sparse": (lambda: torch.eye(3).to_sparse(), {}, NotImplementedError, "HeNormal: expected a strided tensor"),
    "int": (lambda: torch.zeros(3, 3, dtype=torch.int32), {}, NotImplementedError, "expected dtype .* got torch.int32"),
    "a size as a tensor": (lambda: torch.tensor(3), {}, NotImplementedError, "expected dtype .* got torch.int64"),
    "another dtype": (lambda: torch.zeros(3, 3), {"dtype": "float64"}, ValueError, "expected float32.* got float64"),
    "torch dtype": (lambda: torch.zeros(3, 3), {"dtype": torch.float16}, ValueError, "expected float32.* got float16"),
    "no dtype": (lambda: torch.zeros(3, 3), {"dtype": 3}, TypeError, "dtype: expected one of"),
    "both": (lambda: torch.zeros(3, 3), {"out": np.zeros((3, 3))}, TypeError, "out: expected None beside a tensor"),
    "key": (lambda: torch.zeros(3, 3), {"key": 3}, TypeError, r"fastinit\.Key"),
    "overlap": (lambda: torch.zeros(1).expand(3, 3), {}, RuntimeError, "single memory location"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_written(case):
    make, options, kind, words = REFUSED[case]
    tensor = make()
    with pytest.raises(kind, match=words):
        fastinit.HeNormal()(tensor, **options)
    if tensor.layout is torch.strided and not tensor.is_meta:
        assert torch.equal(tensor, make())


def test_out_of_another_shape_or_dtype_is_refused():
    weight = torch.zeros(10, 20)
    for initializer in (fastinit.HeNormal(), fastinit.Orthogonal(), fastinit.Times("he_normal", 2.0)):
        with pytest.raises(ValueError, match=r"out: expected shape \(20, 10\), got \(10, 20\)"):
            initializer((20, 10), out=weight)
        with pytest.raises(ValueError, match="dtype: expected float32, that of the tensor, got float64"):
            initializer((10, 20), "float64", out=weight)
    assert not weight.any()


# ---- tensors as arrays ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_a_stack_takes_tensors_as_arrays(dtype):
    """Tensors are accepted wherever arrays are, with and without requires_grad."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(6, 20).to(dtype)), torch.nn.Parameter(torch.randn(20, 3).to(dtype))]
    biases = [torch.randn(20).to(dtype), torch.randn(3).to(dtype)]
    x, dy = torch.randn(9, 6, requires_grad=True).to(dtype), torch.randn(9, 3).to(dtype)
    labels = torch.arange(9) % 3

    def plain(tensor):
        return tensor.detach().double().numpy()

    stacks = [
        fastinit.Stack((6, 20, 3), "tanh", weights=w, biases=b, dtype="float64", key=fastinit.Key(0))
        for w, b in ((weights, biases), ([plain(w) for w in weights], [plain(b) for b in biases]))
    ]
    assert stacks[0].forward(x).tobytes() == stacks[1].forward(plain(x)).tobytes()
    found, wanted = stacks[0].propagate(x, dy, gradients=True), stacks[1].propagate(plain(x), plain(dy), gradients=True)
    assert found.input_gradient.tobytes() == wanted.input_gradient.tobytes()
    recorder = fastinit.Recorder(stacks[0], 9)
    value, gradient = fastinit.softmax_cross_entropy(recorder.forward(x), labels)
    recorder.backward(torch.from_numpy(gradient))
    assert value == fastinit.softmax_cross_entropy(stacks[1].forward(plain(x)), labels.numpy())[0]
    histories = [fastinit.fit(stacks[0], x, labels, epochs=2), fastinit.fit(stacks[1], plain(x), labels.numpy(), epochs=2)]
    assert histories[0] == histories[1]
    assert fastinit.mean_squared_error(x, x)[0] == 0
    assert all((w.detach().double().numpy() == plain(w)).all() for w in weights)  # copied, so training did not change them
    assert (fastinit.Constant(dy)((9, 3), "float64") == plain(dy)).all()


def test_tensors_without_numbers_are_refused():
    stack = fastinit.Stack((6, 3), "tanh", key=fastinit.Key(0))
    for tensor in (torch.zeros(2, 6, device="meta"), torch.zeros(2, 6).to_sparse(), torch.zeros(2, 6, dtype=torch.complex64)):
        with pytest.raises(TypeError, match="x: expected an array"):
            stack.forward(tensor)
    with pytest.raises(TypeError, match=r"parameters\[0\]: expected an array of float32 or float64"):
        fastinit.SGD(0.1).start([torch.zeros(3)])
    with pytest.raises(TypeError, match=r"gradients\[0\]: expected a C-contiguous array, got a Tensor"):
        fastinit.SGD(0.1).start([np.zeros(3)])([torch.zeros(3, dtype=torch.float64)])
