"""The functions of torch.nn.init without random numbers; PyTorch's own fills already run at the speed of memory."""

from __future__ import annotations

import operator

import torch

from ._memory import in_place
from ._shards import shard_of

__all__ = ["constant_", "dirac_", "eye_", "ones_", "zeros_"]


def _memory_of(tensor: torch.Tensor) -> tuple[torch.Tensor, tuple[slice, ...]]:
    """The part of a tensor that this process holds, and its position in the whole tensor."""
    shard = shard_of(tensor)
    if shard is None:
        return tensor, tuple(slice(0, size) for size in tensor.shape)
    torch.autograd.graph.increment_version(tensor)
    return shard


@in_place
def constant_(tensor: torch.Tensor, val: float) -> torch.Tensor:
    """Fill with `val`, in place.

    Parameters
    ----------
    tensor : torch.Tensor
        Of any shape, layout and dtype that PyTorch fills.
    val : float

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If the tensor is on the meta device.
    """
    with torch.no_grad():
        return tensor.fill_(val)


@in_place
def ones_(tensor: torch.Tensor) -> torch.Tensor:
    """Fill with 1, in place.

    Parameters
    ----------
    tensor
        As for `constant_`.

    Returns
    -------
    torch.Tensor
        `tensor` itself; errors are those of `constant_`.
    """
    with torch.no_grad():
        return tensor.fill_(1.0)


@in_place
def zeros_(tensor: torch.Tensor) -> torch.Tensor:
    """Fill with 0, in place.

    Parameters
    ----------
    tensor
        As for `constant_`.

    Returns
    -------
    torch.Tensor
        `tensor` itself; errors are those of `constant_`.
    """
    with torch.no_grad():
        return tensor.zero_()


@in_place
def eye_(tensor: torch.Tensor) -> torch.Tensor:
    """Fill a matrix with 1 on the main diagonal and 0 elsewhere, in place.

    Parameters
    ----------
    tensor : torch.Tensor
        Of shape (rows, columns).

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If the tensor does not have two dimensions, or is on the meta device.
    """
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    with torch.no_grad():
        memory, (rows, columns) = _memory_of(tensor)
        memory.zero_().diagonal(rows.start - columns.start).fill_(1)
    return tensor


@in_place
def dirac_(tensor: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """Fill a convolution kernel so that it copies as many input channels as it can, in place.

    Parameters
    ----------
    tensor : torch.Tensor
        Of shape (out, in / groups, *receptive field), where the field has one to three axes.
    groups : int, default 1
        Each group of output channels copies its own input channels.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If the tensor does not have three to five dimensions or is on the meta device, or if `groups` is negative or does
        not divide the first dimension.
    """
    if tensor.dim() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    if operator.index(groups) < 0:
        raise ValueError(f"groups: expected an int > 0, got {groups}")
    with torch.no_grad():
        memory, (outputs, inputs, *field) = _memory_of(tensor)
        memory.zero_()
        centre = memory
        for size, held in zip(reversed(tensor.shape[2:]), reversed(field), strict=True):
            if not held.start <= size // 2 < held.stop:
                return tensor
            centre = centre.select(-1, size // 2 - held.start)
        group = tensor.shape[0] // groups
        # One diagonal for each group; a shard may hold a part of it.
        for start in range(0, tensor.shape[0], max(1, group)):
            first, last = max(start, outputs.start), min(start + group, outputs.stop)
            if first < last:
                rows = centre[first - outputs.start : last - outputs.start]
                rows.diagonal(first - start - inputs.start).fill_(1)
    return tensor
