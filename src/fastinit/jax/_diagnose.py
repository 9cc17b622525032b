"""`fastinit.jax.diagnose`: whether a model of Flax or Equinox will train from its start, and what keeps it from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._common.checks import whole_number
from .._stream.keys import Key, check_key
from ..diagnosis import calls, minimised
from ..diagnosis.calls import Norms, sum_of_squares
from ..diagnosis.cross_entropy import mean_cross_entropy
from ..diagnosis.looks import Look, last_look, observed_model
from ..diagnosis.model import judge_model, model_limits
from ..diagnosis.observed import ObservedModel
from ..diagnosis.result import Diagnosis
from ..diagnosis.symmetry import Units, symmetric_layers, twins
from ..diagnosis.thresholds import Thresholds
from ..diagnosis.zeros import virtual_steps
from ._arguments import is_traced
from ._models import Model, is_model, parts_of
from ._observe import Layer, Observer, wide

__all__ = ["diagnose"]

_SMALLEST = 1e-30  # of a probability, whose logarithm is taken


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
        Equinox, whose models take one sample, ``jax.vmap(model)(*inputs)`` with ``axis_name="batch"``, and with a key for each
        sample of one that is passed by name.
    loss : callable, optional
        ``loss(outputs, targets)``, or ``loss(outputs)`` without `targets`, gives the number that is minimised. By default the
        cross-entropy where an output looks like logits or probabilities: floating, of shape (batch, C) or (batch, length, C)
        with C >= 2, and in an output by names only those whose name ends in "logits"; of others the product with standard
        normals.
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
        With a row for each call of a module that owns parameters, in nnx and Equinox of relu, relu6, leaky_relu, tanh, sigmoid,
        hard_tanh and soft_sign that are attributes or leaves of the model, and of the logits of attention, in the order of
        execution; its theory is the mean square that the output has if the weights are independent of the input.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the model has no floating parameters. Errors of the model and of the loss are passed on.

    Notes
    -----
    Other activation functions are not seen themselves: units of a dense or convolutional layer
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
    if is_model(getattr(model, "__wrapped__", getattr(model, "fun", None))):
        raise TypeError(f"model: expected the model itself, which is run without jit, got a compiled one, {type(model).__name__}")
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
    # What would stop a pass at NaN, or at a number that moves to the device, is meant for training.
    with jax.debug_nans(False), jax.debug_infs(False), jax.transfer_guard("allow"):
        for i in range(count):
            seed = minimised.seed_of(names, i)
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


def _looks_like_logits(name: str, array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating) and minimised.looks_like_logits(name, array.shape)


def _as_logits(output: Any) -> Any:
    """Logits in full precision; of probabilities, such as those behind a softmax, their logarithms."""
    exact = output if output.dtype == jnp.float64 else output.astype(jnp.float32)
    return jnp.log(jnp.maximum(exact, _SMALLEST)) if minimised.are_probabilities(exact) else exact


def _cross_entropy(logits: Any, labels: Any) -> Any:
    # Not by take_along_axis, which an explicitly sharded axis of classes refuses.
    chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -(jax.nn.log_softmax(logits) * chosen).sum(axis=-1).mean()


class _Pass:
    """One model and its data; `what` says what was minimised."""

    def __init__(
        self, model: Model, inputs: Any, named: dict[str, Any], call: Any, loss: Any, targets: Any, key: Key
    ) -> None:
        self.model, self.inputs, self.named, self.call = model, inputs, named, call
        self.loss, self.targets, self.key = loss, targets, key
        self.what = minimised.GIVEN
        self.gradients: dict[str, Any] = {}  # of the last look
        self.left_out: tuple[str, ...] = ()
        self.unjudged: list[Any] = []  # logits beside a loss whose targets are not seen, and their gradient
        for value in (*inputs, *named.values()):
            if isinstance(value, Iterator):
                raise TypeError(f"inputs: expected values that can be passed twice, got an iterator, {type(value).__name__}")
        arrays = [leaf for leaf in jax.tree.leaves((inputs, named)) if getattr(leaf, "ndim", 0)]
        self.batch = int(arrays[0].shape[0]) if arrays else 1
        if not self.batch:
            raise ValueError("inputs: expected at least one sample, got an empty batch")
        if model.alone and call is None and not arrays:
            raise ValueError("inputs: expected arrays with an axis of samples, got none")
        if is_traced(*arrays, jnp.zeros(())):
            raise TypeError("inputs: expected arrays with numbers, got tracers; diagnose outside of jit and the like")

    def observed(self) -> ObservedModel:
        """Look at the model, and again after virtual steps where zeros may be there by design."""
        parameters, owners = dict(self.model.parameters), self.model.owners
        first = self._look(parameters)
        symmetric = symmetric_layers(first.calls, lambda layer: _units(layer, parameters, self.gradients), wide)
        distinct = {id(array): name for name, array in reversed(parameters.items())}
        pairs = twins({name: np.asarray(parameters[name]) for name in reversed(distinct.values())}, wide)

        def step() -> bool:
            moved = virtual_steps(_arrays(parameters), _arrays(self.gradients))
            parameters.update({name: jnp.asarray(array, parameters[name].dtype) for name, array in moved.items()})
            return bool(moved)

        last = last_look(first, lambda everything: self._look(parameters, everything), step)
        return observed_model(
            first, last, batch=self.batch, owners=owners, watched=set(owners.values()), twins=pairs, symmetric=symmetric
        )

    def _look(self, parameters: dict[str, Any], everything: bool = False) -> Look:
        """One pass forward and back."""
        observer = Observer({
            layer: {short: (name, parameters[name]) for short, name in own.items()} for layer, own in self.model.owned.items()
        })  # fmt: skip

        def forward(parameters: dict[str, Any]) -> Any:
            with self.model.made(parameters) as model:
                return self._total(self._called(model), everything)

        self.unjudged.clear()
        with observer():
            total, back, noted = jax.vjp(forward, parameters, has_aux=True)
            observer.returning = True
            self.gradients = back(jnp.ones_like(total))[0]
        if len(self.unjudged) == 2:
            noted = self._noted_if_cross_entropy(float(total))
        norms = {
            name: Norms(array.size, sum_of_squares(wide(array)), sum_of_squares(wide(self.gradients[name])))
            for name, array in parameters.items()
        }
        loss = minimised.known_loss(float(noted["loss"])) if noted else math.nan
        classes, variance = (float(noted.get(name, math.nan)) for name in ("classes", "logit_variance"))
        return Look(observer.calls, observer.called, norms, loss, classes, variance, self.left_out)

    def _noted_if_cross_entropy(self, loss: float) -> dict[str, Any]:
        """Judge the head also by a loss whose targets are not seen."""
        logits, gradient = self.unjudged
        mean = mean_cross_entropy(wide(logits), wide(gradient), loss)
        return {"loss": loss} if math.isnan(mean) else _noted(_as_logits(logits), None) | {"loss": mean}

    def _watched(self, logits: Any) -> Any:
        """The same logits, noted on the way forward, and their gradient on the way back."""
        same = jax.custom_vjp(lambda value: value)

        def forward(value: Any) -> Any:
            self.unjudged.append(value)
            return value, None

        def back(_: None, gradient: Any) -> Any:
            self.unjudged.append(gradient)
            return (gradient,)

        same.defvjp(forward, back)
        return same(logits)

    def _called(self, model: Any) -> Any:
        # Copies: generators of Flax count what is drawn from them, and a state of Equinox may be used once.
        inputs, named = jax.tree.map(lambda leaf: leaf, (self.inputs, self.named))
        if self.call is not None:
            return self.call(model, *inputs, **named)
        if self.model.alone:
            keys = {name: jax.random.split(value, self.batch) for name, value in named.items() if _is_one_key(name, value)}

            def one(keys: Any, *inputs: Any) -> Any:
                return model(*inputs, **{**named, **keys})

            try:
                return jax.vmap(one, axis_name="batch")(keys, *inputs)
            except Exception as error:
                shapes = ", ".join(minimised.described(leaf) for leaf in jax.tree.leaves(inputs))
                error.add_note(f"A model of Equinox is called for each sample, along the first axis of the inputs, got {shapes}.")
                raise
        return model(*inputs, **named)

    def _total(self, outputs: Any, everything: bool) -> tuple[Any, dict[str, Any]]:
        """What is minimised, and the cross-entropy, also beside a loss that was given."""
        found, others = (
            [(name, array) for name, array in some if jnp.issubdtype(array.dtype, jnp.inexact)]
            for some in minimised.outputs(outputs, lambda value: isinstance(value, jax.Array))
        )
        like = [array for name, array in found if _looks_like_logits(name, array)]
        fits = bool(like) and self.targets is not None and _are_classes(self.targets, like[0])
        if self.loss is not None:
            if like and not fits:
                outputs = jax.tree.map(lambda leaf: self._watched(leaf) if leaf is like[0] else leaf, outputs)
            total = jnp.asarray(self.loss(outputs) if self.targets is None else self.loss(outputs, self.targets))
            if total.shape != () or not jnp.issubdtype(total.dtype, jnp.floating):
                raise TypeError(f"loss: expected one floating number, got {minimised.described(total)}")
            return total, {"loss": total} | (_noted(_as_logits(like[0]), self.targets) if fits else {})
        if self.targets is not None and not fits:
            raise ValueError(minimised.not_classes(self.targets, [array.shape for _, array in found]))
        total, normals = jnp.zeros((), jnp.float32), False
        noted: dict[str, Any] = {}
        for i, (name, array) in enumerate(found):
            if _looks_like_logits(name, array):
                labels = self.targets if fits and not noted else minimised.labels(array.shape, self.key, i)
                logits = _as_logits(array)
                total = total + _cross_entropy(logits, labels)
                noted = noted or _noted(logits, labels)
            else:
                total = total + self._against_normals(array, i)
                normals = True
        self.left_out = tuple(dict.fromkeys(name for name, _ in others))
        for i, (_, array) in enumerate(others if everything else [], len(found)):
            total = total + self._against_normals(array, i)
        self.what = minimised.in_words(["cross-entropy"] * bool(noted), given=fits, normals=normals)
        return total, noted

    def _against_normals(self, array: Any, i: int) -> Any:
        cotangent = jnp.asarray(minimised.cotangent(array.shape, self.key, i))
        return (array.real * cotangent).sum(dtype=jnp.float32) / self.batch


def _is_one_key(name: str, value: Any) -> bool:
    """Whether an input that is passed by name is a key of JAX; one of the old kind is known by its name."""
    if not isinstance(value, jax.Array):
        return False
    of_old = name == "key" and value.dtype == jnp.uint32 and value.shape == (2,)
    return of_old or (value.shape == () and bool(jnp.issubdtype(value.dtype, jax.dtypes.prng_key)))


def _are_classes(targets: Any, logits: Any) -> bool:
    return isinstance(targets, (jax.Array, np.ndarray)) and minimised.are_classes(np.asarray(targets), logits.shape)


def _noted(logits: Any, labels: Any) -> dict[str, Any]:
    variance = logits.var(axis=-1, ddof=1).mean()
    of_labels = {} if labels is None else {"loss": _cross_entropy(logits, labels)}
    return of_labels | {"classes": float(logits.shape[-1]), "logit_variance": variance}


# ---- parameters -------------------------------------------------------------------------------------


def _arrays(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: wide(array) for name, array in parameters.items()}


def _units(layer: calls.Layer, parameters: dict[str, Any], gradients: dict[str, Any]) -> Units | None:
    if not isinstance(layer, Layer) or not layer.weight or not layer.inputs or layer.one_of_many:
        return None
    weight, gradient = parameters[layer.weight], gradients[layer.weight]
    if weight.size % layer.units:
        return None
    bias = parameters[layer.bias] if layer.bias else None
    return Units(_by_unit(layer, wide(weight)), _by_unit(layer, wide(gradient)), bias)


def _by_unit(layer: Layer, array: Any) -> Any:
    return array.reshape(layer.units, -1) if layer.units_first else array.reshape(-1, layer.units).T
