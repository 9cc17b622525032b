"""What the rows of the study measure with: random stacks on the digits, slopes by layer, training runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._engine.results import LayerReport
from .._engine.stack import Stack
from .._stream.keys import Key
from .._stream.sampling import normal, uniform
from .._training.fit import History, fit
from .._training.losses import softmax_cross_entropy
from .._training.optimizers import SGD
from ..initializers import RandomNormal, VarianceScaling
from ..theory import chi_1, variance_map
from .rows import Check
from .settings import Settings

__all__ = [
    "directional_errors", "energies", "factor", "images", "near", "parameters", "profile", "seeds_of", "settling",
    "train_losses", "trained", "values_by_layer", "wide_stacks", "width_of", "within",
]  # fmt: skip

Array = NDArray[Any]


# ---- sizes and margins --------------------------------------------------------------------------


def width_of(settings: Settings) -> int:
    """Units of a hidden layer where wide-limit theory is measured."""
    return 256 if settings.quick else 500


def seeds_of(settings: Settings) -> int:
    """Independent networks that such a measurement is averaged over."""
    return 8


def within(settings: Settings, full: float, quick: float) -> float:
    """The margin of a full run, or that of a quick one, whose layers have half the units.

    A margin is what the mean over many seeds lies off the limit of infinite width, plus five to six times the standard deviation
    from seed to seed, both as `tools/study_scatter.py` finds them. A normal number is five standard deviations off once in 1.7
    million times; a deviation found on some forty seeds is itself known to a tenth.
    """
    return quick if settings.quick else full


def near(settings: Settings, name: str, value: float, expected: float, full: float, quick: float) -> Check:
    """A check that a value lies within a relative error, as in `within`, of the expected one."""
    margin = abs(expected) * within(settings, full, quick)
    return Check(name, value, expected - margin, expected + margin)


# ---- networks at their start --------------------------------------------------------------------


def images(settings: Settings, count: int = 64) -> Array:
    """Digits, each scaled to mean square 1: the input variance that the theory starts from."""
    x = settings.digits.x[:count].astype(np.float64)
    scaled: Array = (x / np.sqrt((x * x).mean(axis=1, keepdims=True))).astype(np.float32)
    return scaled


def wide_stacks(
    settings: Settings, name: str, activation: str, depth: int, sigma_w: float, sigma_b: float = 0.0,
    networks: int | None = None, dtype: str = "float32",
) -> Iterator[Stack]:  # fmt: skip
    """Networks of 64 inputs and `depth` equal layers; weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2)."""
    for i in range(networks or seeds_of(settings)):
        yield settings.stack(
            (64,) + (width_of(settings),) * depth, activation,
            weights=VarianceScaling(scale=sigma_w**2, mode="fan_in", distribution="normal"),
            biases=RandomNormal(0.0, sigma_b), key=settings.key / f"{name}.{i}", dtype=dtype,
        )  # fmt: skip


def profile(
    settings: Settings, name: str, activation: str, depth: int, sigma_w: float, sigma_b: float = 0.0,
    networks: int | None = None, count: int = 64,
) -> list[tuple[LayerReport, ...]]:  # fmt: skip
    """The layer reports of several independent random stacks on `count` digits."""
    x = images(settings, count)
    return [
        stack.propagate(x).layers
        for stack in wide_stacks(settings, name, activation, depth, sigma_w, sigma_b, networks)
    ]


def values_by_layer(stack: Stack, x: Array) -> Iterator[Array]:
    """What each layer passes on, from the first layer to the last."""
    for i, (w, b) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        layer = Stack(stack.widths[i : i + 2], stack.activations[i], weights=[w], biases=[b], key=stack.key, dtype=stack.dtype)
        x = layer.forward(x)
        yield x


def settling(
    activation: str, depth: int, weight_variance: float, bias_variance: float = 0.0
) -> tuple[list[float], list[float]]:
    """By the theory, for inputs of mean square 1 and layers of infinite width: the pre-activations' variance in each layer, and
    by what the gradients' energy is multiplied from each layer back to the one before it."""
    q, variances, factors = weight_variance + bias_variance, [], []
    for _ in range(depth):
        variances.append(q)
        factors.append(chi_1(activation, q, weight_variance))
        q = variance_map(activation, q, weight_variance, bias_variance)
    return variances, factors[:-1]


def energies(layers: tuple[LayerReport, ...], quantity: str = "gradient") -> tuple[float, ...]:
    """Mean squares by layer."""
    return tuple(getattr(layer, quantity).second_moment for layer in layers)


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


def directional_errors(widths: Sequence[int], settings: Settings) -> dict[str, float]:
    """Errors, over the gradient's norm, of the derivatives of the loss along a random direction of weights, biases and input.

    Those of `Stack.backward` and the loss against central differences, in float64, with tanh layers.
    """
    digits = settings.digits
    x, y = digits.x[:64].astype(np.float64), digits.y[:64]
    stack = settings.stack(
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
        # Over the gradient's norm, which is what the derivative along normal directions scatters by: it may itself be near 0.
        errors[name] = abs(claimed - measured) / math.sqrt(sum(float((g * g).sum()) for g in found))
    return errors


# ---- training -----------------------------------------------------------------------------------


def parameters(gradients_or_stack: Any) -> list[Array]:
    """Weights and biases of a stack, or of its gradients."""
    return [*gradients_or_stack.weights, *gradients_or_stack.biases]


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
        for w, g in zip(parameters(stack), parameters(stack.backward(x, dy)), strict=True):
            w -= np.float32(learning_rate) * g
    return losses


def trained(settings: Settings, name: str, activation: str, hidden: int, sigma_w: float) -> History:
    """Twenty epochs of gradient descent at rate 0.1 on the digits: `hidden` layers of 64, weights N(0, sigma_w^2 / fan_in)."""
    digits = settings.digits
    stack = settings.stack(
        (64,) * (hidden + 1) + (10,), activation, output_activation="linear",
        weights=VarianceScaling(sigma_w**2, "fan_in", "normal"), biases="zeros", key=settings.key / name,
    )  # fmt: skip
    held_out = digits.held_out_x, digits.held_out_y
    return fit(stack, digits.x, digits.y, optimizer=SGD(0.1), epochs=20, batch_size=32, validation=held_out)
