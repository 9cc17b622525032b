"""Which boxes of a whole tensor this process holds, and where they lie in its memory. Nothing is sent or received."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Box", "Held", "held", "shard_of", "whole_shape"]

Box = tuple[tuple[int, int], ...]  # for each axis of the whole tensor a half-open interval
_Runs = list[tuple[int, int]]  # of the entries of an axis that are held, in the order of memory
_PLAIN = (torch.Tensor, torch.nn.Parameter)


@dataclass(frozen=True)
class Held:
    """What a process holds of a tensor.

    Attributes
    ----------
    shape : tuple of int
        Of the whole tensor.
    pieces : tuple of (torch.Tensor, Box)
        Views of the local memory, and the box of the whole that each of them is; none if the process holds nothing.
    """

    shape: tuple[int, ...]
    pieces: tuple[tuple[torch.Tensor, Box], ...]


def whole_shape(tensor: torch.Tensor, tensor_parallel: tuple[int, int] | None = None) -> tuple[int, ...]:
    """The shape of the tensor of which this may be a part; `tensor_parallel` as of `held`."""
    if hasattr(tensor, "ds_id"):
        return tuple(tensor.ds_shape)
    if hasattr(tensor, "global_offsets"):
        return tuple(tensor.global_shape)
    axis = _partitioned_axis(tensor)
    if axis is None:
        return tuple(tensor.shape)
    return tuple(n * _rank_and_size(tensor_parallel)[1] if k == axis else n for k, n in enumerate(tensor.shape))


def held(tensor: torch.Tensor, tensor_parallel: tuple[int, int] | None = None) -> Held:
    """What this process holds of a tensor.

    Parameters
    ----------
    tensor : torch.Tensor
        Also a DTensor, a tensor of one of the protocols of torch.distributed.checkpoint, or with the attributes of Megatron.
    tensor_parallel : (rank, size), optional
        The place of this process in the group over which Megatron's parameters are partitioned.

    Returns
    -------
    Held

    Raises
    ------
    NotImplementedError
        If it is a partial sum, or a copy of a part of another DTensor.
    ValueError
        If it holds nothing because DeepSpeed has partitioned it, or Megatron has and `tensor_parallel` is not given.
    """
    shape = whole_shape(tensor, tensor_parallel)
    if hasattr(tensor, "ds_id") and tuple(tensor.shape) != shape:
        raise ValueError(
            f"expected a tensor with memory, got one of shape {tuple(tensor.shape)} that DeepSpeed ZeRO-3 has partitioned, of "
            f"the whole shape {shape}; gather it, with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0)"
        )
    if _is_dtensor(tensor):
        return _of_dtensor(tensor, shape)
    if hasattr(tensor, "global_offsets"):  # the fields of torch.distributed.checkpoint.protocol.CheckpointableTensor
        return Held(shape, tuple(
            (tensor[tuple(slice(first, first + n) for first, n in zip(inside, sizes, strict=True))], _box(place, sizes))
            for place, inside, sizes in zip(tensor.global_offsets, tensor.local_offsets, tensor.local_sizes, strict=True)
        ))  # fmt: skip
    if hasattr(tensor, "__create_chunk_list__"):
        return Held(shape, _of_protocol(tensor))
    axis = _partitioned_axis(tensor)
    if axis is not None:
        rank, size = _rank_and_size(tensor_parallel)
        runs = _every(shape[axis], getattr(tensor, "partition_stride", 1), size, rank)
        return Held(shape, tuple(_split(tensor, shape, {axis: runs})))
    return Held(shape, ((tensor, tuple((0, n) for n in shape)),))


def shard_of(tensor: Any) -> tuple[torch.Tensor, tuple[slice, ...]] | None:
    """The local part of a DTensor and its position in the whole tensor; None for any other tensor."""
    if type(tensor) in _PLAIN or not _is_dtensor(tensor):
        return None
    pieces = held(tensor).pieces
    if len(pieces) > 1:
        raise NotImplementedError(
            f"DTensor: expected placements of which a process holds one block, got {tensor.placements} on {tensor.device_mesh}"
        )
    if not pieces:
        local = _local(tensor)
        return local, tuple(slice(0, n) for n in local.shape)
    return pieces[0][0], tuple(slice(low, high) for low, high in pieces[0][1])


def _is_dtensor(tensor: Any) -> bool:
    if type(tensor) in _PLAIN or not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _local(tensor: Any) -> torch.Tensor:
    with torch.no_grad():  # outside of it, the local tensor would be a node of autograd's graph
        return tensor.to_local()


def _of_dtensor(tensor: Any, shape: tuple[int, ...]) -> Held:
    if any(placement.is_partial() for placement in tensor.placements):
        raise NotImplementedError(f"DTensor: expected sharded or replicated placements, got {tensor.placements}")
    local = _local(tensor)
    if tensor._is_view() and _is_dtensor(tensor._base):
        base = _local(tensor._base)
        if local.numel() and local.untyped_storage().data_ptr() != base.untyped_storage().data_ptr():
            raise NotImplementedError(
                f"DTensor: expected a tensor with memory of its own, got a slice of one of shape {tuple(tensor._base.shape)}, "
                "which is a copy: fill the whole tensor"
            )
    if hasattr(local, "__create_chunk_list__"):
        return Held(shape, _of_protocol(tensor))
    at = tensor.device_mesh.get_coordinate()
    if at is None:  # a process outside of the mesh
        return Held(shape, ())
    runs: dict[int, _Runs] = {}
    for k, placement in enumerate(tensor.placements):
        if placement.is_replicate():
            continue
        axis, size = getattr(placement, "dim", None), tensor.device_mesh.size(k)
        # The shards of _StridedShard are not is_shard(). They are those of tensor parallelism before it is applied.
        factor = getattr(placement, "split_factor", 1)
        if axis is None or not (placement.is_shard() or hasattr(placement, "split_factor")):
            return Held(shape, _of_protocol(tensor))
        before = runs.get(axis, [(0, shape[axis])])
        parts = (_cut(before, *span) for span in _spans(_length(before), factor))
        runs[axis] = _joined(run for part in parts for run in _cut(part, *_spans(_length(part), size)[at[k]]))
    local_shape = tuple(_length(runs[axis]) if axis in runs else n for axis, n in enumerate(shape))
    if local_shape != tuple(local.shape):
        raise NotImplementedError(
            f"DTensor: expected a local tensor of shape {local_shape} for {tensor.placements}, got {tuple(local.shape)}"
        )
    return Held(shape, tuple(_split(local, shape, runs)))


def _of_protocol(tensor: Any) -> tuple[tuple[torch.Tensor, Box], ...]:
    """The chunks that a tensor names to torch.distributed.checkpoint, to be written to."""
    from torch.distributed.checkpoint.metadata import MetadataIndex

    with torch.no_grad():
        return tuple(
            (tensor.__get_tensor_shard__(MetadataIndex("", chunk.offsets, i)), _box(chunk.offsets, chunk.sizes))
            for i, chunk in enumerate(tensor.__create_chunk_list__())
        )


def _box(offsets: Sequence[int], sizes: Sequence[int]) -> Box:
    return tuple((first, first + n) for first, n in zip(offsets, sizes, strict=True))


def _split(local: torch.Tensor, shape: tuple[int, ...], runs: dict[int, _Runs]) -> Iterable[tuple[torch.Tensor, Box]]:
    """The boxes that the runs of some axes make, each with its view of the local tensor."""
    places = []
    for axis, n in enumerate(shape):
        of_axis = runs.get(axis, [(0, n)])
        ends = itertools.accumulate(high - low for low, high in of_axis)
        places.append([((end - (high - low), end), (low, high)) for (low, high), end in zip(of_axis, ends, strict=True)])
    for chosen in itertools.product(*places):
        yield local[tuple(slice(*inside) for inside, _ in chosen)], tuple(box for _, box in chosen)


# ---- runs along an axis ---------------------------------------------------------------------------


def _length(runs: _Runs) -> int:
    return sum(high - low for low, high in runs)


def _spans(n: int, count: int) -> list[tuple[int, int]]:
    """The beginning and end of each of `count` chunks of n entries, as torch.chunk has them; the last may be empty."""
    step = -(-n // count)
    return [(min(i * step, n), min((i + 1) * step, n)) for i in range(count)]


def _cut(runs: _Runs, begin: int, end: int) -> _Runs:
    """Entries begin to end of those in the runs."""
    found, at = [], 0
    for low, high in runs:
        first, last = max(begin - at, 0), min(end - at, high - low)
        if first < last:
            found.append((low + first, low + last))
        at += high - low
    return found


def _joined(runs: Iterable[tuple[int, int]]) -> _Runs:
    """The runs with those that follow one another as one."""
    found: _Runs = []
    for low, high in runs:
        if found and found[-1][1] == low:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found


def _every(n: int, stride: int, size: int, rank: int) -> _Runs:
    """Megatron's part of n entries: of `stride` equal blocks, chunk `rank` of `size`."""
    if n % (stride * size):
        raise ValueError(f"expected {n} entries that {size} processes and partition_stride={stride} divide")
    step = n // (stride * size)
    return _joined(((j * size + rank) * step, (j * size + rank + 1) * step) for j in range(stride))


def _partitioned_axis(tensor: torch.Tensor) -> int | None:
    """The axis along which Megatron has partitioned a parameter."""
    if not getattr(tensor, "tensor_model_parallel", False):
        return None
    axis = getattr(tensor, "partition_dim", -1)
    return axis if axis >= 0 else None


def _rank_and_size(tensor_parallel: tuple[int, int] | None) -> tuple[int, int]:
    if tensor_parallel is None:
        raise ValueError(
            "expected tensor_parallel=(rank, size), since Megatron has partitioned the parameter (tensor_model_parallel)"
        )
    return tensor_parallel
