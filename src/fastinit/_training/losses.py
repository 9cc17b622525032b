"""Losses: value, and gradient with respect to the outputs.

Both come from one pass in C, in double precision, in a fixed order and without the C library's functions: they have the same
bits on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.arithmetic import ieee
from .._common.checks import any_array, no_nan, real_array

__all__ = ["Loss", "evaluated", "mean_squared_error", "prepared", "softmax_cross_entropy"]

Array = NDArray[Any]
Loss = Callable[[Array, Any], tuple[float, Array]]

# A built-in loss, bound to its arrays: a call reads outputs and targets, writes the gradient, and returns the value and how
# many outputs name the correct class.
Kernel = Callable[[], tuple[float, int]]


@ieee
def softmax_cross_entropy(outputs: Array, targets: Any) -> tuple[float, Array]:
    """Mean cross-entropy of the softmax of `outputs`.

    Parameters
    ----------
    outputs : array_like of shape (batch, classes)
        Logits; integers count as float64.
    targets : array_like of shape (batch,) or (batch, classes)
        Class numbers in [0, classes), or the probability of each class: none negative, and their sum within 1e-3 of 1.

    Returns
    -------
    value : float
        In nats, the mean over the batch.
    gradient : ndarray of shape (batch, classes)
        With respect to `outputs`, in their dtype.

    Raises
    ------
    ValueError, TypeError
        If the targets do not fit the outputs, or are neither class numbers nor probabilities as above.
    """
    outputs = _outputs(outputs)
    targets = _class_targets(targets, outputs.shape)
    return _evaluate(cross_entropy_kernel, outputs, targets)


@ieee
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
        If the shapes differ, a target is NaN, or outputs or targets are not real numbers.
    """
    outputs = _outputs(outputs)
    return _evaluate(squared_error_kernel, outputs, _like_outputs(targets, outputs.shape))


def _outputs(outputs: Any) -> Array:
    found = real_array("outputs", outputs)
    if found.ndim != 2:
        raise ValueError(f"outputs: expected shape (batch, n), got {found.shape}")
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def _real_targets(targets: Any, what: str) -> Array:
    found = np.require(real_array(what, targets), np.float64, ("C", "A"))
    no_nan(what, found)
    return found


def _like_outputs(targets: Any, shape: tuple[int, ...], what: str = "targets") -> Array:
    found = _real_targets(targets, what)
    if found.shape != shape:
        raise ValueError(f"{what}: expected shape {shape}, got {found.shape}")
    return found


def _class_targets(targets: Any, shape: tuple[int, ...], what: str = "targets") -> Array:
    found = real_array(what, targets)
    hint = "; the only output is the only class here: take mean_squared_error for numbers" if shape[1] == 1 else ""
    if found.ndim == 1 and len(found) == shape[0]:
        if found.dtype.kind not in "iu":
            raise TypeError(f"{what}: expected class numbers of an int dtype, got {found.dtype}{hint}")
        if found.size and not (found.min() >= 0 and found.max() < shape[1]):
            raise ValueError(f"{what}: expected classes in [0, {shape[1]}), got [{found.min()}, {found.max()}]{hint}")
        return np.require(found, np.int64, ("C", "A"))
    if found.shape == shape:
        found = _real_targets(found, what)
        sums = found.sum(axis=1)
        if found.size and (found.min() < 0 or np.abs(sums - 1).max() > 1e-3):
            raise ValueError(
                f"{what}: expected probabilities, none negative and of sum 1 in each row; "
                f"got a least one of {found.min()} and sums in [{sums.min()}, {sums.max()}]{hint}"
            )
        return found
    raise ValueError(f"{what}: expected shape ({shape[0]},) or {shape}, got {found.shape}")


def evaluated(loss: Loss, outputs: Array, targets: Array) -> tuple[float, Array]:
    """Value and gradient of a loss, which may be the user's function: refused unless a number and an array like the outputs."""
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


# ---- for a training loop: targets are checked once, batches of them are not checked again -------


def prepared(
    loss: Loss, targets: Array, shape: tuple[int, int], what: str = "targets"
) -> tuple[Callable[[Array, Array, Array], Kernel], Array] | None:
    """For a built-in loss what makes its kernel, and the targets as that takes them; None for another loss.

    The targets are checked for outputs of the shape; errors call them `what`.
    """
    if loss is mean_squared_error:
        return squared_error_kernel, _like_outputs(targets, shape, what)
    if loss is softmax_cross_entropy:
        return cross_entropy_kernel, _class_targets(targets, shape, what)
    return None


def _code(array: Array) -> int:
    """The index of float32 or float64 in `_core.DTYPES`; by the size, as asking for the name takes longer than a small batch."""
    return array.itemsize // 8


def cross_entropy_kernel(outputs: Array, targets: Array, gradient: Array) -> Kernel:
    labels, probabilities = (targets, None) if targets.ndim == 1 else (None, targets)
    batch, classes = outputs.shape
    return _core.CrossEntropy(_code(outputs), batch, classes, outputs, labels, probabilities, gradient)


def squared_error_kernel(outputs: Array, targets: Array, gradient: Array) -> Kernel:
    return _core.SquaredError(_code(outputs), outputs.size, outputs, targets, gradient)


def _evaluate(kernel: Callable[[Array, Array, Array], Kernel], outputs: Array, targets: Array) -> tuple[float, Array]:
    real = np.float32 if outputs.dtype.name == "float32" else np.float64
    gradient = np.empty(outputs.shape, real)
    value, _ = kernel(np.require(outputs, real, ("C", "A")), targets, gradient)()
    return value, gradient.astype(outputs.dtype, copy=False)
