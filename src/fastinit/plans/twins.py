"""Tensors of a model that were drawn from one and the same random numbers, and parts of one tensor that repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .identify import numbers

__all__ = ["Twins"]

_FIRST = 64  # elements: which of them are above their median is 1 of 2^60 patterns, whatever the scale
_COUNTS = (32, 16, 12, 8, 6, 4, 3, 2)  # of shards


class Twins:
    """Finds duplicates among the tensors that are added, by their first elements in the order of their memory."""

    def __init__(self) -> None:
        self._alike: dict[tuple[str, bytes], list[tuple[int, tuple[str, ...], NDArray[Any], bool]]] = {}
        self._repeated: dict[int, str] = {}

    def add(self, number: int, names: tuple[str, ...], view: NDArray[Any], dtype: str, *, asked: bool, proven: bool) -> None:
        """Add a tensor of all names of its parameter; one that was proven to be as asked is no duplicate of others."""
        if view.dtype.kind == "c" or view.size < 16 or not (asked or _varied(view)):
            return
        order = sorted(range(view.ndim), key=lambda axis: -abs(view.strides[axis]))
        memory = view.transpose(order)
        first = memory[np.unravel_index(np.arange(min(_FIRST, view.size)), memory.shape)]
        values = np.asarray(numbers(first, dtype), np.float64)
        if not np.isfinite(values).all() or len(np.unique(values)) < 12:
            return
        steps = np.diff(values)
        if (steps >= 0).all() or (steps <= 0).all():  # values in order are meant, as in the A_log of Mamba-2, and no draw
            return
        if len(values) < _FIRST:
            signature = ("equal", values.tobytes())
        else:
            signature = ("ranks", np.packbits(values > np.median(values)).tobytes())
        self._alike.setdefault(signature, []).append((number, names, values, proven))
        if not proven and (repeated := _repeated(view)):
            self._repeated[number] = repeated

    def found(self, names: Sequence[str]) -> dict[int, tuple[str, str]]:
        """For the number of each duplicate what it equals, and the likely cause."""
        found: dict[int, tuple[str, str]] = {}
        for several in self._alike.values():
            for i, (number, own, values, proven) in enumerate(several):
                if proven:
                    continue
                for k, (other, their, beside, _) in enumerate(several):
                    if k == i or _tied(own, their):
                        continue
                    ratio = float(values.std() / beside.std())
                    centred, others = values - values.mean(), beside - beside.mean()
                    if float(centred @ others) < 0.99 * float(np.linalg.norm(centred) * np.linalg.norm(others)):
                        continue
                    scaled = "" if abs(ratio - 1) < 1e-3 else f", times {ratio:.3g}"
                    more = f" and {len(several) - 2} more" if len(several) > 2 else ""
                    cause = "each was drawn after the same seed: inside fork_rng, or with a generator made anew for every tensor"
                    found[number] = f"the random numbers of {names[other]}{scaled}{more}", cause
                    break
        for number, text in self._repeated.items():
            found[number] = text, "identical shards on every rank: each drew its part from the same seed"
        return found


def _tied(names: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether two names may be those of one embedding that is also the head, saved twice."""
    both = [name.lower() for name in (*names, *others)]
    embedding = any(word in name for name in both for word in ("emb", "wte", "shared"))
    return bool(set(names) & set(others)) or (embedding and any("head" in name or "output" in name for name in both))


def _varied(view: NDArray[Any]) -> bool:
    """Whether neighbouring rows and columns differ: one row for all is meant, as in the A_log of Mamba, and no draw."""
    if view.ndim < 2:
        return True
    columns = np.moveaxis(view, 1, 0)
    return not any(len(rows) > 1 and np.array_equal(rows[0], rows[1]) for rows in (view, columns))


def _repeated(view: NDArray[Any]) -> str:
    """In words, if a tensor is one part that repeats along an axis."""
    for axis, n in enumerate(view.shape[:2]):
        rows = np.moveaxis(view, axis, 0)
        if rows[0].size * n < 32:
            continue
        for count in _COUNTS:
            length, rest = divmod(n, count)
            if rest or not length or length * rows[0].size < 16:
                continue
            if not np.array_equal(rows[0], rows[length]):
                continue
            part = rows[:length]
            if len(np.unique(part.reshape(-1)[:64])) < 12:
                continue
            if all(np.array_equal(part, rows[k * length : (k + 1) * length]) for k in range(1, count)):
                return f"{count} times the same {length} entries along axis {axis}"
    return ""
