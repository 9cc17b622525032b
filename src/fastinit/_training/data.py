"""Samples, their targets, and the classes that targets name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import no_nan, real_array
from .._engine.stack import Stack
from .losses import Loss, evaluated, prepared, softmax_cross_entropy

__all__ = ["Data", "check_data", "number_correct"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Samples to train or to validate with.

    Attributes
    ----------
    x : ndarray of shape (samples, n_0)
        In the stack's dtype and C order.
    targets : ndarray of shape (samples, ...)
        As the loss takes them.
    classes : ndarray of int of shape (samples,), or None
        The class that each target names, see `History`.
    """

    x: Array
    targets: Array
    classes: Array | None


def check_data(what: str, stack: Stack, x: Any, y: Any, loss: Loss) -> Data:
    """Samples and targets that the stack and the loss take, or an error that calls them `what`."""
    samples, targets = real_array(f"{what} x", x), real_array(f"{what} y", y)
    if samples.ndim != 2 or samples.shape[1] != stack.widths[0]:
        raise ValueError(f"{what} x: expected shape (samples, {stack.widths[0]}), got {samples.shape}")
    if len(samples) == 0:
        raise ValueError(f"{what} x: expected at least one sample, got none")
    if targets.ndim == 0 or len(targets) != len(samples):
        raise ValueError(f"{what} y: expected {len(samples)} targets, got shape {targets.shape}")
    no_nan(f"{what} x", samples)
    no_nan(f"{what} y", targets)
    shape = (len(targets), stack.widths[-1])
    if prepared(loss, targets, shape, f"{what} y") is None:
        evaluated(loss, np.zeros(shape, dtype=stack.dtype), targets)
    with np.errstate(over="ignore"):  # as for a batch of the stack's
        samples = np.ascontiguousarray(samples, dtype=stack.dtype)
    return Data(samples, targets, _classes(loss, targets, stack.widths[-1]))


def _classes(loss: Loss, targets: Array, outputs: int) -> Array | None:
    """The class of each sample, where the targets name one."""
    if outputs < 2:
        return None
    if targets.ndim == 1:
        return targets if targets.dtype.kind in "iu" else None
    return targets.argmax(axis=1) if loss is softmax_cross_entropy else None


def number_correct(outputs: Array, classes: Array) -> int:
    """How many samples have their first largest output at their class; one with a NaN has none."""
    return int(((outputs.argmax(axis=1) == classes) & ~np.isnan(outputs).any(axis=1)).sum())
