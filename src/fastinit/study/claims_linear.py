"""Claim 8: a network of linear layers W = k I, and gradient descent on it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .._engine.stack import Stack
from .._training.losses import mean_squared_error
from ..initializers import Identity
from .measure import activations_by_layer
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["LINEAR"]


def _identities(settings: Settings, gain: float, depth: int) -> Stack:
    return settings.stack((2,) * (depth + 1), "linear", weights=Identity(gain), biases="zeros", key=settings.key)


def _powers(settings: Settings, gain: float, depth: int) -> list[float]:
    """The output of each layer for the input 1, in float32, up to the first infinite one; both units have the same."""
    powers: list[float] = []
    for values in activations_by_layer(_identities(settings, gain, depth), np.ones((1, 2), dtype=np.float32)):
        powers.append(float(values[0, 0]))
        if math.isinf(powers[-1]):
            break  # the next layer would compute 0 times infinity
    return powers


def _gradients(settings: Settings, gain: float, depth: int) -> list[float]:
    """dL/dz of each layer, from the last to the first, for dL/dy = 1."""
    one = np.ones((1, 2), dtype=np.float32)
    return [layer.gradient.maximum for layer in reversed(_identities(settings, gain, depth).propagate(one, one).layers)]


def _scalars(settings: Settings, layers: int) -> Stack:
    """A network of `layers` layers with one unit and the weight 1.5 each, in float64."""
    return settings.stack(
        (1,) * (layers + 1), "linear", weights=Identity(1.5), biases="zeros", dtype="float64", key=settings.key
    )


def _curvature(settings: Settings, layers: int) -> float:
    """The largest eigenvalue of the Hessian of (y - 1.5^L)^2 in the L weights, by central differences of the gradient."""
    stack, x, step = _scalars(settings, layers), np.ones((1, 1)), 1e-6
    target = np.full((1, 1), 1.5**layers)

    def gradient() -> list[float]:
        return [float(g[0, 0]) for g in stack.backward(x, mean_squared_error(stack.forward(x), target)[1]).weights]

    hessian = []
    for w in stack.weights:
        w += step
        above = gradient()
        w -= 2 * step
        below = gradient()
        w += step
        hessian.append([(a - b) / (2 * step) for a, b in zip(above, below, strict=True)])
    return float(np.linalg.eigvalsh(np.array(hessian))[-1])


def _descent(settings: Settings, eta: float, layers: int) -> list[float]:
    """The errors y - target in 40 steps of gradient descent at rate eta / lambda; weights start 1 % above the minimum's."""
    solution = 0.99 * 1.5
    curvature = 2 * layers * solution ** (2 * layers - 2)
    stack, x, target = _scalars(settings, layers), np.ones((1, 1)), np.full((1, 1), solution**layers)
    errors: list[float] = []
    while len(errors) < 40:
        outputs = stack.forward(x)
        errors.append(float(outputs[0, 0] - target[0, 0]))
        if not abs(errors[-1]) < 1e6:
            break
        _, dy = mean_squared_error(outputs, target)
        for w, g in zip(stack.weights, stack.backward(x, dy).weights, strict=True):
            w -= eta / curvature * g
    return errors


def _rises(errors: list[float]) -> int:
    """The number of steps at which the cost rises; errors below 1e-12 are rounding errors and do not count."""
    return sum(b * b > a * a for a, b in pairwise(errors) if abs(a) > 1e-12)


def _sign_changes(errors: list[float]) -> float:
    """The fraction of the first 12 steps at which the error changes its sign."""
    return float(np.mean([a * b < 0 for a, b in pairwise(errors[:13])]))


def linear_stack(settings: Settings) -> Measurement:
    growth, decay = _powers(settings, 1.5, 250), _powers(settings, 0.5, 151)
    exact = next((i for i, v in enumerate(growth, 1) if v != 1.5**i), math.inf) - 1
    infinite = next((i for i, v in enumerate(growth, 1) if math.isinf(v)), math.inf)
    tiny = float(np.finfo(np.float32).tiny)
    subnormal = next((i for i, v in enumerate(decay, 1) if v < tiny), math.inf)
    zero = next((i for i, v in enumerate(decay, 1) if v == 0), math.inf)
    # With k = 1.5, dL/dz of layer l is 1.5^(L - l): the same powers, starting with 1 at the last layer.
    mismatches = max(
        sum(a != b for a, b in zip([1.0, *powers], _gradients(settings, gain, depth), strict=False))
        for gain, depth, powers in ((1.5, 218, growth), (0.5, 151, decay))
    )

    # At the minimum of the squared error the only non-zero eigenvalue of the Hessian is 2 L 1.5^(2 L - 2).
    curvatures = {depth: _curvature(settings, depth) for depth in range(1, 13)}
    difference = max(abs(value / (2 * depth * 1.5 ** (2 * depth - 2)) - 1) for depth, value in curvatures.items())
    layers = 5
    runs = {eta: _descent(settings, eta, layers) for eta in (0.5, 1.5, 2.05, 2.5)}
    growing = max(abs(r) for r in runs[2.5]) / abs(runs[2.5][0])
    rises = {eta: _rises(errors) for eta, errors in runs.items()}
    return Measurement(
        f"In float32, 1.5^L is exact up to L = {exact} and infinite from L = {infinite}; 0.5^L is subnormal from L = {subnormal} "
        f"and 0 from L = {zero}; {mismatches} gradients differ from these powers. Gradient descent with L = 5: the error changes "
        f"its sign at {_sign_changes(runs[0.5]):.0%} of the steps for η = 0.5/λ and at {_sign_changes(runs[1.5]):.0%} for 1.5/λ; "
        f"the cost rises at {rises[0.5]} and {rises[1.5]} of {len(runs[1.5]) - 1} steps, and at {rises[2.05]} of "
        f"{len(runs[2.05]) - 1} for 2.05/λ; for 2.5/λ the error grows {growing:.2g}-fold. λ = {curvatures[5]:.3g} for L = 5 and "
        f"{curvatures[12]:.3g} for L = 12.",
        (
            Check("largest L for which float32 has 1.5^L exactly", exact, 15, 15),
            Check("smallest L for which 1.5^L is infinite in float32", infinite, 219, 219),
            Check("smallest L for which 0.5^L is subnormal in float32", subnormal, 127, 127),
            Check("smallest L for which 0.5^L is 0 in float32", zero, 150, 150),
            Check("gradients that differ from the powers of the activations", mismatches, 0, 0),
            Check("largest relative difference of λ from 2 L 1.5^(2 L − 2), L = 1 to 12", difference, 0, 1e-6),
            Check("η = 0.5/λ: fraction of the steps at which the error changes its sign", _sign_changes(runs[0.5]), 0, 0),
            Check("η = 1.5/λ: fraction of the steps at which the error changes its sign", _sign_changes(runs[1.5]), 1, 1),
            Check("η = 0.5/λ: steps at which the cost rises", rises[0.5], 0, 0),
            Check("η = 1.5/λ: steps at which the cost rises", rises[1.5], 0, 0),
            Check("η = 2.05/λ: steps at which the cost rises", rises[2.05], 15, 24),
            Check("η = 0.5/λ: last error over the first", abs(runs[0.5][-1] / runs[0.5][0]), 0, 0.01),
            Check("η = 1.5/λ: last error over the first", abs(runs[1.5][-1] / runs[1.5][0]), 0, 0.01),
            Check("η = 2.5/λ: largest error over the first", growing, 2, math.inf),
        ),
        (
            Plot("Output of W = k I", "depth", "output for input 1", tuple(
                (f"k = {k:g}", tuple(range(1, len(powers) + 1)), tuple(powers)) for k, powers in ((1.5, growth), (0.5, decay))
            ), True),
            Plot("Error of gradient descent, L = 5", "step", "output − target", tuple(
                (f"η = {eta:g}/λ", tuple(range(len(r[:13]))), tuple(r[:13])) for eta, r in runs.items()
            )),
        ),
    )  # fmt: skip


LINEAR = (
    Claim(
        8,
        "In a linear stack W = 1.5 I makes activations grow as 1.5^L and the cost oscillate; W = 0.5 I makes them vanish.",
        "powers in float32; gradient descent on five layers of one unit, float64, near the minimum",
        linear_stack,
        "half true",
        "Activations and gradients are these powers. But for a learning rate η above 1/λ it is the error that oscillates: the "
        "cost falls at every step up to nearly 2/λ, oscillates there, and grows beyond. λ, the largest eigenvalue of the "
        "Hessian, grows like 1.5^(2L), so with enough layers any given η is above 2/λ.",
    ),
)
