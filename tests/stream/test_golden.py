# SPDX-License-Identifier: BSD-3-Clause
"""The same bits for every instruction set, number of threads, alignment and part of a tensor, by golden hashes."""


import golden
import numpy as np
import pytest

from fastinit import _core

ROWS = golden.read()
LONG = [(row, sha) for row, sha in ROWS if row.count > 500_000]


def differing(rows, **how):
    return [str(row) for row, sha in rows if golden.digest(row.values(**how)) != sha]


def test_file_is_complete():
    """All rows are in the file: an empty file would test nothing."""
    assert [str(row) for row, _ in ROWS] == [str(row) for row in golden.rows()]
    assert {row.law for row, _ in ROWS} == set(_core.LAWS)
    assert {row.dtype for row, _ in ROWS} == set(_core.DTYPES)
    assert len({sha for _, sha in ROWS}) == len(ROWS)


def test_every_instruction_set(each_isa):
    assert differing(ROWS) == []


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_every_thread_count(each_isa, threads):
    assert min(row.count * golden.ITEM[row.dtype]().itemsize for row, _ in LONG) >= 7 << 20
    assert differing(LONG, threads=threads) == []


def test_every_alignment(each_isa):
    """Memory that begins at any multiple of the item size within two cache lines."""
    for row in (row for row, _ in ROWS if row.count < 20_000):
        expected = row.values(count=300)
        size = expected.itemsize
        memory = np.zeros(expected.nbytes + 256, np.uint8)
        for shift in range(0, 128, size):
            start = -memory.ctypes.data % 64 + shift
            memory[:] = 0xA5
            piece = memory[start : start + expected.nbytes].view(expected.dtype)
            row.fill(piece)
            np.testing.assert_array_equal(piece, expected, str(row))
            assert (memory[:start] == 0xA5).all()
            assert (memory[start + expected.nbytes :] == 0xA5).all()


@pytest.mark.parametrize("power", range(10))
def test_parts_of_every_size(each_isa, power):
    """2^k - 1, 2^k and 2^k + 1 elements, from several positions, equal that part of the whole tensor."""
    for row in (row for row, _ in ROWS if row.count < 20_000):
        whole = row.values(count=2_000)
        for count in {2**power - 1, 2**power, 2**power + 1}:
            for skip in (0, 1, 15, 16, 63, 64, 100, 129):
                piece = row.values(skip, count)
                np.testing.assert_array_equal(piece, whole[skip : skip + count], str(row))


def test_strided_blocks(each_isa):
    """A slice with steps along every axis, forwards and backwards, equals those elements of the whole tensor."""
    shape = (13, 17, 130)
    for row in (row for row, _ in ROWS if row.count < 20_000):
        whole = row.values(count=13 * 17 * 130).reshape(shape)
        piece = whole[11:2:-2, 3::5, 129::-3]
        out = np.empty(piece.shape, piece.dtype)
        _core.fill_block(
            out, _core.LAWS.index(row.law), _core.DTYPES.index(row.dtype), row.parameters,
            row.seed, row.stream, row.first + (11 * 17 + 3) * 130 + 129,
            list(piece.shape), [-2 * 17 * 130, 5 * 130, -3], 2,
        )  # fmt: skip
        np.testing.assert_array_equal(out, piece, str(row))


@pytest.mark.parametrize("threads", [1, 3])
def test_many_tensors_in_one_launch(each_isa, threads):
    """Work is divided between threads in the middle of tensors of all laws and dtypes, without changing any value."""
    outputs = [np.empty(row.count, golden.ITEM[row.dtype]) for row, _ in ROWS]
    jobs = [
        (
            out, _core.LAWS.index(row.law), _core.DTYPES.index(row.dtype), row.parameters,
            row.seed, row.stream, row.first,
        )
        for out, (row, _) in zip(outputs, ROWS, strict=True)
    ]  # fmt: skip
    _core.fill_many(jobs, threads)
    pairs = zip(outputs, ROWS, strict=True)
    assert [str(row) for out, (row, sha) in pairs if golden.digest(out) != sha] == []


def test_the_words_of_the_benchmark(each_isa):
    """words_xor is the exclusive-or of the first words, whose number is rounded up to a multiple of 128."""
    words = golden.Row("words", "float32", (), 9, 0, 0, 128 * 25).values()
    for count in (1, 64, 65, 128, 129, 128 * 24 + 1):
        rounded = -(-count // 128) * 128
        assert _core.words_xor(9, count) == np.bitwise_xor.reduce(words[:rounded])
