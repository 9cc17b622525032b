"""Why a tensor does not have the law that was asked for: the mistakes that are known from real models, told by their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._stream.laws import Law
from ..initializers.fans import Fans
from .identify import Known, Sample, moments

__all__ = ["Place", "law_cause", "ratio_cause"]

_CUT2 = 0.8796256610342398  # standard deviation of a standard normal truncated at 2


@dataclass(frozen=True)
class Place:
    """Where a tensor stands in its model.

    Attributes
    ----------
    fans : Fans or None
        Where the law that was asked depends on them.
    inputs : int or None
        Of a bias: the fan_in of its layer.
    layers : int
        How many the model has; 0 if unknown.
    layer : int or None
        Which of them it is in.
    stds : frozenset of float
        Standard deviations that were asked of the model's tensors.
    """

    fans: Fans | None = None
    inputs: int | None = None
    layers: int = 0
    layer: int | None = None
    stds: frozenset[float] = frozenset()


def law_cause(sample: Sample, asked: Law | None, found: Known | None, place: Place) -> str:
    """The likely cause, as a clause; "" if there is none that is known."""
    clamped = _clamped(sample)
    if clamped:
        return (
            f"infinities were clamped to {clamped:.3g}: erfinv of ±1, which timm's trunc_normal_ meets once in 16 million "
            "elements, and that of old versions of PyTorch often in bfloat16"
        )
    if found is not None and found.default:
        return (
            "no initializer reached it: its rule matched nothing, its memory was elsewhere (ZeRO-3 outside of a gather), or it "
            "was made anew afterwards"
        )
    if asked is None:
        return f"it is {found.words}" if found else ""
    mean, std, kurtosis = moments(asked)
    if not std or not sample.std:
        return ""
    if abs(sample.mean - mean) > max(0.1 * std, 6 * sample.std / math.sqrt(len(sample.values))):
        return "its mean is another one"
    cause = ratio_cause(sample.std / std, std, place, tolerance=max(4 * sample.spread(kurtosis), 0.004))
    return cause or "the std is right, the distribution is another one"


def ratio_cause(ratio: float, std: float, place: Place, *, tolerance: float = 0.004) -> str:
    """Why a standard deviation is `ratio` times `std`, which was asked for."""

    def near(wanted: float) -> bool:
        return wanted > 0 and abs(math.log(ratio / wanted)) < tolerance

    if near(1):
        return ""
    if near(1 / _CUT2):
        return "1.137 times as wide: the correction of a truncated normal, 1/0.8796, without a truncation, or twice"
    if near(_CUT2):
        return "0.8796 times as wide: truncated at 2σ without the correction"
    cause = _depth_cause(near, std, place) if place.fans is None else _fan_cause(near, std, place.fans)
    if cause:
        return cause
    if near(math.sqrt(3)) or near(math.sqrt(1 / 3)):
        return "as if the bound of a uniform law and its std, bound/√3, were exchanged"
    if near(std):
        return "the square of the std that was asked: a variance was passed as a std, or it was scaled twice"
    if near(1 / math.sqrt(std)):
        return "the root of the std that was asked: a std was passed as a variance"
    return f"{ratio:.2g} times as wide"


def _depth_cause(near: Callable[[float], bool], std: float, place: Place) -> str:
    """Of a std that does not depend on fans, if it is that of other tensors, scaled."""
    scales = [("1/√(2L), L", place.layers, 2 * place.layers)] if place.layers > 1 else []
    if place.layer:
        scales.append(("1/√(2(l+1)), l", place.layer, 2 * (place.layer + 1)))
    for words, number, square in scales:
        if not any(abs(std * math.sqrt(square) / other - 1) < 1e-3 for other in place.stds):
            continue
        if near(math.sqrt(square)):
            return f"the residual scaling {words} = {number}, was never applied"
        if near(1 / math.sqrt(square)):
            return f"the residual scaling {words} = {number}, was applied once too often"
    return ""


def _fan_cause(near: Callable[[float], bool], std: float, fans: Fans) -> str:
    fan_in, fan_out = ("fan_in", fans.fan_in), ("fan_out", fans.fan_out)
    for (right, wanted), (wrong, taken) in ((fan_in, fan_out), (fan_out, fan_in)):
        # The law is by this fan if std^2 fan is one of the usual gains: of He, LeCun, and PyTorch's a=√5.
        usual = any(abs(std * std * wanted / gain - 1) < 1e-6 for gain in (1.0, 2.0, 1 / 3))
        if usual and wanted != taken and near(math.sqrt(wanted / taken)):
            return f"as if {wrong}, {taken}, was taken for {right}, {wanted}: another order of axes, or another mode"
    for shards in (2, 4, 8, 16, 32, 64, 3, 6):
        if near(math.sqrt(shards)):
            also = ", or the gain of ReLU, √2, came in" if shards == 2 else ""
            return f"as if the fan was {shards} times too small, that of one of {shards} shards{also}"
        if near(math.sqrt(1 / shards)):
            also = ", or the gain of ReLU, √2, is missing" if shards == 2 else ""
            return f"as if the fan was {shards} times too large, that of {shards} fused weights{also}"
    return ""


def _clamped(sample: Sample) -> float:
    """The end, far outside of all other elements, that several are exactly at, or one if it is ±2; 0 if there is none."""
    values = sample.values
    if len(values) < 32:
        return 0.0
    end = max(sample.low, sample.high, key=abs)
    sizes = np.abs(values)
    others = sizes[sizes < abs(end)]
    alone = len(others) > len(values) / 2 and 4 * float(others.max()) < abs(end)
    several = len(values) - len(others) >= 2 or abs(end) == 2.0  # the bounds of trunc_normal_ by default
    return end if alone and others.max() > 0 and several else 0.0
