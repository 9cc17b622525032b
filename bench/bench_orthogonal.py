"""Orthogonal initialization against PyTorch and NumPy: reflections from the stream beside QR of a normal matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import fastinit
from fastinit import Key

from .harness import Case, Comparison, Section, configured, environment, optional

torch = optional("torch")

INITIALIZER = fastinit.Orthogonal()
THREADS = 2


def check_orthonormal(made: list[np.ndarray], bound: float) -> Callable[[], None]:
    """The first hundred columns are orthonormal, and none is another's."""

    def check() -> None:
        q = made[0].astype(np.float64)
        assert np.abs(q.T @ q[:, :100] - np.eye(len(q))[:, :100]).max() < bound
        assert abs(float(np.mean(q**2)) * len(q) - 1) < 1e-5

    return check


def cases_of(n: int, dtype: str) -> Iterator[Case]:
    bound = 1e-5 if dtype == "float32" else 1e-13
    ours: list[np.ndarray] = [np.empty(0)]
    theirs: list[np.ndarray] = [np.empty(0)]
    numpys: list[np.ndarray] = [np.empty(0)]
    values, nbytes = n * n, n * n * (4 if dtype == "float32" else 8)

    def run_ours() -> None:
        ours[0] = INITIALIZER((n, n), dtype, key=Key(2026))

    yield Case("fastinit", run_ours, values, nbytes, check_orthonormal(ours, bound), THREADS)

    if torch:
        tensor = torch.empty(n, n, dtype=getattr(torch, dtype))

        def run_torch() -> None:
            theirs[0] = torch.nn.init.orthogonal_(tensor).numpy()

        yield Case("PyTorch orthogonal_", run_torch, values, nbytes, check_orthonormal(theirs, bound), THREADS)

    generator = np.random.default_rng(2026)

    def run_numpy() -> None:
        # The usual recipe, with the signs that make the law Haar's.
        q, r = np.linalg.qr(generator.standard_normal((n, n), dtype=dtype))
        numpys[0] = q * np.sign(np.diag(r))

    yield Case("NumPy qr", run_numpy, values, nbytes, check_orthonormal(numpys, bound), THREADS)


def sections(quick: bool) -> Iterator[Section]:
    for dtype in ("float32", "float64"):
        for n in (256, 1024) if quick else (256, 1024, 2048, 4096):
            target = 3.0 if dtype == "float32" and n >= 2048 else None
            yield Section(
                f"orthogonal {n} × {n}, {dtype}, {THREADS} threads",
                list(cases_of(n, dtype)),
                [
                    Comparison("fastinit", "PyTorch orthogonal_", at_least=target),
                    Comparison("fastinit", "NumPy qr", at_least=target),
                ],
            )


@pytest.mark.parametrize("name", ["fastinit", "PyTorch orthogonal_", "NumPy qr"])
@pytest.mark.parametrize("n", [256, 1024])
def test_orthogonal(benchmark, name: str, n: int) -> None:
    benchmark.group = f"orthogonal {n} × {n}, float32"
    for case in cases_of(n, "float32"):
        if case.name == name:
            benchmark.extra_info.update(environment(), bytes=case.nbytes, threads=case.threads)
            with configured(case):
                benchmark(case.run)
                case.check()
            return
    pytest.skip(f"{name} is not installed")
