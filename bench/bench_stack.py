"""`Stack`, forward and backward with statistics and all weight gradients, against NumPy and PyTorch without statistics on
the same number of threads, and against the largest possible rate of multiply-adds.

FASTINIT_BENCH_THREADS is the number of threads (default 1); set OPENBLAS_NUM_THREADS to the same number for NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastinit import Key, Stack, _core, normal

from .harness import Case, Comparison, Section, alone, optional

THREADS = int(os.environ.get("FASTINIT_BENCH_THREADS", "1"))
# depth, width, batch, activation; target ratios to NumPy and to PyTorch on one and two threads; fraction of the peak rate
TABLE = [
    (50, 64, 64, "tanh", (2.5, 4), (2.2, 3.5), 0.55),
    (50, 128, 128, "tanh", (1.8, 3), (1.4, 2), 0.65),
    (50, 256, 256, "tanh", (1.25, 2.2), (1.3, 1.6), 0.75),
    (50, 512, 256, "tanh", (1.3, 1.6), (1.3, 1.25), 0.80),
    (20, 1024, 256, "relu", (1.05, 1.1), (1.05, 1.05), 0.80),
    (10, 2048, 256, "relu", (1.05, 1.1), (1.05, 1.05), 0.80),
]
ODD = [(5 if width == 1000 else 20, width, batch) for width in (63, 65, 100, 1000) for batch in (1, 7, 64)]


def numpy_pass(stack: Stack, x: Any, dy: Any) -> list[Any]:
    """As fast as NumPy allows, with operations in place."""
    tanh = stack.activations[0] == "tanh"
    a = [x]
    for w, b in zip(stack.weights, stack.biases, strict=True):
        z = a[-1] @ w
        z += b
        a.append(np.tanh(z, out=z) if tanh else np.maximum(z, 0, out=z))
    d, gradients = dy, []
    for i in reversed(range(stack.depth)):
        d = d * (1 - a[i + 1] * a[i + 1]) if tanh else d * (a[i + 1] > 0)
        gradients.append((a[i].T @ d, d.sum(axis=0)))
        d = d @ stack.weights[i].T
    return [a[-1], d, *(g for g, _ in reversed(gradients))]


def torch_pass(stack: Stack, x: Any, dy: Any) -> Callable[[], list[Any]]:
    torch = optional("torch")
    phi = torch.tanh if stack.activations[0] == "tanh" else torch.relu
    weights = [torch.from_numpy(w).requires_grad_() for w in stack.weights]
    biases = [torch.from_numpy(b).requires_grad_() for b in stack.biases]
    inputs, cotangent = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)

    def run() -> list[Any]:
        a = inputs
        for w, b in zip(weights, biases, strict=True):
            a = phi(torch.addmm(b, a, w))
        found = torch.autograd.grad(a, [inputs, *weights, *biases], cotangent)
        return [a.detach().numpy(), *(g.numpy() for g in found[: len(weights) + 1])]

    return run


def close(found: list[Any], expected: list[Any], phi: str) -> None:
    """Compare by norm: some pre-activations are so close to 0 that another order of summation switches their ReLU."""
    limit = 2e-2 if phi == "relu" else 1e-4
    for a, b in zip(found, expected, strict=True):
        error = float(np.linalg.norm((a - b).ravel()) / np.linalg.norm(b.ravel()))
        assert error < limit, (error, limit)


def section(depth: int, width: int, batch: int, phi: str, targets: Any = None) -> Section:
    weights = "he_normal" if phi == "relu" else "lecun_normal"
    stack = Stack((width,) * (depth + 1), phi, weights=weights, key=Key(0))
    x = np.array(normal((batch, width), key=Key(1)))
    dy = np.array(normal((batch, width), key=Key(2)))
    expected = numpy_pass(stack, x, dy)
    operations = 6 * depth * width * width * batch

    def check() -> None:
        found = stack.propagate(x, dy, gradients=True)
        close([found.output, found.input_gradient, *(found.weight_gradients or [])], expected, phi)

    def full() -> Any:
        return stack.propagate(x, dy, gradients=True)

    rounds = max(1, int(operations / _core.fma_loop(0, 1)))
    cases = [
        Case("full", full, operations, check=check, threads=THREADS),
        Case("diagnosis", lambda: stack.propagate(x, dy), operations, threads=THREADS),
        Case("NumPy", lambda: numpy_pass(stack, x, dy), operations, threads=THREADS),
        Case("registers", lambda: _core.fma_loop(0, rounds), operations),
    ]
    numpy, torch, fraction = targets or ((1, 1), (None, None), None)
    i = min(THREADS, 2) - 1
    comparisons = [
        Comparison("full", "NumPy", at_least=numpy[i]),
        Comparison("diagnosis", "full", at_most=0.72),
    ]
    if THREADS > 1 and targets:
        cases.append(Case("full on one thread", full, operations))
        comparisons.append(Comparison("full", "full on one thread", at_least=1.8 if THREADS == 2 else None))
    if THREADS == 1 and fraction:
        comparisons.append(Comparison("full", "registers", at_least=fraction))
    if optional("torch") and targets:
        run = torch_pass(stack, x, dy)
        cases.append(
            Case("PyTorch", run, operations, check=lambda: close(run(), expected, phi), threads=THREADS)
        )
        comparisons.append(Comparison("full", "PyTorch", at_least=torch[i]))
    return Section(f"{depth} × {width}, batch {batch}, {phi}", cases, comparisons)


def sections(quick: bool = False) -> Iterator[Section]:
    for depth, width, batch, phi, *targets in TABLE[:2] if quick else TABLE:
        yield section(depth, width, batch, phi, targets)
    for depth, width, batch in ODD[:1] if quick else ODD:
        yield section(depth, width, batch, "tanh")


@pytest.mark.parametrize("row", TABLE[:4], ids=lambda row: f"{row[0]}x{row[1]}")
@pytest.mark.parametrize("name", ["full", "diagnosis", "NumPy", "PyTorch"])
def test_stack(benchmark: Any, row: Any, name: str) -> None:
    depth, width, batch, phi, *targets = row
    cases = {case.name: case for case in section(depth, width, batch, phi, targets).cases}
    if name not in cases:
        pytest.skip("torch is not installed")
    alone(benchmark, cases[name], f"{depth} × {width}, batch {batch}")
