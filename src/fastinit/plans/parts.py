"""Where tensors that have a name of their own lie in the parameters of a model: fused, stacked, or the other way round.

A tensor is always seen in the order (out, in, *field). One that a model holds transposed, as a slice of a fused weight or as an
entry of a stack has the values that it has alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import one_of, shown, whole_number
from ..initializers.fans import as_axes
from .names import Pattern, filled

__all__ = ["Box", "Part", "Spelling", "checked_slices", "split"]

Box = tuple[tuple[int, int], ...]  # for each axis the half-open interval of a parameter that is at hand
Slices = tuple[str, ...] | tuple[tuple[str, int], ...]  # names of equal slices, or names and sizes


@dataclass(frozen=True)
class Part:
    """A tensor with a name of its own, and where its elements lie in a parameter.

    Attributes
    ----------
    name : str
        The name that it has when separate, from which its key comes.
    shape : tuple of int
        In the order (out, in, *field).
    axes : tuple of int
        For each of its axes that of the parameter.
    start : tuple of int
        For each axis of the parameter where it begins; along the axes that it has not, where it lies.
    runs : (int, int), optional
        Along its first axis: how many entries follow one another in the parameter, and how far apart such runs begin, as where
        the queries, keys and values of each head lie together.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    start: tuple[int, ...]
    runs: tuple[int, int] | None = None

    @classmethod
    def whole(cls, name: str, shape: tuple[int, ...]) -> Part:
        return cls(name, shape, tuple(range(len(shape))), (0,) * len(shape))

    def turned(self, axes: tuple[int, ...]) -> Part:
        """The same elements with the axes in another order."""
        return dataclasses.replace(
            self, shape=tuple(self.shape[axis] for axis in axes), axes=tuple(self.axes[axis] for axis in axes)
        )

    def _begun(self, axis: int, at: int) -> tuple[int, ...]:
        if axis == 0 and self.runs is not None:
            length, distance = self.runs
            at = at // length * distance + at % length
        return tuple(first + at if i == self.axes[axis] else first for i, first in enumerate(self.start))

    def at(self, axis: int, i: int) -> Part:
        """Entry i of an axis, which the part has no longer."""
        rest = [k for k in range(len(self.shape)) if k != axis]
        return Part(
            self.name, tuple(self.shape[k] for k in rest), tuple(self.axes[k] for k in rest), self._begun(axis, i),
            None if axis == 0 else self.runs,
        )  # fmt: skip

    def between(self, axis: int, low: int, high: int) -> Part:
        """Entries low to high of an axis.

        Raises
        ------
        ValueError
            If the part has runs, and these are neither in one of them nor all of several.
        """
        shape = tuple(high - low if k == axis else n for k, n in enumerate(self.shape))
        runs = self.runs
        if axis == 0 and runs is not None and (low % runs[0] or high % runs[0]):
            if low // runs[0] != (high - 1) // runs[0]:
                groups = f"one of the {self.shape[0] // runs[0]} groups of {runs[0]} outputs"
                raise ValueError(f"slices: expected them to begin and end where {groups} does, got {low} to {high}")
            runs = None
        return dataclasses.replace(self, shape=shape, start=self._begun(axis, low), runs=runs)

    def every(self, groups: int, distance: int) -> Part:
        """So many tensors like this one, at that distance along the first axis, as one."""
        if not self.shape[0]:
            return self
        shape = (self.shape[0] * groups, *self.shape[1:])
        return dataclasses.replace(self, shape=shape, runs=(self.shape[0], distance))

    def views(self, array: NDArray[Any], box: Box) -> Iterator[tuple[NDArray[Any], Box]]:
        """Views of its elements in an array that holds a box of the parameter, and which boxes of the part they are.

        They have the part's order of axes, and follow one another along its first axis. Without runs there is at most one.
        """
        if self.runs is None:
            seen = self._view(array, box)
            if seen is not None:
                yield seen
            return
        length, _ = self.runs
        run = dataclasses.replace(self, shape=(length, *self.shape[1:]), runs=None)
        for i in range(self.shape[0] // length):
            seen = dataclasses.replace(run, start=self._begun(0, i * length))._view(array, box)
            if seen is not None:
                view, ((low, high), *others) = seen
                yield view, ((low + i * length, high + i * length), *others)

    def _view(self, array: NDArray[Any], box: Box) -> tuple[NDArray[Any], Box] | None:
        inside: list[tuple[int, int]] = []
        index: list[Any] = [None] * len(box)
        for axis, n in zip(self.axes, self.shape, strict=True):
            (low, high), first = box[axis], self.start[axis]
            begin, end = max(low, first), min(high, first + n)
            if begin >= end:
                return None
            inside.append((begin - first, end - first))
            index[axis] = slice(begin - low, end - low)
        for axis, place in enumerate(index):
            if place is None:
                low, high = box[axis]
                if not low <= self.start[axis] < high:
                    return None
                index[axis] = self.start[axis] - low
        order = sorted(self.axes)
        # With an ellipsis it is a view also where no axis is left.
        return array[(*index, ...)].transpose([order.index(axis) for axis in self.axes]), tuple(inside)

    def seen_in(self, array: NDArray[Any], box: Box) -> tuple[NDArray[Any], Box] | None:
        """Its elements in an array that holds a box of the parameter, to read, and which box of the part they are, if any."""
        seen = list(self.views(array, box))
        if len(seen) < 2:
            return seen[0] if seen else None
        (first, *others), (last, *_) = seen[0][1], seen[-1][1]
        return np.concatenate([view for view, _ in seen]), ((first[0], last[1]), *others)


def checked_slices(value: Any) -> Slices:
    """Slices as a tuple: names of equal ones, or pairs of names and sizes."""
    if isinstance(value, Mapping):
        named = tuple((name, whole_number(f"slices[{name!r}]", size)) for name, size in value.items())
        names: list[Any] = list(value)
    elif isinstance(value, (tuple, list)) and all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in value):
        return checked_slices(dict(value))
    elif isinstance(value, (tuple, list)):
        names, named = list(value), tuple(value)
    else:
        raise TypeError(f"slices: expected names, or a mapping of names to sizes, got {shown(value)}")
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(f"slices: expected names that differ, got {shown(value)}")
    return named


def _bounds(slices: Slices, outputs: int) -> list[tuple[str, int, int]]:
    """Name, beginning and end of each slice of an axis."""
    if isinstance(slices[0], str):
        if outputs % len(slices):
            raise ValueError(f"slices: expected {len(slices)} equal ones of {outputs} outputs; give their sizes")
        sizes = [(str(name), outputs // len(slices)) for name in slices]
    else:
        sizes = [(name, int(size)) for name, size in slices]
        if sum(size for _, size in sizes) != outputs:
            raise ValueError(f"slices: expected sizes that add up to {outputs} outputs, got {dict(sizes)}")
    ends = list(itertools.accumulate(size for _, size in sizes))
    return [(name, end - size, end) for (name, size), end in zip(sizes, ends, strict=True)]


def split(
    whole: Part,
    slices: Slices | None,
    batch_axes: tuple[int, ...],
    named: Callable[[str, tuple[int, ...]], str],
    *,
    layout: str = "oi",
    groups: int = 1,
) -> list[Part]:
    """The parts of a part: one for each entry of the batch axes and each slice of the outputs.

    Parameters
    ----------
    whole : Part
    slices : of the first axis, or of the last one in layout "io"; None for one that is all of them
    batch_axes : tuple of int
    named : callable
        ``named(slice, index)`` is the name of a part; `slice` is "" where there are none.
    layout : {"oi", "io"}
        Of what is left of the axes.
    groups : int, default 1
        How often the slices occur along the axis of the outputs; a part is what its slice is in all of them.
    """
    ndim = len(whole.shape)
    stacked = [axis + ndim if axis < 0 else axis for axis in batch_axes]
    if not all(0 <= axis < ndim for axis in stacked) or len(set(stacked)) < len(stacked):
        raise ValueError(f"batch_axes: expected different axes of shape {whole.shape}, got {batch_axes}")
    found = []
    for index in itertools.product(*(range(whole.shape[axis]) for axis in stacked)):
        one = whole
        for axis, i in sorted(zip(stacked, index, strict=True), reverse=True):
            one = one.at(axis, i)
        n = len(one.shape)
        if layout == "io" and n >= 2:  # (*field, in, out)
            one = one.turned((n - 1, n - 2, *range(n - 2)))
        if slices is None:
            found.append(dataclasses.replace(one, name=named("", index)))
            continue
        if not n:
            raise ValueError("slices: expected an axis of outputs, got none")
        if one.shape[0] % groups:
            raise ValueError(f"groups: expected a divisor of {one.shape[0]} outputs, got {groups}")
        outputs = one.shape[0] // groups
        for name, low, high in _bounds(slices, outputs):
            part = one.between(0, low, high)
            found.append(dataclasses.replace(part if groups == 1 else part.every(groups, outputs), name=named(name, index)))
    return found


@dataclass(frozen=True)
class Spelling:
    """What a parameter of some model is called when separate: one line of a map of names.

    Parameters
    ----------
    pattern : str
        A glob on the model's own name, see `Rule`.
    names : str or sequence of str
        The name of the tensor that it holds, or of several that lie side by side along the outputs. In each, the text that
        stands for a ``*`` of the pattern replaces the ``*`` in turn, and the index along the batch axes replaces ``#``.
    sizes : sequence of int, optional
        How many outputs each of several tensors has, in one group; by default all have as many.
    groups : int, default 1
        How often they lie side by side: where the queries, keys and values of each head lie together, the number of heads.
    layout : {"oi", "io"}, default "oi"
        ``"oi"``: (out, in, \\*field), as in PyTorch. ``"io"``: (\\*field, in, out), as in Flax, Keras and Conv1D of Transformers.
    batch_axes : int or sequence of int, default ()
        Axes that count tensors: stacked layers, experts.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type, or they contradict each other.

    Examples
    --------
    >>> Spelling("h.*.attn.c_attn.weight", ("layers.*.q.weight", "layers.*.k.weight", "layers.*.v.weight"))
    Spelling('h.*.attn.c_attn.weight', ('layers.*.q.weight', 'layers.*.k.weight', 'layers.*.v.weight'))
    """

    pattern: str
    names: tuple[str, ...]
    sizes: tuple[int, ...] | None = None
    layout: str = "oi"
    batch_axes: tuple[int, ...] = ()
    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", whole_number("groups", self.groups))
        glob = Pattern(self.pattern)
        names = (self.names,) if isinstance(self.names, str) else tuple(self.names)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "batch_axes", as_axes(self.batch_axes, "batch_axes"))
        one_of("layout", self.layout, ("oi", "io"))
        if self.sizes is not None:
            sizes = tuple(whole_number("sizes", size) for size in self.sizes)
            object.__setattr__(self, "sizes", sizes)
            if len(sizes) != len(names):
                raise ValueError(f"sizes: expected one for each of {len(names)} names, got {shown(sizes)}")
        stars, numbers = glob.captures, len(self.batch_axes)
        for name in names:
            if not isinstance(name, str) or name.count("*") != stars or name.count("#") != numbers:
                raise ValueError(
                    f"names: expected {stars} times *, as the pattern has, and {numbers} times #, as many as batch axes, got "
                    f"{shown(name)} for {self.pattern!r}"
                )
        object.__setattr__(self, "_glob", glob)

    def __repr__(self) -> str:
        options = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)[2:]
            if getattr(self, field.name) != field.default
        ]
        names = self.names if len(self.names) > 1 else self.names[0]
        return f"Spelling({', '.join([repr(self.pattern), repr(names), *options])})"

    def parts(self, name: str, shape: tuple[int, ...]) -> list[Part] | None:
        """The tensors in a parameter of that name; None if this line is not about it."""
        glob: Any = self._glob  # type: ignore[attr-defined]
        captures = glob.match(name)
        if captures is None:
            return None
        places: dict[str, str] = {str(i): template for i, template in enumerate(self.names)}
        slices: Slices | None = None
        if len(self.names) > 1:
            slices = tuple(places) if self.sizes is None else tuple(zip(places, self.sizes, strict=True))

        def named(part: str, index: tuple[int, ...]) -> str:
            return filled(places[part or "0"], captures, index)

        return split(Part.whole(name, shape), slices, self.batch_axes, named, layout=self.layout, groups=self.groups)
