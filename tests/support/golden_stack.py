"""The lines of tests/vectors/stack.txt: hashes of the results of `Stack.propagate`."""

import hashlib

from stack_cases import DTYPES, batch_of, network, statistics_bytes

from fastinit import _core


def golden_lines():
    """Name and hash of each result."""
    for dtype in DTYPES:
        for activation in _core.ACTIVATIONS:
            stack, key = network(
                (13, 70, 40, 9), activation, dtype, name="golden", scale="glorot_normal"
            )
            x, dy = batch_of(stack, key, 21)
            found = stack.propagate(x, dy, gradients=True)
            gradients = [*found.weight_gradients, *found.bias_gradients, found.input_gradient]
            for what, data in (
                ("forward", found.output.tobytes()),
                ("gradients", b"".join(g.tobytes() for g in gradients)),
                ("statistics", statistics_bytes(found.layers)),
            ):
                yield f"{what} {activation} {dtype} {hashlib.sha256(data).hexdigest()[:32]}"
