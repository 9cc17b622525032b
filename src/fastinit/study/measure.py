"""What the claims are measured with: random networks on the digits, growth factors per layer, training runs."""

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
    "ACTIVATION_FACTOR", "GRADIENT_FACTOR", "NETWORKS", "activations_by_layer", "derivative_errors",
    "factor_per_layer", "images", "margin_of", "mean_squares", "near", "parameters", "profile", "theory_by_layer", "train_losses",
    "train_twenty_epochs", "wide_stacks", "width_of",
]  # fmt: skip

Array = NDArray[Any]


# ---- sizes and margins --------------------------------------------------------------------------

# Independent networks that a measurement of the theory of wide layers is averaged over.
NETWORKS = 8
# Names of the numbers that `factor_per_layer` gives.
ACTIVATION_FACTOR = "factor of the activations' mean square per layer"
GRADIENT_FACTOR = "factor of the gradients' mean square per layer"


def width_of(settings: Settings) -> int:
    """Units of a hidden layer where the theory of infinitely wide layers is measured."""
    return 256 if settings.quick else 500


def margin_of(settings: Settings, full: float, quick: float) -> float:
    """The margin of error of a full run, or of a quick one, whose layers have half the units.

    A margin is the difference between the mean over many seeds and the limit of infinite width, plus five to six
    standard deviations from seed to seed; `tools/study_scatter.py` measures both. A normal number is five standard
    deviations off once in 1.7 million times. The standard deviation itself, from some forty seeds, is known to about 10 %.
    """
    return quick if settings.quick else full


def near(settings: Settings, name: str, value: float, expected: float, full: float, quick: float) -> Check:
    """A check that a value is the expected one up to a relative error: `full`, or `quick` in a quick run."""
    margin = abs(expected) * margin_of(settings, full, quick)
    return Check(name, value, expected - margin, expected + margin)


# ---- networks at their start --------------------------------------------------------------------


def images(settings: Settings, count: int = 64) -> Array:
    """The first `count` training images, each scaled to mean square 1, the input variance that the theory assumes."""
    x = settings.digits.x[:count].astype(np.float64)
    scaled: Array = (x / np.sqrt((x * x).mean(axis=1, keepdims=True))).astype(np.float32)
    return scaled


def wide_stacks(
    settings: Settings, name: str, activation: str, depth: int, sigma_w: float, sigma_b: float = 0.0,
    networks: int | None = None, dtype: str = "float32",
) -> Iterator[Stack]:  # fmt: skip
    """Networks of 64 inputs and `depth` layers of equal width; weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2)."""
    for i in range(networks or NETWORKS):
        yield settings.stack(
            (64,) + (width_of(settings),) * depth, activation,
            weights=VarianceScaling(scale=sigma_w**2, mode="fan_in", distribution="normal"),
            biases=RandomNormal(0.0, sigma_b), key=settings.key / f"{name}.{i}", dtype=dtype,
        )  # fmt: skip


def profile(
    settings: Settings, name: str, activation: str, depth: int, sigma_w: float, sigma_b: float = 0.0,
    networks: int | None = None, count: int = 64,
) -> list[tuple[LayerReport, ...]]:  # fmt: skip
    """The layer reports of several independent random networks, each on the first `count` images."""
    x = images(settings, count)
    return [
        stack.propagate(x).layers
        for stack in wide_stacks(settings, name, activation, depth, sigma_w, sigma_b, networks)
    ]


def activations_by_layer(stack: Stack, x: Array) -> Iterator[Array]:
    """The activations of each layer, from the first to the last."""
    for i, (w, b) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        layer = Stack(stack.widths[i : i + 2], stack.activations[i], weights=[w], biases=[b], key=stack.key, dtype=stack.dtype)
        x = layer.forward(x)
        yield x


def theory_by_layer(
    activation: str, depth: int, weight_variance: float, bias_variance: float = 0.0
) -> tuple[list[float], list[float]]:
    """What the theory predicts for inputs of mean square 1 and layers of infinite width.

    Returns
    -------
    variances : list of float
        The variance of the pre-activations of each layer.
    factors : list of float
        The factor of the gradients' mean square from each layer back to the one before it, one fewer than layers.
    """
    q, variances, factors = weight_variance + bias_variance, [], []
    for _ in range(depth):
        variances.append(q)
        factors.append(chi_1(activation, q, weight_variance))
        q = variance_map(activation, q, weight_variance, bias_variance)
    return variances, factors[:-1]


def mean_squares(layers: tuple[LayerReport, ...], quantity: str = "gradient") -> tuple[float, ...]:
    """The mean square of a quantity in each layer."""
    return tuple(getattr(layer, quantity).second_moment for layer in layers)


def factor_per_layer(
    runs: Sequence[Sequence[LayerReport]],
    quantity: str = "gradient",
    *,
    first: int = 5,
    backward: bool = True,
) -> float:
    """The factor by which the mean square of a quantity changes per layer: a straight line fitted to its logarithm.

    Layers before index `first`, where the variance has not yet come near its fixed point, and the last two are left out.
    The result is the geometric mean over the networks; `backward` counts from the output to the input.
    """
    logarithms = []
    for layers in runs:
        squares = np.array(mean_squares(tuple(layers), quantity))[first:-2]
        logarithms.append(np.polyfit(np.arange(len(squares)), np.log(squares), 1)[0])
    return math.exp(-np.mean(logarithms) if backward else np.mean(logarithms))


def derivative_errors(widths: Sequence[int], settings: Settings) -> dict[str, float]:
    """How far `Stack.backward` is from central differences of the loss, in float64, for a network of tanh layers.

    Compared are derivatives along one random direction each of the weights, the biases and the input; errors are
    relative to the norm of the gradient.
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
        # Relative to the gradient's norm, the standard deviation of a derivative along a normal direction; the derivative
        # itself may be near 0.
        errors[name] = abs(claimed - measured) / math.sqrt(sum(float((g * g).sum()) for g in found))
    return errors


# ---- training -----------------------------------------------------------------------------------


def parameters(gradients_or_stack: Any) -> list[Array]:
    """The weights and biases of a stack, or the gradients with respect to them."""
    return [*gradients_or_stack.weights, *gradients_or_stack.biases]


def train_losses(
    stack: Stack, settings: Settings, key: Key, *, learning_rate: float, steps: int, target: float = 0.0
) -> list[float]:
    """The loss on the whole training set before every tenth step of gradient descent on batches of 64 images.

    It ends after `steps`, or at a loss that is below `target` or not finite.
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


def train_twenty_epochs(settings: Settings, name: str, activation: str, hidden: int, sigma_w: float) -> History:
    """Gradient descent at rate 0.1 on the digits: `hidden` layers of 64 units, weights N(0, sigma_w^2 / fan_in)."""
    digits = settings.digits
    stack = settings.stack(
        (64,) * (hidden + 1) + (10,), activation, output_activation="linear",
        weights=VarianceScaling(sigma_w**2, "fan_in", "normal"), biases="zeros", key=settings.key / name,
    )  # fmt: skip
    held_out = digits.held_out_x, digits.held_out_y
    return fit(stack, digits.x, digits.y, optimizer=SGD(0.1), epochs=20, batch_size=32, validation=held_out)
