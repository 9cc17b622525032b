# SPDX-License-Identifier: BSD-3-Clause
"""Shards: parts of a tensor by any index, and of tensors that no machine could hold.

Golden hashes test whole tensors. Here every element of a shard is drawn separately by the binding's `fill`, from the
flat index that Python computes.
"""

import itertools
import tracemalloc

import numpy as np
import pytest

from fastinit import Key, _core
from fastinit.initializers import GlorotUniform, HeNormal, LeCunNormal, RandomNormal, TruncatedNormal

KEY = Key(11) / "shards"
HUGE = (1 << 20, 1 << 20)
LARGEST = (1 << 29, 1 << 29)  # 2^58 elements, the stream's last: 2^60 bytes

PIECES = [
    np.s_[-1],
    np.s_[3, -2],
    np.s_[-1, -1],
    np.s_[::-1],
    np.s_[::-1, ::-1],
    np.s_[7::-3, 1:-1:2],
    np.s_[-2:1:-2, -1],
    np.s_[2:2],
    np.s_[2:5:-1],
    np.s_[100:],
    np.s_[-100:100:4, ..., 3:-100:-1],
    np.s_[..., 5],
    np.s_[np.int64(4), np.uint8(2) :],
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("initializer", [HeNormal(), GlorotUniform(), TruncatedNormal()], ids=repr)
def test_every_kind_of_index(initializer, dtype):
    """Also where rows are long enough to be drawn at once, and with fewer indices than dimensions."""
    for shape in [(9, 7), (9, 150), (9, 3, 40)]:
        whole = initializer(shape, dtype, key=KEY)
        for piece in PIECES:
            part = initializer.shard(shape, piece, dtype=dtype, key=KEY)
            assert isinstance(part, np.ndarray)
            assert (part.shape, part.dtype) == (whole[piece].shape, whole.dtype), piece
            assert np.array_equal(part, whole[piece]), piece


def test_all_slices_of_a_small_tensor():
    whole = RandomNormal()((5, 3), key=KEY)
    ends = [None, -6, -5, -2, 0, 1, 4, 5, 6]
    steps = [None, -5, -2, -1, 1, 3]
    for start, stop, step in itertools.product(ends, ends, steps):
        piece = np.s_[start:stop:step, ::-2]
        assert np.array_equal(RandomNormal().shard((5, 3), piece, key=KEY), whole[piece]), piece


def elements(initializer, shape, piece, dtype):
    """The shard, each element drawn separately at its flat index, with the fans of the whole shape."""
    law, parameters = initializer._law(shape)
    axes = [range(n)[p] if isinstance(p, slice) else p for n, p in zip(shape, piece, strict=True)]
    ranges = [[axis] if isinstance(axis, int) else axis for axis in axes]
    values = []
    for index in itertools.product(*ranges):
        flat = 0
        for i, n in zip(index, shape, strict=True):
            flat = flat * n + i % n
        one = np.empty(1, dtype)
        _core.fill(one, _core.LAWS.index(law), _core.DTYPES.index(dtype), parameters, KEY.seed, KEY.stream, flat)
        values.append(one[0])
    return np.array(values, dtype).reshape([len(axis) for axis in axes if not isinstance(axis, int)])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [HUGE, LARGEST, (1 << 19, 4, 1 << 37)], ids=str)
@pytest.mark.parametrize("initializer", [LeCunNormal(), GlorotUniform()], ids=repr)
def test_a_few_elements_of_a_tensor_that_no_machine_holds(initializer, shape, dtype):
    last, middle = shape[-1], (2,) * (len(shape) - 2)
    for rows, columns in [
        (slice(-2, None), slice(-5, None)),
        (slice(5, 1, -2), slice(last - 1, None, -(last // 3))),
        (slice(None, None, -(shape[0] // 2)), slice(last // 2 - 40, last // 2 + 40)),
        (-1, -1),
        (0, slice(0, 3)),
        (slice(3, 3), slice(None)),
    ]:
        piece = (rows, *middle, columns)
        if rows == slice(3, 3):
            assert initializer.shard(shape, piece, key=KEY, dtype=dtype).shape == (0, last)
            continue
        expected = elements(initializer, shape, piece, dtype)
        assert np.array_equal(initializer.shard(shape, piece, key=KEY, dtype=dtype), expected), piece


def test_fans_are_those_of_the_whole_tensor():
    piece = HeNormal().shard(HUGE, np.s_[:100, :100], key=KEY)
    std = np.sqrt(2 / HUGE[0])
    # 10^4 values: the variance's standard error is 1.4 %; false alarm 6e-7. A fan of 100 would be 100 times off.
    assert abs(piece.var() / std**2 - 1) < 5 * np.sqrt(2 / piece.size)


@pytest.mark.parametrize("picks", [np.s_[7:1007, :256], np.s_[::-(1 << 10), ::-(1 << 12)]], ids=["runs", "steps"])
def test_memory_depends_only_on_the_size_of_the_shard(picks):
    """Counts NumPy's allocations; the kernels allocate nothing (test_fill_many)."""
    sizes = []
    tracemalloc.start()
    try:
        for shape in [HUGE, (HUGE[0], 1 << 38)]:
            columns = picks[1] if picks[1].step is None else slice(None, None, -(shape[1] >> 8))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            piece = HeNormal().shard(shape, (picks[0], columns), key=KEY)
            sizes.append(tracemalloc.get_traced_memory()[1] - before)
            assert piece.nbytes <= sizes[-1] < piece.nbytes + 20_000
    finally:
        tracemalloc.stop()
    assert abs(sizes[0] - sizes[1]) < 2_000


@pytest.mark.parametrize(
    ("counts", "strides", "law"),
    [([], [], 1), ([4], [], 1), ([2] * 65, [1] * 65, 1), ([2**62, 4, 4], [1, 1, 1], 1), ([4], [1], 4), ([4], [1], -1)],
)
def test_the_binding_refuses_blocks_larger_than_the_output(counts, strides, law):
    """The product of the counts may overflow 64 bits, and too many axes would be written beyond the arrays of the binding."""
    out = np.zeros(4, "float32")
    with pytest.raises(ValueError, match="expected"):
        _core.fill_block(out, law, 0, (0.0, 1.0), 0, 0, 0, counts, strides)
    assert not out.any()
