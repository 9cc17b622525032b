"""Making the array of a key: now, placed as JAX would place it, or by a host callback when a traced program runs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .._common.arithmetic import ieee
from .._stream.keys import Key
from ._arguments import Shape, checks_keys, is_traced, key_of, sharding_of, words_of

__all__ = ["Make", "array"]

# make(key, shape, dtype, index) returns the array of `shape`, or the part of it at `index`.
Make = Callable[[Key, Shape, str, Any], Any]


def array(
    of_operands: Callable[..., Make],
    key: Any,
    shape: Shape,
    dtype: np.dtype[Any],
    out_sharding: Any,
    operands: tuple[Any, ...] = (),
    *,
    pieces: bool = True,
) -> Any:
    """The array of a key, made now or when the traced program runs.

    `operands` are parameters of the distribution, which may be traced; `of_operands` makes a `Make` of their values.
    `pieces` says whether a part of the array costs less than the whole.
    """
    words, sharding = words_of(key), sharding_of(out_sharding, shape)
    if not is_traced(*operands):
        make = of_operands(*map(float, operands))
        of_operands, operands = (lambda: make), ()
    if is_traced(words, *operands):
        if not operands:
            # Make an array without elements, to raise errors of the parameters now and not when the program runs.
            make(Key(0), (0,) * len(shape), dtype.name, None)
        if checks_keys():
            jax.random.bits(key, (0,), "uint32")
        traced = functools.partial(_traced, of_operands, shape, dtype, sharding, pieces)
        if sharding is not None or not jax.sharding.get_abstract_mesh().empty:
            traced = jax.jit(traced)  # under vmap alone the callback would run at once, where a sharding cannot be applied
        return traced(words, *operands)
    placed = _place_of(key, shape)
    if sharding is None and isinstance(placed, NamedSharding):
        sharding = placed
    ours = key_of(np.asarray(words))
    if sharding is None:
        return jax.device_put(make(ours, shape, dtype.name, None), placed, may_alias=True)
    return _in_shards(functools.partial(make, ours, shape, dtype.name), shape, _concrete(sharding), pieces)


# ---- outside of a trace -----------------------------------------------------------------------


def _place_of(key: Any, shape: Shape) -> Any:
    """Where JAX places an array of this key; None for the default device, if neither key nor mesh determine it.

    JAX itself makes an array without elements, which also checks the key, and raises JAX's error if key and mesh have
    different devices. That takes longer than making a small array, so it is left out where the answer is known.
    """
    if not (getattr(key, "committed", False) or checks_keys() or not jax.sharding.get_abstract_mesh().empty):
        return None
    asked = jax.random.bits(key, (0,), "uint32")
    if not asked.committed:
        return None
    place = asked.sharding
    if not isinstance(place, NamedSharding):
        return place
    explicit = AxisType.Explicit in place.mesh.axis_types
    return NamedSharding(place.mesh, PartitionSpec(*(None,) * len(shape) if explicit else ()))


def _concrete(sharding: Any) -> Any:
    """The sharding with concrete devices: an abstract mesh is replaced by the one of jax.set_mesh."""
    if isinstance(getattr(sharding, "mesh", None), jax.sharding.AbstractMesh):
        return NamedSharding(jax.sharding.get_mesh(), sharding.spec)
    return sharding


def _in_shards(make: Callable[[Any], Any], shape: Shape, sharding: Any, pieces: bool) -> Any:
    """The array in shards, each made separately, but only once if several devices hold it."""
    whole = None if pieces else make(None)
    made: dict[Any, Any] = {}

    def piece(index: Any) -> Any:
        place = tuple(entry.indices(size) for entry, size in zip(index, shape, strict=True))
        if place not in made:
            made[place] = make(index) if whole is None else np.ascontiguousarray(whole[index])
        return made[place]

    return jax.make_array_from_callback(shape, sharding, piece)


# ---- inside of a trace ------------------------------------------------------------------------


def _traced(
    of_operands: Callable[..., Make],
    shape: Shape,
    dtype: np.dtype[Any],
    sharding: Any,
    pieces: bool,
    words: Any,
    *operands: Any,
) -> Any:
    """The array by a host callback: whole on one device and then distributed, or in shards, by one callback of each device."""
    callback = functools.partial(_callback, of_operands, shape, dtype)
    mesh = jax.sharding.get_abstract_mesh()
    axes = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    free = {name for name in axes if axes[name] != AxisType.Manual}
    spec = getattr(sharding, "spec", None)
    if len(free) < len(axes):
        # Inside a shard_map over some of the axes JAX refuses a callback that devices along the other axes would share.
        # So the other axes get a shard_map of their own.
        if free:
            made = _by_devices(callback, mesh, shape, spec or PartitionSpec(), free, words, *operands)
        else:
            made = callback(None, None, words, *operands)
        # The select depends on the key, so that JAX treats the array as different on every device, like the key.
        return jax.lax.select(words[0] == words[0], made, made)
    if spec is not None and pieces and PartitionSpec.UNCONSTRAINED not in spec:
        return _by_devices(callback, sharding.mesh, shape, spec, set(), words, *operands)
    if mesh.empty:
        mesh = jax.typeof(words).sharding.mesh  # the mesh of the key, if it has explicit axes
    return _laid_out(callback(None, None, words, *operands), mesh, sharding)


def _by_devices(
    callback: Callable[..., Any], mesh: Any, shape: Shape, spec: Any, axes: set[str], words: Any, *operands: Any
) -> Any:
    """The array in shards: each device calls the host for its own shard."""
    names = [(entry,) if isinstance(entry, str) else entry or () for entry in spec]
    names += [()] * (len(shape) - len(names))
    counts = [math.prod(mesh.shape[name] for name in group) for group in names]
    for size, count, group in zip(shape, counts, names, strict=True):
        if size % count:
            raise ValueError(f"out_sharding: expected an axis that {group} cuts in {count}, got {size} of shape {shape}")
    part = tuple(size // count for size, count in zip(shape, counts, strict=True))

    def shard(words: Any, *operands: Any) -> Any:
        block = [jax.lax.axis_index(group) if group else 0 for group in names]
        return callback(part, jnp.array(block, jnp.int32), words, *operands)

    mapped = jax.shard_map(shard, mesh=mesh, in_specs=PartitionSpec(), out_specs=spec, axis_names=axes)
    return mapped(words, *operands)


def _laid_out(array: Any, mesh: Any, sharding: Any) -> Any:
    """Distribute the array of a callback by a sharding; without one, to all devices of the current mesh.

    JAX places the result of a callback on one device, which a program on a mesh cannot return. A mesh of explicit axes
    accepts only reshard, one of automatic axes only sharding constraints. Without a mesh, a barrier prevents JAX from
    taking that one device as the place of the array.
    """
    if sharding is None:
        if mesh.empty:
            return jax.lax.optimization_barrier(array)
        sharding = NamedSharding(mesh, PartitionSpec())
    if set(getattr(sharding, "mesh", mesh).axis_types) == {AxisType.Explicit}:
        return jax.sharding.reshard(array, sharding)
    return jax.lax.with_sharding_constraint(array, sharding)


def _callback(
    of_operands: Callable[..., Make], shape: Shape, dtype: np.dtype[Any], part: Any, block: Any, words: Any, *operands: Any
) -> Any:
    """Call the host for the array, or for the shard of shape `part` that has number `block[i]` along axis i."""
    host = functools.partial(_made, of_operands, shape, dtype, part)
    values = operands if block is None else (block, *operands)
    result = jax.ShapeDtypeStruct(shape if part is None else part, dtype)
    return jax.pure_callback(host, result, words, *values, vmap_method="broadcast_all")


@ieee  # it runs on a thread of JAX, which may have other floating-point modes
def _made(
    of_operands: Callable[..., Make], shape: Shape, dtype: np.dtype[Any], part: Any, words: Any, *values: Any
) -> Any:
    """The host's part of a callback: one array for each key of a batch, with the operands of that key."""
    words, values = np.asarray(words), tuple(map(np.asarray, values))

    def one(i: Any) -> Any:
        numbers, index = [value[i] for value in values], None
        if part is not None:
            block, *numbers = numbers
            index = tuple(slice(b * size, (b + 1) * size) for b, size in zip(map(int, block), part, strict=True))
        return of_operands(*map(float, numbers))(key_of(words[i]), shape, dtype.name, index)

    if words.ndim == 1:
        return one(())
    out = np.empty(words.shape[:-1] + (shape if part is None else part), dtype)
    for i in np.ndindex(words.shape[:-1]):
        out[i] = one(i)
    return out
