"""The entropy of attention weights, from the logits that they are the softmax of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUERIES", "ROWS", "mean_entropy", "some_queries"]

Array = NDArray[Any]

ROWS, QUERIES = 16, 32  # pairs of a sample and a head, and queries of each, taken at equal distances
_MASKED = 5000.0  # a key whose logit is this far below the best one is masked: masks of finite numbers are -1e4 or less


def _evenly(length: int, most: int) -> Array:
    """At most so many indices at equal distances, the last one among them."""
    count = min(length, most)
    return np.arange(1, count + 1) * length // max(count, 1) - 1


def some_queries(logits: Any) -> Any:
    """Those that the mean is taken over.

    Parameters
    ----------
    logits : array of any framework, of shape (..., queries, keys)

    Returns
    -------
    array of shape (n, keys)
    """
    flat = logits.reshape(-1, *logits.shape[-2:])
    some = flat[_evenly(len(flat), ROWS)][:, _evenly(flat.shape[1], QUERIES)]
    return some.reshape(-1, logits.shape[-1])


def mean_entropy(logits: Array) -> tuple[float, float]:
    """Of the weights of each query the entropy by ln of how many keys it may see, on the mean over queries that see at least two.

    Parameters
    ----------
    logits : ndarray of shape (..., keys)
        A masked key's is -inf or far below the others.

    Returns
    -------
    entropy : float
        In [0, 1]; NaN where no query sees two keys.
    square : float
        Mean square of the logits of keys that are seen.
    """
    if not logits.size:
        return math.nan, math.nan
    exact = logits.astype(np.float64)
    with np.errstate(all="ignore"):
        below = exact - exact.max(axis=-1, keepdims=True)
        visible = below > -_MASKED
        weights = np.where(visible, np.exp(below), 0.0)
        weights /= weights.sum(axis=-1, keepdims=True)
        entropy = -np.where(weights > 0, weights * np.log(weights), 0.0).sum(axis=-1)
        keys = visible.sum(axis=-1)
        shares = (entropy / np.log(keys))[keys >= 2]
        square = np.square(exact[visible])
    return (float(shares.mean()) if shares.size else math.nan), (float(square.mean()) if square.size else math.nan)
