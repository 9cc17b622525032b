"""Claims 9 to 13 and 15: rules of thumb, Xavier, He, and Keras."""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from itertools import pairwise

import numpy as np

from ..initializers import HeNormal, Orthogonal, RandomNormal, VarianceScaling
from ..optimizers import Momentum
from ..stack import Stack
from ..theory import chi_1, correlation_map, fixed_point, variance_map
from ..training import fit
from .claims_scale import energies
from .measure import factor, near, profile, relative, seeds_of, width_of
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["RULES"]

# The pair where tanh keeps both signal and gradient (chi_1 = 1): theory, see tests/test_theory.py.
CRITICAL_WEIGHT_VARIANCE, CRITICAL_BIAS_VARIANCE = 1.76095464, 0.05


def rules_of_thumb(settings: Settings) -> Measurement:
    depth = 20
    sigma_w, sigma_b = math.sqrt(CRITICAL_WEIGHT_VARIANCE), math.sqrt(CRITICAL_BIAS_VARIANCE)
    kept = profile(settings, "rules.critical", "tanh", depth, sigma_w, sigma_b)
    lost = profile(settings, "rules.small", "tanh", depth, 0.5)
    means = max(abs(float(np.mean([run[layer].activation.mean for run in kept]))) for layer in range(depth))
    drift = factor(kept, "activation", backward=False)
    back = factor(kept)
    variances = [float(np.mean([run[layer].activation.variance for run in kept])) for layer in (4, depth - 1)]

    # The same rule on a network that is trained: 20 layers of 64 on the digits.
    accuracies, series = {}, []
    epochs = 6 if settings.quick else 15
    for name, weight_std, bias_std in (("kept", sigma_w, sigma_b), ("lost", 0.5, 0.0)):
        stack = Stack(
            (64,) * depth + (10,), "tanh", output_activation="linear",
            weights=VarianceScaling(weight_std**2, "fan_in", "normal"),
            biases=RandomNormal(0.0, bias_std), key=settings.key / "rules.train",
        )  # fmt: skip
        digits = settings.digits
        history = fit(
            stack, digits.x, digits.y, optimizer=Momentum(0.01), epochs=epochs, batch_size=32,
            validation=(digits.held_out_x, digits.held_out_y),
        )  # fmt: skip
        accuracies[name] = history.validation_accuracy[-1]
        label = "rules kept (critical pair)" if name == "kept" else "variance halved twice a layer (σ_w = 0.5)"
        series.append((label, tuple(range(1, epochs + 1)), tuple(history.validation_accuracy)))
    margin = relative(settings, 0.03)
    return Measurement(
        f"tanh, critical pair: mean below {means:.3f}, activation energy per layer × {drift:.3f}, gradient × {back:.3f}; "
        f"20 layers trained reach {accuracies['kept']:.1%} on held-out digits, against {accuracies['lost']:.1%} at σ_w = 0.5",
        (
            # 8 networks of 500 units: the layer mean of one has a standard deviation of some sigma / sqrt(n) = 0.03.
            Check("largest mean of a layer's activations", means, 0, relative(settings, 0.06)),
            near("activation energy per layer", drift, 1.0, margin),
            near("variance of the activations, layer 20 over layer 5", variances[1] / variances[0], 1.0,
                 relative(settings, 0.1)),
            near("gradient energy per layer", back, 1.0, margin),
            near("sigma_w 0.5: gradient energy per layer", factor(lost), 0.25, relative(settings, 0.04)),
            Check("held-out accuracy, rules kept", accuracies["kept"], 0.85, 1.0),
            Check("held-out accuracy, rules broken", accuracies["lost"], 0.0, 0.3),
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


def xavier_tanh(settings: Settings) -> Measurement:
    depth = 100
    runs = profile(settings, "xavier.tanh", "tanh", depth, 1.0, networks=2 * seeds_of(settings))
    # Activation variance of layer l is the pre-activation variance of layer l + 1: here by the theory's map.
    expected, q = [], 1.0
    for _ in range(depth):
        q = variance_map("tanh", q, 1.0)
        expected.append(math.sqrt(q))
    measured = [
        math.sqrt(float(np.mean([run[layer].activation.second_moment for run in runs])))
        for layer in range(depth)
    ]
    checks = [
        near(f"std of layer {layer + 1}", measured[layer], expected[layer], relative(settings, 0.025))
        for layer in range(5)
    ]
    law = 2 * depth * measured[-1] ** 2
    checks += [
        # 1/(2 l) is the leading term for infinite width. At depth 100 and width n networks lie lower by some
        # depth / n of the variance and scatter by as much: an exponential decay would be far outside.
        Check("2 l times the variance of layer 100", law, 0.6, 1.2),
        near("std of layer 100", measured[-1], expected[-1], relative(settings, 0.12)),
    ]
    critical = profile(
        settings, "xavier.critical", "tanh", 40,
        math.sqrt(CRITICAL_WEIGHT_VARIANCE), math.sqrt(CRITICAL_BIAS_VARIANCE),
    )  # fmt: skip
    held = factor(critical, "activation", backward=False)
    checks.append(near("critical pair: activation energy per layer", held, 1.0, relative(settings, 0.02)))
    shown = ", ".join(f"{value:.3f}" for value in measured[:5])
    return Measurement(
        f"std by layer {shown}, … {measured[-1]:.3f} at layer 100 (2 l q = {law:.2f}); kept (× {held:.3f} a "
        "layer) at the critical pair",
        tuple(checks),
        (Plot("Standard deviation of the activations, tanh, N(0, 1/n_in)", "layer", "standard deviation", (
            ("measured", tuple(range(1, depth + 1)), tuple(measured)),
            ("theory", tuple(range(1, depth + 1)), tuple(expected)),
            ("critical pair", tuple(range(1, 41)), tuple(math.sqrt(v) for v in energies(critical[0], "activation"))),
        )),),
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
    # A network's ratio of a layer scatters by sqrt(2 / n) where all samples are alike, by less where they differ.
    scatter = math.sqrt(2 / (width_of(settings) * seeds_of(settings)))
    return Measurement(
        f"measured over predicted, layers 2 to 20: {min(tanh):.3f} to {max(tanh):.3f} (tanh); for ReLU "
        f"{np.mean(by_variance):.2f} with Var(a), "
        f"{np.mean(by_moment):.3f} with the second moment",
        (
            Check("tanh: smallest ratio", min(tanh), 1 - 5.5 * scatter, 1),
            Check("tanh: largest ratio", max(tanh), 1, 1 + 5.5 * scatter),
            near("tanh: mean ratio", float(np.mean(tanh)), 1.0, relative(settings, 0.015)),
            near("ReLU: mean ratio, with the second moment", float(np.mean(by_moment)), 1.0,
                 relative(settings, 0.03)),
            # Var(a) is the second moment less the squared mean: (1 - 1/pi) of it.
            near("ReLU: mean ratio, with the variance", float(np.mean(by_variance)), 1 / (1 - 1 / math.pi),
                 relative(settings, 0.03)),
        ),
        (Plot("Var(z) over n Var(w) Var(a)", "layer", "ratio", (
            ("tanh", tuple(range(2, 21)), tuple(tanh)),
            ("ReLU, second moment in place of Var(a)", tuple(range(2, 21)), tuple(by_moment)),
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
    return Measurement(
        f"activation mean {mean:.3f}, energy per layer × {settled:.3f}; gradients × {shrink:.4f} a layer (std)",
        (
            Check("mean of the activations", mean, 0.49, 0.51),
            near("activation energy per layer", settled, 1.0, 0.01),
            near("variance of the activations, layers 6 on", variance, second - 0.25, relative(settings, 0.03)),
            near("gradient std per layer", shrink, expected, relative(settings, 0.02)),
            near("the theory's factor", expected, 0.236, 0.005),
        ),
        (Plot("Sigmoid, N(0, 1/n_in)", "layer", "mean square", (
            ("activation", tuple(range(1, depth + 1)), energies(runs[0], "activation")),
            ("gradient", tuple(range(1, depth + 1)), energies(runs[0])),
        ), True),),
    )  # fmt: skip


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
    cosines = np.zeros(10)
    for i in range(seeds_of(settings)):
        key = settings.key / f"he.pair.{i}"
        width = width_of(settings)
        stack = Stack((64,) + (width,) * len(cosines), "relu", weights=HeNormal(), key=key)
        for layer in range(len(cosines)):
            part = Stack(
                stack.widths[: layer + 2], "relu", weights=stack.weights[: layer + 1],
                biases=stack.biases[: layer + 1], key=key,
            )  # fmt: skip
            a = part.forward(x).astype(np.float64)
            a /= np.linalg.norm(a, axis=1, keepdims=True)
            gram = a @ a.T
            cosines[layer] += gram[np.triu_indices(64, 1)].mean() / seeds_of(settings)
    expected, c = [], 0.0
    for _ in cosines:
        c = correlation_map("relu", c, 1.0, 2.0)
        expected.append(c)
    margin = relative(settings, 0.05)
    return Measurement(
        f"second moment per layer × {kept:.3f}, gradient × {back:.3f}; mean {means:.3f} σ, variance "
        f"{variance:.3f} σ²; cosine of two inputs 0 → "
        + ", ".join(f"{v:.2f}" for v in cosines[[0, 1, 2, 9]]),
        (
            # A layer's ratio scatters by sqrt(5 / n) = 0.1: the mean over 19 layers and 32 networks by 0.004.
            near("second moment of z, layer over layer", kept, 1.0, relative(settings, 0.025)),
            near("gradient energy, layer over layer", back, 1.0, relative(settings, 0.02)),
            near("variance of the activations over sigma^2", variance, 0.5 - 0.5 / math.pi, relative(settings, 0.02)),
            near("mean of the activations over sigma", means, 1 / math.sqrt(2 * math.pi), margin),
            *(
                near(f"cosine after layer {layer + 1}", float(cosines[layer]), expected[layer], margin)
                for layer in (0, 1, 2, 9)
            ),
        ),
        (Plot("Cosine between two inputs, ReLU, He", "layer", "cosine", (
            ("measured", tuple(range(1, 11)), tuple(float(v) for v in cosines)),
            ("theory", tuple(range(1, 11)), tuple(expected)),
        )),),
    )  # fmt: skip


def keras_takes_it(settings: Settings) -> Measurement:
    backends = [name for name in ("jax", "torch", "tensorflow") if importlib.util.find_spec(name)]
    if importlib.util.find_spec("keras") is None or not backends:
        return Measurement("", skipped="not measured: Keras or a backend for it is not installed")
    # Keras takes TensorFlow where nobody chose, and fails where that is absent.
    os.environ.setdefault("KERAS_BACKEND", backends[0])
    import keras

    digits = settings.digits
    initializer = HeNormal(seed=settings.seed)
    layer = keras.layers.Dense(64, activation="relu", kernel_initializer=initializer)
    with warnings.catch_warnings():
        # Keras's own, of how its arrays become NumPy's; it does not touch the values.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        keras.utils.set_random_seed(settings.seed % 2**32)
        model = keras.Sequential([keras.Input((64,)), layer, keras.layers.Dense(10)])
        kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel))
        unequal = float(np.abs(kernel - initializer((64, 64), "float32")).max())
        model.compile(
            optimizer=keras.optimizers.Adam(0.003),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
        )  # fmt: skip
        model.fit(digits.x, digits.y, epochs=5, batch_size=32, verbose=0)
        outputs = np.asarray(model.predict(digits.held_out_x, verbose=0))
        accuracy = float((outputs.argmax(axis=1) == digits.held_out_y).mean())
    return Measurement(
        f"Keras {keras.__version__} on {keras.config.backend()}: the kernel holds our values to the bit; held-out "
        f"accuracy {accuracy:.1%}",
        (
            Check("largest difference from our own draw", unequal, 0, 0),
            Check("held-out accuracy after 5 epochs", accuracy, 0.9, 1.0),
        ),
    )


RULES = (
    Claim(
        9,
        "Rules of thumb: the mean of the activations should be 0, and their variance the same in every layer.",
        "20 tanh layers, wide at initialisation and 64 wide in training; digits",
        rules_of_thumb,
        "true",
        "Both hold, forward and backward, at the critical pair (σ_w², σ_b²) = (1.761, 0.05), and such a network "
        "trains where one that breaks them does not.",
    ),
    Claim(
        10,
        "Xavier initialisation N(0, 1/n_in) keeps the variance of tanh layers.",
        "100 wide tanh layers, N(0, 1/n_in) (by its variance LeCun's normal; Glorot's own is 2/(n_in + n_out), "
        "the same here), digits",
        xavier_tanh,
        "half true",
        "Only to first order: the variance decays like 1/(2 l), not exponentially. It is really kept at the "
        "critical pair of the theory.",
    ),
    Claim(
        11,
        "The variance of a pre-activation is n Var(w) Var(a).",
        "20 wide layers, tanh with N(0, 1/n) and ReLU with N(0, 2/n), digits",
        variance_of_a_sum,
        "true",
        "True to sampling error where a has mean 0; otherwise, as for ReLU, the second moment stands in the place of Var(a).",
    ),
    Claim(
        12,
        "Xavier initialisation suits sigmoid as well.",
        "20 wide sigmoid layers, N(0, 1/n_in), digits",
        xavier_sigmoid,
        "half true",
        "The activations settle, but at mean ½, and the gradients shrink by 0.236 per layer.",
    ),
    Claim(
        13,
        "He initialisation N(0, 2/n_in) suits ReLU.",
        "20 wide ReLU layers, N(0, 2/n_in), digits; inputs at right angles",
        he_relu,
        "true",
        "The second moment is kept exactly, on average over networks; the variance is not the same thing, as the "
        "mean is 0.399 σ, and the correlation between inputs goes to 1.",
    ),
    Claim(
        15,
        "Keras' Dense(64, activation=\"relu\", kernel_initializer=...) takes the initialiser.",
        "the real Keras, 64-64-10 on the digits, five epochs",
        keras_takes_it,
        "true",
        "An initializer of ours works as it is in that argument.",
    ),
)
