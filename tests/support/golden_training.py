"""The lines of tests/vectors/training.txt: hashes of trained networks."""

import hashlib

import numpy as np

from fastinit import (
    SGD,
    Adam,
    Key,
    Momentum,
    Stack,
    fit,
    mean_squared_error,
    normal,
)  # fmt: skip


def blobs(samples=120, classes=3, width=6):
    """Points around well separated centres, and their classes."""
    classes_of = np.arange(samples) % classes
    centres = 3 * normal((classes, width), key=Key(11), dtype="float64")
    return centres[classes_of] + normal((samples, width), key=Key(12), dtype="float64"), classes_of


def digest(stack):
    return hashlib.sha256(
        b"".join(a.tobytes() for a in [*stack.weights, *stack.biases])
    ).hexdigest()[:32]


def golden_lines():
    """Name and hash of each trained network."""
    x, y = blobs()
    rows = np.eye(3)[y]
    for dtype in ("float32", "float64"):
        for activation in ("tanh", "relu", "sigmoid"):
            for optimizer in (SGD(0.1), Momentum(0.05)):
                stack = Stack(
                    (6, 33, 20, 3), activation, output_activation="linear", key=Key(9), dtype=dtype
                )
                fit(
                    stack,
                    x,
                    rows,
                    loss=mean_squared_error,
                    optimizer=optimizer,
                    epochs=3,
                    batch_size=25,
                )
                name = type(optimizer).__name__.lower()
                yield f"trained {name} {activation} {dtype} {digest(stack)}"
        for targets, what in ((y, "classes"), (0.9 * rows + 0.1 / 3, "shares")):
            stack = Stack((6, 33, 20, 3), "gelu", output_activation="linear", key=Key(9), dtype=dtype)
            history = fit(stack, x, targets, optimizer=Adam(0.01), epochs=3, batch_size=25)
            yield f"trained adam {what} {dtype} {digest(stack)} {history.loss[-1].hex()}"
