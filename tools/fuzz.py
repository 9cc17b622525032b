#!/usr/bin/env python3
"""Makes random calls of the public interface, and checks each result.

Every call is determined by the seed and its number, so a single one can be repeated:

    python tools/fuzz.py --calls 100000 --seed 0
    python tools/fuzz.py --seed 0 --at 4711

A finding is: an error whose message does not say what was expected; an error after something was written; bits that depend
on the instruction set or the number of threads; a shard that differs from that part of the whole tensor; a changed byte
outside of an output; and, under sanitizers (see tools/asan.sh), whatever they report.
Needs only NumPy and ml_dtypes. Prints one line for each finding, and exits with status 1 if there was one.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import inspect
import json
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import fastinit
from fastinit import _core, gains, residual, theory

Rng = random.Random
REFUSALS = (ValueError, TypeError, IndexError, MemoryError, AttributeError, ImportError)
DTYPES = (
    "float32", "float64", "float16", "bfloat16", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip
SIZES = (0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 129)
NUMBERS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-3, 1e-8, 1e-30, 1e-45, 1e-310, 5e-324, 3.0, 5.25, 8.0, 30.0, 36.0, 37.5, 100.0, 65504.0,
    1e30, 3.4e38, 1e300, 1.7e308, float("inf"), float("-inf"), float("nan"), 1 / 3, -2.0, 7e-46,
)  # fmt: skip
ODD = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**64), 2**2000, 0.5, float("nan"), float("inf"), 1j,
    "", "relu", "he_normal", "\ud800", b"he", [], [1, 2], [[1], [2, 3]], (), (3, -1), (2, 3), (0, 2**100), (2**40, 2**40),
    {}, {"class_name": 3}, {"class_name": "HeNormal", "config": 3}, {1, 2}, slice(None), Ellipsis, object(), int,
    fastinit.HeNormal, fastinit.HeNormal(), fastinit.Key(3), np.float64(2.0), np.zeros(()), np.zeros(3), np.zeros((2, 2)),
    np.ones((2, 3), "float16"), np.array(["a"]), np.array([None]), np.ma.masked_array([1.0, 2.0], [True, False]),
    np.zeros(3, ">f4"), np.zeros((4, 4))[::2, ::2], np.datetime64("now"), np.zeros(2, ml_dtypes.bfloat16),
    memoryview(b"abcd"), bytearray(16), range(3),
)  # fmt: skip
NO_MESSAGE_NEEDED = "an internal call was refused; users never see its message"


class Finding(AssertionError):
    """The library broke a promise."""


def check(condition: bool, what: str) -> None:
    if not condition:
        raise Finding(what)


def number(rng: Rng) -> float:
    draw = rng.random()
    if draw < 0.5:
        return rng.choice(NUMBERS)
    return rng.choice((-1, 1)) * 10 ** rng.uniform(-12, 6) if draw < 0.75 else rng.gauss(0, 2)


def shape(rng: Rng, most: int = 6000, axes: int = 4) -> tuple[int, ...]:
    sizes: list[int] = []
    room = most
    for _ in range(rng.randrange(axes + 1)):
        size = rng.choice([n for n in SIZES if n <= max(room, 1)])
        sizes.append(size)
        room //= max(size, 1)
    return tuple(sizes)


def index(rng: Rng, sizes: tuple[int, ...]) -> Any:
    def one(n: int) -> Any:
        kind = rng.random()
        if kind < 0.3 and n:
            return rng.randrange(-n, n)
        a, b = (rng.choice((None, rng.randrange(-n - 2, n + 3))) for _ in range(2))
        return slice(a, b, rng.choice((None, 1, 2, 3, -1, -2, 7)))

    picks = [one(n) for n in sizes[: rng.randrange(len(sizes) + 1)]]
    return (*picks, ...) if rng.random() < 0.3 else tuple(picks)


def key(rng: Rng) -> fastinit.Key:
    found = fastinit.Key(rng.choice((0, 1, 2**64 - 1, rng.getrandbits(64))))
    return found / rng.choice(("a", "layer.0.weight", 7)) if rng.random() < 0.5 else found


def guarded(rng: Rng, sizes: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """An array inside a larger one with known bytes, aligned only to its item size; returns both, the larger one first."""
    kind = np.dtype(getattr(ml_dtypes, dtype)) if dtype.startswith(("bfloat", "float8")) else np.dtype(dtype)
    count = int(np.prod(sizes, dtype=np.int64))
    memory = np.full(count * kind.itemsize + 256, 0xA5, np.uint8)
    start = rng.randrange(0, 128 // kind.itemsize) * kind.itemsize
    return memory, memory[start : start + count * kind.itemsize].view(kind).reshape(sizes)


def bits(value: Any) -> bytes:
    return np.ascontiguousarray(value).tobytes()


def in_other_ways(rng: Rng, call: Callable[[], Any], wanted: Any, what: str) -> None:
    """Repeat a call with another instruction set and number of threads, and compare the bits."""
    before = _core.isa()
    other = rng.choice(_core.available_isas())
    threads = rng.choice((1, 2, 3, 7))
    try:
        _core.set_isa(other)
        with fastinit.num_threads(threads):
            again = call()
    finally:
        _core.set_isa(before)
    if not isinstance(again, tuple):
        again, wanted = (again,), (wanted,)
    for i, (a, b) in enumerate(zip(again, wanted, strict=True)):
        if bits(a) == bits(b):
            continue
        # The sign and payload of a NaN depend on the processor.
        floats = np.asarray(a).dtype.kind == "f" and np.array_equal(a, b, equal_nan=True)
        check(floats and np.isnan(a).any(), f"{what}: result {i} differs on {other}, {threads} threads, from {before}")


# ---- kinds of calls ----------------------------------------------------------------------------


def sample(rng: Rng) -> None:
    law = rng.choice((fastinit.uniform, fastinit.normal, fastinit.truncated_normal))
    sizes, dtype, of = shape(rng), rng.choice(DTYPES), key(rng)
    options = [number(rng) for _ in range(4 if law is fastinit.truncated_normal else 2)]
    if rng.random() < 0.5:
        options.sort()
    if law is fastinit.truncated_normal and rng.random() < 0.5:
        middle = rng.choice((0.0, 1e-4, 1.0, -1.0, 5.0, 30.0, -6.0))
        options[2:] = [middle, middle + 10 ** rng.uniform(-16, 1)]
        options[1] = abs(options[1])
    memory, out = guarded(rng, sizes, dtype)
    before = memory.copy()
    try:
        law(sizes, *options, key=of, dtype=dtype, out=out)
    except REFUSALS:
        check(np.array_equal(memory, before), "written before an error")
        raise
    outside = np.ones(memory.size, bool)
    start = out.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    outside[start : start + out.nbytes] = False
    check(np.array_equal(memory[outside], before[outside]), "bytes outside of the output changed")
    in_other_ways(rng, lambda: law(sizes, *options, key=of, dtype=dtype), out, law.__name__)
    if dtype in ("float32", "float64") and out.size and law is not fastinit.normal:
        low, high = options[:2]
        if law is fastinit.truncated_normal:
            mean, std, lower, upper = options
            real = np.dtype(dtype).type
            with np.errstate(all="ignore"):
                low, high = (float(real(mean) + real(std) * real(bound)) for bound in (lower, upper))
                slack = 2 * float(np.spacing(max(abs(real(low)), abs(real(high)))))
            low, high = low - slack, high + slack
        else:
            low, high = np.dtype(dtype).type(low), np.dtype(dtype).type(high)
        check(bool(np.isnan(low) or np.isnan(high) or (out.min() >= low and out.max() <= high)), f"{law.__name__}: out of bounds")


# Values for options that have no default.
REQUIRED: dict[str, dict[str, Any]] = {
    "Constant": {"value": 0.5}, "GainNormal": {"activation": "tanh"}, "ChronoBias": {"max_time": 100},
    "WangResidual": {"layers": 12, "width": 64}, "SmallInit": {"width": 64}, "DepthwiseResidual": {"layer": 3},
    "ResidualNormal": {"layers": 12}, "Sparse": {"sparsity": 0.5}, "LogUniform": {"low": 0.1, "high": 2.0},
    "RandomUniform": {"low": -0.1, "high": 0.1},
}  # fmt: skip


def an_initializer(rng: Rng, depth: int = 0) -> fastinit.Initializer:
    cls = rng.choice(fastinit.CATALOGUE)
    name = cls.__name__
    if name in ("Times", "PerGate", "Icnr"):
        inner = an_initializer(rng, depth + 1) if depth < 2 else fastinit.HeNormal()
        if name == "Times":
            return cls(inner, number(rng) if rng.random() < 0.3 else rng.gauss(0, 1))
        if name == "PerGate":
            return cls([inner] * rng.randrange(1, 4))
        return cls(inner, rng.randrange(1, 4))
    options = dict(REQUIRED.get(name, {}))
    if rng.random() < 0.4:
        for option in ("gain", "std", "mean", "low", "high", "scale", "seed", "sparsity", "rank", "layers", "slope", "value"):
            if option in cls.__dataclass_fields__ and rng.random() < 0.5:
                options[option] = rng.choice((number(rng), rng.randrange(5)))
    return cls(**options)


def initializer(rng: Rng) -> None:
    init, sizes, dtype, of = an_initializer(rng), shape(rng, 3000), rng.choice(DTYPES), key(rng)
    if rng.random() < 0.6:
        sizes = tuple(rng.choice((1, 2, 3, 4, 6, 8, 12, 16, 33, 64)) for _ in range(rng.choice((1, 2, 2, 2, 3, 4))))
        while np.prod(sizes) > 20000:
            sizes = sizes[1:]
    memory, out = guarded(rng, sizes, dtype)
    before = memory.copy()
    try:
        init(sizes, dtype, key=of, out=out)
    except REFUSALS:
        check(np.array_equal(memory, before), f"{init!r}: written before an error")
        raise
    in_other_ways(rng, lambda: init(sizes, dtype, key=of), out, repr(init))
    picks = index(rng, sizes)
    check(bits(init.shard(sizes, picks, key=of, dtype=dtype)) == bits(out[picks]), f"{init!r}: shard {picks} of {sizes}")
    job = np.zeros(sizes, out.dtype)
    fastinit.fill_many([(job, init, of)])
    check(bits(job) == bits(out), f"{init!r}: fill_many of {sizes} in {dtype} differs from the call")
    for fact in (init.variance, init.bounds):
        with contextlib.suppress(REFUSALS):
            fact(sizes)
    check(eval(repr(init), vars(fastinit) | {"array": np.array}) == init or isinstance(init, fastinit.Constant), repr(init))


ACTIVATIONS = (*_core.ACTIVATIONS, "leaky_relu(0.2)")


def a_stack(rng: Rng, **options: Any) -> fastinit.Stack:
    widths = [rng.choice((1, 2, 3, 7, 15, 16, 17, 31, 33, 48, 64, 65)) for _ in range(rng.randrange(1, 7))]
    if rng.random() < 0.4:
        widths = [rng.choice(widths)] * len(widths)
        if rng.random() < 0.5:
            options |= {"residual": rng.choice((1, 2, 3)), "alpha": rng.choice((1.0, 0.5, number(rng)))}
    if rng.random() < 0.3:
        options["output_activation"] = rng.choice(ACTIVATIONS)
    weights = rng.choice(("he_normal", "glorot_uniform", "orthogonal", "zeros", fastinit.RandomNormal(0.0, abs(rng.gauss(0, 3)))))
    biases = rng.choice(("zeros", "ones", fastinit.RandomNormal(0.0, 1.0)))
    return fastinit.Stack(
        widths, rng.choice(ACTIVATIONS), weights=weights, biases=biases, dtype=rng.choice(("float32", "float64")),
        key=fastinit.Key(rng.randrange(2**32)), **options,
    )  # fmt: skip


def a_batch(rng: Rng, columns: int, rows: int | None = None) -> np.ndarray:
    rows = rng.choice((0, 1, 2, 3, 7, 8, 9, 17, 33)) if rows is None else rows
    x = np.random.default_rng(rng.getrandbits(32)).standard_normal((rows, columns))
    x = x * rng.choice((1.0, 1.0, 1e-30, 1e30, 0.0))
    x = x.astype(rng.choice(("float32", "float64", "float16")))
    return np.asfortranarray(x) if rng.random() < 0.2 else x


def stack(rng: Rng) -> None:
    virtual = rng.random() < 0.2
    net = a_stack(rng, virtual=virtual) if virtual else a_stack(rng)
    with np.errstate(all="ignore"):
        x = a_batch(rng, net.widths[0])
        dy = a_batch(rng, net.widths[-1], len(x)) if rng.random() < 0.6 else None
    pairs = None
    if len(x) and rng.random() < 0.3:
        pairs = [(rng.randrange(len(x)), rng.randrange(len(x))) for _ in range(rng.randrange(4))]
    gradients, norms = not virtual and rng.random() < 0.5, rng.random() < 0.5

    def call() -> tuple[np.ndarray, ...]:
        found = net.propagate(x, dy, gradients=gradients, norms=norms, pairs=pairs)
        parts = [found.output, found.statistics.view("f8"), *(found.weight_gradients or ()), *(found.bias_gradients or ())]
        parts += [p for p in (found.input_gradient, found.weight_gradient_norms, found.activation_cosines) if p is not None]
        return tuple(p.copy() for p in parts)

    wanted = call()
    in_other_ways(rng, call, wanted, repr(net))
    output = net.forward(x)
    check(np.array_equal(output, wanted[0], equal_nan=True), f"{net!r}: forward and propagate differ")
    if not virtual and len(x):
        row = rng.randrange(len(x))
        alone = net.forward(x[row : row + 1])[0]
        check(np.array_equal(alone, output[row], equal_nan=True), f"{net!r}: a row depends on its batch")


def traces(rng: Rng) -> None:
    net = a_stack(rng, virtual=rng.random() < 0.2)
    with np.errstate(all="ignore"):
        x = a_batch(rng, net.widths[0])
    layers = net.layers_of(x)
    flat = tuple(array for pair in layers for array in pair)
    in_other_ways(rng, lambda: tuple(array for pair in net.layers_of(x) for array in pair), flat, f"layers of {net!r}")
    bins = rng.choice((1, 7, [-1.0, 0.5], sorted({number(rng) for _ in range(3)}), rng.choice(ODD)))
    points = rng.choice(([0, 50, 100], [], [number(rng)], rng.choice(ODD)))
    found = net.propagate(x, histograms=bins, percentiles=points)
    for name, of_layers in (found.histograms or {}).items():
        for (counts, edges), layer, width in zip(of_layers, found.layers, net.widths[1:], strict=True):
            check(bool((edges[1:] > edges[:-1]).all() and np.isfinite(edges).all()), f"{net!r}: edges {edges}")
            if isinstance(bins, int):
                counted = int(counts.sum()) + getattr(layer, name).non_finite
                check(counted == len(x) * width, f"{net!r}: {counted} numbers of {name}")


def diagnoses(rng: Rng) -> None:
    net = a_stack(rng, virtual=rng.random() < 0.1)
    with np.errstate(all="ignore"):
        x = rng.choice((None, a_batch(rng, net.widths[0])))
    options = {"x": x, "recommend": rng.random() < 0.5}

    def text() -> np.ndarray:
        found = fastinit.diagnose(net, **options)
        found._repr_html_()
        check("nan" not in str(found), f"{net!r}: NaN in the text")
        return np.frombuffer(json.dumps(found.to_dict(), allow_nan=False).encode(), np.uint8)

    in_other_ways(rng, text, text(), f"diagnosis of {net!r}")


def starts(rng: Rng) -> None:
    net = a_stack(rng)
    with np.errstate(all="ignore"):
        x = a_batch(rng, net.widths[0])
    before = [weight.copy() for weight in net.weights]
    calls: list[Callable[[], Any]] = [
        lambda: fastinit.lsuv(net, x, orthogonal=rng.random() < 0.5), lambda: fastinit.variance_fit(net, abs(number(rng))),
        lambda: fastinit.variance_fit(net, x=x),
    ]  # fmt: skip
    try:
        rng.choice(calls)()
    except REFUSALS:
        check(all(map(np.array_equal, net.weights, before)), f"{net!r}: written before an error")
        raise
    check(all(np.isfinite(weight).all() for weight in net.weights), f"{net!r}: weights that are not finite")


def training(rng: Rng) -> None:
    net = a_stack(rng)
    rows = rng.randrange(1, 20)
    x = a_batch(rng, net.widths[0], rows)
    if rng.random() < 0.5 and net.widths[-1] > 1:
        loss, y = fastinit.softmax_cross_entropy, np.array([rng.randrange(net.widths[-1]) for _ in range(rows)])
    else:
        loss, y = fastinit.mean_squared_error, a_batch(rng, net.widths[-1], rows)
    optimizer = rng.choice((fastinit.SGD(0.1), fastinit.Momentum(0.1), fastinit.Adam(0.01)))
    size = rng.choice((None, 1, 3, rows, rows + 5))
    start = [p.copy() for p in (*net.weights, *net.biases)]

    def call() -> tuple[np.ndarray, ...]:
        for p, old in zip((*net.weights, *net.biases), start, strict=True):
            p[...] = old
        history = fastinit.fit(net, x, y, loss=loss, optimizer=optimizer, batch_size=size, epochs=2, key=fastinit.Key(1))
        return (np.array(history.loss), *(p.copy() for p in (*net.weights, *net.biases)))

    in_other_ways(rng, call, call(), f"fit of {net!r} by {optimizer!r}")


def losses(rng: Rng) -> None:
    loss = rng.choice((fastinit.softmax_cross_entropy, fastinit.mean_squared_error))
    outputs = a_batch(rng, rng.choice((1, 2, 3, 10, 17)))
    targets: Any = rng.choice((
        np.array([rng.randrange(12) - 1 for _ in range(len(outputs))], "int64"),
        np.array([rng.randrange(12) for _ in range(len(outputs))], rng.choice(("int8", "uint16"))),
        np.abs(outputs) / max(float(np.abs(outputs).sum()), 1e-30), outputs, outputs[:, :1], rng.choice(ODD),
    ))  # fmt: skip
    value = loss(outputs, targets)
    in_other_ways(rng, lambda: loss(outputs, targets), value, loss.__name__)


def optimizers(rng: Rng) -> None:
    optimizer = rng.choice((fastinit.SGD, fastinit.Momentum, fastinit.Adam))(abs(number(rng)))
    sizes = [shape(rng, 500, 2) for _ in range(rng.randrange(1, 4))]
    real = rng.choice(("float32", "float64"))
    start = [np.random.default_rng(i).standard_normal(s).astype(real) for i, s in enumerate(sizes)]
    steps = [[np.random.default_rng(i + k).standard_normal(s).astype(real) for i, s in enumerate(sizes)] for k in range(3)]

    def call() -> tuple[np.ndarray, ...]:
        parameters = [p.copy() for p in start]
        update = optimizer.start(parameters)
        for gradients in steps:
            update(gradients)
        return tuple(parameters)

    in_other_ways(rng, call, call(), repr(optimizer))
    update = optimizer.start([p.copy() for p in start])
    wrong = rng.choice((rng.choice(ODD), steps[0][:-1], [g.astype("float16") for g in steps[0]], [np.zeros(3)] * len(steps[0])))
    with contextlib.suppress(REFUSALS):
        update(wrong)


def maps(rng: Rng) -> None:
    activation = rng.choice(ACTIVATIONS)
    # Variances beyond 1e30 are correct, but the quadrature of a correlation takes up to a minute for them.
    q, w, b, c = min(abs(number(rng)), 1e30), abs(number(rng)), abs(number(rng)), rng.uniform(-1, 1)
    which = rng.choice((
        lambda: theory.variance_map(activation, q, w, b), lambda: theory.chi_1(activation, q, w),
        lambda: theory.correlation_map(activation, c, q, w, b), lambda: gains.activation_gain(activation),
        lambda: residual.fixup(rng.choice(ODD)), lambda: residual.deepnorm_encoder(rng.choice(ODD)),
        lambda: fastinit.lora_scaling(rng.choice(ODD), rng.choice(ODD)),
    ))  # fmt: skip
    which()


def odd_arguments(rng: Rng) -> None:
    """Any value for any argument: allowed is an error that says what was expected, but no crash, hang or huge allocation."""
    _, call = rng.choice(CALLABLES)
    arguments, options = odd_places(rng, call)
    made = call(*arguments, **options)
    if isinstance(made, fastinit.Initializer):
        sizes = rng.choice((rng.choice(ODD), shape(rng, 500)))
        if type(sizes) is int and 1 << 20 < sizes < 1 << 40:
            return  # there may be enough memory for such a tensor
        made(sizes, rng.choice(DTYPES + ODD), key=rng.choice((None, key(rng), rng.choice(ODD))))


def odd_places(rng: Rng, call: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
    """Odd values for arguments that a signature has; for others Python raises the error."""
    places = list(inspect.signature(call).parameters.values())
    positional = [p for p in places if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p for p in places if p.kind is p.KEYWORD_ONLY]
    needed = sum(p.default is p.empty for p in positional)
    arguments = [rng.choice(ODD) for _ in range(rng.randint(needed, len(positional)))]
    return arguments, {p.name: rng.choice(ODD) for p in named if p.default is p.empty or rng.random() < 0.3}


CALLABLES = [
    (name, getattr(module, name))
    for module in (fastinit, theory, residual, gains)
    for name in module.__all__
    if callable(getattr(module, name)) and name not in ("set_num_threads", "show_config")
]


def binding(rng: Rng) -> None:
    """The binding itself refuses arguments that would make it write out of bounds."""
    out = np.zeros(rng.choice(SIZES), rng.choice(("float32", "float64", "uint16", "uint8")))
    before = out.copy()
    try:
        _core.fill_block(
            out, rng.randrange(-1, 6), rng.randrange(-1, 6), tuple(number(rng) for _ in range(rng.randrange(5))),
            rng.getrandbits(64), rng.getrandbits(64), rng.choice((0, 1, 2**58 - 1, 2**58, 2**63)),
            [rng.choice((*SIZES, 2**62)) for _ in range(rng.randrange(4))],
            [rng.choice((*SIZES, -1, -64, 2**60)) for _ in range(rng.randrange(4))], rng.choice((0, 1, 2)),
            rng.choice((0, 2, 255, 256)),
        )  # fmt: skip
    except (*REFUSALS, OverflowError):
        check(np.array_equal(out, before), "written before an error")
        raise ValueError(NO_MESSAGE_NEEDED) from None


def threads(rng: Rng) -> None:
    """Use one object in three threads at the same time."""
    net = a_stack(rng)
    x = a_batch(rng, net.widths[0], 9)
    init, of = fastinit.HeNormal(), key(rng)
    parameters = [np.zeros((33, 7), "float32")]
    update = fastinit.Adam().start(parameters)
    wanted, drawn, errors = net.forward(x), init((65, 33), key=of), []

    def work() -> None:
        try:
            check(np.array_equal(net.forward(x), wanted, equal_nan=True), f"{net!r}: other values from several threads")
            check(np.array_equal(init((65, 33), key=of), drawn), "other weights from several threads")
            net.propagate(x)
            with contextlib.suppress(RuntimeError):  # it is refused while another thread uses it
                update([np.ones((33, 7), "float32")])
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]


ACTIONS: dict[str, tuple[Callable[[Rng], None], int]] = {
    "sample": (sample, 30), "initializer": (initializer, 25), "stack": (stack, 12), "traces": (traces, 4),
    "diagnoses": (diagnoses, 4), "starts": (starts, 4), "training": (training, 3), "losses": (losses, 8),
    "optimizers": (optimizers, 6), "maps": (maps, 3), "odd_arguments": (odd_arguments, 25), "binding": (binding, 10),
    "threads": (threads, 1),
}  # fmt: skip


class Slow(Exception):
    """A call takes longer than `--patience` allows."""


def too_slow(*_: Any) -> None:
    raise Slow


def run(seed: int, at: int, only: str | None, patience: int) -> tuple[str, str | None, bool]:
    """Make one call; returns its kind, the finding if there is one, and whether it raised an allowed error."""
    rng = Rng(f"{seed}/{at}")
    name = only or rng.choices(list(ACTIONS), [weight for _, weight in ACTIONS.values()])[0]
    if hasattr(signal, "alarm"):
        signal.alarm(patience)
    try:
        ACTIONS[name][0](rng)
    except Finding as finding:
        return name, str(finding), False
    except REFUSALS as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        if "function(" in (where.line or "") or (where.name == "expectation" and "f(math" in (where.line or "")):
            return name, None, True  # an error of the function that the user passed
        if "expected" not in str(error) and not isinstance(error, MemoryError) and not str(error).startswith(NO_MESSAGE_NEEDED):
            return name, f"unclear error: {error!r} ({where.filename.rpartition('/')[2]}:{where.lineno})", True
        return name, None, True
    except Slow:
        return name, f"slower than {patience} s", False
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return name, f"{type(error).__name__}: {error} ({where.filename.rpartition('/')[2]}:{where.lineno})", False
    finally:
        if hasattr(signal, "alarm"):
            signal.alarm(0)
    return name, None, False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000, help="number of calls (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--at", type=int, help="make only the call of this number")
    parser.add_argument("--only", choices=ACTIONS, help="make only this kind of calls")
    parser.add_argument("--patience", type=int, default=20, help="seconds that a call may take (default %(default)s)")
    options = parser.parse_args()
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, too_slow)
    warnings.simplefilter("ignore")  # NumPy warns of overflows
    counts: collections.Counter[str] = collections.Counter()
    refused: collections.Counter[str] = collections.Counter()
    findings, began = 0, time.monotonic()
    for at in range(options.calls) if options.at is None else [options.at]:
        print(f"\r{at}", end="", file=sys.stderr) if sys.stderr.isatty() else None
        name, finding, was_refused = run(options.seed, at, options.only, options.patience)
        counts[name] += 1
        refused[name] += was_refused
        if finding:
            findings += 1
            print(f"--seed {options.seed} --at {at} ({name}): {finding}", flush=True)
    kinds = ", ".join(f"{name} {n} ({refused[name]} refused)" for name, n in sorted(counts.items()))
    print(f"{sum(counts.values())} calls in {time.monotonic() - began:.0f} s: {kinds}")
    print(f"instruction sets {', '.join(_core.available_isas())}; {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
