"""Starts that look at data or at theory: what they promise, that they are repeatable, and that nothing is half done."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastinit
from fastinit import Key, Stack, lsuv, variance_fit


def batch(rows: int, width: int):
    return fastinit.normal((rows, width), key=Key(1))


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "sigmoid", "selu"])
@pytest.mark.parametrize("residual", [None, 2])
def test_lsuv_makes_every_variance_one(activation: str, residual: int | None) -> None:
    stack, x = Stack([48] * 21, activation, weights="ones", residual=residual, key=Key(2)), batch(256, 48)
    log = lsuv(stack, x)
    report = stack.propagate(x)
    assert [layer.layer for layer in log] == list(range(20))
    for layer, found in zip(log, report.layers, strict=True):
        assert abs(found.pre_activation.variance - 1) < 0.1
        assert layer.after == pytest.approx(found.pre_activation.variance, rel=1e-3)
        assert layer.rounds <= 2


def test_lsuv_is_orthogonal_times_its_factor() -> None:
    stack = Stack((30, 40, 20), "tanh", weights="zeros", key=Key(3))
    log = lsuv(stack, batch(100, 30))
    for i, (layer, weight) in enumerate(zip(log, stack.weights, strict=True)):
        orthogonal = fastinit.Orthogonal()(weight.shape, key=Key(3) / f"{i}.weight")
        np.testing.assert_allclose(weight, orthogonal * layer.factor, rtol=1e-5, atol=1e-7)


def test_lsuv_keeps_weights_that_it_is_told_to_keep() -> None:
    stack = Stack((30, 40, 20), "relu", weights="glorot_uniform", key=Key(4))
    before = [weight.copy() for weight in stack.weights]
    held = list(stack.weights)
    log = lsuv(stack, batch(100, 30), orthogonal=False)
    for layer, weight, old, same in zip(log, stack.weights, before, held, strict=True):
        assert weight is same  # written in place
        np.testing.assert_allclose(weight, old * layer.factor, rtol=1e-6)


def test_lsuv_is_repeatable_to_the_bit_on_any_number_of_threads() -> None:
    found = []
    for threads in (1, 2, 3):
        with fastinit.num_threads(threads):
            stack = Stack([64] * 8, "gelu", residual=2, key=Key(5))
            lsuv(stack, batch(128, 64))
            found.append(b"".join(weight.tobytes() for weight in stack.weights))
    assert found[0] == found[1] == found[2]


def test_nothing_is_written_where_a_layer_has_no_variance() -> None:
    stack = Stack((8, 8, 8), ["relu", "relu"], biases=[fastinit.Constant(-100.0), "zeros"], key=Key(6))
    before = [weight.copy() for weight in stack.weights]
    with pytest.raises(ValueError, match=r"an input of zeros in layer 1"):
        lsuv(stack, batch(16, 8))
    for weight, old in zip(stack.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "elu"])
def test_variance_fit_meets_the_variance_in_wide_layers(activation: str) -> None:
    """Over 300 units and 30 layers a variance differs from the expected one by some sqrt(5 * 30 / 300) at most, for ReLU."""
    widths = [100, *[300, 500] * 10]
    found = []
    for seed in range(10):
        stack = Stack(widths, activation, weights="lecun_normal", biases=fastinit.RandomNormal(0.0, 0.3), key=Key(seed))
        x = batch(64, 100) * 2
        log = variance_fit(stack, 0.5, x=x)
        found.append([layer.pre_activation.second_moment for layer in stack.propagate(x).layers])
    assert all(layer.after == 0.5 for layer in log)
    middle = np.exp(np.log(found).mean(axis=0))
    assert (abs(np.log(middle / 0.5)) < 0.35).all()  # 4 to 5 standard errors of ten networks


def test_variance_fit_scales_and_does_no_more() -> None:
    stack = Stack((10, 20, 30), "tanh", weights="he_uniform", key=Key(7))
    before = [weight.copy() for weight in stack.weights]
    log = variance_fit(stack)
    for layer, weight, old in zip(log, stack.weights, before, strict=True):
        np.testing.assert_allclose(weight, old * layer.factor, rtol=1e-6)
    again = variance_fit(stack)
    assert all(layer.factor == pytest.approx(1, abs=1e-6) for layer in again)
    assert again[1].before == pytest.approx(1, abs=1e-5)
    assert log[0].factor == pytest.approx(1 / math.sqrt(10 * float(before[0].var())), rel=1e-4)


@pytest.mark.parametrize(
    ("start", "arguments", "error", "message"),
    [
        (lsuv, (3, np.ones((4, 8))), TypeError, "stack: expected a fastinit.Stack, got int"),
        (lsuv, ("virtual", np.ones((4, 8))), ValueError, "expected stored weights"),
        (lsuv, ("stack", np.ones((4, 9))), ValueError, r"x: expected shape \(batch, 8\)"),
        (lsuv, ("stack", np.full((4, 8), np.nan)), ValueError, "x: expected no NaN"),
        (lsuv, ("stack", np.ones((0, 8))), ValueError, "at least one sample"),
        (variance_fit, ("virtual",), ValueError, "expected stored weights"),
        (variance_fit, ("stack", 0.0), ValueError, r"variance: expected a number in \(0, 1e6\], got 0.0"),
        (variance_fit, ("ones",), ValueError, "expected weights of mean 0"),
        (variance_fit, ("biased", 0.5), ValueError, "got layer 0 with weights that make .* and biases of variance 1"),
        (variance_fit, ("zeros",), ValueError, "got layer 0 with weights that make 0"),
    ],
)
def test_bad_arguments(start, arguments, error, message) -> None:
    made = {
        "stack": {}, "virtual": {"virtual": True}, "ones": {"weights": "ones"}, "biased": {"biases": "ones"},
        "zeros": {"weights": "zeros"},
    }  # fmt: skip
    first = arguments[0]
    stack = Stack((8, 8, 8), "tanh", key=Key(8), **made[first]) if isinstance(first, str) else first
    with pytest.raises(error, match=message):
        start(stack, *arguments[1:])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tolerance": 0.0}, ValueError, r"tolerance: expected a number in \(0, 1\), got 0.0"),
        ({"tolerance": "x"}, TypeError, "tolerance: expected a real number"),
        ({"most_rounds": 0}, ValueError, "most_rounds: expected an int >= 1"),
        ({"orthogonal": 1}, TypeError, "orthogonal: expected a bool"),
    ],
)
def test_bad_options_of_lsuv(options, error, message) -> None:
    with pytest.raises(error, match=message):
        lsuv(Stack((8, 8), "tanh", key=Key(9)), batch(16, 8), **options)


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (read_only, r"stack\.weights\[1\]: expected a writable C-contiguous array of float32"),
        (lambda array: array.tolist(), r"stack\.weights\[1\]: expected a writable"),
        (lambda array: array.astype(np.int32), r"stack\.weights\[1\]: expected a writable"),
        (lambda array: array.T, r"stack\.weights\[1\]: expected a writable"),
        (lambda array: array[:4], r"weights\[1\]: expected shape \(8, 8\), got \(4, 8\)"),
        (lambda array: array * np.nan, r"weights\[1\]: expected no NaN"),
        ("tied", r"stack\.weights\[1\]: expected an array of its own, got memory that stack\.weights\[0\] has"),
    ],
)
@pytest.mark.parametrize("start", [lambda stack: lsuv(stack, batch(16, 8)), variance_fit])
def test_nothing_is_written_where_one_layer_cannot_be(start, change, message) -> None:
    stack = Stack((8, 8, 8), "tanh", key=Key(10))
    stack.weights[1] = stack.weights[0] if change == "tied" else change(stack.weights[1])
    before = stack.weights[0].copy()
    with pytest.raises(ValueError, match=message):
        start(stack)
    np.testing.assert_array_equal(stack.weights[0], before)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("start", "options", "message"),
    [
        (lambda stack: lsuv(stack, np.full((4, 8), 1e300)), {}, "whose variance a factor can change, got"),
        (lambda stack: lsuv(stack, np.eye(8) * 1e-44), {}, "whose variance a factor can change, got"),
        (lambda stack: lsuv(stack, np.eye(8)), {"residual": 1, "alpha": 3e38}, "whose variance a factor can change, got"),
        (lambda stack: lsuv(stack, np.eye(8)), {"biases": [np.arange(8.0)] * 2}, "biases of a variance below 1, got 5.25 in"),
        (lambda stack: variance_fit(stack, x=np.ones((0, 8))), {}, r"x: expected shape \(batch, 8\) with at least one"),
        (lambda stack: variance_fit(stack, x=np.ones((2, 3))), {}, r"x: expected shape \(batch, 8\), got \(2, 3\)"),
        (lambda stack: variance_fit(stack, x=np.full((2, 8), 1e200)), {}, "x: expected inputs with a finite mean square"),
        (variance_fit, {"weights": fastinit.RandomNormal(0.0, 1e-40)}, "a factor in the range of float32, got inf for layer 0"),
        (lambda stack: variance_fit(stack, 1e-300), {}, "a factor in the range of float32, got 0.0 for layer 0"),
        (variance_fit, {"weights": fastinit.RandomNormal(0.0, 1e200), "dtype": "float64"}, "a variance in the range of float64"),
        (variance_fit, {"residual": 1, "alpha": 1e200, "dtype": "float64"}, "layer 1 with weights that make inf"),
    ],
)
def test_numbers_that_leave_every_range(start, options, message) -> None:
    stack = Stack((8, 8, 8), "relu", key=Key(11), **options)
    before = [weight.copy() for weight in stack.weights]
    with pytest.raises(ValueError, match=message):
        start(stack)
    for weight, old in zip(stack.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_variance_fit_of_single_weights() -> None:
    stack = Stack([1] * 5, "linear", key=Key(12))
    variance_fit(stack)
    assert all(abs(abs(weight.item()) - 1) < 1e-6 for weight in stack.weights)


def test_lsuv_of_inputs_of_zeros_changes_nothing():
    biases = [np.linspace(-0.1, 0.1, 8), np.zeros(8)]
    stack = Stack([8, 8, 8], "relu", weights="he_normal", biases=biases, key=Key(0))
    before = [array.copy() for array in stack.weights]
    with pytest.raises(ValueError, match="an input of zeros in layer 0"):
        lsuv(stack, np.zeros((64, 8)))
    assert all(np.array_equal(*pair) for pair in zip(before, stack.weights, strict=True))
