"""Names and shapes of a model's parameters from a file: JSON, headers of safetensors, a configuration of Transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .parameters import Parameter, parameters_of
from .reading import read_json
from .safetensors import open_tensors

__all__ = ["read_shapes"]

_CONFIG = "config.json"


def read_shapes(path: Any) -> Any:
    """The parameters that a file or directory describes. No tensor is read.

    Parameters
    ----------
    path : str or path
        JSON with shapes by name, ``{"layers.0.weight": [64, 32]}``, or ``{"shape": [64, 32], "dtype": "bfloat16"}`` in place of
        a shape; a safetensors file, or a directory of them, whose tensors of integers are left out; or the ``config.json`` of
        Transformers, or a directory with one.

    Returns
    -------
    tuple of Parameter, or torch.nn.Module
        Of a configuration of Transformers the model on the meta device, so that ties and classes of modules are known.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it is something else.
    ImportError
        If a configuration needs PyTorch or Transformers, which are not installed.
    """
    place = Path(path)
    if place.is_dir() and not list(place.glob("*.safetensors")) and (place / _CONFIG).exists():
        place /= _CONFIG
    if place.is_dir() or place.suffix == ".safetensors":
        tensors = open_tensors(place)
        return tuple(Parameter(name, tensors.entry(name).shape, dtype) for name, dtype in tensors.dtypes.items())
    try:
        document = read_json(place.read_bytes())
    except ValueError as error:
        raise ValueError(f"{place}: expected JSON, a safetensors file or a directory of them, got {error}") from None
    if not isinstance(document, Mapping):
        raise ValueError(f"{place}: expected names with shapes, got {type(document).__name__}")
    if "weight_map" in document:
        raise ValueError(f"{place}: expected shapes, got an index; give the directory {place.parent} instead")
    if "model_type" in document:
        return _of_transformers(place)
    try:
        return parameters_of(document)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None


def _of_transformers(path: Path) -> Any:
    try:
        import torch
        import transformers
    except ImportError as error:
        needed = "expected PyTorch (pip install 'fastinit[torch]') and Transformers to read a configuration"
        raise ImportError(f"{path}: {needed}: {error}") from None
    config = transformers.AutoConfig.from_pretrained(path)
    names = config.architectures or []
    kind = getattr(transformers, names[0], None) if names else transformers.AutoModel
    if kind is None:
        raise ValueError(f"{path}: expected an architecture that Transformers has, got {names[0]}")
    with torch.device("meta"):
        if kind is transformers.AutoModel:
            return kind.from_config(config)
        # A class of models makes float32 whatever the configuration says, unlike from_config and from_pretrained.
        model, dtype = kind(config), getattr(config, "dtype", None)
        return model.to(dtype) if isinstance(dtype, torch.dtype) else model
