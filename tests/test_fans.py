"""Fans by a table worked out by hand."""

import pytest

from fastinit import Fans, compute_fans


@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"),
    [
        ((784, 256), 784, 256),
        ((5, 16, 32), 80, 160),
        ((3, 3, 16, 32), 144, 288),
        ((2, 3, 4, 5, 6), 120, 144),
        ((0, 7), 0, 7),
    ],
)
def test_fans_of_a_shape(shape, fan_in, fan_out):
    assert compute_fans(shape) == Fans(fan_in, fan_out)


@pytest.mark.parametrize("shape", [(), (10,), 10])
def test_a_vector_has_no_fans(shape):
    with pytest.raises(ValueError, match="at least two axes"):
        compute_fans(shape)
