"""What the layers of a Keras model show in one pass forward and back: their calls are replaced for its time."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras as _keras
import numpy as np
from numpy.typing import NDArray

from ..diagnosis.calls import Call, Layer, label_of, measure, sum_of_squares
from ..diagnosis.observed import role_of
from ._attention import attends, watch_attention
from ._branches import Branch, branches_of

__all__ = ["Kernel", "Layout", "Observer", "array", "as_it_was", "is_floating", "is_traced", "kernel_of"]

Array = NDArray[Any]
_layers = _keras.layers

_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "tanh", "sigmoid", "hard_tanh", "softsign")
_ACTIVATION_LAYERS = {_layers.ReLU: "relu", _layers.LeakyReLU: "leaky_relu"}
_DEPTHWISE = (_layers.DepthwiseConv1D, _layers.DepthwiseConv2D)
_TRANSPOSED = (_layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose)
_CONTAINERS = (OrderedDict, dict, list, set, deque)

# ---- arrays -----------------------------------------------------------------------------------------


def is_traced(tensor: Any) -> bool:
    """Whether a tensor has no values to look at: a tracer of the JAX backend, or one inside of a transform of PyTorch's."""
    jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))
    return jax is not None and isinstance(tensor, jax.core.Tracer)


def is_floating(value: Any) -> bool:
    return _keras.ops.is_tensor(value) and "float" in _keras.backend.standardize_dtype(value.dtype)


def array(tensor: Any) -> Array:
    """The numbers of a tensor in NumPy, of 16 bits as float32."""
    if _keras.backend.standardize_dtype(tensor.dtype) in ("bfloat16", "float16"):
        tensor = _keras.ops.cast(tensor, "float32")
    return np.asarray(_keras.ops.convert_to_numpy(tensor))


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
        variable = matrices[0] if len(matrices) == 1 and not layer._layers and _multiplies(layer, matrices[0].shape) else None
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


def _multiplies(layer: Any, shape: tuple[int, ...]) -> bool:
    """Whether the input fits a matrix of a layer of one's own: embeddings of positions and scales do not multiply it."""
    given = next(iter((getattr(layer, "_build_shapes_dict", None) or {}).values()), None)
    width = given[-1] if isinstance(given, (tuple, list)) and given else None
    return sum(size > 1 for size in shape) > 1 and (shape[-2] == width or not isinstance(width, int))


class Layout:
    """The layers of a model that are observed and the parameters that are trained, by qualified name; `frozen` are others."""

    def __init__(self, model: Any) -> None:
        self.everything: list[Any] = [model]
        self.observed: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.owners: dict[str, str] = {}  # of each parameter the observed layer
        self.names: dict[int, str] = {}  # by the ids of all layers
        self._trained = {id(variable) for variable in model.trainable_variables}
        self._seen = {id(model)}
        self._own(model, "", "")
        self._walk(model, "", None)
        self.branches = [branch for layer in self.everything for branch in branches_of(layer)]
        own = {id(variable) for variable in self.parameters.values()}
        self.frozen = {one.path: one for one in model.variables if id(one) not in own and "float" in one.dtype}

    def rename(self, other: Layout) -> None:
        """Take the names of the same model from another seed: automatic names count on from model to model."""
        if len(other.observed) == len(self.observed) and len(other.parameters) == len(self.parameters):
            self.owners = dict(other.owners)
            self.names = dict(zip(self.names, other.names.values(), strict=False))
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
            self.names[id(layer)] = name
            seen = layer._trainable_variables or isinstance(layer, _layers.RNN) or _activation(layer) or attends(layer)
            if owner is None and seen:
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


def _role_of(name: str) -> str:
    """The name with its numbers replaced, but for those inside of a block that tell its layers apart, as in ``block_*/conv2``.

    Automatic names such as ``conv2d_7`` count on from block to block, and tell nothing.
    """
    blocks, slash, last = name.rpartition("/")
    return role_of(blocks) + slash + re.sub(r"_\d+$", "_*", last) if re.search(r"\d", blocks) else role_of(name)


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
    """At the end layers and operations have the attributes that they had, and the containers in them their contents.

    Variables that are trained then are those that were.
    """
    attributes = [dict(layer.__dict__) for layer in layers]
    trained = [(one, one.trainable) for layer in layers for one in getattr(layer, "variables", ())]
    containers = _containers([value for own in attributes for value in own.values()])
    contents = {number: (list(value.items()) if isinstance(value, dict) else list(value)) for number, value in containers.items()}
    try:
        yield
    finally:
        for layer, own in zip(layers, attributes, strict=True):
            layer.__dict__.clear()
            layer.__dict__.update(own)
        for variable, trainable in trained:
            if variable.trainable != trainable:
                variable.trainable = trainable
        for number, value in containers.items():
            kind: Any = next(kind for kind in _CONTAINERS if isinstance(value, kind))
            now, then = (list(value.items()) if isinstance(value, dict) else list(value)), contents[number]
            if len(now) != len(then) or any(a is not b for a, b in zip(_flat(now), _flat(then), strict=False)):
                kind.clear(value)  # of the plain kind: those of Keras also keep lists of variables, which are put back here
                (kind.extend if kind in (list, deque) else kind.update)(value, then)


def _containers(waiting: list[Any]) -> dict[int, Any]:
    """Those among some values, and inside of others, by their ids."""
    found: dict[int, Any] = {}
    for value in waiting:  # grows meanwhile
        if isinstance(value, tuple):
            waiting.extend(value)
        elif isinstance(value, _CONTAINERS) and id(value) not in found:
            found[id(value)] = value
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return found


def _flat(items: list[Any]) -> list[Any]:
    return [part for item in items for part in (item if isinstance(item, tuple) and len(item) == 2 else (item,))]


# ---- calls ------------------------------------------------------------------------------------------


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
    _last: tuple[Any, float] = (None, math.nan)

    def __post_init__(self) -> None:
        variables = self.layout.frozen | self.layout.parameters
        self._names = {id(variable): name for name, variable in variables.items()}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with as_it_was([*self.layout.everything, *(branch.addition for branch in self.layout.branches)]):
            for layer in self.layout.everything:
                layer.__dict__["_remat_mode"] = None  # recomputed layers would be traced in JAX, without values to look at
            for name, layer in self.layout.observed.items():
                if attends(layer):
                    watch_attention(layer, array, functools.partial(self._attended, name))
                else:
                    self._watch(name, layer)
            for branch in self.layout.branches:
                self._watch_branch(branch)
            yield

    def _watch(self, name: str, layer: Any) -> None:
        call = layer.call
        function: Any = getattr(layer, "activation", None)
        before: list[Any] = []  # of the running calls: the input, and whether the activation function was reached

        @functools.wraps(call)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.called.add(name)
            given = next((value for value in _keras.tree.flatten((args, kwargs)) if is_floating(value)), None)
            before.append([given, False])
            try:
                result = call(*args, **kwargs)
                reached = before[-1][1]
            finally:
                before.pop()
            if reached:
                return result
            flat = _keras.tree.flatten(result)
            first = next((i for i, value in enumerate(flat) if is_floating(value)), None)
            if first is None:
                return result
            flat[first] = self._seen(name, self._layer(name, layer, flat[first], _activation(layer)), given, flat[first])
            return _keras.tree.pack_sequence_as(result, flat)

        def activated(z: Any, *args: Any, **kwargs: Any) -> Any:
            if not before:
                return function(z, *args, **kwargs)
            before[-1][1] = True
            z = self._seen(name, self._layer(name, layer, z, None), before[-1][0], z)
            value = function(z, *args, **kwargs)
            known = _name_of(function)
            return value if known is None else self._seen(f"{name}/{known}", self._layer(name, layer, value, known), z, value)

        layer.__dict__["call"] = watched
        if kernel_of(layer) is not None and callable(function) and function is not _keras.activations.linear:
            layer.__dict__["activation"] = activated

    def _attended(self, name: str, output: Any, entropy: Callable[[], float]) -> Any:
        self.called.add(name)
        before = len(self.calls)
        output = self._seen(name, Layer(name=name, kind="attention"), None, output)
        if len(self.calls) > before:
            next(reversed(self.calls.values())).entropy = entropy()
        return output

    def _watch_branch(self, branch: Branch) -> None:
        add = branch.addition.call

        @functools.wraps(add)
        def added(*args: Any, **kwargs: Any) -> Any:
            operands = [value for value in _keras.tree.flatten((args, kwargs)) if is_floating(value)]
            if self.probes is None and not self.closed and len(operands) == 2 and not any(map(is_traced, operands)):
                call = self._last_of(branch)
                stream = sum_of_squares(array(operands[1 - branch.operand]))
                if call is not None and stream > 0:
                    call.branch = math.sqrt(sum_of_squares(array(operands[branch.operand])) / stream)
            return add(*args, **kwargs)

        branch.addition.__dict__["call"] = added

    def _last_of(self, branch: Branch) -> Call | None:
        """The call of the layer in a branch that is next to its end."""
        for operation in branch.operations:
            name = self.layout.names.get(id(operation))
            for call in reversed(self.calls.values()):
                if name is not None and (call.layer.name == name or call.layer.name.startswith(f"{name}/")):
                    return call
        return None

    def _layer(self, name: str, layer: Any, output: Any, activation: str | None) -> Layer:
        first = getattr(layer, "data_format", None) == "channels_first" and len(output.shape) > 2
        kind, axis = type(layer).__name__, 1 if first else -1
        kernel = kernel_of(layer) if activation is None else None
        if kernel is None:
            return Layer(name=name, kind=kind, axis=axis, activation=activation)
        role, units = _role_of(name), output.shape[axis]
        if isinstance(layer, _layers.Dense) and units != kernel.fan_in:
            # Automatic names do not tell the two layers of a transformer's MLP apart, which are not compared with one another.
            role += f" ({'wider' if units > kernel.fan_in else 'narrower'})"
        return Layer(
            name=name, kind=kind, weight=self._names.get(id(kernel.variable), ""),
            bias=self._names.get(id(getattr(layer, "bias", None))), inputs=kernel.fan_in, axis=axis, role=role,
        )  # fmt: skip

    def _seen(self, label: str, layer: Layer, given: Any, output: Any) -> Any:
        if self.closed:
            return output
        times = self._times[label] = self._times.get(label, 0) + 1
        label = label_of(label, times)
        if self.probes is not None:
            probe = self.probes.get(label)
            return output if probe is None else output + probe
        if is_traced(output):  # inside of a loop or of a recomputed part
            return output
        call = self.calls[label] = Call(label, layer, tuple(output.shape))
        self.tensors[label] = output
        values = array(output)
        if values.size:
            measure(call, values, tokens=layer.axis == -1 and values.ndim == 3)
            if layer.weight is not None and given is not None and math.prod(given.shape) and not is_traced(given):
                output_before, square = self._last
                call.input_square = square if output_before is given else sum_of_squares(array(given)) / math.prod(given.shape)
        self._last = output, call.square / max(math.prod(call.shape), 1)
        return output
