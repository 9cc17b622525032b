"""Training a stack: the loop of forward pass, cost, gradients and update.

The loop uses the public engine only (`Recorder`, `Stack.forward`), and is deterministic for a key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.arithmetic import ieee
from .._common.checks import any_array, no_nan, real_array, shown, whole_number
from .._engine.recorder import Recorder
from .._engine.stack import Stack
from .._engine.virtual_weights import DrawnWeights
from .._stream.keys import Key
from .._stream.sampling import check_key, uniform
from .losses import Loss, prepared, softmax_cross_entropy
from .optimizers import SGD, Adam, Momentum, Optimizer

__all__ = ["History", "fit", "predict"]

Array = NDArray[Any]


@dataclass
class History:
    """What a fit went through, one entry an epoch.

    Attributes
    ----------
    loss : list of float
        Mean over the epoch's batches, before each update.
    accuracy : list of float
        Share of the training samples whose largest output, the first of equal ones, is that of their class, before each
        update. A sample with a NaN output counts as wrong. Empty where the training targets name no classes.
    validation_loss, validation_accuracy : list of float
        The same on the held-out data after the epoch; empty without any, and the accuracy where their own targets name no
        classes.

    Notes
    -----
    Targets name classes as class numbers, or, for `softmax_cross_entropy`, as rows of probabilities: the class is that of
    the largest, the first of equal ones. Training and validation data may have either form. A stack of one output has no
    classes.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)


def _check_data(what: str, stack: Stack, x: Any, y: Any, loss: Loss) -> tuple[Array, Array, Array | None]:
    """Samples and targets that the stack and the loss take, and the targets' classes, or an error before anything changes."""
    samples, targets = real_array(f"{what} x", x), real_array(f"{what} y", y)
    if samples.ndim != 2 or samples.shape[1] != stack.widths[0]:
        raise ValueError(
            f"{what} x: expected shape (samples, {stack.widths[0]}), got {samples.shape}"
        )
    if len(samples) == 0:
        raise ValueError(f"{what} x: expected at least one sample, got none")
    if targets.ndim == 0 or len(targets) != len(samples):
        raise ValueError(f"{what} y: expected {len(samples)} targets, got shape {targets.shape}")
    no_nan(f"{what} x", samples)
    no_nan(f"{what} y", targets)
    shape = (len(targets), stack.widths[-1])
    if prepared(loss, targets, shape, f"{what} y") is None:
        _evaluated(loss, np.zeros(shape, dtype=stack.dtype), targets)
    with np.errstate(over="ignore"):  # as for a batch of the stack's
        return np.ascontiguousarray(samples, dtype=stack.dtype), targets, _classes(loss, targets, stack.widths[-1])


def _classes(loss: Loss, targets: Array, outputs: int) -> Array | None:
    """The class of each sample, where the targets name one; see `History`."""
    if outputs < 2:
        return None
    if targets.ndim == 1:
        return targets if targets.dtype.kind in "iu" else None
    return targets.argmax(axis=1) if loss is softmax_cross_entropy else None


def _evaluated(loss: Loss, outputs: Array, targets: Array) -> tuple[float, Array]:
    """What a function of the user's own gives: a number, and a gradient like the outputs."""
    found = loss(outputs, targets)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        what = f"{type(found).__name__} of {len(found)}" if isinstance(found, (tuple, list)) else type(found).__name__
        raise TypeError(f"loss: expected a function that returns (value, gradient), got one that returns {what}")
    value, gradient = any_array("loss: value", found[0]), any_array("loss: gradient", found[1])
    if value.size != 1 or value.dtype.kind not in "fiub":
        raise TypeError(f"loss: expected a value that is one real number, got {value.dtype} of shape {value.shape}")
    if gradient.dtype.kind not in "fiub":
        raise TypeError(f"loss: expected a gradient of real numbers, got dtype {gradient.dtype}")
    if gradient.shape != outputs.shape:
        raise ValueError(f"loss: expected a gradient of shape {outputs.shape}, that of the outputs, got {gradient.shape}")
    return value.item(), gradient


def _check_roles(stack: Any, loss: Any, optimizer: Any, callback: Any) -> None:
    """What is called in the loop can be called, and what is updated can be written."""
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
        stack._checked(what, arrays, nan=True)
        for i, array in enumerate(arrays):
            if not isinstance(array, np.ndarray) or not array.flags.writeable:
                raise ValueError(f"stack.{what}[{i}]: expected a writable array, got one that cannot be updated")


def _right(outputs: Array, classes: Array) -> int:
    """How many samples have their first largest output at their class; one with a NaN has none."""
    return int(((outputs.argmax(axis=1) == classes) & ~np.isnan(outputs).any(axis=1)).sum())


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
        Arrays in its `weights` and `biases` that the engine cannot update in place, being of another dtype or order, are
        replaced by copies.
    x : array_like of shape (samples, n_0)
    y : array_like
        Targets that `loss` takes: class numbers of shape (samples,), or rows.
    loss : function, default `softmax_cross_entropy`
        ``loss(outputs, targets) -> (value, gradient)``, the gradient of the outputs' shape. One of your own is called once
        with outputs of 0 for all targets first, to see that they fit.
    optimizer : SGD, Momentum or Adam, default ``SGD()``
        Or one of your own: ``start(parameters)`` returns a function that updates them in place from a list of gradients.
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
        ``callback(epoch, history)`` after every epoch. If it returns True itself (not 1, say), training ends there.

    Returns
    -------
    History

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or the stack is virtual; nothing has been changed then.

    Notes
    -----
    A network that diverges is not an error: its loss becomes inf or NaN in the history.

    After an exception out of a signal's handler, such as the KeyboardInterrupt of Ctrl-C, the parameters are those after a whole
    number of updates.
    """
    _check_roles(stack, loss, optimizer, callback)
    samples, targets, classes = _check_data("training", stack, x, y, loss)
    held_out = None
    if validation is not None:
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError(f"validation: expected a pair (x, y), got {type(validation).__name__}")
        held_out = _check_data("validation", stack, *validation, loss)
    epochs = whole_number("epochs", epochs)
    size = len(samples) if batch_size is None else whole_number("batch_size", batch_size)
    key = stack.key if key is None else check_key(key)
    optimizer = SGD() if optimizer is None else optimizer
    # What is no array of the stack's dtype in C order could not be updated in place by the engine.
    weights = stack._checked("weights", stack.weights, nan=True)
    biases = stack._checked("biases", stack.biases, nan=True)
    parameters = [*weights, *biases]
    update = optimizer.start(list(parameters))
    if not callable(update):
        raise TypeError(f"optimizer: expected a start() that returns a function of the gradients, got {shown(update)}")
    stack.weights, stack.biases = weights, biases
    if type(optimizer) not in (SGD, Momentum, Adam):
        update = _given_its_own(update)
    size = min(size, len(samples))
    order = np.arange(len(samples), dtype=np.int64)
    steps = {
        rows: _Step(stack, rows, samples, targets, classes, order, loss, update)
        for rows in {size, len(samples) % size} if rows
    }  # fmt: skip

    history = History()
    for epoch in range(epochs):
        if batch_size is not None:
            order[...] = shuffled(len(samples), key / "shuffle" / epoch)
        total_loss, right = 0.0, 0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for start in range(0, len(samples), size):
                rows = min(size, len(samples) - start)
                value, correct = steps[rows](start)
                total_loss += value * rows
                right += correct
            history.loss.append(total_loss / len(samples))
            if classes is not None:
                history.accuracy.append(right / len(samples))
            if held_out is not None:
                x_held, y_held, classes_held = held_out
                outputs = stack.forward(x_held)
                history.validation_loss.append(_evaluated(loss, outputs, y_held)[0])
                if classes_held is not None:
                    history.validation_accuracy.append(_right(outputs, classes_held) / len(outputs))
        done = callback is not None and callback(epoch, history) is True
        now = [*stack.weights, *stack.biases]
        if len(now) != len(parameters) or not all(a is b for a, b in zip(parameters, now, strict=True)):
            raise ValueError("loss, optimizer, callback: expected the stack's arrays to stay; assign into them")
        if done:
            break
    return history


def shuffled(samples: int, key: Key) -> Array:
    """The samples by the numbers drawn for them, the first of equal ones first."""
    order = np.empty(samples, dtype=np.int64)
    _core.order_by(uniform(samples, key=key, dtype="float64"), order)
    return order


def _given_its_own(update: Callable[[list[Array]], None]) -> Callable[[list[Array]], None]:
    """The update with copies of the gradients, which may be kept: the loop writes to the same arrays at each step."""
    return lambda gradients: update([g.copy() for g in gradients])


class _Step:
    """Forward pass, cost, gradients and update for batches of one size, in memory of its own."""

    def __init__(
        self, stack: Stack, rows: int, samples: Array, targets: Array, classes: Array | None, order: Array, loss: Loss,
        update: Callable[[list[Array]], None],
    ) -> None:  # fmt: skip
        self.recorder = recorder = Recorder(stack, rows)
        self.order, self.targets, self.classes, self.loss, self.update, self.rows = order, targets, classes, loss, update, rows
        gradients = [*recorder.weight_gradients, *recorder.bias_gradients]
        self.gradients: Any = _core.Held(gradients) if isinstance(update, _core.Descent) else gradients
        self.kernel = None
        outs, sources = [recorder.x], [samples]
        known = prepared(loss, targets, (len(targets), stack.widths[-1]))
        if known is not None:
            make, wanted = known
            outs.append(np.empty((rows, *wanted.shape[1:]), wanted.dtype))
            sources.append(wanted)
            self.kernel = make(recorder.output, outs[1], recorder.dy)
        self.gather = _core.Batches(outs, sources, order)

    def __call__(self, start: int) -> tuple[float, int]:
        """Loss and number of right classes of the samples order[start], ..., before the update."""
        self.gather(start)
        self.recorder.forward()
        if self.kernel is not None:
            value, right = self.kernel()
            dy, lost = None, value != value
        else:
            # By the user's function, on arrays that it may keep.
            outputs, picks = self.recorder.output.copy(), self.order[start : start + self.rows]
            right = 0 if self.classes is None else _right(outputs, self.classes[picks])
            value, dy = _evaluated(self.loss, outputs, self.targets[picks])
            lost = bool(np.isnan(dy).any())
            value = math.nan if lost else value
        # A diverged network has NaN gradients: the parameters stay, the loop goes on and the history says so.
        if not lost:
            self.recorder.backward(dy)
            self.update(self.gradients)
        return value, right


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
