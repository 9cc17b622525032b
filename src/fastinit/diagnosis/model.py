"""The judgement of a model of any framework: from what was observed of its layers and parameters to a diagnosis.

The dialects observe; no framework is imported here. In a graph of any form only like is compared with like: layers with
weights are grouped by their role, the name with numbers replaced by ``*``, and a change is taken within a group, in the order of
execution. Where normalisation or a residual stream keeps a signal, such changes stay near 0 and nothing is claimed.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import shown
from .judge import (
    FULL_PRECISION,
    SIGMOIDAL,
    Finding,
    interval_of,
    limits_in_words,
    loss_in_words,
    power_of_ten,
    straddles,
    verdict_of,
)  # fmt: skip
from .observed import ObservedLayer, ObservedModel, role_of
from .result import Change, DiagnosedLayer, Diagnosis
from .thresholds import VERDICTS, Thresholds

__all__ = ["MODEL_THRESHOLDS", "judge_model", "model_limits"]

Array = NDArray[Any]

# A failing loss of 100 ln C, as for stacks, would call no published fault by its name: tied N(0, 1) heads begin at 25 ln C.
# Heads of sound models stay below ln C + 1, and of deep He networks without normalisation below 3 ln C.
MODEL_THRESHOLDS = Thresholds(initial_loss=(1.0, 3.0))

_FEWEST = 3  # layers of a role that a change is taken over
# By which the lines for gradients that grow are multiplied where a model normalises: a layer before a norm does not depend on
# the size of its weights, so that a step that is too large makes them larger and the next steps smaller. ResNets without
# zeros at the end of their branches grow by 9, 12 and 14 nats at 50, 101 and 152 layers, and train; with zeros by 0.9 at 50.
_NORMALISED = 2.0
_OF_DATA = ("exploding", "saturated", "over-confident head")  # which data of another scale than 1 may be the cause of
_LEAST, _MOST = 0.1, 10.0  # root mean square of an input up to which it is not
_WHOLLY = 0.9  # share of one layer's elements that are saturated, for which it is named though the mean of all layers is not high


def model_limits(thresholds: Any) -> Thresholds:
    """The thresholds of a caller, or those of models."""
    if thresholds is None:
        return MODEL_THRESHOLDS
    if not isinstance(thresholds, Thresholds):
        raise TypeError(f"thresholds: expected a fastinit.Thresholds, got {shown(thresholds)}")
    return thresholds


def _roles_of(layer: ObservedLayer) -> set[str]:
    """The roles of a layer in chains of blocks and of layers: ``h.0.mlp.2`` is ``h.*.mlp.2`` and ``h.0.mlp.*``."""
    if layer.role:
        return {layer.role}
    name = layer.name.partition("#")[0]
    blocks, dot, last = name.rpartition(".")
    if not re.search(r"\d", blocks):
        return {role_of(name)}
    return {role_of(blocks) + dot + last} | ({f"{blocks}.*"} if last.isdigit() else set())


@dataclass(frozen=True)
class _Group:
    """The change within one role: `steps` has a row for each seed and a column for each layer, beginning with 0."""

    role: str
    names: tuple[str, ...]
    steps: Array

    @property
    def each(self) -> Array:
        return self.steps[:, -1]

    @property
    def size(self) -> float:
        return float(np.median(self.each))


_NONE = _Group("", (), np.full((1, 1), math.nan))  # where no role has enough layers


class _Layers:
    """The layers of all seeds: names and kinds are those of the first, numbers are medians."""

    def __init__(self, runs: Sequence[ObservedModel]) -> None:
        self.first = runs[0].layers
        self._by_name = [{layer.name: layer for layer in run.layers} for run in runs]

    def each(self, layer: ObservedLayer, field: str) -> Array:
        """The number of a layer in each seed; NaN where a seed did not call it."""
        return np.array([float(getattr(own[layer.name], field)) if layer.name in own else math.nan for own in self._by_name])

    def median(self, layer: ObservedLayer, field: str) -> float:
        values = self.each(layer, field)
        known = values[~np.isnan(values)]
        return float(np.median(known)) if len(known) else math.nan

    @property
    def normalised(self) -> bool:
        return any("norm" in layer.kind.lower() for layer in self.first)

    @functools.cached_property
    def _of_one_role(self) -> dict[tuple[str, str], list[ObservedLayer]]:
        """Weighted layers by role and kind."""
        groups: dict[tuple[str, str], list[ObservedLayer]] = {}
        for layer in self.first:
            for role in _roles_of(layer) if layer.weighted else ():
                groups.setdefault((role, layer.kind), []).append(layer)
        return groups

    @functools.cached_property
    def _in_one_chain(self) -> dict[tuple[str, str], list[ObservedLayer]]:
        """Weighted layers by kind, without the head, of a model where nothing normalises, goes around a layer or attends."""
        groups: dict[tuple[str, str], list[ObservedLayer]] = {}
        plain = not self.normalised and all(
            layer.kind != "attention" and math.isnan(layer.entropy) and math.isnan(layer.branch) for layer in self.first
        )
        for layer in [layer for layer in self.first if layer.weighted][:-1] if plain else ():
            groups.setdefault((f"all of kind {layer.kind}", layer.kind), []).append(layer)
        return groups

    @property
    def _chained(self) -> bool:
        """Whether names tell nothing of roles: then the layers of a plain chain are compared in the order of execution."""
        return max(map(len, self._of_one_role.values()), default=0) < _FEWEST

    def why_not(self, field: str) -> str:
        """Why there is no change of a number, in words."""
        groups = self._in_one_chain if self._chained else self._of_one_role
        members = max(groups.values(), key=len, default=[])
        if len(members) - (field == "square" and self.normalised) < _FEWEST:  # without the first one, as in `changes`
            return "fewer than three layers of one role"
        if field == "gradient" and sum(not math.isnan(self.median(layer, field)) for layer in members) < _FEWEST:
            return "fewer than three layers of one role get a gradient; the others are frozen or detached"
        return "too many layers have a mean square that is 0 or not finite"

    def changes(self, field: str, *, backward: bool = False) -> list[_Group]:
        """How the logarithm of a number changes within each role of weighted layers.

        The last one that is executed is left out where enough are left: it is the head, which may be small by design. So is, of
        outputs in models that normalise, the first one of a role, which may read embeddings and the others what is normalised.
        """
        groups = self._in_one_chain if self._chained else self._of_one_role
        weighted = [layer for layer in self.first if layer.weighted]
        found = []
        for (role, _), members in groups.items():
            if members[-1] is weighted[-1] and len(members) > _FEWEST:
                members = members[:-1]
            numbers = np.array([self.each(layer, field) for layer in members])
            usable = np.flatnonzero(((numbers > 0) & np.isfinite(numbers)).all(axis=1))
            if field == "square" and self.normalised:
                usable = usable[1:]
            if len(usable) < _FEWEST:
                continue
            order = usable[::-1] if backward else usable
            if field == "apart":
                numbers = np.maximum(numbers, FULL_PRECISION)
            logs = np.log(numbers[order]).T
            found.append(_Group(role, tuple(members[i].name for i in order), logs - logs[:, :1]))
        return _middle_ones(found)


def _of_role(group: _Group) -> str:
    return f"of the role {group.role}" if "all of kind" not in group.role else group.role.removeprefix("all ")


def _middle_ones(groups: Sequence[_Group]) -> list[_Group]:
    """Of the roles in one chain of blocks the one with the median change, which stands for the chain.

    What goes through all of the blocks has one change. Single roles have others besides: in sound transformers gradients of
    queries and keys, which flow through the derivative of softmax, change by up to 8 nats where those of values change by 0.2.
    """
    chains: dict[str, list[_Group]] = {}
    for group in groups:
        chains.setdefault(group.role.partition("*")[0], []).append(group)
    middle = []
    for members in chains.values():
        ordered = sorted(members, key=lambda group: group.size)
        pair = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
        middle.append(min(pair, key=lambda group: abs(group.size)))
    return middle


def judge_model(runs: Sequence[ObservedModel], limits: Thresholds, title: str) -> Diagnosis:
    """The diagnosis of a model that was observed once, or once for each seed.

    Parameters
    ----------
    runs : sequence of ObservedModel
        Of models that differ in their seeds alone.
    limits : Thresholds
    title : str
        The model and its loss in a few words, to which the numbers of seeds and samples are added.
    """
    many = f"{len(runs)} seeds" if len(runs) > 1 else "1 seed"
    layers = _Layers(runs)
    forward, backward = layers.changes("square"), layers.changes("gradient", backward=True)
    loss, classes, variance = (
        float(np.median([getattr(run, name) for run in runs])) for name in ("loss", "classes", "logit_variance")
    )
    data = _about_data(runs[0].input_square)
    found = [
        *_non_finite(layers, runs),
        *_no_signal(layers),
        *_symmetric(runs),
        *_dead(layers, limits),
        *_changed(layers, forward, backward, limits),
        *_saturated(layers, limits),
        *_collapsed(layers, limits),
        *_over_confident(loss, classes, variance, layers, limits, by_data=data is not None),
        *([] if _numbers_are_lost(layers) or math.isinf(loss) else _without_gradient(runs)),
        *_unregistered(runs[0]),
    ]
    found = [replace(finding, recommendation=data) if finding.name in _OF_DATA else finding for finding in found]
    findings = sorted(found, key=lambda finding: VERDICTS.index(finding.name))
    return Diagnosis(
        verdict=verdict_of(findings),
        findings=tuple(findings),
        layers=tuple(_row(layers, layer) for layer in layers.first),
        forward=_change(_largest(forward), limits, layers.why_not("square")),
        backward=_change(_largest(backward), limits, layers.why_not("gradient")),
        initial_loss=loss,
        uniform_loss=math.log(classes) if classes > 1 else math.nan,
        margins=_margins(layers, forward, backward, loss, classes, limits),
        seeds=len(runs),
        batch=runs[0].batch,
        widths=tuple(layer.units for layer in layers.first),
        title=f"{title}; {many}, batch of {runs[0].batch}",
        borderline=_borderline(findings, layers, forward, backward, limits),
    )


def _largest(groups: Sequence[_Group], sign: float | None = None) -> _Group:
    """The group that changes most, or most in one direction."""
    return max(groups, key=lambda group: abs(group.size) if sign is None else sign * group.size, default=_NONE)


def _change(group: _Group, limits: Thresholds, why_not: str) -> Change:
    if group is _NONE:
        return Change(math.nan, math.nan, math.nan, math.nan, (), why_not)
    return Change(group.size, *interval_of(group.each, limits), math.nan, tuple(map(float, group.each)))


def _row(layers: _Layers, layer: ObservedLayer) -> DiagnosedLayer:
    def middle(field: str) -> float:
        return layers.median(layer, field)

    return DiagnosedLayer(
        layer.name, layer.inputs, layer.units, layer.activation or layer.kind, math.sqrt(middle("square")),
        math.sqrt(middle("expected")), math.sqrt(middle("gradient") / layer.elements), math.nan, middle("saturated"),
        middle("dead"), 1 - middle("apart"), math.nan, middle("gradient_to_weight"), middle("entropy"), middle("branch"),
    )  # fmt: skip


def _non_finite(layers: _Layers, runs: Sequence[ObservedModel]) -> list[Finding]:
    """Of the outputs that of the first layer; of gradients alone that of the last, which is the first on the way back."""
    for field, order, what in (("non_finite", layers.first, "values"), ("non_finite_gradients", layers.first[::-1], "gradients")):
        for layer in order:
            count = np.nanmax(layers.each(layer, field))
            if count:
                names = [name for run in runs for name in run.non_finite if name.rpartition(".")[0] == layer.name]
                also = f", and so are some of {names[0]}" if names else ""
                text = f"{int(count)} {what} of {layer.name} are infinite or NaN{also}."
                return [Finding("non-finite", "fail", layer.name, text)]
    for run in runs:
        if run.non_finite:
            name = run.non_finite[0]
            return [Finding("non-finite", "fail", name.rpartition(".")[0], f"Some numbers of {name} are infinite or NaN.")]
    if not all(math.isfinite(run.loss) or math.isnan(run.loss) for run in runs):
        return [Finding("non-finite", "fail", None, "The loss is infinite or NaN.")]
    return []


def _numbers_are_lost(layers: _Layers) -> bool:
    """Whether there are NaN on the way forward: the zeros behind them, of a ReLU's gradient for example, say nothing."""
    return any(np.nanmax(layers.each(layer, "non_finite")) for layer in layers.first)


def _no_signal(layers: _Layers) -> list[Finding]:
    for layer in layers.first:
        if np.nanmax(layers.each(layer, "silent")):
            zero = "exactly 0" if layers.median(layer, "square") == 0 else "0 up to rounding"
            return [Finding(
                "no signal", "fail", layer.name, f"The values that {layer.name} passes on are all {zero}; its input is not."
            )]  # fmt: skip
    return []


def _symmetric(runs: Sequence[ObservedModel]) -> list[Finding]:
    found = []
    layers = [one for run in runs for one in run.symmetric]
    if layers:
        name, copies, units = next((one for one in layers if 2 * one[1] >= one[2]), layers[0])
        found.append(Finding(
            "symmetric", "fail" if 2 * copies >= units else "warn", name,
            f"{copies} of the {units} units of {name} are copies of another one, with the same weights and the same gradients: "
            "they stay equal in training.",
        ))  # fmt: skip
    twins = list(dict.fromkeys(pair for run in runs for pair in run.twins))
    if twins:
        first, second = twins[0]
        more = f", and {len(twins) - 1} more pairs" if len(twins) > 1 else ""
        found.append(Finding(
            "symmetric", "warn", second.rpartition(".")[0],
            f"{first} and {second} are equal bit for bit{more}: were they drawn from one seed, or copied? "
            "Draw each with a key or a seed of its own.",
        ))  # fmt: skip
    return found


def _allowed_dead(layer: ObservedLayer, limits: Thresholds) -> float:
    return limits.dead + limits.dead_deviations * math.sqrt(0.25 / max(layer.units, 1))


def _dead(layers: _Layers, limits: Thresholds) -> list[Finding]:
    if _numbers_are_lost(layers):
        return []
    for layer in layers.first:
        share, most = layers.median(layer, "dead"), _allowed_dead(layer, limits)
        if share > most or (share == 1.0 and layer.activation is not None):
            what = "are not active for" if layer.activation else "get no gradient from"
            reason = f"{share:.0%} of the units of {layer.name} {what} any sample of the batch"
            return [Finding("dead", "fail", layer.name, f"{reason}; a failure begins at {min(most, 1):.0%}.")]
    return []


def _lines(layers: _Layers, limits: Thresholds) -> list[tuple[str, str, int, float, float]]:
    """Verdict, way and sign of each kind of change, and where it warns and fails."""
    found = []
    for name, sign, (warn, fail) in (("exploding", 1, limits.exploding), ("vanishing", -1, limits.vanishing)):
        for what in ("outputs", "gradients"):
            times = _NORMALISED if layers.normalised and (name, what) == ("exploding", "gradients") else 1.0
            found.append((name, what, sign, times * warn, times * fail))
    return found


def _changed(layers: _Layers, forward: list[_Group], backward: list[_Group], limits: Thresholds) -> list[Finding]:
    """Exploding and vanishing: the way forward is spoken of where it passes the threshold that the larger change does."""
    found: dict[str, Finding] = {}
    for name, what, sign, warn, fail in _lines(layers, limits):
        group = _largest(forward if what == "outputs" else backward, sign)
        size = sign * group.size
        if not size > warn or (name in found and not (size > fail and found[name].severity == "warn")):
            continue
        reached = sign * np.median(group.steps, axis=0) > warn
        verb = "grows" if sign > 0 else "shrinks"
        begin, end = group.names[0], group.names[-1]
        what = "outputs' mean square" if what == "outputs" else "gradients' sum of squares"
        found[name] = Finding(
            name, "fail" if size > fail else "warn", group.names[int(np.flatnonzero(reached)[0])],
            f"The {what} {verb} by {size:.1f} nats, a factor of {power_of_ten(size)}, from {begin} "
            f"{'to' if what.startswith('outputs') else 'back to'} {end}, layers {_of_role(group)}; "
            f"{limits_in_words(warn, fail)}.",
            borderline=straddles(sign * group.each, (warn, fail), limits),
        )  # fmt: skip
    return list(found.values())


def _borderline(
    findings: Sequence[Finding], layers: _Layers, forward: list[_Group], backward: list[_Group], limits: Thresholds
) -> bool:
    """Whether other seeds may be judged otherwise: by a failure's own interval, or else by any that reaches over a threshold."""
    fails = [finding for finding in findings if finding.severity == "fail"]
    if fails:
        return fails[0].borderline
    return any(
        straddles(sign * _largest(forward if what == "outputs" else backward, sign).each, (warn, fail), limits)
        for _, what, sign, warn, fail in _lines(layers, limits)
    )


def _saturation(layers: _Layers) -> list[tuple[str, float]]:
    return [(layer.name, layers.median(layer, "saturated")) for layer in layers.first if layer.activation in SIGMOIDAL]


def _saturated(layers: _Layers, limits: Thresholds) -> list[Finding]:
    """Of activation functions their mean fails and one alone warns; of attention layers, likewise."""
    shares, found = _saturation(layers), []
    mean = float(np.mean([share for _, share in shares])) if shares else 0.0
    worst, most = max(shares, key=lambda pair: pair[1], default=("", 0.0))
    if mean > limits.saturated:
        found.append(Finding(
            "saturated", "fail", next(name for name, share in shares if share > limits.saturated),
            f"{mean:.0%} of the elements of the activations with flat sides lie on them, on the mean of {len(shares)} layers; "
            f"a failure begins at {limits.saturated:.0%}.",
        ))  # fmt: skip
    elif most > _WHOLLY:
        found.append(Finding(
            "saturated", "warn", worst, f"{most:.0%} of the elements of {worst} lie on its flat sides, where no gradient passes."
        ))  # fmt: skip
    attention = _attention(layers)
    sharp = [name for name, share in attention if share > limits.attention[0]]
    if sharp:
        mean, most = float(np.mean([share for _, share in attention])), max(share for _, share in attention)
        warn, fail = (1 - limit for limit in limits.attention)
        found.append(Finding(
            "saturated", "fail" if mean > limits.attention[1] else "warn", sharp[0],
            f"Each query looks at hardly more than one key in {len(sharp)} of {len(attention)} layers of attention, where "
            f"softmax has almost no derivative: the entropy of the weights is down to {1 - most:.2g} of that of equal ones, "
            f"{1 - mean:.2g} on the mean; a warning begins where a layer is below {warn:.2g}, a failure where the mean is below "
            f"{fail:.2g}. Start with smaller weights of queries and keys, or divide the logits by more.",
        ))  # fmt: skip
    return found


def _attention(layers: _Layers) -> list[tuple[str, float]]:
    """1 - entropy of the layers of attention."""
    shares = [(layer.name, 1 - layers.median(layer, "entropy")) for layer in layers.first]
    return [(name, share) for name, share in shares if not math.isnan(share)]


def _alike(layers: _Layers) -> tuple[_Group, float]:
    """The role whose samples become alike most, and by how many nats; the rounding of the cosine does not count."""
    groups = layers.changes("apart")
    group = _largest(groups, -1)
    return group, -group.size


def _collapsed(layers: _Layers, limits: Thresholds) -> list[Finding]:
    group, shrunk = _alike(layers)
    warn, fail = limits.rank_collapse
    if not shrunk > warn:
        return []
    reached = -np.median(group.steps, axis=0) > warn
    last = next(layer for layer in layers.first if layer.name == group.names[-1])
    return [Finding(
        "rank collapse", "fail" if shrunk > fail else "warn", group.names[int(np.flatnonzero(reached)[0])],
        f"Samples become alike: 1 - cosine of the outputs of {group.role} shrinks by {shrunk:.1f} nats, to "
        f"{max(layers.median(last, 'apart'), FULL_PRECISION):.1e}, from {group.names[0]} to {group.names[-1]}; "
        f"{limits_in_words(warn, fail)}.",
    )]  # fmt: skip


def _over_confident(
    loss: float, classes: float, variance: float, layers: _Layers, limits: Thresholds, *, by_data: bool
) -> list[Finding]:
    if not classes > 1 or math.isinf(loss):
        return []
    fair = math.log(classes)
    over, times = limits.initial_loss
    if not loss > fair + over:
        return []
    deviation = math.sqrt(variance)
    # Of normal logits (Derrida's random energy model); what the drawn labels add to a mean over few samples is allowed for.
    normal = fair + variance / 2 if variance < 2 * fair else deviation * math.sqrt(2 * fair)
    hint = f"With weights {deviation:.2g} times smaller in the last layer that deviation is 1." if 1 < variance < math.inf else ""
    if loss > normal + 0.25 + deviation / 2:
        hint = "Some logits stand far above the others, as where the head is tied to embeddings that its input still holds."
    if by_data:
        hint = ""
    # A head that multiplies by the embeddings without being a layer has no name, and the last layer is another one.
    head = [layer.name for layer in layers.first if layer.weighted and layer.units == classes]
    return [Finding(
        "over-confident head", "fail" if loss > times * fair else "warn", head[-1] if head else None,
        f"The initial loss is {loss_in_words(loss)} nats where ln {classes:.0f} = {fair:.2f} is that of no opinion: logits of "
        f"standard deviation {deviation:.2g}; {limits_in_words(fair + over, times * fair)}. {hint}".rstrip(),
    )]  # fmt: skip


def _about_data(input_square: float) -> str | None:
    """What to do about data of another scale than starts are made for, such as pixels from 0 to 255."""
    rms = math.sqrt(input_square)
    if _LEAST < rms < _MOST or not 0 < rms < math.inf:
        return None
    return f"x=(x - mean) / std: the root mean square of the input is {rms:.3g}, where starts are made for about 1"


def _without_gradient(runs: Sequence[ObservedModel]) -> list[Finding]:
    """One finding for all faults, and one for what may be chance: of seeds, only parameters without a gradient in each."""
    everywhere = set.intersection(*({lost.name for lost in run.without_gradient} for run in runs))
    found = []
    for fault in (True, False):
        lost = [one for one in runs[0].without_gradient if one.fault == fault and one.name in everywhere]
        if lost:
            names = ", ".join(one.name for one in lost[:4]) + (f" and {len(lost) - 4} more" if len(lost) > 4 else "")
            found.append(Finding(
                "no gradient", "fail" if fault else "warn", lost[0].layer,
                f"The gradient of {names} is {lost[0].size} for the whole batch: {lost[0].reason}.",
            ))  # fmt: skip
    return found


def _unregistered(run: ObservedModel) -> list[Finding]:
    if not run.unregistered:
        return []
    names = ", ".join(run.unregistered[:4]) + (f" and {len(run.unregistered) - 4} more" * (len(run.unregistered) > 4))
    return [Finding(
        "unregistered", "fail", run.unregistered[0].rpartition(".")[0] or None,
        f"The loss depends on {names}, which are not among the parameters of the model, so that no optimizer is given them: "
        "hold them in a ModuleList, a ParameterList or a dict of these kinds.",
    )]  # fmt: skip


def _margins(
    layers: _Layers, forward: list[_Group], backward: list[_Group], loss: float, classes: float, limits: Thresholds
) -> dict[str, tuple[float, float]]:
    """For each verdict with a threshold what was measured, if it was, and above which number it is a finding."""
    found: dict[str, tuple[float, float]] = {}
    for layer in layers.first:
        share, most = layers.median(layer, "dead"), _allowed_dead(layer, limits)
        if "dead" not in found or share - most > found["dead"][0] - found["dead"][1] or math.isnan(found["dead"][0]):
            found["dead"] = share, most
    for name, what, sign, warn, _ in _lines(layers, limits):
        size = sign * _largest(forward if what == "outputs" else backward, sign).size
        if not math.isnan(size) and (name not in found or size - warn > found[name][0] - found[name][1]):
            found[name] = size, warn
    saturated = [share for _, share in _saturation(layers)]
    found["saturated"] = float(np.mean(saturated)) if saturated else math.nan, limits.saturated
    found["saturated attention"] = max((share for _, share in _attention(layers)), default=math.nan), limits.attention[0]
    found["rank collapse"] = _alike(layers)[1], limits.rank_collapse[0]
    if classes > 1:
        found["over-confident head"] = loss, math.log(classes) + limits.initial_loss[0]
    return {name: pair for name, pair in found.items() if not math.isnan(pair[0])}
