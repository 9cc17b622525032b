"""Every number of a pass, layer by layer: the matrices themselves, their histograms and percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._common.checks import real_array, shown, whole_number
from .._common.dtypes import new_array

__all__ = ["QUANTITIES", "LayerValues", "check_bins", "check_percentiles", "new_trace", "norm_of", "summaries"]

Array = NDArray[Any]

QUANTITIES = ("pre_activation", "activation", "gradient")  # in the order of `_core.LAYER_STATISTICS`


class LayerValues(NamedTuple):
    """What one layer computed for a batch.

    Attributes
    ----------
    pre_activation : ndarray of shape (batch, n_{i+1})
        z = a W + b.
    activation : ndarray of shape (batch, n_{i+1})
        What the layer passes on: phi(z), or x + alpha phi(z) where a residual block ends.
    """

    pre_activation: Array
    activation: Array


def new_trace(widths: tuple[int, ...], rows: int, dtype: str, quantities: int) -> list[Array | None]:
    """Memory for the first so many of `QUANTITIES`, as the binding takes it: of all layers the one, then the next."""
    return [
        new_array((rows, width), dtype) if quantity < quantities else None for quantity in range(3) for width in widths[1:]
    ]


def check_bins(bins: Any) -> int | Array:
    """A number of bins, or the edges between them."""
    if not isinstance(bins, (Sequence, np.ndarray)) or isinstance(bins, str):
        return whole_number("histograms", bins, most=1 << 24)
    edges = real_array("histograms", bins).astype(np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or not (edges[1:] > edges[:-1]).all():
        raise ValueError(f"histograms: expected a number of bins, or at least two edges that rise, got {shown(bins)}")
    return edges


def check_percentiles(percentiles: Any) -> Array:
    """Percentages in [0, 100]."""
    points = real_array("percentiles", percentiles).astype(np.float64)
    if points.ndim != 1 or not ((points >= 0) & (points <= 100)).all():
        raise ValueError(f"percentiles: expected numbers in [0, 100], got {shown(percentiles)}")
    return points


def norm_of(weight: Any) -> float:
    """The Euclidean norm, in float64; NumPy sums pairwise, in an order that no machine changes."""
    return float(np.sqrt(np.add.reduce(np.square(real_array("weights", weight), dtype=np.float64, order="C"), axis=None)))


def summaries(trace: list[Any], bins: int | Array | None, points: Array | None) -> dict[str, Any]:
    """The fields of a `Propagation` that are made from every number."""
    depth = len(trace) // 3
    of = {name: trace[i * depth : (i + 1) * depth] for i, name in enumerate(QUANTITIES)}
    found: dict[str, Any] = {}
    if bins is not None:
        found["histograms"] = {name: [_histogram(layer, bins) for layer in layers] for name, layers in of.items()}
    if points is not None:
        found["percentiles"] = {
            name: np.array([_percentiles(layer, points) for layer in layers]).reshape(depth, len(points))
            for name, layers in of.items()
        }
    return found


def _histogram(numbers: Array, bins: int | Array) -> tuple[Array, Array]:
    """Counts and edges; a number of bins shares out the range of the numbers. What is not finite is not counted."""
    finite = numbers[np.isfinite(numbers)].astype(np.float64)
    if not isinstance(bins, int):
        return np.histogram(finite, bins)
    scale = _scale(finite)
    low, high = (finite.min() * scale, finite.max() * scale) if finite.size else (0.0, 0.0)
    least = bins * np.spacing(max(abs(low), abs(high)))  # edges that differ
    if high - low < least:
        low, high = low - max(0.5, least), high + max(0.5, least)
    counts, edges = np.histogram(finite * scale, bins, (low, high))
    return counts, edges / scale


def _scale(numbers: Array) -> float:
    """A power of 2 that brings numbers near the limit of float64 so far below it that their differences are finite."""
    return 0.25 if numbers.size and max(-numbers.min(), numbers.max()) > 1e307 else 1.0


def _percentiles(numbers: Array, points: Array) -> Array:
    """Percentiles of the numbers that are no NaN, interpolated linearly; NaN where there are none."""
    known = numbers[~np.isnan(numbers)].astype(np.float64)
    if not known.size:
        return np.full(len(points), np.nan)
    scale = _scale(known)
    with np.errstate(invalid="ignore"):  # between inf and inf
        found: Array = np.percentile(known * scale, points) / scale
    return found
