"""Shared by the tests of the PyTorch dialect."""

from __future__ import annotations

import pytest

import fastinit

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")


KEY = fastinit.Key(2026) / "torch"


FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


DRAWN = {
    "uniform_": {}, "normal_": {}, "trunc_normal_": {}, "xavier_uniform_": {}, "xavier_normal_": {},
    "kaiming_uniform_": {}, "kaiming_normal_": {}, "orthogonal_": {}, "sparse_": {"sparsity": 0.3},
}  # fmt: skip
