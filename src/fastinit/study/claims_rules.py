"""Claims 9 and 11: the rules of thumb for activations, and the variance of a sum."""

from __future__ import annotations

import math

import numpy as np

from .._training.fit import fit
from .._training.optimizers import Momentum
from ..initializers import RandomNormal, VarianceScaling
from ..theory import chi_1, fixed_point
from .measure import (
    ACTIVATION_FACTOR,
    GRADIENT_FACTOR,
    factor_per_layer,
    margin_of,
    mean_squares,
    near,
    profile,
    theory_by_layer,
)
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["CRITICAL_BIAS_VARIANCE", "CRITICAL_WEIGHT_VARIANCE", "RULES"]

# The critical pair of tanh with this bias variance: chi_1 = 1, so that the theory predicts constant mean squares of
# activations and gradients. Computed in tests/theory/test_theory.py.
CRITICAL_WEIGHT_VARIANCE, CRITICAL_BIAS_VARIANCE = 1.76095464, 0.05


def _kept_forward_only(settings: Settings) -> tuple[list[Check], str]:
    """Networks of 50 layers whose activations follow the rules of thumb, and whose gradients explode or vanish."""
    depth = 50
    checks, lines = [], []
    for activation, weight_variance, bias_variance, label in (
        ("tanh", 25 / 9, 0.0, "tanh, gain 5/3"),
        ("tanh", 4.0, 0.05, "tanh, σ_w² = 4, σ_b² = 0.05"),
        ("sigmoid", 1.0, 0.0, "sigmoid, σ_w² = 1"),
    ):
        name = f"rules.{activation}.{weight_variance}"
        runs = profile(settings, name, activation, depth, math.sqrt(weight_variance), math.sqrt(bias_variance))
        variances = [np.mean([run[layer].activation.variance for run in runs]) for layer in (9, depth - 1)]
        means = [abs(float(np.mean([run[layer].activation.mean for run in runs]))) for layer in range(depth)]
        growth = float(np.mean([math.log(run[0].gradient.second_moment / run[-1].gradient.second_moment) for run in runs]))
        # The theory is summed layer by layer, because the variance of the first layers has not converged yet.
        theory = sum(map(math.log, theory_by_layer(activation, depth, weight_variance, bias_variance)[1]))
        if activation == "tanh":
            checks += [
                Check(f"{label}: largest absolute mean of a layer's activations", max(means),
                      0, margin_of(settings, 0.025, 0.03)),
                near(settings, f"{label}: variance of the activations of layer 50 over layer 10",
                     float(variances[1] / variances[0]), 1.0, 0.02, 0.03),
            ]  # fmt: skip
        checks += [
            near(settings, f"{label}: {GRADIENT_FACTOR}", factor_per_layer(runs),
                 chi_1(activation, fixed_point(activation, weight_variance, bias_variance), weight_variance), 0.01, 0.015),
            Check(f"{label}: ln of the growth of the gradients' mean square over 50 layers, minus that of the theory",
                  growth - theory, -margin_of(settings, 0.35, 0.6), margin_of(settings, 0.35, 0.6)),
        ]  # fmt: skip
        amounts = [f"e^{log:.0f}" if log < -20 else f"{math.exp(log):.2g}" for log in (growth, theory)]
        lines.append(f"{label}: × {amounts[0]} (theory × {amounts[1]})")
    return checks, "; ".join(lines)


def rules_of_thumb(settings: Settings) -> Measurement:
    depth = 20
    sigma_w, sigma_b = math.sqrt(CRITICAL_WEIGHT_VARIANCE), math.sqrt(CRITICAL_BIAS_VARIANCE)
    kept = profile(settings, "rules.critical", "tanh", depth, sigma_w, sigma_b)
    lost = profile(settings, "rules.small", "tanh", depth, 0.5)
    means = max(abs(float(np.mean([run[layer].activation.mean for run in kept]))) for layer in range(depth))
    forth = factor_per_layer(kept, "activation", backward=False)
    back = factor_per_layer(kept)
    variances = [float(np.mean([run[layer].activation.variance for run in kept])) for layer in (4, depth - 1)]
    squares = float(np.mean([run[layer].pre_activation.second_moment for run in kept for layer in range(5, depth)]))
    q = fixed_point("tanh", CRITICAL_WEIGHT_VARIANCE, CRITICAL_BIAS_VARIANCE)
    # The variance of the pre-activations starts at 1.81; at layer 5 it has not yet converged to q.
    before = theory_by_layer("tanh", depth + 1, CRITICAL_WEIGHT_VARIANCE, CRITICAL_BIAS_VARIANCE)[0]
    converged = (before[depth] - CRITICAL_BIAS_VARIANCE) / (before[5] - CRITICAL_BIAS_VARIANCE)

    # Training with and without the rules: 20 layers of 64 units on the digits.
    accuracies, series = {}, []
    epochs = 6 if settings.quick else 15
    for name, weight_std, bias_std in (("kept", sigma_w, sigma_b), ("lost", 0.5, 0.0)):
        stack = settings.stack(
            (64,) * (depth + 1) + (10,), "tanh", output_activation="linear",
            weights=VarianceScaling(weight_std**2, "fan_in", "normal"),
            biases=RandomNormal(0.0, bias_std), key=settings.key / "rules.train",
        )  # fmt: skip
        digits = settings.digits
        history = fit(
            stack, digits.x, digits.y, optimizer=Momentum(0.01), epochs=epochs, batch_size=32,
            validation=(digits.held_out_x, digits.held_out_y),
        )  # fmt: skip
        accuracies[name] = history.validation_accuracy[-1]
        label = "rules followed (critical pair)" if name == "kept" else "activations shrink (σ_w = 0.5)"
        series.append((label, tuple(range(1, epochs + 1)), tuple(history.validation_accuracy)))
    forward_only, growths = _kept_forward_only(settings)
    return Measurement(
        f"tanh, critical pair: means of the activations at most {means:.3f}; per layer the mean square of the activations is "
        f"multiplied by {forth:.3f} and that of the gradients by {back:.3f}. After training, 20 such layers classify "
        f"{accuracies['kept']:.1%} of the held-out digits correctly, and {accuracies['lost']:.1%} at σ_w = 0.5. Growth of the "
        f"gradients' mean square over 50 layers that follow the rules: {growths}.",
        (
            Check("critical pair: largest absolute mean of a layer's activations", means, 0, margin_of(settings, 0.045, 0.05)),
            near(settings, f"critical pair: {ACTIVATION_FACTOR}", forth, 1.0, 0.01, 0.015),
            near(settings, "critical pair: variance of the activations of layer 20 over layer 5",
                 variances[1] / variances[0], converged, 0.08, 0.1),
            near(settings, "critical pair: variance of the pre-activations", squares, q, 0.05, 0.065),
            near(settings, f"critical pair: {GRADIENT_FACTOR}", back, 1.0, 0.018, 0.027),
            near(settings, f"σ_w = 0.5: {GRADIENT_FACTOR}", factor_per_layer(lost), 0.25, 0.012, 0.02),
            Check("critical pair: accuracy on held-out digits after training", accuracies["kept"], 0.8, 1.0),
            Check("σ_w = 0.5: accuracy on held-out digits after training", accuracies["lost"], 0.0, 0.3),
            *forward_only,
        ),
        (
            Plot("A tanh network of 20 layers in training", "epoch", "accuracy on held-out digits", tuple(series)),
            Plot("Activations and gradients by layer, tanh", "layer", "mean square", (
                ("activations, critical pair", tuple(range(1, depth + 1)), mean_squares(kept[0], "activation")),
                ("gradients, critical pair", tuple(range(1, depth + 1)), mean_squares(kept[0])),
                ("activations, σ_w = 0.5", tuple(range(1, depth + 1)), mean_squares(lost[0], "activation")),
                ("gradients, σ_w = 0.5", tuple(range(1, depth + 1)), mean_squares(lost[0])),
            ), True),
        ),
    )  # fmt: skip


def variance_of_a_sum(settings: Settings) -> Measurement:
    runs = profile(settings, "sum.tanh", "tanh", 20, 1.0)
    relu = profile(settings, "sum.relu", "relu", 20, math.sqrt(2.0))

    def ratio(layers_of: list, weight_variance: float, moment: str) -> list[float]:  # type: ignore[type-arg]
        """Measured Var(z) over n Var(w) times a moment of the activations of the layer before; mean over the networks."""
        return [
            float(np.mean([
                run[layer].pre_activation.variance
                / (weight_variance * getattr(run[layer - 1].activation, moment))
                for run in layers_of
            ]))
            for layer in range(1, 20)
        ]  # fmt: skip

    tanh, by_variance = ratio(runs, 1.0, "variance"), ratio(relu, 2.0, "variance")
    by_moment = ratio(relu, 2.0, "second_moment")
    return Measurement(
        f"Measured Var(z) over n Var(w) Var(a) in layers 2 to 20: {min(tanh):.3f} to {max(tanh):.3f} for tanh, "
        f"{np.mean(by_variance):.2f} on average for ReLU; there with the mean square of a in place of Var(a): "
        f"{np.mean(by_moment):.3f}.",
        (
            near(settings, "tanh: smallest ratio of Var(z) to n Var(w) Var(a) of a layer", min(tanh), 1.0, 0.035, 0.055),
            near(settings, "tanh: largest ratio of Var(z) to n Var(w) Var(a) of a layer", max(tanh), 1.0, 0.035, 0.055),
            near(settings, "tanh: mean ratio of Var(z) to n Var(w) Var(a)", float(np.mean(tanh)), 1.0, 0.011, 0.015),
            near(settings, "ReLU: mean ratio of Var(z) to n Var(w) E[a²]", float(np.mean(by_moment)), 1.0, 0.03, 0.04),
            # Var(a) is the mean square minus the squared mean, which for ReLU is 1/pi of the mean square.
            near(settings, "ReLU: mean ratio of Var(z) to n Var(w) Var(a)",
                 float(np.mean(by_variance)), 1 / (1 - 1 / math.pi), 0.035, 0.055),
        ),
        (Plot("Var(z) over n Var(w) Var(a)", "layer", "ratio", (
            ("tanh", tuple(range(2, 21)), tuple(tanh)),
            ("ReLU, mean square of a in place of Var(a)", tuple(range(2, 21)), tuple(by_moment)),
        )),),
    )  # fmt: skip


RULES = (
    Claim(
        9,
        "Rules of thumb: keep the mean of the activations 0 and their variance the same in every layer; then gradients neither "
        "explode nor vanish.",
        "20 and 50 wide tanh or sigmoid layers at initialisation; 20 layers of 64 units in training; digits",
        rules_of_thumb,
        "half true",
        "At the critical pair (σ_w², σ_b²) = (1.761, 0.05) of tanh the mean squares of activations and gradients stay constant, "
        "and such a network trains. But mean 0 and constant variance of the activations do not keep that of the gradients "
        "constant: it is multiplied by χ₁ per layer, whatever the activations do.",
    ),
    Claim(
        11,
        "The variance of a pre-activation is n Var(w) Var(a).",
        "20 wide layers, tanh with N(0, 1/n) and ReLU with N(0, 2/n), digits",
        variance_of_a_sum,
        "true",
        "True up to sampling error where a has mean 0. Elsewhere, as after ReLU, the mean square of a replaces its variance.",
    ),
)
