"""What the layers of a Keras model show in one pass forward and back: their calls are replaced for its time."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras as _keras
import numpy as np
from numpy.typing import NDArray

from ..diagnosis.observed import ObservedLayer

__all__ = ["Call", "Kernel", "Layout", "Observer", "array", "as_it_was", "is_traced", "kernel_of", "sum_of_squares"]

Array = NDArray[Any]
_layers = _keras.layers

_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "tanh", "sigmoid", "hard_tanh", "softsign")
_ACTIVATION_LAYERS = {_layers.ReLU: "relu", _layers.LeakyReLU: "leaky_relu"}
# Where |phi'| is below 5.91 % of its maximum, as for stacks: in terms of the value |phi|, for sigmoid of |2 phi - 1|.
_FLAT_FROM = {"tanh": 0.97, "sigmoid": 0.97, "hard_tanh": 1.0, "softsign": 0.757}
_DEPTHWISE = (_layers.DepthwiseConv1D, _layers.DepthwiseConv2D)
_TRANSPOSED = (_layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose)
_CONTAINERS = (OrderedDict, dict, list, set, deque)
_SAMPLES = 32  # in pairs of neighbours, whose cosines are averaged
_FEATURES = 4096  # that a cosine is of at most, taken at equal distances


# ---- arrays -----------------------------------------------------------------------------------------


def is_traced(tensor: Any) -> bool:
    """Whether a tensor is a tracer of the JAX backend, which has no value."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(tensor, jax.core.Tracer)


def _is_floating(value: Any) -> bool:
    return _keras.ops.is_tensor(value) and "float" in _keras.backend.standardize_dtype(value.dtype)


def array(tensor: Any) -> Array:
    """The numbers of a tensor in NumPy, of 16 bits as float32."""
    if _keras.backend.standardize_dtype(tensor.dtype) in ("bfloat16", "float16"):
        tensor = _keras.ops.cast(tensor, "float32")
    return np.asarray(_keras.ops.convert_to_numpy(tensor))


def sum_of_squares(values: Array) -> float:
    """In double precision; infinite or NaN if a number is."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.square(values, dtype=np.float64).sum())


def _apart(output: Array, *, tokens: bool) -> float:
    """1 - the mean cosine of neighbours: of tokens where an output has an axis of them, else of samples.

    Half the squared distance of the directions, which does not cancel where they are nearly the same.
    """
    if output.ndim < 2:
        return math.nan
    rows = output.reshape(-1, output.shape[-1]) if tokens and output.ndim > 2 else output.reshape(len(output), -1)
    if len(rows) < 2 or not rows.shape[1]:
        return math.nan
    step = -(-rows.shape[1] // _FEATURES)
    some = rows[: min(_SAMPLES, len(rows)) // 2 * 2, ::step].astype(np.float64)
    with np.errstate(all="ignore"):
        directions = some / np.sqrt((some * some).sum(axis=1, keepdims=True))
        distances = np.square(directions[0::2] - directions[1::2]).sum(axis=1) / 2
    known = distances[np.isfinite(distances)]
    return float(known.mean()) if len(known) else math.nan


# ---- layers -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernel:
    """The weight that a layer multiplies its input by, and which of its axes a number of the output is a sum over."""

    variable: Any
    inward: tuple[int, ...]
    fan_in: int

    def rows(self, values: Array) -> Array:
        """The weight or its gradient as a matrix of shape (units, n)."""
        units = [axis for axis in range(values.ndim) if axis not in self.inward]
        turned = values.transpose(*units, *self.inward)
        return turned.reshape(math.prod(turned.shape[: len(units)]), -1)


def kernel_of(layer: Any) -> Kernel | None:
    """None of embeddings, normalisation, recurrent layers and activation functions."""
    kind = type(layer).__name__
    if isinstance(layer, (_layers.RNN, _layers.PReLU)) or "mbedding" in kind or "Norm" in kind:
        return None
    variable = getattr(layer, "_kernel", None)  # which is not a sum with the matrices of LoRA, as `kernel` is
    variable = getattr(layer, "kernel", None) if variable is None else variable
    if not isinstance(variable, _keras.Variable):
        matrices = [own for own in layer._trainable_variables if len(own.shape) >= 2]
        variable = matrices[0] if len(matrices) == 1 and not layer._layers else None
    if variable is None or len(variable.shape) < 2:
        return None
    shape, strides = tuple(variable.shape), 1
    inward = tuple(range(len(shape) - 1))
    if isinstance(layer, _layers.EinsumDense):
        letters, output = layer.equation.split(",")[1].split("->")
        inward = tuple(axis for axis, letter in enumerate(letters.strip()) if letter not in output)
    elif isinstance(layer, _DEPTHWISE):
        inward = inward[:-1]
    elif isinstance(layer, _TRANSPOSED):
        inward = (*inward[:-1], len(shape) - 1)
        strides = math.prod(layer.strides)
    return Kernel(variable, inward, math.prod(shape[axis] for axis in inward) // strides)


class Layout:
    """The layers of a model that are observed and the parameters that are trained, by qualified name."""

    def __init__(self, model: Any) -> None:
        self.everything: list[Any] = [model]
        self.observed: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.owners: dict[str, str] = {}  # of each parameter the observed layer
        self._trained = {id(variable) for variable in model.trainable_variables}
        self._seen = {id(model)}
        self._own(model, "", "")
        self._walk(model, "", None)

    def rename(self, other: Layout) -> None:
        """Take the names of the same model from another seed: automatic names count on from model to model."""
        if len(other.observed) == len(self.observed) and len(other.parameters) == len(self.parameters):
            self.owners = dict(other.owners)
            self.observed = dict(zip(other.observed, self.observed.values(), strict=True))
            self.parameters = dict(zip(other.parameters, self.parameters.values(), strict=True))

    def _walk(self, parent: Any, prefix: str, owner: str | None) -> None:
        siblings = {layer.name for layer in parent._layers}
        for layer in parent._layers:
            if id(layer) in self._seen:
                continue
            self._seen.add(id(layer))
            self.everything.append(layer)
            name = prefix + layer.name
            if f"{layer.name}_1" in siblings and f"{layer.name}_0" not in siblings:
                name += "_0"  # Keras counts from dense to dense_1; with a number layers of one role are known by their names
            while name in self.observed:
                name += "'"
            if owner is None and (layer._trainable_variables or isinstance(layer, _layers.RNN) or _activation(layer)):
                self.observed[name] = layer
            self._own(layer, name, owner or name)
            # The cells of a recurrent layer are called once for each step: the layer stands for them.
            self._walk(layer, name + "/", name if isinstance(layer, _layers.RNN) else owner)

    def _own(self, layer: Any, name: str, owner: str) -> None:
        for variable in layer._trainable_variables:
            if id(variable) in self._trained:
                self._trained.remove(id(variable))  # a tied variable belongs to the first layer that has it
                full = f"{name}.{variable.name}" if name else variable.name
                while full in self.parameters:
                    full += "'"
                self.parameters[full], self.owners[full] = variable, owner


def _activation(layer: Any) -> str | None:
    """What a layer that is an activation function and nothing else is called."""
    if isinstance(layer, _layers.Activation):
        return _name_of(layer.activation)
    return next((name for kind, name in _ACTIVATION_LAYERS.items() if type(layer) is kind), None)


def _name_of(function: Any) -> str | None:
    name = getattr(function, "__name__", None)
    return name if name in _ACTIVATIONS else None


@contextlib.contextmanager
def as_it_was(layers: list[Any]) -> Iterator[None]:
    """At the end each layer has the attributes that it had, and the dicts, lists, sets and deques among them their contents."""
    attributes = [dict(layer.__dict__) for layer in layers]
    containers = {id(value): value for own in attributes for value in own.values() if isinstance(value, _CONTAINERS)}
    contents = {number: (list(value.items()) if isinstance(value, dict) else list(value)) for number, value in containers.items()}
    try:
        yield
    finally:
        for layer, own in zip(layers, attributes, strict=True):
            layer.__dict__.clear()
            layer.__dict__.update(own)
        for number, value in containers.items():
            kind: Any = next(kind for kind in _CONTAINERS if isinstance(value, kind))
            now, then = (list(value.items()) if isinstance(value, dict) else list(value)), contents[number]
            if len(now) != len(then) or any(a is not b for a, b in zip(_flat(now), _flat(then), strict=False)):
                kind.clear(value)  # of the plain kind: those of Keras also keep lists of variables, which are put back here
                (kind.extend if kind in (list, deque) else kind.update)(value, then)


def _flat(items: list[Any]) -> list[Any]:
    return [part for item in items for part in (item if isinstance(item, tuple) and len(item) == 2 else (item,))]


# ---- calls ------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Call:
    """One call of a layer or of its activation function; what came back of it is added on the way back."""

    name: str
    owner: str
    layer: Any
    kernel: Kernel | None
    activation: str | None
    axis: int  # of units
    shape: tuple[int, ...] = ()
    square: float = math.nan  # sums of squares here
    input_square: float = math.nan  # mean square
    gradient: float = math.nan
    saturated: float = math.nan
    dead: float = math.nan
    non_finite: int = 0
    non_finite_gradients: int = 0
    apart: float = math.nan

    def returned(self, gradient: Array) -> None:
        """Take the gradient with respect to the output."""
        energy = self.gradient = sum_of_squares(gradient)
        if self.kernel is not None and gradient.ndim > 1:
            others = tuple(i for i in range(gradient.ndim) if i != self.axis % gradient.ndim)
            # Without any gradient it is not the units' fault.
            self.dead = 0.0 if energy == 0 else float((np.abs(gradient).max(axis=others) == 0).mean())
        if not math.isfinite(energy):
            self.non_finite_gradients = int((~np.isfinite(gradient)).sum())


@dataclass(eq=False)
class Observer:
    """Records the calls of the layers inside of `watching`.

    With `probes`, tensors of zeros by the names of calls, it only adds them to the outputs, so that their gradients are those
    of the outputs. `tensors` are the outputs themselves.
    """

    layout: Layout
    probes: dict[str, Any] | None = None
    calls: dict[str, Call] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    tensors: dict[str, Any] = field(default_factory=dict)
    closed: bool = False  # after the pass forward: recomputation calls layers again
    _times: dict[str, int] = field(default_factory=dict)
    _last: tuple[Any, float] | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with as_it_was(self.layout.everything):
            for layer in self.layout.everything:
                layer.__dict__["_remat_mode"] = None  # recomputed layers would be traced in JAX, without values to look at
            for name, layer in self.layout.observed.items():
                self._watch(name, layer)
            yield

    def _watch(self, name: str, layer: Any) -> None:
        call, kernel = layer.call, kernel_of(layer)
        function: Any = getattr(layer, "activation", None)
        before: list[Any] = []  # of the running calls: the input, and whether the activation function was reached

        @functools.wraps(call)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.called.add(name)
            given = next((value for value in _keras.tree.flatten((args, kwargs)) if _is_floating(value)), None)
            before.append([given, False])
            try:
                result = call(*args, **kwargs)
                reached = before[-1][1]
            finally:
                before.pop()
            if reached:
                return result
            flat = _keras.tree.flatten(result)
            first = next((i for i, value in enumerate(flat) if _is_floating(value)), None)
            if first is None:
                return result
            flat[first] = self._seen(name, name, layer, kernel, _activation(layer), given, flat[first])
            return _keras.tree.pack_sequence_as(result, flat)

        def activated(z: Any, *args: Any, **kwargs: Any) -> Any:
            if not before:
                return function(z, *args, **kwargs)
            before[-1][1] = True
            z = self._seen(name, name, layer, kernel, None, before[-1][0], z)
            value = function(z, *args, **kwargs)
            known = _name_of(function)
            return value if known is None else self._seen(f"{name}/{known}", name, layer, None, known, z, value)

        layer.__dict__["call"] = watched
        if kernel is not None and callable(function) and function is not _keras.activations.linear:
            layer.__dict__["activation"] = activated

    def _seen(
        self, name: str, owner: str, layer: Any, kernel: Kernel | None, activation: str | None, given: Any, output: Any
    ) -> Any:
        if self.closed:
            return output
        times = self._times[name] = self._times.get(name, 0) + 1
        label = f"{name}#{times}" if times > 1 else name
        if self.probes is not None:
            probe = self.probes.get(label)
            return output if probe is None else output + probe
        if is_traced(output):  # inside of a loop or of a recomputed part
            return output
        first = getattr(layer, "data_format", None) == "channels_first" and len(output.shape) > 2
        call = self.calls[label] = Call(label, owner, layer, kernel, activation, 1 if first else -1, tuple(output.shape))
        self.tensors[label] = output
        self._measure(call, given, array(output))
        self._last = output, call.square / max(math.prod(call.shape), 1)
        return output

    def _measure(self, call: Call, given: Any, values: Array) -> None:
        if not values.size:
            return
        call.square = sum_of_squares(values)
        if not math.isfinite(call.square):
            call.non_finite = int((~np.isfinite(values)).sum())
        if call.activation == "relu" and values.ndim > 1:
            others = tuple(i for i in range(values.ndim) if i != call.axis % values.ndim)
            call.dead = float((values.max(axis=others) <= 0).mean())
        elif call.activation in _FLAT_FROM:
            spread = 2 * values - 1 if call.activation == "sigmoid" else values
            call.saturated = float((np.abs(spread) >= _FLAT_FROM[call.activation]).mean())
        elif call.kernel is not None:
            call.apart = _apart(values, tokens=call.axis == -1 and values.ndim == 3)
            if given is not None and math.prod(given.shape) and not is_traced(given):
                if self._last is not None and self._last[0] is given:
                    call.input_square = self._last[1]
                else:
                    call.input_square = sum_of_squares(array(given)) / math.prod(given.shape)

    def layers(self, batch: int, norms: dict[int, tuple[float, float]], silent: set[str]) -> tuple[ObservedLayer, ...]:
        """What was seen, in the order of execution.

        Parameters
        ----------
        batch : int
        norms : dict
            For the id of each variable its sum of squares and that of its gradient.
        silent : set of str
            Calls whose output is 0 for no good reason.
        """
        return tuple(_layer(call, batch, norms, call.name in silent) for call in self.calls.values())


def _layer(call: Call, batch: int, norms: dict[int, tuple[float, float]], silent: bool) -> ObservedLayer:
    numel, kind = max(math.prod(call.shape), 1), type(call.layer).__name__
    units = call.shape[call.axis] if call.shape else 1
    if isinstance(call.layer, _layers.Dense) and call.kernel is not None and units != call.kernel.fan_in:
        # Automatic names do not tell the two layers of a transformer's MLP apart, which are not compared with one another.
        kind += ", wider" if units > call.kernel.fan_in else ", narrower"
    expected = ratio = math.nan
    if call.kernel is not None and id(call.kernel.variable) in norms:
        square, gradient = norms[id(call.kernel.variable)]
        if square > 0 and gradient >= 0:
            ratio = math.sqrt(gradient / square)
        bias: Any = getattr(call.layer, "bias", None)
        shift = norms[id(bias)][0] / math.prod(bias.shape) if id(bias) in norms else 0.0
        expected = call.kernel.fan_in * call.input_square * square / math.prod(call.kernel.variable.shape) + shift
    return ObservedLayer(
        name=call.name, kind=kind, weighted=call.kernel is not None, activation=call.activation,
        inputs=0 if call.kernel is None else call.kernel.fan_in, units=units,
        elements=numel / batch, square=call.square / numel, expected=expected, gradient=call.gradient / batch,
        saturated=call.saturated, dead=call.dead, non_finite=call.non_finite, non_finite_gradients=call.non_finite_gradients,
        apart=call.apart, gradient_to_weight=ratio, silent=silent,
    )  # fmt: skip
