"""Training a stack: losses, optimizers, and the loop of forward pass, cost, gradients and update.

The loop uses the public engine only (`Stack.record`, `Stack.forward`), and is deterministic for a key.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .keys import Key
from .sampling import check_key, uniform
from .stack import Stack

__all__ = [
    "SGD", "Adam", "History", "Momentum", "fit", "mean_squared_error", "predict", "softmax_cross_entropy",
]  # fmt: skip

Array = NDArray[Any]


# ---- losses: value, and gradient with respect to the outputs ------------------------------------


def softmax_cross_entropy(outputs: Array, targets: Any) -> tuple[float, Array]:
    """Mean cross-entropy of the softmax of `outputs`.

    Parameters
    ----------
    outputs : array_like of shape (batch, classes)
        Logits; integers count as float64.
    targets : array_like of shape (batch,) or (batch, classes)
        Class numbers in [0, classes), or a probability for each class: none negative, and of sum 1 within 1e-3.

    Returns
    -------
    value : float
        In nats, the mean over the batch.
    gradient : ndarray of shape (batch, classes)
        With respect to `outputs`, in their dtype.

    Raises
    ------
    ValueError, TypeError
        If the targets do not fit the outputs, or are not what is said above.
    """
    outputs = _outputs(outputs)
    targets = _class_targets(targets, outputs.shape)
    logits = outputs.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True, initial=-np.inf)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    n = max(1, len(outputs))
    if targets.ndim == 1:
        rows = np.arange(len(outputs))
        value = -log_softmax[rows, targets].sum() / n
        gradient = np.exp(log_softmax)
        gradient[rows, targets] -= 1
    else:
        value = -(targets * log_softmax).sum() / n
        gradient = np.exp(log_softmax) * targets.sum(axis=1, keepdims=True) - targets  # the sum: 1 but for rounding
    return float(value), (gradient / n).astype(outputs.dtype)


def mean_squared_error(outputs: Array, targets: Any) -> tuple[float, Array]:
    """Mean over batch and outputs of (output - target)^2.

    Parameters
    ----------
    outputs : array_like of shape (batch, n)
        Integers count as float64.
    targets : array_like of the same shape

    Returns
    -------
    value : float
    gradient : ndarray of shape (batch, n)
        With respect to `outputs`, in their dtype.

    Raises
    ------
    ValueError, TypeError
        If the shapes differ, a target is NaN, or something is no real number.
    """
    outputs = _outputs(outputs)
    targets = _real_targets(np.asarray(targets))
    if targets.shape != outputs.shape:
        raise ValueError(f"targets: expected shape {outputs.shape}, got {targets.shape}")
    difference = outputs.astype(np.float64) - targets
    n = max(1, difference.size)
    with np.errstate(over="ignore"):  # a diverging network has an infinite loss, which is the answer
        value = float((difference * difference).sum() / n)
        return value, (difference * (2 / n)).astype(outputs.dtype)


def _outputs(outputs: Any) -> Array:
    found = np.asarray(outputs)
    if found.ndim != 2:
        raise ValueError(f"outputs: expected shape (batch, n), got {found.shape}")
    if found.dtype.kind not in "fiub":
        raise TypeError(f"outputs: expected real numbers, got dtype {found.dtype}")
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def _real_targets(targets: Array) -> Array:
    if targets.dtype.kind not in "fiub":
        raise TypeError(f"targets: expected real numbers, got dtype {targets.dtype}")
    found = targets.astype(np.float64)
    if np.isnan(found).any():
        raise ValueError(f"targets: expected no NaN, got {int(np.isnan(found).sum())}")
    return found


def _class_targets(targets: Any, shape: tuple[int, ...]) -> Array:
    found = np.asarray(targets)
    if found.ndim == 1 and len(found) == shape[0]:
        if found.dtype.kind not in "iu":
            raise TypeError(f"targets: expected class numbers of an int dtype, got {found.dtype}")
        if found.size and not (found.min() >= 0 and found.max() < shape[1]):
            raise ValueError(
                f"targets: expected classes in [0, {shape[1]}), got [{found.min()}, {found.max()}]"
            )
        return found
    if found.shape == shape:
        found = _real_targets(found)
        sums = found.sum(axis=1)
        if found.size and (found.min() < 0 or np.abs(sums - 1).max() > 1e-3):
            raise ValueError(
                "targets: expected probabilities, none negative and of sum 1 in each row; "
                f"got a least one of {found.min()} and sums in [{sums.min()}, {sums.max()}]"
            )
        return found
    raise ValueError(f"targets: expected shape ({shape[0]},) or {shape}, got {found.shape}")


# ---- optimizers -------------------------------------------------------------------------------


def _rate(name: str, value: Any, *, low: float = 0.0, high: float = math.inf, closed: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__} {value!r}")
    if not (low <= value < high) or (value == low and not closed) or not math.isfinite(value):
        left = "[" if closed else "("
        raise ValueError(f"{name}: expected a number in {left}{low}, {high}), got {value}")
    return float(value)


class Optimizer(Protocol):
    """Makes, for the parameters of one fit, a function that updates them in place from their gradients."""

    def start(self, parameters: list[Array]) -> Callable[[list[Array]], None]: ...


@dataclass(frozen=True)
class SGD:
    """Gradient descent: w -= learning_rate * g."""

    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", _rate("learning_rate", self.learning_rate))

    def start(self, parameters: list[Array]) -> Callable[[list[Array]], None]:
        def update(gradients: list[Array]) -> None:
            for w, g in zip(parameters, gradients, strict=True):
                w -= w.dtype.type(self.learning_rate) * g

        return update


@dataclass(frozen=True)
class Momentum:
    """Heavy ball (Polyak, 1964): v = momentum * v + g; w -= learning_rate * v."""

    learning_rate: float = 0.01
    momentum: float = 0.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", _rate("learning_rate", self.learning_rate))
        object.__setattr__(self, "momentum", _rate("momentum", self.momentum, high=1.0, closed=True))

    def start(self, parameters: list[Array]) -> Callable[[list[Array]], None]:
        velocities = [np.zeros_like(w) for w in parameters]

        def update(gradients: list[Array]) -> None:
            for w, v, g in zip(parameters, velocities, gradients, strict=True):
                v *= w.dtype.type(self.momentum)
                v += g
                w -= w.dtype.type(self.learning_rate) * v

        return update


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction: Kingma & Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1."""

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
        first = [np.zeros_like(w) for w in parameters]
        second = [np.zeros_like(w) for w in parameters]
        step = 0

        def update(gradients: list[Array]) -> None:
            nonlocal step
            step += 1
            correct_1, correct_2 = 1 - self.beta_1**step, 1 - self.beta_2**step
            for w, m, v, g in zip(parameters, first, second, gradients, strict=True):
                real = w.dtype.type
                m *= real(self.beta_1)
                m += real(1 - self.beta_1) * g
                v *= real(self.beta_2)
                v += real(1 - self.beta_2) * g * g
                denominator = np.sqrt(v / real(correct_2)) + real(self.epsilon)
                w -= real(self.learning_rate / correct_1) * m / denominator

        return update


# ---- the loop ---------------------------------------------------------------------------------


@dataclass
class History:
    """What a fit went through, one entry an epoch.

    Attributes
    ----------
    loss : list of float
        Mean over the epoch's batches, before each update.
    accuracy : list of float
        Share of the training samples classified rightly, before each update; empty where the targets
        are no classes.
    validation_loss, validation_accuracy : list of float
        On the held-out data after the epoch; empty without any.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)


Loss = Callable[[Array, Any], tuple[float, Array]]


def _count(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an int >= 1, got {type(value).__name__} {value!r}") from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name}: expected an int >= 1, got {value!r}")
    return number


def _check_data(what: str, stack: Stack, x: Any, y: Any, loss: Loss) -> tuple[Array, Array]:
    """Samples and targets that the stack and the loss take, or an error before anything changes."""
    samples, targets = np.asarray(x), np.asarray(y)
    if samples.ndim != 2 or samples.shape[1] != stack.widths[0]:
        raise ValueError(
            f"{what} x: expected shape (samples, {stack.widths[0]}), got {samples.shape}"
        )
    if len(samples) == 0:
        raise ValueError(f"{what} x: expected at least one sample, got none")
    if targets.ndim == 0 or len(targets) != len(samples):
        raise ValueError(f"{what} y: expected {len(samples)} targets, got shape {targets.shape}")
    for name, array in (("x", samples), ("y", targets)):
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{what} {name}: expected real numbers, got dtype {array.dtype}")
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"{what} {name}: expected no NaN, got {int(np.isnan(array).sum())}")
    loss(np.zeros((len(targets), stack.widths[-1]), dtype=stack.dtype), targets)
    return np.ascontiguousarray(samples, dtype=stack.dtype), targets


def _check_roles(stack: Any, loss: Any, optimizer: Any, callback: Any) -> None:
    """What is called in the loop can be called, and what is updated can be written."""
    if not isinstance(stack, Stack):
        raise TypeError(f"stack: expected a fastinit.Stack, got {type(stack).__name__}")
    if not callable(loss):
        raise TypeError(f"loss: expected a function (outputs, targets) -> (value, gradient), got {loss!r}")
    if optimizer is not None and (isinstance(optimizer, type) or not hasattr(optimizer, "start")):
        raise TypeError(f"optimizer: expected an optimizer such as fastinit.SGD(0.01), got {optimizer!r}")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function (epoch, history), got {callback!r}")
    for what, arrays in (("weights", stack.weights), ("biases", stack.biases)):
        for i, array in enumerate(arrays):
            if not isinstance(array, np.ndarray) or not array.flags.writeable:
                raise ValueError(f"stack.{what}[{i}]: expected a writable array, got one that cannot be updated")


def _accuracy(outputs: Array, targets: Array) -> float:
    return float((outputs.argmax(axis=1) == targets).mean())


def fit(
    stack: Stack,
    x: Any,
    y: Any,
    *,
    loss: Loss = softmax_cross_entropy,
    optimizer: Optimizer | None = None,
    epochs: int = 10,
    batch_size: int | None = 32,
    key: Key | None = None,
    validation: tuple[Any, Any] | None = None,
    callback: Callable[[int, History], None] | None = None,
) -> History:
    """Train a stack, in place.

    Parameters
    ----------
    stack : Stack
    x : array_like of shape (samples, n_0)
    y : array_like
        Targets that `loss` takes: class numbers of shape (samples,), or rows.
    loss : function, default `softmax_cross_entropy`
        ``loss(outputs, targets) -> (value, gradient)``.
    optimizer : SGD, Momentum or Adam, default ``SGD()``
    epochs : int, default 10
        Passes over the data.
    batch_size : int or None, default 32
        Samples of an update, in an order drawn anew each epoch from ``key / "shuffle" / epoch``; the last batch
        may be smaller. None: all samples at once, in their own order.
    key : Key, optional
        Of the order of the samples; the stack's own key by default.
    validation : pair of arrays, optional
        Held-out ``(x, y)``.
    callback : function, optional
        ``callback(epoch, history)`` after every epoch.

    Returns
    -------
    History

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; nothing has been changed then.

    Notes
    -----
    A network that diverges is not an error: its loss becomes inf or NaN in the history.
    """
    _check_roles(stack, loss, optimizer, callback)
    samples, targets = _check_data("training", stack, x, y, loss)
    held_out = None
    if validation is not None:
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError(f"validation: expected a pair (x, y), got {type(validation).__name__}")
        held_out = _check_data("validation", stack, *validation, loss)
    epochs = _count("epochs", epochs)
    size = len(samples) if batch_size is None else _count("batch_size", batch_size)
    key = stack.key if key is None else check_key(key)
    optimizer = SGD() if optimizer is None else optimizer
    update = optimizer.start([*stack.weights, *stack.biases])
    classes = targets.ndim == 1 and targets.dtype.kind in "iu"

    history = History()
    for epoch in range(epochs):
        if batch_size is None:
            order = np.arange(len(samples))
        else:
            draws = uniform(len(samples), key=key / "shuffle" / epoch, dtype="float64")
            order = np.argsort(draws, kind="stable")
        total_loss, right = 0.0, 0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for start in range(0, len(samples), size):
                rows = order[start : start + size]
                batch, wanted = samples[rows], targets[rows]
                value = _step(stack, batch, wanted, loss, update)
                total_loss += value[0] * len(rows)
                right += int((value[1] == wanted).sum()) if classes else 0
            history.loss.append(total_loss / len(samples))
            if classes:
                history.accuracy.append(right / len(samples))
            if held_out is not None:
                outputs = stack.forward(held_out[0])
                history.validation_loss.append(loss(outputs, held_out[1])[0])
                if classes:
                    history.validation_accuracy.append(_accuracy(outputs, held_out[1]))
        if callback is not None:
            callback(epoch, history)
    return history


def _step(
    stack: Stack, x: Array, targets: Array, loss: Loss, update: Callable[[list[Array]], None]
) -> tuple[float, Array]:
    """Forward pass, cost, gradients, update; returns the loss and the predicted classes before it."""
    recording = stack.record(x)
    outputs = recording.output
    value, dy = loss(outputs, targets)
    # A diverged network has NaN gradients: they stay NaN, the loop goes on and the history says so.
    if np.isnan(dy).any():
        return value, outputs.argmax(axis=1)
    gradients = recording.backward(dy)
    update([*gradients.weights, *gradients.biases])
    return value, outputs.argmax(axis=1)


def predict(stack: Stack, x: Any) -> Array:
    """The class of each sample: the index of its largest output.

    Parameters
    ----------
    stack : Stack
    x : array_like of shape (samples, n_0)

    Returns
    -------
    ndarray of shape (samples,), int64

    Raises
    ------
    ValueError, TypeError
        As `Stack.forward`; also for a stack of one output, which has no classes, and where an output is NaN.
    """
    if not isinstance(stack, Stack):
        raise TypeError(f"stack: expected a fastinit.Stack, got {type(stack).__name__}")
    if stack.widths[-1] < 2:
        raise ValueError(f"stack: expected at least two outputs, one a class, got {stack.widths[-1]}")
    outputs = stack.forward(x)
    if np.isnan(outputs).any():
        rows = int(np.isnan(outputs).any(axis=1).sum())
        raise ValueError(f"stack: expected outputs without NaN, got {rows} of {len(outputs)} samples with one")
    classes: Array = outputs.argmax(axis=1)
    return classes
