"""Optimizers: parameters from their gradients, in place, by one call of the C core a step.

Every operation rounds by itself in a written order (csrc/training/optimizer_template.h): the same bits on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.arithmetic import ieee
from .._common.checks import check_apart, real_number, shown, unmasked

__all__ = ["SGD", "Adam", "Momentum", "Optimizer"]

Array = NDArray[Any]


def _rate(name: str, value: Any, *, low: float = 0.0, high: float = math.inf, closed: bool = False) -> float:
    number = real_number(name, value)
    if not (low <= number < high) or (number == low and not closed):
        raise ValueError(f"{name}: expected a number in {'[' if closed else '('}{low}, {high}), got {shown(value)}")
    return number


def _held(name: str, value: float, parameters: list[Array]) -> None:
    """Refuse a number that rounds to 0 or infinity in a dtype of the parameters."""
    for dtype in {array.dtype for array in parameters}:
        info = np.finfo(dtype)
        if not float(info.smallest_subnormal) <= value <= float(info.max):
            raise ValueError(f"{name}: expected a number in the range of {dtype}, that of the parameters, got {value}")


class Optimizer(Protocol):
    """Makes, for the parameters of one fit, a function that updates them in place from their gradients.

    The built-in ones' parameters are writable C-contiguous arrays of float32 or float64, none of which overlap, and so are the
    gradients, which may be read-only. Several threads may call the function: each call is one step, and they take turns.
    """

    def start(self, parameters: list[Array]) -> Callable[[list[Array]], None]: ...


def _descent(name: str, parameters: list[Array], *numbers: float) -> _core.Descent:
    """The built-in optimizer at work on some arrays."""
    if not isinstance(parameters, (list, tuple)):
        raise TypeError(f"parameters: expected a list of arrays, got {type(parameters).__name__}")
    for i, array in enumerate(parameters):
        unmasked(f"parameters[{i}]", array)
        if not isinstance(array, np.ndarray) or array.dtype.name not in ("float32", "float64"):
            found = shown(getattr(array, "dtype", array))
            raise TypeError(f"parameters[{i}]: expected an array of float32 or float64, got {found}")
        if not array.dtype.isnative:
            raise TypeError(f"parameters[{i}]: expected native byte order, got {array.dtype}")
        if not array.flags.carray:
            raise ValueError(f"parameters[{i}]: expected a writable, aligned, C-contiguous array")
    check_apart("parameters", [(*_core.span(array), i) for i, array in enumerate(parameters)])
    _held("learning_rate", numbers[0], parameters)
    return _core.Descent(_core.OPTIMIZERS.index(name), list(parameters), *numbers)


@dataclass(frozen=True)
@ieee
class SGD:
    """Gradient descent: w -= learning_rate * g.

    Parameters
    ----------
    learning_rate : float, in (0, inf), default 0.01

    Raises
    ------
    TypeError
        If a parameter is no real number; a bool is none.
    ValueError
        If a parameter is outside its interval.
        `start` also refuses a rate that rounds to 0 or infinity in the arrays' dtype.

    Examples
    --------
    >>> w = np.ones(2)
    >>> step = SGD(0.5).start([w])
    >>> step([np.array([1.0, 2.0])])
    >>> w
    array([0.5, 0. ])
    """

    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", _rate("learning_rate", self.learning_rate))

    def start(self, parameters: list[Array]) -> Callable[[list[Array]], None]:
        return _descent("sgd", parameters, self.learning_rate)


@dataclass(frozen=True)
@ieee
class Momentum:
    """Heavy ball (Polyak, 1964): v = momentum * v + g; w -= learning_rate * v.

    v is 0 before the first step, and has the shape and the dtype of w.

    Parameters
    ----------
    learning_rate : float, in (0, inf), default 0.01
    momentum : float, in [0, 1), default 0.9
        Share of v that a step keeps; with 0 it is gradient descent.

    Raises
    ------
    TypeError
        If a parameter is no real number; a bool is none.
    ValueError
        If a parameter is outside its interval.
        `start` also refuses a rate that rounds to 0 or infinity in the arrays' dtype.

    Examples
    --------
    >>> w = np.ones(1)
    >>> step = Momentum(0.25, momentum=0.5).start([w])
    >>> for _ in range(2):
    ...     step([np.ones(1)])
    >>> w
    array([0.375])
    """

    learning_rate: float = 0.01
    momentum: float = 0.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", _rate("learning_rate", self.learning_rate))
        object.__setattr__(self, "momentum", _rate("momentum", self.momentum, high=1.0, closed=True))

    def start(self, parameters: list[Array]) -> Callable[[list[Array]], None]:
        return _descent("momentum", parameters, self.learning_rate, self.momentum)


@dataclass(frozen=True)
@ieee
class Adam:
    """Adam with bias correction: Kingma & Ba, "Adam: a method for stochastic optimization" (2015),
    algorithm 1.

    m = beta_1 * m + (1 - beta_1) * g and v = beta_2 * v + (1 - beta_2) * g^2, both 0 before the first step.
    Step t is w -= learning_rate * (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon).

    Parameters
    ----------
    learning_rate : float, in (0, inf), default 0.001
    beta_1 : float, in [0, 1), default 0.9
        Share of m, the mean of gradients, that a step keeps.
    beta_2 : float, in [0, 1), default 0.999
        Share of v, the mean of squared gradients, that a step keeps.
    epsilon : float, in (0, inf), default 1e-8
        What keeps the divisor from 0.

    Raises
    ------
    TypeError
        If a parameter is no real number; a bool is none.
    ValueError
        If a parameter is outside its interval.
        `start` also refuses a rate, or an epsilon * sqrt(1 - beta_2),
        that rounds to 0 or infinity in the arrays' dtype.

    Examples
    --------
    >>> w = np.ones(2)
    >>> step = Adam(0.25).start([w])
    >>> step([np.array([3.0, -4.0])])  # the first step is by the learning rate, however large the gradient
    >>> w.round(6)
    array([0.75, 1.25])
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", _rate("learning_rate", self.learning_rate))
        object.__setattr__(self, "beta_1", _rate("beta_1", self.beta_1, high=1.0, closed=True))
        object.__setattr__(self, "beta_2", _rate("beta_2", self.beta_2, high=1.0, closed=True))
        object.__setattr__(self, "epsilon", _rate("epsilon", self.epsilon))

    def start(self, parameters: list[Array]) -> Callable[[list[Array]], None]:
        update = _descent("adam", parameters, self.learning_rate, self.beta_1, self.beta_2, self.epsilon)
        # The first step's is the smallest: where a gradient is 0, it alone is divided by.
        _held("epsilon * sqrt(1 - beta_2)", self.epsilon * math.sqrt(1 - self.beta_2), parameters)
        return update
