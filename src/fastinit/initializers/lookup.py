"""Initializers by name."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import real_array, shown
from .._stream.keys import Key
from .activation import CriticalNormal, GainNormal
from .base import Initializer
from .composed import PerGate, Times
from .convolution import Bilinear, Dirac, Icnr
from .depth import DepthwiseResidual, ResidualNormal, SmallInit, WangResidual
from .deterministic import Constant, Identity, Ones, Zeros
from .distributions import RandomNormal, RandomUniform, TruncatedNormal
from .orthogonal import DeltaOrthogonal, Orthogonal
from .recurrent import S4D, ForgetGateBias, HippoLegS, HippoLegSB, MambaLogA, PriorBias
from .signal import STFT
from .siren import SirenFirst, SirenHidden
from .structured import Hadamard, Sparse
from .transformed_uniform import ChronoBias, LogUniform, MambaDtBias
from .variance_scaling import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LeCunNormal,
    LeCunUniform,
    SeluNormal,
    TorchLinear,
    VarianceScaling,
)
from .width import LoraA, LoraB, MuP, SpectralScaling, UnitScaling

__all__ = ["CATALOGUE", "get"]

# Every initializer, in the order of the documentation.
CATALOGUE: tuple[type[Initializer], ...] = (
    Zeros, Ones, Constant, Identity, Dirac, PriorBias,
    RandomUniform, RandomNormal, TruncatedNormal,
    VarianceScaling, GlorotNormal, GlorotUniform, HeNormal, HeUniform, LeCunNormal, LeCunUniform,
    GainNormal, CriticalNormal, SeluNormal, TorchLinear, SirenFirst, SirenHidden,
    SmallInit, WangResidual, ResidualNormal, DepthwiseResidual,
    MuP, SpectralScaling, UnitScaling, LoraA, LoraB,
    Orthogonal, DeltaOrthogonal, Sparse, Hadamard, Bilinear, Icnr, STFT,
    ForgetGateBias, ChronoBias, HippoLegS, HippoLegSB, S4D, MambaLogA, LogUniform, MambaDtBias,
    PerGate, Times,
)  # fmt: skip


def _snake_case(name: str) -> str:
    for proper in ("LeCun", "MuP", "S4D"):  # one word each
        name = name.replace(proper, proper.capitalize())
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


_BY_NAME: dict[str, type[Initializer]] = {
    **{_snake_case(one.__name__): one for one in CATALOGUE},
    "uniform": RandomUniform, "normal": RandomNormal,
    "xavier_normal": GlorotNormal, "xavier_uniform": GlorotUniform,
    "kaiming_normal": HeNormal, "kaiming_uniform": HeUniform,
    "eye": Identity, "zero": Zeros, "one": Ones,
}  # fmt: skip
_BY_CLASS: dict[str, type[Initializer]] = {
    **{one.__name__: one for one in CATALOGUE},
    "XavierNormal": GlorotNormal, "XavierUniform": GlorotUniform,
    "KaimingNormal": HeNormal, "KaimingUniform": HeUniform,
    "LecunNormal": LeCunNormal, "LecunUniform": LeCunUniform,
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class Called(Initializer):
    """A user's function ``f(shape, dtype)`` behind the interface of an initializer.

    Its values are whatever the function returns: a seed or a key does not reach it.
    """

    function: Any = None

    def _values(self, shape: tuple[int, ...], dtype: str, key: Key) -> NDArray[Any]:
        values = real_array("function", self.function(shape, dtype)).astype(np.float64)
        if values.shape != shape:
            raise ValueError(f"function: expected values of shape {shape}, got {values.shape}")
        return values

    def _check(self, values: NDArray[Any], dtype: str) -> None:
        """Infinities are the function's own."""

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"{self!r}: a function has no configuration; name it where you load the model")


def get(identifier: Any) -> Initializer:
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
        If `identifier` is none of these, or the named initializer has options without a default.

    Examples
    --------
    >>> get("he_normal")
    HeNormal()
    """
    if isinstance(identifier, Initializer):
        return identifier
    if isinstance(identifier, str):
        found = _BY_NAME.get(identifier) or _BY_CLASS.get(identifier)
        if found is None:
            raise ValueError(
                f"initializer: expected one of {', '.join(sorted(_BY_NAME))}; got {shown(identifier)}"
            )
        return found()
    if isinstance(identifier, dict):
        name = identifier.get("class_name")
        if not isinstance(name, str) or not (name in _BY_NAME or name in _BY_CLASS):
            raise ValueError(
                f"initializer: expected a dict with a known 'class_name', got {shown(identifier)}"
            )
        return (_BY_NAME.get(name) or _BY_CLASS[name]).from_config(identifier.get("config", {}))
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
