"""One epoch of training: all samples in batches, and for each batch forward pass, loss, backward pass and update."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._engine.recorder import Recorder
from .._engine.stack import Stack
from .data import Data, number_correct
from .losses import Loss, evaluated, prepared

__all__ = ["Epoch"]

Array = NDArray[Any]
Update = Callable[[list[Array]], None]


class Epoch:
    """The same work for every epoch, in memory that every epoch uses again.

    Parameters
    ----------
    stack : Stack
    data : Data
    loss : function
    update : function
        Of the gradients of weights and biases; the arrays are the same ones at each call.
    batch_size : int, >= 1
        The last batch has the rest of the samples.

    Attributes
    ----------
    order : ndarray of shape (samples,) in int64
        Numbers of the samples in the order in which they are taken; may be written to between epochs.
    """

    def __init__(self, stack: Stack, data: Data, loss: Loss, update: Update, batch_size: int) -> None:
        samples = len(data.x)
        self.order = np.arange(samples, dtype=np.int64)
        self._batch_size = min(batch_size, samples)
        sizes = {self._batch_size, samples % self._batch_size} - {0}
        self._steps = {rows: _Step(stack, rows, data, self.order, loss, update) for rows in sizes}

    def __call__(self) -> tuple[float, int]:
        """Go over all samples once: their mean loss, and how many were classified correctly, each before its batch's update."""
        total_loss, correct, samples = 0.0, 0, len(self.order)
        for start in range(0, samples, self._batch_size):
            rows = min(self._batch_size, samples - start)
            value, correct_here = self._steps[rows](start)
            total_loss += value * rows
            correct += correct_here
        return total_loss / samples, correct


class _Step:
    """Forward pass, loss, backward pass and update for batches of one size."""

    def __init__(self, stack: Stack, rows: int, data: Data, order: Array, loss: Loss, update: Update) -> None:
        self._recorder = recorder = Recorder(stack, rows)
        self._rows, self._data, self._order, self._loss, self._update = rows, data, order, loss, update
        gradients = [*recorder.weight_gradients, *recorder.bias_gradients]
        self._gradients: Any = _core.Held(gradients) if isinstance(update, _core.Descent) else gradients
        self._kernel = None  # of a built-in loss
        batch, sources = [recorder.x], [data.x]
        built_in = prepared(loss, data.targets, (len(data.targets), stack.widths[-1]))
        if built_in is not None:
            make_kernel, targets = built_in
            batch.append(np.empty((rows, *targets.shape[1:]), targets.dtype))
            sources.append(targets)
            self._kernel = make_kernel(recorder.output, batch[1], recorder.dy)
        self._gather = _core.Batches(batch, sources, order)

    def __call__(self, start: int) -> tuple[float, int]:
        """Mean loss and number of correct classes of the samples order[start], order[start + 1], ..., before the update."""
        self._gather(start)
        self._recorder.forward()
        if self._kernel is not None:
            value, correct = self._kernel()
            dy, diverged = None, value != value
        else:
            # The user's function may keep the arrays that it gets.
            outputs, picks = self._recorder.output.copy(), self._order[start : start + self._rows]
            classes = self._data.classes
            correct = 0 if classes is None else number_correct(outputs, classes[picks])
            value, dy = evaluated(self._loss, outputs, self._data.targets[picks])
            diverged = bool(np.isnan(dy).any())
            value = math.nan if diverged else value
        # A network that has diverged has NaN gradients: its parameters stay, and the history shows the NaN loss.
        if not diverged:
            self._recorder.backward(dy)
            self._update(self._gradients)
        return value, correct
