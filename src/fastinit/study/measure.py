"""What the rows of the study measure with: random stacks on the digits, slopes by layer, training runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..initializers import RandomNormal, VarianceScaling
from ..keys import Key
from ..losses import softmax_cross_entropy
from ..reports import LayerReport
from ..sampling import normal, uniform
from ..stack import Stack
from .rows import Check
from .settings import Settings

__all__ = [
    "directional_errors", "factor", "images", "near", "profile", "random_stack", "relative", "seeds_of", "train_losses",
    "width_of",
]  # fmt: skip

Array = NDArray[Any]


def width_of(settings: Settings) -> int:
    """Units of a hidden layer where wide-limit theory is measured."""
    return 256 if settings.quick else 500


def seeds_of(settings: Settings) -> int:
    """Independent networks that such a measurement is averaged over."""
    return 4 if settings.quick else 8


def images(settings: Settings, count: int = 64) -> Array:
    """Digits, each scaled to mean square 1: the input variance that the theory starts from."""
    x = settings.digits.x[:count].astype(np.float64)
    scaled: Array = (x / np.sqrt((x * x).mean(axis=1, keepdims=True))).astype(np.float32)
    return scaled


def random_stack(
    settings: Settings, name: str, activation: str, depth: int, sigma_w: float, sigma_b: float = 0.0
) -> Stack:
    """64 inputs and `depth` equal layers; weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2)."""
    return Stack(
        (64,) + (width_of(settings),) * depth,
        activation,
        weights=VarianceScaling(scale=sigma_w**2, mode="fan_in", distribution="normal"),
        biases=RandomNormal(0.0, sigma_b),
        key=settings.key / name,
    )


def profile(
    settings: Settings, name: str, activation: str, depth: int, sigma_w: float, sigma_b: float = 0.0,
    networks: int | None = None,
) -> list[tuple[LayerReport, ...]]:  # fmt: skip
    """The layer reports of several independent random stacks on the digits."""
    x = images(settings)
    return [
        random_stack(settings, f"{name}.{i}", activation, depth, sigma_w, sigma_b).propagate(x).layers
        for i in range(networks or seeds_of(settings))
    ]


def directional_errors(widths: Sequence[int], settings: Settings) -> dict[str, float]:
    """Relative errors of the derivatives of the loss along a random direction of weights, biases and input.

    Those of `Stack.backward` and the loss against central differences, in float64, with tanh layers.
    """
    digits = settings.digits
    x, y = digits.x[:64].astype(np.float64), digits.y[:64]
    stack = Stack(
        tuple(widths), "tanh", output_activation="linear", weights="glorot_normal", biases=RandomNormal(0.0, 0.1),
        key=settings.key / "derivative", dtype="float64",
    )  # fmt: skip
    gradients = stack.backward(x, softmax_cross_entropy(stack.forward(x), y)[1])
    kinds = {
        "the weights": (stack.weights, gradients.weights),
        "the biases": (stack.biases, gradients.biases),
        "the input": ([x], [gradients.input]),
    }
    errors, step = {}, 1e-5
    for name, (arrays, found) in kinds.items():
        key = settings.key / "direction" / name
        directions = [normal(a.shape, key=key / i, dtype="float64") for i, a in enumerate(arrays)]
        ends = []
        for sign in (1, -1):
            for a, d in zip(arrays, directions, strict=True):
                a += sign * step * d
            ends.append(softmax_cross_entropy(stack.forward(x), y)[0])
            for a, d in zip(arrays, directions, strict=True):
                a -= sign * step * d
        measured = (ends[0] - ends[1]) / (2 * step)
        claimed = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True))
        errors[name] = abs(claimed - measured) / abs(measured)
    return errors


def factor(
    runs: Sequence[Sequence[LayerReport]],
    quantity: str = "gradient",
    *,
    skip: int = 5,
    backward: bool = True,
) -> float:
    """By what the energy (second moment) is multiplied per layer, by least squares on its logarithm.

    The first `skip` layers, where the variance still settles, and the last two are left out. Averaged over the
    logarithms of the runs; `backward` counts from the output to the input.
    """
    slopes = []
    for layers in runs:
        energy = np.array([getattr(layer, quantity).second_moment for layer in layers])[skip:-2]
        positions = np.arange(len(energy))
        slopes.append(np.polyfit(positions, np.log(energy), 1)[0])
    return math.exp(-np.mean(slopes) if backward else np.mean(slopes))


def near(name: str, value: float, expected: float, relative_error: float) -> Check:
    """A check that a value lies within a relative error of the expected one."""
    margin = abs(expected) * relative_error
    return Check(name, value, expected - margin, expected + margin)


def relative(settings: Settings, full: float) -> float:
    """The relative error allowed: as stated, and twice that for the smaller networks of a quick run."""
    return 2 * full if settings.quick else full


def train_losses(
    stack: Stack, settings: Settings, key: Key, *, learning_rate: float, steps: int, target: float = 0.0
) -> list[float]:
    """Losses of plain gradient descent on batches of 64 digits, until `steps` or a loss below `target`.

    The loss of a step is that of the whole training set every tenth step, so that it can be compared.
    """
    digits = settings.digits
    losses: list[float] = []
    for step in range(steps):
        if step % 10 == 0:
            losses.append(softmax_cross_entropy(stack.forward(digits.x), digits.y)[0])
            if not math.isfinite(losses[-1]) or losses[-1] < target:
                break
        rows = uniform(64, 0, len(digits.x), key=key / step, dtype="float64").astype(np.int64)
        x, y = digits.x[rows], digits.y[rows]
        _, dy = softmax_cross_entropy(stack.forward(x), y)
        gradients = stack.backward(x, dy)
        for w, g in zip(
            [*stack.weights, *stack.biases], [*gradients.weights, *gradients.biases], strict=True
        ):
            w -= np.float32(learning_rate) * g
    return losses
