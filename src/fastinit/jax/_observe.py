"""What the layers of a model show in one pass forward and back, by an identity of JAX that notes what passes it."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching, mlir

from ..diagnosis.observed import ObservedLayer

__all__ = ["ACTIVATIONS", "Call", "Layer", "Observer", "current_observer", "is_floating", "sum_of_squares", "wide"]

ACTIVATIONS = {
    jax.nn.relu: "relu", jax.nn.relu6: "relu", jax.nn.leaky_relu: "leaky_relu", jnp.tanh: "tanh", jax.nn.tanh: "tanh",
    jax.nn.sigmoid: "sigmoid", jax.nn.hard_tanh: "hard_tanh", jax.nn.soft_sign: "softsign",
}  # fmt: skip
# Where |phi'| is below 5.91 % of its maximum, as for stacks: in terms of the value |phi|, for sigmoid of |2 phi - 1|.
_FLAT_FROM = {"tanh": 0.97, "sigmoid": 0.97, "hard_tanh": 1.0, "softsign": 0.757}
_SAMPLES = 32  # in pairs of neighbours, whose cosines are averaged
_FEATURES = 4096  # that a cosine is of at most, taken at equal distances

# ---- an identity that notes what passes it ----------------------------------------------------------
#
# Within vmap a layer sees one sample. A primitive sees the whole batch, the axes of vmap first and the layer's own last, so that
# those are counted from the end. Compiled code does not note anything.

_NUMBERS = itertools.count()
_OBSERVER: ContextVar[Observer | None] = ContextVar("_OBSERVER", default=None)


def _noted(value: Any, *given: Any, site: int, forward: bool) -> Any:
    observer = _OBSERVER.get()
    if observer is not None:
        observer.note(site, np.asarray(value), *map(np.asarray, given), forward=forward)
    return value


def _batched(operands: Any, axes: Any, **of: Any) -> tuple[Any, Any]:
    in_front = [
        operand if axis is None else jnp.moveaxis(operand, axis, 0) for operand, axis in zip(operands, axes, strict=True)
    ]
    return _seen.bind(*in_front, **of), None if axes[0] is None else 0


def _derivative(operands: Any, tangents: Any, *, site: int, forward: bool) -> tuple[Any, Any]:
    tangent = tangents[0]
    if forward and not isinstance(tangent, ad.Zero):
        tangent = _back.bind(tangent, site=site)
    return _seen.bind(*operands, site=site, forward=forward), tangent


def _transposed(cotangent: Any, _: Any, *, site: int) -> list[Any]:
    if isinstance(cotangent, ad.Zero):
        return [cotangent]
    return [_seen.bind(cotangent, site=site, forward=False)]


def _batched_back(operands: Any, axes: Any, *, site: int) -> tuple[Any, Any]:
    return _back.bind(jnp.moveaxis(operands[0], axes[0], 0), site=site), 0


_seen = jax.extend.core.Primitive("fastinit_seen")  # of an output and, if known, the input
_back = jax.extend.core.Primitive("fastinit_back")  # its derivative, whose transpose sees the gradient
_seen.def_impl(_noted)
_back.def_impl(lambda tangent, **_: tangent)
batching.primitive_batchers[_seen] = _batched
batching.primitive_batchers[_back] = _batched_back
ad.primitive_jvps[_seen] = _derivative
ad.deflinear2(_back, _transposed)
for _primitive in (_seen, _back):
    _primitive.def_abstract_eval(lambda value, *_, **__: value)
    mlir.register_lowering(_primitive, lambda _, value, *__, **___: [value])

# What JAX keeps of functions that it has traced, for jax.checkpoint too, is kept apart from what is traced while layers are seen.
_traced_apart = jax.make_user_context(default_value=None) if hasattr(jax, "make_user_context") else contextlib.nullcontext


def current_observer() -> Observer | None:
    return _OBSERVER.get()


# ---- numbers ----------------------------------------------------------------------------------------


def is_floating(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray)) and jnp.issubdtype(value.dtype, jnp.floating)


def wide(value: Any) -> Any:
    """The array as one of NumPy, in float32 or float64."""
    array = np.asarray(value)
    return array if array.dtype == np.float64 else array.astype(np.float32)


def sum_of_squares(array: Any) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.square(array, dtype=np.float64).sum())


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What is known of a layer before it runs.

    Attributes
    ----------
    name, kind : str
    weight : str or None
        The parameter that it multiplies its input by; None of embeddings, normalisation and activation functions.
    bias : str or None
    units_first : bool
        Whether the weight's units are on its first axis and not on the last ones.
    inputs, units : int
        Fan-in, 0 if unknown; and the length of the axes of units.
    axis, axes : int
        Of units in the output, counted from the end; how many they are, where they are the last.
    one_of_many : bool
        Whether the weight is a slice of the parameter, which a loop goes over.
    activation : str or None
    """

    name: str
    kind: str
    weight: str | None = None
    bias: str | None = None
    units_first: bool = False
    inputs: int = 0
    units: int = 1
    axis: int = -1
    axes: int = 1
    one_of_many: bool = False
    activation: str | None = None


@dataclass(eq=False)
class Call:
    """One call of a layer; what came back of it is added on the way back."""

    name: str
    layer: Layer
    shape: tuple[int, ...]
    square: float  # sums of squares here
    input_square: float = math.nan  # mean square
    gradient: float = math.nan
    saturated: float = math.nan
    dead: float = math.nan
    non_finite: int = 0
    non_finite_gradients: int = 0
    apart: float = math.nan


@dataclass(eq=False)
class Observer:
    """Notes the layers inside a ``with`` block; set `returning` before the pass back.

    With jax.checkpoint a layer is computed again on the way back.

    Attributes
    ----------
    owned : dict
        For each layer its parameters by their names in it: the qualified name, and the array.
    axis : int
        Of units in the layer that was called last.
    """

    owned: dict[str, dict[str, tuple[str, Any]]]
    calls: list[Call] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    returning: bool = False
    axis: int = -1
    _sites: dict[int, Layer] = field(default_factory=dict)
    _of: dict[int, list[Call]] = field(default_factory=dict)
    _count: dict[str, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        before = _OBSERVER.set(self)
        try:
            # Without jit every operation is seen with its numbers, and loops call layers once for each turn.
            with jax.disable_jit(), _traced_apart(True):
                yield
        finally:
            _OBSERVER.reset(before)

    def seen(self, layer: Layer, inputs: Any, output: Any) -> Any:
        """The same output, of which the numbers are noted on the way forward and back."""
        self.called.add(layer.name)
        self.axis = layer.axis
        leaves, form = jax.tree.flatten(output)
        place = next((i for i, leaf in enumerate(leaves) if is_floating(leaf)), None)
        if place is None:
            return output
        given = [leaf for leaf in jax.tree.leaves(inputs) if is_floating(leaf)][:1] if layer.weight else []
        site = next(_NUMBERS)
        self._sites[site] = layer
        leaves[place] = _seen.bind(leaves[place], *map(jax.lax.stop_gradient, given), site=site, forward=True)
        return form.unflatten(leaves)

    def note(self, site: int, value: Any, *given: Any, forward: bool) -> None:
        layer = self._sites.get(site)
        if layer is None:  # of an earlier diagnosis, in what jax.checkpoint has kept
            return
        if layer.axes > 1:
            value = value.reshape(*value.shape[: -layer.axes], -1)
        if not value.size or (forward and self.returning):
            return
        if forward:
            self._of.setdefault(site, []).append(self._forward(layer, wide(value), *given))
            self.calls.append(self._of[site][-1])
        elif self._of.get(site):
            calls = self._of[site]
            call = next((one for one in reversed(calls) if math.isnan(one.gradient)), calls[0])
            self._backward(call, wide(value))

    def _forward(self, layer: Layer, value: Any, *given: Any) -> Call:
        number = self._count[layer.name] = self._count.get(layer.name, 0) + 1
        label = layer.name if number == 1 else f"{layer.name}#{number}"
        call = Call(label, layer, value.shape, sum_of_squares(value))
        if not math.isfinite(call.square):
            call.non_finite = int((~np.isfinite(value)).sum())
        if given and given[0].size:
            call.input_square = sum_of_squares(wide(given[0])) / given[0].size
        if layer.weight is not None:
            call.apart = _apart(value, tokens=layer.axis == -1)
        elif layer.activation == "relu" and value.ndim > 1:
            call.dead = float((value.max(axis=_others(value, layer.axis)) <= 0).mean())
        elif layer.activation in _FLAT_FROM:
            values = 2 * value - 1 if layer.activation == "sigmoid" else value
            call.saturated = float((np.abs(values) >= _FLAT_FROM[layer.activation]).mean())
        return call

    @staticmethod
    def _backward(call: Call, gradient: Any) -> None:
        energy = sum_of_squares(gradient)
        call.gradient = energy if math.isnan(call.gradient) else call.gradient + energy
        if call.layer.weight is not None:
            # Without any gradient it is not the units' fault.
            several = energy != 0 and gradient.ndim > 1
            call.dead = float((~gradient.any(axis=_others(gradient, call.layer.axis))).mean()) if several else 0.0
        if not math.isfinite(energy):
            call.non_finite_gradients += int((~np.isfinite(gradient)).sum())

    def layers(self, batch: int, norms: dict[str, tuple[float, float]], sizes: dict[str, int], silent: set[str]) -> Any:
        """What was seen, in the order of execution.

        Parameters
        ----------
        batch : int
        norms, sizes : dict
            For each parameter its sum of squares and that of its gradient, and how many numbers it has.
        silent : set of str
            Calls whose output is 0 for no good reason.
        """
        return tuple(_layer(call, batch, norms, sizes, call.name in silent) for call in self.calls)


def _layer(
    call: Call, batch: int, norms: dict[str, tuple[float, float]], sizes: dict[str, int], silent: bool
) -> ObservedLayer:
    layer, numel = call.layer, math.prod(call.shape)
    expected = ratio = math.nan
    if layer.weight is not None:
        square, gradient = norms[layer.weight]
        if square > 0:
            ratio = math.sqrt(gradient / square)
        if layer.inputs:
            shift = norms[layer.bias][0] / sizes[layer.bias] if layer.bias else 0.0
            expected = layer.inputs * call.input_square * square / sizes[layer.weight] + shift
    return ObservedLayer(
        name=call.name, kind=layer.kind, weighted=layer.weight is not None, activation=layer.activation,
        inputs=layer.inputs, units=call.shape[layer.axis] if call.shape else 1, elements=numel / batch,
        square=call.square / numel, expected=expected, gradient=call.gradient / batch, saturated=call.saturated,
        dead=call.dead, non_finite=call.non_finite, non_finite_gradients=call.non_finite_gradients, apart=call.apart,
        gradient_to_weight=ratio, silent=silent,
    )  # fmt: skip


def _others(array: Any, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(array.ndim) if i != axis % array.ndim)


def _apart(output: Any, *, tokens: bool) -> float:
    """1 - the mean cosine of neighbours: of tokens where an output has an axis of them, else of samples.

    Half the squared distance of the directions, which does not cancel where they are nearly the same.
    """
    if output.ndim < 2:
        return math.nan
    rows = output.reshape(-1, output.shape[-1]) if tokens and output.ndim > 2 else output.reshape(len(output), -1)
    if len(rows) < 2:
        return math.nan
    some = rows[: min(_SAMPLES, len(rows)) // 2 * 2, :: -(-rows.shape[1] // _FEATURES)].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        directions = some / np.linalg.norm(some, axis=1, keepdims=True)
        distances = np.square(directions[0::2] - directions[1::2]).sum(axis=1) / 2
    known = distances[np.isfinite(distances)]
    return float(known.mean()) if len(known) else math.nan
