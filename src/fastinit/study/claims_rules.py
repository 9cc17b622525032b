"""Claims 9 and 11: the rules of thumb for activations, and the variance of a sum."""

from __future__ import annotations

import math

import numpy as np

from .._training.fit import fit
from .._training.optimizers import Momentum
from ..initializers import RandomNormal, VarianceScaling
from ..theory import chi_1, fixed_point
from .measure import energies, factor, near, profile, settling, within
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["CRITICAL_BIAS_VARIANCE", "CRITICAL_WEIGHT_VARIANCE", "RULES"]

# The pair where tanh keeps both signal and gradient (chi_1 = 1): theory, see tests/theory/test_theory.py.
CRITICAL_WEIGHT_VARIANCE, CRITICAL_BIAS_VARIANCE = 1.76095464, 0.05


def _kept_forward_alone(settings: Settings) -> tuple[list[Check], str]:
    """Networks of 50 layers whose activations are as the rules want them, and whose gradients are not."""
    depth = 50
    checks, told = [], []
    for activation, weight_variance, bias_variance, label in (
        ("tanh", 25 / 9, 0.0, "tanh, gain 5/3"),
        ("tanh", 4.0, 0.05, "tanh, σ_w² 4, σ_b² 0.05"),
        ("sigmoid", 1.0, 0.0, "sigmoid, σ_w² 1"),
    ):
        name = f"rules.{activation}.{weight_variance}"
        runs = profile(settings, name, activation, depth, math.sqrt(weight_variance), math.sqrt(bias_variance))
        variances = [np.mean([run[layer].activation.variance for run in runs]) for layer in (9, depth - 1)]
        means = [abs(float(np.mean([run[layer].activation.mean for run in runs]))) for layer in range(depth)]
        growth = float(np.mean([math.log(run[0].gradient.second_moment / run[-1].gradient.second_moment) for run in runs]))
        # Over the stack by the theory, layer by layer: the first ones have not settled yet.
        theory = sum(map(math.log, settling(activation, depth, weight_variance, bias_variance)[1]))
        if activation == "tanh":
            checks += [
                Check(f"{label}: largest mean of a layer's activations", max(means), 0, within(settings, 0.025, 0.03)),
                near(settings, f"{label}: variance of the activations, layer 50 over layer 10",
                     float(variances[1] / variances[0]), 1.0, 0.02, 0.03),
            ]  # fmt: skip
        checks += [
            near(settings, f"{label}: gradient energy per layer, settled", factor(runs),
                 chi_1(activation, fixed_point(activation, weight_variance, bias_variance), weight_variance), 0.01, 0.015),
            Check(f"{label}: ln of the gradient energy's growth over the stack, less the theory's", growth - theory,
                  -within(settings, 0.35, 0.6), within(settings, 0.35, 0.6)),
        ]  # fmt: skip
        amounts = [f"e^{log:.0f}" if log < -20 else f"{math.exp(log):.2g}" for log in (growth, theory)]
        told.append(f"{label}, × {amounts[0]} (theory {amounts[1]})")
    return checks, "; ".join(told)


def rules_of_thumb(settings: Settings) -> Measurement:
    depth = 20
    sigma_w, sigma_b = math.sqrt(CRITICAL_WEIGHT_VARIANCE), math.sqrt(CRITICAL_BIAS_VARIANCE)
    kept = profile(settings, "rules.critical", "tanh", depth, sigma_w, sigma_b)
    lost = profile(settings, "rules.small", "tanh", depth, 0.5)
    means = max(abs(float(np.mean([run[layer].activation.mean for run in kept]))) for layer in range(depth))
    drift = factor(kept, "activation", backward=False)
    back = factor(kept)
    variances = [float(np.mean([run[layer].activation.variance for run in kept])) for layer in (4, depth - 1)]
    energy = float(np.mean([run[layer].pre_activation.second_moment for run in kept for layer in range(5, depth)]))
    q = fixed_point("tanh", CRITICAL_WEIGHT_VARIANCE, CRITICAL_BIAS_VARIANCE)
    # By layer 5 the variance of pre-activations, which starts at 1.81, has not quite come down to q.
    before = settling("tanh", depth + 1, CRITICAL_WEIGHT_VARIANCE, CRITICAL_BIAS_VARIANCE)[0]
    settled = (before[depth] - CRITICAL_BIAS_VARIANCE) / (before[5] - CRITICAL_BIAS_VARIANCE)

    # The same rule on a network that is trained: 20 layers of 64 on the digits.
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
        label = "rules kept (critical pair)" if name == "kept" else "activation energy falls by ¼ a layer (σ_w = 0.5)"
        series.append((label, tuple(range(1, epochs + 1)), tuple(history.validation_accuracy)))
    alone, told = _kept_forward_alone(settings)
    return Measurement(
        f"tanh, critical pair: mean below {means:.3f}, activation energy per layer × {drift:.3f}, gradient × {back:.3f}; "
        f"20 layers trained reach {accuracies['kept']:.1%} on held-out digits, against {accuracies['lost']:.1%} at σ_w = 0.5. "
        f"Mean and variance kept forward alone: gradient energy over 50 layers, {told}",
        (
            Check("largest mean of a layer's activations", means, 0, within(settings, 0.045, 0.05)),
            near(settings, "activation energy per layer", drift, 1.0, 0.01, 0.015),
            near(settings, "variance of the activations, layer 20 over layer 5", variances[1] / variances[0], settled, 0.08, 0.1),
            near(settings, "variance of the pre-activations", energy, q, 0.05, 0.065),
            near(settings, "gradient energy per layer", back, 1.0, 0.018, 0.027),
            near(settings, "sigma_w 0.5: gradient energy per layer", factor(lost), 0.25, 0.012, 0.02),
            Check("held-out accuracy, rules kept", accuracies["kept"], 0.8, 1.0),
            Check("held-out accuracy, rules broken", accuracies["lost"], 0.0, 0.3),
            *alone,
        ),
        (
            Plot("Held-out accuracy of a 20-layer tanh network", "epoch", "accuracy", tuple(series)),
            Plot("Energy by layer, tanh", "layer", "mean square", (
                ("activation, critical", tuple(range(1, depth + 1)), energies(kept[0], "activation")),
                ("gradient, critical", tuple(range(1, depth + 1)), energies(kept[0])),
                ("activation, σ_w = 0.5", tuple(range(1, depth + 1)), energies(lost[0], "activation")),
                ("gradient, σ_w = 0.5", tuple(range(1, depth + 1)), energies(lost[0])),
            ), True),
        ),
    )  # fmt: skip


def variance_of_a_sum(settings: Settings) -> Measurement:
    runs = profile(settings, "sum.tanh", "tanh", 20, 1.0)
    relu = profile(settings, "sum.relu", "relu", 20, math.sqrt(2.0))

    def ratio(layers_of: list, weight_variance: float, moment: str) -> list[float]:  # type: ignore[type-arg]
        """Measured Var(z) over n Var(w) times a moment of the layer below, averaged over the networks."""
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
        f"measured over predicted, layers 2 to 20: {min(tanh):.3f} to {max(tanh):.3f} (tanh); for ReLU "
        f"{np.mean(by_variance):.2f} with Var(a), "
        f"{np.mean(by_moment):.3f} with the mean square of a",
        (
            near(settings, "tanh: smallest ratio", min(tanh), 1.0, 0.035, 0.055),
            near(settings, "tanh: largest ratio", max(tanh), 1.0, 0.035, 0.055),
            near(settings, "tanh: mean ratio", float(np.mean(tanh)), 1.0, 0.011, 0.015),
            near(settings, "ReLU: mean ratio, with the mean square", float(np.mean(by_moment)), 1.0, 0.03, 0.04),
            # Var(a) is the mean square less the squared mean: (1 - 1/pi) of it.
            near(settings, "ReLU: mean ratio, with Var(a)", float(np.mean(by_variance)), 1 / (1 - 1 / math.pi), 0.035, 0.055),
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
        "20 and 50 tanh or sigmoid layers, wide at initialisation; 20 layers of 64 in training; digits",
        rules_of_thumb,
        "half true",
        "At the critical pair (σ_w², σ_b²) = (1.761, 0.05) of tanh activations and gradients are kept, and such a network "
        "trains. But mean 0 and constant variance of the activations do not bound the gradients: those grow or fall by χ₁ per "
        "layer, whatever the activations do.",
    ),
    Claim(
        11,
        "The variance of a pre-activation is n Var(w) Var(a).",
        "20 wide layers, tanh with N(0, 1/n) and ReLU with N(0, 2/n), digits",
        variance_of_a_sum,
        "true",
        "True to sampling error where a has mean 0. Where it has not, as after ReLU, the mean square of a takes the place of its "
        "variance.",
    ),
)
