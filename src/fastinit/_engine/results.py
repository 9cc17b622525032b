"""What a pass through a stack gives: statistics of its layers, and gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Gradients", "LayerReport", "Moments", "Propagation"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of a layer's numbers over all samples of the batch and all units.

    Attributes
    ----------
    mean : float
    variance : float
        Of the population: divided by how many numbers there are. Like the mean and the second moment NaN for an empty batch.
    second_moment : float
        Mean of the squares.
    minimum, maximum : float
        Of the numbers that are not NaN; inf and -inf where there are none.
    non_finite : int
        How many are infinite or NaN.
    """

    mean: float
    variance: float
    second_moment: float
    minimum: float
    maximum: float
    non_finite: int

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return math.sqrt(max(self.variance, 0.0)) if not math.isnan(self.variance) else math.nan


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What one layer did to the signal: moments of its numbers forward and backward, and how many of its units do nothing.

    Attributes
    ----------
    pre_activation, activation : Moments
        Of z = a W + b, and of what the layer passes on: phi(z), or x + alpha phi(z) where a residual block ends.
    gradient : Moments
        Of the loss's gradient with respect to z.
    saturated : float
        The fraction, in [0, 1], of the elements where the activation is flat: where its derivative's magnitude is below 5.91 %
        of what it is far out on the right or, if it is flat there, of its largest value (\\|tanh\\| > 0.97, for one);
        docs/activations.md has the numbers. The surroundings of the minimum of GELU, SiLU and Mish count, too. 0 for
        activations that are nowhere flat, and for ReLU.
    dead : float
        The fraction, in [0, 1], of the units that are never active and pass no gradient: phi(z) and its derivative are exactly
        0 for every sample of the batch, where NaN counts as 0. A unit at the flat end of a tanh, a hard_tanh or an ELU has a
        value other than 0 there: it is saturated, but not dead.
    """

    pre_activation: Moments
    activation: Moments
    gradient: Moments
    saturated: float
    dead: float


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """Gradients of a loss with respect to weights, biases and input.

    It can be unpacked: ``weights, biases, input = gradients``. All arrays have the dtype of the stack, whose
    widths are (n_0, ..., n_L).

    Attributes
    ----------
    weights : list of L ndarrays
        Layer i's is of shape (n_i, n_{i+1}), summed over the batch.
    biases : list of L ndarrays
        Layer i's is of shape (n_{i+1},), summed over the batch.
    input : ndarray of shape (batch, n_0)
        A row for each sample.
    """

    weights: list[NDArray[Any]]
    biases: list[NDArray[Any]]
    input: NDArray[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.weights, self.biases, self.input))


@dataclass(frozen=True, eq=False)
class Propagation:
    """One forward and backward pass: the output, a report for each layer, and gradients if asked for.

    ``str()`` of it is a table with one line a layer.

    Attributes
    ----------
    output : ndarray of shape (batch, n_L)
    layers : tuple of L LayerReports
    statistics : ndarray of shape (L,), structured
        The numbers of `layers`: ``statistics["activation"]["variance"]`` has the shape (L,).
    overflow : int or None
        The first layer whose pre-activations or activations are not all finite; None if all are.
    weight_gradients : list of L ndarrays, or None
        Layer i's is of shape (n_i, n_{i+1}), summed over the batch.
    bias_gradients : list of L ndarrays, or None
        Layer i's is of shape (n_{i+1},), summed over the batch.
    input_gradient : ndarray of shape (batch, n_0), or None
    weight_gradient_norms : ndarray of shape (L,) in float64, or None
        The Euclidean norm of each layer's weight gradient.
    weight_norms : ndarray of shape (L,) in float64, or None
        The same of each layer's weight, if norms were asked for and weights are stored.
    pre_activation_cosines, activation_cosines, gradient_cosines : ndarray of shape (L, pairs) in float64, or None
        The cosine of the angle between the z of two samples of the batch, between what the layer passes on of them, as in
        `LayerReport.activation`, and between the loss's gradients with respect to their z. NaN where one of the two is 0 or not
        finite.
    histograms : dict of str to list of L pairs of ndarray, or None
        Under "pre_activation", "activation" and "gradient": each layer's (counts, edges), one edge more than counts, as NumPy's
        `histogram` gives them. Numbers that are not finite are not counted.
    percentiles : dict of str to ndarray of shape (L, percentiles) in float64, or None
        Under the same names, of the numbers that are no NaN.
    """

    output: NDArray[Any]
    statistics: NDArray[Any] = field(repr=False)
    weight_gradients: list[NDArray[Any]] | None = None
    bias_gradients: list[NDArray[Any]] | None = None
    input_gradient: NDArray[Any] | None = None
    weight_gradient_norms: NDArray[Any] | None = None
    weight_norms: NDArray[Any] | None = None
    pre_activation_cosines: NDArray[Any] | None = None
    activation_cosines: NDArray[Any] | None = None
    gradient_cosines: NDArray[Any] | None = None
    histograms: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] | None = field(default=None, repr=False)
    percentiles: dict[str, NDArray[Any]] | None = field(default=None, repr=False)

    @cached_property
    def layers(self) -> tuple[LayerReport, ...]:
        # Made when somebody looks: of fifty narrow layers the two hundred objects would take a fifth of the pass's time.
        return tuple(
            LayerReport(_moments(before), _moments(after), _moments(gradient), saturated, dead)
            for before, after, gradient, saturated, dead in self.statistics.tolist()
        )

    @property
    def weight_gradient_ratios(self) -> NDArray[Any] | None:
        """Norm of each weight gradient by the norm of its weight, of shape (L,); NaN of a weight of zeros.

        A step of gradient descent with rate r changes a layer's weights by r times this share of themselves.
        """
        if self.weight_gradient_norms is None or self.weight_norms is None:
            return None
        ratios = np.full(len(self.weight_norms), math.nan)
        np.divide(self.weight_gradient_norms, self.weight_norms, out=ratios, where=self.weight_norms > 0)
        return ratios

    @property
    def overflow(self) -> int | None:
        """The first layer whose pre-activations or activations are not all finite; None if all are."""
        bad = np.flatnonzero(
            self.statistics["pre_activation"]["non_finite"] + self.statistics["activation"]["non_finite"]
        )
        return int(bad[0]) if bad.size else None

    def __str__(self) -> str:
        head = (
            "layer   pre-activation          activation              gradient             saturated   dead\n"
            "        mean        std         mean        std         mean        std"
        )
        rows = [head]
        for i, layer in enumerate(self.layers):
            cells = "".join(
                f"{m.mean:<+12.3e}{m.std:<12.3e}"
                for m in (layer.pre_activation, layer.activation, layer.gradient)
            )
            rows.append(f"{i:<8}{cells}{layer.saturated:8.1%} {layer.dead:7.1%}")
        return "\n".join(rows)


def _moments(record: Any) -> Moments:
    """Of the moments in a record of `_core.LAYER_STATISTICS`."""
    mean, variance, second_moment, minimum, maximum, non_finite = record
    return Moments(mean, variance, second_moment, minimum, maximum, int(non_finite))
