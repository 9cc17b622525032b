"""Keras's attention layers: how sharp their weights are, from what their softmax is taken of."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import keras as _keras
import numpy as np
from numpy.typing import NDArray

from ..diagnosis.entropy import ROWS, mean_entropy, some_queries

__all__ = ["attends", "watch_attention"]

Array = NDArray[Any]
_layers = _keras.layers

_PROJECTED = (_layers.MultiHeadAttention, _layers.GroupQueryAttention)


def attends(layer: Any) -> bool:
    """Whether the weights of an attention layer can be seen; not where a subclass computes them in a way of its own."""
    if isinstance(layer, _PROJECTED):
        return type(layer)._compute_attention in [kind._compute_attention for kind in _PROJECTED]
    return isinstance(layer, _layers.Attention) and type(layer)._apply_scores is _layers.Attention._apply_scores


def watch_attention(layer: Any, array: Callable[[Any], Array], see: Callable[[Any, Callable[[], float]], Any]) -> None:
    """Replace the method in which an attention layer weights the values, by an attribute of the layer.

    Whether the layer computes its weights, or leaves them to a kernel of the backend, is not changed.

    Parameters
    ----------
    layer : keras.layers.Layer
        One that `attends`.
    array : callable
        From a tensor to its numbers.
    see : callable
        ``see(output, entropy)`` gets the weighted values and a function that computes the mean entropy of the weights, and
        returns the weighted values.
    """
    if isinstance(layer, _PROJECTED):
        compute = layer._compute_attention

        @functools.wraps(compute)
        def compute_attention(*args: Any, **kwargs: Any) -> Any:
            def entropy() -> float:
                given = inspect.signature(compute).bind(*args, **kwargs).arguments
                query, key, mask = (given.get(name) for name in ("query", "key", "attention_mask"))
                if query is None or key is None or query.ndim != 4:
                    return math.nan
                visible = None if mask is None else array(mask) != 0
                return _entropy_of_projected(array(query), array(key), visible, bool(given.get("use_causal_mask")))

            output, weights = compute(*args, **kwargs)
            return see(output, entropy), weights

        layer.__dict__["_compute_attention"] = compute_attention
        return
    apply = layer._apply_scores

    @functools.wraps(apply)
    def apply_scores(scores: Any, value: Any, scores_mask: Any = None, training: bool = False) -> Any:
        def entropy() -> float:
            logits = array(scores)
            if scores_mask is not None:
                visible = array(scores_mask) != 0
                visible = visible[:, None] if visible.ndim == 2 else visible
                logits = np.where(visible, logits, -math.inf)
            return mean_entropy(some_queries(logits))[0] if logits.size else math.nan

        output, weights = apply(scores, value, scores_mask=scores_mask, training=training)
        return see(output, entropy), weights

    layer.__dict__["_apply_scores"] = apply_scores


def _entropy_of_projected(query: Array, key: Array, mask: Array | None, causal: bool) -> float:
    """The mean entropy of attention weights.

    Parameters
    ----------
    query, key : ndarray of shape (batch, queries or keys, heads, size)
    mask : ndarray of bool whose shape broadcasts to (batch, [heads,] queries, keys), or None
        Where a query may look.
    causal : bool
        Whether query i sees keys 0 to i.
    """
    if not query.size or not key.size:
        return math.nan
    (batch, queries, heads, size), keys = query.shape, key.shape[1]
    samples, own = np.unravel_index(
        np.linspace(0, batch * heads - 1, min(batch * heads, ROWS)).astype(int), (batch, heads)
    )  # fmt: skip
    logits = np.matmul(query[samples, :, own], key[samples, :, own].transpose(0, 2, 1)) / math.sqrt(size)
    if mask is not None:
        mask = mask[:, None] if mask.ndim == 3 else mask
        logits = np.where(np.broadcast_to(mask, (batch, heads, queries, keys))[samples, own], logits, -math.inf)
    if causal:
        logits = np.where(np.tri(queries, keys, dtype=bool), logits, -math.inf)
    return mean_entropy(some_queries(logits))[0]
