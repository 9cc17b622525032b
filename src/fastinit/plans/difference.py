"""Which tensors of a model begin otherwise in two plans, such as two sources of one architecture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._common.checks import one_of
from .parameters import Parameter, parameters_of
from .plan import Plan
from .recipes import RECIPES
from .recipes.tensors import UnknownError
from .rows import Rows
from .table import Row, common_name

__all__ = ["Change", "Difference", "difference", "recipe_difference"]


@dataclass(frozen=True)
class Change:
    """A tensor that begins otherwise.

    Attributes
    ----------
    name : str
        In the names of the plans.
    shape : tuple of int
        (out, in, \\*field).
    laws : (str, str)
        Of the first plan and of the second; "" where one has no tensor of that name.
    stds : (float, float)
        Standard deviations; NaN where they are not known.
    """

    name: str
    shape: tuple[int, ...]
    laws: tuple[str, str]
    stds: tuple[float, float]

    @property
    def ratio(self) -> float:
        """The second standard deviation in units of the first; NaN if that is 0 or either is not known."""
        return self.stds[1] / self.stds[0] if self.stds[0] else math.nan


class Difference(Rows[Change]):
    """The tensors that begin otherwise; printed, those that differ in numbers alone share a line.

    Attributes
    ----------
    titles : (str, str)
        What the plans are called.
    same : int
        How many tensors begin alike.
    without : tuple of (str, tuple of str)
        Sources that do not know some parameters of the model, and which; these are not compared.
    """

    def __init__(
        self,
        changes: Sequence[Change],
        titles: tuple[str, str],
        same: int,
        without: Sequence[tuple[str, tuple[str, ...]]] = (),
    ) -> None:
        super().__init__(changes)
        self.titles, self.same, self.without = titles, same, tuple(without)

    def __repr__(self) -> str:
        return f"Difference of {' and '.join(self.titles)}: {len(self)} of {len(self) + self.same} tensors begin otherwise"

    def __str__(self) -> str:
        groups: dict[tuple[Any, ...], list[Change]] = {}
        for change in self:
            alike = (re.sub(r"\d+", "#", change.name), change.shape, change.laws)
            groups.setdefault(alike, []).append(change)
        lines = [("name", *self.titles, "ratio")]
        for changes in groups.values():
            one = changes[0]
            many = f" ({len(changes)})" if len(changes) > 1 else ""
            ratio = "" if math.isnan(one.ratio) else f"{one.ratio:.4g}"
            first, second = (law or "-" for law in one.laws)
            lines.append((common_name([change.name for change in changes]) + many, first, second, ratio))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = ["  ".join(text.ljust(n) for text, n in zip(line, widths, strict=True)).rstrip() for line in lines]
        if not self:
            texts = [f"{self.titles[0]} and {self.titles[1]} begin alike."]
        elif self.same:
            texts.append(f"{self.same} other{'s' if self.same > 1 else ''} begin{'' if self.same > 1 else 's'} alike.")
        texts += [f"Not compared, as {source} does not know them: {', '.join(names)}" for source, names in self.without]
        return "\n".join(texts)


def difference(model: Any, first: Plan, second: Plan) -> Difference:
    """Which tensors of a model begin otherwise in two plans.

    Parameters
    ----------
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter
    first, second : Plan
        Both for this model, with the same names.

    Returns
    -------
    Difference
        A sequence of `Change`, in the order of the model.

    Raises
    ------
    ValueError
        If one of the plans is not one for the model.
    """
    return _difference(parameters_of(model), first, second, (first.source or "first", second.source or "second"))


def _difference(model: tuple[Parameter, ...], first: Plan, second: Plan, titles: tuple[str, str]) -> Difference:
    tables: list[dict[str, Row]] = [{row.name: row for row in plan.table(model)} for plan in (first, second)]
    changes, same = [], 0
    for name in dict.fromkeys([*tables[0], *tables[1]]):
        rows = [table.get(name) for table in tables]
        laws = tuple("" if row is None else row.law for row in rows)
        if laws[0] == laws[1]:
            same += 1
            continue
        stds = tuple(math.nan if row is None else row.std for row in rows)
        shape = next(row.shape for row in rows if row is not None)
        changes.append(Change(name, shape, (laws[0], laws[1]), (stds[0], stds[1])))
    return Difference(changes, titles, same)


def recipe_difference(architecture: str, first: str, second: str, model: Any = None, **options: Any) -> Difference:
    """Which tensors of an architecture begin otherwise in two sources.

    Parameters
    ----------
    architecture : str
        One of `RECIPES`.
    first, second : str
        Two of its sources.
    model : torch.nn.Module, mapping of names to shapes, or iterable of Parameter, optional
        By default a small model, with what the sources need to know of it.
    **options
        What either source needs to know of the model, such as `heads`.

    Returns
    -------
    Difference
        Without the parameters that either source does not know; `Difference.without` has them.

    Raises
    ------
    ValueError
        If there is no such architecture or source, or a source needs an option.

    Examples
    --------
    >>> print(recipe_difference("llama", "transformers", "torchtitan")[0])
    Change(name='embedding.weight', shape=(128, 64), laws=('normal(0, 0.02)', 'normal(0, 1)'), stds=(0.02, 1.0))
    """
    one_of("architecture", architecture, tuple(RECIPES))
    recipe = RECIPES[architecture]
    parameters = parameters_of(recipe.shapes if model is None else model)
    without = []
    for source in (first, second):
        one_of("source", source, recipe.sources)
        try:
            recipe.function(parameters, source=source, **_needed(recipe.options, source, model, options))
        except UnknownError as error:
            without.append((source, error.parameters))
            parameters = tuple(one for one in parameters if one.name not in error.parameters)
    plans = [
        recipe.function(parameters, source=source, **_needed(recipe.options, source, model, options))
        for source in (first, second)
    ]  # fmt: skip
    found = _difference(parameters, plans[0], plans[1], (first, second))
    return Difference(tuple(found), found.titles, found.same, without)


def _needed(known: dict[str, dict[str, Any]], source: str, model: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The options of one of two sources; the other may need more."""
    ours = known.get(source, {})
    mine = {name: value for name, value in given.items() if name in ours or not any(name in other for other in known.values())}
    return {**(ours if model is None else {}), **mine}
