"""Random orthogonal matrices, exactly Haar distributed, from the stream.

A product of random Householder reflections (Stewart, "The efficient generation of random orthogonal matrices", 1980; the
signs: Mezzadri, "How to generate random matrices from the classical compact groups", 2007): no QR decomposition,
so no LAPACK whose bits depend on the machine. Every sum is made by the stack's matrix product or along the outer
axis, in index order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from .keys import Key
from .sampling import normal
from .threads import get_num_threads

__all__ = ["haar"]

_BLOCK = 64  # reflections applied at once
_FLOAT64 = _core.DTYPES.index("float64")
_LINEAR = _core.ACTIVATIONS.index("linear")


def _product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """The matrix product, one accumulator an element, as a linear layer without bias."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    out = np.empty((a.shape[0], b.shape[1]))
    _core.stack_propagate(
        _FLOAT64, (a.shape[1], b.shape[1]), (_LINEAR,), [b], [np.zeros(b.shape[1])], a.shape[0],
        a, None, out, None, (), None, get_num_threads(), False, _core.FORWARD, [],
    )  # fmt: skip
    return out


def _triangle(v: NDArray[Any], tau: NDArray[Any]) -> NDArray[Any]:
    """T with H_0 H_1 ... = I - V T V' (Schreiber & Van Loan, "A storage-efficient WY representation", 1989)."""
    gram = _product(v.T, v)
    t = np.zeros((len(tau), len(tau)))
    for j in range(len(tau)):
        if j:
            t[:j, j] = -tau[j] * _product(t[:j, :j], gram[:j, j : j + 1])[:, 0]
        t[j, j] = tau[j]
    return t


def haar(rows: int, columns: int, key: Key) -> NDArray[Any]:
    """A float64 matrix with orthonormal columns (tall or square) or rows (wide), uniform over all such.

    Parameters
    ----------
    rows, columns : int
        At least 1. A wide matrix is the transpose of the tall one.
    key : Key
        Reflection k is made of the standard normals of elements (k.., k) of the tall matrix.

    Returns
    -------
    ndarray of shape (rows, columns), float64
    """
    n, m = max(rows, columns), min(rows, columns)
    v = np.tril(normal((n, m), key=key, dtype="float64"))
    diagonal = np.arange(m)
    first = v[diagonal, diagonal].copy()
    norm = np.sqrt(np.add.reduce(v * v, axis=0))
    # v = x + sign(x_0) |x| e_0 maps x to -sign(x_0) |x| e_0 without cancellation; |v|^2 = 2 |x| (|x| + |x_0|).
    v[diagonal, diagonal] = first + np.copysign(norm, first)
    tau = 1.0 / (norm * (norm + np.abs(first)))
    q = np.zeros((n, m))
    # D: the signs that a QR decomposition with positive diagonal of R would have.
    q[diagonal, diagonal] = -np.copysign(1.0, first)
    for k in range((m - 1) // _BLOCK * _BLOCK, -1, -_BLOCK):
        part = v[k:, k : k + _BLOCK]
        t = _triangle(part, tau[k : k + _BLOCK])
        q[k:, k:] -= _product(part, _product(t, _product(part.T, q[k:, k:])))
    return q if rows >= columns else np.ascontiguousarray(q.T)
