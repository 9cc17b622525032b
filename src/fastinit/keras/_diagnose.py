"""`fastinit.keras.diagnose`: whether a Keras model will train from its start, and what keeps it from it."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator
from typing import Any

import keras as _keras
import numpy as np
from numpy.typing import NDArray

from .._common.checks import whole_number
from .._stream.keys import Key, check_key
from ..diagnosis import minimised
from ..diagnosis.calls import Layer, Norms, measure_gradient, sum_of_squares
from ..diagnosis.cross_entropy import mean_cross_entropy
from ..diagnosis.looks import Look, last_look, observed_model
from ..diagnosis.model import judge_model, model_limits
from ..diagnosis.observed import ObservedModel
from ..diagnosis.result import Diagnosis
from ..diagnosis.symmetry import Units, symmetric_layers, twins
from ..diagnosis.thresholds import Thresholds
from ..diagnosis.zeros import virtual_steps
from ._observe import Layout, Observer, array, is_floating, is_traced, kernel_of

__all__ = ["diagnose"]

Array = NDArray[Any]
_ops = _keras.ops

_SMALLEST = 1e-30  # of a probability, whose logarithm is taken


def diagnose(
    model: Any,
    x: Any,
    *,
    loss: Any = None,
    targets: Any = None,
    seeds: int = 1,
    key: Key | None = None,
    thresholds: Thresholds | None = None,
) -> Diagnosis:
    """Say whether a Keras model will train from its start, by a pass forward and back, and name the layer that keeps it from it.

    On the JAX and the PyTorch backends. The model is not changed, nor are its optimizer, its seed generators, its statistics
    and the random generators of Python, NumPy and PyTorch, also after an error: it computes with other values for its variables.

    Parameters
    ----------
    model : keras.Model, or a function without arguments that makes one
        Built. It is called as ``model(x, training=True)``.
    x : array_like or tensor, or a list, tuple or dict of them
        The input. A batch of 32 is enough; batch normalisation is judged better with 128.
    loss : str, keras.losses.Loss or callable, optional
        With `targets`: ``loss(targets, outputs)``, Keras's order; its mean is minimised. By default the cross-entropy where an
        output looks like logits or probabilities: of shape (batch, C) or (batch, length, C) with C >= 2, and in an output by
        names only those whose name ends in "logits"; of other outputs the product with standard normals. What layers add
        by ``add_loss`` is added.
    targets : optional
        What `loss` takes; without one the classes for the cross-entropy, ints of the shape of the output without its
        last axis or with one of length 1. Uniform ones from ``key / "labels"`` if not given.
    seeds : int >= 1, default 1
        With a function: how many models are made, Python's, NumPy's and PyTorch's generators having a seed from
        ``key / f"{i}"``. Initializers with a seed of their own give the same values each time.
    key : Key, default Key(0)
        Names the labels and everything else that is random here; a diagnosis can be repeated.
    thresholds : Thresholds, optional
        Where warnings and failures begin. By default those of `Thresholds` but for ``initial_loss=(1, 3)``: heads
        that are tied to embeddings of variance 1, a fault of published models, begin at 25 times ln C.

    Returns
    -------
    Diagnosis
        With a row for each call of a layer that owns parameters, whose numbers are those before its activation function, of
        an activation function among relu, relu6, leaky_relu, tanh, sigmoid, hard_tanh and softsign, and of the values that one
        of Keras's attention layers has weighted, in the order of execution. A layer's name is that of the layers around it and
        its own, joined by "/"; beside dense_1, dense is called dense_0. Its theory is the mean square that the output has if the
        weights are independent of the input.

    Raises
    ------
    NotImplementedError
        On the TensorFlow backend.
    TypeError, ValueError
        If an argument does not fit; if the model is not built, has nothing to train, or holds a `TorchModuleWrapper`, for which
        there is `fastinit.torch.diagnose`. Errors of the model and of the loss are passed on.

    Examples
    --------
    >>> layers = [keras.layers.Dense(64, activation="relu") for _ in range(30)]
    >>> model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
    >>> diagnose(model, fastinit.normal((32, 64), key=fastinit.Key(0))).verdict
    'vanishing'
    """
    if _keras.backend.backend() not in ("jax", "torch"):
        raise NotImplementedError(
            f"fastinit.keras.diagnose: expected the JAX or the PyTorch backend of Keras, got {_keras.backend.backend()}"
        )
    limits = model_limits(thresholds)
    names = check_key(Key(0) if key is None else key)
    count = whole_number("seeds", seeds)
    is_model = isinstance(model, _keras.Model)
    if not is_model and (isinstance(model, _keras.layers.Layer) or not callable(model)):
        raise TypeError(f"model: expected a keras.Model or a function that makes one, got {type(model).__name__}")
    if is_model and count > 1:
        raise TypeError(f"seeds: expected 1 for one model, got {count}; give a function that makes a model")
    if isinstance(loss, str):
        loss = _keras.losses.get(loss)
    if loss is not None and not callable(loss):
        raise TypeError(f"loss: expected a name, a keras.losses.Loss or a function, got {type(loss).__name__}")
    if loss is not None and targets is None:
        raise ValueError("targets: expected what the loss compares the outputs with, got none")
    runs: list[ObservedModel] = []
    first = None
    for i in range(count):
        seed = minimised.seed_of(names, i)
        with _generators_kept():
            _seed(seed)
            made = model if is_model else model()
            _check(made)
            layout = Layout(made)
            if first is None:
                first = layout
            else:
                layout.rename(first)
            pass_ = _Pass(made, layout, x, loss, targets, names, seed)
            runs.append(pass_.observed())
    title = f"{type(made).__name__}, {made.count_params():,} parameters; {pass_.what}"
    return judge_model(runs, limits, title)


def _check(model: Any) -> None:
    if not isinstance(model, _keras.Model):
        raise TypeError(f"model: expected a function that makes a keras.Model, got {type(model).__name__}")
    if not model.built:
        raise ValueError("model: expected one that is built, got one without variables; call it once, or begin it with an Input")
    if not model.trainable_variables:
        raise ValueError("model: expected a variable to train, got none")
    # Its module computes with its own tensors, and writes into them, whatever values the variables are given.
    if any(type(layer).__name__ == "TorchModuleWrapper" for layer in Layout(model).everything):
        raise TypeError("model: expected layers of Keras, got a TorchModuleWrapper; fastinit.torch.diagnose takes modules")


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what the model's code may draw from)
    if _keras.backend.backend() == "torch":
        import torch

        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)


@contextlib.contextmanager
def _generators_kept() -> Iterator[None]:
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        if _keras.backend.backend() == "torch":
            import torch

            with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
                yield
        else:
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


# ---- what is minimised ------------------------------------------------------------------------------


def _as_tensors(name: str, value: Any) -> Any:
    """Arrays as tensors; None, for inputs that are optional, stays among them."""
    for leaf in _keras.tree.flatten(value):
        if isinstance(leaf, Iterator):
            raise TypeError(f"{name}: expected values that can be passed twice, got an iterator, {type(leaf).__name__}")
        alone = leaf is value
        if isinstance(leaf, (str, bytes)) or (leaf is None if alone else isinstance(leaf, (int, float))):
            among = "" if alone else f" in a {type(value).__name__}"
            raise TypeError(
                f"{name}: expected arrays or tensors, alone or in lists, tuples or dicts, got {type(leaf).__name__}{among}"
            )
    return _keras.tree.map_structure(lambda leaf: None if leaf is None else _ops.convert_to_tensor(leaf), value)


def _kind_of(name: str, tensor: Any) -> str:
    """What an output with values looks like: "logits", "probabilities", or "" for neither."""
    if not minimised.looks_like_logits(name, tuple(tensor.shape)):
        return ""
    return "probabilities" if minimised.are_probabilities(array(tensor)) else "logits"


def _as_logits(tensor: Any, kind: str) -> Any:
    wide = tensor if _keras.backend.standardize_dtype(tensor.dtype) == "float64" else _ops.cast(tensor, "float32")
    return _ops.log(_ops.maximum(wide, _SMALLEST)) if kind == "probabilities" else wide


def _name_of(loss: Any) -> str:
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__))


def _cross_entropy(logits: Any, labels: Any) -> Any:
    chosen = _ops.take_along_axis(_ops.log_softmax(logits, axis=-1), _ops.expand_dims(labels, -1), axis=-1)
    return -_ops.mean(chosen)


class _Pass:
    """One model and its data; `what` says what was minimised."""

    def __init__(self, model: Any, layout: Layout, x: Any, loss: Any, targets: Any, key: Key, seed: int) -> None:
        self.model, self.layout, self.loss, self.key, self.seed = model, layout, loss, key, seed
        self.x = _as_tensors("x", x)
        self.targets = None if targets is None else _as_tensors("targets", targets)
        self.what = minimised.GIVEN
        self.gradients: dict[str, Array] = {}  # of the last look
        self.value = self.classes = self.logit_variance = math.nan
        self.kinds: list[str] | None = None
        self.left_out: tuple[str, ...] = ()
        self.everything = False
        shapes = [tuple(tensor.shape) for tensor in _keras.tree.flatten(self.x) if tensor is not None]
        self.batch = next((shape[0] for shape in shapes if shape), 1)
        if self.batch == 0:
            raise ValueError("x: expected at least one sample, got an empty batch")

    def observed(self) -> ObservedModel:
        """Look at the model, and again after virtual steps where zeros may be there by design."""
        layout = self.layout
        values = {name: np.array(array(variable.value)) for name, variable in layout.parameters.items()}
        first = self._look(values)
        symmetric = symmetric_layers(first.calls, lambda layer: self._units(layer, values), np.asarray)
        pairs = twins(values, np.asarray)

        def step() -> bool:
            moved = virtual_steps(values, self.gradients)
            values.update({name: one.astype(values[name].dtype) for name, one in moved.items()})
            return bool(moved)

        last = last_look(first, lambda everything: self._look(values, everything), step)
        return observed_model(
            first, last, batch=self.batch, owners=layout.owners, watched=layout.observed, twins=pairs, symmetric=symmetric,
            told_apart=_keras.backend.backend() == "torch",
        )  # fmt: skip

    def _units(self, layer: Layer, values: dict[str, Array]) -> Units | None:
        kernel = kernel_of(self.layout.observed[layer.name])
        if kernel is None or layer.weight not in values:
            return None
        bias = values.get(layer.bias or "")
        return Units(kernel.rows(values[layer.weight]), kernel.rows(self.gradients[layer.weight]), bias)

    def _look(self, numbers: dict[str, Array], everything: bool = False) -> Look:
        """One pass forward and back, with these values of the parameters."""
        self.everything = everything
        back = self._back_in_torch if _keras.backend.backend() == "torch" else self._back_in_jax
        values = [
            _ops.convert_to_tensor(np.array(numbers[name]), dtype=variable.dtype)
            for name, variable in self.layout.parameters.items()
        ]
        observer, gradients, of_outputs = back(values)
        for label, gradient in of_outputs.items():
            if gradient is not None:
                measure_gradient(observer.calls[label], array(gradient))
        frozen = {path: array(variable.value) for path, variable in self.layout.frozen.items()}
        norms = {path: Norms(one.size, sum_of_squares(one)) for path, one in frozen.items()}
        for (name, value), gradient in zip(numbers.items(), gradients, strict=True):
            own = self.gradients[name] = np.zeros_like(value) if gradient is None else array(gradient)
            connected = gradient is not None if _keras.backend.backend() == "torch" else None
            norms[name] = Norms(value.size, sum_of_squares(value), sum_of_squares(own), connected)
        calls = list(observer.calls.values())
        return Look(calls, observer.called, norms, self.value, self.classes, self.logit_variance, self.left_out)

    def _back_in_torch(self, values: list[Any]) -> tuple[Observer, list[Any], dict[str, Any]]:
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            leaves = [value.detach().clone().requires_grad_() for value in values]
            observer = Observer(self.layout)
            total = self._forward(observer, leaves)
            tensors = {label: tensor for label, tensor in observer.tensors.items() if tensor.requires_grad}
            if not total.requires_grad:
                return observer, [None] * len(leaves), {}
            found = torch.autograd.grad(total, [*leaves, *tensors.values()], allow_unused=True)
        return observer, list(found[: len(leaves)]), dict(zip(tensors, found[len(leaves) :], strict=True))

    def _back_in_jax(self, values: list[Any]) -> tuple[Observer, list[Any], dict[str, Any]]:
        """A pass for the outputs, and a second one for the gradients of zeros that are added to them."""
        import jax

        observer = Observer(self.layout)
        self._forward(observer, values)
        probes = {label: _ops.zeros(tensor.shape, tensor.dtype) for label, tensor in observer.tensors.items()}
        observer.tensors.clear()
        gradients, of_outputs = jax.grad(
            lambda values, probes: self._forward(Observer(self.layout, probes), values), argnums=(0, 1)
        )(values, probes)
        return observer, gradients, of_outputs

    def _forward(self, observer: Observer, values: list[Any]) -> Any:
        _seed(self.seed)
        x = _keras.tree.map_structure(lambda tensor: None if tensor is None else _ops.copy(tensor), self.x)
        mapping = list(zip(self.layout.parameters.values(), values, strict=True))
        with observer.watching(), _keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            outputs = self.model(x, training=True)
            total = self._total(outputs)
            for extra in scope.losses:
                total = total + _ops.cast(_ops.sum(extra), total.dtype)
            if not is_traced(total) and not math.isfinite(float(array(total))):
                self.value = math.inf  # NaN stands for no loss
        observer.closed = True
        return total

    def _total(self, outputs: Any) -> Any:
        """What is minimised; the cross-entropy is noted, also beside a loss that was given."""
        found, others = (
            [(name, one) for name, one in some if is_floating(one)] for some in minimised.outputs(outputs, _ops.is_tensor)
        )
        if not found:
            raise ValueError("model: expected an output of floating numbers, got none")
        if self.kinds is None:
            self.kinds = [_kind_of(name, tensor) for name, tensor in found]
        heads = [(tensor, kind) for (_, tensor), kind in zip(found, self.kinds, strict=True) if kind]
        given = self._classes_for(heads[0][0]) if heads else None
        if self.loss is not None:
            total = self._loss_of(outputs)
            if not is_traced(total):
                self.value = float(array(total))
                if given is not None:
                    self._note(*heads[0], given)
                elif heads:
                    self._note_if_cross_entropy(outputs, *heads[0])
            return total
        if self.targets is not None and given is None:
            raise ValueError(minimised.not_classes(self.targets, [tuple(tensor.shape) for _, tensor in found]))
        entropies: list[str] = []
        total, normals = None, 0
        for i, ((_, tensor), kind) in enumerate(zip(found, self.kinds, strict=True)):
            if kind:
                drawn = self.targets is None or bool(entropies)
                labels = _ops.convert_to_tensor(minimised.labels(tuple(tensor.shape), self.key, i)) if drawn else given
                part = _cross_entropy(_as_logits(tensor, kind), _ops.cast(labels, "int32"))
                if not entropies and not is_traced(tensor):
                    self._note(tensor, kind, labels)
                entropies.append(kind)
            else:
                part = self._against_normals(tensor, i)
                normals += 1
            total = part if total is None else total + _ops.cast(part, total.dtype)
        self.left_out = tuple(dict.fromkeys(name for name, _ in others))
        for i, (_, tensor) in enumerate(others if self.everything else [], len(found)):
            total = total + _ops.cast(self._against_normals(tensor, i), total.dtype)
        kinds = [f"cross-entropy of {kind}" for kind in entropies]
        self.what = minimised.in_words(kinds, given=self.targets is not None, normals=normals > 0)
        return total

    def _against_normals(self, output: Any, i: int) -> Any:
        cotangent = minimised.cotangent(tuple(output.shape), self.key, i)
        return _ops.sum(_ops.cast(output, "float32") * _ops.convert_to_tensor(cotangent)) / self.batch

    def _loss_of(self, outputs: Any) -> Any:
        targets = self.targets
        if isinstance(self.loss, _keras.losses.Loss) or getattr(self.loss, "__module__", "").startswith("keras."):
            pairs = [_keras.tree.flatten(value) for value in (targets, outputs)]
            if any(len(flat) != 1 for flat in pairs):
                raise TypeError(
                    "loss: expected a function of (targets, outputs) for a model with several outputs, got "
                    f"{_name_of(self.loss)}"
                )
            targets, outputs = (flat[0] for flat in pairs)
        value = self.loss(targets, outputs)
        if not is_floating(value):
            raise TypeError(f"loss: expected it to return a tensor of floating numbers, got {minimised.described(value)}")
        return _ops.mean(value)

    def _classes_for(self, output: Any) -> Any:
        """The targets, if they are classes for these logits; a column of them, as in Keras's data sets, without its last axis.

        Of a categorical cross-entropy also rows with a 1 at the class: since it clips probabilities, the gradient may be 0.
        """
        labels: Any = self.targets
        shape = tuple(output.shape)
        if not _ops.is_tensor(labels):
            return None
        if tuple(labels.shape) == shape and "categorical_crossentropy" in _name_of(self.loss):
            classes = _ops.argmax(labels, axis=-1)
            if np.array_equal(array(_ops.one_hot(classes, shape[-1])), array(labels)):
                labels = classes
        if tuple(labels.shape) == (*shape[:-1], 1):
            labels = _ops.squeeze(labels, -1)
        return labels if minimised.are_classes(array(labels), shape) else None

    def _note_if_cross_entropy(self, outputs: Any, output: Any, kind: str) -> None:
        """Judge the head also by a loss whose classes are not seen."""

        def loss(value: Any) -> Any:
            return self._loss_of(_keras.tree.map_structure(lambda leaf: value if leaf is output else leaf, outputs))

        if _keras.backend.backend() == "torch":
            import torch

            leaf = output.detach().requires_grad_()
            total = loss(leaf)
            gradient = torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None
        else:
            import jax

            gradient = jax.grad(loss)(output)
        if gradient is None:
            return
        mean = mean_cross_entropy(array(output), array(gradient), self.value)
        if not math.isnan(mean):
            self._note(output, kind, None)
            self.value = mean

    def _note(self, output: Any, kind: str, labels: Any) -> None:
        logits = _as_logits(output, kind)
        self.classes = float(output.shape[-1])
        if labels is not None:
            self.value = float(array(_cross_entropy(logits, _ops.cast(labels, "int32"))))
        with np.errstate(all="ignore"):
            self.logit_variance = float(array(logits).var(axis=-1, ddof=1).mean())
