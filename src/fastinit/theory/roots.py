"""Zeros of functions of one variable: fixed points of maps, and critical points."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["LOG_GROWTH_TOL", "LOG_STEP", "POWER_LAW_LOG_Q", "find_root", "first_crossing"]


LOG_GROWTH_TOL = 2e-15  # a few rounding errors of ln(map(q) / q): the sign of anything smaller means nothing
LOG_STEP = 0.5  # step of the search in ln q: means over N(0, q) vary with ln q on a scale of 1 and more
# For |ln q| beyond this, means are pure powers of q up to rounding errors: the standard deviation is 1e19 times larger, or
# smaller, than the scale on which activations bend.
POWER_LAW_LOG_Q = 90.0


def first_crossing(excess: Callable[[float], float], x: float, end: float) -> float | None:
    """The first zero of `excess` between x and `end` in ln q at which it falls from positive to negative as q grows.

    The search goes upwards or downwards, from x towards `end`; None if there is no such zero.
    """
    direction = math.copysign(1.0, end - x)
    before, value = math.inf, direction * excess(x)  # positive until the crossing
    older = clear = x
    while direction * (end - x) > 0:
        # The map is monotone, so a step of ln(map(q) / q), which `value` is, never jumps over a fixed point. A step of LOG_STEP
        # may jump over two of them at once, but `excess` then has a dip between them, which `_zero_in_dip` searches. There are
        # no two close zeros far from ln q = 0, where `excess` is the logarithm of a sum of falling powers of q.
        step = min(max(LOG_STEP, value, abs(x) - POWER_LAW_LOG_Q), 300.0, direction * (end - x))
        new = end if step == direction * (end - x) else x + direction * step
        new_value = direction * excess(new)
        if new_value < -LOG_GROWTH_TOL:
            return find_root(excess, min(clear, new), max(clear, new))
        if LOG_GROWTH_TOL < value < min(before, new_value):
            found = _zero_in_dip(excess, older, x, new)
            if found is not None:
                return found
        older, before, x, value = x, value, new, new_value
        if value > LOG_GROWTH_TOL:
            clear = x
    return None


def _zero_in_dip(excess: Callable[[float], float], first: float, middle: float, last: float) -> float | None:
    """The first zero between `first` and `last`, where |excess| is smaller at `middle` than at both ends; None if none.

    The interval is halved around the smallest value until that value is 0 or has the other sign.
    """
    direction = math.copysign(1.0, last - first)
    least = direction * excess(middle)
    for _ in range(30):
        sides = (first + middle) / 2, (middle + last) / 2
        values = [direction * excess(x) for x in sides]
        if values[0] < least:
            last, middle, least = middle, sides[0], values[0]
        elif values[1] < least:
            first, middle, least = middle, sides[1], values[1]
        else:
            first, last = sides
        if least < -LOG_GROWTH_TOL:
            return find_root(excess, min(first, middle), max(first, middle))
        if least <= LOG_GROWTH_TOL:
            return middle
    return None


def find_root(f: Callable[[float], float], low: float, high: float) -> float:
    """The zero of f between `low`, where f is positive, and `high`, where it is negative, by the Illinois method.

    That is the method of false position, which halves the value at an end that has stayed twice.
    """
    at_low, at_high = f(low), f(high)
    if at_low <= 0 or at_high >= 0:  # up to rounding errors, this end is the zero
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
