"""Memory: any shape, fusion, stack, layout, dtype, strides and partition into boxes has the bits of separate tensors; and what
is refused before anything is written."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinit import Key, _core, num_threads
from fastinit._common.dtypes import memory_dtype
from fastinit.initializers import (
    Constant,
    HeNormal,
    LogUniform,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)
from fastinit.plans import Parameter, Plan, Rule, Spelling
from fastinit.plans.fill import Target, fill, whole_box

pytest.importorskip("ml_dtypes")  # for float8

KEY = Key(3)
NORMAL = RandomNormal(0.0, 0.02)
INITIALIZERS = [NORMAL, RandomUniform(-0.5, 1.0), TruncatedNormal(0.1, 0.3, -1.0, 2.0), Constant(0.3), Orthogonal()]
DTYPES = ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128"]


# ---- the same bits ----------------------------------------------------------------------------------


def array_of(shape: Any, dtype: str, draw: Any) -> Any:
    """Memory of any order of axes, with gaps and backwards."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -3])) for _ in shape]
    large = np.full([shape[axis] * abs(steps[axis]) for axis in order], 77).astype(memory_dtype(dtype))
    found = large.transpose(np.argsort(order))[tuple(slice(None, None, step) for step in steps)]
    assert found.shape == tuple(shape)
    return found


def partitions(shape: Any, draw: Any) -> list[Any]:
    """Boxes that tile a shape."""
    cuts = []
    for n in shape:
        inner = sorted({*draw(st.lists(st.integers(0, n), max_size=2)), 0, n})
        cuts.append(list(itertools.pairwise(inner)) or [(0, 0)])
    return list(itertools.product(*cuts))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_layout_has_the_bits_of_separate_tensors(data: st.DataObject) -> None:
    draw = data.draw
    dtype, layout = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(["oi", "io"]))
    initializer = draw(st.sampled_from(INITIALIZERS))
    least = 2 if isinstance(initializer, Orthogonal) else 1
    field = draw(st.lists(st.integers(1, 3), max_size=2)) if (inputs := draw(st.integers(least - 1, 5))) else []
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    tail = [inputs, *field] if inputs else []
    names = [f"layers.*.{i}.weight" for i in range(len(sizes))]
    # The parameter's axes: those of (out, in, *field), or (*field, in, out), with axes of a stack anywhere between.
    groups = draw(st.integers(1, 3))
    outputs = groups * sum(sizes)
    own = [outputs, *tail] if layout == "oi" or not tail else [*field, inputs, outputs]
    stacks = draw(st.lists(st.integers(1, 3), max_size=2))
    ndim = len(own) + len(stacks)
    where = sorted(draw(st.lists(st.integers(0, ndim - 1), min_size=len(stacks), max_size=len(stacks), unique=True)))
    rest = iter(own)
    counts = dict(zip(where, stacks, strict=True))
    shape = tuple(counts[axis] if axis in counts else next(rest) for axis in range(ndim))
    axes = tuple(axis - ndim if draw(st.booleans()) else axis for axis in where)
    numbers = "".join(".#" for _ in where)
    spelling = Spelling(
        "h.*.fused", tuple(name + numbers for name in names), sizes=tuple(sizes), layout=layout, batch_axes=axes, groups=groups
    )
    plan = Plan([Rule("**", initializer)], [spelling])
    (planned,) = plan.resolve([Parameter("h.7.fused", shape, dtype)])

    memory = array_of(shape, dtype, draw)
    targets = [
        Target(planned, memory[tuple(slice(*ends) for ends in box)], dtype, box) for box in partitions(shape, draw)
    ]  # fmt: skip
    fill(draw(st.permutations(targets)), KEY)

    expected = np.empty(shape, memory.dtype)
    for index in itertools.product(*map(range, stacks)):
        place: list[Any] = [slice(None)] * ndim
        for axis, i in zip(where, index, strict=True):
            place[axis] = i
        view = expected[tuple(place)]
        if layout == "io" and tail:
            view = np.moveaxis(view, (-1, -2), (0, 1))
        begin = 0
        for i, size in enumerate(sizes):
            name = f"layers.7.{i}.weight" + "".join(f".{k}" for k in index)
            alone = np.empty((groups * size, *tail), memory.dtype)
            initializer._outputs_first()(alone.shape, dtype, key=KEY / name, out=alone)
            for group in range(groups):
                place_in_view = group * sum(sizes) + begin
                view[place_in_view : place_in_view + size] = alone[group * size : group * size + size]
            begin += size
    assert memory.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({"slices": {"a": 1, "b": 1, "c": 4}}, {"a": (1, 5), "b": (1, 5), "c": (4, 5)}),
        ({"slices": ("a", "b", "c")}, {"a": (2, 5), "b": (2, 5), "c": (2, 5)}),
        ({"batch_axes": 0}, {f"{i}.q": (5,) for i in range(6)}),
        ({"batch_axes": -1}, {f"{i}.q": (6,) for i in range(5)}),
    ],
)
def test_a_rule_may_split_a_tensor_that_lies_in_groups(options: Any, shapes: dict[str, Any]) -> None:
    spelling = Spelling("f", ("q", "k"), sizes=(2, 1), groups=3)
    plan = Plan([Rule("q", NORMAL, **options), Rule("k", "ones")], [spelling])
    (planned,) = plan.resolve({"f": (9, 5)})
    memory = np.full((9, 5), np.nan, np.float32)
    fill([Target(planned, memory, "float32", whole_box((9, 5)))], KEY)
    assert (memory[2::3] == 1).all()
    q = memory[[0, 1, 3, 4, 6, 7]]
    alone = [NORMAL(shape, key=KEY / name) for name, shape in shapes.items()]
    joined = np.concatenate(alone) if "slices" in options else np.stack(alone, options["batch_axes"])
    assert np.array_equal(q, joined)


def test_slices_across_groups_are_refused() -> None:
    plan = Plan([Rule("q", NORMAL, slices=("a", "b")), Rule("k", "ones")], [Spelling("f", ("q", "k"), sizes=(2, 1), groups=3)])
    with pytest.raises(ValueError, match="begin and end where one of the 3 groups of 2 outputs does, got 0 to 3"):
        plan.resolve({"f": (9, 5)})


def test_groups_of_an_empty_tensor() -> None:
    (planned,) = Plan([Rule("**", NORMAL)], [Spelling("f", ("q", "k"), groups=3)]).resolve({"f": (0, 5)})
    fill([Target(planned, np.empty((0, 5), np.float32), "float32", whole_box((0, 5)))], KEY)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2", "complex64"])
def test_threads_and_instruction_sets_do_not_matter(dtype: str) -> None:
    plan = Plan([Rule("**", VarianceScaling(2.0, "fan_in", "truncated_normal"))], [Spelling("t", "w", layout="io")])
    (planned,) = plan.resolve({"t": (301, 200)})
    found = set()
    try:
        for isa, threads in itertools.product(_core.available_isas(), (1, 3)):
            _core.set_isa(isa)
            memory = np.empty((301, 200), memory_dtype(dtype))
            with num_threads(threads):
                fill([Target(planned, memory, dtype, whole_box(memory.shape))], KEY)
            found.add(memory.tobytes())
    finally:
        _core.set_isa("")
    assert len(found) == 1


def test_the_key_wins_over_the_seed_of_an_initializer() -> None:
    found = []
    for seed in (None, 1, 2):
        (planned,) = Plan([Rule("**", RandomNormal(0.0, 0.02, seed=seed))]).resolve({"w": (5, 5)})
        found.append(np.empty((5, 5), np.float32))
        fill([Target(planned, found[-1], "float32", whole_box((5, 5)))], KEY)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_many_threads_and_a_forked_process_have_the_same_bits() -> None:
    plan = Plan([Rule("t", NORMAL), Rule("**", HeNormal())], [Spelling("t", "t", layout="io")])
    model = {"t": (300, 70), **{f"layers.{i}.weight": (64, 64) for i in range(20)}}

    def made(_: int = 0) -> bytes:
        arrays, targets = [], []
        for planned in plan.resolve(model):
            arrays.append(np.empty(planned.parameter.shape, np.float32))
            targets.append(Target(planned, arrays[-1], "float32", whole_box(arrays[-1].shape)))
        fill(targets, KEY)
        return b"".join(array.tobytes() for array in arrays)

    expected = made()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(made, range(32))) == {expected}
    if hasattr(os, "fork"):
        child = os.fork()
        if not child:
            os._exit(made() != expected)
        assert os.waitpid(child, 0)[1] == 0


# ---- what is refused --------------------------------------------------------------------------------

READ_ONLY = np.frombuffer(bytes(36), np.float32).reshape(3, 3)
SWAPPED = np.empty((3, 3), np.dtype(np.float32).newbyteorder())
SHIFTED = np.frombuffer(bytearray(37), np.uint8)[1:].view(np.float32).reshape(3, 3)


@pytest.mark.parametrize("initializer", [NORMAL, "zeros", "orthogonal"])
@pytest.mark.parametrize(
    ("memory", "box", "message"),
    [
        (READ_ONLY, [(0, 3)] * 2, "w: expected writable memory, got an array that is read-only"),
        (SWAPPED, [(0, 3)] * 2, "w: expected memory of float32 for float32, got [<>]f4"),
        (np.empty((3, 3), np.float64), [(0, 3)] * 2, "w: expected memory of float32 for float32, got [<>]f8"),
        (np.empty((3, 4), np.float32), [(0, 3)] * 2, r"w: expected memory of shape \(3, 3\), got \(3, 4\)"),
        (np.empty((3, 2), np.float32), [(0, 3), (2, 4)], r"w: expected a box of shape \(3, 3\), got .*\(2, 4\)"),
        (np.empty((3,), np.float32), [(0, 3)], r"w: expected a box of shape \(3, 3\), got"),
    ],
)
def test_memory_that_does_not_fit_is_refused(initializer: Any, memory: Any, box: Any, message: str) -> None:
    (planned,) = Plan([Rule("**", initializer)]).resolve({"w": (3, 3)})
    with pytest.raises(ValueError, match=message):
        Target(planned, memory, "float32", tuple(box))


def test_memory_without_alignment_is_filled() -> None:
    (planned,) = Plan([Rule("**", NORMAL)]).resolve({"w": (3, 3)})
    aligned = np.empty((3, 3), np.float32)
    fill([Target(planned, one, "float32", whole_box((3, 3))) for one in (SHIFTED, aligned)], KEY)
    assert np.array_equal(SHIFTED, aligned)


@pytest.mark.parametrize(
    ("dtype", "initializer", "message"),
    [
        ("float16", RandomNormal(0.0, 1e6), "std: expected a number in the range of float16"),
        ("float16", Constant(1e6), "Constant: expected values of magnitude 65504"),
        ("float8_e4m3fn", RandomUniform(1e3, 2e3), "low: expected a number in the range of float8_e4m3fn"),
        ("float8_e4m3fn", RandomUniform(0.0201, 0.0202), "expected one with numbers between the bounds of uniform"),
        ("float8_e4m3fn", Constant(1e6), "Constant: expected values of magnitude 448"),
        ("bfloat16", RandomUniform(0.0201, 0.02011), "expected an interval that holds a bfloat16 number"),
        ("complex64", LogUniform(), "dtype: expected a real one for LogUniform"),
    ],
)
def test_nothing_is_written_if_a_tensor_has_no_numbers_in_a_dtype(dtype: str, initializer: Any, message: str) -> None:
    plan = Plan([Rule("first", NORMAL), Rule("second", "orthogonal"), Rule("bad", initializer), Rule("*", "ones")])
    shapes = {"first": (3, 3), "second": (3, 3), "bad": (300, 300), "last": (3,)}
    memory = {name: np.full(shape, 7, memory_dtype(dtype)) for name, shape in shapes.items()}
    targets = [
        Target(planned, memory[planned.parameter.name], dtype, whole_box(planned.parameter.shape))
        for planned in plan.resolve(shapes)
    ]  # fmt: skip
    with pytest.raises(ValueError, match=f"bad: .*{message}"):
        fill(targets, KEY)
    assert all((array == 7).all() for array in memory.values())


def test_an_element_that_is_too_large_once_drawn_is_named() -> None:
    plan = Plan([Rule("bad", Orthogonal(gain=1e6)), Rule("*", NORMAL)])
    shapes = {"before": (3, 3), "bad": (3, 3), "after": (3, 3)}
    memory = {name: np.full(shape, 7, np.float16) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match="bad: Orthogonal: expected values of magnitude 65504"):
        fill([Target(one, memory[one.parameter.name], "float16", whole_box((3, 3))) for one in plan.resolve(shapes)], KEY)
    assert all((array == 7).all() for array in memory.values())


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals are sent to threads")
def test_a_fill_that_is_interrupted_is_made_again_by_the_same_call() -> None:
    plan = Plan([Rule("**", NORMAL)], [Spelling("t*", "w*", layout="io")])
    model = {"t1": (3000, 2000), "a": (4000, 2000), "t2": (2000, 3000)}
    memory = {name: np.empty(shape, np.float32) for name, shape in model.items()}
    targets = [Target(one, memory[one.parameter.name], "float32", whole_box(one.parameter.shape)) for one in plan.resolve(model)]
    fill(targets, KEY)
    expected = {name: array.copy() for name, array in memory.items()}
    main = threading.get_ident()
    for delay in (0.001, 0.01, 0.03):
        timer = threading.Timer(delay, lambda: signal.pthread_kill(main, signal.SIGINT))
        try:
            timer.start()
            while timer.is_alive():
                fill(targets, KEY)
            timer.join()
        except KeyboardInterrupt:
            pass
        fill(targets, KEY)
        assert all(np.array_equal(memory[name], expected[name]) for name in model)
