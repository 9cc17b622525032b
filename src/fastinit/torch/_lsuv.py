"""`fastinit.torch.lsuv`: layers scaled until their outputs have variance 1 on a batch, in one pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .._stream.keys import Key, check_key
from ..diagnosis.starts import ScaledLayer, check_scaling
from ._diagnose import check_inputs, check_model, copied_inputs, seed_generators
from ._init import orthogonal_
from ._observe import matrix_of, observed_modules
from ._untouched import generators_kept, untouched

__all__ = ["lsuv"]


def lsuv(
    model: nn.Module,
    *inputs: Any,
    named: Mapping[str, Any] | None = None,
    tolerance: float = 0.1,
    most_rounds: int = 10,
    orthogonal: bool = True,
    key: Key | None = None,
) -> tuple[ScaledLayer, ...]:
    """Layer-sequential unit variance: orthogonal weights, scaled until each layer's output has variance 1 on a batch.

    One pass is run, in the model's own modes; each layer is scaled as it is reached, and what follows sees its new output. Only
    then the weights are written. Nothing else is changed, and nothing at all after an error.

    Parameters
    ----------
    model : torch.nn.Module
        Its dense and convolutional layers are scaled, each at its first call; not weights that require no gradient, that
        several modules share or that a parametrization computes.
    *inputs
        What the model is called with; tensors are copied.
    named : mapping, optional
        Inputs that are passed by name.
    tolerance : float in (0, 1), default 0.1
        By how much a variance may differ from 1.
    most_rounds : int >= 1, default 10
        How often a layer is scaled at most.
    orthogonal : bool, default True
        Begin with orthogonal weights from ``key / name``, the name being the parameter's; False begins with those that are there.
    key : Key, default Key(0)

    Returns
    -------
    tuple of ScaledLayer
        What was done, in the order of execution.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; if the input of a layer is all 0, if its variance is 0 or not finite, or if that of its
        biases alone is above 1 + `tolerance`, which no factor mends.

    References
    ----------
    Mishkin & Matas, "All you need is a good init", 2016.

    Examples
    --------
    >>> model = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh()) for _ in range(20)))
    >>> all(abs(layer.after - 1) < 0.1 for layer in lsuv(model, torch.randn(128, 64)))
    True
    """
    model = getattr(model, "_orig_mod", model)  # of a compiled model: compiled code does not call hooks
    check_model(model)
    passed = check_inputs(inputs, named)
    limit, rounds = check_scaling(tolerance, most_rounds, orthogonal)
    names = check_key(Key(0) if key is None else key)
    log: list[ScaledLayer] = []
    found: dict[str, torch.Tensor] = {}
    with generators_kept(), torch.inference_mode(False), torch.no_grad(), untouched(model):
        seed_generators(0)
        torch.clear_autocast_cache()
        handles = []
        try:
            for name, module in _layers(model):
                scale = _Scale(name, limit, rounds, names if orthogonal else None, log, found)
                handles.append(module.register_forward_hook(scale, prepend=True, with_kwargs=True))
            inputs, passed = copied_inputs(inputs, passed)
            model(*inputs, **passed)
        finally:
            for handle in handles:
                handle.remove()
    with torch.no_grad():
        for name, module in _layers(model):
            if name in found:
                module.weight.copy_(found[name])
    return tuple(log)


def _layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules to scale."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return [
        (name, module)
        for name, module in observed_modules(model)
        if matrix_of(module) is module._parameters.get("weight") is not None
        and module.weight.requires_grad and owners[id(module.weight)] == 1
    ]  # fmt: skip


class _Scale:
    """A hook that scales a layer at its first call, and calls it again."""

    def __init__(
        self, name: str, tolerance: float, most_rounds: int, key: Key | None,
        log: list[ScaledLayer], found: dict[str, torch.Tensor],
    ) -> None:  # fmt: skip
        self.name, self.tolerance, self.most_rounds = name, tolerance, most_rounds
        self.key, self.log, self.found = key, log, found

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        if self.name in self.found or not isinstance(output, torch.Tensor):
            return None
        tensors = [value for value in (*inputs, *named.values()) if isinstance(value, torch.Tensor)]
        if not any(bool(tensor.any()) for tensor in tensors):
            raise ValueError(f"model: expected layers whose variance a factor can change, got an input of zeros in {self.name}")
        if self.key is not None:
            orthogonal_(module.weight, key=self.key / (f"{self.name}.weight" if self.name else "weight"))
            output = self._again(module, inputs, named)
        bias: Any = getattr(module, "bias", None)
        real = isinstance(bias, torch.Tensor) and bias.is_floating_point()
        fixed = float(bias.double().var(correction=0)) if real else 0.0
        if fixed >= 1 + self.tolerance:
            raise ValueError(
                f"model: expected layers whose variance a factor can change, got biases of variance {fixed:.3g} in {self.name}"
            )
        factor, rounds, before = 1.0, 0, math.nan
        while True:
            variance = float((output if output.is_complex() else output.float()).var(correction=0))
            before = variance if rounds == 0 else before
            if not 0 < variance < math.inf:
                raise ValueError(f"model: expected layers whose variance a factor can change, got {variance} in {self.name}")
            if abs(variance - 1) < self.tolerance or rounds == self.most_rounds:
                break
            module.weight.mul_(1 / math.sqrt(variance))
            factor /= math.sqrt(variance)
            rounds += 1
            output = self._again(module, inputs, named)
        self.log.append(ScaledLayer(self.name, before, variance, factor, rounds))
        self.found[self.name] = module.weight.detach()
        return output

    @staticmethod
    def _again(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        torch.clear_autocast_cache()  # which holds the weight from before
        return module.forward(*inputs, **named)
