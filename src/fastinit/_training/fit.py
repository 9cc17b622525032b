"""Training a stack, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.arithmetic import ieee
from .._common.checks import shown, whole_number
from .._engine.arguments import check_parameters
from .._engine.stack import Stack
from .._engine.virtual_weights import DrawnWeights
from .._stream.keys import Key, check_key
from .._stream.sampling import uniform
from .data import Data, check_data, number_correct
from .epoch import Epoch, Update
from .losses import Loss, evaluated, softmax_cross_entropy
from .optimizers import SGD, Adam, Momentum, Optimizer

__all__ = ["History", "fit", "predict"]

Array = NDArray[Any]


@dataclass
class History:
    """Losses and accuracies of a training, one entry an epoch.

    Attributes
    ----------
    loss : list of float
        Mean over the training samples, each in its batch before the update by that batch.
    accuracy : list of float
        The fraction, in [0, 1], of the training samples whose largest output, the first of equal ones, is that of their class,
        before the update, too. A sample with a NaN output counts as wrong. Empty if the training targets name no classes.
    validation_loss, validation_accuracy : list of float
        The same for the held-out data after each epoch. Both are empty without such data, and the accuracy if its targets name
        no classes.

    Notes
    -----
    Targets name classes by class numbers or, for `softmax_cross_entropy`, by rows of probabilities, whose class is that of the
    largest, the first of equal ones. Training and validation data may have different forms. A stack of one output has no
    classes.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)


@ieee
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
    callback: Callable[[int, History], object] | None = None,
) -> History:
    """Train a stack, in place.

    Parameters
    ----------
    stack : Stack
        Arrays in its `weights` and `biases` that cannot be updated in place, being of another dtype or order, are replaced by
        copies.
    x : array_like of shape (samples, n_0)
    y : array_like
        Targets that `loss` takes: class numbers of shape (samples,), or rows.
    loss : function, default `softmax_cross_entropy`
        ``loss(outputs, targets) -> (value, gradient)``, the gradient of the outputs' shape. A function of your own is first
        called once for all targets with outputs of 0, to see whether they fit.
    optimizer : SGD, Momentum or Adam, default ``SGD()``
        Or an object of your own whose ``start(parameters)`` returns a function that updates them in place from a list of
        gradients.
    epochs : int, default 10
        Passes over the data.
    batch_size : int or None, default 32
        Samples in a batch; they are taken in an order that each epoch draws from ``key / "shuffle" / epoch``, and the last
        batch may be smaller. None: all samples in one batch, in their own order.
    key : Key, optional
        Decides the order of the samples; the stack's own key by default.
    validation : pair of arrays, optional
        Held-out ``(x, y)``.
    callback : function, optional
        ``callback(epoch, history)`` after every epoch. Training ends if it returns True (the bool itself, not 1, say).

    Returns
    -------
    History

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or the stack is virtual; nothing has changed then.

    Notes
    -----
    A network that diverges is not an error: its loss becomes inf or NaN in the history.

    After an exception from a signal's handler, such as the KeyboardInterrupt of Ctrl-C, the parameters are those after a whole
    number of updates.
    """
    _check_roles(stack, loss, optimizer, callback)
    data = check_data("training", stack, x, y, loss)
    held_out = None
    if validation is not None:
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError(f"validation: expected a pair (x, y), got {type(validation).__name__}")
        held_out = check_data("validation", stack, *validation, loss)
    samples = len(data.x)
    epochs = whole_number("epochs", epochs)
    rows = samples if batch_size is None else whole_number("batch_size", batch_size)
    key = stack.key if key is None else check_key(key)
    parameters, update = _started(SGD() if optimizer is None else optimizer, stack)
    run_epoch = Epoch(stack, data, loss, update, rows)

    history = History()
    for epoch in range(epochs):
        if batch_size is not None:
            run_epoch.order[...] = shuffled(samples, key / "shuffle" / epoch)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            value, correct = run_epoch()
            history.loss.append(value)
            if data.classes is not None:
                history.accuracy.append(correct / samples)
            if held_out is not None:
                _validate(stack, held_out, loss, history)
        done = callback is not None and callback(epoch, history) is True
        now = [*stack.weights, *stack.biases]
        if len(now) != len(parameters) or not all(a is b for a, b in zip(parameters, now, strict=True)):
            raise ValueError("loss, optimizer, callback: expected the stack's arrays to stay; assign into them")
        if done:
            break
    return history


def _check_roles(stack: Any, loss: Any, optimizer: Any, callback: Any) -> None:
    """What the loop calls can be called, and what it updates can be written."""
    if not isinstance(stack, Stack):
        raise TypeError(f"stack: expected a fastinit.Stack, got {type(stack).__name__}")
    if not callable(loss):
        raise TypeError(f"loss: expected a function (outputs, targets) -> (value, gradient), got {shown(loss)}")
    if optimizer is not None and (isinstance(optimizer, type) or not callable(getattr(optimizer, "start", None))):
        raise TypeError(f"optimizer: expected an optimizer such as fastinit.SGD(0.01), got {shown(optimizer)}")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function (epoch, history), got {shown(callback)}")
    if isinstance(stack.weights, DrawnWeights):
        raise ValueError("stack: expected stored weights to train, got a virtual stack")
    for what, arrays in (("weights", stack.weights), ("biases", stack.biases)):
        check_parameters(what, arrays, stack.widths, stack.dtype, nan=True)
        for i, array in enumerate(arrays):
            if not isinstance(array, np.ndarray) or not array.flags.writeable:
                raise ValueError(f"stack.{what}[{i}]: expected a writable array, got one that cannot be updated")


def _started(optimizer: Optimizer, stack: Stack) -> tuple[list[Array], Update]:
    """The stack's parameters, copied where the core could not update them in place, and what updates them."""
    weights = check_parameters("weights", stack.weights, stack.widths, stack.dtype, nan=True)
    biases = check_parameters("biases", stack.biases, stack.widths, stack.dtype, nan=True)
    parameters = [*weights, *biases]
    update = optimizer.start(list(parameters))
    if not callable(update):
        raise TypeError(f"optimizer: expected a start() that returns a function of the gradients, got {shown(update)}")
    stack.weights, stack.biases = weights, biases
    if type(optimizer) in (SGD, Momentum, Adam):
        return parameters, update
    # The user's function may keep its gradients, and the loop writes to the same arrays at each step.
    return parameters, lambda gradients: update([g.copy() for g in gradients])


def _validate(stack: Stack, held_out: Data, loss: Loss, history: History) -> None:
    """Add the loss on held-out data to the history, and the accuracy where its targets name classes."""
    outputs = stack.forward(held_out.x)
    history.validation_loss.append(evaluated(loss, outputs, held_out.targets)[0])
    if held_out.classes is not None:
        history.validation_accuracy.append(number_correct(outputs, held_out.classes) / len(outputs))


def shuffled(samples: int, key: Key) -> Array:
    """The numbers 0, 1, ..., sorted by a uniform number drawn for each; of equal ones the lower number comes first."""
    order = np.empty(samples, dtype=np.int64)
    _core.order_by(uniform(samples, key=key, dtype="float64"), order)
    return order


@ieee
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
        As for `Stack.forward`; also if the stack has one output, which names no class, or an output is NaN.
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
