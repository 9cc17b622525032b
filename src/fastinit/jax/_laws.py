"""The random numbers that the host draws for JAX: independent elements, complex numbers, matrices; and JAX's fans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from .._common.dtypes import PART, new_array
from .._common.portable_math import cosine_of_turns, log, sine_of_turns
from .._stream.draw import draw, fill_complex, words
from .._stream.indexing import region_of
from .._stream.keys import Key
from ..initializers import Orthogonal
from ._arguments import Shape
from ._arrays import Make

Axes = int | Sequence[int]
# A complex normal of E |z|^2 = 1 has |z| <= 2 with probability 1 - e^-4, and there E |z|^2 = (1 - 5 e^-4) / (1 - e^-4).
_MASS_WITHIN_2 = 0.9816843611112658
_COMPLEX_STD_WITHIN_2 = 0.9619618280082135


def of_law(law: str, parameters: tuple[float, ...]) -> Make:
    """Independent elements of a law of `fastinit._stream.laws`."""
    if law == "uniform" and parameters[0] == parameters[1]:
        law, parameters = "normal", (parameters[0], 0.0)

    def make(key: Key, shape: Shape, dtype: str, index: Any) -> Any:
        return draw(law, parameters, shape, key, dtype, None, ... if index is None else index)

    return make


def _normal(std: float, key: Key, shape: Shape, dtype: str, index: Any) -> Any:
    """Complex normal numbers with E |z|^2 = std^2."""
    region = None if index is None else region_of(shape, index)
    out = new_array(shape if region is None else region.shape, dtype)
    part = (0.0, std / math.sqrt(2))
    fill_complex(out, "normal", (part, part), key, PART[dtype], region=region)
    return out


def _polar(squared_radius: Any, key: Key, shape: Shape, dtype: str, index: Any) -> Any:
    """Complex numbers of a uniform angle; their squared radius is a function of a uniform number."""
    radius = np.sqrt(squared_radius(draw("uniform", (0.0, 1.0), shape, key, "float64")))
    turns = words(shape, key, _core.PLANE_IMAGINARY)
    out = np.empty(shape, dtype)
    out.real, out.imag = radius * cosine_of_turns(turns, 2**32), radius * sine_of_turns(turns, 2**32)
    return out if index is None else np.ascontiguousarray(out[index])


def of_complex_law(std: float, distribution: str) -> Make:
    """Complex numbers with E |z|^2 = std^2: normal, normal truncated to |z| <= 2 of its deviations, or uniform in a disk."""
    if std < 0:
        raise ValueError(f"std: expected a number >= 0, got {std}")

    def make(key: Key, shape: Shape, dtype: str, index: Any) -> Any:
        if distribution == "normal":
            return _normal(std, key, shape, dtype, index)
        if distribution == "uniform":
            return _polar(lambda u: 2 * std**2 * u, key, shape, dtype, index)
        variance = (std / _COMPLEX_STD_WITHIN_2) ** 2
        return _polar(lambda u: -variance * log(1 - _MASS_WITHIN_2 * u), key, shape, dtype, index)

    return make


def matrix(key: Key, shape: Shape, column_axis: int, scale: float, dtype: str) -> Any:
    """An orthogonal matrix in an array of the given shape, with its columns along one axis."""
    columns = shape[column_axis]
    moved = (*np.delete(shape, column_axis), columns)
    made = Orthogonal(gain=scale)((math.prod(moved[:-1]), columns), dtype, key=key)
    return np.moveaxis(made.reshape(moved), -1, column_axis)


def _sizes(shape: Shape, axes: Axes) -> int:
    return math.prod(shape[axis] for axis in ((axes,) if isinstance(axes, int) else axes))


def fans_of(shape: Shape, in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> tuple[float, float]:
    """Fans as JAX defines them: axes that are neither inputs, outputs nor batch are the receptive field."""
    if isinstance(in_axis, int) and in_axis == -2 and len(shape) <= 1:
        raise ValueError(
            f"Can't compute input and output sizes of a {len(shape)}-dimensional weights tensor with "
            "default in_axis. Must be at least 2D or specify in_axis explicitly."
        )
    inputs, outputs = _sizes(shape, in_axis), _sizes(shape, out_axis)
    batch = _sizes(shape, batch_axis)
    if 0 in shape:
        return 1.0, 1.0  # an empty array has no variance
    field = math.prod(shape) / inputs / outputs / batch
    return inputs * field, outputs * field
