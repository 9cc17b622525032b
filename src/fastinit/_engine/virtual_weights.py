"""Weights that are not stored: what a virtual stack keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from .. import _core
from .._stream.keys import Key
from .._stream.laws import check_law

__all__ = ["DrawnWeights", "check_stored"]


class DrawnWeights(Sequence[NDArray[Any]]):
    """The weights of a virtual stack: laws and keys, and an array of a layer only where somebody looks at it.

    Attributes
    ----------
    laws : list of tuple
        Of each layer, as the binding takes it: the law's index in `_core.LAWS`, its parameters, the key's seed and stream.
    """

    def __init__(self, initializers: Sequence[Any], key: Key, shapes: list[tuple[int, int]], dtype: str) -> None:
        self._initializers, self._key, self._shapes, self._dtype = initializers, key, shapes, dtype
        self.laws: list[tuple[int, tuple[float, ...], int, int]] = []
        for i, (initializer, shape) in enumerate(zip(initializers, shapes, strict=True)):
            law = initializer.law(shape)
            if law is None:
                raise ValueError(
                    "weights: expected an initializer that draws its elements independently, for a virtual "
                    f"stack, got {initializer!r}"
                )
            of_layer = initializer._key(key / f"{i}.weight")
            checked = check_law(law.name, law.parameters, dtype)
            self.laws.append((_core.LAWS.index(law.name), checked, of_layer.seed, of_layer.stream))

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(len(self))[i]]
        i = range(len(self))[i]
        key = self._key / f"{i}.weight"
        return self._initializers[i](self._shapes[i], dtype=self._dtype, key=key)


def check_stored(weights: Any) -> None:
    """Refuse weights that are drawn when they are needed, for what wants their gradients."""
    if isinstance(weights, DrawnWeights):
        raise ValueError("gradients: expected stored weights, got a virtual stack")
