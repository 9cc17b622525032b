# SPDX-License-Identifier: BSD-3-Clause
"""What a stack keeps between calls, and what is the caller's alone: gradients are never written over, a large batch is let go."""

import numpy as np
import pytest
from stack_cases import batch_of, network

from fastinit import Key, Recorder, Stack, mean_squared_error, normal, num_threads, softmax_cross_entropy
from fastinit._engine.gradient_memory import GradientLayout
from fastinit._engine.passes import passes_of

BATCH = 9


@pytest.fixture
def case():
    stack, key = network((8, 16, 16, 4), "tanh", "float32", name="memory")
    return stack, *batch_of(stack, key, BATCH)


def full(stack, x, dy):
    return stack.propagate(x, dy, gradients=True)


HOLDERS = {
    "the result": lambda found: found,
    "a weight gradient": lambda found: found.weight_gradients[1],
    "a bias gradient": lambda found: found.bias_gradients[0],
    "the input's gradient": lambda found: found.input_gradient,
    "a view of a view": lambda found: found.weight_gradients[0][2:].T,
    "a memoryview": lambda found: memoryview(found.weight_gradients[0]),
    "an iterator": lambda found: found.weight_gradients[0].flat,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_held_gradients_stay(case, holder):
    stack, x, dy = case
    held = HOLDERS[holder](full(stack, x, dy))
    twin = HOLDERS[holder](full(*_twin(case)))
    for _ in range(3):
        full(stack, 2 * x, dy)
        stack.backward(3 * x, dy)
    arrays = [held.weight_gradients if holder == "the result" else [held] for held in (held, twin)]
    for a, b in zip(*arrays, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def _twin(case):
    """The same network and batch in memory of their own."""
    stack, key = network((8, 16, 16, 4), "tanh", "float32", name="memory")
    return stack, *batch_of(stack, key, BATCH)


def test_a_recording_keeps_its_memory(case):
    stack, x, dy = case
    expected = [w.copy() for w in stack.backward(x, dy).weights]
    recording = stack.record(x)
    full(stack, 2 * x, dy)
    found = recording.backward(dy)
    full(stack, 2 * x, dy)
    for a, b in zip(found.weights, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_results_do_not_depend_on_what_was_there(case):
    stack, x, dy = case
    clean = [g.copy() for g in full(*_twin(case)).weight_gradients]
    full(stack, x, dy).weight_gradients[0].base[...] = 0xFF  # NaN everywhere
    for threads in (1, 2, 3):
        with num_threads(threads):
            found = full(stack, x, dy)
        for a, b in zip(found.weight_gradients, clean, strict=True):
            np.testing.assert_array_equal(a, b)
        del found, a


def unaligned(array):
    """A copy one byte off."""
    found = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    found[...] = array
    assert not found.flags.aligned
    return found


def test_unaligned_arrays_are_taken(case):
    stack, x, dy = case
    expected = [a.tobytes() for a in (stack.forward(x), *stack.backward(x, dy).weights)]
    stack.weights[1] = unaligned(stack.weights[1])
    stack.biases[0] = unaligned(stack.biases[0])
    x, dy = unaligned(x), unaligned(dy)
    assert [a.tobytes() for a in (stack.forward(x), *stack.backward(x, dy).weights)] == expected
    with pytest.raises(ValueError, match=r"stack.weights\[1\]: expected an aligned C-contiguous array of float32"):
        Recorder(stack, 1)
    for loss, targets in ((softmax_cross_entropy, np.arange(3)), (mean_squared_error, np.ones((3, 4)))):
        outputs = normal((3, 4), key=Key(2))
        for a, b in zip(loss(unaligned(outputs), unaligned(targets)), loss(outputs, targets), strict=True):
            np.testing.assert_array_equal(a, b)


def test_results_compare_by_identity(case):
    """They hold arrays, whose equality is no truth value."""
    stack, x, dy = case
    one, other = full(stack, x, dy), full(stack, x, dy)
    assert one == one
    assert one != other
    assert len({one, other}) == 2
    assert one.layers == other.layers
    gradients = stack.backward(x, dy)
    assert gradients == gradients
    assert gradients != stack.backward(x, dy)


def test_gradients_never_leave_their_buffer():
    """Where somebody puts another layout in the place of the stack's: refused before anything is written."""
    stack = Stack((3, 4000, 2), "tanh", key=Key(0))
    passes_of(stack).gradients = GradientLayout((3, 4, 2), "float32")
    with pytest.raises(ValueError, match="gradients: expected all of them inside their buffer"):
        stack.backward(np.ones((5, 3)), np.ones((5, 2)))


def test_one_large_batch_does_not_hold_its_memory():
    stack, key = network((256, 256, 256), "tanh", "float32", name="memory")
    x, dy = batch_of(stack, key, 4096)
    stack.propagate(x, dy)
    large = len(passes_of(stack)._workspaces[0])
    assert large > 16 << 20
    stack.propagate(x[:1000], dy[:1000])  # fresh memory costs time: what is not far too large is used again
    assert [len(memory) for memory in passes_of(stack)._workspaces] == [large]
    expected = stack.forward(x[:5])
    assert len(passes_of(stack)._workspaces) == 1
    assert len(passes_of(stack)._workspaces[0]) < large // 4
    np.testing.assert_array_equal(stack.forward(x)[:5], expected)
