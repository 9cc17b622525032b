"""Variance scaling: mean 0 and a variance that is a function of the fans. Glorot, He, LeCun and their general form."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from .._stream.laws import Law
from .base import choice, finite, positive, squarable
from .catalogue import registered
from .fans import FanRule, Fans, as_fans, compute_fans
from .independent import Independent

__all__ = [
    "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "KaimingNormal", "KaimingUniform", "LeCunNormal",
    "LeCunUniform", "SeluNormal", "TorchLinear", "VarianceScaling", "XavierNormal", "XavierUniform",
]  # fmt: skip

# `truncated_moments(-2, 2)[1]`, as a literal to save its computation at import.
_STD_WITHIN_2 = 0.87962566103423978

# The fan that each mode stands for.
FAN_MODES: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
_DISTRIBUTIONS = ("uniform", "normal", "truncated_normal")
# A paragraph of every public class here: shapes in the other order raise no error, but give another variance.
_ORDER_OF_AXES = """A shape is read as ``(in, out)`` or ``(*field, in, out)``. PyTorch's order, ``(out, in, *field)``, is
chosen by ``fans=FanRule(layout="oi")``; a PyTorch tensor in place of the shape is read in PyTorch's order without it."""


def law_of_variance(variance: float, distribution: str) -> Law:
    """The law with mean 0 and that variance, of one of `_DISTRIBUTIONS`, truncated at 2 standard deviations."""
    std = math.sqrt(variance)
    if distribution == "uniform":
        limit = math.sqrt(3 * variance)
        return Law("uniform", (-limit, limit)) if limit else Law("normal", (0.0, 0.0))
    if distribution == "normal":
        return Law("normal", (0.0, std))
    return Law("truncated_normal", (0.0, std / _STD_WITHIN_2, -2.0, 2.0))


@dataclass(frozen=True, repr=False)
class FanScaled(Independent):
    """Base class: independent elements with mean 0 and a variance that is a function of the fans.

    Parameters
    ----------
    fans : FanRule or (fan_in, fan_out), optional
        As in `VarianceScaling`.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape does not tell the fans.
    """

    fans: FanRule | Fans | None = dataclasses.field(default=None, kw_only=True)

    _distribution: ClassVar[str]

    def __init_subclass__(cls, distribution: str = "", **keywords: Any) -> None:
        """``class Name(Base, distribution=...)`` has the variance and the options of `Base`, and draws from that distribution."""
        super().__init_subclass__(**keywords)
        own, base = inspect.cleandoc(cls.__doc__ or ""), inspect.cleandoc(cls.__mro__[1].__doc__ or "")
        heading = "\n\nParameters\n"
        if distribution:
            cls._distribution = distribution
            # The options are documented once, in the base class.
            own += "" if heading in own else heading + base.partition(heading)[2]
        if not cls.__name__.startswith("_"):
            first, gap, rest = own.partition("\n\n")
            own = f"{first}\n\n{_ORDER_OF_AXES}{gap}{rest}"
        cls.__doc__ = own

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "fans", as_fans(self.fans))

    def _config_value(self, name: str) -> Any:
        value = getattr(self, name)
        if isinstance(value, FanRule):
            fields = ((field.name, field.default) for field in dataclasses.fields(value))
            chosen = {name: getattr(value, name) for name, usual in fields if getattr(value, name) != usual}
            return {name: list(x) if isinstance(x, tuple) else x for name, x in chosen.items()}
        return list(value) if isinstance(value, Fans) else value

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        """The variance of every element."""
        raise NotImplementedError

    def _law(self, shape: tuple[int, ...]) -> Law:
        fan_in, fan_out = shape if self.fans is None and len(shape) == 2 else compute_fans(shape, self.fans)
        # An empty tensor may have fans of 0, and any variance.
        return law_of_variance(self._variance_of(fan_in or 1, fan_out or 1), self._distribution)


@registered()
@dataclass(frozen=True, repr=False)
class VarianceScaling(FanScaled):
    """Mean 0 and variance ``scale / fan``: the general form of Glorot, He and LeCun.

    Parameters
    ----------
    scale : float, in (0, inf), default 1.0
        Factor on the variance.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        ``fan_avg`` is the arithmetic and ``fan_geo_avg`` the geometric mean of the fans.
    distribution : {"truncated_normal", "normal", "uniform"}, default "truncated_normal"
        ``normal`` is not truncated. ``truncated_normal`` is truncated at two standard deviations of a normal that is
        wider, so that the variance after truncation is ``scale / fan``.
    fans : FanRule or (fan_in, fan_out), optional
        Which axes are inputs and outputs, or the fans themselves (for a bias, those of its weights). By default a
        shape is ``(fan_in, fan_out)``, or ``(*receptive field, in, out)`` for more than two axes.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape does not tell the fans.

    Examples
    --------
    >>> VarianceScaling(2.0, "fan_avg", "uniform").variance((300, 100))
    0.01
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "scale")
        choice(self, "mode", FAN_MODES)
        choice(self, "distribution", _DISTRIBUTIONS)

    @property
    def _distribution(self) -> str:  # type: ignore[override]
        return self.distribution

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return self.scale / FAN_MODES[self.mode](fan_in, fan_out)


@dataclass(frozen=True, repr=False)
class _Glorot(FanScaled):
    """Variance 2 gain^2 / (fan_in + fan_out).

    Parameters
    ----------
    gain : float, default 1.0
        Factor on the standard deviation: 0, or of magnitude 1e-150 to 1e150.
    fans
        As in `VarianceScaling`.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape does not tell the fans.
    """

    # Keyword only: the first argument of Keras' classes of these names is the seed.
    gain: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        squarable(self, "gain")

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return self.gain**2 * 2 / (fan_in + fan_out)


@registered("xavier_normal", "XavierNormal")
@dataclass(frozen=True, repr=False)
class GlorotNormal(_Glorot, distribution="normal"):
    """N(0, 2 gain^2 / (fan_in + fan_out)): Glorot & Bengio (2010), "normalized initialization", also called Xavier."""


@registered("xavier_uniform", "XavierUniform")
@dataclass(frozen=True, repr=False)
class GlorotUniform(_Glorot, distribution="uniform"):
    """U(-r, r) with r = gain sqrt(6 / (fan_in + fan_out)): Glorot & Bengio (2010), also called Xavier."""


@dataclass(frozen=True, repr=False)
class _He(FanScaled):
    """Variance 2 / ((1 + a^2) fan).

    Parameters
    ----------
    negative_slope : float, default 0.0
        a, the negative slope of the leaky ReLU that follows, of magnitude 1e100 at most; 0 is ReLU.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        ``fan_in`` keeps the variance of the pre-activations, ``fan_out`` that of the gradients.
    fans
        As in `VarianceScaling`.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range. When called: a ValueError if the shape does not tell the fans.
    """

    negative_slope: float = dataclasses.field(default=0.0, kw_only=True)  # as `gain` above
    mode: str = dataclasses.field(default="fan_in", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "negative_slope")
        if abs(self.negative_slope) > 1e100:
            raise ValueError(f"negative_slope: expected a number of at most 1e100, got {self.negative_slope}")
        choice(self, "mode", FAN_MODES)

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return 2 / (1 + self.negative_slope**2) / FAN_MODES[self.mode](fan_in, fan_out)


@registered("kaiming_normal", "KaimingNormal")
@dataclass(frozen=True, repr=False)
class HeNormal(_He, distribution="normal"):
    """N(0, 2 / ((1 + a^2) fan_in)): He, Zhang, Ren & Sun (2015), also called Kaiming; a = `negative_slope`."""


@registered("kaiming_uniform", "KaimingUniform")
@dataclass(frozen=True, repr=False)
class HeUniform(_He, distribution="uniform"):
    """U(-r, r) with r = sqrt(6 / ((1 + a^2) fan_in)): He, Zhang, Ren & Sun (2015), also called Kaiming."""


class _OneOverFanIn(FanScaled):
    __doc__ = FanScaled.__doc__

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return 1 / fan_in


@registered("LecunNormal")
@dataclass(frozen=True, repr=False)
class LeCunNormal(_OneOverFanIn, distribution="normal"):
    """N(0, 1 / fan_in): LeCun, Bottou, Orr & Müller, "Efficient BackProp" (1998)."""


@registered("LecunUniform")
@dataclass(frozen=True, repr=False)
class LeCunUniform(_OneOverFanIn, distribution="uniform"):
    """U(-r, r) with r = sqrt(3 / fan_in): LeCun, Bottou, Orr & Müller, "Efficient BackProp" (1998)."""


@registered()
@dataclass(frozen=True, repr=False)
class SeluNormal(_OneOverFanIn, distribution="normal"):
    """N(0, 1 / fan_in), the law that SELU's constants assume: Klambauer et al., "Self-normalizing neural networks" (2017).

    With lambda = 1.05070098735548 and alpha = 1.67326324235438, activations keep mean 0 and variance 1.
    """


@registered()
@dataclass(frozen=True, repr=False)
class TorchLinear(FanScaled, distribution="uniform"):
    """U(-r, r) with r = 1 / sqrt(fan_in), variance 1 / (3 fan_in): what PyTorch's Linear and Conv layers draw by default.

    PyTorch writes it as Kaiming's uniform with a = sqrt(5). In a ReLU network it multiplies the signal by 0.408 in each layer.
    The bias of such a layer has the same bounds: give it the weights' fans, ``fans=(fan_in, fan_out)``.
    """

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return 1 / (3 * fan_in)


XavierNormal, XavierUniform = GlorotNormal, GlorotUniform
KaimingNormal, KaimingUniform = HeNormal, HeUniform
