"""Initializers by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..keys import Key
from .base import Initializer
from .fixed import Constant, Identity, Ones, Zeros
from .orthogonal import DeltaOrthogonal, Orthogonal
from .plain import RandomNormal, RandomUniform, TruncatedNormal
from .scaling import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LeCunNormal,
    LeCunUniform,
    SeluNormal,
    TorchLinear,
    VarianceScaling,
)  # fmt: skip

__all__ = ["get"]

_BY_NAME: dict[str, type[Initializer]] = {
    "zeros": Zeros, "ones": Ones, "constant": Constant, "identity": Identity,
    "random_uniform": RandomUniform, "uniform": RandomUniform,
    "random_normal": RandomNormal, "normal": RandomNormal,
    "truncated_normal": TruncatedNormal, "variance_scaling": VarianceScaling,
    "glorot_normal": GlorotNormal, "glorot_uniform": GlorotUniform,
    "xavier_normal": GlorotNormal, "xavier_uniform": GlorotUniform,
    "he_normal": HeNormal, "he_uniform": HeUniform,
    "kaiming_normal": HeNormal, "kaiming_uniform": HeUniform,
    "lecun_normal": LeCunNormal, "lecun_uniform": LeCunUniform,
    "selu_normal": SeluNormal, "torch_linear": TorchLinear,
    "orthogonal": Orthogonal, "delta_orthogonal": DeltaOrthogonal,
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class Called(Initializer):
    """A user's function ``f(shape, dtype)`` behind the interface of an initializer.

    Its values are whatever the function returns: a seed or a key does not reach it.
    """

    function: Any = None

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        values = np.asarray(self.function(shape, dtype), dtype=np.float64)
        if values.shape != shape:
            raise ValueError(f"function: expected values of shape {shape}, got {values.shape}")
        return values

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"{self!r}: a function has no configuration; name it where you load the model")


def get(identifier: Any) -> Any:
    """The initializer that `identifier` names.

    Parameters
    ----------
    identifier : str, dict, class, Initializer, callable or array
        A name ("he_normal", or the class's own name), ``{"class_name": name, "config": options}``, a subclass
        of Initializer (made with its defaults), an initializer (returned as it is), a function ``f(shape, dtype)``, or an
        array (of which copies are made).

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is none of these.

    Examples
    --------
    >>> get("he_normal")
    HeNormal()
    """
    if isinstance(identifier, Initializer):
        return identifier
    if isinstance(identifier, str):
        by_class = {cls.__name__: cls for cls in _BY_NAME.values()}
        found = _BY_NAME.get(identifier) or by_class.get(identifier)
        if found is None:
            raise ValueError(
                f"initializer: expected one of {', '.join(sorted(_BY_NAME))}; got {identifier!r}"
            )
        return found()
    if isinstance(identifier, dict):
        if "class_name" not in identifier:
            raise ValueError(f"initializer: expected a dict with 'class_name', got {identifier!r}")
        return type(get(identifier["class_name"])).from_config(identifier.get("config", {}))
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
