"""Claims 10, 12 and 13: Xavier for tanh and sigmoid, He for ReLU."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np

from ..initializers import HeNormal, Orthogonal
from ..theory import chi_1, correlation_map, fixed_point, variance_map
from .claims_rules import CRITICAL_BIAS_VARIANCE, CRITICAL_WEIGHT_VARIANCE
from .measure import (
    ACTIVATION_FACTOR,
    GRADIENT_FACTOR,
    NETWORKS,
    factor_per_layer,
    margin_of,
    mean_squares,
    near,
    profile,
    theory_by_layer,
    train_twenty_epochs,
    width_of,
)
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["NAMED"]


def xavier_tanh(settings: Settings) -> Measurement:
    depth = 100
    runs = profile(settings, "xavier.tanh", "tanh", depth, 1.0, networks=2 * NETWORKS)
    # With weights N(0, 1/n_in) the mean square of the activations of layer l is the variance of the pre-activations of l + 1.
    variances, factors = theory_by_layer("tanh", depth + 1, 1.0)
    expected = [math.sqrt(q) for q in variances[1:]]
    measured = [
        math.sqrt(float(np.mean([run[layer].activation.second_moment for run in runs])))
        for layer in range(depth)
    ]
    checks = [
        near(settings, f"standard deviation of the activations of layer {i + 1}", measured[i], expected[i], 0.02, 0.025)
        for i in range(5)
    ]
    product = 2 * depth * measured[-1] ** 2
    decay = math.exp(np.mean([math.log(run[0].gradient.second_moment / run[-1].gradient.second_moment) for run in runs]))
    predicted_decay = math.prod(factors[: depth - 1])
    critical = profile(
        settings, "xavier.critical", "tanh", 40,
        math.sqrt(CRITICAL_WEIGHT_VARIANCE), math.sqrt(CRITICAL_BIAS_VARIANCE),
    )  # fmt: skip
    forth, back = factor_per_layer(critical, "activation", backward=False), factor_per_layer(critical)
    checks += [
        # 1/(2 l) is the leading term for infinite width. With width n the variance of layer 100 is lower by a fraction of
        # about 100 / n and varies by as much from network to network. An exponential decay would still be far outside.
        Check("200 times the variance of the activations of layer 100", product, 0.55, 1.2),
        near(settings, "standard deviation of the activations of layer 100", measured[-1], expected[-1], 0.15, 0.24),
        near(settings, "mean square of the gradients of layer 1 over layer 100", decay, predicted_decay, 0.28, 0.4),
        near(settings, f"critical pair: {ACTIVATION_FACTOR}", forth, 1.0, 0.005, 0.01),
        near(settings, f"critical pair: {GRADIENT_FACTOR}", back, 1.0, 0.017, 0.025),
    ]
    shown = ", ".join(f"{value:.3f}" for value in measured[:5])
    return Measurement(
        f"Standard deviation of the activations in layers 1 to 5: {shown}; in layer 100: {measured[-1]:.3f}, where 200 times the "
        f"variance is {product:.2f}. Over these layers the gradients' mean square is multiplied by {decay:.2g} (theory "
        f"{predicted_decay:.2g}). At the critical pair the mean square of the activations is multiplied by {forth:.3f} per "
        f"layer, and that of the gradients by {back:.3f}.",
        tuple(checks),
        (Plot("Activations by layer, tanh, N(0, 1/n_in)", "layer", "standard deviation", (
            ("measured", tuple(range(1, depth + 1)), tuple(measured)),
            ("theory", tuple(range(1, depth + 1)), tuple(expected)),
            ("critical pair, 40 layers", tuple(range(1, 41)), tuple(map(math.sqrt, mean_squares(critical[0], "activation")))),
        )),),
    )  # fmt: skip


def xavier_sigmoid(settings: Settings) -> Measurement:
    depth = 20
    runs = profile(settings, "xavier.sigmoid", "sigmoid", depth, 1.0)
    q = fixed_point("sigmoid", 1.0)
    expected = math.sqrt(chi_1("sigmoid", q, 1.0))
    back = math.sqrt(factor_per_layer(runs))
    mean = float(np.mean([run[layer].activation.mean for run in runs for layer in range(5, depth)]))
    variance = float(np.mean([run[layer].activation.variance for run in runs for layer in range(5, depth)]))
    second = variance_map("sigmoid", q, 1.0)
    forth = factor_per_layer(runs, "activation", backward=False)
    accuracies = {
        (activation, hidden): train_twenty_epochs(settings, "xavier.train", activation, hidden, 1.0).validation_accuracy[-1]
        for activation, hidden in (("sigmoid", 3), ("sigmoid", 10), ("tanh", 10))
    }
    return Measurement(
        f"The mean of the activations is {mean:.3f}; per layer their mean square is multiplied by {forth:.3f}, and the standard "
        f"deviation of the gradients by {back:.4f}. Accuracy on held-out digits after 20 epochs: "
        f"{accuracies['sigmoid', 3]:.1%} with three hidden sigmoid layers, {accuracies['sigmoid', 10]:.1%} with ten, "
        f"{accuracies['tanh', 10]:.1%} with ten tanh layers.",
        (
            near(settings, "mean of the activations", mean, 0.5, 0.007, 0.01),
            near(settings, ACTIVATION_FACTOR, forth, 1.0, 0.005, 0.007),
            near(settings, "variance of the activations from layer 6 on", variance, second - 0.25, 0.038, 0.045),
            near(settings, "factor of the gradients' standard deviation per layer", back, expected, 0.006, 0.009),
            Check("factor of the gradients' standard deviation per layer, by the theory", expected, 0.2355, 0.2365),
            Check("accuracy on held-out digits, three sigmoid layers", accuracies["sigmoid", 3], 0.2, 0.95),
            Check("accuracy on held-out digits, ten sigmoid layers", accuracies["sigmoid", 10], 0.0, 0.2),
            Check("accuracy on held-out digits, ten tanh layers", accuracies["tanh", 10], 0.9, 1.0),
        ),
        (Plot("Activations and gradients by layer, sigmoid, N(0, 1/n_in)", "layer", "mean square", (
            ("activations", tuple(range(1, depth + 1)), mean_squares(runs[0], "activation")),
            ("gradients", tuple(range(1, depth + 1)), mean_squares(runs[0])),
        ), True),),
    )  # fmt: skip


def _dead_units(settings: Settings) -> dict[float, tuple[float, ...]]:
    """The fractions of dead units, which no image activates, of layers 1, 10 and 30; by σ_w², with the same random numbers."""
    return {
        variance: tuple(
            float(np.mean([run[layer - 1].dead for run in runs])) for layer in (1, 10, 30)
        )
        for variance in (0.01, 1.0, 2.0, 8.0)
        for runs in [profile(settings, "he.dead", "relu", 30, math.sqrt(variance), networks=2, count=256)]
    }


def he_relu(settings: Settings) -> Measurement:
    depth = 20
    networks = 4 * NETWORKS
    runs = profile(settings, "he.relu", "relu", depth, math.sqrt(2.0), networks=networks)
    # For these the expectation of the ratio of two successive layers is exactly 1, forward and backward.
    forth = float(np.mean([
        b.pre_activation.second_moment / a.pre_activation.second_moment for run in runs for a, b in pairwise(run)
    ]))  # fmt: skip
    back = float(np.mean([
        a.gradient.second_moment / b.gradient.second_moment for run in runs for a, b in pairwise(run)
    ]))  # fmt: skip
    variance = float(np.mean([
        layer.activation.variance / layer.pre_activation.second_moment for run in runs for layer in run[:8]
    ]))  # fmt: skip
    means = float(np.mean([
        layer.activation.mean / math.sqrt(layer.pre_activation.second_moment)
        for run in runs for layer in run[:8]
    ]))  # fmt: skip
    # The mean cosine between the activations of 64 inputs that are orthogonal to each other, layer by layer.
    x = Orthogonal(gain=8.0)((64, 64), key=settings.key / "he.inputs")
    pairs = list(combinations(range(64), 2))
    cosines = np.zeros(10)
    for i in range(NETWORKS):
        stack = settings.stack(
            (64,) + (width_of(settings),) * len(cosines), "relu", weights=HeNormal(), key=settings.key / f"he.pair.{i}"
        )
        found = stack.propagate(x, pairs=pairs).activation_cosines
        assert found is not None
        cosines += found.mean(axis=1) / NETWORKS
    expected, c = [], 0.0
    for _ in cosines:
        c = correlation_map("relu", c, 1.0, 2.0)
        expected.append(c)
    dead = _dead_units(settings)
    difference = max(abs(a - b) for fractions in dead.values() for a, b in zip(fractions, dead[2.0], strict=True))
    return Measurement(
        f"Per layer the mean square of the pre-activations is multiplied by {forth:.3f} and that of the gradients by {back:.3f}. "
        f"With σ² the variance of the pre-activations, the activations have mean {means:.3f} σ and variance {variance:.3f} σ². "
        "The cosine between two orthogonal inputs becomes "
        + ", ".join(f"{v:.2f}" for v in cosines[[0, 1, 2, 9]])
        + " after layers 1, 2, 3 and 10. Units that none of 256 images activates, in layers 1, 10 and 30: "
        + ", ".join(f"{fraction:.1%}" for fraction in dead[2.0])
        + f"; at σ_w² = 0.01, 1 and 8 the fractions differ by at most {difference:.2%}.",
        (
            near(settings, "factor of the pre-activations' mean square per layer", forth, 1.0, 0.02, 0.03),
            near(settings, GRADIENT_FACTOR, back, 1.0, 0.01, 0.015),
            near(settings, "variance of the activations over σ²", variance, 0.5 - 0.5 / math.pi, 0.02, 0.03),
            near(settings, "mean of the activations over σ", means, 1 / math.sqrt(2 * math.pi), 0.025, 0.035),
            *(
                near(settings, f"cosine between two inputs after layer {i + 1}", float(cosines[i]), expected[i], 0.065, 0.09)
                for i in (0, 1, 2, 9)
            ),
            # Rounding may change the sign of a pre-activation that is nearly 0: at most one unit of a layer is allowed.
            Check("fraction of dead units: largest difference between four values of σ_w²", difference,
                  0, 1 / width_of(settings)),
            Check("fraction of dead units in layer 1", dead[2.0][0], 0, margin_of(settings, 0.01, 0.02)),
            Check("fraction of dead units in layer 30", dead[2.0][2], 0.1, 0.55),
        ),
        (Plot("Cosine between two inputs, ReLU, He's weights", "layer", "cosine", (
            ("measured", tuple(range(1, 11)), tuple(float(v) for v in cosines)),
            ("theory", tuple(range(1, 11)), tuple(expected)),
        )),),
    )  # fmt: skip


NAMED = (
    Claim(
        10,
        "Xavier initialisation N(0, 1/n_in) keeps the variance of tanh layers.",
        "100 wide tanh layers, N(0, 1/n_in) (the variance of LeCun's normal; Glorot's is 2/(n_in + n_out), which is the same for "
        "layers of equal width), digits",
        xavier_tanh,
        "half true",
        "Only to first order: in layer l the variance is about 1/(2 l), a slow and not an exponential decay, and the gradients "
        "shrink too. Both stay constant at the critical pair of the theory.",
    ),
    Claim(
        12,
        "Xavier initialisation suits sigmoid as well.",
        "20 wide sigmoid layers, N(0, 1/n_in), digits; three and ten layers of 64 units trained by gradient descent at rate 0.1",
        xavier_sigmoid,
        "false",
        "The activations stay constant, but with mean ½, and the standard deviation of the gradients is multiplied by 0.236 per "
        "layer: three hidden layers learn slowly, ten do not learn.",
    ),
    Claim(
        13,
        "He initialisation N(0, 2/n_in) suits ReLU, and prevents dying ReLUs.",
        "20 and 30 wide ReLU layers, N(0, 2/n_in), digits; orthogonal inputs",
        he_relu,
        "half true",
        "On average over networks the mean square stays exactly constant. It differs from the variance, because the mean is "
        "0.399 σ, and the correlation between inputs converges to 1. It prevents no dead units at initialisation: with zero "
        "biases a scale changes no sign, so their fraction is the same for every σ_w.",
    ),
)
