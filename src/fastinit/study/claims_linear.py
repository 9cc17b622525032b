"""Claim 8: the stack of equal linear layers W = k I, and gradient descent on it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .._engine.stack import Stack
from .._training.losses import mean_squared_error
from ..initializers import Identity
from .measure import values_by_layer
from .rows import Check, Claim, Measurement, Plot
from .settings import Settings

__all__ = ["LINEAR"]


def _identities(settings: Settings, gain: float, depth: int) -> Stack:
    return settings.stack((2,) * (depth + 1), "linear", weights=Identity(gain), biases="zeros", key=settings.key)


def _powers(settings: Settings, gain: float, depth: int) -> list[float]:
    """What each layer passes on for the input 1, in float32, up to the first that is infinite; both units have the same."""
    powers: list[float] = []
    for values in values_by_layer(_identities(settings, gain, depth), np.ones((1, 2), dtype=np.float32)):
        powers.append(float(values[0, 0]))
        if math.isinf(powers[-1]):
            break  # the next layer would have 0 times infinity
    return powers


def _gradients(settings: Settings, gain: float, depth: int) -> list[float]:
    """dL/dz from the last layer to the first, for dL/dy = 1."""
    one = np.ones((1, 2), dtype=np.float32)
    return [layer.gradient.maximum for layer in reversed(_identities(settings, gain, depth).propagate(one, one).layers)]


def _scalars(settings: Settings, layers: int) -> Stack:
    """`layers` numbers 1.5 in a row, in float64."""
    return settings.stack(
        (1,) * (layers + 1), "linear", weights=Identity(1.5), biases="zeros", dtype="float64", key=settings.key
    )


def _curvature(settings: Settings, layers: int) -> float:
    """The largest eigenvalue of the Hessian of (y - 1.5^L)^2 over the L weights, by central differences of the gradients."""
    stack, x, step = _scalars(settings, layers), np.ones((1, 1)), 1e-6
    wanted = np.full((1, 1), 1.5**layers)

    def slope() -> list[float]:
        return [float(g[0, 0]) for g in stack.backward(x, mean_squared_error(stack.forward(x), wanted)[1]).weights]

    hessian = []
    for w in stack.weights:
        w += step
        above = slope()
        w -= 2 * step
        below = slope()
        w += step
        hessian.append([(a - b) / (2 * step) for a, b in zip(above, below, strict=True)])
    return float(np.linalg.eigvalsh(np.array(hessian))[-1])


def _descent(settings: Settings, eta: float, layers: int) -> list[float]:
    """The errors y - target of 40 steps of gradient descent at rate eta / lambda, from 1 % above the minimum."""
    best = 0.99 * 1.5
    curvature = 2 * layers * best ** (2 * layers - 2)
    stack, x, wanted = _scalars(settings, layers), np.ones((1, 1)), np.full((1, 1), best**layers)
    errors: list[float] = []
    while len(errors) < 40:
        outputs = stack.forward(x)
        errors.append(float(outputs[0, 0] - wanted[0, 0]))
        if not abs(errors[-1]) < 1e6:
            break
        _, dy = mean_squared_error(outputs, wanted)
        for w, g in zip(stack.weights, stack.backward(x, dy).weights, strict=True):
            w -= eta / curvature * g
    return errors


def _rises(errors: list[float]) -> int:
    """The steps at which the cost rises; one that has fallen to rounding errors stays."""
    return sum(b * b > a * a for a, b in pairwise(errors) if abs(a) > 1e-12)


def _flips(errors: list[float]) -> float:
    """The share of the first 12 steps at which the error changes its sign."""
    return float(np.mean([a * b < 0 for a, b in pairwise(errors[:13])]))


def linear_stack(settings: Settings) -> Measurement:
    growth, decay = _powers(settings, 1.5, 250), _powers(settings, 0.5, 151)
    exact = next((i for i, v in enumerate(growth, 1) if v != 1.5**i), math.inf) - 1
    infinite = next((i for i, v in enumerate(growth, 1) if math.isinf(v)), math.inf)
    tiny = float(np.finfo(np.float32).tiny)
    subnormal = next((i for i, v in enumerate(decay, 1) if v < tiny), math.inf)
    zero = next((i for i, v in enumerate(decay, 1) if v == 0), math.inf)
    # dL/dz of layer l is 1.5^(L - l): the powers again, from the last layer's 1 on.
    unlike = max(
        sum(a != b for a, b in zip([1.0, *forth], _gradients(settings, gain, depth), strict=False))
        for gain, depth, forth in ((1.5, 218, growth), (0.5, 151, decay))
    )

    # L numbers 1.5 in a row, squared error: at the minimum the Hessian's one non-zero eigenvalue is 2 L 1.5^(2 L - 2).
    curvatures = {depth: _curvature(settings, depth) for depth in range(1, 13)}
    laws = [value / (2 * depth * 1.5 ** (2 * depth - 2)) for depth, value in curvatures.items()]
    layers = 5
    runs = {eta: _descent(settings, eta, layers) for eta in (0.5, 1.5, 2.05, 2.5)}
    growing = max(abs(r) for r in runs[2.5]) / abs(runs[2.5][0])
    rises = {eta: _rises(errors) for eta, errors in runs.items()}
    return Measurement(
        f"1.5^L exact to L = {exact}, inf at {infinite}; 0.5^L subnormal at {subnormal}, 0 at {zero}; gradients that are not "
        f"these powers: {unlike}; L = 5: the error changes its sign at {_flips(runs[0.5]):.0%} of the steps for η = 0.5/λ, at "
        f"{_flips(runs[1.5]):.0%} for 1.5/λ; the cost rises in {rises[0.5]} and {rises[1.5]} of {len(runs[1.5]) - 1} steps, at "
        f"2.05/λ in {rises[2.05]} of {len(runs[2.05]) - 1}, and the error grows {growing:.2g}-fold at 2.5/λ; λ = "
        f"{curvatures[5]:.3g} at L = 5, {curvatures[12]:.3g} at 12",
        (
            Check("deepest exact power of 1.5", exact, 15, 15),
            Check("first infinite power of 1.5", infinite, 219, 219),
            Check("first subnormal power of 0.5", subnormal, 127, 127),
            Check("first zero power of 0.5", zero, 150, 150),
            Check("gradients that are not the activations' powers", unlike, 0, 0),
            Check("smallest lambda over 2 L 1.5^(2 L - 2), L = 1 to 12", min(laws), 1 - 1e-6, 1),
            Check("largest lambda over 2 L 1.5^(2 L - 2), L = 1 to 12", max(laws), 1, 1 + 1e-6),
            Check("share of sign changes at 0.5 / lambda", _flips(runs[0.5]), 0, 0),
            Check("share of sign changes at 1.5 / lambda", _flips(runs[1.5]), 1, 1),
            Check("steps at which the cost rises at 0.5 / lambda", rises[0.5], 0, 0),
            Check("steps at which the cost rises at 1.5 / lambda", rises[1.5], 0, 0),
            Check("steps at which the cost rises at 2.05 / lambda", rises[2.05], 15, 24),
            Check("last over first error at 0.5 / lambda", abs(runs[0.5][-1] / runs[0.5][0]), 0, 0.01),
            Check("last over first error at 1.5 / lambda", abs(runs[1.5][-1] / runs[1.5][0]), 0, 0.01),
            Check("largest over first error at 2.5 / lambda", growing, 2, math.inf),
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
        "float32 powers; gradient descent on five equal numbers in a row, float64, near the minimum",
        linear_stack,
        "half true",
        "The powers are right, of the gradients too. What oscillates is the error, where the step η is above 1/λ; the cost still "
        "falls at every step up to nearly 2/λ, swings about there and grows beyond. λ, the largest curvature, itself grows like "
        "1.5^(2L), so that a given step ends up beyond in a deep stack.",
    ),
)
