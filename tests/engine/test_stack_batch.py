# SPDX-License-Identifier: BSD-3-Clause
"""Norms of weight gradients, and cosines between samples of a batch."""

import hashlib
import math

import numpy as np
import pytest
import stack_reference as reference
from stack_cases import DTYPES, batch_of, network

import fastinit
from fastinit import Key, Stack, _core, normal, num_threads, theory
from fastinit._engine.passes import passes_of

ISAS = _core.available_isas()
PAIRS = [(0, 1), (3, 30), (36, 2), (7, 7)]


def signals(stack, x, dy, residual=0, alpha=1.0):
    """Activations and gradients with respect to the pre-activations, in float64, layer by layer.

    `residual` layers make a block, if all are of one width; 0: none.
    """
    a, derivatives = [np.asarray(x, float)], []
    ends = {i for i in range(stack.depth) if residual and (i + 1) % residual == 0}
    for i, (w, b, name) in enumerate(zip(stack.weights, stack.biases, stack.activations, strict=True)):
        phi, derivative = reference.ACTIVATIONS[name]
        z = a[-1] @ np.asarray(w, float) + (0 if b is None else np.asarray(b, float))
        a.append(a[i + 1 - residual] + alpha * phi(z) if i in ends else phi(z))
        derivatives.append(derivative(z) * (alpha if i in ends else 1))
    upper, deltas, skipped = np.asarray(dy, float), [], 0
    for i in reversed(range(stack.depth)):
        if i in ends:
            skipped = upper
        deltas.insert(0, upper * derivatives[i])
        upper = deltas[0] @ np.asarray(stack.weights[i], float).T
        if residual and i % residual == 0 and i + residual <= stack.depth:
            upper = upper + skipped
    return a, deltas


def cosine(rows, i, j):
    return float(rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]))


def agree(found, a, deltas, limit):
    """Norms and cosines with those of the reference."""
    for layer, (inputs, delta) in enumerate(zip(a, deltas, strict=False)):
        expected = np.linalg.norm(inputs.T @ delta)
        # of |A|^2 |D|^2, as the Gram matrices add such terms; the gradient itself is closer
        room = limit * np.linalg.norm(inputs) ** 2 * np.linalg.norm(delta) ** 2
        assert found.weight_gradient_norms[layer] ** 2 == pytest.approx(expected**2, abs=room)
        for k, (i, j) in enumerate(PAIRS):
            assert found.activation_cosines[layer, k] == pytest.approx(cosine(a[layer + 1], i, j), abs=limit)
            assert found.gradient_cosines[layer, k] == pytest.approx(cosine(delta, i, j), abs=limit)
        assert found.activation_cosines[layer, 3] == found.gradient_cosines[layer, 3] == 1


# Widths below and above the batch of 37: norms from gradients and from Gram matrices, in panels of every size.
WIDTHS = (70, 65, 33, 90, 130, 7)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "sigmoid"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_the_reference(dtype, activation, each_isa):
    stack, key = network(WIDTHS, activation, dtype, name="batch")
    x, dy = batch_of(stack, key, 37)
    a, deltas = signals(stack, x, dy)
    limit = 1e-6 if dtype == "float32" else 2e-15  # seen: 2.4e-7 and 5e-16
    for gradients in (False, True):
        found = stack.propagate(x, dy, gradients=gradients, norms=True, pairs=PAIRS)
        assert found.activation_cosines.shape == found.gradient_cosines.shape == (5, 4)
        agree(found, a, deltas, limit)
    for norm, g in zip(found.weight_gradient_norms, found.weight_gradients, strict=True):
        assert norm == pytest.approx(np.linalg.norm(g.astype(float)), rel=1e-14)
    assert found.layers == stack.propagate(x, dy).layers


def norms_and_cosines(found):
    return b"".join(
        np.ascontiguousarray(a).tobytes()
        for a in (found.weight_gradient_norms, found.activation_cosines, found.gradient_cosines)
    )


@pytest.mark.parametrize("activation", ["relu", "softplus"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_depend_on_no_instruction_set_and_no_threads(dtype, activation, restored_isa):
    stack, key = network((70, 257, 130, 97, 10), activation, dtype, name="bits")
    x, dy = batch_of(stack, key, 131)
    pairs = [(0, 130), (64, 65)]
    seen = {True: set(), False: set()}
    for isa in ISAS:
        _core.set_isa(isa)
        for threads in (1, 2, 3, 7):
            with num_threads(threads):
                for gradients, hashes in seen.items():
                    found = stack.propagate(x, dy, gradients=gradients, norms=True, pairs=pairs)
                    hashes.add(hashlib.sha256(norms_and_cosines(found)).hexdigest())
    assert [len(hashes) for hashes in seen.values()] == [1, 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [0, 1, 7, 8, 9, 16, 17])
def test_a_small_batch_has_the_bits_of_a_large_one(batch, dtype, each_isa):
    """Though it reads weights and writes gradients in another order, with more workers than slices of the batch."""
    stack, key = network((310, 333, 250, 9, 70, 33), "tanh", dtype, name="few")
    x, dy = batch_of(stack, key, 40)
    many, few = stack.propagate(x, dy, gradients=True), []
    for threads in (1, 2, 7):
        with num_threads(threads):
            few.append(stack.propagate(x[:batch], dy[:batch], gradients=True))
    np.testing.assert_array_equal(few[0].output, many.output[:batch])
    np.testing.assert_array_equal(few[0].input_gradient, many.input_gradient[:batch])
    a, deltas = signals(stack, x[:batch], dy[:batch])
    limit = 3e-5 if dtype == "float32" else 1e-13
    for inputs, delta, found in zip(a, deltas, few[0].weight_gradients, strict=False):
        np.testing.assert_allclose(found, inputs.T @ delta, rtol=0, atol=limit * max(1.0, np.abs(inputs.T @ delta).max()))
    for found in few[1:]:
        for one, other in zip(found.weight_gradients, few[0].weight_gradients, strict=True):
            np.testing.assert_array_equal(one, other)
        assert found.weight_gradient_norms.tobytes() == few[0].weight_gradient_norms.tobytes()
        assert repr(found.layers) == repr(few[0].layers)


def test_golden_hashes(each_isa):
    """Norms and cosines of a residual stack, without gradients and with them, stored and virtual."""
    expected = {
        "float32": ("1b30a0c37d1735f4c64fa6dbe0e78769", "eb5ca36de4aa36ca3c81e8679075dd9d"),
        "float64": ("d671975107d52efbbdd04a093406b351", "6a01f3bb42473fbfd2c927eb1ece788c"),
    }
    for dtype, hashes in expected.items():
        options = {"residual": 2, "alpha": 0.5, "weights": "glorot_normal", "key": Key(9), "dtype": dtype}
        stack = Stack((40,) * 8, "tanh", **options)
        x, dy = batch_of(stack, Key(9), 37)
        virtual = Stack((40,) * 8, "tanh", virtual=True, **options)
        found = [
            stack.propagate(x, dy, norms=True, pairs=PAIRS),
            stack.propagate(x, dy, gradients=True, pairs=PAIRS),
            virtual.propagate(x, dy, norms=True, pairs=PAIRS),
        ]
        short = [hashlib.sha256(norms_and_cosines(one)).hexdigest()[:32] for one in found]
        assert tuple(short) == (*hashes, hashes[0])


# ---- virtual stacks and residual blocks ---------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("residual", [None, 1, 2, 5, 20])
def test_virtual_stacks_have_the_bits_of_stored_ones(residual, activation, each_isa):
    """Also with residual blocks. The threads wait for one another at the end of each segment between checkpoints."""
    options = {"weights": "glorot_normal", "key": Key(3)}
    if residual:
        options |= {"residual": residual, "alpha": 0.25}
    for depth in (1, 2, 3, 7, 20, 23):
        if depth < (residual or 0):
            continue
        stored = Stack((40,) * (depth + 1), activation, **options)
        virtual = Stack((40,) * (depth + 1), activation, virtual=True, **options)
        x, dy = batch_of(stored, Key(5), 37)
        expected = stored.propagate(x, dy, norms=True, pairs=PAIRS)
        if activation == "tanh":
            agree(expected, *signals(stored, x, dy, residual or 0, 0.25), 2e-6)
        for threads in (1, 2, 3):
            with num_threads(threads):
                found = virtual.propagate(x, dy, norms=True, pairs=PAIRS)
                plain = virtual.propagate(x, dy)
                output = virtual.forward(x)
            assert norms_and_cosines(found) == norms_and_cosines(expected)
            for one in (found, plain):
                np.testing.assert_array_equal(one.output, expected.output)
                assert one.layers == expected.layers
            np.testing.assert_array_equal(output, expected.output)


@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_threads_wait_within_a_long_segment(activation):
    """A segment has some 25 layers, and gradients are kept for 16."""
    options = {"weights": "lecun_normal", "key": Key(3)}
    stored = Stack((16,) * 601, activation, **options)
    x, dy = batch_of(stored, Key(5), 37)
    expected = stored.propagate(x, dy, norms=True, pairs=PAIRS)
    for threads in (1, 3):
        with num_threads(threads):
            found = Stack((16,) * 601, activation, virtual=True, **options).propagate(x, dy, norms=True, pairs=PAIRS)
        assert norms_and_cosines(found) == norms_and_cosines(expected)
        assert found.layers == expected.layers


def test_a_deep_virtual_residual_stack_needs_little_memory():
    """Of 1,000 layers of 64 KiB it keeps four forward, and backward the checkpoints and one segment."""
    layer, others = 64 * 256 * 4, 1000 * 2000
    stack = Stack((64,) * 1001, "relu", residual=2, virtual=True, weights="he_normal", key=Key(0))
    x = normal((256, 64), key=Key(1))
    stack.forward(x)
    (workspace,) = passes_of(stack)._workspaces
    assert len(workspace) < 4 * layer + others
    with num_threads(1):
        stack.propagate(x, norms=True, pairs=[(0, 1)])
    (workspace,) = passes_of(stack)._workspaces
    # sqrt(3 * 1000) checkpoints; values, pre-activations and derivatives of a segment; gradients; moments and squares.
    assert len(workspace) < (56 + 3 * 20 + 20) * layer + 2 * others


def test_more_workers_than_slices_of_the_batch():
    """The pass is large enough for eight workers, but a batch of 24 has slices for three."""
    stack = Stack((300,) * 12, "tanh", virtual=True, weights="glorot_normal", key=Key(0))
    x, dy = batch_of(stack, Key(1), 24)
    expected = norms_and_cosines(stack.propagate(x, dy, norms=True, pairs=[(0, 23)]))
    with num_threads(8):
        for _ in range(20):
            assert norms_and_cosines(stack.propagate(x, dy, norms=True, pairs=[(0, 23)])) == expected


# ---- the theory ---------------------------------------------------------------------------------


def predicted(activation, c, q, variance, depth):
    """Cosines of activations and of gradients by layer, from the correlation c of the first pre-activations.

    Without biases the cosine of activations is the correlation of the next pre-activations. That of gradients which begin equal
    falls, backward, by the derivative of the map over chi_1. ReLU's map is the arc-cosine kernel of Cho & Saul (2009).
    """
    if activation == "relu":
        after = lambda c: (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi  # noqa: E731
        falls = lambda c: 1 - math.acos(c) / math.pi  # noqa: E731
    else:
        after = lambda c: theory.correlation_map(activation, c, q, variance)  # noqa: E731
        chi = theory.chi_1(activation, q, variance)
        falls = lambda c: theory.correlation_slope(activation, c, q, variance) / chi  # noqa: E731
    correlations = [c]
    for _ in range(depth):
        correlations.append(after(correlations[-1]))
    gradients = np.cumprod([falls(c) for c in reversed(correlations[:-1])])[::-1]
    return np.array(correlations[1:]), gradients


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_cosines_follow_the_mean_field_map(activation):
    """The mean of 24 networks of width 512, within five of its standard errors, which are at most 0.016.

    By Student's distribution of 23 degrees of freedom and 24 comparisons, a false alarm is below 2e-3.
    """
    width, depth, networks, c = 512, 6, 24, 0.6
    variance = 2.0 if activation == "relu" else 1.7
    q = theory.fixed_point(activation, variance) if activation == "tanh" else 1.0
    scale = math.sqrt(variance / width)
    seen = []
    for i in range(networks):
        key = Key(3) / f"{activation}{i}"
        # Pre-activations of the first layer: exactly of mean square q and correlation c.
        first, second = fastinit.Orthogonal()((2, width), key=key / "x", dtype="float64") * math.sqrt(width * q)
        x = np.array([first, c * first + math.sqrt(1 - c * c) * second])
        weights = [fastinit.Orthogonal()((width, width), key=key / "turn")]
        weights += [scale * normal((width, width), key=key / layer) for layer in range(1, depth)]
        stack = Stack((width,) * (depth + 1), activation, weights=weights, key=key)
        dy = np.repeat(normal((1, width), key=key / "dy"), 2, axis=0)
        found = stack.propagate(x, dy, pairs=[(0, 1)])
        seen.append((found.activation_cosines[:, 0], found.gradient_cosines[:, 0]))
    mean, error = np.mean(seen, axis=0), np.std(seen, axis=0, ddof=1) / math.sqrt(networks)
    assert error.max() < 0.02
    expected = np.array(predicted(activation, c, q, variance, depth))
    assert np.ptp(expected, axis=1).min() > 0.05
    assert (np.abs(mean - expected) < 5 * error).all(), (mean - expected) / error


# ---- the edges ----------------------------------------------------------------------------------


def test_results_that_were_not_asked_for_are_none():
    stack, key = network((5, 4), "tanh", "float32")
    x, dy = batch_of(stack, key, 3)
    found = stack.propagate(x, dy)
    assert found.weight_gradient_norms is found.activation_cosines is found.gradient_cosines is None
    assert stack.propagate(x, dy, gradients=True).weight_gradient_norms.shape == (1,)
    assert stack.propagate(x, dy, pairs=[]).gradient_cosines.shape == (1, 0)


def test_one_sample_of_one_unit(each_isa):
    stack = Stack((1, 1), "linear", weights=[np.full((1, 1), 3.0)], key=Key(0))
    for gradients in (False, True):
        found = stack.propagate([[2.0]], [[-5.0]], gradients=gradients, norms=True, pairs=[(0, 0)])
        np.testing.assert_array_equal(found.weight_gradient_norms, [10])
        np.testing.assert_array_equal(found.activation_cosines, [[1]])
        np.testing.assert_array_equal(found.gradient_cosines, [[1]])
    two = stack.propagate([[2.0], [-1.0]], [[-5.0], [-7.0]], norms=True, pairs=[(0, 1)])
    np.testing.assert_array_equal(two.weight_gradient_norms, [3])
    np.testing.assert_array_equal(two.activation_cosines, [[-1]])
    np.testing.assert_array_equal(two.gradient_cosines, [[1]])


@pytest.mark.parametrize("virtual", [False, True])
def test_an_empty_batch_and_no_layers(virtual):
    stack = Stack((3, 40, 2), "relu", virtual=virtual, key=Key(0))
    found = stack.propagate(np.zeros((0, 3)), np.zeros((0, 2)), norms=True, pairs=[])
    np.testing.assert_array_equal(found.weight_gradient_norms, [0, 0])
    assert found.activation_cosines.shape == (2, 0)
    none = Stack((3,), "relu", virtual=virtual, key=Key(0)).propagate(np.ones((2, 3)), norms=True, pairs=[(0, 1)])
    assert none.weight_gradient_norms.shape == (0,)
    assert none.gradient_cosines.shape == (0, 1)


@pytest.mark.parametrize(("dtype", "low", "high"), [("float32", -90, 60), ("float64", -1000, 500)])
def test_gradients_far_from_one(dtype, low, high, each_isa):
    """Their squares overflow or underflow in the dtype, their norms do not."""
    stack, key = network((50, 60, 70), "linear", dtype, name="far")
    x, dy = batch_of(stack, key, 9)
    near = stack.propagate(x, dy, norms=True, pairs=[(0, 1)])
    expected = near.weight_gradient_norms
    for exponent in (low, high):
        scaled = dy * np.asarray(2.0**exponent, dtype)
        far = stack.propagate(x, scaled, norms=True, pairs=[(0, 1)])
        np.testing.assert_array_equal(far.gradient_cosines, near.gradient_cosines)
        found = far.weight_gradient_norms
        np.testing.assert_array_equal(found, expected * 2.0**exponent)
        if dtype == "float32":
            full = stack.propagate(x, scaled, gradients=True).weight_gradient_norms
            np.testing.assert_allclose(full, found, rtol=1e-6)
        large = x * np.asarray(2.0**exponent, dtype)
        found = stack.propagate(large, dy, norms=True).weight_gradient_norms
        assert found[0] == expected[0] * 2.0**exponent


def test_an_overflow_shows(each_isa):
    stack = Stack((40,) * 4, "linear", weights=[np.eye(40) * 1e10] * 3, key=Key(0))
    x, dy = np.full((9, 40), 1e30), np.full((9, 40), 1e-20)
    for gradients in (False, True):
        found = stack.propagate(x, dy, gradients=gradients, norms=True, pairs=[(0, 1)])
        assert found.overflow == 0
        assert math.isfinite(found.weight_gradient_norms[0])
        assert not np.isfinite(found.weight_gradient_norms[1:]).any()
        assert np.isnan(found.activation_cosines).all()
        np.testing.assert_array_equal(found.gradient_cosines, 1)


def test_a_vector_of_zeros_has_no_cosine(each_isa):
    stack = Stack((3, 40), "relu", weights="he_normal", key=Key(0))
    found = stack.propagate([[0, 0, 0], [1, 2, 3]], np.ones((2, 40)), pairs=[(0, 1), (1, 1)])
    assert math.isnan(found.activation_cosines[0, 0])
    assert math.isnan(found.gradient_cosines[0, 0])
    assert found.activation_cosines[0, 1] == found.gradient_cosines[0, 1] == 1


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([(0, 3)], ValueError),
        ([(-1, 0)], ValueError),
        ([(0, 1, 2)], ValueError),
        ([()], ValueError),
        ([(0, 1.0)], TypeError),
        ([(True, 0)], TypeError),
        ([0, 1], TypeError),
        (7, TypeError),
        ("01", TypeError),
    ],
)
def test_bad_pairs(pairs, error):
    stack = Stack((3, 2), "tanh", key=Key(0))
    with pytest.raises(error, match=r"pairs: expected pairs \(i, j\) of ints, 0 <= i, j < 3, got"):
        stack.propagate(np.ones((3, 3)), pairs=pairs)
