"""Functions of numbers that take arrays of them too, by NumPy's rules."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .._common.checks import real_array

__all__ = ["broadcasting"]

F = TypeVar("F", bound=Callable[..., Any])


def _is_array(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (hasattr(value, "__array__") and not isinstance(value, (np.generic, type)))


def broadcasting(*names: str, results: int = 1) -> Callable[[F], F]:
    """Lets the arguments of these names be arrays, which are broadcast against one another: the function is called for each
    element. Where all are numbers, or arrays without an axis, it returns what the function does; else an array, or as many as
    it has `results`.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        places = tuple(i for i, name in enumerate(signature.parameters) if name in names)

        @functools.wraps(function)
        def computed(*args: Any, **options: Any) -> Any:
            given = [args[i] for i in places if i < len(args)] + [options[name] for name in names if name in options]
            if not any(_is_array(value) for value in given):
                return function(*args, **options)
            try:
                bound = signature.bind(*args, **options).arguments
            except TypeError:
                return function(*args, **options)  # in whose words it is refused
            arrays = {name: real_array(name, value) for name, value in bound.items() if name in names and _is_array(value)}
            try:
                shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
            except ValueError:
                shapes = ", ".join(str(array.shape) for array in arrays.values())
                raise ValueError(f"{', '.join(arrays)}: expected shapes that broadcast, got {shapes}") from None
            columns = [np.broadcast_to(array, shape).ravel().tolist() for array in arrays.values()]
            found = [function(**{**bound, **dict(zip(arrays, row, strict=True))}) for row in zip(*columns, strict=True)]
            if shape == ():
                return found[0]
            if results == 1:
                return np.array(found, dtype=None if found else np.float64).reshape(shape)
            return tuple(np.array([one[i] for one in found], dtype=np.float64).reshape(shape) for i in range(results))

        return computed  # type: ignore[return-value]

    return decorate
