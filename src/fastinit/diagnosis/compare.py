"""Starts against each other: a diagnosis for every initializer, activation and depth of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .._common.checks import shown, whole_number
from .._stream.keys import Key
from .diagnose import diagnose
from .result import Change, Diagnosis
from .thresholds import Thresholds

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """A grid of diagnoses; ``print`` shows it as a table, with the forward and backward change of each in nats.

    Attributes
    ----------
    initializers, activations : tuple of str
        Names; of an initializer that was given as an object, its repr.
    depths : tuple of int
    width : int
    diagnoses : dict of (str, str, int) to Diagnosis
        Under (initializer, activation, depth).
    """

    initializers: tuple[str, ...]
    activations: tuple[str, ...]
    depths: tuple[int, ...]
    width: int
    diagnoses: dict[tuple[str, str, int], Diagnosis]

    def best(self, activation: str, depth: int) -> str:
        """The initializer with the mildest findings, then the fewest, and among these with the smallest change."""

        def faults(name: str) -> tuple[int, int, float]:
            found = self.diagnoses[name, activation, depth]
            change = _larger(found)
            worst = max((("warn", "fail").index(finding.severity) + 1 for finding in found.findings), default=0)
            return worst, len(found.findings), math.inf if math.isnan(change) else abs(change)

        return min(self.initializers, key=faults)

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.diagnoses)} diagnoses>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def __str__(self) -> str:
        rows = [("activation", "depth", "initializer", "forward", "backward", "verdict")]
        for activation in self.activations:
            for depth in self.depths:
                best = self.best(activation, depth)
                for name in self.initializers:
                    found = self.diagnoses[name, activation, depth]
                    severity = next((f" ({f.severity})" for f in found.findings if f.name == found.verdict), "")
                    rows.append((
                        activation, f"{depth}", f"{name} *" if name == best else name, _nats(found.forward),
                        _nats(found.backward), f"{found.verdict}{severity}",
                    ))  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if i in (1, 3, 4) else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        head = f"layers of {self.width}; changes in nats; * the best start of each activation and depth"
        return "\n".join([head, *lines])

    def to_dict(self) -> dict[str, Any]:
        """Everything as a dict of values that JSON has."""
        return {
            "width": self.width,
            "cells": [
                {"initializer": name, "activation": activation, "depth": depth, **found.to_dict()}
                for (name, activation, depth), found in self.diagnoses.items()
            ],
        }

    def plot(self) -> Any:
        """A picture with a panel for each activation, and the larger change of each start over the depth; needs matplotlib.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from matplotlib.figure import Figure

        columns = min(3, len(self.activations))
        rows = math.ceil(len(self.activations) / columns)
        figure = Figure(figsize=(4 * columns, 3.2 * rows), layout="constrained")
        for i, activation in enumerate(self.activations):
            axes = figure.add_subplot(rows, columns, i + 1)
            for name in self.initializers:
                changes = [_larger(self.diagnoses[name, activation, depth]) for depth in self.depths]
                axes.plot(self.depths, changes, marker=".", label=name)
            axes.set_yscale("symlog", linthresh=10)
            limits = Thresholds()
            for lines, style in zip(zip(limits.exploding, limits.vanishing, strict=True), (":", "--"), strict=True):
                for line in (lines[0], -lines[1]):  # of a warning dotted, of a failure dashed
                    axes.axhline(line, color="grey", linewidth=0.8, linestyle=style)
            axes.set_title(activation)
            axes.set_xlabel("layers")
            axes.set_ylabel("change, nats")
            if i == 0:
                axes.legend(fontsize="small")
        return figure


def _nats(change: Change) -> str:
    return f"{change.nats:+.2f}" if math.isfinite(change.nats) else "-"


def _larger(found: Diagnosis) -> float:
    """The change that is larger in size, forward or backward; NaN where a signal is gone or has left the range."""
    changes = [found.forward.nats, found.backward.nats]
    return max(changes, key=abs) if all(map(math.isfinite, changes)) else math.nan


def compare(
    initializers: Sequence[Any],
    activations: Sequence[str],
    depths: Sequence[int],
    width: int = 256,
    *,
    key: Key | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Comparison:
    """Diagnose every initializer with every activation at every depth, in stacks of one width.

    Parameters
    ----------
    initializers : sequence of initializers or str
        Whatever `fastinit.get` takes.
    activations : sequence of str
        Names, as `Stack` takes them.
    depths : sequence of int
        Numbers of layers.
    width : int, default 256
    key : Key, optional
        As in `diagnose`.
    progress : callable, optional
        Called with the number of diagnoses that are done and that of all.
    **options
        Of `diagnose`, such as `seeds` and `biases`.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        As for `diagnose`; if a name stands in the place of a sequence.

    Examples
    --------
    >>> found = fastinit.compare(["glorot_uniform", "he_normal", fastinit.Orthogonal()], ["relu"], [10, 50])
    >>> found.best("relu", 50)
    'he_normal'
    """
    starts = {start if isinstance(start, str) else repr(start): start for start in _entries("initializers", initializers)}
    functions = _entries("activations", activations)
    if not all(isinstance(name, str) for name in functions):
        raise TypeError(f"activations: expected a sequence of names, got {shown(activations)}")
    names = tuple(dict.fromkeys(functions))
    layers = tuple(dict.fromkeys(whole_number("depths", depth) for depth in _entries("depths", depths)))
    units = whole_number("width", width)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress: expected a function (done, of), got {shown(progress)}")
    for name in {"weights", "recommend"} & options.keys():
        raise TypeError(f"{name}: expected none of compare, which tries the initializers and recommends nothing")
    grid = [(name, activation, depth) for activation in names for depth in layers for name in starts]
    found = {}
    for i, (name, activation, depth) in enumerate(grid):
        if progress is not None:
            progress(i, len(grid))
        found[name, activation, depth] = diagnose(
            [units] * (depth + 1), activation, weights=starts[name], key=key, recommend=False, **options
        )
    if progress is not None:
        progress(len(grid), len(grid))
    return Comparison(tuple(starts), names, layers, units, found)


def _entries(what: str, values: Any) -> list[Any]:
    """At least one entry; a str is one name and no sequence of them."""
    try:
        entries = [] if isinstance(values, str) else list(values)
    except TypeError:
        entries = []
    if not entries:
        raise TypeError(f"{what}: expected a sequence with at least one entry, got {shown(values)}")
    return entries
