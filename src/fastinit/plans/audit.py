"""Does a model have the start that was asked for? What differs, what is there instead, and the likely cause."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import boolean, shown
from .._stream.keys import Key
from .causes import Place
from .fill import whole_box
from .held import Held, held_in
from .identify import fans_of_shape, moments
from .judge import ANOTHER_DRAW, AS_ASKED, DIFFERS, FRESH, IDENTIFIED, MOVED, TOO_FEW, UNKNOWN, UNTESTED, Asked, Case, Verdict
from .parameters import Parameter
from .parts import Part
from .plan import Plan
from .receipt import Receipt, Record, elements_hash, places
from .rows import Rows
from .table import common_name, fans_of, law_in_words
from .twins import Twins

__all__ = ["Audit", "Finding", "audit"]

MISSING = "not there"
NOT_ASKED = "not asked for"
SHAPE = "another shape"
DUPLICATE = "duplicate"

_USUAL_SEEDS = (1234, 1337, 2023, 2024, 2025, 2026, 3407, 4321, 12345, 31337, 123456)


@dataclass(frozen=True)
class Finding:
    """The verdict on one tensor.

    Attributes
    ----------
    name : str
        Of the tensor: as its key has it, or the parameter's own name.
    parameter : str
        The model's own name of the parameter that it is, or lies in.
    verdict : str
    asked : str
        What was asked for; "" without a receipt or plan.
    found : str
        What is there.
    cause : str
        The likely one; "" if none is known.
    """

    name: str
    parameter: str
    verdict: str
    asked: str = ""
    found: str = ""
    cause: str = ""


class Audit(Rows[Finding]):
    """The verdict on every tensor of a model; printed, only those that are not as asked.

    Attributes
    ----------
    differences : tuple of Finding
        Of the tensors that are not as they should be.
    ok : bool
        Whether there is none.
    """

    def __init__(self, findings: Iterable[Finding], *, how: str, sound: frozenset[str]) -> None:
        super().__init__(findings)
        self._how = how
        self._sound = sound
        self.differences = tuple(one for one in self if one.verdict not in sound)

    @property
    def ok(self) -> bool:
        return not self.differences

    def __repr__(self) -> str:
        return f"Audit of {len(self)} tensors, {len(self.differences)} not as they should be"

    def __str__(self) -> str:
        lines = []
        for group in _alike(self.differences):
            lines += _paragraph(group)
        if IDENTIFIED in self._sound:
            for group in _alike([one for one in self if one.verdict in self._sound]):
                lines.append(f"{_names(group)}: {group[0].found}")
        counts = Counter(
            f"{one.verdict} ({one.found})" if one.found.startswith("rounded to") else one.verdict for one in self
        )
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        lines.append(f"{len(self)} tensors{self._how}: {told or 'none'}")
        return "\n".join(lines)


def _alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Those that differ in the numbers of their names, and of what was found, alone."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for one in findings:
        found = re.sub(r", std [\d.e-]+", "", one.found) if one.verdict == IDENTIFIED else ""
        groups.setdefault((re.sub(r"\d+", "#", one.name), one.verdict, one.asked, one.cause, found), []).append(one)
    return list(groups.values())


def _names(group: Sequence[Finding]) -> str:
    return common_name([one.name for one in group]) + (f" ({len(group)})" if len(group) > 1 else "")


def _paragraph(group: Sequence[Finding]) -> list[str]:
    one = group[0]
    if len({other.found for other in group}) > 1:
        one = replace(one, found=f"{one.found} (the first of them)")
    rows = [f"{_names(group)}: {one.verdict}"]
    rows += [f"    {what:<6} {text}" for what, text in (("asked", one.asked), ("found", one.found), ("cause", one.cause)) if text]
    return rows


def audit(
    model: Any, receipt: Receipt | None = None, plan: Plan | None = None, *, trained: bool = False, alarm: float = 1e-6
) -> Audit:
    """Compare a model with the start that was asked for.

    With a receipt every tensor is made again in pieces and compared bit for bit, and differences are explained. With a plan
    alone the law of every tensor is tested. With neither the law of every tensor is found: "which law is this?".

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to arrays or tensors, str or Path
        A path is that of a safetensors file, or of a directory of them. Of a DTensor this process's part is compared. Nothing is
        written.
    receipt : Receipt, optional
    plan : Plan, optional
        Not together with a receipt.
    trained : bool, default False
        Whether the model should have been trained since: then tensors that have moved are as they should be, and those that pass
        for a fresh draw are not, nor those of which a part of the rows is constant, or has nothing of its first values where
        others have much.
    alarm : float, in (0, 1), default 1e-6
        The probability, at most, that a statistical test speaks against a model that is as asked. It is shared among all tensors.

    Returns
    -------
    Audit
        A sequence of `Finding`; printed, it lists what differs.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or value, or the plan does not fit the model (see `Plan.resolve`).

    Notes
    -----
    A law is tested with up to 65,536 elements of a tensor, by their extremes, mean, standard deviation and the Kolmogorov-Smirnov
    distance, which take the rounding of narrow dtypes into account. So a standard deviation that is wrong by less than two
    percent is not seen. Tensors of fewer than 32 elements are "too few to tell", unless they have values that the law never has.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.random.default_rng(0).normal(0, 0.02, (64, 64)).astype(np.float32)
    >>> print(audit({"a.weight": values}, plan=Plan([Rule("**.weight", HeNormal())])))
    a.weight: another law
        asked  normal(0, 0.176777), rule **.weight
        found  N(0, 0.02), std 0.02; std 0.01995, not 0.1768
        cause  0.11 times as wide
    1 tensors, by their laws: 1 another law
    """
    for name, value, kind in (("receipt", receipt, Receipt), ("plan", plan, Plan)):
        if value is not None and not isinstance(value, kind):
            hint = "; Receipt.load reads one from a file" if name == "receipt" and isinstance(value, (str, Path)) else ""
            raise TypeError(f"{name}: expected a {kind.__name__}, got {type(value).__name__} {shown(value)}{hint}")
    if receipt is not None and plan is not None:
        raise ValueError("receipt, plan: expected one of them, got both; a receipt tells all that its plan does")
    boolean("trained", trained)
    if not 0 < alarm < 1:
        raise ValueError(f"alarm: expected a number in (0, 1), got {shown(alarm)}")
    held = list(held_in(model))
    known = _of_receipt(receipt) if receipt else _of_plan(plan, held) if plan else None
    findings = _findings(held, known, trained, alarm)
    if receipt is not None:
        findings = _draws_told(findings, held, receipt)
    if known is None:
        return Audit(findings, how=", by their laws", sound=frozenset({IDENTIFIED, UNKNOWN, TOO_FEW, UNTESTED}))
    how = ", bit for bit" if receipt is not None else ", by their laws"
    return Audit(findings, how=how, sound=frozenset({AS_ASKED, TOO_FEW, UNTESTED, *([MOVED] * trained)}))


# ---- what was asked --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """A parameter, its tensors, and whether a receipt says that it was made so."""

    parameter: Parameter
    tensors: tuple[tuple[Part, Asked, Record | None], ...]
    made: bool


def _of_receipt(receipt: Receipt) -> list[_Wanted]:
    records: dict[str, list[Record]] = {}
    for record in receipt:
        records.setdefault(record.parameter, []).append(record)
    wanted = []
    for name, several in records.items():
        one = several[0]
        tensors: list[tuple[Part, Asked, Record | None]] = []
        for record in several:
            words = _words(record.words(), record.rule)
            asked = Asked(words, record.law, record.made(), record.dtype, record.key, record.fans)
            tensors.append((record.part, asked, record))
        wanted.append(_Wanted(Parameter(name, one.whole, one.dtype, aliases=one.aliases), tuple(tensors), True))
    return wanted


def _of_plan(plan: Plan, held: Sequence[Held]) -> list[_Wanted]:
    wanted = []
    for planned in plan.resolve([one.parameter for one in held]):
        tensors: list[tuple[Part, Asked, Record | None]] = []
        for piece in planned.pieces:
            shape, initializer = piece.part.shape, piece.initializer
            words = _words(law_in_words(initializer, shape), plan.rules[piece.rule].pattern)
            fans = fans_of(initializer, shape)
            asked = Asked(words, initializer.law(shape), initializer, planned.parameter.dtype, fans=fans)
            tensors.append((piece.part, asked, None))
        wanted.append(_Wanted(planned.parameter, tuple(tensors), False))
    return wanted


def _words(law: str, rule: str) -> str:
    return f"{law}, rule {rule}" if rule else law


# ---- the findings ----------------------------------------------------------------------------------


def _findings(held: Sequence[Held], known: list[_Wanted] | None, trained: bool, alarm: float) -> list[Finding]:
    by_name = {name: one for one in known or () for name in (one.parameter.name, *one.parameter.aliases)}
    share = alarm / max(sum(len(one.tensors) for one in known) if known else len(held), 1)
    laws = {asked.law for one in known or () for _, asked, _ in one.tensors if asked.law is not None}
    place_of = _places([one.parameter for one in held], frozenset(std for law in laws if (std := moments(law)[1])))
    twins = Twins()
    findings: list[Finding] = []
    seen: set[str] = set()
    for one in held:
        names = (one.parameter.name, *one.parameter.aliases)
        wanted = next((by_name[name] for name in names if name in by_name), None)
        if known is not None and wanted is None:
            findings.append(Finding(names[0], names[0], NOT_ASKED, found=f"shape {one.parameter.shape}"))
            continue
        tensors: Sequence[tuple[Part, Asked | None, Record | None]] = [(Part.whole(names[0], one.parameter.shape), None, None)]
        if wanted is not None:
            tensors = wanted.tensors
            seen.add(wanted.parameter.name)
            names = tuple(dict.fromkeys((*names, wanted.parameter.name, *wanted.parameter.aliases)))
        # Without a receipt the shape is that of the model, but a parameter that ZeRO-3 keeps elsewhere has none.
        shape = wanted.parameter.shape if wanted and wanted.made else None
        if one.parameter.shape != shape if shape is not None else one.parameter.shape == (0,):
            findings.append(_another_shape(one.parameter, wanted))
            continue
        for memory, box in one.read():
            for part, asked, record in tensors:
                cut = part.seen_in(memory, box)
                if cut is None and 0 not in part.shape:
                    continue  # on another rank
                view, inside = cut or (np.empty(part.shape, memory.dtype), whole_box(part.shape))
                verdict = _hashed(view, inside, part, record)
                if verdict is None:
                    place = place_of(one.parameter, part, asked)
                    verdict = Case(view, inside, part, one.parameter.dtype, asked, place, share, trained).verdict()
                words = asked.words if asked else ""
                findings.append(Finding(part.name, names[0], verdict.verdict, words, verdict.found, verdict.cause))
                if asked is None or (asked.drawn and asked.initializer is not None):
                    proven = asked is not None and asked.again and verdict.verdict in (AS_ASKED, FRESH)
                    twins.add(len(findings) - 1, names, view, one.parameter.dtype, asked=asked is not None, proven=proven)
    for i, (found, cause) in twins.found([one.name for one in findings]).items():
        findings[i] = replace(findings[i], verdict=DUPLICATE, found=found, cause=cause)
    for left in known or ():
        if left.parameter.name not in seen:
            findings.append(Finding(left.parameter.name, left.parameter.name, MISSING, left.tensors[0][1].words))
    return findings


def _hashed(view: NDArray[Any], inside: Any, part: Part, record: Record | None) -> Verdict | None:
    """Of values that the receipt cannot make again: by the hash of their sample."""
    if record is None or record.made() is not None:
        return None
    if record.sampled is None or inside != whole_box(part.shape):
        return Verdict(UNTESTED)
    if elements_hash(view[np.unravel_index(np.asarray(places(part.name, view.size)), view.shape)]) == record.sampled:
        return Verdict(AS_ASKED, "by the hash of a sample")
    return Verdict(DIFFERS, "the hash of a sample is another one")


def _another_shape(here: Parameter, asked: _Wanted | None) -> Finding:
    shape = asked.parameter.shape if asked else ()
    cause = ""
    if 0 in here.shape:
        cause = "its memory is elsewhere: ZeRO-3 gathers a parameter only while it is used"
    elif here.shape == shape[::-1]:
        cause = "it is held transposed"
    elif len(here.shape) == len(shape) and all(n <= m for n, m in zip(here.shape, shape, strict=True)):
        cause = "it is one rank's part, without the place that a DTensor has"
    words = f"shape {shape}, {asked.tensors[0][1].words}" if asked else ""
    return Finding(here.name, here.name, SHAPE, words, f"shape {here.shape}", cause)


def _places(parameters: Sequence[Parameter], stds: frozenset[float]) -> Callable[[Parameter, Part, Asked | None], Place]:
    """Where tensors stand in their model, from the names and shapes of all."""
    fans = {one.name: fans_of_shape(one.shape) for one in parameters}
    counts: dict[str, set[int]] = {}
    for one in parameters:
        for found in re.finditer(r"(?:^|\.)(\d+)\.", one.name):
            counts.setdefault(one.name[: found.start(1)], set()).add(int(found[1]))
    stacks = {prefix: len(several) for prefix, several in counts.items()}

    def place(parameter: Parameter, part: Part, asked: Asked | None) -> Place:
        inputs = None
        if len(part.shape) == 1:
            stem = re.sub(r"bias$", "", parameter.name)
            beside = fans.get(f"{stem}weight") or fans.get(f"{stem}kernel")
            inputs = beside.fan_in if beside else None
        found = re.search(r"(?:^|\.)(\d+)\.", parameter.name)
        layers = stacks.get(parameter.name[: found.start(1)], 0) if found else 0
        layers = layers or max(stacks.values(), default=0)
        return Place(asked.fans if asked else None, inputs, layers, int(found[1]) if found else None, stds)

    return place


# ---- causes that only the whole model tells --------------------------------------------------------


def _draws_told(findings: list[Finding], held: Sequence[Held], receipt: Receipt) -> list[Finding]:
    """The cause of tensors that are drawn anew: another seed, or an initializer that ran again after training."""
    others = [one for one in findings if one.verdict == ANOTHER_DRAW and not one.cause]
    if not others:
        return findings
    drawn = sum(one.law is not None for one in receipt)
    moved = sum(one.verdict == MOVED for one in findings)
    seed = _seed_of(others, held, receipt)
    if seed is not None:
        cause = f"the seed of another run: these are the values of seed {seed}"
    elif moved > len(others):
        cause = "an initializer ran again after the trained weights were loaded: others of this model are trained"
    elif len(others) > drawn / 2:
        cause = "the key of another run, or another library's generator"
    else:
        cause = "it was drawn again, from another generator or under another name, after the model was filled"
    chosen = {one.name for one in others}
    return [replace(one, cause=cause) if one.name in chosen else one for one in findings]


def _seed_of(others: Sequence[Finding], held: Sequence[Held], receipt: Receipt) -> int | None:
    """A usual seed whose values are there."""
    records = {one.name: one for one in receipt}
    holders = {one.parameter.name: one for one in held}
    for finding in others:
        record, one = records[finding.name], holders[finding.parameter]
        pieces = [record.part.seen_in(memory, box) for memory, box in one.read()]
        made, cut = record.made(), next((piece for piece in pieces if piece is not None), None)
        if made is None or record.law is None or cut is None or one.parameter.dtype != record.dtype or 0 in record.shape:
            continue
        view, inside = cut
        here = np.ascontiguousarray(view[(0,) * (view.ndim - 1)][:16])
        place = (*(slice(low, low + 1) for low, _ in inside[:-1]), slice(inside[-1][0], inside[-1][0] + len(here)))
        if len(here) < 8 or record.dtype.startswith(("float8", "complex")):
            continue
        for seed in (*range(1024), *_USUAL_SEEDS):
            out = np.empty((1,) * (view.ndim - 1) + here.shape, here.dtype)
            made.shard(record.shape, place, key=Key(seed, record.stream), dtype=record.dtype, out=out)
            if np.array_equal(out.reshape(-1), here):
                return int(seed) if seed != record.seed else None  # its own: then only other rows are drawn anew
        return None
    return None
