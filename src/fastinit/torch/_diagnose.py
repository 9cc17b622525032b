"""`fastinit.torch.diagnose`: whether a PyTorch model will train from its start, and what keeps it from it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map

from .._common.checks import shown, whole_number
from .._stream.keys import Key, check_key
from .._stream.sampling import normal, uniform
from ..diagnosis.model import copied_units, judge_model, model_limits, role_of
from ..diagnosis.observed import ObservedModel, WithoutGradient
from ..diagnosis.result import Diagnosis
from ..diagnosis.symmetry import equal_layers
from ..diagnosis.thresholds import Thresholds
from ._observe import Observer, matrix_of, observed_modules, sum_of_squares
from ._untouched import generators_kept, untouched

__all__ = ["check_inputs", "check_model", "copied_inputs", "diagnose", "seed_generators"]

_MOST_STEPS = 3  # virtual ones: a zero behind a zero gets a gradient only after the first has moved
_VECTOR_STEP = 1e-3
_SMALLEST = 1e-30  # of a probability, whose logarithm is taken
_IGNORED = -100  # the class that PyTorch's cross-entropy leaves out

Norms = dict[str, tuple[float, float]]  # of parameters: sums of squares of the values and of the gradients


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
        ``loss(outputs, targets)``, or ``loss(outputs)`` without `targets`, gives the number that is minimised. By default the
        cross-entropy where an output looks like logits or probabilities: floating, of shape (batch, C) or (batch, length, C) with
        C >= 2, and in an output by names only those whose name ends in "logits"; of others the product with standard normals.
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
        With a row for each call of a module that owns parameters or is a ReLU, LeakyReLU, Tanh, Sigmoid, Hardtanh or Softsign, in
        the order of execution. The theory is what the output's root mean square is if weights are independent of the input.

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
            seed = int(uniform((1,), 0.0, float(2**31), key=names / f"{i}", dtype="float64")[0])
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


def _outputs(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that a model returns, with their names in dicts; in an output by names logits alone, if there are any."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() or value.is_complex():
            yield name, value
    elif isinstance(value, Mapping) or dataclasses.is_dataclass(value):
        items = dict(value) if isinstance(value, Mapping) else vars(value)
        logits = {key: item for key, item in items.items() if str(key).endswith("logits") and item is not None}
        for key, item in (logits or items).items():
            yield from _outputs(item, str(key))
    elif isinstance(value, (tuple, list, deque)):
        for item in value:
            yield from _outputs(item, name)


@contextlib.contextmanager
def _gradients_kept(total: torch.Tensor, parameters: dict[str, torch.nn.Parameter]) -> Iterator[None]:
    """Tensors that enter the loss and are no parameters of the model, such as those of a closure, keep their ``.grad``."""
    own = {id(parameter) for parameter in parameters.values()}
    nodes, waiting = set(), [total.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            waiting += [behind for behind, _ in node.next_functions]
    leaves = [node.variable for node in nodes if hasattr(node, "variable")]
    kept = [(leaf, leaf.grad) for leaf in leaves if id(leaf) not in own]
    try:
        for leaf, _ in kept:
            leaf.grad = None
        yield
    finally:
        for leaf, gradient in kept:
            leaf.grad = gradient


def _looks_like_logits(name: str, tensor: torch.Tensor) -> bool:
    shaped = tensor.is_floating_point() and tensor.dim() in (2, 3) and tensor.shape[-1] >= 2
    return shaped and (not name or name.endswith("logits"))


class _Pass:
    """One model and its data; `what` says what was minimised."""

    def __init__(
        self, model: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], loss: Any, targets: Any, key: Key, seed: int
    ) -> None:
        self.model, self.inputs, self.named = model, inputs, named
        self.loss, self.targets, self.key, self.seed = loss, targets, key, seed
        self.what = "the loss that was given"
        self.value = self.classes = self.logit_variance = math.nan
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
            first, norms = self._look(parameters)
            result = self.value, self.classes, self.logit_variance
            symmetric = _symmetric(first)
            twins = _twins({name: p for name, p in parameters.items() if p.dim() >= 2})
            last, moved, all_moved = first, norms, False
            for _ in range(_MOST_STEPS):
                if not _lacking(moved) and not _silent(last):
                    break
                all_moved = _virtual_step(parameters, moved)
                if not all_moved:
                    break
                last, again = self._look(parameters)
                moved = {name: (norms[name][0], max(moved[name][1], again[name][1])) for name in again}
            for before, after in zip(first.calls, last.calls, strict=False):
                if before.name == after.name and not before.gradient > 0:
                    before.gradient, before.dead = after.gradient, after.dead if before.activation is None else before.dead
            everything = {id(parameters[name]): pair for name, pair in moved.items()}
            squares = {name: square for name, (square, _) in norms.items()}
            for name, parameter in self.model.named_parameters():
                if id(parameter) not in everything:
                    squares[name] = sum_of_squares(parameter)[0]
                    everything[id(parameter)] = (squares[name], math.nan)
            value, classes, variance = result
            return ObservedModel(
                layers=first.layers(self.batch, everything, _silent(last)),
                without_gradient=tuple(_without_gradient(self.model, last, parameters, _lacking(moved))),
                non_finite=tuple(name for name, square in squares.items() if not math.isfinite(square)),
                twins=twins, symmetric=symmetric, loss=value, classes=classes, logit_variance=variance, batch=self.batch,
            )  # fmt: skip

    def _look(self, parameters: dict[str, torch.nn.Parameter]) -> tuple[Observer, Norms]:
        """One pass forward and back. The gradient of a parameter that has none has norm -1."""
        torch.clear_autocast_cache()  # which would hold copies of weights from before a step
        seed_generators(self.seed)
        for parameter in parameters.values():
            parameter.grad = None
        inputs, named = copied_inputs(self.inputs, self.named)
        with Observer(self.model) as observer:
            outputs = self.model(*inputs, **named)
            total = self._total(outputs)
            observer.returning = True
            if total is not None and total.requires_grad:
                with _gradients_kept(total, parameters):
                    total.backward()
        norms = {}
        with torch.no_grad():
            for name, parameter in parameters.items():
                gradient = parameter.grad
                if gradient is not None and gradient.is_sparse:
                    gradient = gradient.coalesce().values()
                back = -1.0 if gradient is None else sum_of_squares(gradient)[0] if gradient.numel() else 0.0
                norms[name] = (sum_of_squares(parameter)[0] if parameter.numel() else 0.0, back)
        return observer, norms

    def _total(self, outputs: Any) -> torch.Tensor | None:
        """What is minimised; the cross-entropy is noted, also beside a loss that was given."""
        found = list(_outputs(outputs))
        logits = [(name, tensor) for name, tensor in found if _looks_like_logits(name, tensor)]
        if self.loss is not None:
            total = self.loss(outputs) if self.targets is None else self.loss(outputs, self.targets)
            if not isinstance(total, torch.Tensor) or total.numel() != 1 or total.is_complex():
                raise TypeError(f"loss: expected a tensor of one number, got {shown(total)}")
            self.value = float(total.detach())
            if logits and self._are_classes(self.targets, logits[0][1]):
                self._note(logits[0][1].detach(), self.targets)
            return total.reshape(())
        if self.targets is not None and not (logits and self._are_classes(self.targets, logits[0][1])):
            raise ValueError("targets: expected a loss beside them, or ints that are classes for the logits the model returns")
        if not found and not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(outputs)):
            raise ValueError(
                "model: expected outputs that are tensors, alone or in tuples, lists, mappings or dataclasses, got "
                f"{type(outputs).__name__}; give a loss that takes them"
            )
        total = None
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
        whose = "random labels" if self.targets is None else "the labels that were given"
        kinds = [f"cross-entropy with {whose}"] * bool(entropies) + ["a random cotangent"] * bool(normals)
        self.what = " and ".join(kinds) if kinds else "no output that can be differentiated"
        return total

    @staticmethod
    def _are_classes(targets: Any, logits: torch.Tensor) -> bool:
        return (
            isinstance(targets, torch.Tensor)
            and not targets.is_floating_point()
            and targets.shape == logits.shape[:-1]
            and bool((((targets >= 0) & (targets < logits.shape[-1])) | (targets == _IGNORED)).all())
        )

    def _note(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.classes = float(logits.shape[-1])
        self.value = float(_cross_entropy(logits, labels))
        self.logit_variance = float(_as_logits(logits).double().var(dim=-1).mean())

    def _labels(self, logits: torch.Tensor, i: int) -> torch.Tensor:
        classes, shape = logits.shape[-1], tuple(logits.shape[:-1])
        drawn = np.asarray(uniform(shape, 0.0, float(classes), key=self.key / "labels" / f"{i}"), dtype=np.int64)
        return torch.from_numpy(np.minimum(drawn, classes - 1)).to(logits.device)

    def _against_normals(self, output: torch.Tensor, i: int) -> torch.Tensor:
        values = torch.view_as_real(output) if output.is_complex() else output
        cotangent = torch.from_numpy(np.asarray(normal(tuple(values.shape), key=self.key / "cotangent" / f"{i}")))
        return (values * cotangent.to(values.device, values.dtype)).sum(dtype=torch.float32) / self.batch


def _as_logits(output: torch.Tensor) -> torch.Tensor:
    """Logits in full precision; of probabilities, such as those behind a softmax, their logarithms."""
    wide = output if output.dtype == torch.float64 else output.float()
    values = wide.detach()
    are_probabilities = bool((values >= 0).all()) and bool(((values.sum(dim=-1) - 1).abs() < 0.01).all())
    return wide.clamp_min(_SMALLEST).log() if are_probabilities else wide


def _cross_entropy(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with torch.autocast(output.device.type, enabled=False):
        logits = _as_logits(output)
        classes = labels.reshape(-1).long().to(logits.device)
        return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), classes)


# ---- zeros ------------------------------------------------------------------------------------------


def _lacking(norms: Norms) -> list[str]:
    return [name for name, (_, gradient) in norms.items() if gradient <= 0]


def _silent(observer: Observer) -> set[str]:
    """Layers with weights whose output is all 0 though their input is not."""
    return {
        call.name for call in observer.calls
        if call.square == 0 and call.activation is None and call.input_square > 0
    }  # fmt: skip


def _virtual_step(parameters: dict[str, torch.nn.Parameter], norms: Norms) -> bool:
    """Move the parameters that are all 0 and have a gradient against it; returns whether there was one.

    Matrices become as large as LeCun's, 1 / sqrt(fan_in) in root mean square, and vectors 1e-3: only whether numbers are 0 is
    asked of the result. Zeros by design, at the end of residual branches or in a head, are none afterwards.
    """
    moved = False
    with torch.no_grad():
        for name, parameter in parameters.items():
            gradient = parameter.grad
            if gradient is None or gradient.is_sparse or not 0 < norms[name][1] < math.inf or bool(parameter.any()):
                continue
            size = math.sqrt(sum_of_squares(gradient)[0] / gradient.numel())
            target = 1 / math.sqrt(parameter[0].numel()) if parameter.dim() >= 2 else _VECTOR_STEP
            if size > 0:
                parameter.add_(gradient.double().mul_(-target / size).to(parameter.dtype))
                moved = True
    return moved


def _without_gradient(
    model: torch.nn.Module, observer: Observer, parameters: dict[str, torch.nn.Parameter], lacking: list[str]
) -> Iterator[WithoutGradient]:
    """Parameters whose gradient is 0 whatever was tried, with the reason that what was seen of their layer gives."""
    calls: dict[str, list[Any]] = {}
    for call in observer.calls:
        calls.setdefault(call.name.partition("#")[0], []).append(call)
    roles = {role_of(name) for name in calls}
    known = {name for name, _ in observed_modules(model)}
    for name in lacking:
        layer = name.rpartition(".")[0]
        whose = layer or "the model"
        own = calls.get(layer, [])
        fault, gradient = True, parameters[name].grad
        if not own and layer in known and gradient is None:
            fault = False
            if role_of(layer) in roles:
                reason = f"no sample of the batch is sent to {layer}"
            else:
                reason = f"{whose} is not called"
        elif gradient is None and all(math.isnan(call.gradient) for call in own):
            reason = f"what {whose} computes is detached from the loss, or chooses among others and does not enter it"
        elif name.rpartition(".")[2] == "bias" and name[:-4] + "weight" in parameters and name[:-4] + "weight" not in lacking:
            fault = False  # as where outputs are subtracted from each other, or only their derivatives are used
            reason = f"what it adds to the output of {whose} cancels further on"
        elif gradient is None:
            reason = f"it takes no part in what {whose} computes"
        elif own and not any(call.gradient > 0 for call in own):
            reason = f"all that comes back to {whose} is 0, so that something after it multiplies it by 0 or is flat"
        elif own and all(call.input_square == 0 for call in own):
            reason = f"the input of {whose} is 0"
        else:
            reason = f"nothing that {whose} passes on depends on it here"
        yield WithoutGradient(name, layer or "model", reason, fault)


# ---- equal tensors ----------------------------------------------------------------------------------


def _numpy(tensor: torch.Tensor) -> Any:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).cpu().numpy()


def _twins(matrices: dict[str, torch.nn.Parameter]) -> tuple[tuple[str, str], ...]:
    """Pairs of parameters that look drawn and are equal; only those that begin alike are compared as a whole."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for name, parameter in matrices.items():
        if parameter.numel() and not parameter.is_complex():
            head = parameter.detach().reshape(-1)[:64] if parameter.is_contiguous() else parameter.detach().flatten()[:64]
            alike.setdefault((tuple(parameter.shape), _numpy(head).tobytes()), []).append(name)
    found = []
    for names in alike.values():
        if len(names) > 1:
            found += [(names[i], names[j]) for i, j in equal_layers([_numpy(matrices[name]) for name in names])]
    return tuple(found)


def _symmetric(observer: Observer) -> tuple[tuple[str, int, int], ...]:
    """Layers some of whose units have equal weights and equal gradients.

    Not the last layer, the head, whose classes may well be alike at first, and not layers of zeros.
    """
    modules = {call.name: call.module for call in observer.calls if "#" not in call.name and matrix_of(call.module) is not None}
    found = []
    for layer, module in list(modules.items())[:-1]:
        weight = matrix_of(module)  # of a parametrized layer it is computed, and has no gradient of its own
        if weight is None or not weight.is_leaf or weight.grad is None or weight.grad.is_sparse or weight.is_complex():
            continue
        turned = type(module).__name__ == "Conv1D"
        units = [(tensor.detach().T if turned else tensor.detach().flatten(1)) for tensor in (weight, weight.grad)]
        some = units[0][:, 0]
        if len(torch.unique(some)) == len(some) or not bool(weight.any()) or not bool(torch.isfinite(weight.grad).all()):
            continue
        bias = getattr(module, "bias", None)
        fits = isinstance(bias, torch.Tensor) and len(bias) == len(some)
        copies = copied_units(_numpy(units[0]), _numpy(bias) if fits else None, _numpy(units[1]))
        if copies:
            found.append((layer, copies, len(some)))
    return tuple(found)
