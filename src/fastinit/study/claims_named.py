"""Claims 10, 12 and 13: Xavier for tanh and sigmoid, He for ReLU."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np

from ..initializers import HeNormal, Orthogonal
from ..theory import chi_1, correlation_map, fixed_point, variance_map
from .claims_rules import CRITICAL_BIAS_VARIANCE, CRITICAL_WEIGHT_VARIANCE
from .measure import energies, factor, near, profile, seeds_of, settling, trained, width_of, within
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["NAMED"]


def xavier_tanh(settings: Settings) -> Measurement:
    depth = 100
    runs = profile(settings, "xavier.tanh", "tanh", depth, 1.0, networks=2 * seeds_of(settings))
    # The activations' mean square in layer l is, at N(0, 1/n_in), the pre-activations' variance in layer l + 1.
    variances, factors = settling("tanh", depth + 1, 1.0)
    expected = [math.sqrt(q) for q in variances[1:]]
    measured = [
        math.sqrt(float(np.mean([run[layer].activation.second_moment for run in runs])))
        for layer in range(depth)
    ]
    checks = [
        near(settings, f"std of layer {layer + 1}", measured[layer], expected[layer], 0.02, 0.025) for layer in range(5)
    ]
    law = 2 * depth * measured[-1] ** 2
    fall = math.exp(np.mean([math.log(run[0].gradient.second_moment / run[-1].gradient.second_moment) for run in runs]))
    fall_expected = math.prod(factors[: depth - 1])
    critical = profile(
        settings, "xavier.critical", "tanh", 40,
        math.sqrt(CRITICAL_WEIGHT_VARIANCE), math.sqrt(CRITICAL_BIAS_VARIANCE),
    )  # fmt: skip
    held, held_back = factor(critical, "activation", backward=False), factor(critical)
    checks += [
        # 1/(2 l) is the leading term for infinite width. At depth 100 and width n networks lie lower by some
        # depth / n of the variance and scatter by as much: an exponential decay would be far outside.
        Check("2 l times the variance of layer 100", law, 0.55, 1.2),
        near(settings, "std of layer 100", measured[-1], expected[-1], 0.15, 0.24),
        near(settings, "gradient energy of layer 1 over layer 100", fall, fall_expected, 0.28, 0.4),
        near(settings, "critical pair: activation energy per layer", held, 1.0, 0.005, 0.01),
        near(settings, "critical pair: gradient energy per layer", held_back, 1.0, 0.017, 0.025),
    ]
    shown = ", ".join(f"{value:.3f}" for value in measured[:5])
    return Measurement(
        f"std by layer {shown}, … {measured[-1]:.3f} at layer 100 (2 l q = {law:.2f}); gradient energy over these layers "
        f"× {fall:.2g} (theory {fall_expected:.2g}); at the critical pair signal × {held:.3f} and gradient × {held_back:.3f}"
        " a layer",
        tuple(checks),
        (Plot("Standard deviation of the activations, tanh, N(0, 1/n_in)", "layer", "standard deviation", (
            ("measured", tuple(range(1, depth + 1)), tuple(measured)),
            ("theory", tuple(range(1, depth + 1)), tuple(expected)),
            ("critical pair, 40 layers", tuple(range(1, 41)), tuple(math.sqrt(v) for v in energies(critical[0], "activation"))),
        )),),
    )  # fmt: skip


def xavier_sigmoid(settings: Settings) -> Measurement:
    depth = 20
    runs = profile(settings, "xavier.sigmoid", "sigmoid", depth, 1.0)
    q = fixed_point("sigmoid", 1.0)
    expected = math.sqrt(chi_1("sigmoid", q, 1.0))
    shrink = math.sqrt(factor(runs))
    mean = float(np.mean([run[layer].activation.mean for run in runs for layer in range(5, depth)]))
    variance = float(np.mean([run[layer].activation.variance for run in runs for layer in range(5, depth)]))
    second = variance_map("sigmoid", q, 1.0)
    settled = factor(runs, "activation", backward=False)
    accuracies = {
        (activation, hidden): trained(settings, "xavier.train", activation, hidden, 1.0).validation_accuracy[-1]
        for activation, hidden in (("sigmoid", 3), ("sigmoid", 10), ("tanh", 10))
    }
    return Measurement(
        f"activation mean {mean:.3f}, energy per layer × {settled:.3f}; gradients × {shrink:.4f} a layer (std); held-out "
        f"accuracy after 20 epochs {accuracies['sigmoid', 3]:.1%} with three hidden layers, {accuracies['sigmoid', 10]:.1%} with "
        f"ten, where tanh has {accuracies['tanh', 10]:.1%}",
        (
            near(settings, "mean of the activations", mean, 0.5, 0.007, 0.01),
            near(settings, "activation energy per layer", settled, 1.0, 0.005, 0.007),
            near(settings, "variance of the activations, layers 6 on", variance, second - 0.25, 0.038, 0.045),
            near(settings, "gradient std per layer", shrink, expected, 0.006, 0.009),
            Check("the theory's factor", expected, 0.2355, 0.2365),
            Check("held-out accuracy, three sigmoid layers", accuracies["sigmoid", 3], 0.2, 0.95),
            Check("held-out accuracy, ten sigmoid layers", accuracies["sigmoid", 10], 0.0, 0.2),
            Check("held-out accuracy, ten tanh layers", accuracies["tanh", 10], 0.9, 1.0),
        ),
        (Plot("Sigmoid, N(0, 1/n_in)", "layer", "mean square", (
            ("activation", tuple(range(1, depth + 1)), energies(runs[0], "activation")),
            ("gradient", tuple(range(1, depth + 1)), energies(runs[0])),
        ), True),),
    )  # fmt: skip


def _dead_shares(settings: Settings) -> dict[float, tuple[float, ...]]:
    """By weight variance times n, for the same draws: the shares of units of layers 1, 10 and 30 that no image activates."""
    return {
        variance: tuple(
            float(np.mean([run[layer - 1].dead for run in runs])) for layer in (1, 10, 30)
        )
        for variance in (0.01, 1.0, 2.0, 8.0)
        for runs in [profile(settings, "he.dead", "relu", 30, math.sqrt(variance), networks=2, count=256)]
    }


def he_relu(settings: Settings) -> Measurement:
    depth = 20
    networks = 4 * seeds_of(settings)
    runs = profile(settings, "he.relu", "relu", depth, math.sqrt(2.0), networks=networks)
    # The ratio of neighbouring layers has expectation 1 exactly, forward and backward.
    kept = float(np.mean([
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
    # 64 inputs at right angles to each other: the mean cosine of their activations, layer by layer.
    x = Orthogonal(gain=8.0)((64, 64), key=settings.key / "he.inputs")
    pairs = list(combinations(range(64), 2))
    cosines = np.zeros(10)
    for i in range(seeds_of(settings)):
        stack = settings.stack(
            (64,) + (width_of(settings),) * len(cosines), "relu", weights=HeNormal(), key=settings.key / f"he.pair.{i}"
        )
        found = stack.propagate(x, pairs=pairs).activation_cosines
        assert found is not None
        cosines += found.mean(axis=1) / seeds_of(settings)
    expected, c = [], 0.0
    for _ in cosines:
        c = correlation_map("relu", c, 1.0, 2.0)
        expected.append(c)
    dead = _dead_shares(settings)
    unlike = max(abs(a - b) for shares in dead.values() for a, b in zip(shares, dead[2.0], strict=True))
    return Measurement(
        f"second moment per layer × {kept:.3f}, gradient × {back:.3f}; mean {means:.3f} σ, variance "
        f"{variance:.3f} σ²; cosine of two inputs 0 → "
        + ", ".join(f"{v:.2f}" for v in cosines[[0, 1, 2, 9]])
        + "; units that none of 256 images activates, in layers 1, 10, 30: "
        + ", ".join(f"{share:.1%}" for share in dead[2.0])
        + f", and at σ_w² 0.01, 1 and 8 the same but for {unlike:.2%}",
        (
            near(settings, "second moment of z, layer over layer", kept, 1.0, 0.02, 0.03),
            near(settings, "gradient energy, layer over layer", back, 1.0, 0.01, 0.015),
            near(settings, "variance of the activations over sigma^2", variance, 0.5 - 0.5 / math.pi, 0.02, 0.03),
            near(settings, "mean of the activations over sigma", means, 1 / math.sqrt(2 * math.pi), 0.025, 0.035),
            *(
                near(settings, f"cosine after layer {layer + 1}", float(cosines[layer]), expected[layer], 0.065, 0.09)
                for layer in (0, 1, 2, 9)
            ),
            # A unit whose sum is nearly 0 may round to the other side of it: one of a layer, no more.
            Check("largest difference between the shares of dead units at four scales", unlike, 0, 1 / width_of(settings)),
            Check("share of dead units in layer 1", dead[2.0][0], 0, within(settings, 0.01, 0.02)),
            Check("share of dead units in layer 30", dead[2.0][2], 0.1, 0.55),
        ),
        (Plot("Cosine between two inputs, ReLU, He", "layer", "cosine", (
            ("measured", tuple(range(1, 11)), tuple(float(v) for v in cosines)),
            ("theory", tuple(range(1, 11)), tuple(expected)),
        )),),
    )  # fmt: skip


NAMED = (
    Claim(
        10,
        "Xavier initialisation N(0, 1/n_in) keeps the variance of tanh layers.",
        "100 wide tanh layers, N(0, 1/n_in) (by its variance LeCun's normal; Glorot's own is 2/(n_in + n_out), "
        "the same here), digits",
        xavier_tanh,
        "half true",
        "Only to first order: the variance decays like 1/(2 l), not exponentially, and the gradients fall with it. Both are "
        "really kept at the critical pair of the theory.",
    ),
    Claim(
        12,
        "Xavier initialisation suits sigmoid as well.",
        "20 wide sigmoid layers, N(0, 1/n_in), digits; three and ten layers of 64 trained by gradient descent at rate 0.1",
        xavier_sigmoid,
        "false",
        "The activations settle, but at mean ½, and the gradients shrink by 0.236 per layer: three hidden layers learn slowly, "
        "ten do not learn.",
    ),
    Claim(
        13,
        "He initialisation N(0, 2/n_in) suits ReLU, and prevents dying ReLUs.",
        "20 and 30 wide ReLU layers, N(0, 2/n_in), digits; inputs at right angles",
        he_relu,
        "half true",
        "The second moment is kept exactly, on average over networks; the variance is not the same thing, as the "
        "mean is 0.399 σ, and the correlation between inputs goes to 1. At initialisation it prevents no dead units: with "
        "zero biases a scale changes no sign, so their share is the same for every σ_w.",
    ),
)
