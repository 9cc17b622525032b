# SPDX-License-Identifier: BSD-3-Clause
"""The order of the samples of an epoch, and the batches that are gathered in it."""

import numpy as np
import pytest

from fastinit import Key, _core, uniform


def test_samples_are_numbered_by_64_bits():
    # NumPy's own choice of int has 32 on some systems.
    out, source = np.empty((2, 3)), np.arange(12.0).reshape(4, 3)
    with pytest.raises(AssertionError):
        _core.Batches([out], [source], np.zeros(4, np.int32))
    gather = _core.Batches([out], [source], np.array([0, 3, 1], np.int64))
    gather(1)
    assert (out == source[[3, 1]]).all()
    with pytest.raises(AssertionError):
        gather(2)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 100, 1437, 20000])
def test_the_order_of_draws_is_that_of_a_stable_sort(n):
    draws = uniform(n, key=Key(n), dtype="float64")
    order = np.empty(n, np.int64)
    # all different; of ten values, so that most are equal to others; all equal
    for some in (draws, np.floor(draws[:3000] * 9) / 9, np.full(n, 1 - 2.0**-53), np.zeros(n)):
        _core.order_by(some, order[: len(some)])
        np.testing.assert_array_equal(order[: len(some)], np.argsort(some, kind="stable"))


def test_draws_of_another_dtype_are_refused():
    with pytest.raises(ValueError, match="expected an array of 32 bytes, got 16"):
        _core.order_by(np.zeros(4, np.float32), np.empty(4, np.int64))
