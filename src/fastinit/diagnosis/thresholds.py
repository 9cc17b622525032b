"""From which values on a diagnosis warns, and from which on it fails a network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .._common.checks import real_number, shown

__all__ = ["VERDICTS", "Thresholds"]

# In the order in which they are looked for: an earlier one is often the cause of a later one.
VERDICTS = (
    "non-finite", "no signal", "symmetric", "dead", "exploding", "vanishing", "saturated", "rank collapse", "narrow",
    "over-confident head", "no gradient", "unregistered",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where `fastinit.diagnose` draws its lines. A pair is (warn, fail).

    Changes are totals over the depth in nats: natural logarithms of ratios of mean squares, so that 2 nats are a factor of
    e in the size of the numbers. A total is compared and not its slope: every small drift of many layers is significant, and
    only the sum of them does harm. A warning is where plain gradient descent becomes slow or accuracy is lost; a failure is where
    none of gradient descent, momentum and Adam trains: see the notes.

    Parameters
    ----------
    exploding : (float, float), default (4, 10)
        By how much the pre-activations' mean square may grow from the first layer to the last, or the gradients' energy from
        the last layer to the first.
    vanishing : (float, float), default (6, 28)
        By how much either may shrink.
    dead : float, default 0.5
        Share in [0, 1] of a layer's units that no sample of the batch makes active, to which `dead_deviations` is added.
    dead_deviations : float, default 3
        Standard deviations of that share at 1/2, sqrt(0.25 / units): a ReLU layer whose inputs have all become alike has half
        of its units dead by chance.
    saturated : float, default 0.5
        Mean share in [0, 1] of saturated elements over the layers of tanh, sigmoid, hard_tanh and softsign.
    attention : (float, float), default (0.9, 0.97)
        Of a framework's model, 1 - the entropy of a layer's attention weights by ln of how many keys a query sees: 1 where
        each looks at one key alone, and softmax has no derivative.
    rank_collapse : (float, float), default (6, 15)
        By how many nats 1 - c may shrink over the depth, c being the mean cosine of two samples' pre-activations. At 16 the
        samples are equal to the rounding errors of float32.
    narrow : float, default 2
        Sum over the layers of ReLU and its like of 5 / width: the variance from seed to seed of the logarithm of a squared
        norm. Above it one network says nothing of another.
    initial_loss : (float, float), default (1, 100)
        Warn above ln C + the first, fail above the second times ln C; C is the number of classes.
    interval : float, default 2
        Half the width of an interval over seeds, in standard errors of the mean.

    Raises
    ------
    TypeError, ValueError
        If a number is none, is not finite or is negative, or if a pair is none or falls.

    Notes
    -----
    The thresholds of failure were chosen on two hundred networks of 5 to 40 layers that were trained on handwritten digits, each
    with SGD(0.1), Momentum(0.01) and Adam(0.001), and confirmed on a hundred others (``python -m bench.diagnosis --trained``).
    Vanishing is forgiven more than growth, by Adam: networks that shrink by 27 nats learn, those that shrink by 29 do not;
    networks that grow by 9 nats learn, by 14 hardly. An initial loss of 80 is trained away within an epoch; it costs that
    epoch. The warnings are where gradient descent alone has trouble.
    """

    exploding: tuple[float, float] = (4.0, 10.0)
    vanishing: tuple[float, float] = (6.0, 28.0)
    dead: float = 0.5
    dead_deviations: float = 3.0
    saturated: float = 0.5
    attention: tuple[float, float] = (0.9, 0.97)
    rank_collapse: tuple[float, float] = (6.0, 15.0)
    narrow: float = 2.0
    initial_loss: tuple[float, float] = (1.0, 100.0)
    interval: float = 2.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            checked = _pair(field.name, value) if isinstance(field.default, tuple) else _limit(field.name, value)
            object.__setattr__(self, field.name, checked)


def _limit(name: str, value: Any) -> float:
    number = real_number(name, value)
    if number < 0:
        raise ValueError(f"{name}: expected a number >= 0, got {number}")
    return number


def _pair(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name}: expected a pair (warn, fail), got {shown(value)}")
    warn, fail = _limit(f"{name}[0]", value[0]), _limit(f"{name}[1]", value[1])
    if fail < warn and name != "initial_loss":  # whose two numbers are of different kinds
        raise ValueError(f"{name}: expected a pair (warn, fail) with warn <= fail, got {shown(value)}")
    return warn, fail
