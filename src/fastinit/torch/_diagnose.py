"""`fastinit.torch.diagnose`: whether a PyTorch model will train from its start, and what keeps it from it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map

from .._common.checks import whole_number
from .._stream.keys import Key, check_key
from ..diagnosis import minimised
from ..diagnosis.calls import Norms
from ..diagnosis.cross_entropy import mean_cross_entropy
from ..diagnosis.looks import Look, last_look, observed_model
from ..diagnosis.model import judge_model, model_limits
from ..diagnosis.observed import ObservedModel, WithoutGradient
from ..diagnosis.result import Diagnosis
from ..diagnosis.symmetry import Units, symmetric_layers, twins
from ..diagnosis.thresholds import Thresholds
from ..diagnosis.zeros import step_factor
from ._functions import Functions
from ._observe import Observer, matrix_of, numbers, observed_modules, sum_of_squares
from ._untouched import generators_kept, outside_of_modules, untouched

__all__ = ["check_inputs", "check_model", "copied_inputs", "diagnose", "seed_generators"]

_SMALLEST = 1e-30  # of a probability, whose logarithm is taken
_IGNORED = -100  # the class that PyTorch's cross-entropy leaves out


def diagnose(
    model: torch.nn.Module | Callable[[], torch.nn.Module],
    *inputs: Any,
    named: Mapping[str, Any] | None = None,
    loss: Callable[..., Any] | None = None,
    targets: Any = None,
    seeds: int = 1,
    key: Key | None = None,
    thresholds: Thresholds | None = None,
) -> Diagnosis:
    """Say whether a model will train from its start, by a pass forward and back, and name the layer that keeps it from it.

    The model is not changed: it computes with copies of its parameters and buffers, and its attributes, modes, hooks, its own and
    the default random generators are put back, also after an error; a loss that is a module is not changed either. Other objects
    that the model writes to, such as a cache of its own class, are beyond that.

    Parameters
    ----------
    model : torch.nn.Module, or a function without arguments that makes one
        It is run in training mode if it is in evaluation mode as a whole, else with the modes that its modules have.
    *inputs
        What the model is called with: tensors, or anything but iterators. Tensors are copied. A batch of 32 is enough; batch
        normalisation is judged better with 128.
    named : mapping, optional
        Inputs that are passed by name.
    loss : callable, optional
        ``loss(outputs, targets)``, or ``loss(outputs)`` without `targets`, gives the number that is minimised. By default one
        number that the model returns beside logits, if that depends on all that they depend on; else the cross-entropy where an
        output looks like logits or probabilities: floating, of shape (batch, C) or (batch, length, C) with C >= 2, and in an
        output by names only those whose name ends in "logits"; of others the product with standard normals.
    targets : optional
        What `loss` takes; without one the classes for the cross-entropy, ints of the shape of the logits without
        their last axis, or -100 where there is none. Uniform ones from ``key / "labels"`` if not given.
    seeds : int >= 1, default 1
        With a function: how many models are made. PyTorch's generators have a seed from ``key / f"{i}"`` then.
    key : Key, default Key(0)
        Names the labels and everything else that is random here; a diagnosis can be repeated.
    thresholds : Thresholds, optional
        Where warnings and failures begin. By default those of `Thresholds` but for ``initial_loss=(1, 3)``: heads
        that are tied to embeddings of variance 1, a fault of published models, begin at 25 times ln C.

    Returns
    -------
    Diagnosis
        With a row for each call of a module that owns parameters or is a ReLU, LeakyReLU, Tanh, Sigmoid, Hardtanh or Softsign,
        for each call of such a function, "fc1/relu", and for attention, "h.0.attn/attention"; in the order of execution. The
        theory is what the output's root mean square is if weights are independent of the input.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; if the model has parameters without memory, or none that require a gradient. Errors of the
        model and of the loss are passed on.

    Examples
    --------
    >>> layers = [torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()) for _ in range(30)]
    >>> diagnose(torch.nn.Sequential(*layers, torch.nn.Linear(64, 10)), torch.randn(32, 64)).verdict
    'vanishing'
    """
    limits = model_limits(thresholds)
    names = check_key(Key(0) if key is None else key)
    count = whole_number("seeds", seeds)
    is_model = isinstance(model, torch.nn.Module)
    if not callable(model):
        raise TypeError(f"model: expected a torch.nn.Module or a function that makes one, got {type(model).__name__}")
    if is_model and count > 1:
        raise TypeError(f"seeds: expected 1 for one model, got {count}; give a function that makes a model")
    passed = check_inputs(inputs, named)
    if loss is not None and not callable(loss):
        raise TypeError(f"loss: expected a function of outputs and targets, got {type(loss).__name__}")
    runs: list[ObservedModel] = []
    made: Any = None
    for i in range(count):
        with generators_kept():
            seed = minimised.seed_of(names, i)
            seed_generators(seed)
            made = model if is_model else model()
            made = getattr(made, "_orig_mod", made)  # of a compiled model: compiled code does not call hooks
            check_model(made)
            pass_ = _Pass(made, inputs, passed, loss, targets, names, seed)
            runs.append(pass_.observed())
    parameters = sum(parameter.numel() for parameter in made.parameters())
    frozen = sum(parameter.numel() for parameter in made.parameters() if not parameter.requires_grad)
    kept = f" ({frozen:,} of them frozen)" if frozen else ""
    title = f"{type(made).__name__}, {parameters:,} parameters{kept}; {pass_.what}"
    return judge_model(runs, limits, title)


def check_model(model: Any) -> None:
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"model: expected a torch.nn.Module that Python runs, got {type(model).__name__}")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(f"model: expected modules that Python runs, got {type(module).__name__} at {name}")
    for name, buffer in model.named_buffers():
        if torch.nn.parameter.is_lazy(buffer):
            raise ValueError(f"model: expected buffers with memory, got {name} without; initialise the model first")
    for name, parameter in model.named_parameters():
        if torch.nn.parameter.is_lazy(parameter) or parameter.is_meta:
            raise ValueError(f"model: expected parameters with memory, got {name} without; initialise the model first")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model: expected a parameter that requires a gradient, got none")


def check_inputs(inputs: tuple[Any, ...], named: Any) -> dict[str, Any]:
    """The inputs that are passed by name. All of them may be passed more than once, which iterators cannot be."""
    if named is not None and not (isinstance(named, Mapping) and all(isinstance(name, str) for name in named)):
        raise TypeError(f"named: expected a mapping whose keys are strings, got {type(named).__name__}")
    passed = dict(named or {})
    for leaf in tree_leaves((inputs, passed)):
        if isinstance(leaf, Iterator):
            raise TypeError(f"inputs: expected values that can be passed twice, got an iterator, {type(leaf).__name__}")
        if isinstance(leaf, torch.Tensor) and leaf.is_meta:
            raise ValueError("inputs: expected tensors with memory, got one on the device meta")
    return passed


def copied_inputs(inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Copies of the tensors among the inputs, which require gradients where those do."""
    return tree_map(
        lambda leaf: leaf.detach().clone().requires_grad_(leaf.requires_grad) if isinstance(leaf, torch.Tensor) else leaf,
        (inputs, named),
    )


def seed_generators(seed: int) -> None:
    """Seed the generators that exist; torch.manual_seed would also seed devices that are not in use yet, for later."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what the model's code may draw from)


# ---- what is minimised ------------------------------------------------------------------------------


def _leaves(total: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that enter the loss and get a gradient."""
    nodes, waiting = set(), [total.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            waiting += [behind for behind, _ in node.next_functions]
    return [node.variable for node in nodes if hasattr(node, "variable")]


def _returned_loss(outputs: list[torch.Tensor], logits: torch.Tensor) -> torch.Tensor | None:
    """The one number beside logits that depends on all that they depend on, if there is such a one."""
    scalars = [tensor for tensor in outputs if tensor.dim() == 0 and tensor.requires_grad and not tensor.is_complex()]
    behind = {id(leaf) for leaf in _leaves(logits)}
    losses = [scalar for scalar in scalars if behind <= {id(leaf) for leaf in _leaves(scalar)}]
    return losses[0] if len(losses) == 1 else None


@contextlib.contextmanager
def _gradients_kept(total: torch.Tensor, parameters: dict[str, torch.nn.Parameter]) -> Iterator[None]:
    """Tensors that enter the loss and are no parameters of the model, such as those of a closure, keep their ``.grad``."""
    own = {id(parameter) for parameter in parameters.values()}
    kept = [(leaf, leaf.grad) for leaf in _leaves(total) if id(leaf) not in own]
    try:
        for leaf, _ in kept:
            leaf.grad = None
        yield
    finally:
        for leaf, gradient in kept:
            leaf.grad = gradient


class _Pass:
    """One model and its data; `what` says what was minimised."""

    def __init__(
        self, model: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], loss: Any, targets: Any, key: Key, seed: int
    ) -> None:
        self.model, self.inputs, self.named = model, inputs, named
        self.loss, self.targets, self.key, self.seed = loss, targets, key, seed
        self.what = minimised.GIVEN
        self.value = self.classes = self.logit_variance = math.nan
        self.unregistered: tuple[str, ...] = ()
        self.unjudged: torch.Tensor | None = None  # logits beside a loss whose targets are not seen
        self.left_out: tuple[str, ...] = ()
        tensors = [leaf for leaf in tree_leaves((inputs, named)) if isinstance(leaf, torch.Tensor) and leaf.dim()]
        self.batch = int(tensors[0].shape[0]) if tensors else 1
        if not self.batch:
            raise ValueError("inputs: expected at least one sample, got an empty batch")

    def observed(self) -> ObservedModel:
        """Look at the model, and again after virtual steps where zeros may be there by design."""
        roots = [self.model] + ([self.loss] if isinstance(self.loss, torch.nn.Module) else [])
        with torch.inference_mode(False), torch.enable_grad(), untouched(*roots):
            if not self.model.training:
                self.model.train()
            parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
            modules = dict(observed_modules(self.model))
            first = self._look(parameters)
            symmetric = symmetric_layers(first.calls, lambda layer: _units(modules[layer.name]), numbers)
            pairs = twins({name: p for name, p in parameters.items() if not p.is_complex()}, numbers)
            last = last_look(
                first, lambda everything: self._look(parameters, everything), lambda: _virtual_step(parameters)
            )
            observed = observed_model(
                first, last, batch=self.batch, owners={name: _owner(name) for name in parameters}, watched=modules,
                twins=pairs, symmetric=symmetric,
            )  # fmt: skip
            lost = observed.without_gradient + tuple(self._rounding(parameters, last))
            return dataclasses.replace(observed, unregistered=self.unregistered, without_gradient=lost)

    def _rounding(self, parameters: dict[str, torch.nn.Parameter], last: Look) -> list[WithoutGradient]:
        """Weights whose gradient is rounding alone, as of a router whose one weight is divided by itself: in float64 it shrinks.

        Biases are left out, which cancel in sound models too, such as those before a batch normalisation.
        """
        weights = {name: last.norms[name] for name, one in parameters.items() if one.dim() >= 2 and one.dtype == torch.float32}
        ratios = {name: one.gradient / one.square for name, one in weights.items() if one.square > 0}
        small = [name for name, ratio in ratios.items() if 0 < ratio < 1e-12 * max(ratios.values()) < math.inf]
        if not small:
            return []
        try:  # of models that float64 does not fit nothing is said
            self.model.double()
            self.inputs, self.named = tree_map(
                lambda leaf: leaf.double() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf,
                (self.inputs, self.named),
            )
            with torch.autocast(next(iter(parameters.values())).device.type, enabled=False):
                exact = self._look(parameters).norms
        except Exception:
            return []
        lost = [name for name in small if exact[name].gradient < 1e-6 * last.norms[name].gradient]
        owners = {name: _owner(name) for name in lost}
        return [
            WithoutGradient(name, layer, f"what comes back to {layer or 'the model'} cancels", True, "0 up to rounding")
            for name, layer in owners.items()
        ]

    def _look(self, parameters: dict[str, torch.nn.Parameter], everything: bool = False) -> Look:
        """One pass forward and back."""
        torch.clear_autocast_cache()  # which would hold copies of weights from before a step
        seed_generators(self.seed)
        for parameter in parameters.values():
            parameter.grad = None
        inputs, named = copied_inputs(self.inputs, self.named)
        with Observer(self.model) as observer:
            with Functions(observer):
                outputs = self.model(*inputs, **named)
            total = self._total(outputs, everything)
            observer.returning = True
            if total is not None and total.requires_grad:
                entering = {id(leaf) for leaf in _leaves(total)}
                self.unregistered = tuple(name for name, leaf in outside_of_modules(self.model) if id(leaf) in entering)
                with _gradients_kept(total, parameters):
                    total.backward()
                self._note_if_cross_entropy()
        with torch.no_grad():
            norms = {name: _norms(parameter) for name, parameter in self.model.named_parameters()}
        return Look(observer.calls, observer.called, norms, self.value, self.classes, self.logit_variance, self.left_out)

    def _total(self, outputs: Any, everything: bool) -> torch.Tensor | None:
        """What is minimised; the cross-entropy with classes that are seen is noted, also beside a loss that was given."""
        found, others = (
            [(name, tensor) for name, tensor in some if tensor.is_floating_point() or tensor.is_complex()]
            for some in minimised.outputs(outputs, lambda value: isinstance(value, torch.Tensor))
        )
        if self.loss is None and any(tensor.is_nested or tensor.layout != torch.strided for _, tensor in found):
            raise TypeError("model: expected outputs that are dense tensors, got one that is nested or sparse; give a loss")
        logits = [tensor for name, tensor in found if _looks_like_logits(name, tensor)]
        fits = bool(logits) and self._are_classes(logits[0])
        total = None
        if self.loss is not None:
            total = self.loss(outputs) if self.targets is None else self.loss(outputs, self.targets)
            if not isinstance(total, torch.Tensor) or total.numel() != 1 or total.is_complex():
                raise TypeError(f"loss: expected a tensor of one number, got {minimised.described(total)}")
        elif self.targets is None and logits:
            total = _returned_loss([tensor for _, tensor in (*found, *others)], logits[0])
            self.what = minimised.RETURNED
        if total is not None:
            self.value = minimised.known_loss(float(total.detach()))
            if fits and math.isfinite(self.value):
                self._note(logits[0].detach(), self.targets)
            elif logits and logits[0].requires_grad:
                logits[0].retain_grad()
                self.unjudged = logits[0]
            return total.reshape(())
        if self.targets is not None and not fits:
            raise ValueError(minimised.not_classes(self.targets, [tuple(tensor.shape) for _, tensor in found]))
        if not found and not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(outputs)):
            raise ValueError(
                "model: expected outputs that are tensors, alone or in tuples, lists, mappings or dataclasses, got "
                f"{type(outputs).__name__}; give a loss that takes them"
            )
        entropies = normals = 0
        for i, (name, tensor) in enumerate(found):
            if _looks_like_logits(name, tensor):
                labels = self._labels(tensor, i) if self.targets is None or entropies else self.targets
                part = _cross_entropy(tensor, labels)
                if not entropies:
                    self._note(tensor.detach(), labels)
                entropies += 1
            else:
                part = self._against_normals(tensor, i)
                normals += 1
            total = part if total is None else total + part
        others = [(name, tensor) for name, tensor in others if not tensor.is_nested and tensor.layout == torch.strided]
        self.left_out = tuple(dict.fromkeys(name for name, _ in others))
        for i, (_, tensor) in enumerate(others if everything else [], len(found)):
            part = self._against_normals(tensor, i)
            total = part if total is None else total + part
        self.what = minimised.in_words(["cross-entropy"] * entropies, given=self.targets is not None, normals=normals > 0)
        return total

    def _are_classes(self, logits: torch.Tensor) -> bool:
        targets = self.targets
        if not isinstance(targets, torch.Tensor) or targets.is_floating_point() or targets.is_complex():
            return False
        return minimised.are_classes(numbers(targets.long()), tuple(logits.shape), ignored=_IGNORED)

    def _note(self, logits: torch.Tensor, labels: torch.Tensor | None = None) -> None:
        self.classes = float(logits.shape[-1])
        if labels is not None:
            self.value = minimised.known_loss(float(_cross_entropy(logits, labels)))
        self.logit_variance = float(_as_logits(logits).double().var(dim=-1).mean())

    def _note_if_cross_entropy(self) -> None:
        """Judge the head also by a loss whose targets are not seen, as where the model computes it itself."""
        logits, self.unjudged = self.unjudged, None
        if logits is None or logits.grad is None:
            return
        mean = mean_cross_entropy(numbers(logits), numbers(logits.grad), self.value)
        if not math.isnan(mean):
            self._note(logits.detach())
            self.value = mean

    def _labels(self, logits: torch.Tensor, i: int) -> torch.Tensor:
        return torch.from_numpy(minimised.labels(tuple(logits.shape), self.key, i)).to(logits.device)

    def _against_normals(self, output: torch.Tensor, i: int) -> torch.Tensor:
        values = torch.view_as_real(output) if output.is_complex() else output
        cotangent = torch.from_numpy(minimised.cotangent(tuple(values.shape), self.key, i))
        return (values * cotangent.to(values.device, values.dtype)).sum(dtype=torch.float32) / self.batch


def _looks_like_logits(name: str, tensor: torch.Tensor) -> bool:
    dense = tensor.is_floating_point() and not tensor.is_nested and tensor.layout == torch.strided
    return dense and minimised.looks_like_logits(name, tuple(tensor.shape))


def _as_logits(output: torch.Tensor) -> torch.Tensor:
    """Logits in full precision; of probabilities, such as those behind a softmax, their logarithms."""
    wide = output if output.dtype == torch.float64 else output.float()
    return wide.clamp_min(_SMALLEST).log() if minimised.are_probabilities(wide.detach()) else wide


def _cross_entropy(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with torch.autocast(output.device.type, enabled=False):
        logits = _as_logits(output)
        classes = labels.reshape(-1).long().to(logits.device)
        return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), classes)


# ---- parameters -------------------------------------------------------------------------------------


def _owner(name: str) -> str:
    """The module of a parameter; of one that weights are computed from, the module whose weights those are."""
    return f".{name}".rpartition(".")[0].partition(".parametrizations.")[0][1:]


def _norms(parameter: torch.nn.Parameter) -> Norms:
    square = sum_of_squares(parameter)[0] if parameter.numel() else 0.0
    gradient = parameter.grad
    if not parameter.requires_grad:
        return Norms(parameter.numel(), square)
    if gradient is not None and gradient.is_sparse:
        gradient = gradient.coalesce().values()
    back = 0.0 if gradient is None or not gradient.numel() else sum_of_squares(gradient)[0]
    return Norms(parameter.numel(), square, back, gradient is not None)


def _virtual_step(parameters: dict[str, torch.nn.Parameter]) -> bool:
    """Move the parameters that are all 0 and have a gradient against it; returns whether there was one."""
    moved = False
    with torch.no_grad():
        for parameter in parameters.values():
            gradient = parameter.grad
            if gradient is None or gradient.is_sparse or not gradient.numel() or bool(parameter.any()):
                continue
            fan_in = parameter[0].numel() if parameter.dim() >= 2 else 0
            factor = step_factor(sum_of_squares(gradient)[0], gradient.numel(), fan_in)
            if factor:
                parameter.add_(gradient.double().mul_(factor).to(parameter.dtype))
                moved = True
    return moved


def _units(module: torch.nn.Module) -> Units | None:
    weight = matrix_of(module)  # of a parametrized layer it is computed, and has no gradient of its own
    if weight is None or not weight.is_leaf or weight.grad is None or weight.grad.is_sparse or weight.is_complex():
        return None
    turned = type(module).__name__ == "Conv1D"
    by_unit, gradient = (tensor.detach().T if turned else tensor.detach().flatten(1) for tensor in (weight, weight.grad))
    bias = getattr(module, "bias", None)
    return Units(by_unit, gradient, bias if isinstance(bias, torch.Tensor) else None)
