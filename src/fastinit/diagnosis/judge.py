"""From what was measured to findings: which threshold a network crosses, where first, and with which number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .measure import Measured
from .thresholds import VERDICTS, Thresholds

__all__ = [
    "FULL_PRECISION", "SIGMOIDAL", "Finding", "Network", "Total", "backward_steps", "borderline", "interval_of", "judge",
    "limits_in_words", "loss_in_words", "margins", "middle", "power_of_ten", "straddles", "total", "verdict_of",
]  # fmt: skip

Array = NDArray[Any]

SIGMOIDAL = ("tanh", "sigmoid", "hard_tanh", "softsign")  # flat on both sides: ELU, GELU or SiLU on one side are no fault
_RELU_LIKE = ("relu", "leaky_relu")
FULL_PRECISION = 1e-7  # of 1 - c: what is less is the rounding of the cosine


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a network.

    Attributes
    ----------
    name : str
        One of `fastinit.diagnosis.VERDICTS`.
    severity : {"fail", "warn"}
    layer : int, str or None
        The first layer concerned, 0 for the one that reads the input, or its name in a framework's model; None where it is the
        network as a whole. A signal passes it first: of gradients that explode or vanish it is the layer where they have passed
        the warning, counted from the output.
    reason : str
        One sentence with its number.
    recommendation : str or None
        What to change, with the number that a second run of the changed network gave; None where nothing that was tried
        was better. Of a framework's model, which is not run again, only how to scale data that are far from 1.
    changes : dict or None
        The same as options of `diagnose` and `Stack`.
    borderline : bool
        Whether the interval over seeds reaches over the threshold: other seeds may be judged otherwise.
    """

    name: str
    severity: str
    layer: int | str | None
    reason: str
    recommendation: str | None = None
    changes: dict[str, Any] | None = None
    borderline: bool = False


@dataclass(frozen=True)
class Network:
    """What the judge has to know of a network besides its numbers.

    Attributes
    ----------
    widths : tuple of int
    activations : tuple of str
        The names without parameters, one a layer.
    blocks : tuple of (int, int)
        Of each residual block the activation where it begins, 0 being the input, and the layer that ends it.
    """

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Total:
    """The change of a mean square over the depth of the network, in nats, for each seed.

    Attributes
    ----------
    path : tuple of int
        The layers that the steps end at, in the order in which the signal passes them.
    steps : ndarray of shape (seeds, len(path))
        The change up to each of them, 0 for the first.
    """

    path: tuple[int, ...]
    steps: Array

    @property
    def each(self) -> Array:
        """The whole change of each seed."""
        return self.steps[:, -1]


def total(network: Network, runs: Sequence[Measured], *, backward: bool) -> Total:
    """Forward of z, or of the stream where there are residual blocks; backward of the gradient's energy with respect to z.

    The energy is that of a sample, the sum over units and not their mean: of weights with variance 1 / fan_in the one stays
    where widths change, and the other does not. Layers of zeros, moved by a virtual step, are not counted.
    """
    stepped = {i for run in runs for i in run.stepped}
    path = _path(network, stepped)
    widths = np.array(network.widths[1:], dtype=float)
    rows = []
    for run in runs:
        if backward:
            rows.append(backward_steps(network, path, run.gradient * widths))
            continue
        values = run.activation if network.blocks else run.pre_activation
        begin = run.input if network.blocks and not network.blocks[0][0] else values[path[0]]
        with np.errstate(divide="ignore", invalid="ignore"):
            rows.append(np.log(values[path]) - np.log(begin))
    return Total(tuple(path[::-1] if backward else path), np.array(rows))


def _path(network: Network, stepped: set[int]) -> list[int]:
    """The layers that a signal passes one after the other: those outside of residual blocks, and the ends of blocks.

    A head is none of them, be it large, small or zero: the initial loss judges it. It is a linear last layer of more than one
    unit behind others that are not linear, or a last layer behind residual blocks.
    """
    depth = len(network.activations)
    ends = {end for _, end in network.blocks}
    within = {i for begin, end in network.blocks for i in range(begin, end)}
    logits = network.widths[-1] > 1 and network.activations[-1] == "linear" and set(network.activations) != {"linear"}
    if (logits or network.blocks) and depth - 1 not in ends:
        within.add(depth - 1)
    path = [i for i in range(depth) if i not in within]
    return [i for i in path if i in ends or i not in stepped] or path


def backward_steps(network: Network, path: Sequence[int], energies: Array) -> Array:
    """The change of a gradient's energy on its way back, up to each layer of a path, whose last one is the first to meet it.

    The gradient with respect to the z that ends a branch has the branch's scale, that of a layer outside has the stream's:
    between the two no change is counted.
    """
    ends = {end for _, end in network.blocks}
    order = list(path[::-1])
    kind = np.array([i in ends for i in order])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(energies[order])
        joins = np.where(kind[1:] != kind[:-1], np.diff(logs), 0.0)
        return np.asarray(logs - logs[0] - np.append(0.0, np.cumsum(joins)))


def judge(network: Network, runs: Sequence[Measured], limits: Thresholds) -> list[Finding]:
    """All findings, in the order of `VERDICTS`."""
    forward, backward = (total(network, runs, backward=way) for way in (False, True))
    found = [
        *_non_finite(runs),
        *_no_signal(network, runs),
        *_symmetric(network, runs),
        *_dead(network, runs, limits),
        *_changed(network, forward, backward, limits),
        *_saturated(network, runs, limits),
        *_collapsed(runs, limits),
        *_narrow(network, limits),
        *_over_confident(network, runs, limits),
        *_without_gradient(runs),
    ]
    return sorted(found, key=lambda finding: VERDICTS.index(finding.name))


def middle(runs: Sequence[Measured], name: str) -> Array:
    """The median over those seeds that have a number, layer by layer; NaN where none has."""
    columns = np.transpose([getattr(run, name) for run in runs])
    known = [column[~np.isnan(column)] for column in columns]
    return np.array([np.median(numbers) if numbers.size else math.nan for numbers in known])


def _first(which: Iterable[Any]) -> int:
    return int(np.flatnonzero(np.asarray(which))[0])


def _non_finite(runs: Sequence[Measured]) -> list[Finding]:
    counts = np.max([run.non_finite for run in runs], axis=0)
    backward = np.max([run.non_finite_gradient for run in runs], axis=0)
    infinite = np.any([np.isinf([run.pre_activation, run.activation, run.gradient]).any(axis=0) for run in runs], axis=0)
    if counts.any():
        layer = _first(counts)
        reason = f"Infinite or NaN: {int(counts[layer])} of the pre-activations and values of layer {layer}."
    elif backward.any():
        layer = int(np.flatnonzero(backward)[-1])  # the first on the way back
        reason = f"Infinite or NaN: {int(backward[layer])} of the gradients of layer {layer}."
    elif infinite.any():  # of numbers of float64 above 1e154
        layer = _first(infinite)
        reason = f"The numbers of layer {layer} are so large that their mean square is beyond float64."
    else:
        return []
    return [Finding("non-finite", "fail", layer, reason)]


def _no_signal(network: Network, runs: Sequence[Measured]) -> list[Finding]:
    for run in runs:
        if run.non_finite.any():  # behind NaN there are zeros that say nothing
            continue
        for what, squares in (("pre-activations", run.pre_activation), ("values", run.activation)):
            gone = squares == 0
            gone[list(run.stepped)] = False
            if gone.any():
                layer = _first(gone)
                return [Finding("no signal", "fail", layer, f"The mean square of the {what} of layer {layer} is exactly 0.")]
        if (run.gradient == 0).any():
            layer = int(np.flatnonzero(run.gradient == 0)[-1])  # the first that a gradient meets on its way back
            return [Finding("no signal", "fail", layer, f"The mean square of the gradients of layer {layer} is exactly 0.")]
    return []


def _symmetric(network: Network, runs: Sequence[Measured]) -> list[Finding]:
    found = []
    run = runs[0]
    if run.symmetric:
        inside = {i for begin, end in network.blocks for i in range(begin, end + 1)}  # the stream goes around them
        fails = [i for i, copies in run.symmetric.items() if 2 * copies >= network.widths[i + 1] and i not in inside]
        layer = min(fails or run.symmetric)
        copies, units = run.symmetric[layer], network.widths[layer + 1]
        found.append(Finding(
            "symmetric", "fail" if fails else "warn", layer,
            f"{copies} of the {units} units of layer {layer} are copies of another one, with the same weights in and out: "
            "they stay equal in training.",
        ))  # fmt: skip
    if run.equal:
        first, second = run.equal[0]
        found.append(Finding(
            "symmetric", "warn", second,
            f"The weights of layers {first} and {second} are equal bit for bit: were they drawn from one seed?",
        ))  # fmt: skip
    return found


def _dead(network: Network, runs: Sequence[Measured], limits: Thresholds) -> list[Finding]:
    share = middle(runs, "dead")
    share[np.any([run.non_finite > 0 for run in runs], axis=0)] = 0  # a NaN is not active, but no dead unit either
    most = _allowed_dead(network, limits)
    if not (share > most).any():
        return []
    layer = _first(share > most)
    return [Finding(
        "dead", "fail", layer,
        f"{share[layer]:.0%} of the units of layer {layer} are not active for any sample of the batch; "
        f"{most[layer]:.0%} is the limit.",
    )]  # fmt: skip


def _allowed_dead(network: Network, limits: Thresholds) -> Array:
    """The share of dead units up to which a layer is not called dead."""
    return limits.dead + limits.dead_deviations * np.sqrt(0.25 / np.array(network.widths[1:]))


def _changed(network: Network, forward: Total, backward: Total, limits: Thresholds) -> list[Finding]:
    """Exploding and vanishing: the way forward is spoken of where it passes the threshold that the larger change does.

    Of a way whose change is infinite, as a signal is lost, an earlier finding speaks.
    """
    found = []
    for name, sign, (warn, fail) in (("exploding", 1, limits.exploding), ("vanishing", -1, limits.vanishing)):
        ways = {way: sign * float(np.median(steps.each)) for way, steps in (("forward", forward), ("backward", backward))}
        passed = [way for line in (fail, warn) for way, size in ways.items() if line < size < math.inf]
        if not passed:
            continue
        direction = passed[0]
        size, way = ways[direction], forward if direction == "forward" else backward
        reached = sign * np.median(way.steps, axis=0) > warn
        layer = way.path[_first(reached)]
        begin, end = f"layer {way.path[0]}", f"layer {way.path[-1]}"
        if direction == "forward":
            what = "mean square of the " + ("residual stream" if network.blocks else "pre-activations")
            if network.blocks and not network.blocks[0][0]:
                begin = "the input"
            ends = f"from {begin} to {end}"
        else:
            what = "gradients' sum of squares"
            ends = f"from {begin} back to {end}"
        verb = "grows" if sign > 0 else "shrinks"
        found.append(Finding(
            name, "fail" if size > fail else "warn", layer,
            f"The {what} {verb} by {size:.1f} nats, a factor of {power_of_ten(size)}, {ends}; {limits_in_words(warn, fail)}.",
            borderline=straddles(sign * way.each, (warn, fail), limits),
        ))  # fmt: skip
    return found


def limits_in_words(warn: float, fail: float) -> str:
    return f"a warning begins at {warn:.4g}, a failure at {fail:.4g}"


def power_of_ten(nats: float) -> str:
    return f"{math.exp(nats):.3g}" if nats < 700 else f"10^{nats / math.log(10):.0f}"


def verdict_of(findings: Sequence[Finding]) -> str:
    """The name of the first finding that fails, else of the first that warns, else "healthy"."""
    return next((f.name for severity in ("fail", "warn") for f in findings if f.severity == severity), "healthy")


def interval_of(values: Array, limits: Thresholds) -> tuple[float, float]:
    """Of the mean over seeds, `Thresholds.interval` standard errors to both sides; NaN of one seed."""
    if len(values) < 2:
        return math.nan, math.nan
    mean, half = float(np.mean(values)), limits.interval * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def straddles(values: Array, lines: tuple[float, float], limits: Thresholds) -> bool:
    """Whether the interval of the mean reaches over a threshold."""
    if not np.isfinite(values).all():
        return False
    low, high = interval_of(values, limits)
    return any(low <= line <= high for line in lines)


def borderline(findings: Sequence[Finding], forward: Total, backward: Total, limits: Thresholds) -> bool:
    """Whether other seeds may be judged otherwise: by a failure's own interval, or else by any that reaches over a threshold."""
    fails = [finding for finding in findings if finding.severity == "fail"]
    if fails:
        return fails[0].borderline
    lines = ((1, limits.exploding), (-1, limits.vanishing))
    return any(straddles(sign * way.each, pair, limits) for sign, pair in lines for way in (forward, backward))


def _saturated(network: Network, runs: Sequence[Measured], limits: Thresholds) -> list[Finding]:
    layers = [i for i, name in enumerate(network.activations) if name in SIGMOIDAL]
    if not layers:
        return []
    share = middle(runs, "saturated")[layers]
    if not share.mean() > limits.saturated:
        return []
    layer = layers[_first(share > limits.saturated)]
    return [Finding(
        "saturated", "fail", layer,
        f"{share.mean():.0%} of the elements of the {network.activations[layer]} layers lie on its flat sides, on the mean; "
        f"{limits.saturated:.0%} is the limit.",
    )]  # fmt: skip


def _collapsed(runs: Sequence[Measured], limits: Thresholds) -> list[Finding]:
    layers, apart, shrunk = _collapse(runs)
    warn, fail = limits.rank_collapse
    if not len(layers) or not shrunk[-1] > warn:
        return []
    return [Finding(
        "rank collapse", "fail" if shrunk[-1] > fail else "warn", int(layers[_first(shrunk > warn)]),
        f"Samples become alike: 1 - cosine shrinks by {shrunk[-1]:.1f} nats, to {apart[-1]:.1e}, from layer {layers[0]} to layer "
        f"{layers[-1]}; {limits_in_words(warn, fail)}.",
    )]  # fmt: skip


def _collapse(runs: Sequence[Measured]) -> tuple[Array, Array, Array]:
    """The layers that have cosines, 1 - c of each, and by how much it has shrunk there; a layer of zeros has none."""
    apart = middle(runs, "apart")
    layers = np.flatnonzero(~np.isnan(apart))
    apart = np.maximum(apart[layers], FULL_PRECISION)
    return layers, apart, np.log(apart[:1] / apart)


def _narrow(network: Network, limits: Thresholds) -> list[Finding]:
    if network.blocks:  # what goes around the branches does not scatter
        return []
    terms = _scatter(network)
    if not terms.sum() > limits.narrow:
        return []
    return [Finding(
        "narrow", "warn", _first(np.cumsum(terms) > limits.narrow),
        f"So few units for so many layers that seeds differ: the logarithm of a squared norm has variance {terms.sum():.1f} over "
        f"them (the sum of 5 / width); above {limits.narrow:g} one network says nothing of another.",
    )]  # fmt: skip


def _scatter(network: Network) -> Array:
    """What each layer adds to the variance, from seed to seed, of the logarithm of a squared norm."""
    return np.array([
        5 / units if name in _RELU_LIKE else 0.0 for units, name in zip(network.widths[1:], network.activations, strict=True)
    ])  # fmt: skip


def _over_confident(network: Network, runs: Sequence[Measured], limits: Thresholds) -> list[Finding]:
    """Of networks whose last layer is linear, so that its outputs may be logits."""
    classes = network.widths[-1]
    if classes < 2 or network.activations[-1] != "linear":
        return []
    loss = float(np.median([run.loss for run in runs]))
    deviation = float(np.median([run.logit_deviation for run in runs]))
    fair = math.log(classes)
    over, times = limits.initial_loss
    if not loss > fair + over:
        return []
    return [Finding(
        "over-confident head", "fail" if loss > times * fair else "warn", len(network.activations) - 1,
        f"The initial loss is {loss_in_words(loss)} nats where ln {classes} = {fair:.2f} is that of no opinion: logits of "
        f"standard deviation {deviation:.2g}; {limits_in_words(fair + over, times * fair)}.",
    )]  # fmt: skip


def loss_in_words(value: float) -> str:
    return f"{value:.2f}" if value < 1e6 else f"{value:.3g}"


def _without_gradient(runs: Sequence[Measured]) -> list[Finding]:
    names = runs[0].without_gradient
    if not names or runs[0].non_finite.any():
        return []
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return [Finding(
        "no gradient", "fail", int(names[0].partition(".")[0]), f"The gradient of {shown} has a norm of exactly 0."
    )]  # fmt: skip


def margins(network: Network, runs: Sequence[Measured], limits: Thresholds) -> dict[str, tuple[float, float]]:
    """For each verdict with a threshold what was measured, and above which number it is a finding."""
    forward, backward = (np.median(total(network, runs, backward=way).each) for way in (False, True))
    dead, allowed = middle(runs, "dead"), _allowed_dead(network, limits)
    layer = int(np.argmax(dead / allowed))
    found = {
        "dead": (dead[layer], allowed[layer]),
        "exploding": (max(forward, backward), limits.exploding[0]),
        "vanishing": (-min(forward, backward), limits.vanishing[0]),
    }
    layers = [i for i, name in enumerate(network.activations) if name in SIGMOIDAL]
    if layers:
        found["saturated"] = (middle(runs, "saturated")[layers].mean(), limits.saturated)
    shrunk = _collapse(runs)[2]
    if len(shrunk):
        found["rank collapse"] = (shrunk[-1], limits.rank_collapse[0])
    if not network.blocks and (scatter := _scatter(network).sum()):
        found["narrow"] = (scatter, limits.narrow)
    if network.widths[-1] > 1 and network.activations[-1] == "linear":
        loss = np.median([run.loss for run in runs])
        found["over-confident head"] = (loss, math.log(network.widths[-1]) + limits.initial_loss[0])
    return {name: (float(value), float(limit)) for name, (value, limit) in found.items()}
