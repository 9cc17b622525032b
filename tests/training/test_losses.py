# SPDX-License-Identifier: BSD-3-Clause
"""Losses against exact values, within their stated errors; the same bits on every instruction set."""

import numpy as np
import pytest

from fastinit import Key, _core, mean_squared_error, normal, softmax_cross_entropy, uniform

mpmath = pytest.importorskip("mpmath")

CLASSES = [1, 2, 7, 8, 9, 10, 17, 64]


def batch(rows, classes, scale=1.0, dtype="float64"):
    outputs = normal((rows, classes), key=Key(classes) / rows, dtype="float64") * scale
    labels = (uniform(rows, key=Key(7), dtype="float64") * classes).astype(int)
    return outputs.astype(dtype), labels


def exact_cross_entropy(outputs, probabilities):
    """Loss and gradient in 50 digits; `probabilities` of each class."""
    with mpmath.workdps(50):
        n, loss, gradient = len(outputs), mpmath.mpf(0), []
        for row, target in zip(outputs, probabilities, strict=True):
            e = [mpmath.exp(mpmath.mpf(float(x)) - mpmath.mpf(float(max(row)))) for x in row]
            total, whole = mpmath.fsum(e), mpmath.fsum(map(float, target))
            loss -= mpmath.fsum(float(s) * mpmath.log(a / total) for s, a in zip(target, e, strict=True) if s)
            gradient.append([float((a / total * whole - float(s)) / n) for s, a in zip(target, e, strict=True)])
        return float(loss / n), np.array(gradient)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("classes", CLASSES)
def test_cross_entropy_within_its_stated_errors(classes, scale, each_isa):
    outputs, labels = batch(11, classes, scale)
    span = max(1.0, float(np.ptp(outputs, axis=1).max()))
    probabilities = np.abs(normal((11, classes), key=Key(3), dtype="float64"))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    for targets, rows in ((labels, np.eye(classes)[labels]), (probabilities, probabilities)):
        value, gradient = softmax_cross_entropy(outputs, targets)
        loss, exact = exact_cross_entropy(outputs, rows)
        assert abs(value - loss) <= 2**-49 * span
        assert np.abs(gradient - exact).max() <= 2**-50 / 11
        assert value >= 0


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 33])
def test_a_gradient_in_float32_is_rounded_once(rows, each_isa):
    outputs, labels = batch(rows, 10, 3.0, "float32")
    value, gradient = softmax_cross_entropy(outputs, labels)
    wide = softmax_cross_entropy(outputs.astype(np.float64), labels)
    assert value == wide[0]
    np.testing.assert_array_equal(gradient, wide[1].astype(np.float32))


def test_the_same_bits_on_every_instruction_set():
    chosen = _core.isa()
    found = set()
    try:
        for isa in _core.available_isas():
            _core.set_isa(isa)
            bits = b""
            for classes in CLASSES:
                for dtype in ("float32", "float64"):
                    outputs, labels = batch(13, classes, 5.0, dtype)
                    for loss, targets in (
                        (softmax_cross_entropy, labels),
                        (softmax_cross_entropy, np.full((13, classes), 1 / classes)),
                        (mean_squared_error, np.ones((13, classes))),
                    ):
                        value, gradient = loss(outputs, targets)
                        bits += np.float64(value).tobytes() + gradient.tobytes()
            found.add(bits)
    finally:
        _core.set_isa(chosen)
    assert len(found) == 1


def test_equal_logits_have_equal_gradients(each_isa):
    outputs = np.tile(normal((6, 1), key=Key(0), dtype="float32"), (1, 23))
    gradient = softmax_cross_entropy(outputs, np.zeros(6, int))[1]
    assert (gradient[:, 1:] == gradient[:, 1:2]).all()


def test_logits_without_bounds(each_isa):
    inf, nan = np.inf, np.nan
    for row, label, loss, gradient in (
        ([0.0, -inf], 0, 0.0, [0, 0]),
        ([0.0, -inf], 1, inf, [1, -1]),
        ([1e308, -1e308], 1, inf, [1, -1]),
        ([-1e308, 0.0, 0.0], 1, np.log(2), [0, -0.5, 0.5]),
        ([inf, 0.0], 0, nan, [nan, nan]),
        ([nan, 0.0], 1, nan, [nan, nan]),
        ([-inf, -inf], 0, nan, [nan, nan]),
    ):
        value, found = softmax_cross_entropy(np.array([row]), np.array([label]))
        np.testing.assert_allclose(value, loss, rtol=1e-15)
        np.testing.assert_allclose(found, [gradient], rtol=1e-15)
    # An impossible class of probability 0 adds nothing. A row with a NaN makes the value NaN, and no other row's gradient.
    value, _ = softmax_cross_entropy(np.array([[0.0, -inf]]), np.array([[1.0, 0.0]]))
    assert value == 0
    value, gradient = softmax_cross_entropy(np.array([[nan, 0.0], [1.0, 2.0]]), np.array([0, 1]))
    assert np.isnan(value)
    assert np.isfinite(gradient[1]).all()


def test_number_of_correct_rows():
    outputs = np.array([[0, 2, 2], [1, 0, 0], [0, np.nan, 5], [3, 4, 5]], np.float32)
    gradient = np.empty_like(outputs)
    labels = np.array([1, 0, 1, 1], np.int64)
    assert outputs.argmax(axis=1).tolist() == [1, 0, 1, 2]
    assert _core.CrossEntropy(0, 4, 3, outputs, labels, None, gradient)()[1] == 2  # none for the row with a NaN
    probabilities = np.array([[0, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0.25, 0.25, 0.5]])
    assert _core.CrossEntropy(0, 4, 3, outputs, None, probabilities, gradient)()[1] == 3


def test_number_of_correct_rows_with_many_ties(each_isa):
    """As NumPy's argmax says: the first of the largest, but for rows with a NaN; 5 values in 6 classes, and numbers so near
    that their exponentials are equal. Of probabilities, too, the first of the largest counts."""
    rows = 400
    draws = uniform((rows, 6), key=Key(5), dtype="float64")
    outputs = np.choose((draws * 5).astype(int), [-np.inf, 0.0, 1.0, 1.0 - 2.0**-53, 2.0])
    outputs[:40] = np.choose((draws[:40] * 3).astype(int), [np.nan, np.inf, 1.0])
    labels = (uniform(rows, key=Key(6), dtype="float64") * 6).astype(np.int64)
    probabilities = (uniform((rows, 6), key=Key(8), dtype="float64") * 3).astype(int) / 8
    whole = ~np.isnan(outputs).any(axis=1)
    for n in (1, 8, 43, 400):
        for targets, classes in (((labels[:n], None), labels[:n]), ((None, probabilities[:n]), probabilities[:n].argmax(axis=1))):
            _, correct = _core.CrossEntropy(1, n, 6, outputs[:n], *targets, np.empty((n, 6)))()
            assert correct == int(((outputs[:n].argmax(axis=1) == classes) & whole[:n]).sum())


def test_a_kernel_reads_what_its_arrays_hold_now():
    outputs, labels, gradient = np.zeros((3, 4)), np.zeros(3, np.int64), np.empty((3, 4))
    kernel = _core.CrossEntropy(1, 3, 4, outputs, labels, None, gradient)
    assert kernel() == (pytest.approx(np.log(4)), 3)
    outputs[:, 2] = 100
    labels[:2] = 2
    assert kernel() == (pytest.approx(100 / 3), 2)
    np.testing.assert_allclose(gradient.sum(axis=0), [-1 / 3, 0, 1 / 3, 0], atol=1e-15)


def test_labels_out_of_range_are_never_read():
    """A caller's array may change after it was checked."""
    outputs, gradient = np.zeros((2, 3)), np.empty((2, 3))
    for label in (-1, 3, 2**62):
        value, correct = _core.CrossEntropy(1, 2, 3, outputs, np.array([label, 0], np.int64), None, gradient)()
        assert np.isnan(value)
        assert correct == 1


@pytest.mark.parametrize("n", [1, 7, 8, 9, 100])
def test_squared_error_against_exact_sums(n, each_isa):
    outputs = normal((n, 3), key=Key(1), dtype="float64")
    targets = normal((n, 3), key=Key(2), dtype="float64")
    value, gradient = mean_squared_error(outputs, targets)
    with mpmath.workdps(50):
        differences = [mpmath.mpf(float(a)) - mpmath.mpf(float(b)) for a, b in zip(outputs.flat, targets.flat, strict=True)]
        exact = mpmath.fsum(d * d for d in differences) / (3 * n)
        assert abs(exact - value) <= 3 * n * 2**-53 * exact
        for found, d in zip(gradient.flat, differences, strict=True):
            assert abs(2 * d / (3 * n) - float(found)) <= 2**-51 * abs(2 * d / (3 * n))


@pytest.mark.parametrize("dtype", ["float16", ">f4", ">f8", "longdouble"])
def test_outputs_of_other_dtypes(dtype):
    outputs = np.array([[0.5, 1.0, -2.0], [0.25, 0, 1]], dtype)
    for loss, targets in ((softmax_cross_entropy, [0, 2]), (mean_squared_error, np.ones((2, 3)))):
        value, gradient = loss(outputs, targets)
        wanted, expected = loss(outputs.astype(np.float64), targets)
        assert value == wanted
        assert gradient.dtype == outputs.dtype
        np.testing.assert_array_equal(gradient, expected.astype(dtype))
    value, gradient = softmax_cross_entropy(outputs.T[:, ::-1], [0, 1, 0])  # no C order
    assert value == softmax_cross_entropy(outputs.T[:, ::-1].copy(), [0, 1, 0])[0]
