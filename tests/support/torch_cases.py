"""Shared by the tests of the PyTorch dialect."""

from __future__ import annotations

import random

import numpy as np
import pytest

import fastinit

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")
torch.set_num_threads(1)  # with more, tensors as small as those of tests take twice the processor time


KEY = fastinit.Key(2026) / "torch"


FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


DRAWN = {
    "uniform_": {}, "normal_": {}, "trunc_normal_": {}, "xavier_uniform_": {}, "xavier_normal_": {},
    "kaiming_uniform_": {}, "kaiming_normal_": {}, "orthogonal_": {}, "sparse_": {"sparsity": 0.3},
}  # fmt: skip


class Passing(torch.nn.Module):
    """A layer, and a function after it."""

    def __init__(self, layer, function):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, *inputs):
        return self.function(*(self.layer(x) for x in inputs))


def state_of(model):
    """Everything that must be as it was: tensors by identity and bits, gradients, modes, hooks, generators."""
    modules = dict(model.named_modules())
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    return {
        "identity": {name: (id(t), t._version, t.requires_grad, id(t.grad), t.data_ptr()) for name, t in tensors.items()},
        "bits": {name: t.detach().clone().view(torch.uint8) if t.dim() else t.item() for name, t in tensors.items()},
        "gradients": {name: None if t.grad is None else t.grad.clone() for name, t in tensors.items()},
        "modules": {name: id(module) for name, module in modules.items()},
        "modes": {name: module.training for name, module in modules.items()},
        "hooks": {name: [len(v) for k, v in vars(module).items() if k.endswith("hooks")] for name, module in modules.items()},
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "generators": (torch.get_rng_state(), random.getstate(), np.random.get_state()),  # noqa: NPY002
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def assert_same(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other
