"""Where a function of one variable changes its sign: fixed points of maps, and critical points."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

__all__ = ["LOG_GROWTH_TOL", "POWERS_FROM", "STRIDE", "crossing", "in_dip", "root_of"]

Array = NDArray[Any]

LOG_GROWTH_TOL = 2e-15  # ln(map(q) / q) to a few rounding errors: what is smaller has no sign
STRIDE = 0.5  # in ln q: what a normal of variance q sees of an activation changes over 1 and more
POWERS_FROM = 90.0  # |ln q| beyond which means are powers of q to rounding errors: bends are 1e19 times as wide, or as narrow


def crossing(excess: Callable[[float], float], x: float, end: float) -> float | None:
    """The first point from x towards `end`, upwards or downwards in ln q, where `excess` falls through 0 as q grows."""
    way = math.copysign(1.0, end - x)
    before, value = math.inf, way * excess(x)  # positive until the crossing
    older = clear = x
    while way * (end - x) > 0:
        # A layer never passes a fixed point; a stride may pass two at once, but leaves a dip to be looked into. Far from 1 there
        # are no two: ln of a sum of falling powers of q.
        stride = min(max(STRIDE, value, abs(x) - POWERS_FROM), 300.0, way * (end - x))
        new = end if stride == way * (end - x) else x + way * stride
        new_value = way * excess(new)
        if new_value < -LOG_GROWTH_TOL:
            return root_of(excess, min(clear, new), max(clear, new))
        if LOG_GROWTH_TOL < value < min(before, new_value):
            found = in_dip(excess, older, x, new)
            if found is not None:
                return found
        older, before, x, value = x, value, new, new_value
        if value > LOG_GROWTH_TOL:
            clear = x
    return None


def in_dip(excess: Callable[[float], float], first: float, middle: float, last: float) -> float | None:
    """Where |excess|, smaller at `middle` than at both ends, first gets to 0, if it does: by halves towards the smallest."""
    way = math.copysign(1.0, last - first)
    least = way * excess(middle)
    for _ in range(30):
        sides = (first + middle) / 2, (middle + last) / 2
        values = [way * excess(x) for x in sides]
        if values[0] < least:
            last, middle, least = middle, sides[0], values[0]
        elif values[1] < least:
            first, middle, least = middle, sides[1], values[1]
        else:
            first, last = sides
        if least < -LOG_GROWTH_TOL:
            return root_of(excess, min(first, middle), max(first, middle))
        if least <= LOG_GROWTH_TOL:
            return middle
    return None


def root_of(f: Callable[[float], float], low: float, high: float) -> float:
    """Where f, positive at `low` and negative at `high`, crosses 0: bisection sped up by secants (Illinois)."""
    at_low, at_high = f(low), f(high)
    if at_low <= 0 or at_high >= 0:  # to rounding errors an end is the place
        return low if at_low <= 0 else high
    side = 0
    for _ in range(200):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        value = f(middle)
        if value == 0 or abs(high - low) <= 4e-16 * max(abs(low), abs(high)):
            return middle
        if value > 0:
            low, at_low = middle, value
            at_high = at_high / 2 if side == 1 else at_high
            side = 1
        else:
            high, at_high = middle, value
            at_low = at_low / 2 if side == -1 else at_low
            side = -1
        if abs(value) < 1e-16:
            return middle
    return (low + high) / 2
