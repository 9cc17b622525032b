"""fastinit.torch and fastinit.jax against fills of NumPy arrays, and PyTorch models with and without `patch`."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastinit

from .harness import Case, Comparison, Section, optional

torch = optional("torch")
jax = optional("jax")

# Every fill has a new key, as in a program: the CPU would learn to predict the branches of a repeated one.
_seeds = itertools.count()
SIZES = (10**5, 10**6, 10**7)


def _key() -> fastinit.Key:
    return fastinit.Key(next(_seeds))


def _near(std: float, expected: float, n: int) -> None:
    """Check a standard deviation of normal values to six standard errors; false alarms: 2 in 10^9."""
    assert abs(std / expected - 1) < 6 / math.sqrt(2 * n), (std, expected)


def _normal_check(values: Callable[[], Any], n: int) -> Callable[[], None]:
    return lambda: _near(float(np.std(np.asarray(values()), dtype=np.float64)), 1.0, n)


# ---- one tensor -------------------------------------------------------------------------------


def torch_cases(n: int) -> list[Case]:
    init = importlib.import_module("fastinit.torch")
    memory, tensor, theirs = np.ones(n, dtype="float32"), torch.ones(n), torch.ones(n)
    return [
        Case("into NumPy memory", lambda: fastinit.normal(n, key=_key(), out=memory), n, 4 * n),
        Case("fastinit.torch.normal_", lambda: init.normal_(tensor), n, 4 * n,
             _normal_check(tensor.numpy, n)),
        Case("torch.nn.init.normal_", lambda: torch.nn.init.normal_(theirs), n, 4 * n),
    ]  # fmt: skip


def jax_cases(n: int) -> list[Case]:
    ours = importlib.import_module("fastinit.jax").normal(1.0)
    theirs = jax.jit(lambda key: jax.random.normal(key, (n,)))
    key = jax.random.key(2026)
    keys = itertools.cycle(jax.random.split(key, 64))
    return [
        Case("a new NumPy array", lambda: fastinit.normal(n, key=_key()), n, 4 * n),
        Case("fastinit.jax.normal", lambda: ours(next(keys), (n,)).block_until_ready(), n, 4 * n,
             _normal_check(lambda: ours(key, (n,)), n)),
        Case("jax.random.normal, compiled", lambda: theirs(next(keys)).block_until_ready(), n, 4 * n),
    ]  # fmt: skip


# ---- whole models -----------------------------------------------------------------------------


def resnet50() -> Any:
    """The layers of a ResNet-50, whose convolutions are then filled with He's normal, as usual."""
    nn = torch.nn
    layers = [nn.Conv2d(3, 64, 7, bias=False), nn.BatchNorm2d(64)]
    width = 64
    for planes, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            for c_in, c_out, size in (
                (width, planes, 1), (planes, planes, 3), (planes, 4 * planes, 1),
            ):  # fmt: skip
                layers += [nn.Conv2d(c_in, c_out, size, bias=False), nn.BatchNorm2d(c_out)]
            if block == 0:
                layers += [nn.Conv2d(width, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)]
            width = 4 * planes
    layers.append(nn.Linear(width, 1000))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.ModuleList(layers)


def gpt2() -> Any:
    """The layers of the smallest GPT-2, whose matrices are then filled with N(0, 0.02^2), as usual."""
    nn, width = torch.nn, 768
    layers: list[Any] = [nn.Embedding(50257, width), nn.Embedding(1024, width)]
    for _ in range(12):
        layers += [
            nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width),
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width),
        ]  # fmt: skip
    layers.append(nn.LayerNorm(width))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02)
    return nn.ModuleList(layers)


MODELS: dict[str, tuple[Callable[[], Any], Callable[[Any], tuple[Any, float]]]] = {
    # A function that builds the model, and one that returns a weight and its correct standard deviation.
    "ResNet-50": (resnet50, lambda m: (m[-5].weight, math.sqrt(2 / (512 * 9)))),
    "GPT-2, 12 layers": (gpt2, lambda m: (m[0].weight, 0.02)),
}


def model_cases(name: str, threads: int) -> list[Case]:
    init = importlib.import_module("fastinit.torch")
    build, sample = MODELS[name]

    def patched() -> Any:
        with init.patched():
            return build()

    def check(make: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            weight, std = sample(make())
            _near(float(weight.detach().double().std()), std, weight.numel())

        return run

    values = sum(parameter.numel() for parameter in build().parameters())
    return [
        Case("PyTorch's own", build, values, 4 * values, check(build), threads),
        Case("under patch()", patched, values, 4 * values, check(patched), threads),
    ]


def sections(quick: bool) -> Iterator[Section]:
    """Single tensors of PyTorch and JAX, then models of PyTorch."""
    for n in SIZES[:2] if quick else SIZES:
        if torch:
            yield Section(f"PyTorch, {n} values", torch_cases(n), [
                Comparison("fastinit.torch.normal_", "into NumPy memory", at_most=1.1),
                Comparison("fastinit.torch.normal_", "torch.nn.init.normal_"),
            ])  # fmt: skip
        if jax:
            yield Section(f"JAX, {n} values", jax_cases(n), [
                Comparison("fastinit.jax.normal", "a new NumPy array", at_most=1.1),
                Comparison("fastinit.jax.normal", "jax.random.normal, compiled"),
            ])  # fmt: skip
    if torch:
        for name in MODELS if not quick else ["ResNet-50"]:
            for threads in sorted({1, fastinit.get_num_threads()}):
                title = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
                yield Section(title, model_cases(name, threads), [
                    Comparison("under patch()", "PyTorch's own", 2.5),
                ])  # fmt: skip
