"""Optimizers: they update parameters in place from their gradients, by one call of the C core a step.

Every operation rounds by itself, in the order that csrc/training/optimizer_template.h gives: the same bits on every machine.
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


def _in_interval(name: str, value: Any, *, low: float = 0.0, high: float = math.inf, closed: bool = False) -> float:
    """A real number between `low` and `high`, without them; with `closed` it may be `low`."""
    number = real_number(name, value)
    if not (low <= number < high) or (number == low and not closed):
        raise ValueError(f"{name}: expected a number in {'[' if closed else '('}{low}, {high}), got {shown(value)}")
    return number


def _check_representable(name: str, value: float, parameters: list[Array]) -> None:
    """Refuse a number that rounds to 0 or infinity in the dtype of a parameter."""
    for dtype in {array.dtype for array in parameters}:
        info = np.finfo(dtype)
        if not float(info.smallest_subnormal) <= value <= float(info.max):
            raise ValueError(f"{name}: expected a number in the range of {dtype}, that of the parameters, got {value}")


class Optimizer(Protocol):
    """What `fit` takes for an optimizer: settings without state, from which each training starts anew."""

    def start(self, parameters: list[Array]) -> Callable[[list[Array]], None]:
        """A function that makes one step: it updates the parameters in place from their gradients.

        Parameters
        ----------
        parameters : list of ndarray
            The built-in optimizers take writable C-contiguous arrays of float32 or float64 of which no two overlap.

        Returns
        -------
        function
            Of a list of gradients, arrays like the parameters, with memory of their own. Several threads may call that of a
            built-in optimizer: each call is one step, and they take turns.
        """
        ...


def _descent(name: str, parameters: list[Array], *numbers: float) -> _core.Descent:
    """The function of a built-in optimizer that makes the steps of some parameters."""
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
    _check_representable("learning_rate", numbers[0], parameters)
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
        If a parameter is not a real number, or is a bool.
    ValueError
        If a parameter is outside its interval. `start` also refuses a rate that rounds to 0 or infinity in an array's dtype.

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
        object.__setattr__(self, "learning_rate", _in_interval("learning_rate", self.learning_rate))

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
        The factor of v in each step; with 0 this is gradient descent.

    Raises
    ------
    TypeError
        If a parameter is not a real number, or is a bool.
    ValueError
        If a parameter is outside its interval. `start` also refuses a rate that rounds to 0 or infinity in an array's dtype.

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
        object.__setattr__(self, "learning_rate", _in_interval("learning_rate", self.learning_rate))
        object.__setattr__(self, "momentum", _in_interval("momentum", self.momentum, high=1.0, closed=True))

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
        The factor of m, a moving average of gradients, in each step.
    beta_2 : float, in [0, 1), default 0.999
        The factor of v, a moving average of squared gradients, in each step.
    epsilon : float, in (0, inf), default 1e-8
        Added to the divisor, which it keeps from 0.

    Raises
    ------
    TypeError
        If a parameter is not a real number, or is a bool.
    ValueError
        If a parameter is outside its interval. `start` also refuses a rate, or an epsilon * sqrt(1 - beta_2), that rounds to 0
        or infinity in an array's dtype.

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
        object.__setattr__(self, "learning_rate", _in_interval("learning_rate", self.learning_rate))
        object.__setattr__(self, "beta_1", _in_interval("beta_1", self.beta_1, high=1.0, closed=True))
        object.__setattr__(self, "beta_2", _in_interval("beta_2", self.beta_2, high=1.0, closed=True))
        object.__setattr__(self, "epsilon", _in_interval("epsilon", self.epsilon))

    def start(self, parameters: list[Array]) -> Callable[[list[Array]], None]:
        update = _descent("adam", parameters, self.learning_rate, self.beta_1, self.beta_2, self.epsilon)
        # The core divides by sqrt(v) + epsilon * sqrt(1 - beta_2^t), whose last term is smallest at the first step, t = 1, and
        # the whole divisor where v is 0.
        _check_representable("epsilon * sqrt(1 - beta_2)", self.epsilon * math.sqrt(1 - self.beta_2), parameters)
        return update
