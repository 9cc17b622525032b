"""Orthogonal and unitary matrices against PyTorch and NumPy, which use the QR decomposition of a normal matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import fastinit
from fastinit import Key

from .harness import Case, Comparison, Section, alone, optional

torch = optional("torch")

INITIALIZER = fastinit.Orthogonal()
THREADS = 2
# torch.nn.init.orthogonal_ fails for complex tensors (in torch.sign): its steps are repeated here with torch.sgn.
PYTORCH = {False: "PyTorch orthogonal_", True: "PyTorch qr"}


def check_orthonormal(made: list[np.ndarray], bound: float) -> Callable[[], None]:
    """Check that the first hundred columns are orthonormal to all columns."""

    def check() -> None:
        q = made[0].astype(np.complex128 if np.iscomplexobj(made[0]) else np.float64)
        assert np.abs(q.conj().T @ q[:, :100] - np.eye(len(q))[:, :100]).max() < bound
        assert abs(float(np.mean(np.abs(q) ** 2)) * len(q) - 1) < 1e-5

    return check


def cases_of(n: int, dtype: str) -> Iterator[Case]:
    zeros = np.zeros(0, dtype)
    unitary, part = np.iscomplexobj(zeros), zeros.real.dtype
    bound = 1e-5 if part == np.float32 else 1e-13
    ours, theirs, numpys = [zeros], [zeros], [zeros]
    values, nbytes = n * n, n * n * zeros.itemsize

    def run_ours() -> None:
        ours[0] = INITIALIZER((n, n), dtype, key=Key(2026))

    yield Case("fastinit", run_ours, values, nbytes, check_orthonormal(ours, bound), THREADS)

    if torch:
        tensor = torch.empty(n, n, dtype=getattr(torch, dtype))

        def run_torch() -> None:
            if unitary:
                q, r = torch.linalg.qr(tensor.normal_())
                theirs[0] = q.mul_(r.diagonal().sgn()).numpy()
            else:
                theirs[0] = torch.nn.init.orthogonal_(tensor).numpy()

        yield Case(PYTORCH[unitary], run_torch, values, nbytes, check_orthonormal(theirs, bound), THREADS)

    generator = np.random.default_rng(2026)

    def run_numpy() -> None:
        # The phases make the matrix Haar distributed; complex numbers are pairs of normals. NumPy computes QR in double
        # precision for every dtype.
        q, r = np.linalg.qr(generator.standard_normal((n, n * (1 + unitary)), dtype=part).view(dtype))
        diagonal = np.diag(r)
        q *= diagonal / np.abs(diagonal)
        numpys[0] = q

    yield Case("NumPy qr", run_numpy, values, nbytes, check_orthonormal(numpys, bound), THREADS)


SIZES = {
    "float32": (256, 1024, 2048, 4096),
    "float64": (256, 1024, 2048, 4096),
    "complex64": (256, 1024, 2048),
    "complex128": (256, 1024, 2048),
}


def sections(quick: bool) -> Iterator[Section]:
    for dtype, sizes in SIZES.items():
        unitary = dtype.startswith("complex")
        for n in sizes[:2] if quick else sizes:
            target = 3.0 if dtype == "float32" and n >= 2048 else None
            yield Section(
                f"{'unitary' if unitary else 'orthogonal'} {n} × {n}, {dtype}, {THREADS} threads",
                list(cases_of(n, dtype)),
                [
                    Comparison("fastinit", PYTORCH[unitary], at_least=target),
                    Comparison("fastinit", "NumPy qr", at_least=target),
                ],
            )


@pytest.mark.parametrize("name", ["fastinit", "PyTorch", "NumPy"])
@pytest.mark.parametrize("n", [256, 1024])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_orthogonal(benchmark, dtype: str, n: int, name: str) -> None:
    for case in cases_of(n, dtype):
        if case.name.startswith(name):
            alone(benchmark, case, f"orthogonal {n} × {n}, {dtype}")
            return
    pytest.skip(f"{name} is not installed")
