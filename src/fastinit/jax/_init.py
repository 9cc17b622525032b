"""The factories of fastinit.jax."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.nn import initializers as theirs

from .._common.arithmetic import ieee
from .._common.checks import unmasked
from .._stream.keys import Key
from ..initializers.variance_scaling import FAN_MODES, law_of_variance
from ._arguments import Shape, floating, is_traced, sizes_of
from ._arrays import Make, array
from ._laws import Axes, fans_of, matrix, of_complex_law, of_law


@functools.wraps(theirs.constant)
def constant(*args: Any, **options: Any) -> Any:
    for value in (*args[:1], *([options["value"]] if "value" in options else [])):
        unmasked("value", value)
    return ieee(theirs.constant(*args, **options))  # under flush-to-zero JAX would make a subnormal number 0


# ---- independent elements ---------------------------------------------------------------------


def _scaled(
    of_scale: Callable[..., Make],
    scale: Any,
    key: Any,
    shape: Any,
    dtype: np.dtype[Any],
    out_sharding: Any,
    operands: tuple[Any, ...] = (),
    *,
    pieces: bool = True,
) -> Any:
    """The array for a scale. If the scale is traced, complex or an array, it multiplies the array of scale 1."""
    pieces = pieces and dtype.kind != "c"
    sizes = sizes_of(shape)
    if not is_traced(scale) and np.ndim(scale) == 0 and not (dtype.kind == "c" and np.iscomplexobj(scale)):
        return array(functools.partial(of_scale, float(scale)), key, sizes, dtype, out_sharding, operands, pieces=pieces)
    working = np.dtype(np.float32) if dtype.itemsize < 4 else dtype
    unit = array(functools.partial(of_scale, 1.0), key, sizes, working, out_sharding, operands, pieces=pieces)
    return (unit * jnp.asarray(scale, working)).astype(dtype)


def uniform(scale: Any = 1e-2, dtype: Any = None) -> Any:
    """Uniform in the half-open interval [0, scale), which is not symmetric about 0.

    Parameters
    ----------
    scale : float or array, default 0.01
        A negative one gives the interval [scale, 0). An array multiplies, as in JAX.
    dtype : dtype, optional
        The default dtype of the returned function: float32, float64, float16 or bfloat16; JAX's default float type if not given.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``.
    """

    @ieee
    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = floating(dtype, "uniform")
        return _scaled(lambda s: of_law("uniform", (min(s, 0.0), max(s, 0.0))), scale, key, shape, name, out_sharding)

    return init


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Any:
    """Normal of mean 0, not truncated.

    Parameters
    ----------
    stddev : float or array, default 0.01
        At least 0. An array multiplies, as in JAX.
    dtype : dtype, optional
        As for `uniform`, or complex64 or complex128, with E |z|^2 = stddev^2.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``.
    """

    @ieee
    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = floating(dtype, "normal", or_complex=True)

        def of_std(std: float) -> Make:
            return of_complex_law(std, "normal") if name.kind == "c" else of_law("normal", (0.0, std))

        return _scaled(of_std, stddev, key, shape, name, out_sharding)

    return init


def truncated_normal(stddev: Any = 1e-2, dtype: Any = None, lower: Any = -2.0, upper: Any = 2.0) -> Any:
    """Normal of mean 0 truncated to [lower * stddev, upper * stddev]; correct far in the tails, too.

    Parameters
    ----------
    stddev : float or array, default 0.01
        Before truncation: with the default bounds the standard deviation of the values is 0.8796 stddev.
    dtype : dtype, optional
        As for `uniform`.
    lower, upper : float or scalar array, defaults -2 and 2
        In standard deviations, lower < upper. Traced ones are passed to the host when the program runs, and have no derivatives.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``.
    """

    @ieee
    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = floating(dtype, "truncated_normal")
        if np.ndim(lower) or np.ndim(upper):
            raise TypeError(f"lower, upper: expected scalars, got shapes {np.shape(lower)} and {np.shape(upper)}")

        def of_std(std: float, low: float, high: float) -> Make:
            return of_law("truncated_normal", (0.0, std, low, high))

        return _scaled(of_std, stddev, key, shape, name, out_sharding, (lower, upper))

    return init


# ---- variance scaling -------------------------------------------------------------------------


def variance_scaling(
    scale: Any,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Any:
    """Mean 0 and variance ``scale / fan``.

    Parameters
    ----------
    scale : float or array
        At least 0. An array multiplies, as in JAX.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        The fan: of the inputs, of the outputs, or their arithmetic or geometric mean.
    distribution : {"truncated_normal", "normal", "uniform"}
        "normal" is not truncated. Complex numbers are uniform in a disk, or truncated by their modulus.
    in_axis, out_axis, batch_axis : int or sequence of int
        Axes of the inputs, of the outputs, and of stacked kernels; all others are the receptive field.
    dtype : dtype, optional
        As for `uniform`.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``.

    Raises
    ------
    ValueError
        By the returned function, if mode or distribution is unknown, or the shape has too few axes.

    Examples
    --------
    >>> init = variance_scaling(2.0, "fan_in", "normal")
    >>> init(jax.random.key(0), (64, 32)).shape
    (64, 32)
    """

    @ieee
    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = floating(dtype, "variance_scaling", or_complex=True)
        sizes = sizes_of(shape)
        fans = fans_of(sizes, in_axis, out_axis, batch_axis)
        if mode not in FAN_MODES:
            raise ValueError(f"invalid mode for variance scaling initializer: {mode}")
        if distribution not in ("truncated_normal", "normal", "uniform"):
            raise ValueError(f"invalid distribution for variance scaling initializer: {distribution}")
        is_number = not is_traced(scale) and np.ndim(scale) == 0
        if is_number and not scale >= 0:
            raise ValueError(f"scale: expected a number >= 0, got {scale}")
        denominator = FAN_MODES[mode](*fans)

        # An array is multiplied by the square root of the variance, so that is the scale here.
        def of_std(std: float) -> Make:
            if name.kind == "c":
                return of_complex_law(std, distribution)
            return of_law(*law_of_variance(std * std, distribution)) if std else of_law("normal", (0.0, 0.0))

        std = math.sqrt(scale / denominator) if is_number else jnp.sqrt(jnp.asarray(scale) / denominator)
        return _scaled(of_std, std, key, sizes, name, out_sharding)

    return init


def _named(name: str, scale: float, mode: str, distribution: str, law: str) -> Any:
    def factory(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Any:
        return variance_scaling(
            scale, mode, distribution, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, dtype=dtype
        )

    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = f"""{law}.

    Parameters
    ----------
    in_axis, out_axis, batch_axis, dtype
        As for `variance_scaling`.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``.
    """
    return factory


glorot_uniform = _named(
    "glorot_uniform", 1.0, "fan_avg", "uniform", "Uniform of variance 2 / (fan_in + fan_out): Glorot & Bengio (2010)"
)
glorot_normal = _named(
    "glorot_normal", 1.0, "fan_avg", "truncated_normal",
    "Truncated normal of variance 2 / (fan_in + fan_out): Glorot & Bengio (2010)",
)  # fmt: skip
lecun_uniform = _named(
    "lecun_uniform", 1.0, "fan_in", "uniform", "Uniform of variance 1 / fan_in: LeCun, Bottou, Orr & Müller (1998)"
)
lecun_normal = _named(
    "lecun_normal", 1.0, "fan_in", "truncated_normal",
    "Truncated normal of variance 1 / fan_in: LeCun, Bottou, Orr & Müller (1998)",
)  # fmt: skip
he_uniform = _named(
    "he_uniform", 2.0, "fan_in", "uniform", "Uniform of variance 2 / fan_in: He, Zhang, Ren & Sun (2015)"
)
he_normal = _named(
    "he_normal", 2.0, "fan_in", "truncated_normal",
    "Truncated normal of variance 2 / fan_in: He, Zhang, Ren & Sun (2015)",
)  # fmt: skip
xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal


# ---- matrices ---------------------------------------------------------------------------------


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Any:
    """A random matrix with orthonormal rows or columns, exactly Haar distributed, times `scale`; unitary in complex dtypes.

    Parameters
    ----------
    scale : float or array, default 1
        Factor on the matrix. An array multiplies, as in JAX.
    column_axis : int, default -1
        Axis of the columns; all other axes together are the rows.
    dtype : dtype, optional
        As for `uniform`, or complex64 or complex128: the matrix is then unitary.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``; the shape has at least two axes.
    """

    def of_scale(scale: float) -> Make:
        return functools.partial(make, scale)

    def make(scale: float, key: Key, shape: Shape, dtype: str, index: Any) -> Any:
        whole = matrix(key, shape, column_axis, scale, dtype)
        return np.ascontiguousarray(whole if index is None else whole[index])

    @ieee
    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = floating(dtype, "orthogonal", or_complex=True)
        sizes = sizes_of(shape)
        if len(sizes) < 2:
            raise ValueError("orthogonal initializer requires at least a 2D shape")
        return _scaled(of_scale, scale, key, sizes, name, out_sharding, pieces=False)

    return init


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Any:
    """A convolution kernel with an orthogonal matrix at its centre and zeros elsewhere: Xiao et al. (2018).

    Parameters
    ----------
    scale, column_axis, dtype
        As for `orthogonal`.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``; the shape is (*receptive field, in, out) with three to
        five axes and in <= out.
    """

    def of_scale(scale: float) -> Make:
        return functools.partial(make, scale)

    def make(scale: float, key: Key, shape: Shape, dtype: str, index: Any) -> Any:
        whole = np.zeros(shape, dtype)
        made = matrix(key, (0, 0) if 0 in shape else shape[-2:], column_axis, scale, dtype)
        if made.size:
            whole[tuple((size - 1) // 2 for size in shape[:-2])] = made
        return whole if index is None else np.ascontiguousarray(whole[index])

    @ieee
    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = floating(dtype, "delta_orthogonal", or_complex=True)
        sizes = sizes_of(shape)
        if len(sizes) not in (3, 4, 5):
            raise ValueError("Delta orthogonal initializer requires a 3D, 4D or 5D shape.")
        if sizes[-1] < sizes[-2]:
            raise ValueError("`fan_in` must be less or equal than `fan_out`. ")
        return _scaled(of_scale, scale, key, sizes, name, out_sharding, pieces=False)

    return init
