"""Recipes: how the models of an architecture begin in the code of a source, as plans.

Each file is one architecture. Its rules are written once, in the architecture's own names, and a map of names leads from what
libraries call the same tensors to these; so one model has the same bits however it is spelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..plan import Plan
from . import gpt2 as _gpt2
from . import llama as _llama
from . import mamba as _mamba
from . import mixtral as _mixtral
from . import mlp as _mlp
from . import resnet as _resnet
from . import t5 as _t5
from . import vit as _vit
from .gpt2 import gpt2
from .llama import llama
from .mamba import mamba
from .mixtral import mixtral
from .mlp import mlp
from .resnet import resnet
from .t5 import t5
from .vit import vit

__all__ = ["RECIPES", "Recipe", "gpt2", "llama", "mamba", "mixtral", "mlp", "resnet", "t5", "vit"]


class Recipe(NamedTuple):
    """A recipe, as the command line finds it.

    Attributes
    ----------
    function : callable
        ``function(model, source=...)`` is a `Plan`.
    sources : tuple of str
    shapes : dict of str to tuple of int
        A small model, in the architecture's own names.
    options : dict of str to dict
        By source what it needs to know of the small model that no shape tells.
    """

    function: Callable[..., Plan]
    sources: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    options: dict[str, dict[str, Any]] = {}  # noqa: RUF012  a NamedTuple's default, never changed


RECIPES: dict[str, Recipe] = {
    "gpt2": Recipe(gpt2, _gpt2.SOURCES, _gpt2.SHAPES),
    "llama": Recipe(llama, _llama.SOURCES, _llama.SHAPES, _llama.OPTIONS),
    "mixtral": Recipe(mixtral, _mixtral.SOURCES, _mixtral.SHAPES),
    "mamba": Recipe(mamba, _mamba.SOURCES, _mamba.SHAPES),
    "mlp": Recipe(mlp, _mlp.SOURCES, _mlp.SHAPES),
    "resnet": Recipe(resnet, _resnet.SOURCES, _resnet.SHAPES),
    "t5": Recipe(t5, _t5.SOURCES, _t5.SHAPES),
    "vit": Recipe(vit, _vit.SOURCES, _vit.SHAPES),
}
