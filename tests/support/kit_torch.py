"""What `diagnosed_models` builds models of, in PyTorch."""

from __future__ import annotations

import types

import numpy as np
import pytest
from torch_cases import torch

nn, F = torch.nn, torch.nn.functional

from fastinit.torch import diagnose as _diagnose  # noqa: E402

ops = types.SimpleNamespace(
    reshape=torch.reshape, swapaxes=torch.swapaxes, matmul=torch.matmul, softmax=torch.softmax, relu=torch.relu,
    gelu=F.gelu, silu=F.silu, tanh=torch.tanh, mean=torch.mean, argmax=torch.argmax, where=torch.where,
    stop_gradient=torch.Tensor.detach, array=torch.as_tensor,
)  # fmt: skip


def begin():
    """PyTorch's own starts are the same for each model, whatever was made before."""
    torch.manual_seed(0)


def module(forward, **parts):
    made = nn.Module()
    for name, part in parts.items():
        setattr(made, name, nn.ModuleList(part) if isinstance(part, list) else part)
    made.__class__ = type("Model", (nn.Module,), {"forward": forward})
    return made


def initializing(model):
    return False


def _start(layer, start, bias, shape, order=None):
    """Weights come as (in, out) or (height, width, in, out)."""
    with torch.no_grad():
        if start is not None:
            layer.weight.copy_(torch.from_numpy(np.transpose(start(shape), order)))
        if layer.bias is not None and (start is not None or bias is not None):
            layer.bias.copy_(torch.as_tensor(0.0 if bias is None else bias))
    return layer


def dense(inputs, outputs, start=None, bias=None):
    return _start(nn.Linear(inputs, outputs, bias=bias is not False), start, bias, (inputs, outputs))


def conv(inputs, outputs, size, stride, start):
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2 if size % 2 else 0, bias=False)
    return _start(layer, start, None, (size, size, inputs, outputs), (3, 2, 0, 1))


def embedding(count, width, start):
    layer = nn.Embedding(count, width)
    layer.weight.data = torch.from_numpy(start((count, width)))
    return layer


def attend(layer, hidden):
    return hidden @ layer.weight.T


def layernorm(width):
    return nn.LayerNorm(width)


def rmsnorm(width):
    return nn.RMSNorm(width)


def batchnorm(channels, scale=1.0):
    layer = nn.BatchNorm2d(channels)
    nn.init.constant_(layer.weight, scale)
    return layer


def scale(shape, value, trained=True):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            number = torch.full(shape, value)
            if trained:
                self.value = nn.Parameter(number)
            else:
                self.register_buffer("value", number)

        def forward(self, x):
            return self.value * x

    return Scale()


def activation(name):
    return {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[name]()


def frozen(layer):
    return layer.requires_grad_(False)


def images(x):
    return np.moveaxis(x, -1, 1).copy()


def pooled(x):
    return x.mean(dim=(-2, -1))


def patches(x):
    return x.flatten(-2).swapaxes(-1, -2)


def diagnose(model, *inputs):
    return _diagnose(model, *map(torch.from_numpy, inputs))


# ---- models of the library Transformers, at their default starts ---------------------------------------

_TEXT = {"vocab_size": 200, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
_SIZE = {"num_hidden_layers": 6, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
_IMAGES = {"image_size": 16, "num_labels": 10}
PUBLISHED = {
    "GPT2LMHeadModel": ("GPT2Config", {**_TEXT, "n_layer": 6, "n_embd": 64, "n_head": 4}),
    "LlamaForCausalLM": ("LlamaConfig", _TEXT | _SIZE),
    "BertForMaskedLM": ("BertConfig", {"vocab_size": 200, **_SIZE}),
    "T5ForConditionalGeneration": (
        "T5Config", {"vocab_size": 200, "num_layers": 3, "d_model": 64, "d_ff": 128, "num_heads": 4, "d_kv": 16},
    ),
    "ViTForImageClassification": ("ViTConfig", {**_IMAGES, **_SIZE, "patch_size": 4}),
    "ResNetForImageClassification": (
        "ResNetConfig", {"num_labels": 10, "embedding_size": 8, "hidden_sizes": [32, 64], "depths": [2, 2]},
    ),
}  # fmt: skip


def published(name):
    """A small model of Transformers, and its inputs by name."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config, options = PUBLISHED[name]
    model = getattr(transformers, name)(getattr(transformers, config)(**options))
    if "Image" in name:
        return model, {"pixel_values": torch.randn(16, 3, 16, 16)}
    ids = torch.randint(2, 200, (4, 24))
    return model, {"input_ids": ids} | ({"decoder_input_ids": ids} if "T5" in name else {})
