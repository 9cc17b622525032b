"""Which law is this? Tests of a tensor's elements against a law, and the known rule that is nearest.

Every test counts in the false-alarm rate that it is given, and is conservative: numbers that a narrow dtype has rounded do not
count against a law, nor does an error of a hundredth in a standard deviation, which the samples are too small to see.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import numpy_dtype
from .._common.pieces import in_pieces
from .._stream.laws import Law
from ..initializers.fans import FanRule, Fans, compute_fans
from ..initializers.independent import truncated_moments

__all__ = [
    "FEW",
    "Known",
    "Sample",
    "bounds",
    "chosen",
    "described",
    "fans_of_shape",
    "known_rules",
    "kolmogorov",
    "misfit",
    "moments",
    "named",
    "numbers",
    "sample_of",
    "sigmas",
]  # fmt: skip

AT_MOST = 1 << 16  # elements of a sample
FEW = 32  # elements: of fewer only values that a law never has are told

# Bits of the significand and the exponent of the smallest normal number, 2^e.
_FORMATS = {
    "float64": (53, -1022), "float32": (24, -126), "float16": (11, -14), "bfloat16": (8, -126), "float8_e4m3fn": (4, -6),
    "float8_e4m3": (4, -6), "float8_e4m3fnuz": (4, -7), "float8_e4m3b11fnuz": (4, -10), "float8_e5m2": (3, -14),
    "float8_e5m2fnuz": (3, -15), "float8_e3m4": (5, -2),
}  # fmt: skip


def numbers(memory: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Elements as floats; of bfloat16 and float8 the memory holds bits."""
    if dtype == "bfloat16":
        return (memory.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if dtype.startswith("float8"):
        return memory.view(numpy_dtype(dtype)).astype(np.float32)
    return memory


@dataclass(frozen=True)
class Sample:
    """What is known of a tensor's elements.

    Attributes
    ----------
    values : ndarray
        Up to 65,536 of them in rising order, float64; without those that are not finite.
    dtype : str
    size : int
        Of the tensor.
    low, high : float
        Smallest and largest element of all; NaN where there is none.
    bad : int
        How many are NaN or infinite.
    """

    values: NDArray[np.float64]
    dtype: str
    size: int
    low: float
    high: float
    bad: int

    @property
    def constant(self) -> bool:
        return self.low == self.high and not self.bad

    @functools.cached_property
    def mean(self) -> float:
        return float(self.values.mean()) if len(self.values) else math.nan

    @functools.cached_property
    def std(self) -> float:
        return float(self.values.std()) if len(self.values) else math.nan

    def spread(self, kurtosis: float) -> float:
        """Relative standard error of `std` for elements of that kurtosis."""
        return math.sqrt((kurtosis - 1) / max(len(self.values), 1)) / 2


def chosen(view: NDArray[Any]) -> NDArray[Any]:
    """Up to 65,536 elements, spread evenly."""
    if view.size <= AT_MOST:
        return view.reshape(-1)
    step = view.size // AT_MOST
    return view[np.unravel_index(np.arange(AT_MOST) * step + step // 2, view.shape)]


def sample_of(view: NDArray[Any], dtype: str) -> Sample:
    """A sample of a tensor; the extremes and the count of numbers that are not finite are of all its elements.

    Parameters
    ----------
    view : ndarray
        Any strides; of bfloat16 and float8 the bits.
    dtype : str
        A real one.
    """
    low, high, bad = math.inf, -math.inf, 0
    for (bits,) in in_pieces(view):
        piece = numbers(bits, dtype)
        least, most = float(piece.min()), float(piece.max())
        if not (math.isfinite(least) and math.isfinite(most)):
            finite = np.isfinite(piece)
            bad += piece.size - int(finite.sum())
            if not finite.any():
                continue
            least, most = float(piece[finite].min()), float(piece[finite].max())
        low, high = min(low, least), max(high, most)
    values = np.asarray(numbers(chosen(view), dtype), np.float64)
    if bad:
        values = values[np.isfinite(values)]
    if low > high:
        low = high = math.nan
    return Sample(np.sort(values), dtype, view.size, low, high, bad)


# ---- laws ------------------------------------------------------------------------------------------


def _phi(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution function of the standard normal, to 8e-8 (Abramowitz and Stegun, 7.1.26)."""
    z = np.abs(x) * math.sqrt(0.5)
    t = 1 / (1 + 0.3275911 * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * poly * np.exp(-z * z)
    return np.where(x < 0, tail, 1 - tail)


def _tail(z: float) -> float:
    """P(Z > z) of a standard normal."""
    return 0.5 * math.erfc(z * math.sqrt(0.5))


def distribution(law: Law, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution function of a law."""
    if law.name == "uniform":
        low, high = law.parameters
        return np.asarray(np.clip((x - low) / (high - low), 0, 1))
    mean, std, *cut = law.parameters
    z = (x - mean) / std
    if not cut:
        return _phi(z)
    left, right = _tail(-cut[0]), _tail(cut[1])
    return np.asarray(np.clip((_phi(z) - left) / (1 - left - right), 0, 1))


@functools.lru_cache(maxsize=1024)
def moments(law: Law) -> tuple[float, float, float]:
    """Mean, standard deviation and kurtosis (3 for a normal law)."""
    if law.name == "uniform":
        low, high = law.parameters
        return (low + high) / 2, (high - low) / math.sqrt(12), 1.8
    mean, std, *cut = law.parameters
    if not cut:
        return mean, std, 3.0
    middle, spread = truncated_moments(*cut)
    x = np.linspace(max(cut[0], -9.0), min(cut[1], 9.0), 4001)
    density = np.exp(-x * x / 2)
    fourth = float((density * (x - middle) ** 4).sum() / density.sum()) / spread**4
    return mean + std * middle, std * spread, fourth


def bounds(law: Law) -> tuple[float, float]:
    """Between which all elements lie; may be infinite."""
    if law.name == "uniform":
        return law.parameters[0], law.parameters[1]
    mean, std, *cut = law.parameters
    return (mean + std * cut[0], mean + std * cut[1]) if cut else (-math.inf, math.inf)


# ---- tests -----------------------------------------------------------------------------------------


def kolmogorov(distance: float, count: float) -> float:
    """The probability that an empirical distribution of `count` elements is so far from its law, or farther.

    The asymptotic series with Stephens' correction for small samples (Numerical Recipes, 14.3); for elements that were rounded it
    is an upper bound.
    """
    root = math.sqrt(count)
    x = (root + 0.12 + 0.11 / root) * distance
    if x < 0.2:
        return 1.0
    if x < 1.18:  # the other series converges here
        y = math.pi**2 / (8 * x * x)
        return 1 - math.sqrt(2 * math.pi) / x * float(sum(math.exp(-((2 * k - 1) ** 2) * y) for k in range(1, 8)))
    return min(1.0, 2 * math.fsum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 8)))


def above(values: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """The largest number that is rounded to each of these values of a dtype: halfway to the next one."""
    bits, least = _FORMATS[dtype]
    mantissa, exponent = np.frexp(values)
    exponent = np.where(values == 0, least, exponent - 1)
    spacing = np.ldexp(1.0, np.maximum(exponent, least) - bits + 1)
    # Towards zero the numbers lie twice as close below a power of two.
    closer = (mantissa == -0.5) & (exponent > least)
    return np.asarray(values + np.where(closer, spacing / 4, spacing / 2))


def distance(sample: Sample, law: Law) -> float:
    """The Kolmogorov-Smirnov distance from a law whose draws were rounded to the dtype."""
    values = sample.values
    n = len(values)
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), n - 1)  # of each run of equal values
    counted = (last + 1) / n
    distinct = values[last]
    up = np.abs(distribution(law, above(distinct, sample.dtype)) - counted)
    down = np.abs(distribution(law, -above(-distinct, sample.dtype)) - np.append(0.0, counted[:-1]))
    return float(max(up.max(), down.max()))


@functools.lru_cache(maxsize=64)
def sigmas(alarm: float) -> float:
    """The z that a standard normal exceeds on either side with probability `alarm`."""
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 2 * _tail(middle) > alarm else (low, middle)
    return high


def misfit(sample: Sample, law: Law, alarm: float) -> str | None:
    """What speaks against elements drawn from a law, as a phrase; None if nothing does.

    Parameters
    ----------
    sample : Sample
    law : Law
    alarm : float
        The probability, at most, that something does though the law is right.
    """
    if sample.bad:
        return f"{sample.bad:,} elements are not finite"
    n = len(sample.values)
    if not n:
        return None
    mean, std, kurtosis = moments(law)
    if std == 0:
        return None if sample.low == sample.high and _close(sample.low, mean, sample.dtype) else "not constant"
    bits, least = _FORMATS[sample.dtype]
    # The extremes before they were rounded: at least so far from all others.
    least_far, most_far = above(np.array([sample.low, -sample.high]), sample.dtype) * (1, -1)
    low, high = bounds(law)
    slack = 2.0**-20 * max(abs(low), abs(high)) if math.isfinite(high - low) else 0.0
    if least_far < low - slack or most_far > high + slack:
        return f"elements from {sample.low:.4g} to {sample.high:.4g}, outside [{low:.4g}, {high:.4g}]"
    test = alarm / 4
    if law.name == "normal":
        farthest = max(mean - least_far, most_far - mean) / std
        if farthest > 1.02 * sigmas(test / sample.size):
            return f"an element {farthest:.3g} standard deviations from the mean"
    if n >= FEW and sample.std < 3e4 * std:
        off = (sample.mean - mean) / std * math.sqrt(n)
        if abs(off) > 1.05 * sigmas(test):
            return f"mean {sample.mean:.4g}, not {mean:.4g}"
        fine = std > 8 * 2.0 ** (least - bits + 1) and bits >= 8
        # The cube root of a chi-square is nearly normal (Wilson and Hilferty), here of as many degrees of freedom as give
        # the variance of s^2.
        freedom = 2 * n / (kurtosis - 1)
        cube = ((sample.std / std) ** (2 / 3) * (n / (n - 1)) ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))
        if fine and abs(cube) > 1.05 * sigmas(test):
            return f"std {sample.std:.4g}, not {std:.4g}"
    if n >= 8:
        gap = distance(sample, law)
        if kolmogorov(gap, n) < test:
            return f"std {sample.std:.4g} as asked, but another shape (Kolmogorov-Smirnov distance {gap:.3g})"
    return None


def _close(value: float, wanted: float, dtype: str) -> bool:
    bits, least = _FORMATS[dtype]
    return abs(value - wanted) <= abs(wanted) * 2.0 ** -min(bits - 1, 22) + 2.0 ** (least - bits)


# ---- known rules -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A rule that many models use, for one tensor."""

    words: str
    law: Law
    default: bool = False  # what a framework leaves there


_CUT2 = truncated_moments(-2.0, 2.0)[1]  # 0.8796


def normal(std: float) -> Law:
    return Law("normal", (0.0, std))


def uniform(bound: float) -> Law:
    return Law("uniform", (-bound, bound))


def truncated(std: float, cut: float) -> Law:
    """Of that std before truncation, at so many of them."""
    return Law("truncated_normal", (0.0, std, -cut, cut))


def fans_of_shape(shape: tuple[int, ...]) -> Fans | None:
    """Of a weight in the order (out, in, \\*field)."""
    try:
        fans = compute_fans(shape, FanRule(layout="oi")) if len(shape) > 1 else None
    except ValueError:
        return None
    return fans if fans and min(fans) > 0 else None


def known_rules(shape: tuple[int, ...], *, inputs: int | None = None, layers: int = 0, layer: int | None = None) -> list[Known]:
    """The rules that a tensor may follow, the more usual ones first.

    Parameters
    ----------
    shape : tuple of int
        (out, in, \\*field).
    inputs : int, optional
        Of a bias: the fan_in of its layer.
    layers : int, default 0
        Of the model, for residual scaling; 0 where they are not known.
    layer : int, optional
        Which one this is.
    """
    fans = fans_of_shape(shape)
    found: list[Known] = [Known("N(0, 0.02)", normal(0.02))]
    if fans is None:
        if inputs:
            found.append(Known("PyTorch's default, U(±1/√fan_in)", uniform(inputs**-0.5), True))
        found += [Known(f"N(0, {std})", normal(std)) for std in (1.0, 0.01, 1e-6, 0.1)]
        return [*found, Known("U(0, 1)", Law("uniform", (0.0, 1.0)))]
    fan_in, fan_out = fans
    found.append(Known("PyTorch's default, kaiming_uniform(a=√5) = U(±1/√fan_in)", uniform(fan_in**-0.5), True))
    found.append(Known("N(0, 1), the default of PyTorch's Embedding", normal(1.0), True))
    for name, variance in (
        ("He", 2 / fan_in), ("Glorot", 2 / (fan_in + fan_out)), ("LeCun", 1 / fan_in), ("He by fan_out", 2 / fan_out),
        ("LeCun by fan_out", 1 / fan_out), ("Glorot, gain √2", 4 / (fan_in + fan_out)),
    ):  # fmt: skip
        std = math.sqrt(variance)
        found.append(Known(f"{name} normal", normal(std)))
        found.append(Known(f"{name} uniform", uniform(std * math.sqrt(3))))
        found.append(Known(f"{name} truncated normal", truncated(std / _CUT2, 2.0)))
    if layers:
        found.append(Known(f"N(0, 0.02/√(2L)), L = {layers}", normal(0.02 / math.sqrt(2 * layers))))
    for std in (0.01, 0.1, 0.05, 0.006, 0.001):
        found.append(Known(f"N(0, {std})", normal(std)))
    for std in (0.02, 0.01):
        found += [Known(f"N(0, {std}) truncated at {cut}σ", truncated(std, float(cut))) for cut in (2, 3)]
    if layers:
        found.append(Known(f"N(0, 2/(L√d)), L = {layers}", normal(2 / (layers * math.sqrt(fan_out)))))
    if layer is not None:
        found.append(Known(f"N(0, 0.02/√(2(l+1))), l = {layer}", normal(0.02 / math.sqrt(2 * (layer + 1)))))
    for width in dict.fromkeys((fan_in, fan_out)):
        found.append(Known("N(0, 1/√d)", normal(width**-0.5)))
        found.append(Known("N(0, 1/√d) truncated at 3σ", truncated(width**-0.5, 3.0)))
        found.append(Known("N(0, √(2/5d))", normal(math.sqrt(0.4 / width))))
    found += [Known(f"U(±{bound})", uniform(bound)) for bound in (0.05, 0.1, 1.0)]
    for name, variance in (("He", 2 / fan_in), ("LeCun", 1 / fan_in), ("Glorot", 2 / (fan_in + fan_out))):
        std = math.sqrt(variance)
        found.append(Known(f"{name} truncated normal, its std not corrected", truncated(std, 2.0)))
        found.append(Known(f"{name} normal, widened by 1.137 as if it were truncated", normal(std / _CUT2)))
    return [*found, Known("U(0, 1)", Law("uniform", (0.0, 1.0)))]


def named(sample: Sample, rules: Iterable[Known], alarm: float) -> Known | None:
    """The rule that the elements fit; of several the one whose std is nearest, of equally near ones the first."""
    if len(sample.values) < FEW or sample.bad or sample.constant:
        return None
    fitting: list[tuple[int, int, Known]] = []
    for rule in rules:
        _, std, kurtosis = moments(rule.law)
        off = int(abs(math.log(sample.std / std)) / (2.5 * sample.spread(kurtosis)))  # in units of 2.5 standard errors
        if off < 2 and misfit(sample, rule.law, alarm) is None:
            fitting.append((off, int(distance(sample, rule.law) * math.sqrt(len(sample.values)) / 1.5), rule))
    return min(fitting, key=lambda fit: fit[:2], default=(0, 0, None))[2]


def _near(sample: Sample, law: Law, within: float) -> bool:
    std = moments(law)[1]
    return sample.std > 0 and abs(math.log(sample.std / std)) < within


def described(sample: Sample, known: Known | None, rules: Sequence[Known], alarm: float) -> str:
    """The law of the elements in words: the known rule, or a family and its std; of a few elements their range."""
    if sample.bad:
        return f"{sample.bad:,} of {sample.size:,} elements NaN or infinite"
    if sample.constant:
        return f"all {sample.low:.6g}"
    if len(sample.values) < FEW:
        return f"{sample.size} elements from {sample.low:.4g} to {sample.high:.4g}"
    if known is not None:
        return f"{known.words}, std {sample.std:.3g}"
    law, family = _family(sample, alarm)
    alike = [rule for rule in rules if rule.law.name == law]
    nearest = min(alike, key=lambda rule: abs(math.log(sample.std / moments(rule.law)[1])), default=None)
    if nearest is None or not _near(sample, nearest.law, 0.25):
        return f"{family}, std {sample.std:.3g}"
    return f"{family}, std {sample.std:.3g}, {sample.std / moments(nearest.law)[1]:.3g} times that of {nearest.words}"


def _family(sample: Sample, alarm: float) -> tuple[str, str]:
    """The distribution and its words: parameters are fitted, which makes the test of the shape conservative."""
    mean, std = sample.mean, sample.std
    centred = "" if abs(mean) < 5 * std / math.sqrt(len(sample.values)) else f" about {mean:.3g}"
    reach = max(sample.high - mean, mean - sample.low)
    fits = {"normal": Law("normal", (mean, std)), "uniform": Law("uniform", (sample.low, sample.high))}
    for cut in (2.0, 3.0):
        fits[f"normal, truncated at {cut:.0f}σ"] = Law("truncated_normal", (mean, reach / cut, -cut, cut))
    gaps = {words: distance(sample, law) for words, law in fits.items()}
    best = min(gaps, key=gaps.__getitem__)
    if kolmogorov(gaps[best], len(sample.values)) < alarm:
        return "", f"no known distribution{centred}"
    return fits[best].name, f"{best}{centred}"
