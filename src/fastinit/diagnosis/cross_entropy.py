"""Whether a loss is a cross-entropy though its classes are not seen: the gradient of the logits shows it, and the classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .minimised import are_probabilities

__all__ = ["mean_cross_entropy"]

Array = NDArray[Any]

_CLOSE = 0.02  # what gradients in bfloat16 differ by, relative to the largest one of a row
_SMALLEST = 1e-30  # of a probability, whose logarithm is taken


def mean_cross_entropy(output: Array, gradient: Array, loss: float) -> float:
    """The mean cross-entropy that a loss contains, also where it is a sum, has weights or other terms beside it.

    The gradient of a cross-entropy with respect to a row of logits is a multiple of its softmax, less that multiple at the class.
    It is 0 where there is no class, or where the model is certain of it. Of two classes each gradient that sums to 0 has this
    form: then the proof is that the classes found so give the same loss.

    Parameters
    ----------
    output, gradient : ndarray of shape (..., C)
        Logits, or the probabilities behind a softmax, and the gradient of the loss with respect to them.
    loss : float

    Returns
    -------
    float
        NaN where the loss has no cross-entropy of this output.
    """
    classes = output.shape[-1]
    rows, back = (np.asarray(array).reshape(-1, classes) for array in (output, gradient))
    with np.errstate(all="ignore"):
        if are_probabilities(rows):
            softmax = rows / rows.sum(axis=-1, keepdims=True)
            logits = np.log(np.maximum(softmax, _SMALLEST))
            back = softmax * (back - (softmax * back).sum(axis=-1, keepdims=True))
        else:
            logits = rows - rows.max(axis=-1, keepdims=True)
            softmax = np.exp(logits)
            softmax /= softmax.sum(axis=-1, keepdims=True)
        size = np.abs(back).max(axis=-1)
        active = size > 0
        if not active.any() or not np.isfinite([loss, *size]).all():
            return math.nan
        each = np.arange(len(rows))
        label = back.argmin(axis=-1)
        others = np.maximum(1 - softmax[each, label], 1e-7)
        weight = np.where(active, -back[each, label] / others, 0.0)
        form = weight[:, None] * softmax
        form[each, label] -= weight
        if np.any(np.abs(back - form).max(axis=-1) > _CLOSE * size + 1e-3 * size.max()):
            return math.nan
        entropies = np.log(np.exp(logits).sum(axis=-1)) - logits[each, label]
        known = active & (others > 1e-3)  # where the weight is not lost in rounding
        found, whole = float(weight @ entropies), float(weight[known].mean() * active.sum()) if known.any() else math.nan
    alone = abs(loss - found) <= 0.01 * abs(loss)
    if not whole > 0 or (classes == 2 and not alone):
        return math.nan
    mean = whole <= 1.01 and whole * len(rows) >= 0.99 * active.sum()
    return loss if alone and mean else found / whole
