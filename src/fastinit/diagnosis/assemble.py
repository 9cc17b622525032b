"""A diagnosis from networks: measure each, judge them together, put theory beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.activations import name_of
from .._engine.stack import Stack
from .expected import Expected, expected
from .judge import Network, Total, backward_steps, borderline, interval_of, judge, margins, middle, total, verdict_of
from .measure import Measured, measure
from .result import Change, DiagnosedLayer, Diagnosis
from .thresholds import Thresholds

__all__ = ["assembled", "seeds_for"]

Array = NDArray[Any]

# Variance from seed to seed of a total change, for a layer, times its width: measured at a batch of 32.
_SCATTER = {"relu": 3.0, "leaky_relu": 3.0, "linear": 3.0, "tanh": 0.6, "selu": 0.5}
_SCATTER_OF_OTHERS = 1.5
_FEWEST, _MOST = 3, 16  # seeds, where their number is not given


def seeds_for(stack: Stack) -> int:
    """How many networks to draw: four times the variance of the total change, whose mean is then known to half a nat."""
    variance = sum(
        _SCATTER.get(name_of(name), _SCATTER_OF_OTHERS) / units
        for name, units in zip(stack.activations, stack.widths[1:], strict=True)
    )
    return min(max(_FEWEST, math.ceil(4 * variance)), _MOST)


def assembled(stacks: Iterable[Stack], x: Array, labels: Array, limits: Thresholds) -> Diagnosis:
    """The diagnosis of networks that differ in their seeds alone, each of which may be made when it is wanted."""
    networks = iter(stacks)
    first = next(networks)
    runs = [measure(first, x, labels)]
    runs += [measure(stack, x, labels) for stack in networks]
    network = Network(first.widths, tuple(map(name_of, first.activations)), first.residual_blocks)
    with np.errstate(all="ignore"):
        theory = expected(first, runs[0].input, _apart(x))
        findings = judge(network, runs, limits)
        forward, backward = (total(network, runs, backward=way) for way in (False, True))
        return Diagnosis(
            verdict=verdict_of(findings),
            findings=tuple(findings),
            layers=_layers(network, runs, theory),
            forward=_changed(forward, limits, _forward_theory(network, forward, runs[0], theory)),
            backward=_changed(backward, limits, _backward_theory(network, backward, theory)),
            initial_loss=float(np.median([run.loss for run in runs])),
            uniform_loss=math.log(first.widths[-1]),
            margins=margins(network, runs, limits),
            borderline=borderline(findings, forward, backward, limits),
            seeds=len(runs),
            batch=len(x),
            widths=first.widths,
            title=_title(first, len(runs), len(x)),
        )


def _apart(x: Array) -> float:
    """1 - the mean cosine of pairs of inputs."""
    numbers = np.asarray(x, dtype=np.float64)
    left, right = numbers[0 : len(numbers) // 2 * 2 : 2], numbers[1::2]
    lengths = np.sqrt((left * left).sum(axis=1) * (right * right).sum(axis=1))
    known = lengths > 0
    return float(1 - ((left * right).sum(axis=1)[known] / lengths[known]).sum() / known.sum())


def _changed(way: Total, limits: Thresholds, theory: float) -> Change:
    values = way.each
    return Change(float(np.median(values)), *interval_of(values, limits), theory, tuple(map(float, values)))


def _forward_theory(network: Network, way: Total, run: Measured, theory: Expected | None) -> float:
    if theory is None:
        return math.nan
    values = theory.stream if network.blocks else theory.pre_activation
    begin = run.input if network.blocks and not network.blocks[0][0] else values[way.path[0]]
    return _finite(np.log(values[way.path[-1]] / begin))


def _backward_theory(network: Network, way: Total, theory: Expected | None) -> float:
    return math.nan if theory is None else _finite(backward_steps(network, way.path[::-1], theory.gradient)[-1])


def _finite(value: Any) -> float:
    """A number; NaN where theory has none, as behind a layer of zeros."""
    return float(value) if math.isfinite(value) else math.nan


def _layers(network: Network, runs: Sequence[Measured], theory: Expected | None) -> tuple[DiagnosedLayer, ...]:
    names = ("pre_activation", "gradient", "saturated", "dead", "apart", "gradient_to_weight")
    middles = {name: middle(runs, name) for name in names}
    units = np.array(network.widths[1:], dtype=float)
    depth = len(units)
    forward = np.full(depth, math.nan) if theory is None else np.sqrt(theory.pre_activation)
    apart = np.full(depth, math.nan) if theory is None else theory.apart
    last = middles["gradient"][-1] * units[-1]
    backward = np.full(depth, math.nan)
    if theory is not None:  # behind zeros it has nothing to say: what is measured there is what a virtual step shows
        backward = np.sqrt(np.where(theory.gradient == 0, math.nan, theory.gradient) * last / units)
    return tuple(
        DiagnosedLayer(
            i, network.widths[i], network.widths[i + 1], name, float(math.sqrt(middles["pre_activation"][i])), float(forward[i]),
            float(math.sqrt(middles["gradient"][i])), float(backward[i]), float(middles["saturated"][i]),
            float(middles["dead"][i]), float(1 - middles["apart"][i]), float(1 - apart[i]),
            float(middles["gradient_to_weight"][i]),
        )
        for i, name in enumerate(network.activations)
    )


def _title(stack: Stack, seeds: int, batch: int) -> str:
    widths = stack.widths
    if len(set(widths[1:])) == 1:
        shape = f"{stack.depth} layers of {widths[-1]}"
    else:
        shown = f"widths {widths}" if len(widths) <= 8 else f"{widths[0]} to {widths[-1]}"
        shape = f"{stack.depth} layers, {shown}"
    names = sorted(set(stack.activations), key=stack.activations.index)
    blocks = f", {len(stack.residual_blocks)} residual blocks" if stack.residual_blocks else ""
    many = f"{seeds} seeds" if seeds > 1 else "1 seed"
    return f"{shape}, {', '.join(names)}{blocks}; {many}, batch of {batch}"
