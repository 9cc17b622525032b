"""What the theory computes with: the activations that `Stack` has by name, and functions of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.activations import evaluate, parse
from .._common.arithmetic import ieee
from .._common.checks import real_array, real_number, shown

__all__ = ["Activation", "ActivationLike", "known"]

Array = NDArray[Any]

# Differences of nine points, of eighth order: about a point, and on the right of it.
_CENTRAL = np.array([3, -32, 168, -672, 0, 672, -168, 32, -3]) / 840
_ONE_SIDED = np.array([-2283, 6720, -11760, 15680, -14700, 9408, -3920, 960, -105]) / 840
_STEP, _RELATIVE_STEP = 2.0**-7, 2.0**-20  # between the points; of a number above 2^13 the latter part of it


class Activation:
    """A function phi of one's own, for all functions of `fastinit.theory`.

    Parameters
    ----------
    function : callable
        phi, elementwise: takes an array of float64 and gives real numbers of its shape. It must be continuous, and smooth
        but at the kinks; means of a function that jumps are wrong.
    derivative : callable, optional
        phi', likewise; it may jump at the kinks. Without one, differences of eighth order are taken, whose nine points lie
        1/128 apart and never on two sides of a kink: of tanh, GELU or a squared ReLU they are right to 1e-11. Of a function
        that varies over much less than 1, give the derivative.
    kinks : sequence of float, default (0.0,)
        Where phi bends or its higher derivatives jump: there pieces of the quadrature end.

    Attributes
    ----------
    function, derivative, kinks
        The parameters above, `kinks` as a sorted tuple. They do not change.

    Raises
    ------
    TypeError, ValueError
        If `function` or `derivative` is no function, or `kinks` no sequence of finite numbers. When it is used: if values are
        NaN or no real numbers, or of another shape than their arguments.

    Notes
    -----
    Two are equal if they have the same function objects and kinks. A function alone, as an argument of the theory, means
    ``Activation(function)``.

    Examples
    --------
    >>> squared = Activation(lambda z: np.maximum(z, 0.0) ** 2)
    >>> round(variance_map(squared, 1.0, 1.0), 12)
    1.5
    """

    __slots__ = ("_leak", "_name", "_text", "derivative", "function", "kinks")
    function: Callable[[Array], Any]
    derivative: Callable[[Array], Any] | None
    kinks: tuple[float, ...]
    _text: str  # what a message calls it
    _name: str  # in the engine, without a parameter; "" for a function of one's own
    _leak: float | None  # the slope on the left where phi(k z) = k phi(z) for k > 0, with 1 on the right

    @ieee
    def __init__(
        self,
        function: Callable[[Array], Any],
        derivative: Callable[[Array], Any] | None = None,
        *,
        kinks: Iterable[float] = (0.0,),
    ) -> None:
        if not callable(function):
            raise TypeError(f"function: expected a function of an array, got {type(function).__name__} {shown(function)}")
        if derivative is not None and not callable(derivative):
            raise TypeError(f"derivative: expected a function of an array, got {type(derivative).__name__} {shown(derivative)}")
        try:
            given = list(kinks)
        except TypeError:
            raise TypeError(f"kinks: expected a sequence of numbers, got {type(kinks).__name__} {shown(kinks)}") from None
        places = sorted({real_number(f"kinks[{i}]", kink) for i, kink in enumerate(given)})
        self._set(function, derivative, tuple(places), shown(function), "", None)

    def _set(self, function: Any, derivative: Any, kinks: tuple[float, ...], *beside: Any) -> None:
        names = ("function", "derivative", "kinks", "_text", "_name", "_leak")
        for name, value in zip(names, (function, derivative, kinks, *beside), strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: expected no change after construction; make another Activation")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: expected no change after construction; make another Activation")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[Any, ...]:
        return id(self.function), id(self.derivative), self.kinks

    def __reduce__(self) -> Any:
        return functools.partial(Activation, kinks=self.kinks), (self.function, self.derivative)

    def __repr__(self) -> str:
        return f"Activation({self._text}, {shown(self.derivative)}, kinks={self.kinks})"

    def __call__(self, z: Any) -> Array:
        """phi(z), in float64.

        Parameters
        ----------
        z : array_like of real numbers

        Returns
        -------
        ndarray
            Of the shape of `z`.
        """
        return self._values(_floats(z))

    def slope(self, z: Any) -> Array:
        """phi'(z), in float64; at a kink, unless there is a `derivative`, that on the left.

        Parameters
        ----------
        z : array_like of real numbers

        Returns
        -------
        ndarray
            Of the shape of `z`.
        """
        return self._slopes(_floats(z))

    def _values(self, z: Array) -> Array:
        return _checked("activation", self.function, z)

    def _slopes(self, z: Array) -> Array:
        if self.derivative is not None:
            return _checked("derivative", self.derivative, z)
        left, right = np.full(z.shape, np.inf), np.full(z.shape, np.inf)  # room on both sides
        for kink in self.kinks:
            left = np.where(z > kink, np.minimum(left, z - kink), left)
            right = np.where(z <= kink, np.minimum(right, kink - z), right)
        room = np.minimum((left + right) / 13, 1e300)
        # Powers of 2, so that a large z plus some steps is rounded seldom. From every point there is room for nine on one side.
        step = np.exp2(np.floor(np.log2(np.minimum(np.maximum(_STEP, np.abs(z) * _RELATIVE_STEP), room))))
        central = np.minimum(left, right) >= 4 * step
        side = np.where(left < right, step, -step)
        here, slopes = self._values(z), np.zeros(z.shape)
        for i, (middle, end) in enumerate(zip(_CENTRAL, _ONE_SIDED, strict=True)):
            values = self._values(z + np.where(central, step * (i - 4), side * i))
            with np.errstate(invalid="ignore"):  # of infinite values; exactly 0 where phi is constant
                slopes += np.where(central, middle / step, end / side) * (values - here)
        return slopes

    def _both(self, z: Array) -> tuple[Array, Array]:
        return self._values(z), self._slopes(z)


ActivationLike = str | Activation | Callable[[Array], Any]


class _Named(Activation):
    """One of the engine's, whose derivative costs next to nothing beside the value."""

    __slots__ = ("_index", "_parameter")
    _index: int
    _parameter: float

    def __init__(self, text: str) -> None:
        index, parameter = parse("activation", text)
        name = _core.ACTIVATIONS[index]
        traits = _core.TRAITS[name]
        (left, right), _ = evaluate(index, parameter, [-1.0, 1.0])
        self._set(
            lambda z: evaluate(index, parameter, z)[0], lambda z: evaluate(index, parameter, z)[1], traits.kinks,
            text, name, -float(left) if traits.homogeneous and right == 1 else None,
        )  # fmt: skip
        object.__setattr__(self, "_index", index)
        object.__setattr__(self, "_parameter", parameter)

    def _identity(self) -> tuple[Any, ...]:
        return self._index, self._parameter

    def __reduce__(self) -> Any:
        return known, (self._text,)

    def __repr__(self) -> str:
        return repr(self._text)

    def _values(self, z: Array) -> Array:
        return self._both(z)[0]

    def _slopes(self, z: Array) -> Array:
        return self._both(z)[1]

    def _both(self, z: Array) -> tuple[Array, Array]:
        return evaluate(self._index, self._parameter, z)


def known(activation: Any) -> Activation:
    """What an argument `activation` means: a name, an `Activation`, or a function with a kink at 0.

    Raises
    ------
    TypeError, ValueError
        If it is none of them; if it names no activation, or has a parameter that does not fit.
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        return _named(activation)
    if callable(activation):
        return Activation(activation)
    raise TypeError(f"activation: expected a str or a function, got {type(activation).__name__} {shown(activation)}")


@functools.lru_cache(maxsize=64)
def _named(text: str) -> Activation:
    return _Named(text)


def _floats(z: Any) -> Array:
    with np.errstate(over="ignore"):  # of wider numbers
        return real_array("z", z).astype(np.float64)


def _checked(what: str, function: Callable[[Array], Any], z: Array) -> Array:
    """A user's function of an array, held to its shape and to numbers."""
    with np.errstate(all="ignore"):  # as for e^-z far on the left, whose inf is right
        values = real_array(what, function(z))
    if values.shape != z.shape:
        if values.shape != ():
            raise ValueError(f"{what}: expected a function of an array elementwise, got shape {values.shape} of {z.shape}")
        values = np.broadcast_to(values, z.shape)  # a constant
    if np.isnan(values).any():
        at = float(z[np.isnan(values)][0])
        raise ValueError(f"{what}: expected numbers, got nan at {at:g}")
    return values.astype(np.float64, copy=False)
