"""Claims 4 to 7: weights too small and too large."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .._engine.stack import Stack
from .._training.losses import softmax_cross_entropy
from ..initializers import Identity, VarianceScaling
from ..theory import chi_1, fixed_point
from .measure import (
    ACTIVATION_FACTOR,
    GRADIENT_FACTOR,
    NETWORKS,
    activations_by_layer,
    derivative_errors,
    factor_per_layer,
    images,
    margin_of,
    mean_squares,
    near,
    profile,
    train_losses,
    train_twenty_epochs,
    wide_stacks,
)
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["SCALE"]


def _lines(title: str, y_label: str, named: list[tuple[str, tuple[float, ...]]]) -> Plot:
    return Plot(
        title, "layer", y_label,
        tuple((name, tuple(range(1, len(ys) + 1)), ys) for name, ys in named), True,
    )  # fmt: skip


def _difference_factor(settings: Settings, sigma_w: float, depth: int) -> float:
    """The factor per layer of the mean squared difference between the sigmoid activations of two images.

    In float64: after some ten layers float32 cannot represent the difference, which is far below 1/2.
    """
    x = images(settings).astype(np.float64)
    logarithms = []
    for stack in wide_stacks(settings, f"small.difference.{sigma_w}", "sigmoid", depth, sigma_w, dtype="float64"):
        # The squared differences of all pairs of images sum to a multiple of the variance over the images.
        logs = [math.log(a.var(axis=0).mean()) for a in activations_by_layer(stack, x)]
        logarithms.append((logs[-1] - logs[2]) / (depth - 3))
    return math.exp(np.mean(logarithms))


def small_tanh_sigmoid(settings: Settings) -> Measurement:
    checks, lines, back, forth, mean = [], [], [], [], 0.0
    for activation, sigma_w, depth in (
        ("tanh", 0.5, 24), ("sigmoid", 0.5, 14), ("sigmoid", 1.0, 20), ("sigmoid", 2.0, 20),
    ):  # fmt: skip
        runs = profile(settings, f"small.{activation}.{sigma_w}", activation, depth, sigma_w)
        back.append(factor_per_layer(runs))
        q = 0.0 if activation == "tanh" else fixed_point(activation, sigma_w**2)
        expected = chi_1(activation, q, sigma_w**2)
        name = f"{activation}, σ_w = {sigma_w:g}"
        checks.append(near(settings, f"{name}: {GRADIENT_FACTOR}", back[-1], expected, 0.02, 0.03))
        if activation == "tanh":
            forth.append(factor_per_layer(runs, "activation", backward=False))
            checks.append(near(settings, f"{name}: {ACTIVATION_FACTOR}", forth[-1], expected, 0.015, 0.02))
        else:
            forth.append(_difference_factor(settings, sigma_w, min(depth, 12)))
            mean = float(np.mean([layer.activation.mean for run in runs for layer in run[5:]]))
            checks += [
                near(settings, f"{name}: factor of the squared difference between images per layer", forth[-1], expected,
                     0.03, 0.04),
                near(settings, f"{name}: mean of the activations", mean, 0.5, 0.012, 0.018),
            ]  # fmt: skip
        lines.append((f"{activation}, σ_w = {sigma_w:g}", mean_squares(runs[0])))
    return Measurement(
        f"Factors per layer. tanh, σ_w = 0.5: mean square of the activations × {forth[0]:.3f}, of the gradients × {back[0]:.3f}. "
        f"sigmoid: the activations converge to {mean:.2f}; for σ_w = 0.5, 1 and 2 the squared difference between the activations "
        f"of two images × {forth[1]:.4f}, {forth[2]:.4f} and {forth[3]:.3f}, the mean square of the gradients × {back[1]:.4f}, "
        f"{back[2]:.4f} and {back[3]:.3f}.",
        tuple(checks),
        (_lines("Gradients by layer, small weights", "mean square of dL/dz", lines),),
    )


def small_relu_slow(settings: Settings) -> Measurement:
    depth = 6
    widths = (64,) * depth + (10,)
    x, y = images(settings), settings.digits.y[:64]

    def he(scale: float) -> Stack:
        return settings.stack(
            widths, "relu", output_activation="linear",
            weights=VarianceScaling(scale=2.0 * scale**2, mode="fan_in", distribution="normal"),
            biases="zeros", key=settings.key / "small.relu",
        )  # fmt: skip

    # The same random numbers at half the scale. Scaling by a power of two is exact, so the relation holds in every bit.
    whole, half = he(1.0), he(1.0)
    half.weights = [w * np.float32(0.5) for w in half.weights]
    dy = np.ones((len(x), 10), dtype=np.float32)
    gradients = zip(half.backward(x, dy).weights, whole.backward(x, dy).weights, strict=True)
    deviation = max(float(np.abs(small - big * np.float32(0.5 ** (depth - 1))).max()) for small, big in gradients)

    # The same for the gradients of a loss. Its gradient at the output depends on the outputs, unless they are small.
    quarter = he(1.0)
    quarter.weights = [w * np.float32(0.25) for w in quarter.weights]
    norms = [
        [float(np.linalg.norm(g)) for g in s.backward(x, softmax_cross_entropy(s.forward(x), y)[1]).weights]
        for s in (whole, half, quarter)
    ]
    first, second = (
        float(np.mean([b / a for a, b in zip(*two, strict=True)])) / 0.5 ** (depth - 1) for two in pairwise(norms)
    )

    # All claims rely on the gradients of `Stack.backward`: compare them with differences of the loss itself.
    errors = derivative_errors(widths, settings)

    limit = 300 if settings.quick else 1200
    target, steps, series, factors = 0.5, {}, [], {}
    for scale in (1.0, 0.7, 0.4):
        factors[scale] = factor_per_layer(profile(settings, f"small.relu.{scale}", "relu", 24, math.sqrt(2.0) * scale))
        losses = train_losses(
            he(scale), settings, settings.key / "batches", learning_rate=0.05, steps=limit, target=target
        )
        steps[scale] = 10 * (len(losses) - 1) if losses[-1] < target else math.inf
        series.append((f"{scale:g} × He", tuple(10.0 * i for i in range(len(losses))), tuple(losses)))
    shown = {s: f"{n:g}" if math.isfinite(n) else f"more than {limit}" for s, n in steps.items()}
    return Measurement(
        f"Halving all weights multiplies every layer's gradient by ½^{depth - 1} for the same dL/dy (largest deviation "
        f"{deviation:g}). With the dL/dy of the loss it multiplies them by {first:.2f} × ½^{depth - 1} from He's weights to half "
        f"of them, and by {second:.2f} × ½^{depth - 1} from half to a quarter. With 1, 0.7 and 0.4 times He's weights the mean "
        f"square of the gradients is multiplied by {factors[1.0]:.3f}, {factors[0.7]:.3f} and {factors[0.4]:.3f} per layer, "
        f"and training takes {shown[1.0]}, {shown[0.7]} and {shown[0.4]} steps to a loss of {target}.",
        (
            Check("half the weights, same dL/dy: largest deviation of a gradient from ½^(L−1) of what it was", deviation, 0, 0),
            Check("gradients of the loss at ¼ × He over those at ½ × He, divided by ½^(L−1)", second, 0.95, 1.05),
            *(
                Check(f"derivative of the loss with respect to {name}: error relative to the gradient's norm", error, 0, 1e-6)
                for name, error in errors.items()
            ),
            *(
                near(settings, f"{scale:g} × He: {GRADIENT_FACTOR}", factor, scale**2, 0.03, 0.04)
                for scale, factor in factors.items()
            ),
            Check("steps to a loss of 0.5 at 1 × He", steps[1.0], 10, limit / 3),
            *(
                Check(f"steps to a loss of 0.5 at {scale:g} × He (inf: not reached), over those at 1 × He",
                      steps[scale] / steps[1.0], least, math.inf)
                for scale, least in ((0.7, 1.2), (0.4, 3.0))
            ),
        ),
        (Plot("Training loss by scale, ReLU, learning rate 0.05", "step", "cross-entropy (nats)",
              tuple(series)),),
    )  # fmt: skip


# An activation counts as saturated above this |z|: where |tanh z| > 0.97, or |2 sigmoid(z) - 1| > 0.97.
_SATURATED_FROM = {"tanh": math.atanh(0.97), "sigmoid": 2 * math.atanh(0.97)}
_SATURATED_MARGIN = {"tanh": (0.003, 0.004), "sigmoid": (0.016, 0.018)}
# Wide margins: the gradient passes through the few unsaturated units, and varies much from network to network.
_GRADIENT_MARGIN = {"tanh": (0.03, 0.055), "sigmoid": (0.06, 0.085)}


def large_tanh_sigmoid(settings: Settings) -> Measurement:
    checks, gradients, saturation, found = [], [], [], {}
    for activation, sigma_w in (
        ("tanh", 2.0), ("tanh", 5.0), ("tanh", 10.0), ("sigmoid", 5.0), ("sigmoid", 10.0), ("sigmoid", 20.0),
    ):  # fmt: skip
        runs = profile(settings, f"large.{activation}.{sigma_w}", activation, 20, sigma_w)
        q = fixed_point(activation, sigma_w**2)
        measured = factor_per_layer(runs)
        saturated = float(np.mean([layer.saturated for layers in runs for layer in layers[5:]]))
        found[activation, sigma_w] = measured, saturated
        expected = math.erfc(_SATURATED_FROM[activation] / math.sqrt(2 * q))
        name = f"{activation}, σ_w = {sigma_w:g}"
        margin = margin_of(settings, *_SATURATED_MARGIN[activation])
        checks += [
            near(settings, f"{name}: {GRADIENT_FACTOR}", measured, chi_1(activation, q, sigma_w**2),
                 *_GRADIENT_MARGIN[activation]),
            Check(f"{name}: fraction of saturated units", saturated, expected - margin, expected + margin),
        ]  # fmt: skip
        gradients.append((name, mean_squares(runs[0])))
        saturation.append((name, tuple(layer.saturated for layer in runs[0])))

    # Inputs are moved away from 0: a unit whose input is 0 stays at 0, where the derivative of tanh is largest.
    x = images(settings)
    x = np.where(x < 0, -1, 1) * np.maximum(np.abs(x), np.float32(0.3))

    def gradients_of_identity(k: float, depth: int) -> tuple[float, ...]:
        stack = settings.stack((64,) * (depth + 1), "tanh", weights=Identity(k), key=settings.key / "k I")
        return mean_squares(stack.propagate(x).layers)

    scaled_identity, rounded = gradients_of_identity(3.0, 10), gradients_of_identity(100.0, 3)
    decay = (scaled_identity[0] / scaled_identity[-1]) ** (1 / (len(scaled_identity) - 1))
    gradients.append(("tanh, W = 3 I", scaled_identity))

    # Is training slow? Ten tanh layers, but three sigmoid layers: more of them learn nothing at Xavier's scale.
    losses = {
        (activation, sigma_w): train_twenty_epochs(settings, f"large.train.{activation}", activation, hidden, sigma_w).loss
        for activation, hidden, scales in (("tanh", 10, (1.0, 5.0, 10.0)), ("sigmoid", 3, (1.0, 5.0, 20.0)))
        for sigma_w in scales
    }
    last = {name: series[-1] for name, series in losses.items()}
    checks += [
        Check(f"tanh, W = 3 I: {GRADIENT_FACTOR}", decay, 0.0, 0.2),
        Check("tanh, W = 100 I, float32: largest mean square of the gradients of a layer", max(rounded), 0.0, 0.0),
        Check("ten tanh layers: loss of epoch 20 at σ_w = 1", last["tanh", 1.0], 0.0, 0.05),
        Check("ten tanh layers: loss of epoch 20 at σ_w = 5", last["tanh", 5.0], 0.3, math.inf),
        Check("ten tanh layers: loss of epoch 20 at σ_w = 10", last["tanh", 10.0], 0.5, math.inf),
        Check("three sigmoid layers: loss of epoch 20 at σ_w = 5", last["sigmoid", 5.0], 0.0, 0.5),
        *(
            Check(f"three sigmoid layers: loss of epoch 20 at σ_w = {sigma_w:g}, over that at σ_w = 5",
                  last["sigmoid", sigma_w] / last["sigmoid", 5.0], least, math.inf)
            for sigma_w, least in ((1.0, 2.0), (20.0, 1.0))
        ),
    ]

    def shown(activation: str, scales: tuple[float, ...]) -> tuple[str, str, str]:
        rows = [found[activation, scale] for scale in scales]
        return (
            ", ".join(f"{scale:g}" for scale in scales),
            ", ".join(f"{saturated:.0%}" for _, saturated in rows),
            ", ".join(f"{value:.2f}" for value, _ in rows),
        )

    final_losses = [
        ", ".join(f"{loss:.2g}" for (name, _), loss in last.items() if name == activation) for activation in ("tanh", "sigmoid")
    ]
    tanh, sigmoid = shown("tanh", (2.0, 5.0, 10.0)), shown("sigmoid", (5.0, 10.0, 20.0))
    return Measurement(
        f"tanh, σ_w = {tanh[0]}: {tanh[1]} of the units are saturated, and the mean square of the gradients is multiplied by "
        f"{tanh[2]} per layer. sigmoid, σ_w = {sigmoid[0]}: {sigmoid[1]} are saturated, and it is multiplied by {sigmoid[2]}. "
        f"tanh, W = 3 I: by {decay:.3f}. tanh, W = 100 I in float32: the gradients are {max(rounded):g}. Loss after 20 epochs: "
        f"ten tanh layers {final_losses[0]} at σ_w = 1, 5, 10; three sigmoid layers {final_losses[1]} at σ_w = 1, 5, 20.",
        tuple(checks),
        (
            _lines("Gradients by layer, large weights", "mean square of dL/dz", gradients),
            Plot("Saturated units by layer, large weights", "layer", "fraction of the units", tuple(
                (name, tuple(range(1, len(ys) + 1)), ys) for name, ys in saturation
            )),
        ),
    )  # fmt: skip


def large_relu_explodes(settings: Settings) -> Measurement:
    checks, lines, found = [], [], {}
    for sigma_w in (2.0, 3.0):
        # The mean square of ReLU activations has a relative deviation of sqrt(5 / n) a layer: use twice as many networks.
        runs = profile(settings, f"large.relu.{sigma_w}", "relu", 24, sigma_w, networks=2 * NETWORKS)
        expected = sigma_w**2 / 2
        back = factor_per_layer(runs)
        forth = factor_per_layer(runs, "pre_activation", backward=False)
        found[sigma_w] = forth, back
        name = f"σ_w = {sigma_w:g}"
        checks += [
            near(settings, f"{name}: factor of the pre-activations' mean square per layer", forth, expected, 0.045, 0.065),
            near(settings, f"{name}: {GRADIENT_FACTOR}", back, expected, 0.025, 0.035),
        ]
        lines += [
            (f"pre-activations, {name}", mean_squares(runs[0], "pre_activation")),
            (f"gradients, {name}", mean_squares(runs[0])),
        ]
    return Measurement(
        " ".join(
            f"At σ_w = {s:g} the mean square per layer is multiplied by {f:.2f} (pre-activations) and {b:.2f} (gradients), "
            f"predicted σ_w²/2 = {s * s / 2:g}."
            for s, (f, b) in found.items()
        ),
        tuple(checks),
        (_lines("Pre-activations and gradients, ReLU, large weights", "mean square", lines),),
    )


SCALE = (
    Claim(
        4,
        "With weights too small, the signal and gradients of tanh and sigmoid networks vanish.",
        "14 to 24 wide layers, weights N(0, σ_w²/n), digits; mean over several networks",
        small_tanh_sigmoid,
        "true",
        "The mean square of the gradients, and with tanh of the activations, is multiplied by χ₁ per layer, which is σ_w² for "
        "tanh. Sigmoid activations do not vanish but converge to ½; the difference between two inputs vanishes, and so do the "
        "gradients, at every usual σ_w.",
    ),
    Claim(
        5,
        "With weights too small, ReLU networks learn very slowly.",
        "six layers of 64 units, He's weights N(0, 2/n) times a, digits, gradient descent at rate 0.05 in batches of 64; "
        "24 wide layers",
        small_relu_slow,
        "true",
        "If the weights of all L layers are multiplied by a, the gradient of each layer's weights is multiplied by a^(L−1), as "
        "long as the gradient dL/dy at the output is the same. The dL/dy of the loss changes while the outputs are as large as "
        "with He's weights, and hardly any more below.",
    ),
    Claim(
        6,
        "With weights too large, tanh and sigmoid networks are slow: their gradients vanish.",
        "20 wide layers, weights N(0, σ_w²/n), digits; W = k I; layers of 64 trained by gradient descent at rate 0.1",
        large_tanh_sigmoid,
        "half true",
        "Units saturate and tanh learns slowly, but not because of vanishing gradients: in random tanh layers they explode on "
        "average. Gradients vanish with W = k I, where every unit has one amplified input, and where float32 rounds tanh to ±1. "
        "With sigmoid they vanish up to σ_w of about 10, but more slowly than at Xavier's σ_w = 1, where training is slower than "
        "at σ_w = 5.",
    ),
    Claim(
        7,
        "With weights too large, ReLU networks explode.",
        "24 wide layers, weights N(0, σ_w²/n), digits; mean over several networks",
        large_relu_explodes,
        "true",
        "The mean squares of pre-activations and of gradients are both multiplied by σ_w²/2 per layer.",
    ),
)
