# SPDX-License-Identifier: BSD-3-Clause
"""The bits of passes: the same for every instruction set, number of threads, batch and call; and their golden hashes."""

import concurrent.futures
import hashlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from golden_stack import golden_lines
from stack_cases import DTYPES, batch_of, everything, network

from fastinit import Recorder, Stack, _core, num_threads

ISAS = _core.available_isas()
VECTORS = Path(__file__).parents[1] / "vectors" / "stack.txt"


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
        alone = stack.propagate(x[begin:end], dy[begin:end], gradients=True)
        np.testing.assert_array_equal(alone.output, whole.output[begin:end])
        np.testing.assert_array_equal(alone.input_gradient, whole.input_gradient[begin:end])
    # Samples whose gradient is 0 add exact zeros to the sums over the batch.
    dy = dy.copy()
    dy[20:] = 0
    first, all_of_them = stack.backward(x[:20], dy[:20]), stack.backward(x, dy)
    for a, b in zip(
        first.weights + first.biases, all_of_them.weights + all_of_them.biases, strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_other_results_do_not_change_a_results_bits(each_isa):
    """Outputs, statistics and gradients are the same whichever of them a call wants."""
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


def test_the_sign_of_an_extreme_that_is_zero(restored_isa):
    """A minimum or maximum of 0 is +0: 0 and -0 are equal, and which of them comes first depends on lanes and slices."""
    stack = Stack((40, 40), "silu", weights=[np.eye(40)])
    for others, which in ((5.0, "minimum"), (-5.0, "maximum")):
        x = np.full((4096, 40), others)
        x[0, 1], x[0, 8], x[0, 16], x[-1, 0] = -1e30, 0.0, 0.0, 0.0  # silu(-1e30) is -0
        for isa in ISAS:
            _core.set_isa(isa)
            for threads in (1, 2, 3, 7):
                with num_threads(threads):
                    zero = getattr(stack.propagate(x).layers[0].activation, which)
                    assert zero == 0
                    assert math.copysign(1, zero) == 1, (which, isa, threads)


def test_a_pass_goes_back_by_the_instruction_set_that_it_went_forward_by(restored_isa):
    """The workspace is laid out for that one. The bits are the same for all."""
    stack, key = network((5, 40, 3), "tanh", "float32")
    x, dy = batch_of(stack, key, 9)
    expected = [g.copy() for g in stack.backward(x, dy).weights]
    recorder = Recorder(stack, 9)
    for isa, other in itertools.permutations(ISAS, 2):
        _core.set_isa(isa)
        recording = stack.record(x)
        recorder.forward(x)
        _core.set_isa(other)
        recorder.backward(dy)
        for gradients in (recording.backward(dy).weights, recorder.weight_gradients):
            for g, wanted in zip(gradients, expected, strict=True):
                assert g.tobytes() == wanted.tobytes()


def test_golden_hashes(each_isa):
    expected = [line for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
    assert list(golden_lines()) == expected
