"""Variance scaling: mean 0 and a variance that the fans decide. Glorot, He, LeCun and their general form."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from .._stream.sampling import Law
from .base import choice, finite, positive, squarable
from .catalogue import registered
from .fans import FanRule, Fans, as_fans, compute_fans
from .independent import Independent

__all__ = [
    "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "KaimingNormal", "KaimingUniform", "LeCunNormal",
    "LeCunUniform", "SeluNormal", "TorchLinear", "VarianceScaling", "XavierNormal", "XavierUniform",
]  # fmt: skip

# `truncated_moments(-2, 2)[1]`, as a literal: an import should not compute.
_STD_WITHIN_2 = 0.87962566103423978

_MODES: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
_DISTRIBUTIONS = ("uniform", "normal", "truncated_normal")
# What every class of this form says after its first lines: the other way round nothing fails, and the law is another.
_ORIENTATION = """A shape is read as ``(in, out)`` or ``(*field, in, out)``. PyTorch's order, ``(out, in, *field)``, is said by
``fans=FanRule(layout="oi")``; a PyTorch tensor in the place of the shape is read in it without being told."""


def law_of_variance(variance: float, distribution: str) -> Law:
    """The law of mean 0, that variance, and a distribution's form."""
    std = math.sqrt(variance)
    if distribution == "uniform":
        limit = math.sqrt(3 * variance)
        return Law("uniform", (-limit, limit)) if limit else Law("normal", (0.0, 0.0))
    if distribution == "normal":
        return Law("normal", (0.0, std))
    return Law("truncated_normal", (0.0, std / _STD_WITHIN_2, -2.0, 2.0))


@dataclass(frozen=True, repr=False)
class FanScaled(Independent):
    """The general form: mean 0 and a variance that is a function of the fans. Not an initializer itself.

    Parameters
    ----------
    fans : FanRule or (fan_in, fan_out), optional
        Which axes are inputs and outputs, or the fans themselves (a bias has those of its weights). By default
        ``(fan_in, fan_out)``, or ``(*receptive field, in, out)`` for more than two axes.
    """

    fans: FanRule | Fans | None = dataclasses.field(default=None, kw_only=True)

    _distribution: ClassVar[str]

    def __init_subclass__(cls, distribution: str = "", **keywords: Any) -> None:
        """``class Name(Form, distribution=...)`` draws a form's variance from that distribution, with the form's options."""
        super().__init_subclass__(**keywords)
        own, form = inspect.cleandoc(cls.__doc__ or ""), inspect.cleandoc(cls.__mro__[1].__doc__ or "")
        heading = "\n\nParameters\n"
        if distribution:
            cls._distribution = distribution
            # The options are documented once, in the form.
            own += "" if heading in own else heading + form.partition(heading)[2]
        if not cls.__name__.startswith("_"):
            first, gap, rest = own.partition("\n\n")
            own = f"{first}\n\n{_ORIENTATION}{gap}{rest}"
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
        raise NotImplementedError

    def _law(self, shape: tuple[int, ...]) -> Law:
        fan_in, fan_out = shape if self.fans is None and len(shape) == 2 else compute_fans(shape, self.fans)
        # An empty tensor has any variance.
        return law_of_variance(self._variance_of(fan_in or 1, fan_out or 1), self._distribution)


@registered()
@dataclass(frozen=True, repr=False)
class VarianceScaling(FanScaled):
    """Mean 0 and variance ``scale / fan``: the general form of Glorot, He and LeCun.

    Parameters
    ----------
    scale : float, default 1.0
        Greater than 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        ``fan_geo_avg`` is the geometric mean of the fans.
    distribution : {"truncated_normal", "normal", "uniform"}, default "truncated_normal"
        ``normal`` is not truncated. ``truncated_normal`` is cut at two standard deviations, and
        widened first so that the stated variance is the drawn one.
    fans
        As in `VarianceScaling`.
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "scale")
        choice(self, "mode", _MODES)
        choice(self, "distribution", _DISTRIBUTIONS)

    @property
    def _distribution(self) -> str:  # type: ignore[override]
        return self.distribution

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return self.scale / _MODES[self.mode](fan_in, fan_out)


@dataclass(frozen=True, repr=False)
class _Glorot(FanScaled):
    """Variance 2 gain^2 / (fan_in + fan_out).

    Parameters
    ----------
    gain : float, default 1.0
        Factor on the standard deviation.
    fans
        As in `VarianceScaling`.
    """

    gain: float = dataclasses.field(default=1.0, kw_only=True)  # Keras' classes of these names begin with the seed

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
        a, of the leaky ReLU that follows; 0 is ReLU. A slope and no gain.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        ``fan_out`` keeps the variance of the gradients instead.
    fans
        As in `VarianceScaling`.
    """

    negative_slope: float = dataclasses.field(default=0.0, kw_only=True)  # as `gain` above
    mode: str = dataclasses.field(default="fan_in", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "negative_slope")
        if abs(self.negative_slope) > 1e100:
            raise ValueError(f"negative_slope: expected a number of at most 1e100, got {self.negative_slope}")
        choice(self, "mode", _MODES)

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return 2 / (1 + self.negative_slope**2) / _MODES[self.mode](fan_in, fan_out)


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
    """N(0, 1 / fan_in), the law that SELU's constants are made for: Klambauer et al., "Self-normalizing neural networks" (2017).

    With lambda = 1.05070098735548 and alpha = 1.67326324235438 both moments of the activations stay at 0 and 1.
    """


@registered()
@dataclass(frozen=True, repr=False)
class TorchLinear(FanScaled, distribution="uniform"):
    """U(-r, r) with r = 1 / sqrt(fan_in), variance 1 / (3 fan_in): what PyTorch's Linear and Conv layers draw by default.

    Written there as Kaiming's uniform with a = sqrt(5). It shrinks a ReLU network's signal by 0.408 a layer. For the bias of
    such a layer, which has the same bounds, give ``fans=(fan_in, fan_out)`` of the weights.
    """

    def _variance_of(self, fan_in: float, fan_out: float) -> float:
        return 1 / (3 * fan_in)


XavierNormal, XavierUniform = GlorotNormal, GlorotUniform
KaimingNormal, KaimingUniform = HeNormal, HeUniform
