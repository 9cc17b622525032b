"""Looks at a model, each a pass forward and back: one at its start, and others after virtual steps of what is 0 there."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from .calls import Call, Norms, observed_layer
from .observed import ObservedModel
from .zeros import lacking, silent, without_gradient

__all__ = ["Look", "last_look", "observed_model"]

_MOST_STEPS = 3  # a zero behind a zero gets a gradient only after the first has moved


@dataclass(frozen=True)
class Look:
    """What one pass shows.

    Attributes
    ----------
    calls : list of Call
        In the order of execution.
    called : set of str
        Layers that were called, also those whose output has no numbers to measure.
    norms : dict of str to Norms
        Of the parameters.
    loss, classes, logit_variance : float
        As in `ObservedModel`.
    left_out : tuple of str
        Outputs of the model that are not minimised.
    for_others : frozenset of str
        Parameters without a gradient that such outputs depend on.
    """

    calls: list[Call]
    called: set[str]
    norms: dict[str, Norms]
    loss: float = math.nan
    classes: float = math.nan
    logit_variance: float = math.nan
    left_out: tuple[str, ...] = ()
    for_others: frozenset[str] = frozenset()


def last_look(first: Look, look: Callable[[bool], Look], step: Callable[[], bool]) -> Look:
    """Look again after virtual steps where zeros may be there by design, and at what depends on outputs that were left out.

    Parameters
    ----------
    first : Look
    look : callable
        ``look(everything)``; of everything the outputs that are left out are minimised, too.
    step : callable
        Takes a virtual step with the gradients of the last look, and returns whether there was anything to move.

    Returns
    -------
    Look
        With the norms of values at first, and of each gradient the largest norm of all looks.
    """
    last = first
    for _ in range(_MOST_STEPS):
        if not (lacking(last.norms) or silent(last.calls)) or not step():
            break
        again = look(False)
        norms = {
            name: replace(first.norms[name], gradient=max(last.norms[name].gradient, one.gradient), connected=one.connected)
            for name, one in again.norms.items()
        }
        last = replace(again, norms=norms)
    lost = lacking(last.norms)
    if lost and last.left_out:
        whole = look(True).norms
        last = replace(last, for_others=frozenset(name for name in lost if whole[name].gradient > 0))
    return last


def observed_model(
    first: Look,
    last: Look,
    *,
    batch: int,
    owners: Mapping[str, str],
    watched: Collection[str],
    twins: tuple[tuple[str, str], ...],
    symmetric: tuple[tuple[str, int, int], ...],
    told_apart: bool = True,
) -> ObservedModel:
    """What the first look shows, and of zeros what is left of them in the last; `zeros.without_gradient` has the arguments."""
    later = {call.name: call for call in last.calls}
    for call in first.calls:
        after = later.get(call.name)
        if after is not None and not call.gradient > 0:
            call.gradient, call.dead = after.gradient, after.dead if call.layer.activation is None else call.dead
    quiet = silent(last.calls)
    return ObservedModel(
        layers=tuple(observed_layer(call, batch, last.norms, silent=call.name in quiet) for call in first.calls),
        without_gradient=tuple(without_gradient(
            last.norms, owners, watched, last.called, last.calls, told_apart=told_apart,
            others=dict.fromkeys(last.for_others, ", ".join(last.left_out)),
        )),
        non_finite=tuple(name for name, one in first.norms.items() if not math.isfinite(one.square)),
        twins=twins, symmetric=symmetric, loss=first.loss, classes=first.classes, logit_variance=first.logit_variance,
        batch=batch, input_square=first.calls[0].input_square if first.calls else math.nan,
    )  # fmt: skip
