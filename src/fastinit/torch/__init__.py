"""The functions of torch.nn.init with the random numbers of fastinit: ``from fastinit import torch as init``.

Names, keywords and defaults are those of torch.nn.init; the values are the same on every machine and for every
memory layout. The seed of a tensor is one 64-bit number from a torch.Generator, so torch.manual_seed determines
the values; ``key=`` gives a key instead. `patch` makes PyTorch's own functions call these, inside its modules too.
docs/dialects.md lists the differences from PyTorch.

May import: _common, _stream, initializers, gains, diagnosis, plans, _core.
"""

from __future__ import annotations

from .._common.frameworks import import_failure as _import_failure

try:
    import torch as _torch  # noqa: F401
except (ImportError, OSError) as error:  # OSError: a shared library of PyTorch does not load
    raise _import_failure(__name__, "PyTorch", "torch", error) from error

from ._diagnose import diagnose
from ._fixed import constant_, dirac_, eye_, ones_, zeros_
from ._gains import calculate_correct_fan as _calculate_correct_fan  # noqa: F401
from ._gains import calculate_fan_in_and_fan_out as _calculate_fan_in_and_fan_out  # noqa: F401
from ._gains import calculate_gain
from ._init import (
    constant,
    dirac,
    eye,
    kaiming_normal,
    kaiming_normal_,
    kaiming_uniform,
    kaiming_uniform_,
    normal,
    normal_,
    orthogonal,
    orthogonal_,
    sparse,
    sparse_,
    trunc_normal_,
    uniform,
    uniform_,
    xavier_normal,
    xavier_normal_,
    xavier_uniform,
    xavier_uniform_,
)
from ._lsuv import lsuv
from ._model import init_, param_init_fn
from ._patch import patch, patched, unpatch
from ._report import Past, Report

__all__ = [
    "Past",
    "Report",
    "calculate_gain",
    "constant",
    "constant_",
    "diagnose",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "init_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lsuv",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "param_init_fn",
    "patch",
    "patched",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "unpatch",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
