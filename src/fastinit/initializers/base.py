"""What every initializer is: a frozen object that makes a weight tensor of a shape."""

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
from .._stream.keys import Key, check_word
from .._stream.sampling import Law, check_key, draw, fill_piece, resolve_index
from .fans import FanRule

__all__ = ["Initializer", "choice", "factor", "finite", "flag", "positive", "whole"]


# A key is as long in the making as a small matrix, and never changes.
_root = functools.lru_cache(maxsize=64)(Key)


def finite(owner: Any, *names: str) -> None:
    """Check that options are finite real numbers, and make them floats."""
    for name in names:
        object.__setattr__(owner, name, real_number(name, getattr(owner, name)))


def positive(owner: Any, *names: str) -> None:
    """Check that options are finite numbers greater than 0, and make them floats."""
    finite(owner, *names)
    for name in names:
        if getattr(owner, name) <= 0:
            raise ValueError(f"{name}: expected a number > 0, got {getattr(owner, name)}")


def factor(owner: Any, *names: str) -> None:
    """Check that options are numbers that have a square, which variances are made of, and make them floats."""
    finite(owner, *names)
    for name in names:
        size = abs(getattr(owner, name))
        if size and not 1e-150 <= size <= 1e150:
            raise ValueError(f"{name}: expected 0 or a number of magnitude 1e-150 to 1e150, got {getattr(owner, name)}")


def flag(owner: Any, *names: str) -> None:
    """Check that options are True or False, and make them bools of Python's."""
    for name in names:
        boolean(name, getattr(owner, name))
        object.__setattr__(owner, name, bool(getattr(owner, name)))


def whole(owner: Any, *names: str, least: int = 1) -> None:
    """Check that options are whole numbers not below `least`, and make them ints."""
    for name in names:
        object.__setattr__(owner, name, whole_number(name, getattr(owner, name), least=least))


def choice(owner: Any, name: str, choices: Any) -> None:
    """Check that an option is one of a few names."""
    one_of(name, getattr(owner, name), choices)


@dataclass(frozen=True)
class Initializer:
    """What every initializer can do; not one itself.

    A shape is read with inputs before outputs: ``(in, out)``, or ``(*field, in, out)`` of a convolution. PyTorch's order,
    ``(out, in, *field)``, is said by ``fans=FanRule(layout="oi")`` or, of a structure, by ``layout="oi"``; a PyTorch tensor in
    the place of the shape has it, and so have the functions of `fastinit.torch`.

    Parameters
    ----------
    seed : int, optional
        In [0, 2**64). Fixes the values: every call of the same shape gives the same tensor. Without
        one, every call draws a new seed from the operating system.

    Raises
    ------
    ValueError, TypeError
        At construction, if an option is of the wrong kind or out of range.
    """

    seed: int | None = dataclasses.field(default=None, kw_only=True)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ieee(cls)  # what an initializer says does not depend on the caller's floating-point environment

    def __post_init__(self) -> None:
        if self.seed is not None:
            object.__setattr__(self, "seed", check_word(self.seed, "seed"))

    def _plain(self, name: str) -> Any:
        """An option as a value that JSON has."""
        return getattr(self, name)

    def _shown(self, name: str) -> Any:
        """An option as a value whose repr evaluates back."""
        return getattr(self, name)

    def __repr__(self) -> str:
        # Options that are not at their defaults, so that eval(repr(x)) == x.
        options = []
        for field in dataclasses.fields(self):
            value = self._shown(field.name)
            if type(value) is not type(field.default) or value != field.default:
                # repr of an infinity is a name that nobody has
                shown = f'float("{value}")' if isinstance(value, float) and math.isinf(value) else repr(value)
                options.append(f"{field.name}={shown}")
        return f"{type(self).__name__}({', '.join(options)})"

    # Whether the tensor has a meaning in complex numbers: a logarithm, a step size, half of a pair has none.
    _complex: ClassVar[bool] = False

    def _dtype(self, dtype: Any) -> str:
        name = resolve(dtype)
        if not self._complex and part_of(name):
            raise ValueError(f"dtype: expected a real one for {type(self).__name__}, got {name}")
        return name

    def _key(self, key: Key | None) -> Key:
        if key is not None:
            return check_key(key)
        return Key.from_entropy() if self.seed is None else _root(self.seed)

    @ieee
    def law(self, shape: Any) -> Law | None:
        """The law that the elements of a tensor of `shape` are drawn from, each independently of the others, or None.

        Calls, shards, `fill_many` and virtual stacks draw from this law. There is none where the elements are fixed, depend on
        one another as those of an orthogonal matrix do, or are functions of what is drawn.

        Raises
        ------
        ValueError, TypeError
            If the shape has no meaning here.
        """
        return self._law(check_shape(shape))

    def _law(self, shape: tuple[int, ...]) -> Law | None:
        """The same of a checked shape. An initializer that returns None has `_values`."""
        return None

    def _outputs_first(self) -> Initializer:
        """This initializer for shapes ``(out, in, *field)``, PyTorch's order; explicit fans are kept."""
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
        """The tensor in `dtype`, float32 or float64, or in anything wider; it is rounded once after that."""
        raise TypeError(f"{type(self).__name__}: expected a subclass that makes values")

    def _check(self, values: NDArray[Any], dtype: str) -> None:
        """Refuse values that the rounding to `dtype` would make infinite."""
        check_range(values, dtype, type(self).__name__, saturating=True)

    def _checked_values(self, shape: tuple[int, ...], dtype: str, key: Key | None) -> NDArray[Any]:
        """The tensor of an initializer without a law, before it is rounded to `dtype`."""
        values = self._values(shape, working(dtype), self._key(key))
        self._check(values, dtype)
        return values

    def __call__(
        self, shape: Any, dtype: Any = "float32", *, key: Key | None = None, out: Any = None
    ) -> Any:
        """A tensor of `shape`, inputs before outputs: ``(in, out)``, or ``(*field, in, out)`` of a convolution.

        A PyTorch tensor in the place of the shape, or as `out`, is filled in place in PyTorch's order, ``(out, in, *field)``.

        Parameters
        ----------
        shape : tuple of int or torch.Tensor
            A tensor or parameter is filled and returned, with the values that `fastinit.torch` gives it where it has the
            law: of any strided layout and device, its own dtype, under no_grad. Explicit `fans` are kept, `layout` is
            "oi". Without key and seed the next seed of PyTorch's default generator is taken.
        dtype : str or dtype, default "float32"
            float32, float64, float16, bfloat16 or one of ml_dtypes' float8; 16-bit and float8 values are the roundings of
            float32 ones. Independent laws, matrices and fixed tensors also have complex64 and complex128, where the
            variance is E|z - E z|^2.
        key : Key, optional
            Overrides the seed.
        out : writable C-contiguous buffer or torch.Tensor, optional
            Of that shape and dtype; filled and returned instead of a new array. Where an exception comes out of a signal's
            handler during the call, such as the KeyboardInterrupt of Ctrl-C, it holds anything.

        Raises
        ------
        ValueError, TypeError
            If the shape has no meaning here, an argument is of the wrong kind, or a number is beyond the range of the dtype: a
            parameter of the law that elements are drawn from (see `law`), or a value where there is none. Nothing has been
            written then. A draw may become infinite where mean + 9.16 std of a normal, or the bound of a truncated one, is
            beyond the range; in float8 it is the largest number.
        """
        saved = fpenv_enter()  # as `ieee` does it
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
        """Exactly ``self(shape, dtype, key=key)[index]``, and where elements are drawn alone without the rest.

        Parameters
        ----------
        shape : tuple of int
            Of the **whole** tensor: fans come from it.
        index : int, slice, Ellipsis or a tuple of them
            Steps may be negative.
        key, dtype, out
            As in a call; `out` has the shape of the piece.

        Raises
        ------
        IndexError
            If an index is out of range.
        ValueError, TypeError
            As in a call.
        """
        name, sizes = self._dtype(dtype), check_shape(shape)
        law = self._law(sizes)
        if law is not None:
            return fill_piece(*law, sizes, index, self._key(key), name, out)
        picks = tuple(
            (slice(start, None if start + step * count < 0 else start + step * count, step) if count else slice(0, 0))
            if stays
            else start
            for start, step, count, stays in resolve_index(sizes, index)
        )
        return store(np.asarray(self._checked_values(sizes, name, key)[picks], order="C"), name, out)

    def get_config(self) -> dict[str, Any]:
        """The options as a dict of values that JSON has; `from_config` takes it back."""
        return {field.name: self._plain(field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """The initializer of a `get_config`."""
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(config, dict) or not set(config) <= set(names):
            got = shown(config) if isinstance(config, dict) else f"{type(config).__name__} {shown(config)}"
            raise TypeError(f"config: expected a dict of options of {cls.__name__}, {', '.join(names)}; got {got}")
        return cls(**config)

    def _mean(self, shape: Any) -> float:
        """Mean of the elements that a call draws; for a fixed tensor, of its elements (NaN if it has none)."""
        raise TypeError(f"{type(self).__name__}: expected an initializer whose mean is known, got {shown(self)}")

    def variance(self, shape: Any) -> float:
        """Variance of the elements that a call draws; for a fixed tensor, of its elements (NaN if it has none)."""
        raise TypeError(f"{type(self).__name__}: expected an initializer whose variance is known, got {shown(self)}")

    def bounds(self, shape: Any) -> tuple[float, float]:
        """The closed interval that all elements lie in (infinite for a normal); of a function of a draw before it is rounded."""
        raise TypeError(f"{type(self).__name__}: expected an initializer whose bounds are known, got {shown(self)}")
