"""What is observed of a model of any framework: its layers, its parameters without a gradient, and the whole."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

__all__ = ["ObservedLayer", "ObservedModel", "WithoutGradient", "role_of"]


def role_of(name: str) -> str:
    """A layer's name with its numbers replaced: layers of one role have the same."""
    return re.sub(r"\d+", "*", name)


@dataclass(frozen=True, kw_only=True)
class ObservedLayer:
    """One call of a layer, in a pass forward and back.

    Attributes
    ----------
    name : str
        The qualified name; that of a second call ends in ``#2``.
    kind : str
        The class, such as "Linear".
    weighted : bool
        Whether it multiplies its input by a weight, as dense and convolutional layers do.
    activation : str or None
        "relu", "tanh" and so on, if the layer is an activation function.
    inputs, units : int
        Of one output its fan-in, 0 if unknown; and the length of the output's axis of units.
    elements : float
        How many numbers of the output belong to one sample.
    square, expected : float
        Mean square of the output, and what it would be if the weights were independent of the input; NaN if unknown.
    gradient : float
        Energy of the gradient with respect to the output: the sum of its squares for one sample. NaN where none came back.
    saturated : float
        Share in [0, 1] of saturated elements of an activation function; NaN of other layers.
    dead : float
        Share in [0, 1] of units that no sample makes active, or through which no sample sends a gradient; NaN if unknown.
    non_finite, non_finite_gradients : int
        How many numbers of the output, and of the gradient, are infinite or NaN.
    apart : float
        1 - c, c being the mean cosine of the outputs for two samples or tokens; NaN if unknown.
    gradient_to_weight : float
        Norm of the weight's gradient by the norm of the weight; NaN where there is none.
    silent : bool
        Whether the output is all zeros though the input is not, and parameters that are zero by design are not the reason.
    role : str, default ""
        Layers of one role are compared with one another; of "" it is the name with its numbers replaced.
    entropy : float, default NaN
        Of attention weights the mean entropy of a query's weights by ln of how many keys it may see, in [0, 1].
    branch : float, default NaN
        Root mean square of a residual branch by that of the stream that it is added to.
    """

    name: str
    kind: str
    weighted: bool
    activation: str | None
    inputs: int
    units: int
    elements: float
    square: float
    expected: float
    gradient: float
    saturated: float
    dead: float
    non_finite: int
    non_finite_gradients: int
    apart: float
    gradient_to_weight: float
    silent: bool
    role: str = ""
    entropy: float = math.nan
    branch: float = math.nan


@dataclass(frozen=True)
class WithoutGradient:
    """A parameter whose gradient is 0, also after a virtual step of those that are zero by design.

    Attributes
    ----------
    name, layer : str
        The parameter, and the layer that owns it.
    reason : str
        Why, as the second half of a sentence.
    fault : bool
        False where it may be chance or without harm: an expert that this batch was not sent to, a layer that is not called.
    size : str, default "exactly 0"
        How large the gradient is, in words.
    """

    name: str
    layer: str
    reason: str
    fault: bool
    size: str = "exactly 0"


@dataclass(frozen=True, kw_only=True)
class ObservedModel:
    """What one pass forward and back shows of a model.

    Attributes
    ----------
    layers : tuple of ObservedLayer
        In the order of execution.
    without_gradient : tuple of WithoutGradient
    non_finite : tuple of str
        Parameters with numbers that are infinite or NaN.
    twins : tuple of (str, str)
        Parameters that look drawn and are equal bit for bit, and are not one tensor.
    symmetric : tuple of (str, int, int)
        Layers some of whose units are copies of another one: name, number of copies, number of units.
    loss, classes, logit_variance : float
        The loss at first, how many classes C a cross-entropy has, and the variance of a sample's logits; NaN without them.
    batch : int
    input_square : float, default NaN
        Mean square of what the first layer reads, if that multiplies it by a weight.
    unregistered : tuple of str
        Tensors that enter the loss and are trained by nobody, since the framework does not know them for parameters.
    """

    layers: tuple[ObservedLayer, ...]
    without_gradient: tuple[WithoutGradient, ...]
    non_finite: tuple[str, ...]
    twins: tuple[tuple[str, str], ...]
    symmetric: tuple[tuple[str, int, int], ...]
    loss: float
    classes: float
    logit_variance: float
    batch: int
    input_square: float = math.nan
    unregistered: tuple[str, ...] = ()
