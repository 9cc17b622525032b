"""A rule: which parameters, and how they begin."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from .._common.checks import shown, whole_number
from ..initializers import Initializer, get
from ..initializers.fans import FanRule, Fans, as_axes, as_fans
from .names import Pattern
from .parts import Part, Slices, checked_slices, split

__all__ = ["Rule"]

# Of these the module, a segment before, says what a tensor is.
_PLAIN = frozenset({"weight", "bias", "kernel", "scale"})


@dataclass(frozen=True)
class Rule:
    """Parameters by name, and how they begin. In a `Plan` the first rule that matches is used.

    Parameters
    ----------
    pattern : str
        A glob that the whole name matches: ``*`` is any text inside of a segment, ``**`` any number of segments, also none,
        ``{q,k,v}`` one of the alternatives. Names are qualified names, ``layers.0.attention.weight``, without the segments of
        wrappers; with a map of names (see `Plan`) those that it maps to.
    initializer : str, dict, Initializer or function
        What `fastinit.get` takes. Shapes are in the order (out, in, \\*field). The key of the tensor is used in place of a seed.
    kind : str, optional
        Only in modules of that class, such as "Linear"; without a model, as of a table of shapes, no module has a class.
    ndim : int, optional
        Only tensors with so many axes.
    fans : FanRule or (fan_in, fan_out), optional
        For the initializer, in the order (out, in, \\*field): groups of a convolution, the fans of a bias.
    slices : sequence of str, or mapping of str to int, optional
        A fused weight: equal slices of the outputs by name, or their sizes. Each has the fans, the key and the bits that it has
        alone: slice "q" of ``layers.3.qkv.weight`` is ``layers.3.q.weight``, and of ``attention.in_proj_weight``
        ``attention.q.weight``; slice "i" of ``lstm.weight_hh_l0`` is ``lstm.weight_hh_l0.i``.
    batch_axes : int or sequence of int, default ()
        Axes that count independent tensors: stacked layers, experts. Entry 3 of ``layers.q.weight`` is ``layers.3.q.weight``, and
        of ``experts.gate_up`` ``experts.3.gate_up``.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or value, or the initializer does not know fans.

    Examples
    --------
    >>> Rule("**.qkv.weight", "glorot_uniform", slices=("q", "k", "v"))
    Rule('**.qkv.weight', GlorotUniform(), slices=('q', 'k', 'v'))
    """

    pattern: str
    initializer: Any
    kind: str | None = None
    ndim: int | None = None
    fans: FanRule | Fans | None = None
    slices: Slices | None = None
    batch_axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "_glob", Pattern(self.pattern))
        object.__setattr__(self, "initializer", get(self.initializer))
        if self.kind is not None and not isinstance(self.kind, str):
            raise TypeError(f"kind: expected the name of a class of modules, got {type(self.kind).__name__} {shown(self.kind)}")
        if self.ndim is not None:
            object.__setattr__(self, "ndim", whole_number("ndim", self.ndim, least=0))
        object.__setattr__(self, "fans", as_fans(self.fans))
        if self.slices is not None:
            object.__setattr__(self, "slices", checked_slices(self.slices))
        object.__setattr__(self, "batch_axes", as_axes(self.batch_axes, "batch_axes"))
        fitted = self.initializer
        if self.fans is not None:
            fans = dataclasses.replace(self.fans, layout="oi") if isinstance(self.fans, FanRule) else self.fans
            fitted = _with_fans(fitted, fans)
            if fitted is self.initializer:
                raise ValueError(f"fans: expected an initializer whose law depends on them, got {self.initializer!r}")
        object.__setattr__(self, "fitted", fitted._outputs_first())

    def __repr__(self) -> str:
        options = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)[2:]
            if getattr(self, field.name) != field.default
        ]
        return f"Rule({', '.join([repr(self.pattern), repr(self.initializer), *options])})"

    def matches(self, name: str, kind: str, ndim: int) -> bool:
        """Whether the rule is for a tensor of that name and so many axes, in a module of that class."""
        if (self.kind is not None and self.kind != kind) or (self.ndim is not None and self.ndim != ndim):
            return False
        glob: Pattern = self._glob  # type: ignore[attr-defined]
        return glob.match(name) is not None

    def parts(self, whole: Part) -> list[Part]:
        """The tensors that a matching one consists of."""
        if self.slices is None and not self.batch_axes:
            return [whole]
        module, own, last = _segments(whole.name, self.slices is not None)

        # The parameters of PyTorch's LSTM lie in one module: weight_ih_l0, weight_hh_l0. Their slices keep these names.
        kept = f"{own}." if not last and own.startswith(("weight_", "bias_")) else ""

        def named(part: str, index: tuple[int, ...]) -> str:
            return ".".join(segment for segment in (*module, *map(str, index), kept + part if part else own, *last) if segment)

        return split(whole, self.slices, self.batch_axes, named)


def _segments(name: str, fused: bool) -> tuple[list[str], str, list[str]]:
    """The segments before the one that says what a tensor is, that one, and those behind it."""
    segments = name.split(".")
    if len(segments) > 1 and segments[-1] in _PLAIN:
        return segments[:-2], segments[-2], segments[-1:]
    suffix = re.search(r"_(weight|bias)$", segments[-1]) if fused else None  # of in_proj_weight and in_proj_bias
    return segments[:-1], segments[-1], [suffix[1]] if suffix else []


def _with_fans(initializer: Initializer, fans: Any) -> Initializer:
    """The initializer with other fans; itself if it does not know any."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(initializer):
        value = getattr(initializer, field.name)
        if field.name == "fans":
            changes["fans"] = fans
        elif isinstance(value, Initializer) and (inner := _with_fans(value, fans)) is not value:
            changes[field.name] = inner
    return dataclasses.replace(initializer, **changes) if changes else initializer
