# SPDX-License-Identifier: BSD-3-Clause
"""Networks, batches and comparisons for the tests of `Stack`."""

import struct

import numpy as np

from fastinit import Key, Stack, normal

DTYPES = ("float32", "float64")


def network(widths, activation, dtype, *, name="", scale="he_normal", **options):
    """A stack with biases, and the key that it was made from."""
    key = Key(7) / f"{name}{widths}{activation}{dtype}"
    stack = Stack(
        widths, activation, weights=scale, key=key, dtype=dtype,
        biases=[0.3 * normal(n, key=key / f"b{i}", dtype=dtype) for i, n in enumerate(widths[1:])],
        **options,
    )  # fmt: skip
    return stack, key


def batch_of(stack, key, batch):
    x = normal((batch, stack.widths[0]), key=key / "x", dtype=stack.dtype)
    dy = normal((batch, stack.widths[-1]), key=key / "dy", dtype=stack.dtype)
    return x, dy


def everything(found):
    """All numbers of a Propagation with gradients, as bytes."""
    arrays = [found.output, found.input_gradient, *found.weight_gradients, *found.bias_gradients]
    return b"".join(a.tobytes() for a in arrays) + statistics_bytes(found.layers)


def statistics_bytes(layers):
    numbers = []
    for layer in layers:
        for m in (layer.pre_activation, layer.activation, layer.gradient):
            numbers += [m.mean, m.variance, m.second_moment, m.minimum, m.maximum, m.non_finite]
        numbers += [layer.saturated, layer.dead]
    return struct.pack(f"<{len(numbers)}d", *numbers)


def scaled_error(found, expected):
    """The largest error, relative to the largest expected entry."""
    if expected.size == 0:
        return 0.0
    return float(np.abs(found.astype(float) - expected).max() / (np.abs(expected).max() + 1e-300))
