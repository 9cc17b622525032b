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

from ..diagnosis import calls
from ..diagnosis.calls import Call, label_of, measure, measure_gradient, sum_of_squares
from ..diagnosis.entropy import mean_entropy, some_queries
from ._attention import ATTENTION, looks_like_attention, softmax_seen

__all__ = ["ACTIVATIONS", "Layer", "Observer", "current_observer", "is_inexact", "wide"]

ACTIVATIONS = {
    jax.nn.relu: "relu", jax.nn.relu6: "relu", jax.nn.leaky_relu: "leaky_relu", jnp.tanh: "tanh", jax.nn.tanh: "tanh",
    jax.nn.sigmoid: "sigmoid", jax.nn.hard_tanh: "hard_tanh", jax.nn.soft_sign: "softsign",
}  # fmt: skip

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


def _see_softmax(logits: Any) -> Any:
    observer = _OBSERVER.get()
    return observer.softmax(logits) if observer is not None and is_inexact(logits) else logits


# ---- numbers ----------------------------------------------------------------------------------------


def is_inexact(value: Any) -> bool:
    """Whether it is an array of floating or complex numbers."""
    return isinstance(value, (jax.Array, np.ndarray)) and jnp.issubdtype(value.dtype, jnp.inexact)


def wide(value: Any) -> Any:
    """The array as one of NumPy, in float32 or float64; of complex numbers their absolute values."""
    array = np.abs(np.asarray(value)) if jnp.iscomplexobj(value) else np.asarray(value)
    return array if array.dtype == np.float64 else array.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Layer(calls.Layer):
    """What is known of a layer before it runs; its axis of units is counted from the end.

    Attributes
    ----------
    units_first : bool
        Whether the weight's units are on its first axis and not on the last ones.
    units, axes : int
        Of units in the output, where they are on the last axes: how many they are, and on how many axes.
    one_of_many : bool
        Whether the weight is a slice of the parameter, which a loop goes over.
    """

    units_first: bool = False
    units: int = 1
    axes: int = 1
    one_of_many: bool = False


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
            with jax.disable_jit(), _traced_apart(True), softmax_seen(_see_softmax):
                yield
        finally:
            _OBSERVER.reset(before)

    def seen(self, layer: Layer, inputs: Any, output: Any) -> Any:
        """The same output, of which the numbers are noted on the way forward and back."""
        self.called.add(layer.name)
        self.axis = layer.axis
        leaves, form = jax.tree.flatten(output)
        place = next((i for i, leaf in enumerate(leaves) if is_inexact(leaf)), None)
        if place is None:
            return output
        given = [leaf for leaf in jax.tree.leaves(inputs) if is_inexact(leaf)][:1] if layer.weight is not None else []
        site = next(_NUMBERS)
        self._sites[site] = layer
        leaves[place] = _seen.bind(leaves[place], *map(jax.lax.stop_gradient, given), site=site, forward=True)
        return form.unflatten(leaves)

    def softmax(self, logits: Any) -> Any:
        """The same logits, noted if they are those of attention, whose module is that of the layer that was called last."""
        last = next((call.layer.name for call in reversed(self.calls) if call.layer.kind != ATTENTION), "")
        site = next(_NUMBERS)
        self._sites[site] = Layer(name=f"{last.rpartition('.')[0] or 'model'}/{ATTENTION}", kind=ATTENTION)
        return _seen.bind(logits, site=site, forward=True)

    def note(self, site: int, value: Any, *given: Any, forward: bool) -> None:
        layer = self._sites.get(site)
        if layer is None:  # of an earlier diagnosis, in what jax.checkpoint has kept
            return
        if layer.axes > 1:
            value = value.reshape(*value.shape[: -layer.axes], -1)
        if not value.size or (forward and self.returning):
            return
        if layer.kind == ATTENTION and not looks_like_attention(value.shape, layer.name.rpartition("/")[0]):
            return
        if forward:
            self._of.setdefault(site, []).append(self._forward(layer, wide(value), *given))
            self.calls.append(self._of[site][-1])
        elif self._of.get(site):
            calls = self._of[site]
            call = next((one for one in reversed(calls) if math.isnan(one.gradient)), calls[0])
            measure_gradient(call, wide(value))

    def _forward(self, layer: Layer, value: Any, *given: Any) -> Call:
        number = self._count[layer.name] = self._count.get(layer.name, 0) + 1
        call = Call(label_of(layer.name, number), layer, value.shape)
        if layer.kind == ATTENTION:
            call.entropy, square = mean_entropy(some_queries(value))
            call.square = square * value.size
            return call
        measure(call, value, tokens=layer.axis == -1)
        if given and given[0].size:
            call.input_square = sum_of_squares(wide(given[0])) / given[0].size
        return call
