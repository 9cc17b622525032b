"""What the layers of a model show in one pass forward and back, by hooks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..diagnosis.observed import ObservedLayer

__all__ = ["Call", "Observer", "observed_modules", "sum_of_squares"]

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LocalResponseNorm, nn.PReLU,
)  # fmt: skip
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ACTIVATIONS = {
    nn.ReLU: "relu", nn.ReLU6: "relu", nn.LeakyReLU: "leaky_relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid",
    nn.Hardtanh: "hard_tanh", nn.Softsign: "softsign",
}  # fmt: skip
# Where |phi'| is below 5.91 % of its maximum, as for stacks: in terms of the value |phi|, for sigmoid of |2 phi - 1|.
_FLAT_FROM = {"tanh": 0.97, "sigmoid": 0.97, "hard_tanh": 1.0, "softsign": 0.757}
_SAMPLES = 32  # in pairs of neighbours, whose cosines are averaged
_FEATURES = 4096  # that a cosine is of at most, taken at equal distances
# Norms of float32 outside of this may have lost squares to overflow or underflow, and are computed again in float64.
_SAFE = (1e-15, 1e15)


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def sum_of_squares(tensor: torch.Tensor, axis: int | None = None) -> tuple[float, float]:
    """The sum of squares, and the share of zeros among its norms along an axis; NaN without one."""
    if tensor.element_size() == 1 or not (tensor.is_floating_point() or tensor.is_complex()):
        tensor = tensor.float()  # of weights that are frozen and quantised
    if tensor.is_complex():
        tensor, axis = torch.view_as_real(tensor.resolve_conj()), None
    dims = None if axis is None else [i for i in range(tensor.dim()) if i != axis % tensor.dim()]
    if dims == []:
        dims = None
    norms = torch.linalg.vector_norm(tensor, dim=dims, dtype=_wide(tensor)).double()
    total = float(norms.square().sum())
    if not _SAFE[0] ** 2 < total < _SAFE[1] ** 2:
        norms = torch.linalg.vector_norm(tensor, dim=dims, dtype=torch.float64)
        total = float(norms.square().sum())
    return total, math.nan if dims is None else float((norms == 0).double().mean())


@dataclass(eq=False)
class Call:
    """One call of a module; what came back of it is added on the way back."""

    name: str
    module: nn.Module
    axis: int  # of units
    activation: str | None
    shape: tuple[int, ...] = ()
    square: float = math.nan  # sums of squares here
    input_square: float = math.nan  # mean square
    gradient: float = math.nan
    saturated: float = math.nan
    dead: float = math.nan
    non_finite: int = 0
    non_finite_gradients: int = 0
    apart: float = math.nan
    recomputed: bool = False


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
        self.returning = False
        self._of: dict[str, list[Call]] = {}
        self._axis = -1
        self._last: tuple[torch.Tensor, int, float] | None = None
        self._model = model
        self._handles: list[Any] = []

    def __enter__(self) -> Observer:
        for name, module in observed_modules(self._model):
            self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def called(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            tensor = _tensor(output)
            if tensor is None:
                return
            if self.returning:
                call = next((one for one in reversed(self._of.get(name, ())) if not one.recomputed), None)
                if call is None:
                    return
                call.recomputed = True
            else:
                with torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
                    call = self._seen(name, module, inputs, tensor.detach())
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient: self._returned(call, gradient))

        return called

    def _seen(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> Call:
        earlier = self._of.setdefault(name, [])
        activation = _ACTIVATIONS.get(type(module))
        if activation is None and output.dim() > 0:
            self._axis = 1 if isinstance(module, _CHANNELS_FIRST) and output.dim() > 2 else -1
        axis = self._axis if -output.dim() <= self._axis < output.dim() else -1
        label = f"{name}#{len(earlier) + 1}" if earlier else name
        call = Call(label, module, axis, activation, tuple(output.shape))
        self.calls.append(call)
        earlier.append(call)
        if not output.numel():
            return call
        call.square, _ = sum_of_squares(output)
        if not math.isfinite(call.square):
            call.non_finite = int((~torch.isfinite(output)).sum())
        if activation is not None:
            self._activated(call, output)
        elif matrix_of(module) is not None:
            call.apart = _apart(output, tokens=axis == -1)
            given = _tensor(inputs)
            if given is not None and given.numel():
                call.input_square = self._mean_square(given)
        # A tensor of inference mode has no version that would say whether it was written to since.
        self._last = None if output.is_inference() else (output, output._version, call.square / output.numel())
        return call

    def _mean_square(self, tensor: torch.Tensor) -> float:
        """Of an input, which is often the last output, and measured already."""
        if self._last is not None:
            last, version, square = self._last
            same = last.data_ptr() == tensor.data_ptr() and last.numel() == tensor.numel()
            if same and not tensor.is_inference() and tensor._version == version:
                return square
        return sum_of_squares(tensor.detach())[0] / tensor.numel()

    @staticmethod
    def _activated(call: Call, output: torch.Tensor) -> None:
        if call.activation == "relu" and output.dim() > 1:
            others = [i for i in range(output.dim()) if i != call.axis % output.dim()]
            call.dead = float((output.amax(dim=others) <= 0).double().mean())
        elif call.activation in _FLAT_FROM:
            values = 2 * output - 1 if call.activation == "sigmoid" else output
            call.saturated = float((values.abs() >= _FLAT_FROM[call.activation]).double().mean())

    @staticmethod
    def _returned(call: Call, gradient: torch.Tensor) -> None:
        with torch.no_grad():
            if not gradient.numel():
                return
            weighted = call.activation is None and matrix_of(call.module) is not None
            energy, zeros = sum_of_squares(gradient, call.axis if weighted and gradient.dim() > 1 else None)
            call.gradient = energy if math.isnan(call.gradient) else call.gradient + energy
            if weighted:
                call.dead = 0.0 if energy == 0 else zeros  # without any gradient it is not the units' fault
            if not math.isfinite(energy):
                call.non_finite_gradients += int((~torch.isfinite(gradient)).sum())

    def layers(self, batch: int, norms: dict[int, tuple[float, float]], silent: set[str]) -> tuple[ObservedLayer, ...]:
        """What was seen, in the order of execution.

        Parameters
        ----------
        batch : int
        norms : dict
            For the id of each parameter its sum of squares and that of its gradient.
        silent : set of str
            Calls whose output is 0 for no good reason.
        """
        return tuple(self._layer(call, batch, norms, call.name in silent) for call in self.calls)

    def _layer(self, call: Call, batch: int, norms: dict[int, tuple[float, float]], silent: bool) -> ObservedLayer:
        numel = max(math.prod(call.shape), 1)
        weight = matrix_of(call.module)
        fan_in = 0 if weight is None else _fan_in(call.module, weight)
        expected = ratio = math.nan
        if weight is not None and weight.numel() and id(weight) in norms:
            square, gradient = norms[id(weight)]
            if square > 0 and gradient >= 0:
                ratio = math.sqrt(gradient / square)
            bias = getattr(call.module, "bias", None)
            shift = norms[id(bias)][0] / bias.numel() if isinstance(bias, torch.Tensor) and id(bias) in norms else 0.0
            if not isinstance(call.module, nn.MultiheadAttention):
                expected = fan_in * call.input_square * square / weight.numel() + shift
        return ObservedLayer(
            name=call.name or "model", kind=type(call.module).__name__, weighted=weight is not None, activation=call.activation,
            inputs=fan_in, units=call.shape[call.axis] if call.shape else 1, elements=numel / batch,
            square=call.square / numel, expected=expected, gradient=call.gradient / batch, saturated=call.saturated,
            dead=call.dead, non_finite=call.non_finite, non_finite_gradients=call.non_finite_gradients, apart=call.apart,
            gradient_to_weight=ratio, silent=silent,
        )  # fmt: skip


def _tensor(value: Any) -> torch.Tensor | None:
    """The first real floating tensor of an output, or of the inputs."""
    if isinstance(value, torch.Tensor):
        return value if value.is_floating_point() else None
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return next((found for item in values if (found := _tensor(item)) is not None), None)


def _apart(output: torch.Tensor, *, tokens: bool) -> float:
    """1 - the mean cosine of neighbours: of tokens where an output has an axis of them, else of samples.

    Half the squared distance of the directions, which does not cancel where they are nearly the same.
    """
    if output.dim() < 2:
        return math.nan
    rows = output.reshape(-1, output.shape[-1]) if tokens else output.flatten(1)
    if len(rows) < 2:
        return math.nan
    step = -(-rows.shape[1] // _FEATURES)
    some = rows[: min(_SAMPLES, len(rows)) // 2 * 2, ::step].double()
    directions = some / torch.linalg.vector_norm(some, dim=1, keepdim=True)
    distances = (directions[0::2] - directions[1::2]).square().sum(dim=1) / 2
    known = distances[torch.isfinite(distances)]
    return float(known.mean()) if len(known) else math.nan
