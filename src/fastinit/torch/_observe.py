"""What the layers of a model show in one pass forward and back, by hooks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..diagnosis.calls import FLAT_FROM, Call, Layer, apart, label_of, neighbours, on_flat_sides, other_axes

__all__ = ["Observer", "matrix_of", "numbers", "observed_modules", "sum_of_squares"]

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LocalResponseNorm, nn.PReLU,
)  # fmt: skip
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ACTIVATIONS = {
    nn.ReLU: "relu", nn.ReLU6: "relu", nn.LeakyReLU: "leaky_relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid",
    nn.Hardtanh: "hard_tanh", nn.Softsign: "softsign",
}  # fmt: skip
# Norms of float32 outside of this may have lost squares to overflow or underflow, and are computed again in float64.
_SAFE = (1e-15, 1e15)
# Mean squares: normalisation over a single number leaves rounding errors of what is not close to its eps.
_NOTHING, _SOMETHING = 1e-6, 1e-3


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def numbers(tensor: torch.Tensor) -> Any:
    """The numbers of a tensor in NumPy, of 16 bits and less as float32."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() and tensor.element_size() <= 2 else tensor).cpu().numpy()


def sum_of_squares(tensor: torch.Tensor, axis: int | None = None) -> tuple[float, float]:
    """The sum of squares, and the share of zeros among its norms along an axis; NaN without one."""
    if tensor.element_size() == 1 or not (tensor.is_floating_point() or tensor.is_complex()):
        tensor = tensor.float()  # of weights that are frozen and quantised
    if tensor.is_complex():
        tensor, axis = torch.view_as_real(tensor.resolve_conj()), None
    dims = (None if axis is None else other_axes(tensor.dim(), axis)) or None
    norms = torch.linalg.vector_norm(tensor, dim=dims, dtype=_wide(tensor)).double()
    total = float(norms.square().sum())
    if not _SAFE[0] ** 2 < total < _SAFE[1] ** 2:
        norms = torch.linalg.vector_norm(tensor, dim=dims, dtype=torch.float64)
        total = float(norms.square().sum())
    return total, math.nan if dims is None else float((norms == 0).double().mean())


def observed_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that own parameters, and activation functions; not the parametrizations of weights."""
    for name, module in model.named_modules():
        if "parametrizations" in name.split("."):
            continue
        owns = bool(module._parameters) or hasattr(module, "parametrizations")
        if owns or type(module) in _ACTIVATIONS:
            yield name, module


def matrix_of(module: nn.Module) -> torch.Tensor | None:
    """The weight that a module multiplies its input by; None of embeddings, normalisation and activation functions."""
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or "norm" in type(module).__name__.lower():
        return None
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        weight = getattr(module, "in_proj_weight", None)  # of attention
    return weight if isinstance(weight, torch.Tensor) and weight.dim() >= 2 and "mbedding" not in type(module).__name__ else None


def _fan_in(module: nn.Module, weight: torch.Tensor) -> int:
    """How many numbers of the input a number of the output is a sum over."""
    if isinstance(module, _TRANSPOSED):
        return weight[:, 0].numel() // (module.groups * math.prod(module.stride))
    # Conv1D of the transformers library has its matrix the other way round.
    return weight.shape[0] if type(module).__name__ == "Conv1D" else math.prod(weight.shape[1:])


class Observer:
    """Hooks on a model, inside a ``with`` block; set `returning` before the pass back.

    With activation checkpointing a module is called again on the way back, and only then is there a gradient to see.
    """

    def __init__(self, model: nn.Module) -> None:
        self.calls: list[Call] = []
        self.called: set[str] = set()
        self.returning = False
        self._running: list[tuple[str, nn.Module]] = []  # modules whose forward is running, the innermost one last
        self._latest = ""  # the module that was called last
        self._nodes: dict[Call, int] = {}  # numbers of the outputs' nodes in the graph, larger ones of later nodes
        self._hooks: dict[Call, Any] = {}  # on the outputs
        self._of: dict[str, list[Call]] = {}
        self._again: set[Call] = set()
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._axis = -1
        self._last: tuple[torch.Tensor, int, float] | None = None
        self._model = model
        self._handles: list[Any] = []

    def __enter__(self) -> Observer:
        for name, module in observed_modules(self._model):
            self._handles.append(module.register_forward_hook(self._hook(name)))
        for running in self._model.named_modules():
            self._handles.append(running[1].register_forward_pre_hook(lambda *_, own=running: self._running.append(own)))
            self._handles.append(running[1].register_forward_hook(lambda *_: self._running.pop() and None, always_call=True))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def called(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self.called.add(name)
            tensor = _tensor(output)
            if tensor is None:
                return
            if self.returning:
                call = next((one for one in reversed(self._of.get(name, ())) if one not in self._again), None)
                if call is None:
                    return
                self._again.add(call)
            else:
                with torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
                    call = self._seen(name, module, inputs, tensor.detach())
            self._await(call, tensor)

        return called

    def _await(self, call: Call, output: torch.Tensor) -> None:
        if output.requires_grad:
            self._hooks[call] = output.register_hook(lambda gradient: self._returned(call, gradient))
        if output.grad_fn is not None:
            self._nodes[call] = output.grad_fn._sequence_nr()

    def _seen(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> Call:
        activation = _ACTIVATIONS.get(type(module))
        if activation is None and output.dim() > 0:
            self._axis = 1 if isinstance(module, _CHANNELS_FIRST) and output.dim() > 2 else -1
        self._latest = name
        call = self._noted(self._layer(name, module, self._axis_of(output)), output)
        if output.numel() and call.layer.weight is not None:
            rows = neighbours(output, tokens=call.layer.axis == -1)
            call.apart = apart(None if rows is None else numbers(rows))
            given = _tensor(inputs)
            if given is not None and given.numel():
                call.input_square = self._mean_square(given)
        elif output.numel() and call.square / output.numel() < _NOTHING and "norm" in call.layer.kind.lower():
            scale, given = getattr(module, "weight", None), _tensor(inputs)
            scaled = scale is None or bool(scale.abs().mean() > 0.1)  # else it may be small by design
            call.constant = scaled and given is not None and given.numel() > 0 and self._mean_square(given) > _SOMETHING
        self._remember(call, output)
        return call

    def _axis_of(self, output: torch.Tensor) -> int:
        return self._axis if -output.dim() <= self._axis < output.dim() else -1

    def _noted(self, layer: Layer, output: torch.Tensor) -> Call:
        earlier = self._of.setdefault(layer.name, [])
        call = Call(label_of(layer.name, len(earlier) + 1), layer, tuple(output.shape))
        self.calls.append(call)
        earlier.append(call)
        if output.numel():
            call.square, _ = sum_of_squares(output)
            if not math.isfinite(call.square):
                call.non_finite = int((~torch.isfinite(output)).sum())
            if layer.activation is not None:
                self._activated(call, output)
        return call

    def _remember(self, call: Call, output: torch.Tensor) -> None:
        """A tensor of inference mode has no version that would say whether it was written to since."""
        known = output.numel() > 0 and not output.is_inference()
        self._last = (output, output._version, call.square / output.numel()) if known else None

    def _mean_square(self, tensor: torch.Tensor) -> float:
        """Of an input, which is often the last output, and measured already."""
        if self._last is not None:
            last, version, square = self._last
            same = last.data_ptr() == tensor.data_ptr() and last.numel() == tensor.numel()
            if same and not tensor.is_inference() and tensor._version == version:
                return square
        return sum_of_squares(tensor.detach())[0] / tensor.numel()

    def _layer(self, name: str, module: nn.Module, axis: int) -> Layer:
        weight, bias = matrix_of(module), getattr(module, "bias", None)
        return Layer(
            name=name, kind=type(module).__name__, weight=None if weight is None else self._names.get(id(weight), ""),
            bias=self._names.get(id(bias)), inputs=0 if weight is None else _fan_in(module, weight), axis=axis,
            activation=_ACTIVATIONS.get(type(module)), affine=not isinstance(module, nn.MultiheadAttention),
        )  # fmt: skip

    # ---- what functions do; `Functions` tells of it -----------------------------------------------------

    @property
    def in_activation(self) -> bool:
        """Whether the module that is running is an activation function, and has a row of its own."""
        return bool(self._running) and type(self._running[-1][1]) in _ACTIVATIONS

    def note_activation(self, activation: str, output: torch.Tensor) -> Call:
        """A row that has the name of the module that was called last, "fc1/relu"."""
        name, values = f"{self._latest or 'model'}/{activation}", output.detach()
        with torch.no_grad(), torch.autocast(output.device.type, enabled=False):
            layer = Layer(name=name, kind=activation, axis=self._axis_of(values), activation=activation)
            call = self._noted(layer, values)
            self._remember(call, values)
        self._await(call, output)
        return call

    def note_attention(self, output: torch.Tensor, entropy: float) -> None:
        """A row that has the name of the module that is running, "h.0.attn/attention"."""
        where = self._running[-1][0] if self._running else ""
        with torch.no_grad(), torch.autocast(output.device.type, enabled=False):
            call = self._noted(Layer(name=f"{where or 'model'}/attention", kind="attention"), output.detach())
            call.entropy = entropy

    def drop(self, call: Call) -> None:
        """Take back the row of an activation function."""
        self._hooks.pop(call).remove()
        self._of[call.layer.name].remove(call)
        self.calls.remove(call)

    def note_branch(self, branch: torch.Tensor, stream: torch.Tensor, nodes: set[int]) -> None:
        """A branch, which some nodes compute, is added to a stream: noted of the layer that ends it."""
        call = next((call for call in reversed(self.calls) if self._nodes.get(call) in nodes), None) if nodes else None
        if call is not None and branch.numel():
            with torch.no_grad(), torch.autocast(branch.device.type, enabled=False):
                energy = sum_of_squares(stream.detach())[0]
                call.branch = math.sqrt(sum_of_squares(branch.detach())[0] / energy) if energy > 0 else math.nan

    @staticmethod
    def _activated(call: Call, output: torch.Tensor) -> None:
        activation = call.layer.activation
        if activation == "relu" and output.dim() > 1:
            others = other_axes(output.dim(), call.layer.axis)
            call.dead = float((output.amax(dim=others) <= 0).double().mean())
        elif activation in FLAT_FROM:
            call.saturated = on_flat_sides(output, activation)

    @staticmethod
    def _returned(call: Call, gradient: torch.Tensor) -> None:
        with torch.no_grad():
            if gradient.numel():
                by_unit = call.layer.weight is not None and gradient.dim() > 1
                energy, zeros = sum_of_squares(gradient, call.layer.axis if by_unit else None)
                call.returned(energy, zeros, 0 if math.isfinite(energy) else int((~torch.isfinite(gradient)).sum()))


def _tensor(value: Any) -> torch.Tensor | None:
    """The first real floating tensor of an output, or of the inputs, that is dense."""
    if isinstance(value, torch.Tensor):
        return value if value.is_floating_point() and not value.is_nested and value.layout == torch.strided else None
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return next((found for item in values if (found := _tensor(item)) is not None), None)
