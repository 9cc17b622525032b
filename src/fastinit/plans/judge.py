"""One tensor against what was asked for: bit for bit where its key is known, by its law where it is not."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.dtypes import PART, raw_view, rounded
from .._stream.keys import Key
from .._stream.laws import Law
from ..initializers import Initializer
from ..initializers.deterministic import Fixed
from ..initializers.fans import Fans
from .causes import Place, law_cause, ratio_cause
from .identify import (
    FEW,
    Known,
    Sample,
    bounds,
    chosen,
    described,
    known_rules,
    kolmogorov,
    misfit,
    moments,
    named,
    numbers,
    sample_of,
    sigmas,
)
from .parts import Box, Part

__all__ = [
    "ANOTHER_DRAW", "ANOTHER_LAW", "AS_ASKED", "CONSTANT", "DEFAULT", "DIFFERS", "FRESH", "IDENTIFIED", "MOVED", "NON_FINITE",
    "TOO_FEW", "UNKNOWN", "UNTESTED", "Asked", "Case", "Verdict",
]  # fmt: skip

AS_ASKED = "as asked"
ANOTHER_LAW = "another law"
DEFAULT = "untouched framework default"
CONSTANT = "constant"
NON_FINITE = "non-finite"
MOVED = "moved by training"
ANOTHER_DRAW = "another draw of the same law"
FRESH = "a fresh draw where trained values were expected"
DIFFERS = "other values"
TOO_FEW = "too few elements to tell"
UNTESTED = "not tested"
IDENTIFIED = "identified"
UNKNOWN = "no known rule"

_BLOCK = 1 << 20  # elements that are made again at once
_EXPLAINED = 1 << 17  # elements, of those that differ, that are compared to find out why
_PROVEN = 4096  # elements: a tensor of fewer may pass for a fresh draw though it was trained
_TELLING = 1024  # elements: of fewer, trained values may pass for some law
_BLOCKS = 64  # of rows, at most, that are looked at one by one in a trained tensor
_LEAST, _MOST = 1 << 11, 1 << 14  # elements of each that are, about
_STRONG = 0.3  # correlation with the first values: beside rows above it, others that have none stand out
_KEPT = 0.25  # of the first values: rows that training moved are taken to have more of them left
_REDRAWN = 1 << 22  # elements of a tensor without a law that are drawn to be compared with
_NARROWER = {"float64": ("float32", "bfloat16", "float16"), "float32": ("bfloat16", "float16"), "float16": ("bfloat16",)}
# Relative differences of values that are equal but for the rounding of another library.
_CLOSE = {"float64": 2.0**-20, "float32": 2.0**-20, "float16": 2.0**-9}
_AGAIN = "an initializer ran again after the trained weights were loaded, or they never were"
_ZEROS = "nothing was written since its memory was allocated, or it was zeroed afterwards"


@dataclass(frozen=True)
class Asked:
    """How a tensor should have begun.

    Attributes
    ----------
    words : str
    law : Law or None
    initializer : Initializer or None
        None if the receipt does not hold it.
    dtype : str
        In which it was made.
    key : Key or None
        Of the tensor; None without a receipt.
    fans : Fans or None
        Where the law depends on them.
    """

    words: str
    law: Law | None
    initializer: Initializer | None
    dtype: str
    key: Key | None = None
    fans: Fans | None = None

    @property
    def again(self) -> bool:
        """Whether its values can be made again."""
        return self.key is not None and self.initializer is not None

    @property
    def drawn(self) -> bool:
        return not isinstance(self.initializer, Fixed) and not (self.law is not None and moments(self.law)[1] == 0)


@dataclass(frozen=True)
class Verdict:
    """What a tensor was found to be."""

    verdict: str
    found: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Case:
    """A tensor that is there, and what was asked of it.

    Attributes
    ----------
    view : ndarray
        Its elements, in its own order of axes; of bfloat16 and float8 the bits.
    inside : Box
        Which of its elements these are.
    part : Part
    dtype : str
    asked : Asked or None
    place : Place
    alarm : float
        The false-alarm rate for this tensor.
    trained : bool
        Whether it should have been trained since.
    """

    view: NDArray[Any]
    inside: Box
    part: Part
    dtype: str
    asked: Asked | None
    place: Place
    alarm: float
    trained: bool

    @functools.cached_property
    def sample(self) -> Sample:
        return sample_of(self.view, self.dtype)

    @functools.cached_property
    def rules(self) -> list[Known]:
        place = self.place
        return known_rules(self.part.shape, inputs=place.inputs, layers=place.layers, layer=place.layer)

    @functools.cached_property
    def known(self) -> Known | None:
        """The known rule that the elements follow."""
        return named(self.sample, self.rules, self.alarm)

    @functools.cached_property
    def words(self) -> str:
        """What is there."""
        return described(self.sample, self.known, self.rules, self.alarm)

    def verdict(self) -> Verdict:
        """Judge the tensor."""
        asked = self.asked
        if not self.view.size:
            return Verdict(IDENTIFIED if asked is None else AS_ASKED, "no elements")
        if asked is not None and asked.again and self._differing(asked) is None:
            again = self.trained and asked.drawn
            narrow = f"rounded to {self.dtype}" if self.dtype in _NARROWER.get(asked.dtype, ()) else ""
            return Verdict(FRESH, "its first values, bit for bit", _AGAIN) if again else Verdict(AS_ASKED, narrow)
        if self.dtype in PART:
            return Verdict(DIFFERS if asked is not None and asked.again else UNTESTED, f"{self.dtype} numbers")
        if self.sample.bad:
            return Verdict(NON_FINITE, self.words)
        if asked is None:
            return self._identified()
        if asked.drawn and self.sample.constant and self.view.size > 1:
            return Verdict(CONSTANT, self.words, _ZEROS if self.sample.low == 0 else "")
        if self.trained:
            return self._trained(asked)
        return self._explained(asked) if asked.again else self._by_law(asked)

    # ---- bit for bit ----

    def _made(self, asked: Asked, box: Box) -> NDArray[Any]:
        """The elements that should be in a box, in the dtype that the tensor has now; of bfloat16 and float8 the bits."""
        assert asked.initializer is not None
        index = tuple(slice(low, high) for low, high in box)
        out = np.empty([high - low for low, high in box], np.uint16) if asked.dtype == "bfloat16" else None
        values = asked.initializer.shard(self.part.shape, index, key=asked.key, dtype=asked.dtype, out=out)
        if self.dtype != asked.dtype:
            values = rounded(np.asarray(numbers(raw_view(values), asked.dtype), np.float64), self.dtype)
        return np.asarray(raw_view(values))

    def _blocks(self, asked: Asked) -> list[Box]:
        """Boxes of rows; one box if the tensor can only be made as a whole."""
        if asked.law is None or not self.inside:
            return [self.inside]
        (low, high), *rest = self.inside
        rows = max(1, _BLOCK * (high - low) // self.view.size)
        return [((row, min(row + rows, high)), *rest) for row in range(low, high, rows)]

    def _at(self, box: Box) -> NDArray[Any]:
        return self.view[box[0][0] - self.inside[0][0] : box[0][1] - self.inside[0][0]] if box else self.view

    def _differing(self, asked: Asked) -> Box | None:
        """Rows from the first one on that has other bits; None if there is none."""
        for box in self._blocks(asked):
            here, made = self._at(box), self._made(asked, box)
            if _equal(here, made):
                continue
            if asked.law is None or not box:
                return box
            (low, high), *rest = box
            first = next(row for row in range(high - low) if not _equal(here[row : row + 1], made[row : row + 1]))
            rows = max(1, _EXPLAINED * (high - low) // here.size)
            return ((low + first, min(low + first + rows, high)), *rest)
        return None

    def _explained(self, asked: Asked) -> Verdict:
        """Why the bits are others."""
        box = self._differing(asked)
        assert box is not None
        here = self._at(box)
        wanted = np.asarray(numbers(self._made(asked, box), self.dtype), np.float64).reshape(-1)
        values = np.asarray(numbers(here, self.dtype), np.float64).reshape(-1)
        for narrow in _NARROWER.get(self.dtype, ()):
            back = np.asarray(numbers(np.asarray(raw_view(rounded(wanted, narrow))), narrow), np.float64)
            if np.array_equal(back, values):
                cause = f"it was made in, or went through, {narrow}"
                return Verdict(DIFFERS, f"the values asked for, rounded to {narrow}", cause)
        if wanted.min() == wanted.max():
            return self._was_constant(float(wanted[0]))
        wrong = values[values != wanted]  # none, if it is the sign of a zero that differs
        if len(wrong) > 1 and wrong.min() == wrong.max():
            found = f"{len(wrong):,} of {len(values):,} elements from entry {box[0][0]} on are {wrong[0]:.6g}"
            return Verdict(CONSTANT, found, _ZEROS if wrong[0] == 0 else "")
        ratio = float(wanted @ values) / float(wanted @ wanted)
        if abs(ratio - 1) > 1e-3 and len(values) >= 4 and _proportional(values, ratio * wanted, self.dtype):
            std = moments(asked.law)[1] if asked.law is not None else float(wanted.std())
            cause = ratio_cause(abs(ratio), std, self.place)
            return Verdict(ANOTHER_LAW, f"the draw that was asked for, times {ratio:.4g}", cause)
        correlation = _correlation(wanted, values)
        if correlation > 6 / math.sqrt(len(wanted)) and len(wanted) >= FEW:
            kept = float((values == wanted).mean())
            still = f", {kept:.0%} of the elements as they were" if kept > 0.01 else ""
            return Verdict(MOVED, f"correlation {correlation:.3g} with its first values{still}")
        other = self._other_shard(asked, box)
        if other:
            return Verdict(ANOTHER_DRAW, other, "identical shards: every rank drew the part of one")
        verdict = self._by_law(asked)
        if verdict.verdict in (AS_ASKED, UNTESTED):
            return Verdict(ANOTHER_DRAW, self.words)
        return Verdict(DIFFERS, self.words) if verdict.verdict == TOO_FEW else verdict

    def _other_shard(self, asked: Asked, box: Box) -> str:
        """Which part of the tensor a rank holds in the place of its own."""
        for axis, ((low, high), n) in enumerate(zip(self.inside, self.part.shape, strict=True)):
            length = high - low
            if length == n or asked.law is None:
                continue
            for first in range(0, n - length + 1, length):
                shifted = tuple((a + first - low, b + first - low) if k == axis else (a, b) for k, (a, b) in enumerate(box))
                if first != low and _equal(self._at(box), self._made(asked, shifted)):
                    return f"entries {first} to {first + length} of axis {axis}, not {low} to {high}"
        return ""

    # ---- by its law ----

    def _default(self) -> Known | None:
        """The framework's default, if the elements look like it: of a few elements, if they just fit its bounds."""
        if self.known is not None:
            return self.known if self.known.default else None
        reach = max(abs(self.sample.low), abs(self.sample.high))
        if not self.place.inputs or len(self.sample.values) >= FEW:
            return None
        defaults = [rule for rule in self.rules if rule.default]
        return next((rule for rule in defaults if 0.2 * bounds(rule.law)[1] < reach <= 1.01 * bounds(rule.law)[1]), None)

    def _other(self, asked: Law | None, against: str = "") -> Verdict:
        """The verdict on elements that do not follow the law that was asked."""
        found = self._default() or self.known
        words = f"{self.words}; {against}" if against else self.words
        default = found is not None and found.default
        return Verdict(DEFAULT if default else ANOTHER_LAW, words, law_cause(self.sample, asked, found, self.place))

    def _was_constant(self, value: float) -> Verdict:
        """A constant was asked, and something else is there."""
        if self.sample.constant:
            return Verdict(CONSTANT, self.words)
        if self._default() or (self.known and len(self.sample.values) >= _TELLING):
            return self._other(None)
        return Verdict(MOVED, self.words, f"values that no known rule draws, where all should be {value:.6g}")

    def _by_law(self, asked: Asked) -> Verdict:
        if isinstance(asked.initializer, Fixed):
            return self._by_values(asked.initializer)
        if asked.law is None:
            return self._by_draws(asked.initializer)
        against = misfit(self.sample, asked.law, self.alarm)
        if against is None:
            return Verdict(AS_ASKED if len(self.sample.values) >= FEW else TOO_FEW, self.words)
        return self._other(asked.law, against)

    def _by_values(self, initializer: Fixed) -> Verdict:
        """Of an initializer that draws nothing: its values, to within the rounding of another library."""
        low, high = initializer.bounds(self.part.shape)
        wanted = chosen(initializer._tensor(self.part.shape)[tuple(slice(*pair) for pair in self.inside)])
        values = np.asarray(numbers(chosen(self.view), self.dtype), np.float64)
        close = _CLOSE.get(self.dtype, 2.0**-6)
        if np.abs(values - wanted).max() <= close * max(abs(low), abs(high)) and (low < high or self.sample.constant):
            return Verdict(AS_ASKED, self.words)
        if low == high:
            return self._was_constant(low)
        return Verdict(CONSTANT, self.words) if self.sample.constant else self._other(None)

    def _by_draws(self, initializer: Initializer | None) -> Verdict:
        """Of an initializer without a law: its own draws. Elements that depend on one another scatter less than others."""
        if initializer is None or math.prod(self.part.shape) > _REDRAWN:
            return Verdict(UNTESTED, self.words)
        values = self.sample.values
        if len(values) < FEW:
            return Verdict(TOO_FEW, self.words)
        drawn = np.asarray(initializer(self.part.shape, "float64", key=Key(0)))
        others = np.sort(chosen(drawn[tuple(slice(*pair) for pair in self.inside)]))
        # Where rounding may have moved an element across, the other side counts it too.
        both = np.unique(values)
        step = _CLOSE.get(self.dtype, 2.0**-6) * np.abs(both)
        n, m = len(values), len(others)
        below = np.searchsorted(others, both - step) / m - np.searchsorted(values, both) / n
        above = np.searchsorted(values, both, side="right") / n - np.searchsorted(others, both + step, side="right") / m
        gap = max(float(below.max()), float(above.max()), 0.0)
        if kolmogorov(gap, n * m / (n + m)) >= self.alarm:
            return Verdict(AS_ASKED, self.words)
        return self._other(None)

    def _identified(self) -> Verdict:
        """Nothing was asked."""
        if self.sample.constant:
            return Verdict(IDENTIFIED, self.words)
        if len(self.sample.values) < FEW:
            return Verdict(TOO_FEW, self.words)
        if self.known is not None:
            fresh = self.trained and self.sample.size >= _PROVEN
            return Verdict(FRESH, self.words, _AGAIN) if fresh else Verdict(IDENTIFIED, self.words)
        cause = law_cause(self.sample, None, None, self.place)
        return Verdict(ANOTHER_LAW if cause else UNKNOWN, self.words, cause)

    def _trained(self, asked: Asked) -> Verdict:
        """Trained values were expected: those that pass for a fresh draw are suspicious, and rows unlike all others."""
        lost = self._lost(asked) if asked.drawn and self.inside else None
        if lost is not None:
            return lost
        if asked.drawn and self.sample.size >= _PROVEN:
            fresh = asked.law is not None and misfit(self.sample, asked.law, self.alarm) is None
            default = self.known is not None and self.known.default
            if (fresh or default) and not self._correlated(asked):
                return Verdict(FRESH, self.words, _AGAIN) if fresh else self._other(None)
        return Verdict(MOVED, self.words)

    def _lost(self, asked: Asked) -> Verdict | None:
        """Whether blocks of rows are constant, or have nothing of their first values where other rows have much."""
        (low, high), *rest = self.inside
        count = min(_BLOCKS, high - low, self.view.size // _LEAST)
        cuts = [low + (high - low) * i // max(count, 1) for i in range(count + 1)]
        rows = max(1, _MOST * (high - low) // self.view.size)
        constant, alone, telling = [], [], []
        for first, last in itertools.pairwise(cuts):
            box = ((first, min(first + rows, last)), *rest)
            values = np.asarray(numbers(self._at(box), self.dtype), np.float64).reshape(-1)
            if values.min() == values.max():
                block = numbers(self._at(((first, last), *rest)), self.dtype)
                if block.min() == block.max():
                    constant.append((first, last, float(values[0])))
            elif asked.again and asked.law is not None:
                made = np.asarray(numbers(self._made(asked, box), self.dtype), np.float64).reshape(-1)
                correlation, root = _correlation(made, values), math.sqrt(len(values))
                # Of numbers that have nothing of the first ones, 1 in 700 such correlations is above 3 / root. Of rows that
                # moved very far as many may be below: then more of the first values may be left than the test can tell.
                left = (correlation + 3 / root) * float(values.std()) / max(float(made.std()), 1e-300)
                if correlation >= 3 / root:
                    telling.append(correlation)
                elif left < _KEPT:
                    alone.append((first, last, root))
        if constant:
            ends, value = _span(constant), constant[0][2]
            return Verdict(CONSTANT, f"entries {ends} are {value:.6g}", _ZEROS if value == 0 else "")
        if not alone or not telling:
            return None
        usual = float(np.median(telling))
        # Rows that moved as the others did have so low a correlation with a probability of less than the alarm.
        if usual < max(_STRONG, (3 + sigmas(self.alarm / count)) / min(root for *_, root in alone)):
            return None
        found = f"entries {_span(alone)} have nothing of their first values; other rows a correlation of {usual:.2g}"
        return Verdict(FRESH, found, _AGAIN)

    def _correlated(self, asked: Asked) -> bool:
        """Whether the values come from those of the receipt."""
        return asked.again and self._explained(asked).verdict == MOVED


def _equal(values: NDArray[Any], others: NDArray[Any]) -> bool:
    if values.dtype.kind == "c":
        return values.tobytes() == others.tobytes()
    bits = np.dtype(f"u{values.itemsize}")
    return bool((values.view(bits) == others.view(bits)).all())


def _correlation(values: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    off, around = values - values.mean(), others - others.mean()
    return float(off @ around) / max(float(np.linalg.norm(off) * np.linalg.norm(around)), 1e-300)


def _span(blocks: Sequence[tuple[Any, ...]]) -> str:
    """The rows of the first blocks that follow one another, and whether there are more."""
    first, last = blocks[0][:2]
    for begin, end, *_ in blocks[1:]:
        if begin != last:
            return f"{first} to {last} and others"
        last = end
    return f"{first} to {last}"


def _proportional(values: NDArray[np.float64], others: NDArray[np.float64], dtype: str) -> bool:
    """Whether nearly all values are equal but for rounding; a few may be clipped or subnormal."""
    close = {"bfloat16": 2.0**-7, "float16": 2.0**-9}.get(dtype, 1e-5)
    return float((np.abs(values - others) <= close * np.abs(values)).mean()) > 0.99
