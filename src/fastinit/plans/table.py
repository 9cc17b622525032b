"""What a plan will draw, as a table to read before it is drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..initializers import Initializer
from ..initializers.fans import FanRule, Fans, compute_fans
from .rows import Rows

if TYPE_CHECKING:
    from .plan import Plan, Planned

__all__ = ["Row", "Table", "common_name", "fans_of", "law_in_words", "std_of"]


@dataclass(frozen=True)
class Row:
    """One tensor of a plan.

    Attributes
    ----------
    name : str
        From which the key comes: ``key / name``.
    parameter : str
        The model's own name of the parameter that it is, or lies in.
    shape : tuple of int
        (out, in, \\*field).
    dtype, rule : str
        The parameter's dtype, and the pattern of the rule.
    law : str
        Name and parameters, or the initializer where elements depend on one another or are fixed.
    std : float
        Standard deviation of the elements; NaN where it is not known.
    fans : Fans or None
        Where the law depends on them.
    """

    name: str
    parameter: str
    shape: tuple[int, ...]
    dtype: str
    rule: str
    law: str
    std: float
    fans: Fans | None


class Table(Rows[Row]):
    """The rows of a plan for a model; printed, tensors of one law whose names differ in numbers alone share a line."""

    @classmethod
    def of(cls, plan: Plan, planned: Sequence[Planned]) -> Table:
        return cls([
            Row(
                piece.part.name, one.parameter.name, piece.part.shape, one.parameter.dtype, plan.rules[piece.rule].pattern,
                law_in_words(piece.initializer, piece.part.shape), std_of(piece.initializer, piece.part.shape),
                fans_of(piece.initializer, piece.part.shape),
            )
            for one in planned for piece in one.pieces
        ])  # fmt: skip

    def __repr__(self) -> str:
        return f"Table of {len(self)} tensors, {sum(math.prod(row.shape) for row in self):,} numbers"

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [("name", "parameter", "shape", "dtype", "rule", "law", "std", "fans")]
        for rows in _alike(self._rows):
            row = rows[0]
            many = f" ({len(rows)})" if len(rows) > 1 else ""
            parameter = "" if row.name == row.parameter else common_name([one.parameter for one in rows])
            lines.append((
                common_name([one.name for one in rows]) + many, parameter, " x ".join(map(str, row.shape)) or "1", row.dtype,
                row.rule, row.law, "" if math.isnan(row.std) else f"{row.std:.4g}",
                "" if row.fans is None else f"{row.fans.fan_in}, {row.fans.fan_out}",
            ))  # fmt: skip
        if all(row.name == row.parameter for row in self):
            lines = [(name, *others) for name, _, *others in lines]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(text.ljust(n) for text, n in zip(line, widths, strict=True)).rstrip() for line in lines)


def _alike(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        names = re.sub(r"\d+", "#", row.name), re.sub(r"\d+", "#", row.parameter)
        groups.setdefault((*names, row.shape, row.dtype, row.law, row.rule), []).append(row)
    return list(groups.values())


def common_name(names: Sequence[str]) -> str:
    """Names that differ in numbers alone as one: ``layers.0-11.q.weight``."""
    if len(names) == 1:
        return names[0]
    parts = [re.split(r"(\d+)", name) for name in names]
    common = []
    for texts in zip(*parts, strict=True):
        distinct = set(texts)
        if len(distinct) == 1:
            common.append(texts[0])
        else:
            numbers = sorted(map(int, distinct))
            gapless = numbers == list(range(numbers[0], numbers[-1] + 1))
            common.append(f"{numbers[0]}-{numbers[-1]}" if gapless else "*")
    return "".join(common)


def law_in_words(initializer: Initializer, shape: tuple[int, ...]) -> str:
    """The law of a tensor's elements, or the initializer where there is none."""
    law = initializer.law(shape)
    if law is None:
        return repr(initializer)
    name, numbers = law
    return f"{name}({', '.join(f'{number:.6g}' for number in numbers)})"


def std_of(initializer: Initializer, shape: tuple[int, ...]) -> float:
    """Standard deviation of a tensor's elements; NaN where it is not known."""
    try:
        return math.sqrt(initializer.variance(shape))
    except (TypeError, ValueError):
        return math.nan


def fans_of(initializer: Initializer, shape: tuple[int, ...]) -> Fans | None:
    """Fans of a tensor; None where its law does not depend on them."""
    fans = getattr(initializer, "fans", None)
    try:
        return compute_fans(shape, fans) if isinstance(fans, (FanRule, Fans)) else None
    except ValueError:
        return None
