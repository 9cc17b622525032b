"""What to change, tried: each candidate is run, and the best is recommended with the number that it gave."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._common.activations import name_of
from .._engine.stack import Stack
from .._stream.keys import Key
from ..gains import preactivation_gain
from ..initializers import CriticalNormal, GainNormal, Orthogonal, Zeros
from .assemble import assembled, seeds_for
from .judge import Finding
from .result import Diagnosis
from .thresholds import VERDICTS, Thresholds

__all__ = ["Description", "recommended"]

Array = NDArray[Any]

_ENOUGH = 0.8  # of a number: what makes it smaller by less is no advice


class Description(NamedTuple):
    """Networks that can be drawn with any seed."""

    widths: tuple[int, ...]
    activation: Any
    options: dict[str, Any]
    key: Key
    seeds: int | None = None  # as many as `seeds_for` draws

    def stacks(self, seeds: int | None = None, **changes: Any) -> Iterator[Stack]:
        """So many networks with some changes, by default as many as `diagnose` draws of them."""
        options = {"activation": self.activation, **self.options, **changes}
        first = Stack(self.widths, key=self.key / "0", **options)
        count = seeds or self.seeds or seeds_for(first)
        return itertools.chain([first], (Stack(self.widths, key=self.key / f"{i}", **options) for i in range(1, count)))

    @classmethod
    def of(cls, stack: Stack, key: Key) -> Description:
        """Of a stack that is there, with its own arrays where nothing is changed."""
        options: dict[str, Any] = {"weights": list(stack.weights), "biases": list(stack.biases), "dtype": stack.dtype}
        if stack.residual_blocks:
            begin, end = stack.residual_blocks[0]
            options |= {"residual": end - begin + 1, "alpha": stack.alpha}
        return cls(stack.widths, list(stack.activations), options, key)


@np.errstate(all="ignore")  # what overflows is not recommended
def recommended(
    diagnosis: Diagnosis, network: Description, x: Array, labels: Array, limits: Thresholds,
    progress: Callable[[int, int], None],
) -> Diagnosis:
    """The diagnosis with a recommendation for each finding for which something that was tried is better.

    First come the data, if they are of another scale than starts are made for, and what was recommended for an earlier finding,
    if this one is gone with it too: one change is better than two. Of the others all are run with one seed, and the best two
    again with as many as `diagnose` draws of such networks, so that it gives the same number. A candidate is better if it makes
    the number smaller that the finding is about (by a fifth, unless the finding is gone), if it has no finding of an earlier
    verdict, and if it fails neither this one nor another that did not fail before.
    """
    runs: dict[tuple[str, int | None], Diagnosis] = {}
    failed = {finding.name for finding in diagnosis.findings if finding.severity == "fail"}

    def run(text: str, changes: dict[str, Any], seeds: int | None = None) -> Diagnosis:
        if (text, seeds) not in runs:
            options = dict(changes)
            inputs = options.pop("x", x)
            runs[text, seeds] = assembled(network.stacks(seeds, **options), inputs, labels, limits)
        return runs[text, seeds]

    data, findings = list(_standardised(x)), []
    accepted: list[tuple[str, dict[str, Any], float]] = []
    for i, finding in enumerate(diagnosis.findings):
        progress(i, len(diagnosis.findings))
        number, what = _NUMBERS[finding.name]
        before = number(diagnosis)
        ranked = list(_candidates(finding, network))
        if finding.name != "narrow":  # whose number is about several seeds
            tried = [run(text, changes, 1) for text, changes in ranked]
            sized = [(number(found), i) for i, found in enumerate(tried) if _is_better(found, finding, failed)]
            ranked = [ranked[i] for size, i in sorted(sized) if not math.isnan(size)]
        for text, changes, enough in (*data, *accepted, *((*candidate, _ENOUGH) for candidate in ranked[:2])):
            found = run(text, changes)
            after, gone = number(found), all(other.name != finding.name for other in found.findings)
            if after < before and (gone or after < enough * before) and _is_better(found, finding, failed):
                said = f"{text}: then {what} is {_shown(after)} instead of {_shown(before)}"
                finding = dataclasses.replace(finding, recommendation=said, changes=changes)
                accepted.append((text, changes, 0.0))
                break
        findings.append(finding)
    return dataclasses.replace(diagnosis, findings=tuple(findings))


def _standardised(x: Array) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Data with mean 0 and variance 1, if theirs are far from that, as those of pixels from 0 to 255 are."""
    numbers = np.asarray(x, dtype=np.float64)
    mean, std = float(numbers.mean()), float(numbers.std())
    if 0 < std < math.inf and not 0.25 <= mean * mean + std * std <= 4:
        yield f"x=(x - {mean:.4g}) / {std:.4g}", {"x": (numbers - mean) / std}, _ENOUGH


def _is_better(found: Diagnosis, finding: Finding, failed: set[str]) -> bool:
    """Whether what was tried has no earlier fault, and fails neither this one nor one that did not fail before."""
    order = VERDICTS.index(finding.name)
    return not any(
        VERDICTS.index(other.name) < order
        or (other.severity == "fail" and (other.name == finding.name or other.name not in failed))
        for other in found.findings
    )


def _shown(value: float) -> str:
    return "an infinite one" if math.isinf(value) else f"{value:.3g}"


# ---- the number that a recommendation must make smaller ------------------------------------------


def _largest_change(diagnosis: Diagnosis) -> float:
    """In nats, of either way; infinite where a signal is gone or has left the range."""
    sizes = [abs(change.nats) for change in (diagnosis.forward, diagnosis.backward)]
    return max(sizes) if all(map(math.isfinite, sizes)) else math.inf


def _margin(name: str) -> Callable[[Diagnosis], float]:
    return lambda diagnosis: diagnosis.margins.get(name, (0.0, 0.0))[0]


def _count(name: str) -> Callable[[Diagnosis], float]:
    return lambda diagnosis: float(sum(finding.name == name for finding in diagnosis.findings))


def _scatter(diagnosis: Diagnosis) -> float:
    """Standard deviation from seed to seed of the forward change."""
    return float(np.std(diagnosis.forward.each, ddof=1)) if diagnosis.seeds > 1 else math.inf


_NUMBERS: dict[str, tuple[Callable[[Diagnosis], float], str]] = {
    "non-finite": (_largest_change, "the largest change in nats"),
    "no signal": (_largest_change, "the largest change in nats"),
    "symmetric": (_count("symmetric"), "the number of symmetries"),
    "dead": (_margin("dead"), "the largest share of dead units"),
    "exploding": (_largest_change, "the largest change in nats"),
    "vanishing": (_largest_change, "the largest change in nats"),
    "saturated": (_margin("saturated"), "the share of saturated elements"),
    "rank collapse": (_margin("rank collapse"), "what 1 - cosine shrinks by, in nats,"),
    "narrow": (_scatter, "the standard deviation over seeds of the forward change in nats"),
    "over-confident head": (_margin("over-confident head"), "the initial loss"),
    "no gradient": (_count("no gradient"), "the number of findings of no gradient"),
}


# ---- what is tried -------------------------------------------------------------------------------


def _candidates(finding: Finding, network: Description) -> Iterator[tuple[str, dict[str, Any]]]:
    """What may help against a finding, in words and as options."""
    stack = next(network.stacks(1))
    virtual = network.options.get("virtual")  # whose weights are drawn, each by itself
    if finding.name == "over-confident head":
        if virtual:
            return
        weights = [_of_layer(network.options.get("weights", "glorot_uniform"), i) for i in range(stack.depth - 1)]
        yield "weights='zeros' in the last layer", {"weights": [*weights, Zeros()]}
        return
    alpha: dict[str, Any] = {}
    if stack.residual_blocks:
        alpha = {"alpha": 1 / math.sqrt(2 * len(stack.residual_blocks))}
        yield f"alpha={alpha['alpha']:.4g}", alpha
    head = stack.activations[-1] if stack.activations[-1] != stack.activations[0] else None
    orthogonal = stack.depth > min(stack.widths[1:]) / 10 and not virtual
    biased = any(bias is not None and np.any(bias) for bias in stack.biases)
    for text, changes in _starts(stack.activations[0], orthogonal):
        if head is not None and "activation" in changes:
            changes = {**changes, "activation": [changes["activation"]] * (stack.depth - 1) + [head], "output_activation": None}
        if biased and changes["biases"] == "zeros":
            text = f"{text}, biases='zeros'"
        if alpha:
            yield f"{text}, alpha={alpha['alpha']:.4g}", {**changes, **alpha}
        yield text, changes


def _of_layer(weights: Any, i: int) -> Any:
    return weights[i] if isinstance(weights, (list, tuple)) else weights


# Without normalisation no gain of these is stable: variances leave the fixed point. From a bias variance on they return.
_BIASED = {"gelu": 0.2, "gelu_tanh": 0.2, "silu": 0.6, "mish": 0.15, "elu": 0.05, "softplus": 0.05}
_HOMOGENEOUS = ("relu", "leaky_relu", "linear")


def _starts(activation: str, orthogonal: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Weights and biases for an activation."""
    name = name_of(activation)
    if name in _HOMOGENEOUS or name == "selu":
        gain = preactivation_gain(activation)
        if orthogonal:
            yield f"weights=Orthogonal(gain={gain:.4g})", {"weights": Orthogonal(gain=gain), "biases": "zeros"}
        yield f"weights=GainNormal({activation!r})", {"weights": GainNormal(activation), "biases": "zeros"}
        return
    if name == "sigmoid":
        changes = {"activation": "tanh", "weights": "lecun_normal", "biases": "zeros"}
        yield "activation='tanh', weights='lecun_normal'", changes
    for bias_variance in (0.0, _BIASED.get(name, 0.05)):
        try:
            start = CriticalNormal(activation, bias_variance)
        except ValueError:  # no critical point, or one that repels
            continue
        biases = start.biases if bias_variance else "zeros"
        drawn = f", biases=RandomNormal(std={math.sqrt(bias_variance):.4g})" if bias_variance else ""
        yield (
            f"weights=CriticalNormal({activation!r}, {bias_variance:g}){drawn}",
            {"weights": start, "biases": biases},
        )
        if orthogonal:
            gain = math.sqrt(start.variance((1, 1)))
            yield (
                f"weights=Orthogonal(gain={gain:.4g}){drawn}",
                {"weights": Orthogonal(gain=gain), "biases": biases},
            )
    if name != "sigmoid":
        yield "weights='lecun_normal'", {"weights": "lecun_normal", "biases": "zeros"}
