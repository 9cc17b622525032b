"""Fans: how many numbers a unit reads, and how many units read it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .dtypes import check_shape

__all__ = ["Fans", "compute_fans"]


class Fans(NamedTuple):
    """``fan_in``: inputs of one output unit. ``fan_out``: output units that one input reaches."""

    fan_in: int
    fan_out: int


def compute_fans(shape: Any) -> Fans:
    """Fans of a kernel of shape ``(fan_in, fan_out)`` or ``(*receptive field, in, out)``.

    Parameters
    ----------
    shape : tuple of int
        Of the whole kernel, at least two axes.

    Raises
    ------
    ValueError
        If the shape has fewer than two axes: a vector or a number has no fans.

    Examples
    --------
    >>> compute_fans((784, 256))
    Fans(fan_in=784, fan_out=256)
    >>> compute_fans((3, 3, 16, 32))
    Fans(fan_in=144, fan_out=288)
    """
    sizes = check_shape(shape)
    if len(sizes) == 2:
        return Fans(*sizes)
    if len(sizes) < 2:
        raise ValueError(
            "shape: expected at least two axes, (fan_in, fan_out) or (*receptive field, in, out), "
            f"to know the fans; got {sizes}"
        )
    field = math.prod(sizes[:-2])
    return Fans(field * sizes[-2], field * sizes[-1])
