"""A plan: rules for all parameters of a model, resolved to what is drawn before anything is drawn."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .._common.checks import shown
from ..initializers import Initializer, Ones, Zeros
from .parameters import Parameter, parameters_of
from .parts import Part, Spelling
from .rule import Rule

__all__ = ["Piece", "Plan", "Planned"]

_LISTED = 20  # names in an error


@dataclass(frozen=True)
class Piece:
    """A tensor with a name of its own in a parameter, and how it begins.

    Attributes
    ----------
    part : Part
        Its name and shape, and where it lies.
    initializer : Initializer
        For shapes in the order (out, in, \\*field).
    rule : int
        Which rule of the plan it comes from.
    """

    part: Part
    initializer: Initializer
    rule: int


@dataclass(frozen=True)
class Planned:
    """A parameter and its pieces, which cover it."""

    parameter: Parameter
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Plan:
    """Ordered rules that say how every parameter of a model begins.

    Parameters
    ----------
    rules : sequence of Rule
        The first that matches a parameter is used.
    spellings : sequence of Spelling, default ()
        A map of names: the first that matches says which tensors a parameter holds. So one plan is for a model as several
        libraries spell it, and gives the same bits to each. Other parameters keep their own names.
    source : str, default ""
        Where the rules come from, for tables and receipts.

    Raises
    ------
    TypeError, ValueError
        If there are no rules, or they are of another type.

    Examples
    --------
    >>> plan = Plan([Rule("**.bias", "zeros"), Rule("**.weight", "he_normal")])
    >>> print(plan.table({"0.weight": (256, 784), "0.bias": (256,)}))
    name      shape      dtype    rule       law                   std      fans
    0.weight  256 x 784  float32  **.weight  normal(0, 0.0505076)  0.05051  784, 256
    0.bias    256        float32  **.bias    Zeros()               0
    """

    rules: tuple[Rule, ...]
    spellings: tuple[Spelling, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        for name, kind in (("rules", Rule), ("spellings", Spelling)):
            value = getattr(self, name)
            if isinstance(value, (str, kind)) or not isinstance(value, Iterable):
                raise TypeError(f"{name}: expected a sequence of {kind.__name__}, got {type(value).__name__}")
            object.__setattr__(self, name, tuple(value))
            for i, one in enumerate(getattr(self, name)):
                if not isinstance(one, kind):
                    raise TypeError(f"{name}[{i}]: expected a {kind.__name__}, got {type(one).__name__} {shown(one)}")
        if not self.rules:
            raise ValueError("rules: expected at least one, got none")
        if not isinstance(self.source, str):
            raise TypeError(f"source: expected a str, got {type(self.source).__name__}")

    def resolve(self, model: Any) -> tuple[Planned, ...]:
        """What each parameter consists of, and how each piece begins. Nothing is drawn.

        Parameters
        ----------
        model : torch.nn.Module, mapping of names to shapes or arrays, or iterable of Parameter
            On any device, the meta device too.

        Returns
        -------
        tuple of Planned
            In the order of the model.

        Raises
        ------
        ValueError
            If a parameter has no rule, or its aliases have different ones; if a rule is not used, because nothing matches it or
            earlier rules match all that it does; or if an initializer has no tensor of a shape. The message lists all of them.
        TypeError
            If the model is none of these.
        """
        found, faults = [], _Faults(self.rules)
        for parameter in parameters_of(model):
            found.append(Planned(parameter, tuple(self._pieces(parameter, faults))))
        faults.check_names(found)
        faults.raise_if_any()
        return tuple(found)

    def table(self, model: Any) -> Any:
        """What `resolve` finds, to read: a row for each tensor with its name, shape, rule, law, standard deviation and fans.

        The tensor's key is ``key / name``, `key` being that of the model.

        Parameters
        ----------
        model
            As in `resolve`; also on the meta device.

        Returns
        -------
        Table
            A sequence of rows; printed, layers that begin alike share a line. Where the model calls parameters otherwise, a
            column has its own names.
        """
        from .table import Table

        return Table.of(self, self.resolve(model))

    def to_json(self) -> str:
        """The plan as JSON, from which `from_json` makes it again.

        Raises
        ------
        TypeError
            If a rule has a function of one's own, which no document can hold.
        """
        from .document import to_json

        return to_json(self)

    def to_toml(self) -> str:
        """The plan as TOML, from which `from_toml` makes it again; errors as in `to_json`."""
        from .document import to_toml

        return to_toml(self)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote.

        Raises
        ------
        TypeError, ValueError
            If the text is no such document; the message names the entry.
        """
        from .document import from_json

        return from_json(text)

    @classmethod
    def from_toml(cls, text: str) -> Plan:
        """The plan that `to_toml` wrote; errors as in `from_json`."""
        from .document import from_toml

        return from_toml(text)

    def parts(self, parameter: Parameter) -> list[list[Part]]:
        """For each tensor in a parameter its parts under all names of the parameter, the first of which names it."""
        names = dict.fromkeys((parameter.name, *parameter.aliases))
        under = [self._spelled(name, parameter.shape) for name in names]
        where = [[(part.shape, part.axes, part.start, part.runs) for part in parts] for parts in under]
        for name, places in zip(names, where, strict=True):
            if places != where[0]:
                raise ValueError(f"expected the map of names to make the same tensors of it as of {name}, which it is tied to")
        return [sorted(same, key=lambda part: part.name) for same in zip(*under, strict=True)]

    def _spelled(self, name: str, shape: tuple[int, ...]) -> list[Part]:
        for spelling in self.spellings:
            parts = spelling.parts(name, shape)
            if parts is not None:
                return parts
        return [Part.whole(name, shape)]

    def _pieces(self, parameter: Parameter, faults: _Faults) -> Iterable[Piece]:
        try:
            tensors = self.parts(parameter)
        except ValueError as error:
            faults.unfit.append(f"{parameter.name}: {error}")
            return
        for aliases in tensors:
            part = aliases[0]
            chosen = faults.chosen(parameter, aliases)
            if chosen is None:
                continue
            rule = self.rules[chosen]
            initializer: Initializer = rule.fitted  # type: ignore[attr-defined]
            try:
                for piece in rule.parts(part):
                    _check_shape_of(initializer, piece.shape)
                    yield Piece(piece, initializer, chosen)
            except (TypeError, ValueError) as error:
                faults.unfit.append(f"{part.name}, rule {rule.pattern!r}: {error}")


def _check_shape_of(initializer: Initializer, shape: tuple[int, ...]) -> None:
    """Refuse a shape that an initializer has no tensor of."""
    if initializer.law(shape) is None and not isinstance(initializer, (Zeros, Ones)):
        with contextlib.suppress(TypeError):  # the variance of a function is not known
            initializer.variance(shape)


class _Faults:
    """What keeps a plan from being used with a model."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._used: set[int] = set()
        self._seen: list[tuple[Part, str, int | None]] = []  # tensors, the classes of their modules, the rules that took them
        self._uncovered: list[str] = []
        self.unfit: list[str] = []

    def chosen(self, parameter: Parameter, aliases: list[Part]) -> int | None:
        """The number of the rule for a tensor, noted as used."""
        firsts: dict[int, str] = {}
        for part in aliases:
            matching = (i for i, rule in enumerate(self._rules) if rule.matches(part.name, parameter.kind, len(part.shape)))
            first = next(matching, None)
            self._seen.append((part, parameter.kind, first))
            if first is not None:
                firsts.setdefault(first, part.name)
        if not firsts:
            self._uncovered.append(aliases[0].name)
            return None
        if len(firsts) > 1:
            each = " and ".join(f"{name} ({self._rules[i].pattern!r})" for i, name in firsts.items())
            self.unfit.append(f"{each} are one tensor, with two rules")
        self._used |= set(firsts)
        return min(firsts)

    def check_names(self, found: Sequence[Planned]) -> None:
        """No two tensors may have one name: they would be equal."""
        owner: dict[str, str] = {}
        for planned in found:
            for piece in planned.pieces:
                own = planned.parameter.name
                if piece.part.name in owner:
                    other = owner[piece.part.name]
                    both = f"{other} and {own} are both" if other != own else f"two tensors in {own} are"
                    hint = "slices with other names, or a Spelling of one of them, tell them apart"
                    self.unfit.append(f"{both} called {piece.part.name}: {hint}")
                owner[piece.part.name] = own

    def _but_for(self, rule: Rule) -> str:
        """Which `kind` or `ndim` a rule has that matches nothing, if its pattern alone matches something."""
        asked = [f"{name}={value!r}" for name, value in (("kind", rule.kind), ("ndim", rule.ndim)) if value is not None]
        wide = dataclasses.replace(rule, kind=None, ndim=None)
        for part, kind, _ in self._seen if asked else ():
            if wide.matches(part.name, kind, len(part.shape)):
                return f" of {' and '.join(asked)}; {part.name} has kind={kind!r} and ndim={len(part.shape)}"
        return ""

    def raise_if_any(self) -> None:
        faults = []
        if self._uncovered:
            faults.append(f"no rule matches {_listed(self._uncovered)}")
        for i, rule in enumerate(self._rules):
            if i in self._used:
                continue
            taken = [first for part, kind, first in self._seen if rule.matches(part.name, kind, len(part.shape))]
            before = sorted({first for first in taken if first is not None})
            if before:
                earlier = ", ".join(repr(self._rules[k].pattern) for k in before)
                faults.append(f"rule {i}, {rule.pattern!r}, is never used: all that it matches is taken by {earlier} before it")
            else:
                faults.append(f"rule {i}, {rule.pattern!r}, matches nothing{self._but_for(rule)}")
        faults += self.unfit[:_LISTED]
        if len(self.unfit) > _LISTED:
            faults.append(f"{len(self.unfit) - _LISTED} more of this kind")
        if faults:
            raise ValueError("plan: expected a rule for every parameter and a use for every rule:\n- " + "\n- ".join(faults))


def _listed(names: Sequence[str]) -> str:
    shown_ = ", ".join(names[:_LISTED])
    return shown_ if len(names) <= _LISTED else f"{shown_} and {len(names) - _LISTED} more"
