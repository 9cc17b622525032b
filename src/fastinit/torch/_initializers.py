"""Filling a PyTorch tensor with any initializer; its axes are ``(out, in, *receptive field)``."""

from __future__ import annotations

from typing import Any

import torch

from .._common.dtypes import check_shape, resolve
from .._stream.keys import Key
from ..initializers import Initializer
from ..initializers.deterministic import Fixed
from ._memory import is_plain, names_of, refuse_unwritable, write
from ._traced import is_wrapped

__all__ = ["fill_with"]


def _target(shape: Any, dtype: Any, out: Any, names: dict[torch.dtype, str]) -> torch.Tensor:
    """The tensor to fill, which is `shape` or `out`, checked against the other arguments."""
    if isinstance(shape, torch.Tensor):
        if out is not None:
            raise TypeError("out: expected None beside a tensor in the place of the shape, got both")
        if dtype == "float32":  # the default value of dtype means the dtype of the tensor
            return shape
    elif tuple(out.shape) != (sizes := check_shape(shape)):
        raise ValueError(f"out: expected shape {sizes}, got {tuple(out.shape)}")
    tensor: torch.Tensor = out if out is not None else shape
    wanted = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else resolve(dtype)
    if tensor.dtype in names and names[tensor.dtype] != wanted:
        raise ValueError(f"dtype: expected {names[tensor.dtype]}, that of the tensor, got {wanted}")
    return tensor


def fill_with(initializer: Initializer, shape: Any, dtype: Any, key: Key | None, out: Any) -> torch.Tensor:
    """Fill the tensor `shape` or `out`, and return it. A DTensor gets its part of the whole tensor.

    Errors are those of the functions of `fastinit.torch` and of the initializer, and are raised before anything is written.
    """
    names = names_of(complex_too=initializer._complex, float8_too=True)
    what = type(initializer).__name__
    tensor = _target(shape, dtype, out, names)
    refuse_unwritable(tensor, what)
    if is_wrapped(tensor):
        kind = "one under a transform of torch.func" if is_plain(tensor) else f"a {type(tensor).__name__}"
        raise NotImplementedError(
            f"{what}: expected a tensor with memory of its own, got {kind}; the functions of fastinit.torch take such tensors"
        )
    drawn = initializer._outputs_first()
    if key is None and (initializer.seed is not None or isinstance(initializer, Fixed)):
        key = drawn._key(None)

    def make(sizes: tuple[int, ...], dtype: str, key: Key, index: Any, array: Any) -> None:
        if index is None:
            drawn(sizes, dtype, key=key, out=array)
        else:
            drawn.shard(sizes, index, dtype=dtype, key=key, out=array)

    return write(tensor, make, None, key, what, names=names)
