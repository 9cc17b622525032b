"""Claims 4 to 8: weights too small and too large, and the linear stack."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from ..initializers import Identity, VarianceScaling
from ..losses import mean_squared_error
from ..reports import LayerReport
from ..stack import Stack
from ..theory import chi_1, fixed_point
from .measure import directional_errors, factor, images, near, profile, relative, train_losses
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["SCALE"]


def energies(layers: tuple[LayerReport, ...], quantity: str = "gradient") -> tuple[float, ...]:
    """Mean squares by layer, for a plot."""
    return tuple(getattr(layer, quantity).second_moment for layer in layers)


def _lines(title: str, y_label: str, named: list[tuple[str, tuple[float, ...]]]) -> Plot:
    return Plot(
        title, "layer", y_label,
        tuple((name, tuple(range(1, len(ys) + 1)), ys) for name, ys in named), True,
    )  # fmt: skip


def small_tanh_sigmoid(settings: Settings) -> Measurement:
    checks, lines, found = [], [], {}
    for activation, sigma_w, depth in (
        ("tanh", 0.5, 24), ("sigmoid", 0.5, 14), ("sigmoid", 1.0, 20), ("sigmoid", 2.0, 20),
    ):  # fmt: skip
        runs = profile(settings, f"small.{activation}.{sigma_w}", activation, depth, sigma_w)
        measured = found[activation, sigma_w] = factor(runs)
        q = 0.0 if activation == "tanh" else fixed_point(activation, sigma_w**2)
        expected = chi_1(activation, q, sigma_w**2)
        name = f"{activation}, sigma_w {sigma_w:g}: gradient energy per layer"
        checks.append(near(name, measured, expected, relative(settings, 0.02)))
        lines.append((f"{activation}, σ_w = {sigma_w:g}", energies(runs[0])))
    return Measurement(
        f"gradient energy per layer × {found['tanh', 0.5]:.3f} (tanh, σ_w 0.5); sigmoid × {found['sigmoid', 0.5]:.4f}, "
        f"{found['sigmoid', 1.0]:.4f}, {found['sigmoid', 2.0]:.3f} at σ_w 0.5, 1, 2",
        tuple(checks),
        (_lines("Gradient energy by layer, small weights", "mean square of dL/dz", lines),),
    )


def small_relu_slow(settings: Settings) -> Measurement:
    depth = 6
    widths = (64,) * depth + (10,)
    x = images(settings)

    def he(scale: float) -> Stack:
        return Stack(
            widths, "relu", output_activation="linear",
            weights=VarianceScaling(scale=2.0 * scale**2, mode="fan_in", distribution="normal"),
            biases="zeros", key=settings.key / "small.relu",
        )  # fmt: skip

    # The same draws at half the scale; powers of two, so the law holds to the last bit.
    whole, half = he(1.0), he(1.0)
    half.weights = [w * np.float32(0.5) for w in half.weights]
    dy = np.ones((len(x), 10), dtype=np.float32)
    pairs = zip(half.backward(x, dy).weights, whole.backward(x, dy).weights, strict=True)
    off = max(float(np.abs(small - big * np.float32(0.5 ** (depth - 1))).max()) for small, big in pairs)

    # The gradients that all rows rest on, against the loss itself: a small step along each kind of parameter.
    errors = directional_errors(widths, settings)

    limit = 300 if settings.quick else 1200
    target, steps, series = 0.5, {}, []
    for scale in (1.0, 0.7, 0.4):
        losses = train_losses(
            he(scale), settings, settings.key / "batches", learning_rate=0.05, steps=limit, target=target
        )
        steps[scale] = 10 * (len(losses) - 1) if losses[-1] < target else math.inf
        series.append((f"{scale:g} × He", tuple(10.0 * i for i in range(len(losses))), tuple(losses)))
    shown = {s: f"{n:g}" if math.isfinite(n) else f"more than {limit}" for s, n in steps.items()}
    return Measurement(
        f"weights × ½ multiply every layer's gradient by exactly ½^{depth - 1}; steps to loss {target}: {shown[1.0]}, "
        f"{shown[0.7]}, {shown[0.4]} at 1, 0.7, 0.4 × He",
        (
            Check("deviation from a^(L-1), a = 1/2", off, 0, 0),
            *(
                Check(f"derivative of the loss along {name}, relative error of backward", error, 0, 1e-5)
                for name, error in errors.items()
            ),
            Check("steps at He's scale", steps[1.0], 10, limit / 3),
            Check("steps at 0.7, over those at 1", steps[0.7] / steps[1.0], 1.5, math.inf),
            Check("steps at 0.4, over those at 1", steps[0.4] / steps[1.0], 3.0, math.inf),
        ),
        (Plot("Training loss by scale, ReLU, learning rate 0.05", "step", "cross-entropy (nats)",
              tuple(series)),),
    )  # fmt: skip


# |z| from which on an activation counts as saturated, |tanh| > 0.97 and the same of 2 sigmoid - 1, and what the share
# and the gradients of this few networks scatter by, times five: seen over a dozen seeds.
_SATURATED_FROM = {"tanh": math.atanh(0.97), "sigmoid": 2 * math.atanh(0.97)}
_SHARE_MARGIN = {"tanh": 0.008, "sigmoid": 0.02}
_GRADIENT_MARGIN = {"tanh": 0.03, "sigmoid": 0.06}


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
        # A gradient that only the few unsaturated units pass on fluctuates much from network to network.
        name = f"{activation}, sigma_w {sigma_w:g}"
        margin = relative(settings, _SHARE_MARGIN[activation])
        checks += [
            near(f"{name}: gradient energy per layer", measured, chi_1(activation, q, sigma_w**2),
                 relative(settings, _GRADIENT_MARGIN[activation])),
            Check(f"{name}: share saturated", share, expected - margin, expected + margin),
        ]  # fmt: skip
        line = f"{activation}, σ_w = {sigma_w:g}"
        gradients.append((line, energies(runs[0])))
        saturation.append((line, tuple(layer.saturated for layer in runs[0])))
    # No input at 0, where tanh is steepest and the unit would never leave it.
    x = images(settings)
    x = np.where(x < 0, -1, 1) * np.maximum(np.abs(x), np.float32(0.3))
    coherent = Stack(
        (64,) * 11, "tanh", weights=Identity(3.0), biases="zeros", key=settings.key / "coherent"
    ).propagate(x)
    energy = energies(coherent.layers)
    fall = (energy[0] / energy[-1]) ** (1 / (len(energy) - 1))
    rounded = Stack(
        (64,) * 4, "tanh", weights=Identity(100.0), biases="zeros", key=settings.key / "rounded"
    ).propagate(x)
    checks += [
        Check("3 I: gradient energy per layer", fall, 0.0, 0.2),
        Check("100 I in float32: gradient energy of every layer",
              max(energies(rounded.layers)), 0.0, 0.0),
    ]  # fmt: skip
    gradients.append(("tanh, W = 3 I", energy))
    def shown(activation: str, scales: tuple[float, ...]) -> tuple[str, str, str]:
        rows = [found[activation, scale] for scale in scales]
        return (
            ", ".join(f"{scale:g}" for scale in scales),
            ", ".join(f"{share:.0%}" for _, share in rows),
            ", ".join(f"{value:.2f}" for value, _ in rows),
        )

    tanh, sigmoid = shown("tanh", (2.0, 5.0, 10.0)), shown("sigmoid", (5.0, 10.0, 20.0))
    return Measurement(
        f"tanh, σ_w {tanh[0]}: {tanh[1]} saturated, yet gradient energy per layer × {tanh[2]}; sigmoid, σ_w {sigmoid[0]}: "
        f"{sigmoid[1]} and × {sigmoid[2]}; tanh, W = 3 I: × {fall:.3f}; W = 100 I in float32: exactly 0",
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
        runs = profile(settings, f"large.relu.{sigma_w}", "relu", 24, sigma_w)
        expected = sigma_w**2 / 2
        back = factor(runs)
        forth = factor(runs, "pre_activation", backward=False)
        found[sigma_w] = forth, back
        margin = relative(settings, 0.05)
        checks += [
            near(f"sigma_w {sigma_w:g}: signal energy per layer", forth, expected, margin),
            near(f"sigma_w {sigma_w:g}: gradient energy per layer", back, expected, margin),
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


def linear_stack(settings: Settings) -> Measurement:
    def output(gain: float, depth: int) -> float:
        stack = Stack((2,) * (depth + 1), "linear", weights=Identity(gain), key=settings.key)
        return float(stack.forward(np.ones((1, 2), dtype=np.float32))[0, 0])

    growth = [output(1.5, depth) for depth in range(1, 221)]
    decay = [output(0.5, depth) for depth in range(1, 152)]
    exact = next(i for i, v in enumerate(growth, 1) if v != 1.5**i) - 1
    infinite = next(i for i, v in enumerate(growth, 1) if math.isinf(v))
    tiny = float(np.finfo(np.float32).tiny)
    subnormal = next(i for i, v in enumerate(decay, 1) if v < tiny)
    zero = next(i for i, v in enumerate(decay, 1) if v == 0)

    # L numbers w in a row, all equal, squared error to (0.99 * 1.5)^L: at the minimum the Hessian's one
    # non-zero eigenvalue is 2 L w^(2 L - 2).
    layers = 5
    best = 0.99 * 1.5
    curvature = 2 * layers * best ** (2 * layers - 2)
    x, wanted = np.ones((1, 1)), np.full((1, 1), best**layers)
    runs: dict[float, list[float]] = {}
    for eta in (0.5, 1.5, 2.5):
        stack = Stack((1,) * (layers + 1), "linear", weights=Identity(1.5), dtype="float64", key=settings.key)
        residuals = []
        for _ in range(30):
            outputs = stack.forward(x)
            residuals.append(float(outputs[0, 0] - wanted[0, 0]))
            if not math.isfinite(residuals[-1]) or abs(residuals[-1]) > 1e6:
                break
            _, dy = mean_squared_error(outputs, wanted)
            for w, g in zip(stack.weights, stack.backward(x, dy).weights, strict=True):
                w -= eta / curvature * g
        runs[eta] = residuals

    def flips(values: list[float]) -> float:
        return float(np.mean([a * b < 0 for a, b in pairwise(values[:13])]))

    return Measurement(
        f"1.5^L exact to L = {exact}, inf at {infinite}; 0.5^L subnormal at {subnormal}, 0 at {zero}; L = 5, λ = "
        f"{curvature:.0f}: "
        "error falls at η = 0.5/λ, changes sign at every step and falls at 1.5/λ, grows at 2.5/λ",
        (
            Check("deepest exact power of 1.5", exact, 15, 15),
            Check("first infinite power of 1.5", infinite, 219, 219),
            Check("first subnormal power of 0.5", subnormal, 127, 127),
            Check("first zero power of 0.5", zero, 150, 150),
            Check("share of sign changes at 0.5 / lambda", flips(runs[0.5]), 0, 0),
            Check("share of sign changes at 1.5 / lambda", flips(runs[1.5]), 0.99, 1),
            Check("last over first error at 0.5 / lambda", abs(runs[0.5][-1] / runs[0.5][0]), 0, 0.01),
            Check("last over first error at 1.5 / lambda", abs(runs[1.5][-1] / runs[1.5][0]), 0, 0.01),
            Check("largest over first error at 2.5 / lambda",
                  max(abs(r) for r in runs[2.5]) / abs(runs[2.5][0]), 2, math.inf),
        ),
        (
            Plot("Output of W = k I", "depth", "output for input 1", (
                ("k = 1.5", tuple(range(1, 219)), tuple(growth[:218])),
                ("k = 0.5", tuple(range(1, 150)), tuple(decay[:149])),
            ), True),
            Plot("Error of gradient descent, L = 5", "step", "output − target", tuple(
                (f"η = {eta:g}/λ", tuple(range(len(r[:13]))), tuple(r[:13])) for eta, r in runs.items()
            )),
        ),
    )  # fmt: skip


SCALE = (
    Claim(
        4,
        "With weights too small, the signal and gradients of tanh and sigmoid networks vanish.",
        "14 to 24 wide layers, weights N(0, σ_w²/n), digits; several networks",
        small_tanh_sigmoid,
        "true",
        "Gradient energy falls by χ₁ per layer: σ_w² for tanh. Sigmoid vanishes at every ordinary scale, not only at small ones.",
    ),
    Claim(
        5,
        "With weights too small, ReLU networks learn very slowly.",
        "six layers of 64, He × a, digits, gradient descent at rate 0.05, batches of 64",
        small_relu_slow,
        "true",
        "A scale a multiplies every layer's gradient by a^(L−1).",
    ),
    Claim(
        6,
        "With weights too large, tanh and sigmoid networks are slow: their gradients vanish.",
        "20 wide layers, weights N(0, σ_w²/n), digits; and W = k I",
        large_tanh_sigmoid,
        "half true",
        "Units saturate, but the gradients of random tanh layers explode on average, and sigmoid's vanish only "
        "up to σ_w of about 10; "
        "they vanish where the weights are coherent (k I) and where float32 rounds tanh to ±1.",
    ),
    Claim(
        7,
        "With weights too large, ReLU networks explode.",
        "24 wide layers, weights N(0, σ_w²/n), digits; several networks",
        large_relu_explodes,
        "true",
        "Signal and gradient energy both grow by σ_w²/2 per layer.",
    ),
    Claim(
        8,
        "In a linear stack W = 1.5 I makes activations grow as 1.5^L and the cost oscillate; W = 0.5 I makes them vanish.",
        "float32 powers; gradient descent on five equal numbers in a row, float64, near the minimum",
        linear_stack,
        "half true",
        "The powers are right. Whether the cost oscillates depends on the step: gradient descent swings about "
        "the minimum when η λ_max > 1 "
        "and diverges when > 2.",
    ),
)
