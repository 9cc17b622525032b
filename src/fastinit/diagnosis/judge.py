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

__all__ = ["Finding", "Network", "Total", "judge", "margins", "total"]

Array = NDArray[Any]

_SIGMOIDAL = ("tanh", "sigmoid", "hard_tanh", "softsign")  # flat on both sides: ELU, GELU or SiLU on one side are no fault
_RELU_LIKE = ("relu", "leaky_relu")
_FULL_PRECISION = 1e-7  # of 1 - c: what is less is the rounding of the cosine


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a network.

    Attributes
    ----------
    name : str
        One of `fastinit.diagnosis.VERDICTS`.
    severity : {"fail", "warn"}
    layer : int or None
        The first layer concerned, 0 for the one that reads the input; None where it is the network as a whole. A signal passes
        it first: of gradients that explode or vanish it is the layer where they have passed the warning, counted from the output.
    reason : str
        One sentence with its number.
    recommendation : str or None
        What to change, with the number that a second run of the changed network gave; None where nothing that was tried
        was better.
    changes : dict or None
        The same as options of `diagnose` and `Stack`.
    borderline : bool
        Whether the interval over seeds reaches over the threshold: other seeds may be judged otherwise.
    """

    name: str
    severity: str
    layer: int | None
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
    """Forward of z, or of the stream at the ends of residual blocks; backward of the gradient's energy with respect to z.

    The energy is that of a sample, the sum over units and not their mean: of weights with variance 1 / fan_in the one stays
    where widths change, and the other does not. A last layer of zeros, moved by a virtual step, is not counted.
    """
    path = [end for _, end in network.blocks] or list(range(len(network.activations)))
    widths = np.array(network.widths[1:], dtype=float)
    rows = []
    for run in runs:
        layers = [i for i in path if network.blocks or i not in run.stepped] or path
        if backward:
            layers = layers[::-1]
            energies = (run.gradient * widths)[layers]
        elif network.blocks:
            source = network.blocks[0][0]
            energies = np.append(run.activation[source - 1] if source else run.input, run.activation[layers])
        else:
            energies = run.pre_activation[layers]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(energies)
            steps = logs - logs[0]
        rows.append(steps[1:] if network.blocks and not backward else steps)
    length = min(map(len, rows))  # seeds may differ in layers of zeros
    path = [i for i in path if network.blocks or i not in runs[0].stepped] or path
    path = path[::-1] if backward else path
    return Total(tuple(path[:length]), np.array([row[:length] for row in rows]))


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


def _median(runs: Sequence[Measured], name: str) -> Array:
    """The median over seeds, layer by layer."""
    return np.asarray(np.median([getattr(run, name) for run in runs], axis=0))


def _first(which: Iterable[Any]) -> int:
    return int(np.flatnonzero(np.asarray(which))[0])


def _non_finite(runs: Sequence[Measured]) -> list[Finding]:
    counts = np.max([run.non_finite for run in runs], axis=0)
    if not counts.any():
        return []
    layer = _first(counts)
    return [Finding("non-finite", "fail", layer, f"{int(counts[layer])} numbers of layer {layer} are infinite or NaN.")]


def _no_signal(network: Network, runs: Sequence[Measured]) -> list[Finding]:
    for run in runs:
        for what, squares in (("pre-activations", run.pre_activation), ("values that it passes on", run.activation)):
            gone = squares == 0
            gone[list(run.stepped)] = False
            if gone.any():
                layer = _first(gone)
                return [Finding("no signal", "fail", layer, f"Of layer {layer} all {what} are exactly 0.")]
        if (run.gradient == 0).any():
            layer = int(np.flatnonzero(run.gradient == 0)[-1])  # the first that a gradient meets on its way back
            return [Finding("no signal", "fail", layer, f"Of layer {layer} all gradients are exactly 0.")]
    return []


def _symmetric(network: Network, runs: Sequence[Measured]) -> list[Finding]:
    found = []
    run = runs[0]
    if run.symmetric:
        layer, copies = min(run.symmetric.items())
        units = network.widths[layer + 1]
        inside = any(begin <= layer <= end for begin, end in network.blocks)  # the stream goes around them
        found.append(Finding(
            "symmetric", "fail" if 2 * copies >= units and not inside else "warn", layer,
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
    share = _median(runs, "dead")
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
    """Exploding and vanishing: the way forward is spoken of where it passes the threshold that the larger change does."""
    found = []
    for name, sign, (warn, fail) in (("exploding", 1, limits.exploding), ("vanishing", -1, limits.vanishing)):
        ways = {way: sign * float(np.median(steps.each)) for way, steps in (("forward", forward), ("backward", backward))}
        passed = [way for line in (fail, warn) for way, size in ways.items() if size > line]
        if not passed:
            continue
        direction = passed[0]
        size, way = ways[direction], forward if direction == "forward" else backward
        reached = sign * np.median(way.steps, axis=0) > warn
        layer = way.path[_first(reached)]
        if direction == "forward":
            what = "mean square of the " + ("residual stream" if network.blocks else "pre-activations")
            ends = "from the input to the last block" if network.blocks else "from the first layer to the last"
        else:
            what = "gradients' sum of squares"
            ends = "from the last block back to the first" if network.blocks else "from the last layer back to the first"
        verb = "grows" if sign > 0 else "shrinks"
        found.append(Finding(
            name, "fail" if size > fail else "warn", layer,
            f"The {what} {verb} by {size:.1f} nats, a factor of {_power_of_ten(size)}, {ends}; {_from(warn, fail)}.",
            borderline=_straddles(sign * way.each, (warn, fail), limits),
        ))  # fmt: skip
    return found


def _from(warn: float, fail: float) -> str:
    return f"a warning begins at {warn:.4g}, a failure at {fail:.4g}"


def _power_of_ten(nats: float) -> str:
    return f"{math.exp(nats):.3g}" if nats < 700 else f"10^{nats / math.log(10):.0f}"


def _straddles(values: Array, lines: tuple[float, float], limits: Thresholds) -> bool:
    """Whether the interval of the mean reaches over a threshold."""
    if len(values) < 2 or not np.isfinite(values).all():
        return False
    half = limits.interval * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    middle = float(np.mean(values))
    return any(middle - half <= line <= middle + half for line in lines)


def _saturated(network: Network, runs: Sequence[Measured], limits: Thresholds) -> list[Finding]:
    layers = [i for i, name in enumerate(network.activations) if name in _SIGMOIDAL]
    if not layers:
        return []
    share = _median(runs, "saturated")[layers]
    if not share.mean() > limits.saturated:
        return []
    layer = layers[_first(share > limits.saturated)]
    return [Finding(
        "saturated", "fail", layer,
        f"{share.mean():.0%} of the elements of the {network.activations[layer]} layers lie on its flat sides, on the mean; "
        f"{limits.saturated:.0%} is the limit.",
    )]  # fmt: skip


def _collapsed(runs: Sequence[Measured], limits: Thresholds) -> list[Finding]:
    apart = np.maximum(_median(runs, "apart"), _FULL_PRECISION)
    shrunk = np.log(apart[0] / apart)
    warn, fail = limits.rank_collapse
    if not shrunk[-1] > warn:
        return []
    layer = _first(shrunk > warn)
    return [Finding(
        "rank collapse", "fail" if shrunk[-1] > fail else "warn", layer,
        f"Samples become alike: 1 - cosine shrinks by {shrunk[-1]:.1f} nats, to {apart[-1]:.1e}, from the first layer to the "
        f"last; {_from(warn, fail)}.",
    )]  # fmt: skip


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
    variance = float(np.median([run.logit_variance for run in runs]))
    fair = math.log(classes)
    over, times = limits.initial_loss
    if not loss > fair + over:
        return []
    return [Finding(
        "over-confident head", "fail" if loss > times * fair else "warn", len(network.activations) - 1,
        f"The initial loss is {loss:.2f} nats where ln {classes} = {fair:.2f} is that of no opinion: logits of standard "
        f"deviation {math.sqrt(variance):.2g}; {_from(fair + over, times * fair)}.",
    )]  # fmt: skip


def _without_gradient(runs: Sequence[Measured]) -> list[Finding]:
    names = runs[0].without_gradient
    if not names:
        return []
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return [Finding(
        "no gradient", "fail", int(names[0].partition(".")[0]), f"The gradient of {shown} is exactly 0 for the whole batch."
    )]  # fmt: skip


def margins(network: Network, runs: Sequence[Measured], limits: Thresholds) -> dict[str, tuple[float, float]]:
    """For each verdict with a threshold what was measured, and above which number it is a finding."""
    forward, backward = (np.median(total(network, runs, backward=way).each) for way in (False, True))
    dead, allowed = _median(runs, "dead"), _allowed_dead(network, limits)
    layer = int(np.argmax(dead / allowed))
    found = {
        "dead": (dead[layer], allowed[layer]),
        "exploding": (max(forward, backward), limits.exploding[0]),
        "vanishing": (-min(forward, backward), limits.vanishing[0]),
    }
    layers = [i for i, name in enumerate(network.activations) if name in _SIGMOIDAL]
    if layers:
        found["saturated"] = (_median(runs, "saturated")[layers].mean(), limits.saturated)
    apart = np.maximum(_median(runs, "apart")[[0, -1]], _FULL_PRECISION)
    if not np.isnan(apart).any():  # as it is where a layer, by design perhaps, is all zeros
        found["rank collapse"] = (np.log(apart[0] / apart[1]), limits.rank_collapse[0])
    if not network.blocks and (scatter := _scatter(network).sum()):
        found["narrow"] = (scatter, limits.narrow)
    if network.widths[-1] > 1 and network.activations[-1] == "linear":
        loss = np.median([run.loss for run in runs])
        found["over-confident head"] = (loss, math.log(network.widths[-1]) + limits.initial_loss[0])
    return {name: (float(value), float(limit)) for name, (value, limit) in found.items()}
