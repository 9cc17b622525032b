"""Zeros in a model: by design, in which case a virtual step ends them, or a fault, whose reason is found."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calls import Call, Norms, sum_of_squares
from .observed import WithoutGradient, role_of

__all__ = ["lacking", "silent", "step_factor", "virtual_steps", "without_gradient"]

Array = NDArray[Any]

_VECTOR_STEP = 1e-3


def lacking(norms: Mapping[str, Norms]) -> list[str]:
    """Parameters whose gradient is exactly 0."""
    return [name for name, one in norms.items() if one.gradient == 0]


def silent(calls: Sequence[Call]) -> set[str]:
    """Calls of layers with weights whose output is all 0 though their input is not."""
    return {call.name for call in calls if call.square == 0 and call.input_square > 0}


def step_factor(square: float, size: int, fan_in: int) -> float:
    """By what a gradient is multiplied in a virtual step, which moves parameters that are all 0; 0 where it cannot be.

    Matrices become as large as LeCun's, 1 / sqrt(fan_in) in root mean square, and vectors 1e-3: only whether numbers are 0 is
    asked of the result. Zeros by design, at the end of residual branches or in a head, are none afterwards.

    Parameters
    ----------
    square : float
        The gradient's sum of squares.
    size, fan_in : int
        How many numbers it has; 0 for the fan-in of vectors.
    """
    if not 0 < square < math.inf:
        return 0.0
    return -(1 / math.sqrt(fan_in) if fan_in else _VECTOR_STEP) / math.sqrt(square / size)


def virtual_steps(values: Mapping[str, Array], gradients: Mapping[str, Array]) -> dict[str, Array]:
    """What the parameters become that are all 0 and have a gradient; of matrices units are on the last axis."""
    moved = {}
    for name, value in values.items():
        if value.any():
            continue
        fan_in = value.size // value.shape[-1] if value.ndim >= 2 and value.size else 0
        factor = step_factor(sum_of_squares(gradients[name]), value.size, fan_in)
        if factor:
            moved[name] = factor * gradients[name].astype(np.float64)
    return moved


def without_gradient(
    norms: Mapping[str, Norms],
    owners: Mapping[str, str],
    watched: Collection[str],
    called: Collection[str],
    calls: Sequence[Call],
    *,
    told_apart: bool = True,
    others: Mapping[str, str] | None = None,
) -> Iterator[WithoutGradient]:
    """Parameters whose gradient is 0 whatever was tried, with the reason that what was seen of their layer gives.

    Parameters
    ----------
    norms : mapping
    owners : mapping
        The layer of each parameter that is trained.
    watched, called : collection of str
        Layers whose calls would be seen, and those that were called.
    calls : sequence of Call
    told_apart : bool
        Whether outputs that nothing comes back to are told from those that zeros come back to.
    others : mapping, optional
        Of parameters that outputs of the model depend on which are not minimised, the names of these outputs.
    """
    others = others or {}
    place: dict[str, int] = {}
    of: dict[str, list[Call]] = {}
    for call in calls:
        place.setdefault(call.layer.name, len(place))
        if call.layer.activation is None:
            of.setdefault(call.layer.name, []).append(call)
    roles = {role_of(name) for name in called}
    lost = lacking(norms)
    moving = {owners[name] for name in owners if norms[name].gradient > 0}
    moving_roles = {role_of(layer) for layer in moving}
    known = [call.gradient for call in calls if not math.isnan(call.gradient)]
    flat = told_apart and known and not moving and not any(known)

    def order(name: str) -> tuple[bool, int]:
        """What is detached is more surely a fault than a 0 that comes back; of others the first that is executed."""
        back = any(not math.isnan(call.gradient) for call in of.get(owners[name], ()))
        return back, place.get(owners[name], len(place))

    for name in sorted(lost, key=order):
        layer, connected = owners[name], norms[name].connected
        own, who, fault = of.get(layer, []), layer or "the model", True
        if name in others:
            fault = False
            reason = f"only outputs that are not minimised depend on it, {others[name]}; give a loss that takes them"
        elif layer in watched and layer not in called and not connected:
            fault = False
            reason = f"no sample of the batch is sent to {who}" if role_of(layer) in roles else f"{who} is not called"
        elif connected is None and layer in watched and not own:
            fault = False
            reason = f"{who} is called in a loop or a branch that is compiled, to which no sample of the batch may come"
        elif not connected and all(math.isnan(call.gradient) for call in own):
            reason = f"what {who} computes is detached from the loss, or chooses among others and does not enter it"
        elif name.rpartition(".")[2] == "bias" and layer in moving:
            fault = False  # as where outputs are subtracted from each other, or only their derivatives are used
            reason = f"what it adds to the output of {who} cancels further on"
        elif connected is False:
            reason = f"it takes no part in what {who} computes"
        elif flat and connected:
            reason = "the loss is flat here: its derivative with respect to all that the model returns is 0"
        elif own and "expert" in layer.lower() and role_of(layer) in moving_roles and not any(call.gradient > 0 for call in own):
            fault = False  # under dense dispatch: every expert sees every sample
            reason = f"what {who} computes is multiplied by 0, as if no sample of the batch were sent to it"
        elif own and not any(call.gradient > 0 for call in own):
            reason = f"all that comes back to {who} is 0, so that something after it multiplies it by 0 or is flat"
            if not told_apart:
                reason = (
                    f"nothing comes back to {who}: what it computes is detached from the loss, chooses among others without "
                    "entering it, is multiplied by 0, or meets something flat"
                )
        elif own and all(call.input_square == 0 for call in own):
            reason = f"the input of {who} is 0"
        else:
            reason = f"nothing that {who} passes on depends on it here"
        yield WithoutGradient(name, layer or "model", reason, fault)
