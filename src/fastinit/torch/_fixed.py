"""The functions of torch.nn.init that draw nothing: PyTorch's own fills, at the speed of memory."""

from __future__ import annotations

import torch

from ._memory import in_place

__all__ = ["constant_", "dirac_", "eye_", "ones_", "zeros_"]


@in_place
def constant_(tensor: torch.Tensor, val: float) -> torch.Tensor:
    """Fill with `val`, in place. Returns `tensor`; raises ValueError on the meta device."""
    with torch.no_grad():
        return tensor.fill_(val)


@in_place
def ones_(tensor: torch.Tensor) -> torch.Tensor:
    """Fill with 1, in place. Returns `tensor`; raises ValueError on the meta device."""
    with torch.no_grad():
        return tensor.fill_(1.0)


@in_place
def zeros_(tensor: torch.Tensor) -> torch.Tensor:
    """Fill with 0, in place. Returns `tensor`; raises ValueError on the meta device."""
    with torch.no_grad():
        return tensor.zero_()


@in_place
def eye_(tensor: torch.Tensor) -> torch.Tensor:
    """Fill a matrix with 1 on the main diagonal and 0 elsewhere, in place.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If the tensor has not two dimensions, or is on the meta device.
    """
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    with torch.no_grad():
        tensor.zero_().diagonal().fill_(1)
    return tensor


@in_place
def dirac_(tensor: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """Fill a kernel so that the convolution hands on as many channels as it can, in place.

    Parameters
    ----------
    tensor : torch.Tensor
        Of shape (out, in / groups, *receptive field), one to three axes of the field.
    groups : int, default 1
        Each group of output channels hands on its own input channels.

    Returns
    -------
    torch.Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If the tensor has another number of dimensions, `groups` does not divide the first, or it is on the meta device.
    """
    if tensor.dim() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    with torch.no_grad():
        tensor.zero_()
        if tensor.numel():
            centre = tensor
            for size in reversed(tensor.shape[2:]):
                centre = centre.select(-1, size // 2)
            for part in centre.chunk(groups):
                part.diagonal().fill_(1)
    return tensor
