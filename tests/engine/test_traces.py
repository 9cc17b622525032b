"""Every number of a pass: what `layers_of` returns, histograms, percentiles, cosines of pre-activations, ratios of norms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastinit
from fastinit import Key, Stack

WIDTHS = (7, 33, 33, 33, 33, 5)
ACTIVATIONS = ("tanh", "relu", "gelu", "leaky_relu(0.3)", "linear")


def stack_of(dtype: str = "float32", **options) -> Stack:
    return Stack(
        WIDTHS, ACTIVATIONS, weights="he_normal", biases=fastinit.RandomNormal(0.0, 0.1), residual=2, alpha=0.5, key=Key(1),
        dtype=dtype, **options,
    )  # fmt: skip


def batch(rows: int = 19, dtype: str = "float32"):
    return fastinit.normal((rows, WIDTHS[0]), key=Key(2), dtype=dtype)


@pytest.mark.parametrize("virtual", [False, True])
def test_layers_of_gives_products_and_values(virtual: bool) -> None:
    """Against NumPy's products in float64 and the theory's activations, with residual blocks added by hand."""
    stack, x = stack_of("float64", virtual=virtual), batch(dtype="float64")
    found = stack.layers_of(x)
    values = [x]
    sources = {end: begin for begin, end in stack.residual_blocks}
    assert sources == {2: 1}
    for i, layer in enumerate(found):
        z = values[-1] @ stack.weights[i] + stack.biases[i]
        a = fastinit.theory.function(ACTIVATIONS[i])(z)
        if i in sources:
            a = values[sources[i]] + 0.5 * a
        assert np.abs(layer.pre_activation - z).max() < 1e-12
        assert np.abs(layer.activation - a).max() < 1e-12
        values.append(layer.activation)
    np.testing.assert_array_equal(found[-1].activation, stack.forward(x))


@pytest.mark.parametrize("rows", [0, 1, 8, 17, 100])
def test_traced_numbers_have_the_moments_of_the_report(rows: int) -> None:
    stack, x = stack_of(), batch(rows)
    report = stack.propagate(x, percentiles=[0, 100], histograms=5)
    for i, (layer, values) in enumerate(zip(report.layers, stack.layers_of(x), strict=True)):
        for name, moments in (("pre_activation", layer.pre_activation), ("activation", layer.activation)):
            numbers = getattr(values, name).astype(np.float64)
            assert numbers.shape == (rows, WIDTHS[i + 1])
            if rows:
                assert numbers.mean() == pytest.approx(moments.mean, abs=1e-6)
                assert numbers.std() == pytest.approx(moments.std, rel=1e-6)
        for name in ("pre_activation", "activation", "gradient"):
            counts, edges = report.histograms[name][i]
            assert len(counts) == len(edges) - 1 == 5
            assert counts.sum() == rows * WIDTHS[i + 1]
            if rows:
                moments = getattr(layer, name)
                assert list(report.percentiles[name][i]) == [moments.minimum, moments.maximum]
                assert (edges[0], edges[-1]) == (moments.minimum, moments.maximum) or moments.minimum == moments.maximum


def test_gradients_are_traced_with_respect_to_pre_activations() -> None:
    """In a stack without residual blocks, the bias gradient is the sum of them over the batch."""
    stack = Stack((5, 40, 40, 3), ("tanh", "gelu", "linear"), weights="lecun_normal", key=Key(3))
    x = fastinit.normal((1, 5), key=Key(4))
    report = stack.propagate(x, gradients=True, percentiles=np.linspace(0, 100, 40), histograms=[-1e3, 0.0, 1e3])
    for i, gradient in enumerate(report.bias_gradients[:2]):  # of one sample they are the same numbers
        np.testing.assert_array_equal(np.sort(gradient), report.percentiles["gradient"][i].astype(np.float32))
        assert report.histograms["gradient"][i][0][0] == (gradient < 0).sum()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_are_those_of_one_thread(threads: int) -> None:
    stack, x = stack_of(), batch(100)
    with fastinit.num_threads(1):
        expected = stack.layers_of(x), stack.propagate(x, pairs=[(0, 9), (3, 4)]).pre_activation_cosines
    with fastinit.num_threads(threads):
        found = stack.layers_of(x), stack.propagate(x, pairs=[(0, 9), (3, 4)]).pre_activation_cosines
    for one, other in zip(itertools.chain(*expected[0]), itertools.chain(*found[0]), strict=True):
        assert one.tobytes() == other.tobytes()
    assert expected[1].tobytes() == found[1].tobytes()


@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("depth", [1, 5, 30])
def test_pre_activation_cosines(virtual: bool, depth: int) -> None:
    stack = Stack([48] * (depth + 1), "relu", weights="he_normal", virtual=virtual, key=Key(5), dtype="float64")
    x = fastinit.normal((20, 48), key=Key(6), dtype="float64")
    found = stack.propagate(x, pairs=[(0, 1), (2, 2), (19, 3)]).pre_activation_cosines
    for row, values in zip(found, stack.layers_of(x), strict=True):
        z = values.pre_activation
        for k, (i, j) in enumerate([(0, 1), (2, 2), (19, 3)]):
            assert row[k] == pytest.approx(z[i] @ z[j] / np.sqrt((z[i] @ z[i]) * (z[j] @ z[j])), abs=1e-13)


def test_ratios_of_norms() -> None:
    stack, x = Stack((6, 9, 4), "tanh", weights=["he_normal", "zeros"], key=Key(7)), batch()[:, :6]
    report = stack.propagate(x, gradients=True, norms=True)
    norms = [np.linalg.norm(gradient.astype(np.float64)) for gradient in report.weight_gradients]
    assert report.weight_gradient_ratios[0] == pytest.approx(norms[0] / np.linalg.norm(stack.weights[0]), rel=1e-6)
    assert np.isnan(report.weight_gradient_ratios[1])
    assert stack.propagate(x, gradients=True).weight_gradient_ratios is None
    assert stack_of(virtual=True).propagate(batch(), norms=True).weight_gradient_ratios is None


def test_an_overflow_is_reported() -> None:
    """And with the gradient of a loss that is NaN for it."""
    stack = Stack([8] * 40, "relu", weights=fastinit.RandomNormal(0.0, 1e3), key=Key(8))
    x = fastinit.normal((4, 8), key=Key(9))
    report = stack.propagate(x, np.full((4, 8), np.nan), histograms=4, percentiles=[50])
    assert report.overflow is not None
    assert report.histograms["gradient"][-1][0].sum() == 0
    assert np.isnan(report.percentiles["gradient"][-1, 0])
    assert stack.propagate(x).overflow == report.overflow


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"histograms": 0}, ValueError, "histograms: expected an int >= 1, got 0"),
        ({"histograms": "ten"}, TypeError, "histograms: expected an int >= 1, got str 'ten'"),
        ({"histograms": [1.0, 0.0]}, ValueError, "histograms: expected a number of bins, or at least two edges that rise"),
        ({"histograms": [0.0]}, ValueError, "histograms: expected a number of bins, or at least two edges"),
        ({"percentiles": [101]}, ValueError, r"percentiles: expected numbers in \[0, 100\], got \[101\]"),
        ({"percentiles": 50}, ValueError, "percentiles: expected numbers in"),
        ({"percentiles": ["half"]}, TypeError, "percentiles: expected an array of real numbers"),
    ],
)
def test_bad_bins_and_percentiles(options, error, message) -> None:
    with pytest.raises(error, match=message):
        stack_of().propagate(batch(), **options)


# ---- an activation and an initializer for each layer -----------------------------------------------


def test_lists_are_the_same_as_one_for_all() -> None:
    one = Stack((5, 6, 7), "tanh", weights="he_normal", biases=fastinit.RandomNormal(), key=Key(10))
    many = Stack(
        (5, 6, 7), ["tanh", "tanh"], weights=["he_normal", fastinit.HeNormal()], biases=[fastinit.RandomNormal()] * 2, key=Key(10)
    )
    for a, b in zip(one.weights + one.biases, many.weights + many.biases, strict=True):
        assert a.tobytes() == b.tobytes()
    assert many.activations == ("tanh", "tanh")


def test_arrays_and_initializers_stand_in_one_list() -> None:
    given = np.eye(6, 7, dtype=np.float32)
    stack = Stack((5, 6, 7), "tanh", weights=["he_normal", given], biases=[np.ones(6), "zeros"], key=Key(11))
    given[:] = 0
    assert stack.weights[1].sum() == 6
    assert stack.biases[0].sum() == 6
    assert not stack.biases[1].any()


def test_a_virtual_stack_has_a_law_for_each_layer() -> None:
    weights = ["he_normal", fastinit.RandomUniform(-1.0, 1.0), "lecun_normal"]
    stored, virtual = (Stack((8, 9, 9, 3), "relu", weights=weights, key=Key(12), virtual=way) for way in (False, True))
    x = fastinit.normal((4, 8), key=Key(13))
    assert stored.forward(x).tobytes() == virtual.forward(x).tobytes()


@pytest.mark.parametrize(
    ("activation", "options", "error", "message"),
    [
        (["tanh"], {}, ValueError, "activation: expected 2 names, one a layer, got 1"),
        (["tanh", "nope"], {}, ValueError, r"activation\[1\]: expected one of"),
        (["tanh", 3], {}, TypeError, r"activation\[1\]: expected a str, got int 3"),
        (["tanh", "relu"], {"output_activation": "tanh"}, TypeError, "output_activation: expected none beside a list"),
        ("tanh", {"weights": ["zeros"]}, ValueError, "weights: expected 2 entries, one a layer, got 1"),
        ("tanh", {"weights": ["zeros", "nope"]}, ValueError, "nope"),
        ("tanh", {"weights": ["zeros", np.eye(2)], "virtual": True}, TypeError, r"weights\[1\]: expected an initializer"),
        ("tanh", {"weights": ["zeros", fastinit.HeNormal(seed=1)], "key": None}, ValueError, "weights: expected key= beside"),
    ],
)  # fmt: skip
def test_bad_lists(activation, options, error, message) -> None:
    with pytest.raises(error, match=message):
        Stack((5, 6, 7), activation, **{"key": Key(0), **options})


@pytest.mark.parametrize("names", [["tanh", "relu"], ("tanh", "tanh"), list(np.array(["tanh", "linear"]))])
def test_a_list_of_activations_has_a_repr_that_makes_the_stack_again(names) -> None:
    stack = Stack((5, 6, 7), names, key=Key(0))
    assert repr(stack) == f"Stack((5, 6, 7), {[str(name) for name in names]!r}, dtype='float32', key={Key(0)!r})"
    assert repr(eval(repr(stack), vars(fastinit))) == repr(stack)
    assert repr(Stack([2] * 51, ["tanh", "relu"] * 25, key=Key(0))).startswith("Stack(<50 layers>, '<tanh, relu>', dtype")


def test_a_list_of_activations_may_change_afterwards() -> None:
    names = ["tanh", "relu"]
    stack = Stack((5, 6, 7), names, key=Key(0))
    names[0] = "gelu"
    assert "['tanh', 'relu']" in repr(stack)


@pytest.mark.parametrize(
    "edges",
    [
        np.array([-100, 100], np.int8), np.array([0, 127], np.uint8), np.array([-6e4, 6e4], np.float16),
        np.array([-1.7e308, 1.7e308]),
    ],
)  # fmt: skip
def test_edges_of_any_dtype(edges) -> None:
    """Differences of small integers wrap around, and those of the largest numbers overflow."""
    found = stack_of().propagate(batch(), histograms=edges).histograms["pre_activation"][0]
    assert list(found[1]) == list(edges.astype(float))
    with pytest.raises(ValueError, match="at least two edges that rise"):
        stack_of().propagate(batch(), histograms=edges[::-1])


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e150, 1e307, 1.7e308])
def test_percentiles_and_histograms_of_any_size(size) -> None:
    """Interpolated between numbers whose difference is beyond float64."""
    stack = Stack((1, 1), "linear", weights="identity", dtype="float64", key=Key(0))
    report = stack.propagate([[-size], [size]], [[size], [-size]], percentiles=[0, 50, 100], histograms=2)
    for name in ("pre_activation", "gradient"):
        assert list(report.percentiles[name][0]) == [-size, 0, size]
        assert list(report.histograms[name][0][0]) == [1, 1]
