# SPDX-License-Identifier: BSD-3-Clause
"""Optimizers against their formulas in float64; the same bits on every instruction set."""

import math

import numpy as np
import pytest

from fastinit import SGD, Adam, Key, Momentum, _core, normal

OPTIMIZERS = [SGD(0.1), Momentum(0.1, 0.7), Adam(0.01, 0.8, 0.95, 1e-6)]
SIZES = [0, 1, 3, 8, 15, 16, 17, 64, 100]


def by_formula(optimizer, w, gradients):
    """In float64, as the papers write them."""
    w = w.astype(np.float64)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        g = g.astype(np.float64)
        if isinstance(optimizer, SGD):
            w = w - optimizer.learning_rate * g
        elif isinstance(optimizer, Momentum):
            m = optimizer.momentum * m + g
            w = w - optimizer.learning_rate * m
        else:
            m = optimizer.beta_1 * m + (1 - optimizer.beta_1) * g
            v = optimizer.beta_2 * v + (1 - optimizer.beta_2) * g**2
            first, second = m / (1 - optimizer.beta_1**t), v / (1 - optimizer.beta_2**t)
            w = w - optimizer.learning_rate * first / (np.sqrt(second) + optimizer.epsilon)
    return w


def arrays(dtype, steps=6):
    parameters = [normal(n, key=Key(1) / n, dtype=dtype).copy() for n in SIZES]
    gradients = [[normal(n, key=Key(2) / n / t, dtype=dtype).copy() for n in SIZES] for t in range(steps)]
    return parameters, gradients


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-14), ("float32", 2e-6)])
def test_steps_by_the_formula(optimizer, dtype, error, each_isa):
    parameters, gradients = arrays(dtype)
    expected = [by_formula(optimizer, w, [g[i] for g in gradients]) for i, w in enumerate(parameters)]
    update = optimizer.start(parameters)
    for g in gradients:
        assert update(g) is None
    for w, exact in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(w, exact, rtol=0, atol=error * max(1, np.abs(exact).max(initial=0)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_the_same_bits_on_every_instruction_set(optimizer, dtype):
    chosen = _core.isa()
    found = set()
    try:
        for isa in _core.available_isas():
            _core.set_isa(isa)
            parameters, gradients = arrays(dtype)
            update = optimizer.start(parameters)
            for g in gradients:
                update(g)
            found.add(b"".join(w.tobytes() for w in parameters))
    finally:
        _core.set_isa(chosen)
    assert len(found) == 1


@pytest.mark.parametrize("kind", [SGD(0.1), Momentum(0.1, 0.7)], ids=str)
def test_every_operation_rounds_by_itself(kind, each_isa):
    """The bits of NumPy's separate operations: no multiplication and addition were fused."""
    parameters, gradients = arrays("float32")
    expected = [w.copy() for w in parameters]
    velocity = [np.zeros_like(w) for w in parameters]
    rate, keep = np.float32(0.1), np.float32(0.7 if isinstance(kind, Momentum) else 0.0)
    update = kind.start(parameters)
    for step in gradients:
        update(step)
        for w, v, g in zip(expected, velocity, step, strict=True):
            v *= keep
            v += g
            w -= rate * v
    for w, e in zip(parameters, expected, strict=True):
        np.testing.assert_array_equal(w, e)


def test_nothing_is_written_beyond_an_array(each_isa):
    memory = np.full(64, 7.0, np.float32)
    for optimizer in OPTIMIZERS:
        for n in (1, 5, 13, 17):
            memory[...] = 7
            optimizer.start([memory[3 : 3 + n]])([np.ones(n, np.float32)])
            assert (memory[:3] == 7).all()
            assert (memory[3 + n :] == 7).all()
            assert (memory[3 : 3 + n] < 7).all()


def test_both_dtypes_in_one_optimizer():
    w = [np.ones(3), np.ones(5, np.float32)]
    SGD(0.5).start(w)([np.ones(3), np.ones(5, np.float32)])
    assert (w[0] == 0.5).all()
    assert (w[1] == 0.5).all()


def test_a_network_that_diverged_is_no_error():
    w = np.ones(20, np.float32)
    update = Adam(0.1).start([w])
    update([np.full(20, np.inf, np.float32)])
    assert np.isnan(w).all()
    w = np.ones(20, np.float32)
    update = Adam(0.1).start([w])
    update([np.zeros(20, np.float32)])
    assert (w == 1).all()
    update([np.full(20, 1e-30, np.float32)])
    assert np.isfinite(w).all()


def test_the_bias_correction_of_adam_fades():
    w = np.zeros(1)
    update = Adam(0.001, 0.5, 0.5).start([w])
    for _ in range(2000):
        update([np.ones(1)])
    assert w[0] == pytest.approx(-2.0, rel=1e-6)
    assert math.isfinite(w[0])


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (np.ones((1, 3)), TypeError, "parameters: expected a list of arrays, got ndarray"),
        ([[1.0]], TypeError, r"parameters\[0\]: expected an array of float32 or float64"),
        ([np.ones(3), np.ones(3, int)], TypeError, r"parameters\[1\]: expected an array of float32 or float64, got dtype"),
        ([np.ones((3, 4)).T], ValueError, r"parameters\[0\]: expected a writable, aligned, C-contiguous array"),
        ([np.broadcast_to(np.float64(1), (3,))], ValueError, r"parameters\[0\]: expected a writable, aligned, C-contiguous"),
    ],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_parameters_that_cannot_be_updated(optimizer, parameters, error, message):
    with pytest.raises(error, match=message):
        optimizer.start(parameters)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (SGD(1e39), "learning_rate: expected a number in the range of float32"),
        (Momentum(1e-60), "learning_rate: expected a number in the range of float32"),
        (Adam(epsilon=1e-44), r"epsilon \* sqrt\(1 - beta_2\): expected a number in the range of float32"),
    ],
    ids=str,
)
def test_rates_outside_the_range_of_the_parameters_dtype(optimizer, message):
    """They would round to infinity, which makes NaN of a gradient of 0, or to 0, which makes no step."""
    with pytest.raises(ValueError, match=message):
        optimizer.start([np.ones(3), np.ones(3, np.float32)])
    w = np.ones(3)
    optimizer.start([w])([np.zeros(3)])
    assert (w == 1).all()


def test_gradients_that_do_not_fit():
    w = [np.ones(3), np.ones(2, np.float32)]
    update = Momentum(0.1).start(w)
    for gradients, error, message in (
        ([np.ones(3)], ValueError, "gradients: expected 2 arrays, one a parameter, got 1"),
        (np.ones(3), TypeError, "gradients: expected a list of arrays, got ndarray"),
        ([np.ones(3), np.ones(2)], ValueError, r"gradients\[1\]: expected 2 numbers of float32"),
        ([np.ones(4), np.ones(2, np.float32)], ValueError, r"gradients\[0\]: expected 3 numbers of float64"),
        ([np.ones(3, int), np.ones(2, np.float32)], TypeError, r"gradients\[0\]: expected an array of float32 or float64"),
    ):
        with pytest.raises(error, match=message):
            update(gradients)
    assert (w[0] == 1).all()
    assert (w[1] == 1).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_gradients_held_open_are_the_same_steps(optimizer):
    found = []
    for hold in (list, _core.Held):
        w = [np.ones(3), np.ones((2, 2), np.float32)]
        update = optimizer.start(w)
        gradients = [np.ones(3), np.ones((2, 2), np.float32)]
        given = hold(gradients)
        for i in range(3):
            for g in gradients:
                g *= i + 0.5
            update(given)
        found.append(b"".join(a.tobytes() for a in w))
    assert found[0] == found[1]
    with pytest.raises(ValueError, match="gradients: expected 2 arrays, one a parameter, got 1"):
        update(_core.Held([np.ones(3)]))
