"""Names of activation functions, and the functions themselves as the stack computes them."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .checks import shown

__all__ = ["evaluate", "name_of", "parse"]

_SPELLING = re.compile(r"(\w+)(?:\(\s*([^()\s]+)\s*\))?")


def parse(what: str, text: Any) -> tuple[int, float]:
    """The index in `_core.ACTIVATIONS`, and the parameter, of ``"tanh"`` or ``"leaky_relu(0.2)"``.

    A parameter is finite and >= 0, and the default of `_core.TRAITS` where none is given; 0 of a name that has none.

    Raises
    ------
    TypeError
        If `text` is no str.
    ValueError
        If it names no activation, or a parameter that does not fit.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what}: expected a str, got {type(text).__name__} {shown(text)}")
    found = _SPELLING.fullmatch(text)
    name = found[1] if found else text
    if name not in _core.ACTIVATIONS:
        raise ValueError(f"{what}: expected one of {', '.join(_core.ACTIVATIONS)}, got {shown(text)}")
    index, traits = _core.ACTIVATIONS.index(name), _core.TRAITS[name]
    if found is None or found[2] is None:
        return index, traits.default_parameter
    if not traits.parameter:
        raise ValueError(f"{what}: expected no parameter for {name}, got {shown(text)}")
    try:
        parameter = float(found[2])
    except ValueError:
        parameter = math.nan
    if not 0 <= parameter < math.inf:
        raise ValueError(f"{what}: expected {name}({traits.parameter}) with a finite {traits.parameter} >= 0, got {shown(text)}")
    return index, parameter


def name_of(activation: str) -> str:
    """The name of an activation without its parameter."""
    name: str = _core.ACTIVATIONS[parse("activation", activation)[0]]
    return name


def evaluate(index: int, parameter: float, z: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """phi(z) and phi'(z) in float64, of the shape of z."""
    z = np.asarray(z, dtype=np.float64, order="C")  # np.ascontiguousarray makes a number a vector
    values, derivatives = np.empty_like(z), np.empty_like(z)
    _core.activate(index, parameter, _core.DTYPES.index("float64"), z, values, derivatives)
    return values, derivatives
