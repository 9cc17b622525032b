"""Claims 1 to 3 and 14: equal weights, and random weights that break the symmetry."""

from __future__ import annotations

import math

import numpy as np

from .._training.fit import fit
from .._training.losses import mean_squared_error, softmax_cross_entropy
from .._training.optimizers import SGD
from ..initializers import Constant, RandomNormal, VarianceScaling
from ..theory import chi_1
from .measure import GRADIENT_FACTOR, NETWORKS, factor_per_layer, images, mean_squares, near, parameters, width_of
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["SYMMETRY"]


def zeros_do_not_learn(settings: Settings) -> Measurement:
    digits = settings.digits
    probabilities = np.bincount(digits.y, minlength=10) / len(digits.y)
    prior = float(-(probabilities * np.log(probabilities)).sum())
    steps = 100 if settings.quick else 500
    checks, series, starts, ends, steepest = [], [], [], [], 0.0
    for activation in ("tanh", "relu"):
        stack = settings.stack(
            (64, 32, 32, 10), activation, output_activation="linear",
            weights="zeros", biases="zeros", key=settings.key,
        )  # fmt: skip
        largest, losses = 0.0, []
        for _ in range(steps):
            loss, dy = softmax_cross_entropy(stack.forward(digits.x), digits.y)
            gradients = stack.backward(digits.x, dy)
            largest = max(largest, *(float(np.abs(g).max()) for g in gradients.weights))
            for w, g in zip(parameters(stack), parameters(gradients), strict=True):
                w -= g
            losses.append(loss)
        end = softmax_cross_entropy(stack.forward(digits.x), digits.y)[0]
        starts.append(losses[0])
        steepest = max(steepest, largest)
        ends.append(end)
        checks += [
            Check(f"{activation}: largest gradient of a weight in {steps} steps", largest, 0, 0),
            # The loss starts at ln 10 and ends at the entropy of the class frequencies, which is slightly smaller.
            Check(f"{activation}: final loss minus the entropy of the class frequencies", end - prior, -1e-6, 1e-5),
            Check(f"{activation}: initial loss minus the entropy of the class frequencies", losses[0] - prior, 1e-5, 1.0),
        ]
        series.append((activation, tuple(range(steps)), tuple(v - prior for v in losses)))
    return Measurement(
        f"The largest gradient of a weight in {steps} steps is {steepest:g}. The loss falls from {starts[0]:.5f} to "
        f"{ends[0]:.5f}; the entropy of the class frequencies is {prior:.5f}.",
        tuple(checks),
        (Plot("Loss minus the entropy of the class frequencies, all weights zero", "step", "nats", tuple(series), True),),
    )


def zeros_sigmoid_perceptron(settings: Settings) -> Measurement:
    digits = settings.digits
    odd = (digits.y % 2).astype(np.float32)[:, None]
    widths = (64, 16, 16, 16, 1)
    depth = len(widths) - 1
    stack = settings.stack(widths, "sigmoid", weights="zeros", biases="zeros", key=settings.key)
    first = [math.nan] * depth
    steps = 200
    for step in range(steps):
        _, dy = mean_squared_error(stack.forward(digits.x), odd)
        gradients = stack.backward(digits.x, dy)
        for layer, g in enumerate(gradients.weights):
            if math.isnan(first[layer]) and np.any(g):
                first[layer] = step
        for w, g in zip(parameters(stack), parameters(gradients), strict=True):
            w -= np.float32(2.0) * g

    # Train three networks further: this one, a perceptron (no hidden layer), and this architecture with random weights.
    accuracies = {}
    networks = {
        "perceptron": settings.stack((64, 1), "sigmoid", weights="zeros", biases="zeros", key=settings.key),
        "zeros": stack,
        "random": settings.stack(
            widths, "sigmoid", weights=VarianceScaling(8.0, "fan_in", "normal"), key=settings.key / "perceptron"
        ),
    }
    for name, network in networks.items():
        fit(network, digits.x, odd, loss=mean_squared_error, optimizer=SGD(2.0), epochs=60, batch_size=32)
        accuracies[name] = float(((network.forward(digits.x) > 0.5) == (odd > 0.5)).mean())
    unequal = max(float(np.abs(w - w[:, :1]).max()) for w in stack.weights)
    # The second singular value over the first tells how far a matrix is from rank 1, if it is not zero.
    ratios, sizes = [], []
    for w in stack.weights[:-1]:
        s = np.linalg.svd(w.astype(np.float64), compute_uv=False)
        ratios.append(s[1] / s[0] if s[0] else math.nan)
        sizes.append(s[0])
    # The output depends on the pixels through one weighted sum alone, w x with the weights w of any unit of layer 1: with the
    # images sorted by it the outputs are monotonic up to float32 rounding, so one threshold gives the network's two classes.
    along = digits.x.astype(np.float64) @ stack.weights[0][:, 0].astype(np.float64)
    outputs = stack.forward(digits.x)[:, 0].astype(np.float64)[np.argsort(along)]
    outputs = outputs if outputs[0] < outputs[-1] else 1 - outputs
    against = float((np.maximum.accumulate(outputs) - outputs).max())
    classes = outputs > 0.5
    threshold = len(classes) - int(classes.sum())
    exceptions = int(classes[:threshold].sum() + (~classes[threshold:]).sum())
    # With ten outputs all rows of the last matrix are equal, so every output is a function of the same hidden activation.
    several = settings.stack(
        (64, 16, 16, 10), "sigmoid", output_activation="linear", weights="zeros", biases="zeros", key=settings.key
    )
    fit(several, digits.x, digits.y, optimizer=SGD(0.5), epochs=3, batch_size=64)
    shared = float(np.abs(several.weights[-1] - several.weights[-1][:1]).max())
    spread = float(np.ptp(several.weights[-1][0]))
    return Measurement(
        f"After training, the weights of the hidden units of a layer differ by {unequal:g}, and the second singular value of a "
        f"weight matrix is {max(ratios):.0g} of the first. One threshold on one weighted sum of the pixels gives the network's "
        f"answer for {len(classes) - exceptions} of {len(classes)} images. Accuracy: {accuracies['zeros']:.1%}; of a perceptron "
        f"{accuracies['perceptron']:.1%}; from random weights {accuracies['random']:.1%}. The first non-zero gradients of "
        f"layers 1 to {depth} come at steps {', '.join(f'{f:g}' for f in first)}.",
        (
            Check("largest difference between the weights of two units of a layer", unequal, 0, 0),
            Check("second singular value of a weight matrix, over the first", max(ratios), 0, 1e-6),
            Check("smallest spectral norm of a weight matrix (above 0: it was trained)", min(sizes), 1.0, 1e3),
            Check("largest decrease of the output as the weighted sum of the pixels grows", against, 0, 1e-5),
            Check("images for which a threshold on that sum disagrees with the network", exceptions, 0, 0),
            Check("fraction of images classified as odd", float(classes.mean()), 0.4, 0.6),
            Check("accuracy from zero weights minus accuracy of a perceptron",
                  accuracies["zeros"] - accuracies["perceptron"], -0.03, 0.03),
            Check("accuracy from random weights", accuracies["random"], 0.98, 1.0),
            Check("ten outputs: largest difference between the weights of two hidden units", shared, 0, 0),
            Check("ten outputs: range of the weights of one hidden unit (above 0: it was trained)", spread, 1e-3, 1e3),
            *(
                Check(f"step of the first non-zero gradient of layer {layer + 1}", first[layer], expected, expected)
                for layer, expected in enumerate(range(depth - 1, -1, -1))
            ),
        ),
    )  # fmt: skip


def equal_stay_equal(settings: Settings) -> Measurement:
    digits = settings.digits
    checks, differences, moves = [], [], []
    batches = math.ceil(len(digits.x) / 32)
    epochs = math.ceil(1000 / batches)
    steps = epochs * batches
    for activation in ("tanh", "relu", "sigmoid"):
        stack = settings.stack(
            (64, 48, 48, 10), activation, output_activation="linear",
            weights=Constant(0.02), biases="zeros", key=settings.key / activation,
        )  # fmt: skip
        start = stack.weights[0].copy()
        fit(stack, digits.x, digits.y, optimizer=SGD(0.05), batch_size=32, epochs=epochs)
        unequal = max(
            float(np.abs(stack.weights[0] - stack.weights[0][:, :1]).max()),
            float(np.abs(stack.weights[1] - stack.weights[1][:1, :1]).max()),
            float(np.abs(stack.weights[2] - stack.weights[2][:1]).max()),
        )
        moved = float(np.abs(stack.weights[0] - start).max())
        differences.append(unequal)
        moves.append(moved)
        checks += [
            Check(f"{activation}: largest difference between the weights of two units after {steps} steps", unequal, 0, 0),
            Check(f"{activation}: largest change of a weight (above 0: it was trained)", moved, 1e-4, 1e3),
        ]
    return Measurement(
        f"After {steps} steps the weights of the 48 units of a layer differ by {max(differences):g}, although they have changed "
        f"by up to {max(moves):.2f}.",
        tuple(checks),
    )


def small_random_weights(settings: Settings) -> Measurement:
    width, depth = width_of(settings), 20
    x = images(settings)
    checks, series, factors = [], [], {}
    distinct = math.inf
    held = math.sqrt(2 / width)
    for activation, std in (("tanh", 0.01), ("relu", 0.01), ("relu", 0.1), ("relu", held)):
        runs = []
        for i in range(NETWORKS):
            stack = settings.stack(
                (64,) + (width,) * depth, activation, weights=RandomNormal(0.0, std),
                biases="zeros", key=settings.key / f"small.{activation}.{std}.{i}",
            )  # fmt: skip
            ordered = np.sort(stack.weights[1], axis=1)
            distinct = min(distinct, float(np.abs(ordered[:, -1] - ordered[:, 0]).min()))
            runs.append(stack.propagate(x).layers)
        # With n inputs to a layer, sigma_w^2 = n std^2.
        weight_variance = width * std * std
        expected = (
            weight_variance / 2 if activation == "relu" else chi_1("tanh", 0.0, weight_variance)
        )
        measured = factor_per_layer(runs)
        factors[activation, std] = measured
        name = f"{activation}, std {std:.3g}"
        checks.append(
            near(settings, f"{name}: {GRADIENT_FACTOR}", measured, expected, 0.03, 0.045)
        )
        series.append((name, tuple(range(1, depth + 1)), mean_squares(runs[0])))
    return Measurement(
        f"The weights from one input to the units of a layer have a range of {distinct:.2g} or more. Per layer the gradients' "
        f"mean square is multiplied by {factors['tanh', 0.01]:.3f} (tanh, std 0.01), {factors['relu', 0.01]:.3f} (ReLU, std "
        f"0.01), {factors['relu', 0.1]:.2f} (ReLU, std 0.1) and {factors['relu', held]:.3f} (ReLU, std √(2/n) = {held:.3f}).",
        (Check("smallest range of the weights from one input to the units of a layer", distinct, 1e-3, math.inf), *checks),
        (Plot("Gradients by layer, weights of a fixed standard deviation", "layer",
              "mean square of dL/dz", tuple(series), True),),
    )  # fmt: skip


SYMMETRY = (
    Claim(
        1,
        "With all weights zero, tanh and ReLU networks do not learn.",
        "layers of 64-32-32-10 units, digits, softmax cross-entropy, 500 steps (quick: 100) of gradient descent at rate 1",
        zeros_do_not_learn,
        "half true",
        "The weights never move, but the output bias still learns: the loss falls to the entropy of the class frequencies.",
    ),
    Claim(
        2,
        "With all weights zero, a sigmoid network behaves like a perceptron.",
        "layers of 64-16-16-16-1 units, odd against even digits, squared error, 200 steps of gradient descent at rate 2, then "
        "60 epochs in batches of 32",
        zeros_sigmoid_perceptron,
        "half true",
        "True for one output: all hidden units stay equal, every matrix has rank 1, and the boundary between the classes is "
        "a hyperplane. Layer L−k gets its first non-zero gradient at step k, counted from 0. Several outputs are not independent "
        "perceptrons: each is a function of the same single hidden activation.",
    ),
    Claim(
        3,
        "With equal weights the neurons of a layer stay identical.",
        "layers of 64-48-48-10 units, all weights 0.02, digits, at least 1000 steps of gradient descent, batches of 32",
        equal_stay_equal,
        "true",
        "The difference stays exactly 0, provided that the sums of all units are computed in the same order, as they are here.",
    ),
    Claim(
        14,
        "Small random weights break the symmetry but vanish or explode with depth.",
        "20 layers, weights of standard deviation 0.01 and 0.1 for every number of inputs, digits",
        small_random_weights,
        "true",
        "Units differ from the first step. Per layer the gradients' mean square is multiplied by n std² (tanh with small "
        "activations) or n std²/2 (ReLU), where n is the width: only std = √(1/n) or √(2/n) keeps it constant.",
    ),
)

