"""Initializers: frozen objects that make a weight tensor of a shape.

``HeNormal(seed=0)((512, 256), dtype="float32")``. Shapes are ``(fan_in, fan_out)`` or ``(*receptive field, in, out)``. In these
classes "normal" is never truncated: truncation has its own name.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .dtypes import check_shape, resolve, store
from .fans import compute_fans
from .haar import haar
from .keys import Key, check_word
from .sampling import check_key, check_law, draw, fill_piece, resolve_index

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "Initializer",
    "KaimingNormal", "KaimingUniform", "LeCunNormal", "LeCunUniform", "Ones", "Orthogonal",
    "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "XavierNormal",
    "XavierUniform", "Zeros", "get",
]  # fmt: skip

# The standard deviation of a standard normal truncated to [-2, 2]:
# sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)). A literal, so that weights do not depend on a libm.
_STD_WITHIN_2 = 0.87962566103423978


def _finite(owner: Any, *names: str) -> None:
    """Check that fields are finite real numbers, and make them floats."""
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, (bool, complex)) or not isinstance(value, (int, float, np.number)):
            raise TypeError(f"{name}: expected a real number, got {type(value).__name__} {value!r}")
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value}")
        object.__setattr__(owner, name, float(value))


@dataclass(frozen=True)
class Initializer:
    """What every initializer can do; not one itself.

    Parameters
    ----------
    seed : int, optional
        In [0, 2**64). Fixes the values: every call of the same shape gives the same tensor. Without
        one, every call draws a new seed from the operating system.

    Raises
    ------
    ValueError, TypeError
        At construction, if an option is of the wrong kind or out of range.
    """

    seed: int | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.seed is not None:
            object.__setattr__(self, "seed", check_word(self.seed, "seed"))

    def __repr__(self) -> str:
        # Options that are not at their defaults, so that eval(repr(x)) == x.
        options = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(options)})"

    def _key(self, key: Key | None) -> Key:
        if key is not None:
            return check_key(key)
        return Key.from_entropy() if self.seed is None else Key(self.seed)

    def __call__(
        self, shape: Any, dtype: Any = "float32", *, key: Key | None = None, out: Any = None
    ) -> Any:
        """A tensor of `shape`.

        Parameters
        ----------
        shape : tuple of int
        dtype : str or dtype, default "float32"
            float32, float64, float16 or bfloat16; 16-bit values are the roundings of float32 ones.
        key : Key, optional
            Overrides the seed.
        out : writable C-contiguous buffer, optional
            Filled and returned instead of a new array.

        Raises
        ------
        ValueError, TypeError
            If the shape has no meaning here, or an argument is of the wrong kind; nothing has been
            written then.
        """
        raise TypeError(f"{type(self).__name__}: expected a subclass that draws values")

    def shard(
        self,
        shape: Any,
        index: Any,
        *,
        key: Key | None = None,
        dtype: Any = "float32",
        out: Any = None,
    ) -> Any:
        """Exactly ``self(shape, dtype, key=key)[index]``, and where elements are drawn alone without the rest.

        Parameters
        ----------
        shape : tuple of int
            Of the **whole** tensor: fans come from it.
        index : int, slice, Ellipsis or a tuple of them
            Steps may be negative.
        key, dtype, out
            As in a call; `out` has the shape of the piece.

        Raises
        ------
        IndexError
            If an index is out of range.
        ValueError, TypeError
            As in a call.
        """
        name = resolve(dtype)
        axes = resolve_index(check_shape(shape), index)
        picks = tuple(
            slice(start, None if start + step * count < 0 else start + step * count, step)
            if stays
            else start
            for start, step, count, stays in axes
        )
        whole = np.asarray(self(shape, "float64", key=key))
        return store(np.ascontiguousarray(whole[picks]), name, out)

    def get_config(self) -> dict[str, Any]:
        """The options as a dict of plain values; `from_config` takes it back."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """The initializer of a `get_config`."""
        return cls(**config)

    def variance(self, shape: Any) -> float:
        """Variance of the elements that a call draws; for a fixed tensor, of its elements."""
        return float(np.var(np.asarray(self(shape, "float64"))))

    def bounds(self, shape: Any) -> tuple[float, float]:
        """The closed interval that all elements lie in (infinite for a normal)."""
        values = np.asarray(self(shape, "float64"))
        return float(values.min()), float(values.max())


# ---- fixed values -----------------------------------------------------------------------------


class _Fixed(Initializer):
    def _values(self, shape: tuple[int, ...]) -> NDArray[Any]:
        raise NotImplementedError

    def __call__(
        self, shape: Any, dtype: Any = "float32", *, key: Key | None = None, out: Any = None
    ) -> Any:
        name, sizes = resolve(dtype), check_shape(shape)
        self._key(key)
        return store(self._values(sizes), name, out)


@dataclass(frozen=True, repr=False)
class Constant(_Fixed):
    """One value everywhere.

    Equal weights keep the units of a layer equal for ever (the symmetry that random weights break).

    Parameters
    ----------
    value : float, default 0.0
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _finite(self, "value")

    def _values(self, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.full(shape, self.value)


@dataclass(frozen=True, repr=False)
class Zeros(_Fixed):
    """Zeros: right for biases; weights of zero never move in tanh and ReLU networks."""

    def _values(self, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.zeros(shape)


@dataclass(frozen=True, repr=False)
class Ones(_Fixed):
    """Ones."""

    def _values(self, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.ones(shape)


@dataclass(frozen=True, repr=False)
class Identity(_Fixed):
    """``gain`` on the main diagonal of a matrix, square or not, zero elsewhere.

    Parameters
    ----------
    gain : float, default 1.0

    References
    ----------
    Le, Jaitly & Hinton, "A simple way to initialize recurrent networks of rectified linear units" (2015).
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _finite(self, "gain")

    def _values(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if len(shape) != 2:
            raise ValueError(f"shape: expected two axes for an identity matrix, got {shape}")
        return self.gain * np.eye(*shape)


# ---- independent elements ---------------------------------------------------------------------


class _Drawn(Initializer):
    """Elements drawn independently from one law, which may depend on the shape."""

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        raise NotImplementedError

    def __call__(
        self, shape: Any, dtype: Any = "float32", *, key: Key | None = None, out: Any = None
    ) -> Any:
        sizes = check_shape(shape)
        law, parameters = self._law(sizes)
        return draw(law, parameters, sizes, self._key(key), dtype, out)

    def shard(
        self,
        shape: Any,
        index: Any,
        *,
        key: Key | None = None,
        dtype: Any = "float32",
        out: Any = None,
    ) -> Any:
        sizes = check_shape(shape)
        law, parameters = self._law(sizes)
        return fill_piece(law, parameters, sizes, index, self._key(key), dtype, out)

    shard.__doc__ = Initializer.shard.__doc__

    def variance(self, shape: Any) -> float:
        law, parameters = self._law(check_shape(shape))
        if law == "uniform":
            return (parameters[1] - parameters[0]) ** 2 / 12
        if law == "normal":
            return parameters[1] ** 2
        return parameters[1] ** 2 * _truncated_variance(*parameters[2:])

    def bounds(self, shape: Any) -> tuple[float, float]:
        law, parameters = self._law(check_shape(shape))
        if law == "uniform":
            return parameters[0], parameters[1]
        mean, std, *cut = parameters
        low, high = cut or (-math.inf, math.inf)
        return (mean + std * low, mean + std * high) if std else (mean, mean)


def _truncated_variance(lower: float, upper: float) -> float:
    """Variance of a standard normal truncated to [lower, upper]."""

    def density(z: float) -> float:
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def times(z: float) -> float:
        return z * density(z) if math.isfinite(z) else 0.0

    if lower >= 0:
        mass = (math.erfc(lower / math.sqrt(2)) - math.erfc(upper / math.sqrt(2))) / 2
    else:
        mass = (math.erfc(-upper / math.sqrt(2)) - math.erfc(-lower / math.sqrt(2))) / 2
    mean = (density(lower) - density(upper)) / mass
    return 1 + (times(lower) - times(upper)) / mass - mean * mean


@dataclass(frozen=True, repr=False)
class RandomUniform(_Drawn):
    """Uniform in the half-open interval [low, high), whatever the fans.

    Parameters
    ----------
    low, high : float, defaults -0.05 and 0.05
    """

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        _finite(self, "low", "high")
        check_law("uniform", (self.low, self.high), "float64")

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return "uniform", (self.low, self.high)


@dataclass(frozen=True, repr=False)
class RandomNormal(_Drawn):
    """Normal with a fixed standard deviation, whatever the fans; not truncated.

    Parameters
    ----------
    mean : float, default 0.0
    std : float, default 0.05
    """

    mean: float = 0.0
    std: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        _finite(self, "mean", "std")
        check_law("normal", (self.mean, self.std), "float64")

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return "normal", (self.mean, self.std)


@dataclass(frozen=True, repr=False)
class TruncatedNormal(_Drawn):
    """Normal truncated to [mean + std * lower, mean + std * upper].

    Parameters
    ----------
    mean : float, default 0.0
    std : float, default 0.05
        Before truncation; what is drawn has 0.8796 of it for the default bounds.
    lower, upper : float, defaults -2.0 and 2.0
        In standard deviations.
    """

    mean: float = 0.0
    std: float = 0.05
    lower: float = -2.0
    upper: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _finite(self, "mean", "std")
        _, _, lower, upper = check_law(
            "truncated_normal", (self.mean, self.std, self.lower, self.upper), "float64"
        )
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return "truncated_normal", (self.mean, self.std, self.lower, self.upper)


_MODES: dict[str, Callable[[int, int], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
_DISTRIBUTIONS = ("uniform", "normal", "truncated_normal")


def _scaled_law(
    shape: tuple[int, ...], scale: float, mode: str, distribution: str
) -> tuple[str, tuple[float, ...]]:
    """The law of variance scale / fan; an empty tensor has any."""
    fan_in, fan_out = compute_fans(shape)
    variance = scale / max(1.0, _MODES[mode](fan_in, fan_out))
    if distribution == "uniform":
        limit = math.sqrt(3 * variance)
        return "uniform", (-limit, limit)
    if distribution == "normal":
        return "normal", (0.0, math.sqrt(variance))
    return "truncated_normal", (0.0, math.sqrt(variance) / _STD_WITHIN_2, -2.0, 2.0)


@dataclass(frozen=True, repr=False)
class VarianceScaling(_Drawn):
    """Mean 0 and variance ``scale / fan``: the general form of Glorot, He and LeCun.

    Parameters
    ----------
    scale : float, default 1.0
        Greater than 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
    distribution : {"truncated_normal", "normal", "uniform"}, default "truncated_normal"
        ``normal`` is not truncated. ``truncated_normal`` is cut at two standard deviations, and
        widened first so that the stated variance is the drawn one.
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        _finite(self, "scale")
        if self.scale <= 0:
            raise ValueError(f"scale: expected a number > 0, got {self.scale}")
        if self.mode not in _MODES:
            raise ValueError(f"mode: expected one of {', '.join(_MODES)}, got {self.mode!r}")
        if self.distribution not in _DISTRIBUTIONS:
            raise ValueError(
                f"distribution: expected one of {', '.join(_DISTRIBUTIONS)}, got {self.distribution!r}"
            )

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return _scaled_law(shape, self.scale, self.mode, self.distribution)


class _NamedScaling(_Drawn):
    """A variance scaling with a name: its numbers are class attributes."""

    scale: ClassVar[float]
    mode: ClassVar[str]
    distribution: ClassVar[str]

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        return _scaled_law(shape, self.scale, self.mode, self.distribution)


@dataclass(frozen=True, repr=False)
class GlorotNormal(_NamedScaling):
    """N(0, 2 / (fan_in + fan_out)): Glorot & Bengio (2010), "normalized initialization", also called Xavier."""

    scale, mode, distribution = 1.0, "fan_avg", "normal"


@dataclass(frozen=True, repr=False)
class GlorotUniform(_NamedScaling):
    """U(-r, r) with r = sqrt(6 / (fan_in + fan_out)): Glorot & Bengio (2010), also called Xavier."""

    scale, mode, distribution = 1.0, "fan_avg", "uniform"


@dataclass(frozen=True, repr=False)
class LeCunNormal(_NamedScaling):
    """N(0, 1 / fan_in): LeCun, Bottou, Orr & Müller, "Efficient BackProp" (1998)."""

    scale, mode, distribution = 1.0, "fan_in", "normal"


@dataclass(frozen=True, repr=False)
class LeCunUniform(_NamedScaling):
    """U(-r, r) with r = sqrt(3 / fan_in): LeCun, Bottou, Orr & Müller, "Efficient BackProp" (1998)."""

    scale, mode, distribution = 1.0, "fan_in", "uniform"


@dataclass(frozen=True, repr=False)
class _He(_Drawn):
    negative_slope: float = 0.0

    mode: ClassVar[str] = "fan_in"
    distribution: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        _finite(self, "negative_slope")

    def _law(self, shape: tuple[int, ...]) -> tuple[str, tuple[float, ...]]:
        scale = 2 / (1 + self.negative_slope**2)
        return _scaled_law(shape, scale, self.mode, self.distribution)


@dataclass(frozen=True, repr=False)
class HeNormal(_He):
    """N(0, 2 / ((1 + a^2) fan_in)): He, Zhang, Ren & Sun (2015), also called Kaiming; a = `negative_slope`.

    Parameters
    ----------
    negative_slope : float, default 0.0
        Of the leaky ReLU that follows; 0 is ReLU.
    """

    distribution: ClassVar[str] = "normal"


@dataclass(frozen=True, repr=False)
class HeUniform(_He):
    """U(-r, r) with r = sqrt(6 / ((1 + a^2) fan_in)): He, Zhang, Ren & Sun (2015), also called Kaiming.

    Parameters
    ----------
    negative_slope : float, default 0.0
        a, of the leaky ReLU that follows; 0 is ReLU.
    """

    distribution: ClassVar[str] = "uniform"


XavierNormal, XavierUniform = GlorotNormal, GlorotUniform
KaimingNormal, KaimingUniform = HeNormal, HeUniform


# ---- matrices ---------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """A random matrix with orthonormal columns or rows, exactly Haar distributed, times `gain`.

    A shape of more than two axes is the matrix ``(product of the others, last)``.

    Parameters
    ----------
    gain : float, default 1.0

    References
    ----------
    Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks" (2014); see `fastinit.haar` for the construction.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _finite(self, "gain")

    def __call__(
        self, shape: Any, dtype: Any = "float32", *, key: Key | None = None, out: Any = None
    ) -> Any:
        name, sizes = resolve(dtype), check_shape(shape)
        if len(sizes) < 2:
            raise ValueError(f"shape: expected at least two axes for an orthogonal matrix, got {sizes}")
        rows, columns = math.prod(sizes[:-1]), sizes[-1]
        key = self._key(key)
        matrix = haar(rows, columns, key) if rows and columns else np.zeros((rows, columns))
        return store(self.gain * matrix.reshape(sizes), name, out)

    def variance(self, shape: Any) -> float:
        """gain^2 / max(rows, columns): every element of a Haar matrix has that mean square."""
        sizes = check_shape(shape)
        return self.gain**2 / max(math.prod(sizes[:-1]), sizes[-1])

    def bounds(self, shape: Any) -> tuple[float, float]:
        """[-gain, gain]: columns or rows are unit vectors."""
        return -abs(self.gain), abs(self.gain)


# ---- by name ----------------------------------------------------------------------------------

_BY_NAME: dict[str, type[Initializer]] = {
    "zeros": Zeros, "ones": Ones, "constant": Constant, "identity": Identity,
    "random_uniform": RandomUniform, "uniform": RandomUniform,
    "random_normal": RandomNormal, "normal": RandomNormal,
    "truncated_normal": TruncatedNormal, "variance_scaling": VarianceScaling,
    "glorot_normal": GlorotNormal, "glorot_uniform": GlorotUniform,
    "xavier_normal": GlorotNormal, "xavier_uniform": GlorotUniform,
    "he_normal": HeNormal, "he_uniform": HeUniform,
    "kaiming_normal": HeNormal, "kaiming_uniform": HeUniform,
    "lecun_normal": LeCunNormal, "lecun_uniform": LeCunUniform,
    "orthogonal": Orthogonal,
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class _Given(_Fixed):
    """A copy of one array."""

    array: Any = None

    def _values(self, shape: tuple[int, ...]) -> NDArray[Any]:
        values = np.asarray(self.array, dtype=np.float64)
        if values.shape != shape:
            raise ValueError(f"shape: expected {values.shape}, that of the given array, got {shape}")
        return values


class _Called:
    """A user's function ``f(shape, dtype)`` behind the interface of an initializer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, shape: Any, dtype: Any = "float32", *, key: Any = None, out: Any = None) -> Any:
        values = np.asarray(self.function(check_shape(shape), resolve(dtype)), dtype=np.float64)
        return store(values, resolve(dtype), out)


def get(identifier: Any) -> Any:
    """The initializer that `identifier` names.

    Parameters
    ----------
    identifier : str, dict, class, Initializer, callable or array
        A name ("he_normal", or the class's own name), ``{"class_name": name, "config": options}``, a subclass
        of Initializer (made with its defaults), an initializer (returned as it is), a function ``f(shape, dtype)``, or an
        array (of which copies are made).

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is none of these.

    Examples
    --------
    >>> get("he_normal")
    HeNormal()
    """
    if isinstance(identifier, Initializer):
        return identifier
    if isinstance(identifier, str):
        by_class = {cls.__name__: cls for cls in _BY_NAME.values()}
        found = _BY_NAME.get(identifier) or by_class.get(identifier)
        if found is None:
            raise ValueError(
                f"initializer: expected one of {', '.join(sorted(_BY_NAME))}; got {identifier!r}"
            )
        return found()
    if isinstance(identifier, dict):
        if "class_name" not in identifier:
            raise ValueError(f"initializer: expected a dict with 'class_name', got {identifier!r}")
        return type(get(identifier["class_name"])).from_config(identifier.get("config", {}))
    if inspect.isclass(identifier) and issubclass(identifier, Initializer):
        return identifier()
    if isinstance(identifier, np.ndarray):
        return _Given(array=identifier.copy())
    if callable(identifier):
        return _Called(identifier)
    raise TypeError(
        "initializer: expected a name, dict, class, initializer, function or array, "
        f"got {type(identifier).__name__}"
    )
