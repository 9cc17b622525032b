"""Initializers by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import real_array, shown
from .._stream.keys import Key
from .base import Initializer
from .catalogue import BY_CLASS, BY_NAME
from .deterministic import Constant

__all__ = ["get"]


@dataclass(frozen=True, repr=False)
class Called(Initializer):
    """A user's function ``f(shape, dtype)`` as an initializer.

    The values are what the function returns, whatever the seed or key.
    """

    function: Any = None

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        values = real_array("function", self.function(shape, dtype)).astype(np.float64)
        if values.shape != shape:
            raise ValueError(f"function: expected values of shape {shape}, got {values.shape}")
        return values

    def _check(self, values: NDArray[Any], dtype: str) -> None:
        """A user's function may return infinities."""

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"{self!r}: a function has no configuration; pass the function itself where the model is loaded")


def get(identifier: Any) -> Initializer:
    """The initializer that `identifier` names.

    Parameters
    ----------
    identifier : str, dict, class, Initializer, callable or array
        A name ("he_normal" or "HeNormal"), ``{"class_name": name, "config": options}``, a subclass of Initializer (made with
        its default options), an initializer (returned as it is), a function ``f(shape, dtype)`` that returns the values, or an
        array (see `Constant`).

    Returns
    -------
    Initializer

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is none of these, or the named initializer has options without a default.

    Examples
    --------
    >>> get("he_normal")
    HeNormal()
    """
    if isinstance(identifier, Initializer):
        return identifier
    if isinstance(identifier, str):
        found = BY_NAME.get(identifier) or BY_CLASS.get(identifier)
        if found is None:
            raise ValueError(
                f"initializer: expected one of {', '.join(sorted(BY_NAME))}; got {shown(identifier)}"
            )
        return found()
    if isinstance(identifier, dict):
        name = identifier.get("class_name")
        if not isinstance(name, str) or not (name in BY_NAME or name in BY_CLASS):
            raise ValueError(
                f"initializer: expected a dict with a known 'class_name', got {shown(identifier)}"
            )
        return (BY_NAME.get(name) or BY_CLASS[name]).from_config(identifier.get("config", {}))
    if inspect.isclass(identifier) and issubclass(identifier, Initializer):
        return identifier()
    if isinstance(identifier, np.ndarray):
        return Constant(identifier)
    if callable(identifier):
        return Called(identifier)
    raise TypeError(
        "initializer: expected a name, dict, class, initializer, function or array, "
        f"got {type(identifier).__name__}"
    )
