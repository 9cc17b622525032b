"""What to change, tried: each candidate is run, and the best is recommended with the number that it gave."""

from __future__ import annotations

import dataclasses
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
from .assemble import assembled
from .judge import Finding
from .result import Diagnosis
from .thresholds import VERDICTS, Thresholds

__all__ = ["Description", "recommended"]

Array = NDArray[Any]

_TRIED = 3  # seeds that the best candidate is run with


class Description(NamedTuple):
    """Networks that can be drawn with any seed."""

    widths: tuple[int, ...]
    activation: Any
    options: dict[str, Any]
    key: Key

    def stacks(self, seeds: int, **changes: Any) -> list[Stack]:
        options = {"activation": self.activation, **self.options, **changes}
        return [Stack(self.widths, key=self.key / f"{i}", **options) for i in range(seeds)]


def recommended(
    diagnosis: Diagnosis, network: Description, x: Array, labels: Array, limits: Thresholds
) -> Diagnosis:
    """The diagnosis with a recommendation for each finding for which something that was tried is better.

    All candidates are run with one seed, the best one again with more. A candidate is better if it makes the number smaller that
    the finding is about, and if it has no finding of an earlier verdict, or of this one at the same severity.
    """
    runs: dict[tuple[str, int], Diagnosis] = {}

    def run(text: str, changes: dict[str, Any], seeds: int) -> Diagnosis:
        if (text, seeds) not in runs:
            runs[text, seeds] = assembled(network.stacks(seeds, **changes), x, labels, limits)
        return runs[text, seeds]

    findings = []
    for finding in diagnosis.findings:
        number, what = _NUMBERS[finding.name]
        before = number(diagnosis)
        candidates = list(_candidates(finding, network))
        if finding.name == "narrow":  # whose number is about several seeds
            ranked = candidates
        else:
            ranked = sorted(candidates, key=lambda candidate: number(run(candidate[0], candidate[1], 1)))
        for text, changes in ranked[:2]:
            found = run(text, changes, max(_TRIED, diagnosis.seeds))
            if number(found) < before and _is_better(found, finding):
                text = f"{text}: {what} {_shown(number(found))} instead of {_shown(before)}"
                finding = dataclasses.replace(finding, recommendation=text, changes=changes)
                break
        findings.append(finding)
    return dataclasses.replace(diagnosis, findings=tuple(findings))


def _is_better(found: Diagnosis, finding: Finding) -> bool:
    """Whether what was tried has no earlier fault, and this one less severely if at all."""
    order = VERDICTS.index(finding.name)
    return not any(
        VERDICTS.index(other.name) < order or (other.name == finding.name and other.severity == "fail")
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
    "non-finite": (_largest_change, "largest change in nats"),
    "no signal": (_largest_change, "largest change in nats"),
    "symmetric": (_count("symmetric"), "findings of symmetry"),
    "dead": (_margin("dead"), "largest share of dead units"),
    "exploding": (_largest_change, "largest change in nats"),
    "vanishing": (_largest_change, "largest change in nats"),
    "saturated": (_margin("saturated"), "share of saturated elements"),
    "rank collapse": (_margin("rank collapse"), "nats that 1 - cosine shrinks by"),
    "narrow": (_scatter, "standard deviation of the forward change in nats"),
    "over-confident head": (_margin("over-confident head"), "initial loss"),
    "no gradient": (_count("no gradient"), "findings without a gradient"),
}


# ---- what is tried -------------------------------------------------------------------------------


def _candidates(finding: Finding, network: Description) -> Iterator[tuple[str, dict[str, Any]]]:
    """What may help against a finding, in words and as options."""
    stack = network.stacks(1)[0]
    if finding.name == "over-confident head":
        weights = [_of_layer(network.options.get("weights", "glorot_uniform"), i) for i in range(stack.depth - 1)]
        yield "weights of zeros in the last layer", {"weights": [*weights, Zeros()]}
        return
    alpha: dict[str, Any] = {}
    if stack.residual_blocks:
        alpha = {"alpha": 1 / math.sqrt(2 * len(stack.residual_blocks))}
        yield f"alpha={alpha['alpha']:.4g}", alpha
    head = stack.activations[-1] if stack.activations[-1] != stack.activations[0] else None
    orthogonal = stack.depth > min(stack.widths[1:]) / 10
    for text, changes in _starts(stack.activations[0], orthogonal):
        if head is not None and "activation" in changes:
            changes = {**changes, "activation": [changes["activation"]] * (stack.depth - 1) + [head], "output_activation": None}
        if alpha:
            yield f"{text} and alpha={alpha['alpha']:.4g}", {**changes, **alpha}
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
        yield "activation='tanh' with weights='lecun_normal'", changes
    for bias_variance in (0.0, _BIASED.get(name, 0.05)):
        try:
            start = CriticalNormal(activation, bias_variance)
        except ValueError:  # no critical point, or one that repels
            continue
        biases = start.biases if bias_variance else "zeros"
        yield (
            f"weights=CriticalNormal({activation!r}, {bias_variance:g})" + (" with its biases" if bias_variance else ""),
            {"weights": start, "biases": biases},
        )
        if orthogonal:
            gain = math.sqrt(start.variance((1, 1)))
            yield (
                f"weights=Orthogonal(gain={gain:.4g})" + (f" with biases of variance {bias_variance:g}" if bias_variance else ""),
                {"weights": Orthogonal(gain=gain), "biases": biases},
            )
    if name != "sigmoid":
        yield "weights='lecun_normal'", {"weights": "lecun_normal", "biases": "zeros"}
