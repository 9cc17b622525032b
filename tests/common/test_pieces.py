# SPDX-License-Identifier: BSD-3-Clause
"""Work on large arrays in pieces gives the same as on the whole array; here a piece has only a few elements."""

import numpy as np
import pytest

import fastinit
from fastinit import Key
from fastinit._common import checks, dtypes, pieces
from fastinit._common.pieces import in_pieces
from fastinit._stream import draw
from fastinit.initializers import structured

KEY = Key(11)
ROW = np.arange(6.0)
ARRAYS = {
    "contiguous": np.arange(60.0).reshape(5, 12),
    "transposed": np.arange(60.0).reshape(12, 5).T,
    "strided": np.arange(120.0).reshape(5, 24)[:, ::2],
    "one number": np.broadcast_to(3.0, (5, 12)),
    "repeated rows": np.broadcast_to(ROW, (9, 6)),
    "repeated columns": np.broadcast_to(ROW[:, None], (6, 9)),
    "no axis": np.array(2.0),
    "nothing": np.empty((0, 4)),
}


@pytest.fixture
def small(monkeypatch):
    for module in (pieces, draw, structured):
        monkeypatch.setattr(module, "AT_ONCE", 7)


@pytest.mark.parametrize("name", ARRAYS)
def test_pieces_are_all_elements_once(name, small):
    values = ARRAYS[name]
    target = np.full(values.shape, np.nan)
    sizes = []
    for piece, to in in_pieces(values, target):
        assert piece.shape == to.shape
        assert np.isnan(to).all()
        to[...] = piece
        sizes.append(piece.size)
    np.testing.assert_array_equal(target, values)
    assert sum(sizes) == values.size
    assert max(sizes, default=0) <= 12  # 7, or one row


CASES = [
    ("zeros", "float32"), ("identity", "bfloat16"), ("hadamard", "float64"), ("log_uniform", "float32"), ("normal", "complex64"),
    ("random_uniform", "complex128"), ("mamba_dt_bias", "float16"), ("orthogonal", "bfloat16"), ("orthogonal", "complex64"),
    (fastinit.Sparse(nonzero=3), "float32"), (fastinit.Sparse(sparsity=0.5), "complex64"), (fastinit.Constant(ROW), "float16"),
    (fastinit.Times("orthogonal", 0.3), "float64"), ("truncated_normal", "float8_e5m2"), ("random_uniform", "float8_e4m3fn"),
]  # fmt: skip


@pytest.mark.parametrize(("initializer", "dtype"), CASES, ids=str)
def test_tensors_are_the_same(initializer, dtype, request):
    if dtype.startswith(("float8", "bfloat16")):
        pytest.importorskip("ml_dtypes")
    made = fastinit.get("random_normal" if initializer == "normal" else initializer)
    shape = (5, 6)
    whole = made(shape, dtype, key=KEY)
    part = made.shard(shape, np.s_[1:, ::2], key=KEY, dtype=dtype)
    assert whole.tobytes().strip(b"\0") or initializer == "zeros"
    request.getfixturevalue("small")
    assert made(shape, dtype, key=KEY).tobytes() == whole.tobytes()
    assert made(shape, dtype, key=KEY, out=np.empty_like(whole)).tobytes() == whole.tobytes()
    assert made.shard(shape, np.s_[1:, ::2], key=KEY, dtype=dtype).tobytes() == part.tobytes()


@pytest.mark.parametrize("place", [0, 6, 7, 29])
def test_a_nan_is_found_in_any_piece(place, small):
    values = np.zeros(30)
    values[place] = np.nan
    with pytest.raises(ValueError, match="expected no NaN, got 1"):
        checks.no_nan("x", values)
    with pytest.raises(ValueError, match=r"expected values of magnitude .* got nan"):
        dtypes.check_range(values, "float32", "x")
    values[place] = -1e39
    with pytest.raises(ValueError, match="the largest float32, got -1e"):
        dtypes.check_range(values, "float32", "x")
