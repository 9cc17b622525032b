# SPDX-License-Identifier: BSD-3-Clause
"""A stack as an object: keys, copies, repr, pickles, and the arguments that it refuses."""

import copy
import pickle

import numpy as np
import pytest
from stack_cases import batch_of, network

from fastinit import HeNormal, Key, RandomNormal, Stack, get, normal, uniform

# ---- the object ------------------------------------------------------------------------------------


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


def test_parameters_and_cotangent_come_from_the_keys_children():
    key = Key(5)
    stack = Stack((3, 4, 2), "tanh", weights="he_normal", biases=RandomNormal(), key=key)
    for i, (fan_in, fan_out) in enumerate(((3, 4), (4, 2))):
        np.testing.assert_array_equal(stack.weights[i], get("he_normal")((fan_in, fan_out), key=key / f"{i}.weight"))
        np.testing.assert_array_equal(stack.biases[i], RandomNormal()((fan_out,), key=key / f"{i}.bias"))
    x = normal((6, 3), key=Key(1))
    drawn, given = stack.propagate(x), stack.propagate(x, normal((6, 2), key=key / "cotangent"))
    assert [layer.gradient for layer in drawn.layers] == [layer.gradient for layer in given.layers]


def test_given_arrays_are_copied_and_the_parameters_may_be_written():
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
    assert repr(stack) == f"Stack((3, 4, 2), 'tanh', output_activation='linear', dtype='float32', key={Key(0)!r})"
    one = Stack((3, 2), "tanh", output_activation="linear", key=Key(0))
    assert repr(one).startswith("Stack((3, 2), 'tanh', output_activation='linear', ")
    block = Stack((3, 3), "tanh", residual=1, alpha=0.5, virtual=True, key=Key(0))
    assert repr(block) == f"Stack((3, 3), 'tanh', dtype='float32', key={Key(0)!r}, residual=1, alpha=0.5, virtual=True)"
    assert repr(Stack((1,) * 10, "relu", key=Key(0))).startswith("Stack(<9 layers>, 'relu'")
    table = str(stack.propagate(np.ones((2, 3))))
    assert len(table.splitlines()) == 2 + 2


def test_the_printed_table_has_the_numbers_of_the_layers():
    report = Stack((3, 4, 2), "tanh", key=Key(0)).propagate(normal((6, 3), key=Key(1)))
    rows = str(report).splitlines()[-2:]
    for row, layer in zip(rows, report.layers, strict=True):
        shown = [float(cell) for cell in row.split()[1:7]]
        moments = (layer.pre_activation, layer.activation, layer.gradient)
        wanted = [v for m in moments for v in (m.mean, m.variance**0.5)]
        np.testing.assert_allclose(shown, wanted, rtol=1e-3)


def test_a_stack_can_be_pickled():
    stack, key = network((5, 6, 2), "tanh", "float32", name="pickle")
    x, _ = batch_of(stack, key, 8)
    expected = stack.forward(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stack)).forward(x), expected)


# ---- bad input -------------------------------------------------------------------------------------


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
        (((3, 2), "tanh"), {"weights": []}, ValueError, "weights: expected 1 entries, one a layer, got 0"),
        (((3, 2), "tanh"), {"weights": [np.ones((2, 3))]}, ValueError, r"weights\[0\]: expected shape \(3, 2\), got"),
        (((3, 2), "tanh"), {"weights": [np.full((3, 2), np.nan)]}, ValueError, r"weights\[0\]: expected no NaN, got 6"),
        (((3, 2), "tanh"), {"weights": [np.ones((3, 2), complex)]}, TypeError, r"weights\[0\]: expected an array of real"),
        (((3, 2), "tanh"), {"biases": [np.ones(3)]}, ValueError, r"biases\[0\]: expected shape \(2,\), got \(3,\)"),
        (((3, 2), "tanh"), {"weights": "glorot"}, ValueError, "glorot"),
        (((3, 2), "tanh"), {"key": 5}, TypeError, "key"),
        (((3, 2), "tanh"), {"biases": [None]}, TypeError, r"biases\[0\]: expected an array of real numbers, got dtype object"),
        (((3, 2), "tanh"), {"biases": [[[1], [2, 3]]]}, ValueError, r"biases\[0\]: expected an array, got a list that cannot"),
        (((3, 2), "tanh"), {"weights": lambda shape, dtype: "glorot"}, TypeError, "function: .* got a str"),
        (({3, 2}, "tanh"), {}, TypeError, "widths: expected a sequence of ints, got {"),
        (({3: 1, 2: 1}, "tanh"), {}, TypeError, "widths: expected a sequence of ints, got {"),
        (((3, 3), "tanh"), {"residual": 1, "alpha": 1e39}, ValueError, r"alpha: .* in the range of float32, got 1e\+39"),
        (((3, 3), "tanh"), {"weights": HeNormal(seed=3)}, ValueError, "weights: expected key= beside .*got seed=3 alone"),
        (((3, 3), "leaky_relu(1e39)"), {}, ValueError, "activation: slope: .* in the range of float32"),
        (((2, 1 << 62, 2), "tanh"), {"virtual": True}, ValueError, r"shape: expected at most 2\*\*58 elements"),
        (((3, 3), "tanh"), {"alpha": np.complex64(1)}, TypeError, "alpha: expected a real number, got complex64"),
        (((3, 3), "tanh"), {"alpha": 10**400}, ValueError, "alpha: expected a finite number"),
        (((3, 2), "tanh"), {"virtual": "no"}, TypeError, "virtual: expected a bool, got str 'no'"),
    ],
)  # fmt: skip
def test_bad_networks(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Stack(*arguments, **options)


@pytest.mark.parametrize(
    "text", ["leaky_relu(-1)", "leaky_relu(inf)", "leaky_relu(x)", "tanh(2)", "leaky_relu()", "leaky_relu(1"]
)
def test_parameters_of_activations_that_do_not_fit(text):
    with pytest.raises(ValueError, match="activation: expected"):
        Stack((3, 2), text)


@pytest.mark.parametrize(
    ("x", "dy", "error", "message"),
    [
        (np.ones(3), None, ValueError, r"x: expected shape \(batch, 3\), got \(3,\)"),
        (np.ones((2, 4)), None, ValueError, r"x: expected shape \(batch, 3\), got \(2, 4\)"),
        (np.full((2, 3), np.nan), None, ValueError, "x: expected no NaN, got 6"),
        (np.ones((2, 3), complex), None, TypeError, "x: expected an array of real numbers, got dtype complex128"),
        (np.array([["a"] * 3]), None, TypeError, "x: expected an array of real numbers"),
        ([[1, 2, 3], [1, 2]], None, ValueError, "x: expected an array, got a list that cannot be converted"),
        (np.ma.masked_equal(np.ones((2, 3)), 1), None, TypeError, "x: expected an array without a mask, got a MaskedArray"),
        (np.ones((2, 3)), np.ones((2, 3)), ValueError, r"dy: expected shape \(2, 2\), got \(2, 3\)"),
        (np.ones((2, 3)), np.ones((3, 2)), ValueError, r"dy: expected shape \(2, 2\), got \(3, 2\)"),
        (np.ones((2, 3)), np.ma.masked_equal(np.ones((2, 2)), 1), TypeError, "dy: expected an array without a mask"),
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


def test_masked_and_missing_parameters_are_refused():
    x = np.ones((1, 2))
    for dtype in ("float32", "float64"):
        stack = Stack((2, 2), "linear", key=Key(0))
        stack.weights[0] = np.ma.array(np.eye(2, dtype=dtype), mask=[[1, 0], [0, 0]])
        with pytest.raises(TypeError, match=r"weights\[0\]: expected an array without a mask"):
            stack.forward(x)
    stack = Stack((2, 2), "linear", key=Key(0))
    stack.biases[0] = None
    with pytest.raises(TypeError, match=r"biases\[0\]: expected an array of real numbers"):
        stack.forward(x)


def test_a_call_is_forward_in_a_subclass_too():
    class Doubled(Stack):
        def forward(self, x):
            return 2 * super().forward(x)

    stack, x = Doubled((2, 2), "linear", key=Key(0)), np.ones((1, 2))
    np.testing.assert_array_equal(stack(x), stack.forward(x))


def test_batches_beyond_any_memory_are_refused():
    stack = Stack((1, 1 << 57, 1), "tanh", virtual=True, key=Key(0))
    with pytest.raises(ValueError, match=r"x: expected at most 2\*\*44 numbers in all layers, got a batch of 128 in 1441"):
        stack.forward(np.ones((128, 1)))


def test_an_alpha_without_blocks_is_refused():
    Stack((3, 3), "tanh", alpha=1)
    with pytest.raises(ValueError, match=r"alpha: expected residual=.* got alpha=.* alone"):
        Stack((3, 3), "tanh", alpha=0.5)


def test_replaced_parameters_of_wrong_shapes_are_refused():
    stack = Stack((3, 2), "tanh", key=Key(0))
    stack.weights[0] = np.ones((4, 2), np.float32)
    with pytest.raises(ValueError, match=r"weights\[0\]: expected shape \(3, 2\), got \(4, 2\)"):
        stack.forward(np.ones((1, 3)))
    stack.weights[0] = np.ones((3, 2), np.float32)
    stack.biases[0] = np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"biases\[0\]: expected shape \(2,\), got \(1,\)"):
        stack.forward(np.ones((1, 3)))


@pytest.mark.parametrize("name", ["weights", "biases"])
def test_replaced_lists_of_wrong_types_and_lengths_are_refused(name):
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


@pytest.mark.parametrize("change", ["values", "array", "list", "bias", "strided"])
def test_parameters_changed_between_calls_are_used(change):
    """Though a stack keeps the arrays of its last call open."""
    stack, x = Stack((3, 2), "linear", key=Key(0)), np.arange(6.0).reshape(2, 3)
    first = stack.forward(x)
    other = np.arange(6, dtype=np.float32).reshape(3, 2)
    bias = np.zeros(2, np.float32)
    if change == "values":
        stack.weights[0][...] = other
    elif change == "array":
        stack.weights[0] = other
    elif change == "list":
        stack.weights = [other]
    elif change == "strided":
        stack.weights[0] = np.repeat(other, 2, axis=1)[:, ::2]
    else:
        other, bias = stack.weights[0], np.ones(2, np.float32)
        stack.biases[0] = bias
    expected = x.astype(np.float32) @ other + bias
    assert not np.array_equal(first, expected)
    for one in (stack, copy.deepcopy(stack)):
        np.testing.assert_allclose(one.forward(x), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["gradients", "norms"])
def test_options_of_propagate_are_bools(name):
    stack = Stack((3, 2), "tanh", key=Key(0))
    with pytest.raises(TypeError, match=f"{name}: expected a bool, got str 'no'"):
        stack.propagate(np.ones((1, 3)), **{name: "no"})
    stack.propagate(np.ones((1, 3)), **{name: np.True_})


@pytest.mark.parametrize(
    "name", ["widths", "activations", "dtype", "key", "depth", "alpha", "residual", "virtual", "activation", "output_activation"]
)
def test_options_cannot_change_after_construction(name):
    stack = Stack((3, 4, 2), "tanh", key=Key(0))
    with pytest.raises(AttributeError, match=f"{name}: expected no change after construction"):
        setattr(stack, name, getattr(stack, name, 2))
    assert pickle.loads(pickle.dumps(stack)).widths == (3, 4, 2)


def test_unknown_attributes_cannot_be_set():
    stack = Stack((3, 2), "tanh", key=Key(0))
    with pytest.raises(AttributeError, match="attributes weights and biases to be set, got 'actvations'"):
        stack.actvations = ("relu",)
    stack.weights, stack.biases = [np.zeros((3, 2))], [np.ones(2)]
    np.testing.assert_allclose(stack(np.ones((1, 3))), np.tanh(1), rtol=1e-6)
    recording = stack.record(np.ones((1, 3)))
    with pytest.raises(AttributeError, match="output: expected no change of a Recording; record again"):
        recording.output = np.ones((1, 2))

    class Named(Stack):  # a subclass may have attributes of its own
        def __init__(self):
            super().__init__((3, 2), "tanh", key=Key(0))
            self.name = "mine"

    named = Named()
    assert pickle.loads(pickle.dumps(stack)).widths == named.widths
    with pytest.raises(AttributeError, match="alpha: expected no change after construction"):
        named.alpha = 2
