"""The JAX dialect: ``from fastinit import jax as initializers`` stands where ``from jax.nn import initializers`` stood.

The factories take the arguments of jax.nn.initializers and return functions of (key, shape, dtype, out_sharding), which Flax and
Equinox take as they take JAX's own. The 64 bits of a JAX key are the seed, so ``jax.random.key(7)`` names the values of
``fastinit.Key(7)``. Outside of a trace the array is made on the host and handed over without a copy on the CPU; inside of
one (jit, vmap, scan, eval_shape) by a host callback. With `out_sharding` each shard is made alone.
docs/dialects.md lists where the two differ.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from .frameworks import import_failure

try:
    import jax as _jax
except ImportError as error:
    raise import_failure(__name__, "JAX", "jax", error) from error

import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer, constant, ones, zeros

from . import _core
from .dtypes import check_shape
from .elementary import cosine_of_turns, log, sine_of_turns
from .initializers import Orthogonal as _Haar
from .initializers.scaling import law_of_variance
from .keys import Key
from .sampling import draw, fill_piece
from .threads import get_num_threads

__all__ = [
    "Initializer", "constant", "delta_orthogonal", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform",
    "kaiming_normal", "kaiming_uniform", "lecun_normal", "lecun_uniform", "normal", "ones", "orthogonal",
    "truncated_normal", "uniform", "variance_scaling", "xavier_normal", "xavier_uniform", "zeros",
]  # fmt: skip

Axes = int | Sequence[int]
Shape = tuple[int, ...]
# A complex normal of E |z|^2 = 1 has |z| <= 2 with probability 1 - e^-4, and there E |z|^2 = (1 - 5 e^-4) / (1 - e^-4).
_MASS_WITHIN_2 = 0.9816843611112658
_COMPLEX_STD_WITHIN_2 = 0.9619618280082135
# make(key, shape, dtype, index): the array of `shape`, or its piece at `index`.
Make = Callable[[Key, Shape, str, Any], Any]


# ---- keys, dtypes, arrays ---------------------------------------------------------------------


def _words(key: Any) -> Any:
    """The uint32 words of one JAX key, typed or raw: 2, or 4 for the generators that have as many. A tracer inside of a trace."""
    if isinstance(key, _jax.Array) and _jax.dtypes.issubdtype(key.dtype, _jax.dtypes.prng_key):
        if key.shape != ():
            raise ValueError(
                f"key: expected a single key, got a key array of shape {key.shape}; use jax.vmap for batches"
            )
        return _jax.random.key_data(key)
    if not hasattr(key, "dtype") or key.dtype != np.uint32 or key.shape not in ((2,), (4,)):
        got = f"{key.dtype}{list(key.shape)}" if hasattr(key, "dtype") else type(key).__name__
        raise TypeError(f"key: expected a JAX key, got {got}")
    return key


def _key(words: Any) -> Key:
    high, low, *stream = (int(word) for word in words)
    return Key(high << 32 | low, stream[0] << 32 | stream[1] if stream else 0)


def _canonical(dtype: Any) -> np.dtype[Any]:
    """The dtype that JAX would make of it, with JAX's warning where that is a narrower one."""
    if dtype is None:
        return np.dtype(_jax.dtypes.canonicalize_dtype(float))
    wanted = np.dtype(dtype)
    found = np.dtype(_jax.dtypes.canonicalize_dtype(wanted))
    return found if found == wanted else np.dtype(jnp.zeros(0, wanted).dtype)


def _floating(dtype: Any, what: str, *, or_complex: bool = False) -> np.dtype[Any]:
    found = _canonical(dtype)
    if not jnp.issubdtype(found, jnp.inexact if or_complex else jnp.floating):
        kinds = "float or complex" if or_complex else "float"
        raise ValueError(f"dtype argument to `{what}` must be a {kinds} dtype, got {found}")
    return found


def _sharding(out_sharding: Any) -> Any:
    """A sharding of concrete devices; a PartitionSpec is of the mesh that jax.set_mesh has set."""
    if isinstance(out_sharding, _jax.sharding.PartitionSpec):
        return _jax.sharding.NamedSharding(_jax.sharding.get_mesh(), out_sharding)
    if isinstance(getattr(out_sharding, "mesh", None), _jax.sharding.AbstractMesh):
        return _jax.sharding.NamedSharding(_jax.sharding.get_mesh(), out_sharding.spec)
    return out_sharding


def _shape(shape: Any) -> Shape:
    """A shape as JAX takes it: any sequence of ints, or one int."""
    return check_shape(tuple(shape) if hasattr(shape, "__iter__") else shape)


def _batch(of_operands: Callable[..., Make], shape: Shape, dtype: np.dtype[Any], words: Any, *operands: Any) -> Any:
    """What the host does for a trace: one array for each key of a batch, with the numbers that belong to it."""
    words, numbers = np.asarray(words), [np.asarray(operand) for operand in operands]
    if words.ndim == 1:
        return of_operands(*map(float, numbers))(_key(words), shape, dtype.name, None)
    out = np.empty(words.shape[:-1] + shape, dtype)
    for i in np.ndindex(words.shape[:-1]):
        out[i] = of_operands(*(float(number[i]) for number in numbers))(_key(words[i]), shape, dtype.name, None)
    return out


def _laid_out(array: Any, out_sharding: Any) -> Any:
    """An array of a callback in a sharding; in none, on all devices of the mesh that is set.

    JAX gives the result of a callback to one device, which a program of a mesh cannot return. A mesh of explicit axes
    takes only reshard, one of automatic axes only constraints.
    """
    mesh = getattr(out_sharding, "mesh", None)
    if mesh is None:
        mesh = _jax.sharding.get_abstract_mesh()
    kinds = set(mesh.axis_types)
    if out_sharding is None:
        if mesh.empty or _jax.sharding.AxisType.Manual in kinds:
            return array
        out_sharding = _jax.sharding.PartitionSpec()
    if kinds == {_jax.sharding.AxisType.Explicit}:
        return _jax.sharding.reshard(array, out_sharding)
    return _jax.lax.with_sharding_constraint(array, out_sharding)


def _array(
    of_operands: Callable[..., Make],
    key: Any,
    shape: Shape,
    dtype: np.dtype[Any],
    out_sharding: Any,
    operands: tuple[Any, ...] = (),
) -> Any:
    """The array of a key, made now or when the trace runs. `operands` are numbers of its law, which may be traced."""
    words = _words(key)
    if not _is_traced(*operands):
        make = of_operands(*map(float, operands))
        of_operands, operands = (lambda: make), ()
    if _is_traced(words, *operands):
        host = functools.partial(_batch, of_operands, shape, dtype)

        def traced(*values: Any) -> Any:
            result = _jax.ShapeDtypeStruct(shape, dtype)
            return _laid_out(_jax.pure_callback(host, result, *values, vmap_method="broadcast_all"), out_sharding)

        if not _jax.sharding.get_abstract_mesh().empty:
            traced = _jax.jit(traced)  # vmap alone would run the callback by itself, and there it cannot be laid out
        return traced(words, *operands)
    ours = _key(np.asarray(words))
    if out_sharding is None:
        return _jax.device_put(make(ours, shape, dtype.name, None), may_alias=True)
    return _jax.make_array_from_callback(
        shape, _sharding(out_sharding), lambda index: make(ours, shape, dtype.name, index)
    )


def _is_traced(*values: Any) -> bool:
    return any(isinstance(value, _jax.core.Tracer) for value in values)


# ---- independent elements ---------------------------------------------------------------------


def _of_law(law: str, parameters: tuple[float, ...]) -> Make:
    """The elements of a law of `fastinit.sampling`."""
    if law == "uniform" and parameters[0] == parameters[1]:
        law, parameters = "normal", (parameters[0], 0.0)

    def make(key: Key, shape: Shape, dtype: str, index: Any) -> Any:
        if index is None:
            return draw(law, parameters, shape, key, dtype, None)
        return fill_piece(law, parameters, shape, index, key, dtype, None)

    return make


def _parts(std: float, key: Key, shape: Shape, dtype: str) -> Any:
    """Complex normal numbers with E |z|^2 = std^2: independent parts, of planes 0 and 2 of the stream."""
    out = np.empty(shape, dtype)
    part = np.empty(shape, out.real.dtype)
    law, code = _core.LAWS.index("normal"), _core.DTYPES.index(part.dtype.name)
    for plane, target in ((0, out.real), (2, out.imag)):
        _core.fill(part, law, code, (0.0, std / math.sqrt(2)), key.seed, key.stream, 0, get_num_threads(), plane)
        target[...] = part
    return out


def _polar(squared_radius: Any, key: Key, shape: Shape, dtype: str) -> Any:
    """Complex numbers of an even angle, of plane 2; their squared radius is a function of a uniform number."""
    radius = np.sqrt(squared_radius(draw("uniform", (0.0, 1.0), shape, key, "float64", None)))
    turns = np.empty(shape, np.uint32)
    _core.fill(
        turns, _core.LAWS.index("words"), _core.DTYPES.index("float32"), (), key.seed, key.stream, plane=2
    )
    out = np.empty(shape, dtype)
    out.real, out.imag = radius * cosine_of_turns(turns, 2**32), radius * sine_of_turns(turns, 2**32)
    return out


def _of_complex_law(std: float, distribution: str) -> Make:
    """Complex numbers with E |z|^2 = std^2: normal, normal truncated to |z| <= 2 of its deviations, or uniform in a disk."""
    if std < 0:
        raise ValueError(f"std: expected a number >= 0, got {std}")

    def make(key: Key, shape: Shape, dtype: str, index: Any) -> Any:
        if distribution == "normal":
            whole = _parts(std, key, shape, dtype)
        elif distribution == "uniform":
            whole = _polar(lambda u: 2 * std**2 * u, key, shape, dtype)
        else:
            variance = (std / _COMPLEX_STD_WITHIN_2) ** 2
            whole = _polar(lambda u: -variance * log(1 - _MASS_WITHIN_2 * u), key, shape, dtype)
        return whole if index is None else np.ascontiguousarray(whole[index])

    return make


def _scaled(
    of_scale: Callable[..., Make],
    scale: Any,
    key: Any,
    shape: Any,
    dtype: np.dtype[Any],
    out_sharding: Any,
    operands: tuple[Any, ...] = (),
) -> Any:
    """The array of the law of a scale. A scale that is traced, complex, or has axes multiplies the array of scale 1."""
    sizes = _shape(shape)
    if not _is_traced(scale) and np.ndim(scale) == 0 and not (dtype.kind == "c" and np.iscomplexobj(scale)):
        return _array(functools.partial(of_scale, float(scale)), key, sizes, dtype, out_sharding, operands)
    working = np.dtype(np.float32) if dtype.itemsize < 4 else dtype
    unit = _array(functools.partial(of_scale, 1.0), key, sizes, working, out_sharding, operands)
    return (unit * jnp.asarray(scale, working)).astype(dtype)


def uniform(scale: Any = 1e-2, dtype: Any = None) -> Any:
    """Uniform in the half-open interval [0, scale): from zero, not symmetric.

    Parameters
    ----------
    scale : float or array, default 0.01
    dtype : dtype, optional
        The default of the function: float32, float64, float16 or bfloat16; JAX's default float type if not given.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``.
    """

    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = _floating(dtype, "uniform")
        return _scaled(lambda s: _of_law("uniform", (min(s, 0.0), max(s, 0.0))), scale, key, shape, name, out_sharding)

    return init


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Any:
    """Normal of mean 0, not truncated.

    Parameters
    ----------
    stddev : float or array, default 0.01
    dtype : dtype, optional
        As for `uniform`, or complex64 or complex128, with E |z|^2 = stddev^2.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``.
    """

    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = _floating(dtype, "normal", or_complex=True)

        def of_std(std: float) -> Make:
            return _of_complex_law(std, "normal") if name.kind == "c" else _of_law("normal", (0.0, std))

        return _scaled(of_std, stddev, key, shape, name, out_sharding)

    return init


def truncated_normal(stddev: Any = 1e-2, dtype: Any = None, lower: Any = -2.0, upper: Any = 2.0) -> Any:
    """Normal of mean 0 truncated to [lower * stddev, upper * stddev]; right in far tails too.

    Parameters
    ----------
    stddev : float or array, default 0.01
        Before truncation: what is drawn has 0.8796 of it for the default bounds.
    dtype : dtype, optional
        As for `uniform`.
    lower, upper : float or scalar array, defaults -2 and 2
        In standard deviations. Traced ones go to the host when the trace runs, and have no derivatives.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``.
    """

    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = _floating(dtype, "truncated_normal")
        if np.ndim(lower) or np.ndim(upper):
            raise TypeError(f"lower, upper: expected scalars, got shapes {np.shape(lower)} and {np.shape(upper)}")

        def of_std(std: float, low: float, high: float) -> Make:
            return _of_law("truncated_normal", (0.0, std, low, high))

        return _scaled(of_std, stddev, key, shape, name, out_sharding, (lower, upper))

    return init


# ---- variance scaling -------------------------------------------------------------------------


def _sizes(shape: Shape, axes: Axes) -> int:
    return math.prod(shape[axis] for axis in ((axes,) if isinstance(axes, int) else axes))


def _fans(shape: Shape, in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> tuple[float, float]:
    """Fans as JAX has them: axes that are neither inputs, outputs nor batch are the receptive field."""
    if isinstance(in_axis, int) and in_axis == -2 and len(shape) <= 1:
        raise ValueError(
            f"Can't compute input and output sizes of a {len(shape)}-dimensional weights tensor with "
            "default in_axis. Must be at least 2D or specify in_axis explicitly."
        )
    inputs, outputs = _sizes(shape, in_axis), _sizes(shape, out_axis)
    batch = _sizes(shape, batch_axis)
    if 0 in shape:
        return 1.0, 1.0  # no elements to care
    field = math.prod(shape) / inputs / outputs / batch
    return inputs * field, outputs * field


_DENOMINATORS: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}


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
        At least 0. An array multiplies, as JAX's does.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
    distribution : {"truncated_normal", "normal", "uniform"}
        "normal" is not truncated. Complex numbers are uniform in a disk, and truncated by their modulus.
    in_axis, out_axis, batch_axis : int or sequence of int
        Axes of inputs, of outputs, and of neither (stacked kernels); all others are the receptive field.
    dtype : dtype, optional
        As for `uniform`.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``.

    Raises
    ------
    ValueError
        When the function is called: if mode or distribution is unknown, or the shape has too few axes.
    """

    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = _floating(dtype, "variance_scaling", or_complex=True)
        sizes = _shape(shape)
        fans = _fans(sizes, in_axis, out_axis, batch_axis)
        if mode not in _DENOMINATORS:
            raise ValueError(f"invalid mode for variance scaling initializer: {mode}")
        if distribution not in ("truncated_normal", "normal", "uniform"):
            raise ValueError(f"invalid distribution for variance scaling initializer: {distribution}")
        is_number = not _is_traced(scale) and np.ndim(scale) == 0
        if is_number and not scale >= 0:
            raise ValueError(f"scale: expected a number >= 0, got {scale}")
        denominator = _DENOMINATORS[mode](*fans)

        def of_root(root: float) -> Make:
            # Of the square root, as that is what multiplies an array.
            if name.kind == "c":
                return _of_complex_law(root, distribution)
            return _of_law(*law_of_variance(root * root, distribution)) if root else _of_law("normal", (0.0, 0.0))

        root = math.sqrt(scale / denominator) if is_number else jnp.sqrt(jnp.asarray(scale) / denominator)
        return _scaled(of_root, root, key, sizes, name, out_sharding)

    return init


def _named(name: str, scale: float, mode: str, distribution: str, law: str) -> Any:
    def factory(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Any:
        return variance_scaling(
            scale, mode, distribution, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, dtype=dtype
        )

    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = f"{law}; parameters and result are those of `variance_scaling`."
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


def _matrix(key: Key, shape: Shape, column_axis: int, scale: float, dtype: str) -> Any:
    """An orthogonal matrix in a shape, its columns along one axis."""
    columns = shape[column_axis]
    moved = (*np.delete(shape, column_axis), columns)
    matrix = _Haar(gain=scale)((math.prod(moved[:-1]), columns), dtype, key=key)
    return np.moveaxis(matrix.reshape(moved), -1, column_axis)


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Any:
    """A random matrix with orthonormal rows or columns, exactly Haar distributed, times `scale`; unitary in complex dtypes.

    Parameters
    ----------
    scale : float or array, default 1
    column_axis : int, default -1
        Axis of the columns; the others together are the rows.
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
        whole = _matrix(key, shape, column_axis, scale, dtype)
        return np.ascontiguousarray(whole if index is None else whole[index])

    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = _floating(dtype, "orthogonal", or_complex=True)
        sizes = _shape(shape)
        if len(sizes) < 2:
            raise ValueError("orthogonal initializer requires at least a 2D shape")
        return _scaled(of_scale, scale, key, sizes, name, out_sharding)

    return init


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Any:
    """A convolution kernel with an orthogonal matrix in its centre and zeros around it: Xiao et al. (2018).

    Parameters
    ----------
    scale, column_axis, dtype
        As for `orthogonal`.

    Returns
    -------
    callable
        ``init(key, shape, dtype=dtype, out_sharding=None)``; the shape is (*receptive field, in, out) of three to five axes
        with in <= out.
    """

    def of_scale(scale: float) -> Make:
        return functools.partial(make, scale)

    def make(scale: float, key: Key, shape: Shape, dtype: str, index: Any) -> Any:
        whole = np.zeros(shape, dtype)
        centre = tuple((size - 1) // 2 for size in shape[:-2])
        if 0 not in shape:
            whole[centre] = _matrix(key, shape[-2:], column_axis, scale, dtype)
        return whole if index is None else np.ascontiguousarray(whole[index])

    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        name = _floating(dtype, "delta_orthogonal", or_complex=True)
        sizes = _shape(shape)
        if len(sizes) not in (3, 4, 5):
            raise ValueError("Delta orthogonal initializer requires a 3D, 4D or 5D shape.")
        if sizes[-1] < sizes[-2]:
            raise ValueError("`fan_in` must be less or equal than `fan_out`. ")
        return _scaled(of_scale, scale, key, sizes, name, out_sharding)

    return init
