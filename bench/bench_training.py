"""`fit` on the handwritten digits against a fast loop in NumPy and against PyTorch, on one thread.

All have the same network, initial weights, optimizer, batch size and number of epochs, and compute the mean loss and the
accuracy of every epoch in float32. Before timing, all three train with the same order of the samples and must reach the
same loss and accuracy; while timing each draws its own order. The NumPy loop has all parameters in one array, so that an
update takes a few calls, and works in place. PyTorch uses `Sequential` and fused optimizers, not compiled. Times are for
ten epochs; that of `fit` includes the checks of its arguments.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fastinit import SGD, Adam, Key, Momentum, Stack, fit
from fastinit._training.fit import shuffled

from .harness import Case, Comparison, Section, alone, optional

WIDTHS = (64, 64, 64, 10)
BATCH, EPOCHS = 32, 10
THREADS = int(os.environ.get("FASTINIT_BENCH_THREADS", "1"))
TABLE = [("tanh", Momentum(0.02)), ("relu", SGD(0.05)), ("relu", Adam(0.002))]
Order = Callable[[int], Any]  # the samples of an epoch
Step = Callable[[Any, Any, Any], tuple[float, int]]  # x, y, rows -> the loss, and the number of correct answers


@functools.cache
def start(phi: str) -> Stack:
    """The initial weights, drawn once and copied while timing."""
    weights = "he_normal" if phi == "relu" else "lecun_normal"
    return Stack(WIDTHS, phi, output_activation="linear", weights=weights, key=Key(0))


# ---- NumPy ------------------------------------------------------------------------------------------


class Parameters:
    """Weights and biases as views of one array."""

    def __init__(self) -> None:
        shapes = [*pairwise(WIDTHS), *((n,) for n in WIDTHS[1:])]
        self.flat = np.zeros(sum(int(np.prod(shape)) for shape in shapes), np.float32)
        views, at = [], 0
        for shape in shapes:
            size = int(np.prod(shape))
            views.append(self.flat[at : at + size].reshape(shape))
            at += size
        self.weights, self.biases = views[: len(WIDTHS) - 1], views[len(WIDTHS) - 1 :]


def numpy_update(optimizer: Any, w: Any, g: Any) -> Callable[[], None]:
    t, m, v = np.empty_like(w), np.zeros_like(w), np.zeros_like(w)
    rate, step = np.float32(optimizer.learning_rate), 0

    def sgd() -> None:
        np.multiply(g, rate, out=t)
        np.subtract(w, t, out=w)

    def momentum() -> None:
        np.multiply(m, np.float32(optimizer.momentum), out=m)
        np.add(m, g, out=m)
        np.multiply(m, rate, out=t)
        np.subtract(w, t, out=w)

    def adam() -> None:
        nonlocal step
        step += 1
        correction = (1 - optimizer.beta_2**step) ** 0.5
        np.multiply(m, np.float32(optimizer.beta_1), out=m)
        np.multiply(g, np.float32(1 - optimizer.beta_1), out=t)
        np.add(m, t, out=m)
        np.multiply(v, np.float32(optimizer.beta_2), out=v)
        np.multiply(g, g, out=t)
        np.multiply(t, np.float32(1 - optimizer.beta_2), out=t)
        np.add(v, t, out=v)
        np.sqrt(v, out=t)
        np.add(t, np.float32(optimizer.epsilon * correction), out=t)
        np.divide(m, t, out=t)
        np.multiply(t, np.float32(optimizer.learning_rate * correction / (1 - optimizer.beta_1**step)), out=t)
        np.subtract(w, t, out=w)

    return {SGD: sgd, Momentum: momentum, Adam: adam}[type(optimizer)]


def numpy_step(phi: str, parameters: Parameters, gradient: Parameters, update: Callable[[], None], rows: int) -> Step:
    """A training step for batches of `rows` samples, whose memory is allocated beforehand."""
    a = [np.empty((rows, n), np.float32) for n in WIDTHS]
    d = [np.empty((rows, n), np.float32) for n in WIDTHS]
    labels, index, column = np.empty(rows, np.int64), np.arange(rows), np.empty((rows, 1), np.float32)
    last = len(WIDTHS) - 2
    layers = list(enumerate(zip(parameters.weights, parameters.biases, strict=True)))

    def step(x: Any, y: Any, order: Any) -> tuple[float, int]:
        np.take(x, order, axis=0, out=a[0], mode="clip")
        np.take(y, order, out=labels, mode="clip")
        for i, (w, b) in layers:
            z = np.matmul(a[i], w, out=a[i + 1])
            np.add(z, b, out=z)
            if i < last:
                if phi == "tanh":
                    np.tanh(z, out=z)
                else:
                    np.maximum(z, 0, out=z)
        z, p = a[-1], d[-1]
        correct = int(np.count_nonzero(z.argmax(axis=1) == labels))
        np.subtract(z, z.max(axis=1, keepdims=True, out=column), out=z)
        np.exp(z, out=p)
        total = p.sum(axis=1, keepdims=True, out=column)
        np.divide(p, total, out=p)
        value = float(np.log(column).sum() - z[index, labels].sum()) / rows
        p[index, labels] -= 1
        np.multiply(p, np.float32(1 / rows), out=p)
        for i in range(last, -1, -1):
            np.matmul(a[i].T, d[i + 1], out=gradient.weights[i])
            np.add.reduce(d[i + 1], axis=0, out=gradient.biases[i])
            if i == 0:
                break
            np.matmul(d[i + 1], parameters.weights[i].T, out=d[i])
            if phi == "tanh":
                np.multiply(a[i], a[i], out=a[i])
                np.subtract(np.float32(1), a[i], out=a[i])
                np.multiply(d[i], a[i], out=d[i])
            else:
                np.multiply(d[i], a[i] > 0, out=d[i])
        update()
        return value, correct

    return step


def numpy_training(phi: str, optimizer: Any, x: Any, y: Any, order: Order) -> tuple[float, float]:
    """Loss and accuracy of the last epoch."""
    stack, parameters, gradient = start(phi), Parameters(), Parameters()
    for target, source in zip([*parameters.weights, *parameters.biases], [*stack.weights, *stack.biases], strict=True):
        target[...] = source
    update = numpy_update(optimizer, parameters.flat, gradient.flat)
    sizes = {BATCH, len(x) % BATCH} - {0}
    steps = {rows: numpy_step(phi, parameters, gradient, update, rows) for rows in sizes}
    for epoch in range(EPOCHS):
        samples, loss, correct = order(epoch), 0.0, 0
        for first in range(0, len(x), BATCH):
            rows = samples[first : first + BATCH]
            value, count = steps[len(rows)](x, y, rows)
            loss += value * len(rows)
            correct += count
    return loss / len(x), correct / len(x)


# ---- PyTorch ----------------------------------------------------------------------------------------


def torch_training(phi: str, optimizer: Any, x: Any, y: Any, order: Order | None) -> tuple[float, float]:
    torch = optional("torch")
    layers: list[Any] = []
    stack = start(phi)
    for w, b in zip(stack.weights, stack.biases, strict=True):
        layer = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w).T)
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, torch.nn.Tanh() if phi == "tanh" else torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    make = torch.optim.Adam if isinstance(optimizer, Adam) else torch.optim.SGD
    options: dict[str, Any] = {"lr": optimizer.learning_rate, "fused": True}
    if isinstance(optimizer, Momentum):
        options["momentum"] = optimizer.momentum
    descent = make(model.parameters(), **options)
    samples, classes = torch.from_numpy(x), torch.from_numpy(y)
    cross_entropy = torch.nn.functional.cross_entropy
    for epoch in range(EPOCHS):
        found = torch.randperm(len(x)) if order is None else torch.from_numpy(order(epoch))
        loss, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for batch, wanted in zip(samples[found].split(BATCH), classes[found].split(BATCH), strict=True):
            outputs = model(batch)
            value = cross_entropy(outputs, wanted)
            descent.zero_grad()
            value.backward()
            descent.step()
            with torch.no_grad():
                loss += value * len(batch)
                correct += (outputs.argmax(dim=1) == wanted).sum()
    return float(loss) / len(x), float(correct) / len(x)


# ---- the comparison -----------------------------------------------------------------------------------


def section(phi: str, optimizer: Any) -> Section | None:
    if not optional("sklearn"):
        return None
    from fastinit.study.settings import load_digits

    digits = load_digits(0)
    x, y, key, random = digits.x, digits.y, Key(1), np.random.default_rng(0)

    stack = start(phi)
    network = Stack(WIDTHS, phi, output_activation="linear", weights=stack.weights, biases=stack.biases, key=Key(0))

    def ours() -> tuple[float, float]:
        for target, source in zip([*network.weights, *network.biases], [*stack.weights, *stack.biases], strict=True):
            target[...] = source
        history = fit(network, x, y, optimizer=optimizer, epochs=EPOCHS, batch_size=BATCH, key=key)
        return history.loss[-1], history.accuracy[-1]

    def order(epoch: int) -> Any:
        return shuffled(len(x), key / "shuffle" / epoch)

    loss, accuracy = ours()

    def equal(found: tuple[float, float]) -> None:
        assert abs(found[0] - loss) < 0.02 * loss, (found, loss)
        assert abs(found[1] - accuracy) < 0.003, (found, accuracy)

    cases = [
        Case("fit", ours, 1, threads=THREADS, check=lambda: equal(ours())),
        Case(
            "NumPy", lambda: numpy_training(phi, optimizer, x, y, lambda _: random.permutation(len(x))), 1,
            threads=THREADS, check=lambda: equal(numpy_training(phi, optimizer, x, y, order)),
        ),
    ]  # fmt: skip
    comparisons = [Comparison("fit", "NumPy", at_least=3)]
    if optional("torch"):
        cases.append(
            Case("PyTorch", lambda: torch_training(phi, optimizer, x, y, None), 1, threads=THREADS,
                 check=lambda: equal(torch_training(phi, optimizer, x, y, order)))
        )  # fmt: skip
        comparisons.append(Comparison("fit", "PyTorch", at_least=2))
    name = type(optimizer).__name__
    return Section(f"{EPOCHS} epochs of digits, {'-'.join(map(str, WIDTHS))}, batch {BATCH}, {phi}, {name}", cases, comparisons)


def sections(quick: bool = False) -> Iterator[Section]:
    for phi, optimizer in TABLE[:1] if quick else TABLE:
        found = section(phi, optimizer)
        if found is None:
            print("training: skipped, because scikit-learn, which provides the digits, is not installed")
            return
        yield found


@pytest.mark.parametrize(("phi", "optimizer"), TABLE, ids=lambda value: value if isinstance(value, str) else type(value).__name__)
@pytest.mark.parametrize("name", ["fit", "NumPy", "PyTorch"])
def test_training(benchmark: Any, phi: str, optimizer: Any, name: str) -> None:
    pytest.importorskip("sklearn")
    found = section(phi, optimizer)
    assert found is not None
    cases = {case.name: case for case in found.cases}
    if name not in cases:
        pytest.skip("torch is not installed")
    alone(benchmark, cases[name], found.title)
