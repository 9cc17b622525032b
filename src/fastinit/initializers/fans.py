"""Fans: the number of inputs of a unit (fan_in), and the number of units that read an input (fan_out).

A shape alone does not tell which axis is which: ``(8, 64, 32)`` may be a convolution of width 8, eight stacked experts, or
an attention projection to eight heads. `FanRule` tells it, for every kind of layer and both orders of the axes.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._common.checks import one_of, shown, whole_number
from .._common.dtypes import check_shape

__all__ = ["FanRule", "Fans", "as_axes", "as_fans", "compute_fans"]

_KINDS = ("dense", "conv", "transposed", "depthwise", "embedding")
_LAYOUTS = ("io", "oi")


class Fans(NamedTuple):
    """``fan_in``: inputs of one output unit. ``fan_out``: output units that one input reaches."""

    fan_in: int
    fan_out: int


def as_axes(value: Any, name: str) -> tuple[int, ...]:
    """Axis numbers as a tuple; one int is one axis."""
    entries = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    try:
        if any(isinstance(axis, bool) for axis in entries):
            raise TypeError
        return tuple(operator.index(axis) for axis in entries)
    except TypeError:
        raise TypeError(f"{name}: expected an int or a sequence of ints, got {shown(value)}") from None


@dataclass(frozen=True)
class FanRule:
    """Which axes of a kernel are inputs, outputs, receptive field and batch.

    Called with the shape of the whole kernel, it returns the `Fans`. Fans count elements of the kernel: strides and dilation
    make no difference.

    Parameters
    ----------
    layout : {"io", "oi"}, default "io"
        ``"io"``: inputs before outputs, as in Keras and JAX. ``"oi"``: outputs before inputs, as in PyTorch. In the
        table below, c_in and c_out are the channels of the whole layer, g is `groups`, and field is the receptive field.
    kind : {"dense", "conv", "transposed", "depthwise", "embedding"}, optional
        ========== ============================== ============================== ======================================
        kind       shape, ``layout="io"``         shape, ``layout="oi"``         fan_in, fan_out
        ========== ============================== ============================== ======================================
        dense      (n_in, n_out)                  (n_out, n_in)                  n_in, n_out
        conv       (\\*field, c_in / g, c_out)     (c_out, c_in / g, \\*field)     field c_in / g, field c_out / g
        transposed (\\*field, c_out / g, c_in)     (c_in, c_out / g, \\*field)     field c_in / g, field c_out / g
        depthwise  (\\*field, c_in, multiplier)    (c_out, 1, \\*field)            field, field multiplier
        embedding  (entries, features)            (entries, features)            1, features (one row is looked up)
        ========== ============================== ============================== ======================================

        By default two axes are a dense kernel, and more are a convolution.
    groups : int, in [1, 2**63), default 1
        Groups of a convolution. For ``kind="depthwise"`` with ``layout="oi"``, the number of input channels, which the shape
        does not tell.
    in_axes, out_axes : int or sequence of int, optional
        The axes that are summed over, and the axes of the outputs, for kernels of any other form (attention); give both. All
        other axes are the receptive field.
    batch_axes : int or sequence of int, default ()
        Axes that count independent kernels, such as stacked layers or experts; they are in neither fan.

    Raises
    ------
    TypeError
        If an option or the shape is of another type.
    ValueError
        At construction, if options are out of range or contradict each other. When called, if the shape does not fit the rule;
        the message names the option that would tell the fans.

    Examples
    --------
    >>> FanRule(layout="oi", groups=4)((64, 8, 3, 3))
    Fans(fan_in=72, fan_out=144)
    >>> FanRule(in_axes=0, out_axes=(1, 2))((512, 8, 64))
    Fans(fan_in=512, fan_out=512)
    >>> FanRule(kind="dense", batch_axes=0)((8, 64, 32))
    Fans(fan_in=64, fan_out=32)
    """

    layout: str = "io"
    kind: str | None = None
    groups: int = 1
    in_axes: tuple[int, ...] | None = None
    out_axes: tuple[int, ...] | None = None
    batch_axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        one_of("layout", self.layout, _LAYOUTS)
        if self.kind is not None:
            one_of("kind", self.kind, _KINDS)
        object.__setattr__(self, "groups", whole_number("groups", self.groups))
        for name in ("in_axes", "out_axes", "batch_axes"):
            value = getattr(self, name)
            if value is not None or name == "batch_axes":
                object.__setattr__(self, name, as_axes(value, name))
        if (self.in_axes is None) != (self.out_axes is None):
            raise ValueError(
                f"in_axes, out_axes: expected both or neither, got {shown(self.in_axes)} and {shown(self.out_axes)}"
            )
        if self.in_axes is not None and (self.kind is not None or self.groups != 1):
            raise ValueError("in_axes: expected neither kind nor groups beside explicit axes")
        if self.groups != 1 and self.kind in ("dense", "embedding"):
            raise ValueError(f"groups: expected 1 for kind {self.kind!r}, got {self.groups}")

    def __repr__(self) -> str:
        options = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"FanRule({', '.join(options)})"

    def __call__(self, shape: Any) -> Fans:
        """The fans of a kernel.

        Parameters
        ----------
        shape : tuple of int
            Of the whole kernel.

        Returns
        -------
        Fans

        Raises
        ------
        TypeError, ValueError
            If the shape is no sequence of ints, or does not fit the rule.
        """
        sizes = check_shape(shape)
        used = self._positions(sizes, self.batch_axes, "batch_axes", set())
        if self.in_axes is not None and self.out_axes is not None:
            inputs = self._positions(sizes, self.in_axes, "in_axes", used)
            outputs = self._positions(sizes, self.out_axes, "out_axes", used | inputs)
            field = math.prod(n for i, n in enumerate(sizes) if i not in used | inputs | outputs)
            return Fans(
                field * math.prod(sizes[i] for i in inputs), field * math.prod(sizes[i] for i in outputs)
            )
        kernel = tuple(n for i, n in enumerate(sizes) if i not in used)
        if len(kernel) < 2:
            raise ValueError(
                "shape: expected at least two axes, inputs and outputs, to know the fans; got "
                f"{sizes} with batch_axes={self.batch_axes}; for a bias, give the fans of its weights: "
                "fans=(fan_in, fan_out)"
            )
        kind = self.kind or ("dense" if len(kernel) == 2 else "conv")
        if kind in ("dense", "embedding") and len(kernel) > 2:
            raise ValueError(
                f"shape: expected two axes for kind {kind!r}, got {kernel}; give in_axes and out_axes, or "
                "batch_axes for axes of independent kernels"
            )
        if kind == "dense" and self.groups != 1:
            raise ValueError(f"groups: expected 1 for a kernel of two axes, got {self.groups} with {kernel}")
        return self._kernel_fans(kind, kernel)

    def _kernel_fans(self, kind: str, kernel: tuple[int, ...]) -> Fans:
        if kind == "embedding":
            return Fans(1, kernel[1])
        if self.layout == "io":
            field, first, second = math.prod(kernel[:-2]), kernel[-2], kernel[-1]
        else:
            field, first, second = math.prod(kernel[2:]), kernel[1], kernel[0]
        # `first` counts the channels of one group, `second` those of all. A transposed convolution swaps inputs and outputs.
        if kind == "depthwise":
            if self.layout == "io":
                if self.groups not in (1, first):
                    raise ValueError(
                        f"groups: expected 1 or the {first} input channels of shape {kernel}, got {self.groups}"
                    )
                return Fans(field, field * second)
            if first != 1:
                raise ValueError(
                    f"shape: expected one input channel per group, (c_out, 1, *field), got {kernel}"
                )
            if self.groups == 1 and second != 1:
                raise ValueError(
                    "groups: expected the number of input channels, which a depthwise kernel of shape "
                    f'{kernel} in layout "oi" does not tell'
                )
        if second % self.groups:
            raise ValueError(
                f"groups: expected a divisor of the {second} channels of shape {kernel}, got {self.groups}"
            )
        per_group = second // self.groups
        if kind == "transposed":
            return Fans(field * per_group, field * first)
        return Fans(field * first, field * per_group)

    @staticmethod
    def _positions(
        sizes: tuple[int, ...], axes: tuple[int, ...], name: str, used: set[int]
    ) -> set[int]:
        """The axes as numbers >= 0; an axis that occurs twice, or is among `used`, is refused."""
        found: set[int] = set()
        for axis in axes:
            if not -len(sizes) <= axis < len(sizes):
                raise ValueError(f"{name}: expected axes of shape {sizes}, got {shown(axis)}")
            position = axis % len(sizes)
            if position in found or position in used:
                raise ValueError(f"{name}: expected every axis at most once, got axis {axis} again")
            found.add(position)
        return found


_DEFAULT = FanRule()


def as_fans(fans: Any) -> FanRule | Fans | None:
    """The option `fans` of an initializer: a rule, two numbers, either of them as JSON holds it, or None."""
    if fans is None or isinstance(fans, FanRule):
        return fans
    if isinstance(fans, dict):
        names = [field.name for field in dataclasses.fields(FanRule)]
        if not set(fans) <= set(names):
            raise TypeError(f"fans: expected the options of a FanRule, {', '.join(names)}, got {shown(fans)}")
        return FanRule(**fans)
    try:
        if isinstance(fans, (Set, Mapping)) or any(isinstance(n, bool) for n in fans):
            raise TypeError
        known = Fans(*(operator.index(n) for n in fans))
    except TypeError:
        raise TypeError(f"fans: expected a FanRule or two ints (fan_in, fan_out), got {shown(fans)}") from None
    if min(known) < 1 or max(known) >= 1 << 63:
        raise ValueError(f"fans: expected two ints >= 1 and < 2**63, got {shown(tuple(known))}")
    return known


def compute_fans(shape: Any, fans: Any = None, **options: Any) -> Fans:
    """The fans of a kernel.

    Parameters
    ----------
    shape : tuple of int
        Of the whole kernel.
    fans : FanRule, (fan_in, fan_out) or None
        The rule, or the fans themselves, which are returned whatever the shape.
    **options
        Options of a `FanRule`, instead of `fans`.

    Returns
    -------
    Fans

    Raises
    ------
    ValueError, TypeError
        As in `FanRule`, and a TypeError if both `fans` and options are given.

    Examples
    --------
    >>> compute_fans((784, 256))
    Fans(fan_in=784, fan_out=256)
    >>> compute_fans((3, 3, 16, 32))
    Fans(fan_in=144, fan_out=288)
    >>> compute_fans((16, 64, 3, 3), layout="oi", kind="transposed")
    Fans(fan_in=144, fan_out=576)
    """
    if options:
        if fans is not None:
            raise TypeError(f"fans: expected either fans or options of a FanRule, got {shown(fans)} and {shown(options)}")
        return FanRule(**options)(shape)
    found = as_fans(fans) or _DEFAULT
    return found(shape) if isinstance(found, FanRule) else found
