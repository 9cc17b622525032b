"""Sampling against its limits (the random words alone, memset) and other libraries (NumPy, PyTorch)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastinit
from fastinit import _core

from .harness import Case, Comparison, Section, alone, optional

torch = optional("torch")

KEY = fastinit.Key(2026)
SMALL, MIDDLE, LARGE = 64 * 64, 10**6, 64 * 10**6
ITEMSIZE = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
# Mean, standard deviation and kurtosis. The uniform numbers of NumPy are in [0, 1) (UNIT), all others in [-1, 1).
LAWS = {
    "uniform": (0.0, math.sqrt(1 / 3), 1.8),
    "normal": (0.0, 1.0, 3.0),
    "truncated normal": (0.0, 0.8796256610342398, 2.3655),
}
UNIT = (0.5, math.sqrt(1 / 12), 1.8)


def prefaulted(n: int, dtype: str) -> np.ndarray:
    """Memory whose pages exist already, so that the time of a fill does not include the system zeroing them."""
    return np.ones(n, dtype="uint16" if dtype == "bfloat16" else dtype)


def values_of(array: Any, dtype: str) -> np.ndarray:
    """Up to 10^6 elements as float64; bfloat16 is given as its bits."""
    array = np.asarray(array).ravel()[:MIDDLE]
    if dtype == "bfloat16":
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def checker(array: Any, law: tuple[float, float, float], dtype: str) -> Callable[[], None]:
    """A check of mean and variance to six standard errors; false alarms: 4 in 10^9."""

    def check() -> None:
        x = values_of(array, dtype)
        mean, std, kurtosis = law
        error = 6 / math.sqrt(x.size)
        assert abs(x.mean() - mean) < error * std, (law, dtype, x.mean())
        assert abs(x.var() / std**2 - 1) < error * math.sqrt(kurtosis - 1), (law, dtype, x.var())

    return check


def ours(law: str, dtype: str, n: int, threads: int = 1, isa: str = "") -> Case:
    out = prefaulted(n, dtype)
    draw = {
        "uniform": lambda: fastinit.uniform(n, -1.0, 1.0, key=KEY, dtype=dtype, out=out),
        "normal": lambda: fastinit.normal(n, key=KEY, dtype=dtype, out=out),
        "truncated normal": lambda: fastinit.truncated_normal(n, key=KEY, dtype=dtype, out=out),
    }[law]
    kind = f"{law} {dtype}"
    name = kind + (f", {isa}" if isa else "") + (f", {threads} threads" if threads > 1 else "")
    check = checker(out, LAWS[law], dtype)
    return Case(name, draw, n, n * ITEMSIZE[dtype], check, threads, isa, kind)


def words(n: int) -> Case:
    """Only the random bits: Philox in registers, nothing is stored."""
    whole = -(-n // 64) * 64
    return Case("raw words", lambda: _core.words_xor(KEY.seed, whole), whole, group="limits")


def memset(n: int) -> Case:
    out = prefaulted(n, "float32")
    return Case("memset", lambda: out.fill(0), n, 4 * n, group="limits")


def numpy_case(law: str, dtype: str, n: int) -> Case:
    out, generator = prefaulted(n, dtype), np.random.default_rng(0)
    draw = generator.random if law == "uniform" else generator.standard_normal
    check = checker(out, UNIT if law == "uniform" else LAWS[law], dtype)
    return Case(
        f"NumPy {law} {dtype}", lambda: draw(out=out, dtype=dtype), n, n * ITEMSIZE[dtype], check,
        group=f"{law} {dtype}",
    )  # fmt: skip


def torch_case(law: str, dtype: str, n: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    out = torch.ones(n, dtype=getattr(torch, dtype))
    draw = {
        "uniform": lambda: out.uniform_(-1, 1, generator=generator),
        "normal": lambda: out.normal_(generator=generator),
        "truncated normal": lambda: torch.nn.init.trunc_normal_(out, generator=generator),
    }[law]
    seen = out.view(torch.uint16).numpy() if dtype == "bfloat16" else out.numpy()
    return Case(
        f"PyTorch {law} {dtype}", draw, n, n * ITEMSIZE[dtype], checker(seen, LAWS[law], dtype),
        group=f"{law} {dtype}",
    )  # fmt: skip


def vector_cases(n: int) -> list[Case]:
    """All distributions and libraries with n values on one thread."""
    kinds = [("uniform", "float32"), ("normal", "float32"), ("truncated normal", "float32")]
    kinds += [("normal", "bfloat16"), ("normal", "float16"), ("normal", "float64")]
    cases = [words(n), memset(n)]
    cases += [ours(law, dtype, n) for law, dtype in kinds]
    others = [isa for isa in _core.available_isas() if isa != _core.isa()]
    cases += [ours("normal", "float32", n, isa=isa) for isa in others]
    cases += [numpy_case("uniform", "float32", n)]
    cases += [numpy_case("normal", dtype, n) for dtype in ("float32", "float64")]
    if torch:
        torch_kinds = [kind for kind in kinds if kind[1] != "float16"]
        if n > MIDDLE:  # six seconds per fill; the rate does not depend on the size
            torch_kinds.remove(("truncated normal", "float32"))
        cases += [torch_case(law, dtype, n) for law, dtype in torch_kinds]
    return cases


TARGETS = [
    Comparison("uniform float32", "raw words", 0.85),
    Comparison("uniform float32", "NumPy uniform float32", 4),
    Comparison("uniform float32", "PyTorch uniform float32", 5),
    Comparison("normal float32", "raw words", 0.5),
    Comparison("normal float32", "NumPy normal float32", 10),
    Comparison("normal float32", "PyTorch normal float32", 4),
    Comparison("truncated normal float32", "normal float32", 0.85),
    Comparison("truncated normal float32", "PyTorch truncated normal float32", 40),
    Comparison("normal bfloat16", "normal float32", 0.85),
    Comparison("normal bfloat16", "PyTorch normal bfloat16"),
    Comparison("normal float16", "normal float32", 0.85),
    Comparison("normal float64", "NumPy normal float64", 4),
    Comparison("normal float64", "PyTorch normal float64", 8),
    Comparison("normal float32, avx2", "normal float32", 0.55),
    Comparison("normal float32, scalar", "NumPy normal float32", 1),
    Comparison("normal float32", "memset"),
]


def matrix_cases() -> list[Case]:
    """A small He normal in place, as a user's program calls it."""
    initializer, out = fastinit.HeNormal(seed=0), np.ones((64, 64), dtype="float32")
    theirs, draw = np.ones((64, 64), dtype="float32"), np.random.default_rng(0).standard_normal

    def check() -> None:
        assert abs(out.std() / math.sqrt(2 / 64) - 1) < 6 / math.sqrt(2 * SMALL), out.std()

    cases = [
        Case("He normal in place", lambda: initializer((64, 64), out=out), 1, 4 * SMALL, check),
        Case("NumPy standard_normal in place", lambda: draw(out=theirs, dtype="float32"), 1),
        words(SMALL),
    ]
    if torch:
        weights = torch.ones(64, 64)
        kaiming = torch.nn.init.kaiming_normal_
        cases.append(Case("PyTorch kaiming_normal_", lambda: kaiming(weights), 1))
    return cases


def new_cases(side: int) -> list[Case]:
    """A large matrix, in place and newly allocated, on all threads."""
    initializer, threads = fastinit.HeNormal(seed=0), fastinit.get_num_threads()
    shape, n = (side, side), side * side
    out = prefaulted(n, "float32").reshape(shape)
    generator = np.random.default_rng(0)
    scale = np.float32(math.sqrt(2 / side))

    def numpy_new() -> Any:
        new = generator.standard_normal(shape, dtype="float32")
        new *= scale
        return new

    return [
        Case("He normal in place", lambda: initializer(shape, out=out), n, 4 * n, threads=threads),
        Case("new He normal", lambda: initializer(shape), n, 4 * n, threads=threads),
        Case("NumPy new", numpy_new, n, 4 * n),
    ]


def sections(quick: bool) -> Iterator[Section]:
    """Small matrices, vectors of two sizes, two threads, and large new matrices."""
    yield Section("64 × 64", matrix_cases(), [
        Comparison("He normal in place", "NumPy standard_normal in place", 5),
        Comparison("He normal in place", "PyTorch kaiming_normal_"),
        Comparison("He normal in place", "raw words"),
    ])  # fmt: skip
    yield Section("10⁶ values", vector_cases(MIDDLE), TARGETS)
    if quick:
        return
    yield Section("6.4·10⁷ values", vector_cases(LARGE), TARGETS)
    pair = [ours("normal", "float32", LARGE), ours("normal", "float32", LARGE, 2)]
    yield Section("6.4·10⁷ values", pair, [
        Comparison("normal float32, 2 threads", "normal float32", 1.8),
    ])  # fmt: skip
    side = 8192
    yield Section(f"{side} × {side}, all threads", new_cases(side), [
        Comparison("new He normal", "He normal in place", at_most=1.5),
        Comparison("new He normal", "NumPy new"),
    ])  # fmt: skip


def _single_cases() -> list[Any]:
    everywhere = [SMALL, MIDDLE, LARGE]
    threads = sorted({1, fastinit.get_num_threads()})
    made: list[tuple[str, Callable[[], Case]]] = []
    for n in everywhere:
        made += [(f"raw words-{n}", lambda n=n: words(n)), (f"memset-{n}", lambda n=n: memset(n))]
        for law, dtype in [(law, "float32") for law in LAWS] + [
            ("normal", "float64"), ("normal", "bfloat16"), ("normal", "float16"),
        ]:  # fmt: skip
            kind = f"{law} {dtype}-{n}"
            for t in threads:
                made.append((f"fastinit {kind}-{t}", lambda a=(law, dtype, n, t): ours(*a)))
            if dtype in ("float32", "float64") and law != "truncated normal":
                made.append((f"NumPy {kind}", lambda a=(law, dtype, n): numpy_case(*a)))
            if torch and dtype != "float16" and not (law == "truncated normal" and n == LARGE):
                made.append((f"PyTorch {kind}", lambda a=(law, dtype, n): torch_case(*a)))
    return [pytest.param(make, id=name.replace(" ", "_")) for name, make in made]


@pytest.mark.parametrize("make", _single_cases())
def test_fill(benchmark: Any, make: Callable[[], Case]) -> None:
    case = make()
    alone(benchmark, case, f"{case.group}, {case.values} values")
