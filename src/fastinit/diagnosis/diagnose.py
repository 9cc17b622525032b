"""The entry: from a network, or the description of one, to a diagnosis."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.arithmetic import ieee
from .._common.checks import boolean, no_nan, real_array, shown, whole_number
from .._engine.arguments import check_parameters, check_widths
from .._engine.stack import Stack
from .._engine.virtual_weights import DrawnWeights
from .._stream.keys import Key, check_key
from .._stream.sampling import normal, uniform
from .assemble import assembled, seeds_for
from .recommend import Description, recommended
from .result import Diagnosis
from .thresholds import Thresholds

__all__ = ["diagnose"]

Array = NDArray[Any]

@ieee
def diagnose(
    network: Stack | Sequence[int],
    activation: Any = None,
    *,
    x: Any = None,
    labels: Any = None,
    batch: int | None = None,
    seeds: int | None = None,
    key: Key | None = None,
    thresholds: Thresholds | None = None,
    recommend: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Diagnosis:
    """Say whether a network will train from its start, by a pass forward and back and by theory.

    ``print(diagnose(...))`` shows it; docs/diagnosis.md explains what is printed, the verdicts, and how often they are wrong.

    Parameters
    ----------
    network : Stack, or sequence of int
        One network; or the widths (n_0, ..., n_L) of networks that are drawn, one for each seed.
    activation : str or sequence of str
        With widths: as in `Stack`. A network whose outputs are logits needs ``output_activation="linear"`` too.
    x : array_like of shape (batch, n_0), batch >= 2, optional
        Inputs, some dozens in random order; standard normals from ``key / "x"`` if not given.
    labels : array_like of int, shape (batch,), optional
        Classes in [0, n_L), for the initial loss; uniform ones from ``key / "labels"`` if not given.
    batch : int >= 2, default 32
        How many samples are drawn where `x` is not given.
    seeds : int >= 1, optional
        With widths: how many networks are drawn. By default 3 to 16, as many as the total change scatters.
    key : Key, optional
        Names the data and, with widths, the networks: network i has ``key / f"{i}"``. By default the key of a `Stack` that is
        given, else ``Key(0)``, so that a diagnosis can be repeated.
    thresholds : Thresholds, optional
        Where warnings and failures begin.
    recommend : bool, default True
        For each finding try some changes of weights, biases, alpha, activation or, if they were given on another scale than
        variance 1, of the data, and recommend the best of those that a second run shows to be better. Nothing is tried for a
        virtual `Stack`.
    progress : callable, optional
        Called before each network with how many were measured and how many there are, and then likewise for the findings that
        recommendations are looked for.
    **options
        With widths: all other options of `Stack`, such as `weights`, `biases`, `output_activation`, `residual` and `dtype`.

    Returns
    -------
    Diagnosis
        With `verdict`, `findings` (what is wrong, where, and what to change), `layers`, and the changes `forward` and `backward`.

    Raises
    ------
    TypeError, ValueError
        As for `Stack`; if options that are for widths come with a `Stack`; if x, labels, batch or seeds do not fit.

    Examples
    --------
    >>> fastinit.diagnose([256] * 51, "relu", weights="glorot_normal", recommend=False).verdict
    'vanishing'
    >>> fastinit.diagnose([256] * 51, "relu", weights="he_normal").verdict
    'healthy'
    >>> found = fastinit.diagnose((784, *[256] * 20, 10), "gelu", output_activation="linear")
    >>> found.verdict, found.findings[0].recommendation.partition(":")[0]
    ('vanishing', 'weights=Orthogonal(gain=1.404), biases=RandomNormal(std=0.4472)')
    """
    limits = Thresholds() if thresholds is None else thresholds
    if not isinstance(limits, Thresholds):
        raise TypeError(f"thresholds: expected a fastinit.Thresholds, got {shown(thresholds)}")
    boolean("recommend", recommend)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress: expected a function (done, of), got {shown(progress)}")
    report = progress or _silent
    description = None
    if isinstance(network, Stack):
        given = {"activation": activation, "seeds": seeds}
        named = [*(name for name, value in given.items() if value is not None), *options]
        if named:
            raise TypeError(f"network: expected widths beside {', '.join(named)}, got a Stack, which has its own")
        names = check_key(network.key if key is None else key)
        first, count = network, 1
        if not isinstance(network.weights, DrawnWeights):
            first = _readable(network)
            if not any(np.isnan(array).any() for array in first.weights + first.biases):
                description = Description.of(first, names)
    else:
        widths = check_widths(network)
        if activation is None:
            raise TypeError("activation: expected one beside widths, got none")
        names = check_key(Key(0) if key is None else key)
        first = Stack(widths, activation, key=names / "0", **options)
        description = Description(first.widths, activation, options, names, seeds)
        count = seeds_for(first) if seeds is None else whole_number("seeds", seeds)
    if not first.depth:
        raise ValueError(f"network: expected at least one layer, got widths {first.widths}")
    inputs = _inputs(first, x, batch, names)
    classes = _labels(labels, len(inputs), first.widths[-1], names)
    # Each network is drawn when the one before has been measured: two of them are in memory, not all.
    def networks() -> Iterator[Stack]:
        for i in range(count):
            report(i, count)
            yield Stack(first.widths, activation, key=names / f"{i}", **options) if i else first

    found = assembled(networks(), inputs, classes, limits)
    if recommend and found.findings and description is not None:
        return recommended(found, description, inputs, classes, limits, report)
    return found


def _silent(done: int, of: int) -> None:
    """Reports nothing."""


def _readable(stack: Stack) -> Stack:
    """A stack with the same numbers, as arrays of its dtype, whatever arrays the user has put in its lists."""
    found = copy.copy(stack)
    for what in ("weights", "biases"):
        setattr(found, what, check_parameters(what, getattr(stack, what), stack.widths, stack.dtype, nan=True))
    return found


def _inputs(stack: Stack, x: Any, batch: int | None, key: Key) -> Array:
    if x is None:
        rows = whole_number("batch", 32 if batch is None else batch, least=2)
        drawn: Array = normal((rows, stack.widths[0]), key=key / "x", dtype=stack.dtype)
        return drawn
    if batch is not None:
        raise TypeError("batch: expected x or batch, got both")
    inputs = real_array("x", x)
    if inputs.ndim != 2 or inputs.shape[1] != stack.widths[0] or len(inputs) < 2:
        raise ValueError(f"x: expected shape (batch, {stack.widths[0]}) with a batch of at least 2, got {inputs.shape}")
    no_nan("x", inputs)
    return inputs


def _labels(labels: Any, rows: int, classes: int, key: Key) -> Array:
    if labels is None:
        drawn = uniform((rows,), 0.0, float(classes), key=key / "labels")
        return np.minimum(np.asarray(drawn, dtype=np.int64), classes - 1)
    found = real_array("labels", labels)
    if found.dtype.kind not in "iu" or found.shape != (rows,):
        raise ValueError(f"labels: expected {rows} ints, a class for each sample, got {found.dtype} of shape {found.shape}")
    if found.size and not (found.min() >= 0 and found.max() < classes):
        raise ValueError(f"labels: expected classes in [0, {classes}), got {found.min()} to {found.max()}")
    return found.astype(np.int64)
