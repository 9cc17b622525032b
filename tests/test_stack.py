# SPDX-License-Identifier: BSD-3-Clause
"""The deep stack against an independent reference, and its bits on every path through it."""

import concurrent.futures
import hashlib
import importlib.util
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import stack_reference as reference
from stack_cases import DTYPES, batch_of, everything, network, scaled_error, statistics_bytes

from fastinit import Key, RandomNormal, Stack, _core, get, normal, num_threads, uniform

ISAS = _core.available_isas()
VECTORS = Path(__file__).parent / "vectors" / "stack.txt"


# ---- the sums themselves --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_element_is_one_fma_sum_in_index_order(dtype, each_isa):
    """In exact rational arithmetic: forward over inputs, input gradient over outputs, weight gradient over samples."""
    stack, key = network((35, 34), "linear", dtype, name="sums")
    x, dy = batch_of(stack, key, 9)
    stack.biases[0][:] = 0
    w = stack.weights[0]
    y = stack.forward(x)
    found = stack.backward(x, dy)
    for r, c in ((0, 0), (8, 33), (3, 32), (5, 7)):
        assert y[r, c] == reference.fma_sum(x[r], w[:, c], dtype)
    for r, i in ((0, 0), (8, 34), (4, 32)):
        assert found.input[r, i] == reference.fma_sum(dy[r], w[i], dtype)
    for i, c in ((0, 0), (34, 33), (32, 5), (7, 32)):
        assert found.weights[0][i, c] == reference.fma_sum(x[:, i], dy[:, c], dtype)
    total = dy[0]
    for row in dy[1:]:
        total = total + row
    np.testing.assert_array_equal(found.biases[0], total)


# ---- against the reference ------------------------------------------------------------------------

SHAPES = [
    ((5, 4), 3),
    ((33, 65, 31, 7), 19),
    ((1, 1, 1), 1),
    ((16, 32, 64, 32), 8),
    ((2, 100, 3), 17),
]


@pytest.mark.parametrize(("widths", "batch"), SHAPES, ids=str)
@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_the_reference(dtype, activation, widths, batch, each_isa):
    stack, key = network(widths, activation, dtype)
    x, dy = batch_of(stack, key, batch)
    found = stack.propagate(x, dy, gradients=True)
    y, dw, db, dx, layers = reference.propagate(
        stack.weights, stack.biases, stack.activations, x, dy
    )
    limit = 3e-6 if dtype == "float32" else 1e-14  # of three layers, seen: 1.3e-6 and 3e-15
    assert scaled_error(found.output, y) < limit
    assert scaled_error(found.input_gradient, dx) < limit
    for g, expected in zip(found.weight_gradients, dw, strict=True):
        assert scaled_error(g, expected) < limit
    for g, expected in zip(found.bias_gradients, db, strict=True):
        assert scaled_error(g, expected) < limit
    for layer, (z, a, d, saturated, dead) in zip(found.layers, layers, strict=True):
        for m, (mean, variance, second, low, high) in (
            (layer.pre_activation, z), (layer.activation, a), (layer.gradient, d),
        ):  # fmt: skip
            root = math.sqrt(second)
            assert m.mean == pytest.approx(mean, abs=limit * root)
            assert m.variance == pytest.approx(variance, rel=4 * limit, abs=4 * limit * second)
            assert m.second_moment == pytest.approx(second, rel=4 * limit)
            assert m.non_finite == 0
            assert m.minimum == pytest.approx(low, abs=limit * max(abs(low), abs(high)))
            assert m.maximum == pytest.approx(high, abs=limit * max(abs(low), abs(high)))
        assert layer.saturated == pytest.approx(saturated, abs=1e-12)
        assert layer.dead == pytest.approx(dead, abs=1e-12)


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
def test_gradients_are_the_slopes_of_the_loss(activation):
    """Central differences in float64, for every parameter and input of a small network."""
    stack, key = network((4, 5, 3), activation, "float64", name="differences")
    x, dy = batch_of(stack, key, 6)
    x = x.copy()
    found = stack.backward(x, dy)
    step = 2.0**-17

    def slope(array, index):
        kept = array[index]
        values = []
        for sign in (1, -1):
            array[index] = kept + sign * step
            values.append(float((stack.forward(x) * dy).sum()))
        array[index] = kept
        return (values[0] - values[1]) / (2 * step)

    pairs = [
        *zip(stack.weights, found.weights, strict=True),
        *zip(stack.biases, found.biases, strict=True),
    ]
    for array, gradient in [*pairs, (x, found.input)]:
        for index in np.ndindex(array.shape):
            assert gradient[index] == pytest.approx(slope(array, index), rel=2e-8, abs=2e-8)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
def test_against_the_autograd_of_torch(activation):
    import torch

    functional = torch.nn.functional
    functions = {
        "linear": lambda z: z, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu,
        "leaky_relu": functional.leaky_relu, "hard_tanh": functional.hardtanh, "elu": functional.elu,
        "selu": functional.selu, "softplus": functional.softplus, "softsign": functional.softsign,
        "gelu": functional.gelu, "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
        "silu": functional.silu, "mish": functional.mish, "sin": torch.sin,
    }  # fmt: skip
    stack, key = network((12, 33, 17, 5), activation, "float64", name="torch")
    x, dy = batch_of(stack, key, 21)
    inputs = torch.tensor(x, requires_grad=True)
    weights = [torch.tensor(w, requires_grad=True) for w in stack.weights]
    biases = [torch.tensor(b, requires_grad=True) for b in stack.biases]
    a = inputs
    for w, b in zip(weights, biases, strict=True):
        a = functions[activation](a @ w + b)
    a.backward(torch.tensor(dy))
    found = stack.propagate(x, dy, gradients=True)
    assert scaled_error(found.output, a.detach().numpy()) < 1e-14
    assert scaled_error(found.input_gradient, inputs.grad.numpy()) < 1e-14
    for g, t in zip(found.weight_gradients, weights, strict=True):
        assert scaled_error(g, t.grad.numpy()) < 1e-14
    for g, t in zip(found.bias_gradients, biases, strict=True):
        assert scaled_error(g, t.grad.numpy()) < 1e-14


# ---- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_depend_on_no_instruction_set_and_no_threads(dtype, activation, restored_isa):
    stack, key = network((70, 257, 130, 97, 10), activation, dtype, name="bits")
    x, dy = batch_of(stack, key, 131)  # 10 million multiply-adds: up to five workers
    seen = {}
    for isa in ISAS:
        _core.set_isa(isa)
        for threads in (1, 2, 3, 7):
            with num_threads(threads):
                found = stack.propagate(x, dy, gradients=True)
                seen[isa, threads] = hashlib.sha256(everything(found)).hexdigest()
    assert set(seen.values()) == {seen[ISAS[0], 1]}, seen


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sample_does_not_depend_on_its_batch(dtype, each_isa):
    stack, key = network((20, 65, 33), "tanh", dtype, name="split")
    x, dy = batch_of(stack, key, 37)
    whole = stack.propagate(x, dy, gradients=True)
    for begin, end in ((0, 1), (0, 8), (5, 20), (36, 37), (8, 37)):
        part = stack.propagate(x[begin:end], dy[begin:end], gradients=True)
        np.testing.assert_array_equal(part.output, whole.output[begin:end])
        np.testing.assert_array_equal(part.input_gradient, whole.input_gradient[begin:end])
    # samples without a gradient add exact zeros to the sums over the batch
    dy = dy.copy()
    dy[20:] = 0
    first, all_of_them = stack.backward(x[:20], dy[:20]), stack.backward(x, dy)
    for a, b in zip(
        first.weights + first.biases, all_of_them.weights + all_of_them.biases, strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_modes_give_the_same_bits(each_isa):
    """What is asked for beside a result does not change it."""
    stack, key = network((20, 65, 33), "sigmoid", "float32", name="modes")
    x, dy = batch_of(stack, key, 37)
    full = stack.propagate(x, dy, gradients=True)
    diagnosis = stack.propagate(x, dy)
    gradients = stack.backward(x, dy)
    assert full.overflow is None
    np.testing.assert_array_equal(full.output, stack.forward(x))
    np.testing.assert_array_equal(full.output, stack(x))
    assert full.layers == diagnosis.layers
    assert diagnosis.weight_gradients is None
    assert diagnosis.input_gradient is None
    np.testing.assert_array_equal(full.input_gradient, gradients.input)
    for a, b in zip(full.weight_gradients, gradients.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(full.bias_gradients, gradients.biases, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_recording_is_forward_and_backward_in_two_steps(each_isa):
    stack, key = network((20, 65, 33), "tanh", "float32", name="recording")
    x, dy = batch_of(stack, key, 37)
    whole = stack.propagate(x, dy, gradients=True)
    with num_threads(3):
        one = stack.record(x)
    two = stack.record(x[:5])  # both at once, each with its own memory
    np.testing.assert_array_equal(one.output, whole.output)
    np.testing.assert_array_equal(two.output, whole.output[:5])
    gradients = one.backward(dy)
    np.testing.assert_array_equal(two.backward(dy[:5]).input, whole.input_gradient[:5])
    np.testing.assert_array_equal(gradients.input, whole.input_gradient)
    for a, b in zip(gradients.weights, whole.weight_gradients, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(gradients.biases, whole.bias_gradients, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(RuntimeError, match="expected one call for a recording, got a second"):
        one.backward(dy)
    with pytest.raises(ValueError, match=r"dy: expected shape \(5, 33\), got \(37, 33\)"):
        stack.record(x[:5]).backward(dy)


def test_calls_from_several_threads_at_once():
    stack, key = network((20, 65, 33), "tanh", "float32", name="concurrent")
    x, dy = batch_of(stack, key, 37)
    expected = everything(stack.propagate(x, dy, gradients=True))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: everything(stack.propagate(x, dy, gradients=True)), range(200))
    assert set(found) == {expected}


def test_one_large_batch_does_not_hold_its_memory():
    stack, key = network((256, 256, 256), "tanh", "float32", name="memory")
    x, dy = batch_of(stack, key, 4096)
    stack.propagate(x, dy)
    large = len(stack._spare[0])
    assert large > 16 << 20
    stack.propagate(x[:1000], dy[:1000])  # fresh memory costs time: what is not far too large is used again
    assert [len(memory) for memory in stack._spare] == [large]
    expected = stack.forward(x[:5])
    assert len(stack._spare) == 1
    assert len(stack._spare[0]) < large // 4
    np.testing.assert_array_equal(stack.forward(x)[:5], expected)


def test_a_stack_can_be_pickled():
    stack, key = network((5, 6, 2), "tanh", "float32", name="pickle")
    x, _ = batch_of(stack, key, 8)
    expected = stack.forward(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stack)).forward(x), expected)


def golden_lines():
    """name and hash of each golden result; tests/vectors/stack.txt holds them."""
    for dtype in DTYPES:
        for activation in _core.ACTIVATIONS:
            stack, key = network(
                (13, 70, 40, 9), activation, dtype, name="golden", scale="glorot_normal"
            )
            x, dy = batch_of(stack, key, 21)
            found = stack.propagate(x, dy, gradients=True)
            gradients = [*found.weight_gradients, *found.bias_gradients, found.input_gradient]
            for what, data in (
                ("forward", found.output.tobytes()),
                ("gradients", b"".join(g.tobytes() for g in gradients)),
                ("statistics", statistics_bytes(found.layers)),
            ):
                yield f"{what} {activation} {dtype} {hashlib.sha256(data).hexdigest()[:32]}"


def test_golden_hashes(each_isa):
    expected = [line for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
    assert list(golden_lines()) == expected


# ---- the edges ------------------------------------------------------------------------------------


def test_depth_zero_is_the_identity():
    stack = Stack((3,), "tanh", key=Key(0))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(stack.forward(x), x)
    np.testing.assert_array_equal(stack.backward(x, x).input, x)
    found = stack.propagate(x, gradients=True)
    assert found.layers == ()
    assert found.weight_gradients == []
    np.testing.assert_array_equal(found.output, x)
    assert stack.depth == 0


def test_an_empty_batch():
    stack, _ = network((3, 40, 2), "relu", "float32")
    x, dy = np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32)
    found = stack.propagate(x, dy, gradients=True)
    assert found.output.shape == (0, 2)
    assert found.input_gradient.shape == (0, 3)
    for g, w in zip(found.weight_gradients, stack.weights, strict=True):
        assert g.shape == w.shape
        assert not g.any()
    assert not any(g.any() for g in found.bias_gradients)
    for layer in found.layers:
        for m in (layer.pre_activation, layer.activation, layer.gradient):
            assert math.isnan(m.mean)
            assert math.isnan(m.variance)
        assert math.isnan(layer.saturated)
        assert math.isnan(layer.dead)


def test_a_hundred_thousand_layers():
    depth = 100_000
    stack = Stack(
        (1,) * (depth + 1), "linear", weights=[np.ones((1, 1))] * depth, biases=[np.zeros(1)] * depth,
        key=Key(0),
    )  # fmt: skip
    stack.weights[70_000][0, 0] = 0.5
    x = np.array([[3.0], [-5.0]])
    found = stack.propagate(x, np.ones_like(x), gradients=True)
    np.testing.assert_array_equal(found.output, x / 2)
    np.testing.assert_array_equal(found.input_gradient, [[0.5], [0.5]])
    assert found.weight_gradients[70_000][0, 0] == -2
    assert found.layers[69_999].activation.second_moment == 17
    assert found.layers[70_000].activation.second_moment == 17 / 4
    assert found.layers[0].gradient.mean == 0.5


def test_constant_data_has_no_variance():
    stack = Stack((1, 70), "linear", weights=[np.full((1, 70), 0.1)], key=Key(0))
    layer = stack.propagate(np.full((19, 1), 3e7), np.ones((19, 70))).layers[0]
    assert layer.pre_activation.variance == 0
    assert layer.activation.variance == 0
    assert layer.gradient.variance == 0
    assert layer.pre_activation.mean == float(np.float32(0.1) * np.float32(3e7))


def test_a_small_variance_beside_a_large_mean():
    """One pass, and yet no cancellation: a mean of 10^4 and deviations of 1e-3, read to four digits."""
    deviations = 1e-3 * normal((50, 90), key=Key(3), dtype="float64")
    stack = Stack(
        (90, 90),
        "linear",
        weights=[np.eye(90)],
        biases=[np.full(90, 1e4)],
        key=Key(0),
        dtype="float64",
    )
    layer = stack.propagate(deviations, np.ones((50, 90))).layers[0]
    assert layer.pre_activation.variance == pytest.approx((deviations + 1e4).var(), rel=1e-6)


@pytest.mark.parametrize(("dtype", "large"), [("float32", 3e38), ("float64", 1e300)])
def test_overflow_is_seen_in_the_statistics_and_is_no_exception(dtype, large):
    stack = Stack((40,) * 5, "linear", weights=[np.eye(40) * 1e10] * 4, key=Key(0), dtype=dtype)
    found = stack.propagate(np.full((9, 40), large), gradients=True)
    assert math.isnan(found.layers[0].pre_activation.variance)
    assert found.overflow == 0
    assert found.layers[0].pre_activation.maximum == math.inf
    # 1e10 is reached by the diagonal alone: 0 * 1e10 * 3e38 stays 0 until an infinity meets a 0
    assert found.layers[0].activation.non_finite == 9 * 40
    assert not np.isfinite(found.output).any()
    # and in the statistics alone: float64 numbers whose squares overflow
    if dtype == "float64":
        stack = Stack((2, 2), "linear", weights=[np.eye(2)], key=Key(0), dtype=dtype)
        layer = stack.propagate(np.array([[large, -large]]), np.ones((1, 2))).layers[0]
        assert layer.pre_activation.mean == 0
        assert layer.pre_activation.second_moment == math.inf


def test_the_first_layer_with_an_overflow_is_named(each_isa):
    stack = Stack((40,) * 6, "linear", weights=[np.eye(40) * 1e10] * 5, key=Key(0))
    found = stack.propagate(np.full((9, 40), 1e13))  # 1e23, 1e33, then beyond 3.4e38
    assert found.overflow == 2
    assert [layer.activation.non_finite for layer in found.layers[:3]] == [0, 0, 9 * 40]
    assert found.layers[1].activation.maximum == np.float32(np.float32(np.float32(1e13) * 1e10) * 1e10)


@pytest.mark.parametrize(
    "text", ["leaky_relu(-1)", "leaky_relu(inf)", "leaky_relu(x)", "tanh(2)", "leaky_relu()", "leaky_relu(1"]
)
def test_parameters_of_activations_that_do_not_fit(text):
    with pytest.raises(ValueError, match="activation: expected"):
        Stack((3, 2), text)


def test_the_slope_of_leaky_relu(each_isa):
    stack = Stack((1, 1), "leaky_relu(0.25)", weights=[np.ones((1, 1))], key=Key(0))
    x = np.array([[4.0], [-4.0], [0.0]], np.float32)
    np.testing.assert_array_equal(stack.forward(x)[:, 0], [4, -1, 0])
    gradient = stack.backward(x, np.ones((3, 1))).input
    np.testing.assert_array_equal(gradient[:, 0], [1, 0.25, 0.25])


def test_infinities_pass_through():
    x = np.array([[np.inf], [-np.inf], [1.0], [0.0]], dtype=np.float32)
    inf, nan = np.inf, np.nan
    ends = {  # at +inf and at -inf
        "linear": (inf, -inf), "tanh": (1, -1), "sigmoid": (1, 0), "relu": (inf, 0),
        "leaky_relu": (inf, -inf), "hard_tanh": (1, -1), "elu": (inf, -1), "selu": (inf, -1.7580993),
        "softplus": (inf, 0), "softsign": (1, -1), "gelu": (inf, 0), "gelu_tanh": (inf, 0),
        "silu": (inf, 0), "mish": (inf, 0), "sin": (nan, nan),
    }  # fmt: skip
    assert set(ends) == set(_core.ACTIVATIONS)
    for activation, (right, left) in ends.items():
        stack = Stack((1, 1), activation, weights=[np.ones((1, 1))], key=Key(0))
        with np.errstate(all="ignore"):
            inner = reference.ACTIVATIONS[activation][0](np.array([1.0, 0.0]))
        expected = [right, left, *inner]
        np.testing.assert_allclose(stack.forward(x)[:, 0], expected, rtol=5e-7)


@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
def test_a_nan_stays_in_its_own_row_and_column(activation, each_isa):
    stack, key = network((6, 40, 3), activation, "float32", name="nan")
    x, dy = batch_of(stack, key, 11)
    clean = stack.forward(x)
    stack.weights[1][5, 1] = np.nan
    found = stack.propagate(x, dy, gradients=True)
    np.testing.assert_array_equal(found.output[:, [0, 2]], clean[:, [0, 2]])
    assert np.isnan(found.output[:, 1]).all()
    assert math.isnan(found.layers[1].activation.mean)
    assert math.isfinite(found.layers[0].activation.mean)


@pytest.mark.parametrize(("dtype", "tiny"), [("float32", 1e-42), ("float64", 1e-320)])
def test_subnormals_are_kept(dtype, tiny, each_isa):
    stack = Stack((40, 40, 40), "linear", weights=[np.eye(40)] * 2, key=Key(0), dtype=dtype)
    x = np.full((3, 40), tiny, dtype=dtype)
    found = stack.propagate(x, x, gradients=True)
    np.testing.assert_array_equal(found.output, x)
    np.testing.assert_array_equal(found.input_gradient, x)
    assert found.layers[0].activation.mean == float(x[0, 0])


# ---- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (((), "tanh"), {}, ValueError, "widths: expected at least one int, each >= 1, got"),
        (((3, 0), "tanh"), {}, ValueError, "each >= 1"),
        (((3, 2.5), "tanh"), {}, TypeError, "widths: expected a sequence of ints"),
        ((3, "tanh"), {}, TypeError, "widths: expected a sequence of ints"),
        (((3, 2), "tanj"), {}, ValueError, "activation: expected one of linear, tanh.*got 'tanj'"),
        (((3, 2), None), {}, TypeError, "activation: expected a str, got NoneType"),
        (((3, 2), "tanh"), {"output_activation": "none"}, ValueError, "output_activation: expected one of"),
        (((3, 2), "tanh"), {"dtype": "float16"}, ValueError, "dtype: expected float32 or float64, got float16"),
        (((3, 2), "tanh"), {"dtype": "int8"}, ValueError, "dtype: expected one of"),
        (((3, 2), "tanh"), {"weights": []}, ValueError, "weights: expected 1 arrays, one a layer, got 0"),
        (((3, 2), "tanh"), {"weights": [np.ones((2, 3))]}, ValueError, r"weights\[0\]: expected shape \(3, 2\), got"),
        (((3, 2), "tanh"), {"weights": [np.full((3, 2), np.nan)]}, ValueError, r"weights\[0\]: expected no NaN, got 6"),
        (((3, 2), "tanh"), {"weights": [np.ones((3, 2), complex)]}, TypeError, r"weights\[0\]: expected an array of real"),
        (((3, 2), "tanh"), {"biases": [np.ones(3)]}, ValueError, r"biases\[0\]: expected shape \(2,\), got \(3,\)"),
        (((3, 2), "tanh"), {"weights": "glorot"}, ValueError, "glorot"),
        (((3, 2), "tanh"), {"key": 5}, TypeError, "key"),
        (((3, 2), "tanh"), {"biases": [None]}, ValueError, r"biases\[0\]: expected shape \(2,\), got \(\)"),
        (((3, 2), "tanh"), {"virtual": "no"}, TypeError, "virtual: expected a bool, got str 'no'"),
    ],
)  # fmt: skip
def test_bad_networks(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Stack(*arguments, **options)


@pytest.mark.parametrize(
    ("x", "dy", "error", "message"),
    [
        (np.ones(3), None, ValueError, r"x: expected shape \(batch, 3\), got \(3,\)"),
        (np.ones((2, 4)), None, ValueError, r"x: expected shape \(batch, 3\), got \(2, 4\)"),
        (np.full((2, 3), np.nan), None, ValueError, "x: expected no NaN, got 6"),
        (np.ones((2, 3), complex), None, TypeError, "x: expected an array of real numbers, got dtype complex128"),
        (np.array([["a"] * 3]), None, TypeError, "x: expected an array of real numbers"),
        (np.ones((2, 3)), np.ones((2, 3)), ValueError, r"dy: expected shape \(2, 2\), got \(2, 3\)"),
        (np.ones((2, 3)), np.ones((3, 2)), ValueError, r"dy: expected shape \(2, 2\), got \(3, 2\)"),
        (np.ones((2, 3)), np.full((2, 2), np.nan), ValueError, "dy: expected no NaN, got 4"),
    ],
)  # fmt: skip
def test_bad_batches(x, dy, error, message):
    stack = Stack((3, 2), "tanh", key=Key(0))
    with pytest.raises(error, match=message):
        stack.propagate(x, dy)
    if dy is None:
        with pytest.raises(error, match=message):
            stack.forward(x)
    else:
        with pytest.raises(error, match=message):
            stack.backward(x, dy)


def test_parameters_replaced_by_what_does_not_fit_are_refused():
    stack = Stack((3, 2), "tanh", key=Key(0))
    stack.weights[0] = np.ones((4, 2), np.float32)
    with pytest.raises(ValueError, match=r"weights\[0\]: expected shape \(3, 2\), got \(4, 2\)"):
        stack.forward(np.ones((1, 3)))
    stack.weights[0] = np.ones((3, 2), np.float32)
    stack.biases[0] = np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"biases\[0\]: expected shape \(2,\), got \(1,\)"):
        stack.forward(np.ones((1, 3)))


@pytest.mark.parametrize("name", ["weights", "biases"])
def test_lists_replaced_by_what_is_no_list_of_that_length(name):
    stack, x = Stack((3, 2), "tanh", key=Key(0)), np.ones((1, 3))
    expected, arrays = stack.forward(x), getattr(stack, name)
    setattr(stack, name, tuple(arrays))
    np.testing.assert_array_equal(stack.forward(x), expected)
    for others in ([*arrays, np.ones((2, 2), np.float32)], []):
        setattr(stack, name, others)
        with pytest.raises(ValueError, match=f"{name}: expected 1 arrays, one a layer, got {len(others)}"):
            stack.forward(x)
    for other in (None, "zeros"):
        setattr(stack, name, other)
        with pytest.raises(TypeError, match=f"{name}: expected a list of arrays, one a layer, got {type(other).__name__}"):
            stack.forward(x)


@pytest.mark.parametrize("name", ["gradients", "norms"])
def test_what_is_asked_for_is_asked_by_bools(name):
    stack = Stack((3, 2), "tanh", key=Key(0))
    with pytest.raises(TypeError, match=f"{name}: expected a bool, got str 'no'"):
        stack.propagate(np.ones((1, 3)), **{name: "no"})
    stack.propagate(np.ones((1, 3)), **{name: np.True_})


# ---- the object -----------------------------------------------------------------------------------


def test_a_key_names_the_network():
    one, two = (Stack((9, 8, 7), "relu", weights="he_normal", key=Key(5)) for _ in range(2))
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    deeper = Stack((9, 8, 7, 6), "relu", weights="he_normal", key=Key(5))
    np.testing.assert_array_equal(deeper.weights[1], one.weights[1])
    x = uniform((4, 9), key=Key(1))
    assert one.propagate(x).layers == two.propagate(x).layers
    free = Stack((9, 8), "relu"), Stack((9, 8), "relu")
    assert free[0].key != free[1].key


def test_arrays_given_are_copied_and_parameters_are_the_users():
    given = np.ones((3, 2), np.float32)
    stack = Stack((3, 2), "linear", weights=[given], key=Key(0))
    given[:] = 7
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(stack.forward(x), [[3, 3]])
    stack.weights[0][0, 0] = 2
    stack.biases[0][1] = 10
    np.testing.assert_array_equal(stack.forward(x), [[4, 13]])


def test_inputs_of_other_dtypes_and_strides():
    stack, key = network((5, 6, 2), "tanh", "float32", name="strides")
    x, _ = batch_of(stack, key, 8)
    expected = stack.forward(x)
    np.testing.assert_array_equal(stack.forward(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(stack.forward(np.repeat(x, 2, axis=0)[::2]), expected)
    np.testing.assert_array_equal(stack.forward(x.astype(np.float64)), expected)
    np.testing.assert_array_equal(stack.forward(x.tolist()), expected)
    before = x.copy()
    stack.propagate(x, gradients=True)
    np.testing.assert_array_equal(x, before)


def test_output_activation_and_repr():
    stack = Stack((3, 4, 2), "tanh", output_activation="linear", key=Key(0))
    assert stack.activations == ("tanh", "linear")
    assert repr(stack) == f"Stack((3, 4, 2), 'tanh', dtype='float32', key={Key(0)!r})"
    assert repr(Stack((1,) * 10, "relu", key=Key(0))).startswith("Stack(<9 layers>, 'relu'")
    table = str(stack.propagate(np.ones((2, 3))))
    assert len(table.splitlines()) == 2 + 2


def test_a_stack_of_infinite_squares_merges_to_an_infinite_variance():
    """Rows whose own squares stay finite, but not the step between them."""
    stack = Stack((1, 1), "linear", weights=[np.ones((1, 1))], key=Key(0), dtype="float64")
    layer = stack.propagate(np.array([[1e300], [-1e300]]), np.ones((2, 1))).layers[0]
    assert layer.activation.mean == 0
    assert layer.activation.variance == math.inf


@pytest.mark.parametrize("name", ["widths", "activations", "dtype", "key"])
def test_what_the_memory_is_laid_out_by_is_fixed(name):
    stack = Stack((3, 4, 2), "tanh", key=Key(0))
    with pytest.raises(AttributeError, match=f"{name}: expected no change after construction"):
        setattr(stack, name, getattr(stack, name))
    assert pickle.loads(pickle.dumps(stack)).widths == (3, 4, 2)


def test_gradients_never_leave_their_block():
    """Even where somebody goes around that: refused before anything is written."""
    stack = Stack((3, 4, 2), "tanh", key=Key(0))
    stack.__dict__["widths"] = (3, 4000, 2)
    stack.weights = [np.zeros((3, 4000), "f4"), np.zeros((4000, 2), "f4")]
    stack.biases = [np.zeros(4000, "f4"), np.zeros(2, "f4")]
    with pytest.raises(ValueError, match="gradients: expected offsets inside the block"):
        stack.backward(np.ones((5, 3)), np.ones((5, 2)))


def test_parameters_and_cotangent_come_from_the_keys_children():
    key = Key(5)
    stack = Stack((3, 4, 2), "tanh", weights="he_normal", biases=RandomNormal(), key=key)
    for i, (fan_in, fan_out) in enumerate(((3, 4), (4, 2))):
        np.testing.assert_array_equal(stack.weights[i], get("he_normal")((fan_in, fan_out), key=key / f"{i}.weight"))
        np.testing.assert_array_equal(stack.biases[i], RandomNormal()((fan_out,), key=key / f"{i}.bias"))
    x = normal((6, 3), key=Key(1))
    drawn, given = stack.propagate(x), stack.propagate(x, normal((6, 2), key=key / "cotangent"))
    assert [layer.gradient for layer in drawn.layers] == [layer.gradient for layer in given.layers]


def test_the_printed_table_has_the_numbers_of_the_layers():
    report = Stack((3, 4, 2), "tanh", key=Key(0)).propagate(normal((6, 3), key=Key(1)))
    rows = str(report).splitlines()[-2:]
    for row, layer in zip(rows, report.layers, strict=True):
        shown = [float(cell) for cell in row.split()[1:7]]
        moments = (layer.pre_activation, layer.activation, layer.gradient)
        wanted = [v for m in moments for v in (m.mean, m.variance**0.5)]
        np.testing.assert_allclose(shown, wanted, rtol=1e-3)
