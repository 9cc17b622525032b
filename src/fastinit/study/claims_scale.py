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
    directional_errors,
    energies,
    factor,
    images,
    near,
    profile,
    seeds_of,
    train_losses,
    trained,
    values_by_layer,
    wide_stacks,
    within,
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
    """By what the mean squared difference between the sigmoid activations of two images is multiplied per layer.

    In float64: after some ten layers the difference is below what float32 can tell from one half.
    """
    x = images(settings).astype(np.float64)
    slopes = []
    for stack in wide_stacks(settings, f"small.difference.{sigma_w}", "sigmoid", depth, sigma_w, dtype="float64"):
        # The sum over all pairs of images is, up to a factor, the variance over the images, unit by unit.
        logs = [math.log(a.var(axis=0).mean()) for a in values_by_layer(stack, x)]
        slopes.append((logs[-1] - logs[2]) / (depth - 3))
    return math.exp(np.mean(slopes))


def small_tanh_sigmoid(settings: Settings) -> Measurement:
    checks, lines, back, forth, mean = [], [], [], [], 0.0
    for activation, sigma_w, depth in (
        ("tanh", 0.5, 24), ("sigmoid", 0.5, 14), ("sigmoid", 1.0, 20), ("sigmoid", 2.0, 20),
    ):  # fmt: skip
        runs = profile(settings, f"small.{activation}.{sigma_w}", activation, depth, sigma_w)
        back.append(factor(runs))
        q = 0.0 if activation == "tanh" else fixed_point(activation, sigma_w**2)
        expected = chi_1(activation, q, sigma_w**2)
        name = f"{activation}, sigma_w {sigma_w:g}"
        checks.append(near(settings, f"{name}: gradient energy per layer", back[-1], expected, 0.02, 0.03))
        if activation == "tanh":
            forth.append(factor(runs, "activation", backward=False))
            checks.append(near(settings, f"{name}: signal energy per layer", forth[-1], expected, 0.015, 0.02))
        else:
            forth.append(_difference_factor(settings, sigma_w, min(depth, 12)))
            mean = float(np.mean([layer.activation.mean for run in runs for layer in run[5:]]))
            checks += [
                near(settings, f"{name}: squared difference between images, per layer", forth[-1], expected, 0.03, 0.04),
                near(settings, f"{name}: mean of the activations", mean, 0.5, 0.012, 0.018),
            ]
        lines.append((f"{activation}, σ_w = {sigma_w:g}", energies(runs[0])))
    return Measurement(
        f"per layer: tanh, σ_w 0.5, signal energy × {forth[0]:.3f}, gradient energy × {back[0]:.3f}; sigmoid, σ_w 0.5, 1, 2, "
        f"activations settle at {mean:.2f}, squared difference between images × {forth[1]:.4f}, {forth[2]:.4f}, {forth[3]:.3f}, "
        f"gradient energy × {back[1]:.4f}, {back[2]:.4f}, {back[3]:.3f}",
        tuple(checks),
        (_lines("Gradient energy by layer, small weights", "mean square of dL/dz", lines),),
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

    # The same draws at half the scale; powers of two, so the law holds to the last bit.
    whole, half = he(1.0), he(1.0)
    half.weights = [w * np.float32(0.5) for w in half.weights]
    dy = np.ones((len(x), 10), dtype=np.float32)
    gradients = zip(half.backward(x, dy).weights, whole.backward(x, dy).weights, strict=True)
    off = max(float(np.abs(small - big * np.float32(0.5 ** (depth - 1))).max()) for small, big in gradients)

    # The same of a loss, whose gradient at the output changes as long as outputs are of some size.
    quarter = he(1.0)
    quarter.weights = [w * np.float32(0.25) for w in quarter.weights]
    norms = [
        [float(np.linalg.norm(g)) for g in s.backward(x, softmax_cross_entropy(s.forward(x), y)[1]).weights]
        for s in (whole, half, quarter)
    ]
    first, second = (
        float(np.mean([b / a for a, b in zip(*two, strict=True)])) / 0.5 ** (depth - 1) for two in pairwise(norms)
    )

    # The gradients that all rows rest on, against the loss itself: a small step along each kind of parameter.
    errors = directional_errors(widths, settings)

    limit = 300 if settings.quick else 1200
    target, steps, series, slopes = 0.5, {}, [], {}
    for scale in (1.0, 0.7, 0.4):
        slopes[scale] = factor(profile(settings, f"small.relu.{scale}", "relu", 24, math.sqrt(2.0) * scale))
        losses = train_losses(
            he(scale), settings, settings.key / "batches", learning_rate=0.05, steps=limit, target=target
        )
        steps[scale] = 10 * (len(losses) - 1) if losses[-1] < target else math.inf
        series.append((f"{scale:g} × He", tuple(10.0 * i for i in range(len(losses))), tuple(losses)))
    shown = {s: f"{n:g}" if math.isfinite(n) else f"more than {limit}" for s, n in steps.items()}
    return Measurement(
        f"weights × ½ multiply every layer's gradient by ½^{depth - 1} for the same dL/dy (off by {off:g}), and, with the loss's "
        f"own, by {first:.2f} times that from He's scale to ½, {second:.2f} times from ½ to ¼; gradient energy per layer "
        f"× {slopes[1.0]:.3f}, {slopes[0.7]:.3f}, {slopes[0.4]:.3f} and steps to loss {target}: {shown[1.0]}, {shown[0.7]}, "
        f"{shown[0.4]} at 1, 0.7, 0.4 × He",
        (
            Check("deviation from a^(L-1), a = 1/2", off, 0, 0),
            Check("loss's gradients at 1/4 x He, over those at 1/2 x He, over a^(L-1)", second, 0.95, 1.05),
            *(
                Check(f"derivative of the loss along {name}, error of backward over the gradient's norm", error, 0, 1e-6)
                for name, error in errors.items()
            ),
            *(
                near(settings, f"{scale:g} x He: gradient energy per layer", slope, scale**2, 0.03, 0.04)
                for scale, slope in slopes.items()
            ),
            Check("steps at He's scale", steps[1.0], 10, limit / 3),
            Check("steps at 0.7, over those at 1", steps[0.7] / steps[1.0], 1.2, math.inf),
            Check("steps at 0.4, over those at 1", steps[0.4] / steps[1.0], 3.0, math.inf),
        ),
        (Plot("Training loss by scale, ReLU, learning rate 0.05", "step", "cross-entropy (nats)",
              tuple(series)),),
    )  # fmt: skip


# |z| from which on an activation counts as saturated: |tanh| > 0.97, and the same of 2 sigmoid - 1.
_SATURATED_FROM = {"tanh": math.atanh(0.97), "sigmoid": 2 * math.atanh(0.97)}
_SHARE_MARGIN = {"tanh": (0.003, 0.004), "sigmoid": (0.016, 0.018)}
# A gradient that only the few unsaturated units pass on fluctuates much from network to network.
_GRADIENT_MARGIN = {"tanh": (0.03, 0.055), "sigmoid": (0.06, 0.085)}


def large_tanh_sigmoid(settings: Settings) -> Measurement:
    checks, gradients, saturation, found = [], [], [], {}
    for activation, sigma_w in (
        ("tanh", 2.0), ("tanh", 5.0), ("tanh", 10.0), ("sigmoid", 5.0), ("sigmoid", 10.0), ("sigmoid", 20.0),
    ):  # fmt: skip
        runs = profile(settings, f"large.{activation}.{sigma_w}", activation, 20, sigma_w)
        q = fixed_point(activation, sigma_w**2)
        measured = factor(runs)
        share = float(np.mean([layer.saturated for layers in runs for layer in layers[5:]]))
        found[activation, sigma_w] = measured, share
        expected = math.erfc(_SATURATED_FROM[activation] / math.sqrt(2 * q))
        name = f"{activation}, sigma_w {sigma_w:g}"
        margin = within(settings, *_SHARE_MARGIN[activation])
        checks += [
            near(settings, f"{name}: gradient energy per layer", measured, chi_1(activation, q, sigma_w**2),
                 *_GRADIENT_MARGIN[activation]),
            Check(f"{name}: share saturated", share, expected - margin, expected + margin),
        ]  # fmt: skip
        line = f"{activation}, σ_w = {sigma_w:g}"
        gradients.append((line, energies(runs[0])))
        saturation.append((line, tuple(layer.saturated for layer in runs[0])))

    # No input at 0, where tanh is steepest and the unit would never leave it.
    x = images(settings)
    x = np.where(x < 0, -1, 1) * np.maximum(np.abs(x), np.float32(0.3))
    coherent, rounded = (
        energies(settings.stack((64,) * (depth + 1), "tanh", weights=Identity(k), key=settings.key / "k I").propagate(x).layers)
        for k, depth in ((3.0, 10), (100.0, 3))
    )
    fall = (coherent[0] / coherent[-1]) ** (1 / (len(coherent) - 1))
    gradients.append(("tanh, W = 3 I", coherent))

    # Is it slow? Ten tanh layers, and three of sigmoid, which deeper learns nothing at all from Xavier's scale.
    losses = {
        (activation, sigma_w): trained(settings, f"large.train.{activation}", activation, hidden, sigma_w).loss
        for activation, hidden, scales in (("tanh", 10, (1.0, 5.0, 10.0)), ("sigmoid", 3, (1.0, 5.0, 20.0)))
        for sigma_w in scales
    }
    last = {name: series[-1] for name, series in losses.items()}
    checks += [
        Check("3 I: gradient energy per layer", fall, 0.0, 0.2),
        Check("100 I in float32: gradient energy of every layer", max(rounded), 0.0, 0.0),
        Check("ten tanh layers: loss of epoch 20 at sigma_w 1", last["tanh", 1.0], 0.0, 0.05),
        Check("ten tanh layers: loss of epoch 20 at sigma_w 5", last["tanh", 5.0], 0.3, math.inf),
        Check("ten tanh layers: loss of epoch 20 at sigma_w 10", last["tanh", 10.0], 0.5, math.inf),
        Check("three sigmoid layers: loss of epoch 20 at sigma_w 5", last["sigmoid", 5.0], 0.0, 0.5),
        *(
            Check(f"three sigmoid layers: loss at sigma_w {sigma_w:g}, over that at 5",
                  last["sigmoid", sigma_w] / last["sigmoid", 5.0], least, math.inf)
            for sigma_w, least in ((1.0, 2.0), (20.0, 1.0))
        ),
    ]

    def shown(activation: str, scales: tuple[float, ...]) -> tuple[str, str, str]:
        rows = [found[activation, scale] for scale in scales]
        return (
            ", ".join(f"{scale:g}" for scale in scales),
            ", ".join(f"{share:.0%}" for _, share in rows),
            ", ".join(f"{value:.2f}" for value, _ in rows),
        )

    ends = [
        ", ".join(f"{loss:.2g}" for (name, _), loss in last.items() if name == activation) for activation in ("tanh", "sigmoid")
    ]
    tanh, sigmoid = shown("tanh", (2.0, 5.0, 10.0)), shown("sigmoid", (5.0, 10.0, 20.0))
    return Measurement(
        f"tanh, σ_w {tanh[0]}: {tanh[1]} saturated, yet gradient energy per layer × {tanh[2]}; sigmoid, σ_w {sigmoid[0]}: "
        f"{sigmoid[1]} and × {sigmoid[2]}; tanh, W = 3 I: × {fall:.3f}; W = 100 I in float32: energy {max(rounded):g}. "
        f"Loss after 20 epochs: ten tanh layers {ends[0]} at σ_w 1, 5, 10; three sigmoid layers {ends[1]} at σ_w 1, 5, 20",
        tuple(checks),
        (
            _lines("Gradient energy by layer, large weights", "mean square of dL/dz", gradients),
            Plot("Share of saturated units", "layer", "share", tuple(
                (name, tuple(range(1, len(ys) + 1)), ys) for name, ys in saturation
            )),
        ),
    )  # fmt: skip


def large_relu_explodes(settings: Settings) -> Measurement:
    checks, lines, found = [], [], {}
    for sigma_w in (2.0, 3.0):
        # The energy of a ReLU signal scatters much, by sqrt(5 / n) a layer: twice as many networks.
        runs = profile(settings, f"large.relu.{sigma_w}", "relu", 24, sigma_w, networks=2 * seeds_of(settings))
        expected = sigma_w**2 / 2
        back = factor(runs)
        forth = factor(runs, "pre_activation", backward=False)
        found[sigma_w] = forth, back
        checks += [
            near(settings, f"sigma_w {sigma_w:g}: signal energy per layer", forth, expected, 0.045, 0.065),
            near(settings, f"sigma_w {sigma_w:g}: gradient energy per layer", back, expected, 0.025, 0.035),
        ]
        lines += [
            (f"signal, σ_w = {sigma_w:g}", energies(runs[0], "pre_activation")),
            (f"gradient, σ_w = {sigma_w:g}", energies(runs[0])),
        ]
    return Measurement(
        "energy per layer, forward and backward: × "
        + "; × ".join(f"{f:.2f} and {b:.2f} at σ_w {s:g} (σ_w²/2 = {s * s / 2:g})" for s, (f, b) in found.items()),
        tuple(checks),
        (_lines("Signal and gradient energy, ReLU, large weights", "mean square", lines),),
    )


SCALE = (
    Claim(
        4,
        "With weights too small, the signal and gradients of tanh and sigmoid networks vanish.",
        "14 to 24 wide layers, weights N(0, σ_w²/n), digits; several networks",
        small_tanh_sigmoid,
        "true",
        "Gradient energy, and the signal's of tanh, is multiplied by χ₁ per layer: σ_w² for tanh. Sigmoid's activations do not "
        "vanish but settle at ½; what vanishes, at every ordinary scale, is the difference between two inputs, and the "
        "gradients.",
    ),
    Claim(
        5,
        "With weights too small, ReLU networks learn very slowly.",
        "six layers of 64, He × a, digits, gradient descent at rate 0.05, batches of 64; 24 wide layers",
        small_relu_slow,
        "true",
        "If the weights of all L layers are multiplied by a, the gradient of each layer's weights is multiplied by a^(L−1), as "
        "long as the gradient dL/dy at the output is the same. That of the loss changes too while the outputs are as large as at "
        "He's scale, and no longer below.",
    ),
    Claim(
        6,
        "With weights too large, tanh and sigmoid networks are slow: their gradients vanish.",
        "20 wide layers, weights N(0, σ_w²/n), digits; W = k I; layers of 64 trained by gradient descent at rate 0.1",
        large_tanh_sigmoid,
        "half true",
        "Units saturate and tanh learns slowly, but not for vanishing gradients: those of random tanh layers explode on average. "
        "Gradients vanish where W = k I makes every unit pass on one amplified number, and where float32 rounds tanh to ±1. "
        "Sigmoid's vanish up to σ_w of about 10, but more slowly than at Xavier's scale σ_w = 1, where it also learns more "
        "slowly than at σ_w = 5.",
    ),
    Claim(
        7,
        "With weights too large, ReLU networks explode.",
        "24 wide layers, weights N(0, σ_w²/n), digits; several networks",
        large_relu_explodes,
        "true",
        "Signal and gradient energy both grow by σ_w²/2 per layer.",
    ),
)
