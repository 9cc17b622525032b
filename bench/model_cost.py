"""What `fastinit.torch.diagnose` costs beside a plain pass forward and back, in processor time on one thread.

`python -m bench.model_cost`: a GPT-2 of 12 layers of 768 units with 2 x 256 tokens (needs transformers), and a ResNet-50 with 8
images (needs torchvision; left out without it). Medians of three turns; second looks at zeros are not needed here.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

import fastinit.torch as init


def processor_time(call: Callable[[], Any]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def ratio(model: torch.nn.Module, logits: Callable[[], torch.Tensor], diagnosis: Callable[[], Any]) -> float:
    """Of the medians of three turns, after one that is not counted."""

    def plain() -> None:
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits().flatten(0, -2), labels).backward()

    labels = torch.zeros(logits().flatten(0, -2).shape[0], dtype=torch.int64)
    times = [(processor_time(plain), processor_time(diagnosis)) for _ in range(4)][1:]
    plain_time, own = (statistics.median(column) for column in zip(*times, strict=True))
    return own / plain_time


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    from transformers import GPT2Config, GPT2LMHeadModel

    gpt2 = GPT2LMHeadModel(GPT2Config()).train()
    tokens = torch.randint(50257, (2, 256))
    print(f"GPT-2: {ratio(gpt2, lambda: gpt2(tokens).logits, lambda: init.diagnose(gpt2, tokens)):.2f} x", flush=True)
    try:
        from torchvision.models import resnet50
    except ImportError:
        print("ResNet-50: torchvision is not installed")
        return 0
    resnet, images = resnet50().train(), torch.randn(8, 3, 224, 224)
    print(f"ResNet-50: {ratio(resnet, lambda: resnet(images), lambda: init.diagnose(resnet, images)):.2f} x", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
