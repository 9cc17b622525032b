"""A model's tensors under the names of its architecture, and the plan that a recipe makes of rules for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..._common.checks import shown
from ...initializers import Initializer, Ones, RandomNormal, RandomUniform, TruncatedNormal, Zeros
from ..names import Pattern
from ..parameters import parameters_of
from ..parts import Spelling
from ..plan import Plan
from ..rule import Rule

__all__ = ["Law", "Tensors", "UnknownError", "ends", "module", "normal", "ones", "three_sigma", "uniform", "zeros"]

Law = tuple[str, Initializer]  # a pattern on the architecture's names, and how what it matches begins

_LISTED = 10  # names in an error
zeros, ones = Zeros(), Ones()


class UnknownError(ValueError):
    """A model has tensors that a recipe does not know.

    Attributes
    ----------
    parameters : tuple of str
        The parameters that they lie in, as the model calls them.
    """

    def __init__(self, message: str, parameters: tuple[str, ...]) -> None:
        super().__init__(message)
        self.parameters = parameters


def normal(std: float) -> Initializer:
    """N(0, std); also what PyTorch's ``trunc_normal_(std=0.02)`` draws, whose bounds -2 and 2 are 100 standard deviations out."""
    return RandomNormal(0.0, std)


def uniform(bound: float) -> Initializer:
    """U(-bound, bound)."""
    return RandomUniform(-bound, bound)


def three_sigma(std: float) -> Initializer:
    """Normal, truncated at three standard deviations."""
    return TruncatedNormal(std=std, lower=-3.0, upper=3.0)


def module(
    pattern: str,
    names: str | Sequence[str],
    sizes: tuple[int, ...] | None = None,
    *,
    groups: int = 1,
    weight: str = "oi",
    kernel: str = "io",
) -> list[Spelling]:
    """The spellings of a module's parameters: of PyTorch and Flax, and of layers that are stacked along a first axis.

    Parameters
    ----------
    pattern : str
        Of the module, such as ``**.layers.*.mlp.gate_up_proj``.
    names : str or sequence of str
        Of the architecture, such as ``layers.*.gate``.
    sizes, groups
        Of a fused weight, see `Spelling`.
    weight, kernel : {"oi", "io"}
        Layouts of the parameters of that name.
    """
    several = (names,) if isinstance(names, str) else tuple(names)
    places: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = [(pattern, several, ())]
    if ".*." in pattern and pattern.replace("**", "").count("*") == 1:  # stacked: no segment has the number of a layer
        places.append((pattern.replace(".*.", "."), tuple(name.replace("*", "#") for name in several), (0,)))
    found = []
    for where, targets, axes in places:
        weights, biases = (tuple(f"{name}.{last}" for name in targets) for last in ("weight", "bias"))
        found += [
            Spelling(f"{where}.{{weight,scale,embedding}}", weights, sizes, weight, axes, groups),
            Spelling(f"{where}.bias", biases, sizes, "oi", axes, groups),
            Spelling(f"{where}.kernel", weights, sizes, kernel, axes, groups),
        ]
    return found


@dataclass(frozen=True)
class Tensors:
    """The shapes of a model's tensors, (out, in, \\*field), by the names of an architecture."""

    architecture: str
    model: Any
    spellings: tuple[Spelling, ...]
    shapes: dict[str, tuple[int, ...]]
    aliases: tuple[frozenset[str], ...]
    owners: dict[str, str]  # by the architecture's names those of the parameters that hold the tensors

    @classmethod
    def of(cls, architecture: str, model: Any, spellings: Iterable[Spelling]) -> Tensors:
        model, lines = parameters_of(model), tuple(spellings)
        names = Plan((Rule("**", zeros),), lines)
        shapes: dict[str, tuple[int, ...]] = {}
        owners: dict[str, str] = {}
        aliases = []
        for parameter in model:
            try:
                tensors = names.parts(parameter)
            except ValueError as error:
                raise ValueError(f"model: {parameter.name}: {error}") from None
            for same in tensors:
                for part in dict.fromkeys(part.name for part in same):
                    if part in shapes:
                        raise ValueError(f"model: {parameter.name} and another parameter are both {part} of {architecture}")
                    shapes[part], owners[part] = same[0].shape, parameter.name
                if len({part.name for part in same}) > 1:
                    aliases.append(frozenset(part.name for part in same))
        return cls(architecture, model, lines, shapes, tuple(aliases), owners)

    def count(self, stack: str = "layers") -> int:
        """How many layers there are."""
        glob = Pattern(f"{stack}.*.**")
        found = {captures[0] for name in self.shapes if (captures := glob.match(name))}
        if not found or found != {str(i) for i in range(len(found))}:
            what = f"none among {_listed(self.shapes)}" if not found else shown(sorted(found, key=lambda text: (len(text), text)))
            raise ValueError(f"model: expected {stack} 0, 1, ... of {self.architecture} without a gap, got {what}")
        return len(found)

    def has(self, pattern: str) -> bool:
        """Whether a tensor has such a name."""
        glob = Pattern(pattern)
        return any(glob.match(name) is not None for name in self.shapes)

    def size(self, pattern: str, axis: int) -> int:
        """The one size of an axis of tensors that the model must have."""
        glob = Pattern(pattern)
        sizes = {shape[axis] for name, shape in self.shapes.items() if glob.match(name) is not None}
        if len(sizes) != 1:
            what = shown(sorted(sizes)) if sizes else f"no {pattern} among {_listed(self.shapes)}"
            raise ValueError(f"model: expected {pattern} of {self.architecture} with one size of axis {axis}, got {what}")
        return sizes.pop()

    def tied(self, *names: str) -> bool:
        """Whether one parameter has all of these names."""
        return any(same.issuperset(names) for same in self.aliases)

    def plan(self, source: str, laws: Iterable[Law | Rule]) -> Plan:
        """The plan of those laws that the model has tensors for.

        Raises
        ------
        UnknownError
            If there are tensors without a law.
        """
        rules = [law if isinstance(law, Rule) else Rule(*law) for law in laws]
        used: set[int] = set()
        unknown = []
        same = {name: names for names in self.aliases for name in names}
        covered: set[str] = set()
        for name, shape in self.shapes.items():
            first = next((i for i, rule in enumerate(rules) if rule.matches(name, "", len(shape))), None)
            if first is None:
                unknown.append(name)
            else:
                used.add(first)
                covered |= same.get(name, {name})
        unknown = [name for name in unknown if name not in covered]
        if unknown:
            message = f"model: {self.architecture} of source {source!r} does not know {_listed(unknown)}"
            raise UnknownError(message, tuple(dict.fromkeys(self.owners[name] for name in unknown)))
        return Plan(tuple(rules[i] for i in sorted(used)), self.spellings, f"{self.architecture}, {source}")


def _listed(names: Iterable[str]) -> str:
    several = list(names)
    return ", ".join(several[:_LISTED]) + (f" and {len(several) - _LISTED} more" if len(several) > _LISTED else "")


def ends(tensors: Tensors, embedding: Initializer, head: Initializer, *, tied: str = "embedding") -> list[Law]:
    """The laws of the embedding and of the head; of both together where they are one tensor, which begins as `tied` says."""
    if tensors.tied("embedding.weight", "head.weight"):
        return [("{embedding,head}.weight", embedding if tied == "embedding" else head)]
    if embedding == head:
        return [("{embedding,head}.weight", embedding)]
    return [("embedding.weight", embedding), ("head.weight", head)]
