# SPDX-License-Identifier: BSD-3-Clause
"""The numbers of passes against exact sums, a NumPy reference, central differences and PyTorch's autograd."""

import importlib.util
import math

import numpy as np
import pytest
import stack_reference as reference
from stack_cases import DTYPES, batch_of, network, scaled_error

from fastinit import Key, Stack, _core, num_threads
from fastinit._common.activations import parse

SHAPES = [
    ((5, 4), 3),
    ((33, 65, 31, 7), 19),
    ((1, 1, 1), 1),
    ((16, 32, 64, 32), 8),
    ((2, 100, 3), 17),
]


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
def test_gradients_against_central_differences(activation):
    """Central differences in float64, for every parameter and input of a small network."""
    stack, key = network((4, 5, 3), activation, "float64", name="differences")
    x, dy = batch_of(stack, key, 6)
    x = x.copy()
    found = stack.backward(x, dy)
    step = 2.0**-17

    def difference(array, index):
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
            assert gradient[index] == pytest.approx(difference(array, index), rel=2e-8, abs=2e-8)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("size", "gradient"), [(1e-90, 1e-90), (1.0, 1e-170), (1e200, 1e100), (1e307, 1e-305), (1e-305, 1e307)])
def test_norms_of_gradients_whose_squares_overflow_or_underflow(size, gradient, threads, each_isa):
    """|A^T D| of constant matrices is batch * size * gradient * sqrt(in * out), by every way of computing it."""
    with num_threads(threads):
        for widths, batch in (((64, 32), 4), ((4, 4), 64), ((65, 33), 130)):
            stack = Stack(widths, "linear", dtype="float64", key=Key(0))
            x, dy = np.full((batch, widths[0]), size), np.full((batch, widths[1]), gradient)
            expected = size * gradient * batch * math.sqrt(widths[0] * widths[1])
            for options in ({"gradients": True}, {"norms": True}):
                (found,) = stack.propagate(x, dy, **options).weight_gradient_norms
                assert found == pytest.approx(expected, rel=1e-13)


needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def of_torch(activation):
    """PyTorch's own function, found by its name or by that in the table; without one the test is skipped."""
    import torch

    functional = torch.nn.functional
    others = {
        "linear": lambda z: 1 * z, "hard_tanh": functional.hardtanh, "sin": torch.sin,
        "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
    }  # fmt: skip
    found = others.get(activation) or getattr(functional, activation, None)
    if found is None:
        pytest.skip(f"PyTorch has no {activation}")
    return found


@needs_torch
@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
def test_against_the_autograd_of_torch(activation):
    import torch

    stack, key = network((12, 33, 17, 5), activation, "float64", name="torch")
    x, dy = batch_of(stack, key, 21)
    inputs = torch.tensor(x, requires_grad=True)
    weights = [torch.tensor(w, requires_grad=True) for w in stack.weights]
    biases = [torch.tensor(b, requires_grad=True) for b in stack.biases]
    a = inputs
    for w, b in zip(weights, biases, strict=True):
        a = of_torch(activation)(a @ w + b)
    a.backward(torch.tensor(dy))
    found = stack.propagate(x, dy, gradients=True)
    assert scaled_error(found.output, a.detach().numpy()) < 1e-14
    assert scaled_error(found.input_gradient, inputs.grad.numpy()) < 1e-14
    for g, t in zip(found.weight_gradients, weights, strict=True):
        assert scaled_error(g, t.grad.numpy()) < 1e-14
    for g, t in zip(found.bias_gradients, biases, strict=True):
        assert scaled_error(g, t.grad.numpy()) < 1e-14


@needs_torch
@pytest.mark.parametrize("activation", _core.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_derivative_is_0_where_that_of_torch_is_not(dtype, activation):
    """Where exponentials are normal, subnormal and 0, and over all scales."""
    import torch

    limits, far = np.finfo(dtype), 120 if dtype == "float32" else 800
    scales = np.geomspace(float(limits.smallest_subnormal) * 2, float(limits.max) / 2, 4000)
    z = np.concatenate([np.linspace(-far, far, 100_001), scales, -scales]).astype(dtype)
    theirs = torch.tensor(z, requires_grad=True)
    of_torch(activation)(theirs).sum().backward()
    gradient = theirs.grad.numpy()
    values, derivatives = np.empty_like(z), np.empty_like(z)
    _core.activate(*parse("activation", activation), DTYPES.index(dtype), z, values, derivatives)
    known = ~np.isnan(gradient)  # theirs of gelu_tanh is inf - inf far out
    assert not ((derivatives == 0) & (gradient != 0) & known).any()
    near = np.abs(z) < 3
    np.testing.assert_allclose(derivatives[near], gradient[near], rtol=0, atol=8 * limits.eps)
