"""What a diagnosis minimises: which outputs look like logits, and the labels and cotangents that are drawn for outputs."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._common.checks import shown
from .._stream.keys import Key
from .._stream.sampling import normal, uniform

__all__ = [
    "GIVEN", "RETURNED", "are_classes", "are_probabilities", "cotangent", "described", "in_words", "known_loss",
    "labels", "looks_like_logits", "not_classes", "outputs", "seed_of",
]  # fmt: skip

Array = NDArray[Any]

GIVEN = "the loss that was given"
RETURNED = "the loss that the model returns"


def outputs(value: Any, is_tensor: Callable[[Any], bool]) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """The tensors that a model returns, with their names in dicts: those that are minimised, and others.

    In an output by names the former are logits alone, if there are any.
    """
    found = list(_outputs(value, is_tensor, "", chosen=True))
    chosen, others = ([(name, tensor) for name, tensor, one in found if one == which] for which in (True, False))
    return chosen, others


def _outputs(value: Any, is_tensor: Callable[[Any], bool], name: str, *, chosen: bool) -> Iterator[tuple[str, Any, bool]]:
    if is_tensor(value):
        yield name, value, chosen
    elif isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        items = dict(value) if isinstance(value, Mapping) else vars(value)
        logits = {key: item for key, item in items.items() if str(key).endswith("logits") and item is not None}
        for key, item in items.items():
            yield from _outputs(item, is_tensor, str(key), chosen=chosen and (not logits or key in logits))
    elif isinstance(value, (tuple, list, deque)):
        for item in value:
            yield from _outputs(item, is_tensor, name, chosen=chosen)


def looks_like_logits(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a floating output is taken for logits, or for probabilities."""
    return len(shape) in (2, 3) and shape[-1] >= 2 and (not name or name.endswith("logits"))


def known_loss(value: float) -> float:
    """The loss, infinite where it is NaN: NaN stands for a loss that nothing is known of."""
    return value if math.isfinite(value) else math.inf


def are_probabilities(values: Any) -> bool:
    """Whether logits, an array of any framework, are rather the probabilities behind a softmax."""
    return bool((values >= 0).all()) and bool((abs(values.sum(-1) - 1) < 0.01).all())


def described(value: Any) -> str:
    """What was given instead of something else: of a tensor or an array of any framework the dtype and the shape."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return shown(value)


def not_classes(targets: Any, shapes: Iterable[tuple[int, ...]]) -> str:
    """What is wrong with targets for outputs of these shapes."""
    return (
        "targets: expected a loss beside them, or ints that are classes for the logits the model returns, got "
        f"{described(targets)} for outputs of shape {', '.join(map(str, shapes))}"
    )


def are_classes(targets: Array, shape: tuple[int, ...], *, ignored: int | None = None) -> bool:
    """Whether targets are classes for logits of a shape, or the number that stands for none."""
    if targets.dtype.kind not in "iu" or targets.shape != shape[:-1]:
        return False
    known = targets if ignored is None else targets[targets != ignored]
    return bool(((known >= 0) & (known < shape[-1])).all())


def in_words(entropies: Iterable[str], *, given: bool, normals: bool) -> str:
    """The parts of what was minimised: cross-entropies with labels that were given or drawn, and products with normals."""
    whose = "the labels that were given" if given else "random labels"
    parts = [f"{entropy} with {whose}" for entropy in dict.fromkeys(entropies)] + ["a random cotangent"] * normals
    return " and ".join(parts) if parts else "no output that can be differentiated"


# ---- drawn from keys --------------------------------------------------------------------------------


def seed_of(key: Key, i: int) -> int:
    """The seed of a framework's generators for the i-th model."""
    return int(uniform((1,), 0.0, float(2**31), key=key / f"{i}", dtype="float64")[0])


def labels(shape: tuple[int, ...], key: Key, i: int) -> Array:
    """Uniform classes for logits of a shape, the i-th output."""
    classes = shape[-1]
    drawn = np.asarray(uniform(tuple(shape[:-1]), 0.0, float(classes), key=key / "labels" / f"{i}"), dtype=np.int32)
    return np.minimum(drawn, classes - 1)


def cotangent(shape: tuple[int, ...], key: Key, i: int) -> Array:
    """Standard normals, the product with which is minimised, for the i-th output."""
    return np.asarray(normal(tuple(shape), key=key / "cotangent" / f"{i}"))
