"""The base class of all initializers, and the checks of their options."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._common.arithmetic import ieee
from .._common.checks import boolean, is_tensor, one_of, real_number, shown, whole_number
from .._common.dtypes import check_range, check_shape, part_of, resolve, store, working
from .._core import fpenv_enter, fpenv_leave
from .._stream.draw import draw
from .._stream.indexing import resolve_index
from .._stream.keys import Key, check_key, check_word
from .._stream.laws import Law
from .fans import FanRule

__all__ = ["Initializer", "choice", "finite", "flag", "positive", "squarable", "whole"]


# Making a Key takes as long as a small draw, and a Key never changes.
_cached_key = functools.lru_cache(maxsize=64)(Key)


def finite(owner: Any, *names: str) -> None:
    """Check that options are finite real numbers, and store them as floats."""
    for name in names:
        object.__setattr__(owner, name, real_number(name, getattr(owner, name)))


def positive(owner: Any, *names: str) -> None:
    """Check that options are finite numbers greater than 0, and store them as floats."""
    finite(owner, *names)
    for name in names:
        if getattr(owner, name) <= 0:
            raise ValueError(f"{name}: expected a number > 0, got {getattr(owner, name)}")


def squarable(owner: Any, *names: str) -> None:
    """Check that options are numbers whose square, a factor of variances, neither overflows nor underflows."""
    finite(owner, *names)
    for name in names:
        size = abs(getattr(owner, name))
        if size and not 1e-150 <= size <= 1e150:
            raise ValueError(f"{name}: expected 0 or a number of magnitude 1e-150 to 1e150, got {getattr(owner, name)}")


def flag(owner: Any, *names: str) -> None:
    """Check that options are bools, and store them as Python's own."""
    for name in names:
        boolean(name, getattr(owner, name))
        object.__setattr__(owner, name, bool(getattr(owner, name)))


def whole(owner: Any, *names: str, least: int = 1) -> None:
    """Check that options are whole numbers >= `least`, and store them as ints."""
    for name in names:
        object.__setattr__(owner, name, whole_number(name, getattr(owner, name), least=least))


def choice(owner: Any, name: str, choices: Any) -> None:
    """Check that an option is one of a few names."""
    one_of(name, getattr(owner, name), choices)


@dataclass(frozen=True)
class Initializer:
    """Base class of all initializers: frozen objects that make a weight tensor of a given shape.

    A shape is read with inputs before outputs: ``(in, out)``, or ``(*field, in, out)`` for a convolution. PyTorch's order,
    ``(out, in, *field)``, is chosen by the option ``fans=FanRule(layout="oi")`` or, in the classes that have it,
    ``layout="oi"``. A PyTorch tensor in place of the shape is read in PyTorch's order, and so are all shapes in
    `fastinit.torch`.

    Parameters
    ----------
    seed : int, optional
        In [0, 2**64). Fixes the values: every call with the same shape and dtype returns the same tensor. Without
        one, every call draws a new seed from the operating system.

    Raises
    ------
    TypeError
        At construction, if an option is of another type.
    ValueError
        At construction, if an option is out of range, or options contradict each other.
    """

    seed: int | None = dataclasses.field(default=None, kw_only=True)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ieee(cls)  # so that no value depends on the caller's floating-point environment

    def __post_init__(self) -> None:
        if self.seed is not None:
            object.__setattr__(self, "seed", check_word(self.seed, "seed"))

    def _config_value(self, name: str) -> Any:
        """An option as a value that JSON can hold."""
        return getattr(self, name)

    def _repr_value(self, name: str) -> Any:
        """An option as a value whose repr evaluates back."""
        return getattr(self, name)

    def __repr__(self) -> str:
        # Options that are not at their defaults, so that eval(repr(x)) == x.
        options = []
        for field in dataclasses.fields(self):
            value = self._repr_value(field.name)
            if type(value) is not type(field.default) or value != field.default:
                # the repr of an infinity, inf, is no expression
                shown = f'float("{value}")' if isinstance(value, float) and math.isinf(value) else repr(value)
                options.append(f"{field.name}={shown}")
        return f"{type(self).__name__}({', '.join(options)})"

    # Whether complex dtypes have a meaning: they have none for a logarithm, a step size, or one half of a conjugate pair.
    _complex: ClassVar[bool] = False

    def _dtype(self, dtype: Any) -> str:
        name = resolve(dtype)
        if not self._complex and part_of(name):
            raise ValueError(f"dtype: expected a real one for {type(self).__name__}, got {name}")
        return name

    def _key(self, key: Key | None) -> Key:
        if key is not None:
            return check_key(key)
        return Key.from_entropy() if self.seed is None else _cached_key(self.seed)

    @ieee
    def law(self, shape: Any) -> Law | None:
        """The law that the elements of a tensor of `shape` are drawn from independently, or None.

        Calls, shards, `fill_many` and virtual stacks draw from this law.

        Parameters
        ----------
        shape : int or tuple of int
            Of the whole tensor.

        Returns
        -------
        Law or None
            Name and parameters; None if the elements are fixed, depend on one another (as in an orthogonal matrix), or are
            functions of what is drawn.

        Raises
        ------
        TypeError
            If `shape` is no int or sequence of ints.
        ValueError
            If this initializer has no tensor of that shape.
        """
        return self._law(check_shape(shape))

    def _law(self, shape: tuple[int, ...]) -> Law | None:
        """`law` for a checked shape. A subclass that returns None must define `_values`."""
        return None

    def _outputs_first(self) -> Initializer:
        """This initializer for shapes in PyTorch's order, ``(out, in, *field)``; explicit fans are kept."""
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "layout":
                changes["layout"] = "oi"
            elif field.name == "fans" and value is None:
                changes["fans"] = FanRule(layout="oi")
            elif isinstance(value, Initializer):
                changes[field.name] = value._outputs_first()
            elif isinstance(value, tuple) and any(isinstance(one, Initializer) for one in value):
                changes[field.name] = tuple(one._outputs_first() for one in value)
        return dataclasses.replace(self, **changes) if changes else self

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        """The tensor in `dtype` (see `working`) or a wider one; the caller rounds it once to the dtype that was asked for."""
        raise TypeError(f"{type(self).__name__}: expected a subclass that defines _law or _values")

    def _check(self, values: NDArray[Any], dtype: str) -> None:
        """Refuse values that rounding to `dtype` would make infinite."""
        check_range(values, dtype, type(self).__name__, saturating=True)

    def _checked_values(self, shape: tuple[int, ...], dtype: str, key: Key | None) -> NDArray[Any]:
        """The tensor of an initializer without a law, before it is rounded to `dtype`."""
        values = self._values(shape, working(dtype), self._key(key))
        self._check(values, dtype)
        return values

    def __call__(
        self, shape: Any, dtype: Any = "float32", *, key: Key | None = None, out: Any = None
    ) -> Any:
        """A tensor of `shape`, inputs before outputs: ``(in, out)``, or ``(*field, in, out)`` for a convolution.

        A PyTorch tensor in place of the shape, or as `out`, is filled in place, its shape read in PyTorch's order,
        ``(out, in, *field)``.

        Parameters
        ----------
        shape : int, tuple of int, or torch.Tensor
            A tensor or parameter of PyTorch, on any device and of any strided layout, is filled under ``no_grad`` and
            returned. It has its own dtype, and the values that `fastinit.torch` gives it where that has the same initializer.
            Explicit `fans` are kept, `layout` is "oi". Without key and seed, the seed comes from PyTorch's default generator.
        dtype : str or dtype, default "float32"
            float32, float64, float16, bfloat16, or one of ml_dtypes' float8; 16-bit and float8 values are rounded
            float32 values. Initializers with independent elements, orthogonal and sparse matrices, and fixed tensors also have
            complex64 and complex128, where the variance is E|z - E z|^2.
        key : Key, optional
            Used instead of the seed.
        out : writable C-contiguous buffer or torch.Tensor, optional
            Of that shape and dtype; filled and returned instead of a new array. Its contents are undefined if a signal handler
            raises during the call, as Ctrl-C does.

        Returns
        -------
        ndarray, or `out`, or the tensor
            Of that shape and dtype.

        Raises
        ------
        TypeError
            If an argument is of another type.
        ValueError
            If this initializer has no tensor of that shape, or a number is outside the range of the dtype: a parameter of
            the law (see `law`), or an element where there is no law. Nothing has been written then. A draw itself may
            become infinite where mean + 9.16 std of a normal, or the bound of a truncated one, is outside the range; in
            float8 it becomes the largest number.
        """
        saved = fpenv_enter()  # what the decorator `ieee` does, without the cost of one more call
        try:
            if (out is not None or type(shape) is not tuple) and is_tensor(shape, out):
                from ..torch._initializers import fill_with  # which imports torch

                return fill_with(self, shape, dtype, key, out)
            name, sizes = self._dtype(dtype), check_shape(shape)
            law = self._law(sizes)
            if law is not None:
                return draw(*law, sizes, self._key(key), name, out)
            return store(self._checked_values(sizes, name, key), name, out)
        finally:
            fpenv_leave(saved)

    @ieee
    def shard(
        self,
        shape: Any,
        index: Any,
        *,
        key: Key | None = None,
        dtype: Any = "float32",
        out: Any = None,
    ) -> Any:
        """A slice of the tensor, exactly ``self(shape, dtype, key=key)[index]``.

        Where the elements are independent, only those of the slice are computed.

        Parameters
        ----------
        shape : int or tuple of int
            Of the **whole** tensor, from which the fans come.
        index : int, slice, Ellipsis or a tuple of them
            As for a NumPy array; steps may be negative.
        key, dtype, out
            As in a call; `out` has the shape of the slice.

        Returns
        -------
        ndarray or `out`
            Of the shape and dtype of the slice.

        Raises
        ------
        IndexError
            If an index is out of range.
        TypeError, ValueError
            As in a call.
        """
        name, sizes = self._dtype(dtype), check_shape(shape)
        law = self._law(sizes)
        if law is not None:
            return draw(*law, sizes, self._key(key), name, out, index)
        picks = tuple(
            (slice(start, None if start + step * count < 0 else start + step * count, step) if count else slice(0, 0))
            if stays
            else start
            for start, step, count, stays in resolve_index(sizes, index)
        )
        return store(np.asarray(self._checked_values(sizes, name, key)[picks], order="C"), name, out)

    def get_config(self) -> dict[str, Any]:
        """The options as a dict of values that JSON can hold, from which `from_config` makes the initializer again.

        Returns
        -------
        dict
            One entry for each option.
        """
        return {field.name: self._config_value(field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """The initializer with the options that `get_config` returned.

        Parameters
        ----------
        config : dict
            Options by name; those that are missing have their defaults.

        Returns
        -------
        Initializer

        Raises
        ------
        TypeError
            If `config` is no dict of options of this class.
        ValueError
            If an option is out of range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(config, dict) or not set(config) <= set(names):
            got = shown(config) if isinstance(config, dict) else f"{type(config).__name__} {shown(config)}"
            raise TypeError(f"config: expected a dict of options of {cls.__name__}, {', '.join(names)}; got {got}")
        return cls(**config)

    def _mean(self, shape: Any) -> float:
        """Mean of a tensor's elements: of what is drawn, or, for a fixed tensor, over its elements (NaN if it has none)."""
        raise TypeError(f"{type(self).__name__}: expected an initializer whose mean is known, got {shown(self)}")

    def variance(self, shape: Any) -> float:
        """Variance of a tensor's elements: of what is drawn, or, for a fixed tensor, over its elements.

        Parameters
        ----------
        shape : int or tuple of int
            Of the whole tensor.

        Returns
        -------
        float
            The variance; NaN for a fixed tensor without elements.

        Raises
        ------
        TypeError, ValueError
            As in `law`, and a TypeError if the variance is not known, as for a function of one's own.
        """
        raise TypeError(f"{type(self).__name__}: expected an initializer whose variance is known, got {shown(self)}")

    def bounds(self, shape: Any) -> tuple[float, float]:
        """The closed interval in which all elements lie.

        Parameters
        ----------
        shape : int or tuple of int
            Of the whole tensor.

        Returns
        -------
        low, high : float
            Infinite for a normal. Where an element is a function of a draw, its value before rounding to the dtype lies there.

        Raises
        ------
        TypeError, ValueError
            As in `variance`.
        """
        raise TypeError(f"{type(self).__name__}: expected an initializer whose bounds are known, got {shown(self)}")
