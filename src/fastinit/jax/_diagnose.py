"""`fastinit.jax.diagnose`: whether a model of Flax or Equinox will train from its start, and what keeps it from it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._common.checks import whole_number
from .._stream.keys import Key, check_key
from .._stream.sampling import normal, uniform
from ..diagnosis.model import judge_model, model_limits
from ..diagnosis.observed import ObservedModel, WithoutGradient, role_of
from ..diagnosis.result import Diagnosis
from ..diagnosis.symmetry import copied_units, equal_layers
from ..diagnosis.thresholds import Thresholds
from ._models import Model, is_model, parts_of
from ._observe import Layer, Observer, sum_of_squares, wide

__all__ = ["diagnose"]

_MOST_STEPS = 3  # virtual ones: a zero behind a zero gets a gradient only after the first has moved
_VECTOR_STEP = 1e-3

Norms = dict[str, tuple[float, float]]  # of parameters: sums of squares of the values and of the gradients


def diagnose(
    model: Any,
    *inputs: Any,
    named: Mapping[str, Any] | None = None,
    call: Callable[..., Any] | None = None,
    loss: Callable[..., Any] | None = None,
    targets: Any = None,
    seeds: int = 1,
    key: Key | None = None,
    thresholds: Thresholds | None = None,
) -> Diagnosis:
    """Say whether a model will train from its start, by a pass forward and back, and name the layer that keeps it from it.

    The model is not changed: another one is made of its parts, with its modes, and run without jit.

    Parameters
    ----------
    model : flax.nnx.Module, bound flax.linen.Module, equinox.Module, or a function of a JAX key that makes one
        Of Flax linen ``module.bind(variables)``.
    *inputs
        What the model is called with. A batch of 32 is enough; batch normalisation is judged better with 128.
    named : mapping, optional
        Inputs that are passed by name.
    call : callable, optional
        ``call(model, *inputs, **named)`` calls the model where that is done otherwise. By default ``model(*inputs, **named)``; of
        Equinox, whose models take one sample, ``jax.vmap(model)(*inputs)`` with ``axis_name="batch"``.
    loss : callable, optional
        ``loss(outputs, targets)``, or ``loss(outputs)`` without `targets`, gives the number that is minimised. By default the
        cross-entropy where an output looks like logits: floating, of shape (batch, C) or (batch, length, C) with C >= 2,
        and in an output by names only those whose name ends in "logits"; of other outputs the product with standard normals.
    targets : optional
        What `loss` takes; without one the classes for the cross-entropy, ints of the shape of the logits without
        their last axis. Uniform ones from ``key / "labels"`` if not given.
    seeds : int >= 1, default 1
        With a function: how many models are made, of ``jax.random.key(seed)`` with a seed from ``key / f"{i}"``.
    key : Key, default Key(0)
        Names the labels and everything else that is random here; a diagnosis can be repeated.
    thresholds : Thresholds, optional
        Where warnings and failures begin. By default those of `Thresholds` but for ``initial_loss=(1, 3)``: heads
        that are tied to embeddings of variance 1, a fault of published models, begin at 25 times ln C.

    Returns
    -------
    Diagnosis
        With a row for each call of a module that owns parameters, and in Equinox of relu, relu6, leaky_relu, tanh, sigmoid,
        hard_tanh and soft_sign that are leaves of the model, in the order of execution; its theory is the mean square
        that the output has if the weights are independent of the input.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the model has no floating parameters. Errors of the model and of the loss are passed on.

    Notes
    -----
    Activation functions that are called as functions are not seen themselves: units of a dense or convolutional layer
    that no gradient comes back through are called dead, and saturation shows as vanishing. Layers inside compiled loops whose
    length depends on data are not seen.

    Examples
    --------
    >>> layers = [nnx.Linear(64, 64, rngs=rngs) if i % 2 == 0 else nnx.sigmoid for i in range(60)]
    >>> diagnose(nnx.Sequential(*layers), jnp.ones((32, 64))).verdict
    'vanishing'
    """
    limits = model_limits(thresholds)
    names = check_key(Key(0) if key is None else key)
    count = whole_number("seeds", seeds)
    one = is_model(model)
    if not one and not callable(model):
        raise TypeError(
            f"model: expected a module of Flax or Equinox, or a function of a key that makes one, got {type(model).__name__}"
        )
    if one and count > 1:
        raise TypeError(f"seeds: expected 1 for one model, got {count}; give a function of a key that makes a model")
    for name, function in (("loss", loss), ("call", call)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}: expected a function, got {type(function).__name__}")
    runs = []
    for i in range(count):
        seed = int(uniform((1,), 0.0, float(2**31), key=names / f"{i}", dtype="float64")[0])
        made = model if one else model(jax.random.key(seed))
        if not is_model(made):
            raise TypeError(f"model: expected a function that makes a module of Flax or Equinox, got {type(made).__name__}")
        parts = parts_of(made, seed)
        if not parts.parameters:
            raise ValueError("model: expected floating parameters, got none")
        pass_ = _Pass(parts, inputs, dict(named or {}), call, loss, targets, names)
        runs.append(pass_.observed())
    parameters = sum(array.size for array in parts.parameters.values())
    title = f"{parts.kind}, {parameters:,} parameters; {pass_.what}"
    return judge_model(runs, limits, title)


# ---- what is minimised ------------------------------------------------------------------------------


def _outputs(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays that a model returns, with their names in dicts; in an output by names logits alone, if there are any."""
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jnp.inexact):
            yield name, value
    elif isinstance(value, Mapping) or dataclasses.is_dataclass(value):
        items = dict(value) if isinstance(value, Mapping) else vars(value)
        logits = {key: item for key, item in items.items() if str(key).endswith("logits") and item is not None}
        for key, item in (logits or items).items():
            yield from _outputs(item, str(key))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _outputs(item, name)


def _looks_like_logits(name: str, array: Any) -> bool:
    shaped = jnp.issubdtype(array.dtype, jnp.floating) and array.ndim in (2, 3) and array.shape[-1] >= 2
    return bool(shaped) and (not name or name.endswith("logits"))


def _cross_entropy(logits: Any, labels: Any) -> Any:
    exact = logits if logits.dtype == jnp.float64 else logits.astype(jnp.float32)
    return -jnp.take_along_axis(jax.nn.log_softmax(exact), jnp.asarray(labels)[..., None], axis=-1).mean()


class _Pass:
    """One model and its data; `what` says what was minimised."""

    def __init__(
        self, model: Model, inputs: Any, named: dict[str, Any], call: Any, loss: Any, targets: Any, key: Key
    ) -> None:
        self.model, self.inputs, self.named, self.call = model, inputs, named, call
        self.loss, self.targets, self.key = loss, targets, key
        self.what = "the loss that was given"
        arrays = [leaf for leaf in jax.tree.leaves((inputs, named)) if getattr(leaf, "ndim", 0)]
        self.batch = int(arrays[0].shape[0]) if arrays else 1

    def observed(self) -> ObservedModel:
        """Look at the model, and again after virtual steps where zeros may be there by design."""
        parameters = dict(self.model.parameters)
        first, gradients, noted = self._look(parameters)
        norms = _norms(parameters, gradients)
        symmetric = _symmetric(first, parameters, gradients, norms)
        last, moved = first, norms
        for _ in range(_MOST_STEPS):
            if not _lacking(moved) and not _silent(last):
                break
            if not _virtual_step(parameters, gradients):
                break
            last, gradients, _ = self._look(parameters)
            again = _norms(parameters, gradients)
            moved = {name: (norms[name][0], max(moved[name][1], again[name][1])) for name in again}
        for before, after in zip(first.calls, last.calls, strict=False):
            if before.name == after.name and not before.gradient > 0:
                before.gradient, before.dead = after.gradient, after.dead if before.layer.weight else before.dead
        sizes = {name: array.size for name, array in parameters.items()}
        return ObservedModel(
            layers=first.layers(self.batch, moved, sizes, _silent(last)),
            without_gradient=tuple(_without_gradient(self.model, last, _lacking(moved))),
            non_finite=tuple(name for name, (square, _) in norms.items() if not math.isfinite(square)),
            twins=_twins(self.model.parameters), symmetric=symmetric, batch=self.batch,
            **{name: float(noted.get(name, math.nan)) for name in ("loss", "classes", "logit_variance")},
        )  # fmt: skip

    def _look(self, parameters: dict[str, Any]) -> tuple[Observer, dict[str, Any], dict[str, Any]]:
        """One pass forward and back: what was seen, the gradients of parameters, and the loss."""
        owned: dict[str, dict[str, tuple[str, Any]]] = {}
        for name, array in parameters.items():
            layer = self.model.owners[name]
            owned.setdefault(layer, {})[name[len(layer) + 1 if layer else 0 :]] = (name, array)
        observer = Observer(owned)

        def forward(parameters: dict[str, Any]) -> Any:
            with self.model.made(parameters) as model:
                return self._total(self._called(model))

        with observer():
            total, back, noted = jax.vjp(forward, parameters, has_aux=True)
            observer.returning = True
            gradients = back(jnp.ones_like(total))[0]
        return observer, gradients, noted

    def _called(self, model: Any) -> Any:
        if self.call is not None:
            return self.call(model, *self.inputs, **self.named)
        if self.model.alone:
            return jax.vmap(functools.partial(model, **self.named), axis_name="batch")(*self.inputs)
        return model(*self.inputs, **self.named)

    def _total(self, outputs: Any) -> tuple[Any, dict[str, Any]]:
        """What is minimised, and the cross-entropy, also beside a loss that was given."""
        found = list(_outputs(outputs))
        logits = [array for name, array in found if _looks_like_logits(name, array)]
        fits = bool(logits) and self.targets is not None and _are_classes(self.targets, logits[0])
        if self.loss is not None:
            total = jnp.asarray(self.loss(outputs) if self.targets is None else self.loss(outputs, self.targets))
            if total.shape != () or not jnp.issubdtype(total.dtype, jnp.floating):
                raise TypeError(f"loss: expected one floating number, got {total.dtype}{list(total.shape)}")
            return total, {"loss": total} | (_noted(logits[0], self.targets) if fits else {})
        if self.targets is not None and not fits:
            raise ValueError("targets: expected a loss beside them, or ints that are classes for the logits the model returns")
        total, normals = jnp.zeros((), jnp.float32), False
        noted: dict[str, Any] = {}
        for i, (name, array) in enumerate(found):
            if _looks_like_logits(name, array):
                labels = self.targets if fits and not noted else self._labels(array, i)
                total = total + _cross_entropy(array, labels)
                noted = noted or _noted(array, labels)
            else:
                cotangent = jnp.asarray(np.asarray(normal(tuple(array.shape), key=self.key / "cotangent" / f"{i}")))
                total = total + (array.real * cotangent).sum(dtype=jnp.float32) / self.batch
                normals = True
        whose = "the labels that were given" if fits else "random labels"
        kinds = [f"cross-entropy with {whose}"] * bool(noted) + ["a random cotangent"] * normals
        self.what = " and ".join(kinds) if kinds else "no output that can be differentiated"
        return total, noted

    def _labels(self, logits: Any, i: int) -> Any:
        classes, shape = logits.shape[-1], tuple(logits.shape[:-1])
        drawn = np.asarray(uniform(shape, 0.0, float(classes), key=self.key / "labels" / f"{i}"), dtype=np.int32)
        return np.minimum(drawn, classes - 1)


def _are_classes(targets: Any, logits: Any) -> bool:
    return (
        isinstance(targets, (jax.Array, np.ndarray))
        and bool(jnp.issubdtype(targets.dtype, jnp.integer))
        and targets.shape == logits.shape[:-1]
        and bool(((targets >= 0) & (targets < logits.shape[-1])).all())
    )


def _noted(logits: Any, labels: Any) -> dict[str, Any]:
    variance = logits.astype(jnp.float32).var(axis=-1, ddof=1).mean()
    return {"loss": _cross_entropy(logits, labels), "classes": float(logits.shape[-1]), "logit_variance": variance}


# ---- zeros ------------------------------------------------------------------------------------------


def _norms(parameters: dict[str, Any], gradients: dict[str, Any]) -> Norms:
    return {name: (sum_of_squares(wide(array)), sum_of_squares(wide(gradients[name]))) for name, array in parameters.items()}


def _lacking(norms: Norms) -> list[str]:
    return [name for name, (_, gradient) in norms.items() if gradient == 0]


def _silent(observer: Observer) -> set[str]:
    """Layers with weights whose output is all 0 though their input is not."""
    return {call.name for call in observer.calls if call.square == 0 and call.input_square > 0}


def _virtual_step(parameters: dict[str, Any], gradients: dict[str, Any]) -> bool:
    """Move the parameters that are all 0 and have a gradient against it; returns whether there was one.

    Matrices become as large as LeCun's, 1 / sqrt(fan_in) in root mean square, and vectors 1e-3: only whether numbers are 0 is
    asked of the result. Zeros by design, at the end of residual branches or in a head, are none afterwards.
    """
    moved = False
    for name, array in parameters.items():
        gradient = wide(gradients[name]).astype(np.float64)
        square = sum_of_squares(gradient)
        if not 0 < square < math.inf or np.asarray(array).any():
            continue
        size = math.sqrt(square / gradient.size)
        target = math.sqrt(array.shape[-1] / array.size) if array.ndim >= 2 else _VECTOR_STEP
        parameters[name] = jnp.asarray(gradient * (-target / size), array.dtype)
        moved = True
    return moved


def _without_gradient(model: Model, observer: Observer, lacking: list[str]) -> Iterator[WithoutGradient]:
    """Parameters whose gradient is 0 whatever was tried, with the reason that what was seen of their layer gives."""
    calls: dict[str, list[Any]] = {}
    for call in observer.calls:
        calls.setdefault(call.layer.name, []).append(call)
    roles = {role_of(name) for name in calls}

    def comes_back(name: str) -> bool:
        return any(not math.isnan(call.gradient) for call in calls.get(model.owners[name], ()))

    for name in sorted(lacking, key=comes_back):  # what is detached is more surely a fault than a 0 that comes back
        layer = model.owners[name]
        own, who, fault = calls.get(layer, []), layer or "the model", True
        if layer not in observer.called:
            fault = False
            reason = f"no sample of the batch is sent to {who}" if role_of(layer) in roles else f"{who} is not called"
        elif own and all(math.isnan(call.gradient) for call in own):
            reason = f"what {who} computes is detached from the loss, or chooses among others and does not enter it"
        elif own and not any(call.gradient > 0 for call in own):
            reason = f"all that comes back to {who} is 0, so that something after it multiplies it by 0 or is flat"
        elif own and all(call.input_square == 0 for call in own):
            reason = f"the input of {who} is 0"
        else:
            reason = f"nothing that {who} passes on depends on it here"
        yield WithoutGradient(name, layer, reason, fault)


# ---- equal arrays -----------------------------------------------------------------------------------


def _twins(parameters: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Pairs of parameters that look drawn and are equal, and are not one array."""
    distinct = {id(array): name for name, array in reversed(parameters.items()) if array.ndim >= 2 and array.size}
    names = list(distinct.values())[::-1]
    return tuple((names[i], names[j]) for i, j in equal_layers([wide(parameters[name]) for name in names]))


def _symmetric(
    observer: Observer, parameters: dict[str, Any], gradients: dict[str, Any], norms: Norms
) -> tuple[tuple[str, int, int], ...]:
    """Layers some of whose units have equal weights and equal gradients.

    Not the last layer, the head, whose classes may well be alike at first, and not layers of zeros.
    """
    found = []
    layers = {call.layer.name: call.layer for call in observer.calls if call.layer.weight and "#" not in call.name}
    for layer in list(layers.values())[:-1]:
        if not layer.weight or not layer.inputs or layer.one_of_many or parameters[layer.weight].size % layer.units:
            continue
        square, energy = norms[layer.weight]
        if not (square > 0 and math.isfinite(square + energy)):
            continue
        weight, gradient = (_by_unit(layer, wide(of[layer.weight])) for of in (parameters, gradients))
        bias = wide(parameters[layer.bias]).ravel() if layer.bias else None
        copies = copied_units(weight, bias if bias is not None and len(bias) == layer.units else None, gradient)
        if copies:
            found.append((layer.name, copies, layer.units))
    return tuple(found)


def _by_unit(layer: Layer, array: Any) -> Any:
    return array.reshape(layer.units, -1) if layer.units_first else array.reshape(-1, layer.units).T
