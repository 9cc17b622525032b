"""Complex and float8 tensors, which are made of float32 and float64 draws.

Statistical bounds are five standard errors, with fixed seeds; a new seed would fail with probability 6e-7.
"""

import math
import sys

import numpy as np
import pytest

from fastinit import (
    Constant,
    DeltaOrthogonal,
    GlorotUniform,
    HeNormal,
    Identity,
    Key,
    Orthogonal,
    PerGate,
    RandomNormal,
    Sparse,
    Times,
    TruncatedNormal,
    VarianceScaling,
    _core,
    fill_many,
    get,
    normal,
    truncated_normal,
    uniform,
)
from fastinit._common.dtypes import rounded
from fastinit.initializers import LogUniform

SHAPE = (300, 200)
DRAWN = [HeNormal(), GlorotUniform(), VarianceScaling(), TruncatedNormal(1.0, 0.5, -1.0, 3.0), RandomNormal(2.0, 3.0)]


@pytest.mark.parametrize("initializer", DRAWN, ids=repr)
def test_the_variance_of_complex_numbers_is_the_stated_one(initializer):
    z = initializer(SHAPE, "complex128", key=Key(5))
    deviations = np.abs(z - z.mean()) ** 2
    error = deviations.std() / math.sqrt(z.size)
    assert abs(deviations.mean() - initializer.variance(SHAPE)) < 5 * error
    # Half of it in the real and half in the imaginary part, and these are independent.
    real, imaginary = z.real - z.real.mean(), z.imag - z.imag.mean()
    for part in (real, imaginary):
        assert abs((part**2).mean() - initializer.variance(SHAPE) / 2) < 5 * (part**2).std() / math.sqrt(z.size)
    product = real * imaginary
    assert abs(product.mean()) < 5 * product.std() / math.sqrt(z.size)


def test_complex_parts_are_planes_of_the_stream():
    z = normal((100,), 2.0, 3.0, key=Key(7), dtype="complex64")
    assert z.dtype == np.complex64
    root = 3 * 0.7071067811865476
    assert np.array_equal(z.real, normal((100,), 2.0, root, key=Key(7)))
    imaginary = np.empty(100, np.float32)
    _core.fill(imaginary, _core.LAWS.index("normal"), 0, (0.0, root), 7, 0, 0, 1, 2)
    assert np.array_equal(z.imag, imaginary)
    u = uniform((10_000,), 1.0, 3.0, key=Key(7), dtype="complex64")
    assert abs(u.real - 2).max() <= 0.7071068
    assert abs(u.imag).max() <= 0.7071068
    # complex64 is complex128 in lower precision.
    assert np.allclose(z, normal((100,), 2.0, 3.0, key=Key(7), dtype="complex128"), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize(
    "initializer",
    [*DRAWN, Identity(2.0), Constant(0.5), Times("he_normal", 0.5), PerGate(["he_normal", "zeros"]), Sparse(20),
     Orthogonal(0.5), Times(Orthogonal(), 2.0), PerGate(["orthogonal", Sparse(sparsity=0.9)])],
    ids=repr,
)
def test_complex_shards_shapes_and_memory(initializer, dtype):
    whole = initializer(SHAPE, dtype, key=Key(3))
    assert (whole.dtype, whole.shape) == (dtype, SHAPE)
    for piece in (np.s_[3], np.s_[::-7, 2:9], np.s_[4:4]):
        assert np.array_equal(initializer.shard(SHAPE, piece, dtype=dtype, key=Key(3)), whole[piece])
    out = np.empty(SHAPE, dtype)
    assert initializer(SHAPE, dtype, key=Key(3), out=out) is out
    assert np.array_equal(out, whole)
    with pytest.raises(ValueError, match="out: expected dtype"):
        initializer(SHAPE, dtype, out=np.empty(SHAPE, np.float64))
    assert initializer((0, 4), dtype).shape == (0, 4)


@pytest.mark.parametrize("initializer", [LogUniform(), Times(LogUniform(), 2.0)], ids=repr)
def test_initializers_without_complex_values_refuse_complex_dtypes(initializer):
    with pytest.raises(ValueError, match="dtype: expected a real one for"):
        initializer((9, 9), "complex64")
    with pytest.raises(ValueError, match="dtype: expected a real one for"):
        initializer.shard((9, 9), 0, dtype="complex64")


def test_complex_sparse_matrices():
    z = Sparse(20, std=0.5)(SHAPE, "complex128", key=Key(3))
    assert (np.count_nonzero(z, axis=0) == 20).all()
    # The non-zero elements are where those of the real matrix are, with E|z|^2 = std^2; the variance of all is k std^2 / rows.
    assert np.array_equal(z != 0, Sparse(20, std=0.5)(SHAPE, "float64", key=Key(3)) != 0)
    assert np.array_equal(z[z != 0], normal(SHAPE, 0.0, 0.5, key=Key(3), dtype="complex128")[z != 0])
    squares = np.abs(z[z != 0]) ** 2
    assert abs(squares.mean() - 0.25) < 5 * squares.std() / math.sqrt(squares.size)
    assert Sparse(20, std=0.5).variance(SHAPE) == pytest.approx(0.25 * 20 / 300)


FLOAT8 = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3", "float8_e3m4", "float8_e4m3b11fnuz", "float8_e5m2fnuz"]


@pytest.mark.parametrize("name", FLOAT8)
@pytest.mark.parametrize("initializer", [*DRAWN, Orthogonal(), Constant(0.3), Sparse(3, std=0.5)], ids=repr)
def test_float8_is_the_rounding_of_float32(initializer, name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = getattr(ml_dtypes, name, None)
    if kind is None:
        pytest.skip(f"this ml_dtypes has no {name}")
    small = initializer(SHAPE, kind, key=Key(1))
    assert small.dtype == kind
    largest = float(ml_dtypes.finfo(kind).max)
    expected = np.clip(initializer(SHAPE, key=Key(1)), -largest, largest).astype(kind).astype(np.float64)
    values = small.astype(np.float64)
    assert np.isfinite(values).all()
    low, high = initializer.bounds(SHAPE)
    moved = values != expected
    assert ((expected[moved] < low) | (expected[moved] >= high)).all()
    assert (values >= low).all() or (values[values < low] == expected[values < low]).all()
    assert np.array_equal(initializer.shard(SHAPE, np.s_[2:5, ::3], dtype=kind, key=Key(1)), small[2:5, ::3])
    bits = np.empty(SHAPE, np.uint8)
    initializer(SHAPE, name, key=Key(1), out=bits)
    assert np.array_equal(bits, small.view(np.uint8))


def test_float8_stays_inside_bounds_and_range():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = ml_dtypes.float8_e4m3fn
    u = uniform((10_000,), 0.0, 1.0, key=Key(0), dtype=kind).astype(np.float64)
    assert (u.min() >= 0, u.max()) == (True, 0.9375)  # the largest below 1
    t = truncated_normal((10_000,), 0.0, 1.0, -1.03, 1.03, key=Key(0), dtype=kind).astype(np.float64)
    assert np.abs(t).max() == 1.0
    n = normal((10_000,), 0.0, 400.0, key=Key(0), dtype=kind).astype(np.float64)
    assert np.abs(n).max() == 448
    with pytest.raises(ValueError, match="expected one with numbers between the bounds"):
        uniform((3,), 1.01, 1.02, key=Key(0), dtype=kind)
    with pytest.raises(ValueError, match="in the range of float8_e4m3fn"):
        normal((3,), 500.0, 1.0, key=Key(0), dtype=kind)


BEYOND = [
    Constant(1e39), Constant(np.array([1.0, -1e39])), Identity(1e39), Orthogonal(1e39), Orthogonal(3e38, spectral=True),
    DeltaOrthogonal(1e39), Times("ones", 1e39), Times(Constant(1e30), 1e30), PerGate(["ones", Constant(1e39)]),
]  # fmt: skip


@pytest.mark.parametrize("initializer", BEYOND, ids=repr)
def test_no_value_becomes_infinite(initializer):
    shape = (1, 2, 2) if isinstance(initializer, DeltaOrthogonal) else (2, 32)
    if isinstance(initializer, Constant) and np.ndim(initializer.value):
        shape = (2,)
    for dtype in ("float32", "float16", "complex64"):
        out = np.full(shape, 7, dtype)
        for call in (lambda out: initializer(shape, out.dtype, out=out), lambda out: fill_many([(out, initializer, None)])):
            with pytest.raises(ValueError, match=r"expected values of magnitude (3\.40|65504).* got -?(inf|\d\S*e\+3\d)$"):
                call(out)
        with pytest.raises(ValueError, match="expected values of magnitude"):
            initializer.shard(shape, np.s_[0:2], dtype=dtype)
        assert (out == 7).all()
    assert np.isfinite(initializer(shape, "float64")).all()


def test_values_at_the_end_of_the_range():
    # What rounds to a finite number stays, as 65519 does in float16; 65520 would not.
    assert Constant(65519.0)((1,), "float16") == 65504
    for call in (
        lambda: Constant(-65520.0)((3,), "float16"),
        lambda: PerGate(["ones", Constant(65520.0)])((4,), "float16"),
        lambda: Sparse(2, std=6e5)((2, 2), "float16", key=Key(0)),
    ):
        with pytest.raises(ValueError, match=r"magnitude 65504\.0 at most, the largest float16, got -?\d+"):
            call()
    assert Constant(3.4028235e38)((1,)) == np.finfo(np.float32).max
    assert Constant(1e5)((0, 3), "float16").shape == (0, 3)
    assert np.isinf(get(lambda shape, dtype: np.full(shape, np.inf))((3,))).all()  # a user's function may return infinities


def test_fixed_tensors_beyond_the_range_of_float8_are_refused():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(ValueError, match=r"Constant: .* 448\.0 at most, the largest float8_e4m3fn, got 449\.0"):
        Constant(449.0)((3,), ml_dtypes.float8_e4m3fn)
    with pytest.raises(ValueError, match="the largest bfloat16"):
        Constant(3.4e38)((3,), ml_dtypes.bfloat16)
    assert (Constant(448.0)((3,), ml_dtypes.float8_e4m3fn).astype(np.float32) == 448).all()


def test_many_arrays_of_every_dtype():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    initializers = [HeNormal(), GlorotUniform(), Identity(2.0), Times("he_normal", 0.5)]
    dtypes = [np.float32, np.complex64, np.complex128, ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16]
    jobs = [(np.zeros((30, 20), dtype), one, Key(1) / i) for i, one in enumerate(initializers) for dtype in dtypes]
    fill_many(jobs)
    for out, one, key in jobs:
        assert np.array_equal(out, one((30, 20), out.dtype, key=key))
    first, second = np.full((4, 4), 7.0), np.zeros((4, 4), np.complex64)
    with pytest.raises(ValueError, match="dtype: expected a real one for LogUniform"):
        fill_many([(first, "he_normal", Key(0)), (second, LogUniform(), Key(0))])
    assert (first == 7).all()


def test_names_of_dtypes():
    with pytest.raises(ValueError, match=r"dtype: expected one of float32, .*float8_e5m2.*, got 'int8'"):
        normal(3, key=Key(0), dtype="int8")


def test_rounding_to_bfloat16_is_that_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    # Every sign, exponent and upper half of the fraction, each with lower halves that are ties, next to ties, and 0.
    bits = (np.arange(1 << 16, dtype=np.uint32) << 16)[:, None] | np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    values = np.concatenate([bits.ravel(), uniform(10**5, 0, 2**32, key=Key(0), dtype="float64").astype(np.uint32)])
    values = values.view(np.float32)
    before = values.view(np.uint32).copy()
    with np.errstate(invalid="ignore"):
        expected = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(rounded(values, "bfloat16"), expected)
    np.testing.assert_array_equal(values.view(np.uint32), before)
    for number in (1.0, -np.inf, np.nan, 3.4e38, 1e300):
        with np.errstate(over="ignore"):
            assert rounded(np.array(number), "bfloat16") == np.float32(number).astype(ml_dtypes.bfloat16).view(np.uint16)


@pytest.mark.parametrize(
    "initializer",
    [*DRAWN, Orthogonal(), Constant(0.3), Sparse(3, std=0.5), Identity(0.1), Times("orthogonal", 0.3), LogUniform(), get("zeros"),
     PerGate(["he_normal", "ones"]), get(lambda shape, dtype: np.full(shape, 0.1))],
    ids=lambda initializer: type(initializer).__name__,
)  # fmt: skip
def test_the_bits_of_bfloat16_need_no_other_package(initializer, monkeypatch):
    pytest.importorskip("ml_dtypes")
    expected = initializer(SHAPE, "bfloat16", key=Key(1)).view(np.uint16)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    whole, part, one = np.empty(SHAPE, np.uint16), np.empty((5, 200), np.uint16), np.empty(SHAPE, np.uint16)
    assert initializer(SHAPE, "bfloat16", key=Key(1), out=whole) is whole
    initializer.shard(SHAPE, np.s_[5:10], dtype="bfloat16", key=Key(1), out=part)
    fill_many([(one, initializer, Key(1))])
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(part, expected[5:10])
    np.testing.assert_array_equal(one, expected)


def test_errors_without_ml_dtypes_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match=r"dtype bfloat16: expected the package ml_dtypes .* pass a uint16 array as out="):
        Constant(1.0)((2, 2), "bfloat16")
    message = r"dtype float8_e4m3fn: expected the package ml_dtypes \(.*\), which is not installed$"
    for out in (None, np.empty((2, 2), np.uint8)):
        for initializer in (Constant(1.0), HeNormal()):
            with pytest.raises(ImportError, match=message):
                initializer((2, 2), "float8_e4m3fn", out=out)
    with pytest.raises(ValueError, match="the largest bfloat16"):
        Constant(3.4e38)((3,), "bfloat16", out=np.empty(3, np.uint16))

    def needs_more(shape, dtype):
        raise ImportError("more is needed")

    with pytest.raises(ImportError, match=r"jobs\[1\]: more is needed"):
        fill_many([(np.empty(3), "zeros", None), (np.empty(3), needs_more, None)])


def test_the_error_when_memory_runs_out():
    for initializer, dtype in ((RandomNormal(), "float64"), (Constant(1.0), "float32")):
        message = rf"shape: expected \d{{19}} bytes of memory for shape \({2**58},\) in {dtype}, got none"
        with pytest.raises(MemoryError, match=message):
            initializer(2**58, dtype)


@pytest.mark.parametrize(("dtype", "unit"), [("float32", 4), ("float64", 8), ("float16", 2), ("bfloat16", 2), ("complex64", 4)])
def test_misaligned_memory_is_refused(dtype, unit):
    size = 6 * 2 * unit if dtype.startswith("complex") else 6 * unit
    message = rf"out: expected memory whose address is a multiple of {unit}, the size of a .*, got 0x"
    for initializer in (HeNormal(), Identity()):
        memory = bytearray(b"\7" * (size + unit))
        with pytest.raises(ValueError, match=message):
            initializer((2, 3), dtype, out=memoryview(memory)[1 : size + 1])
        assert set(memory) == {7}
        initializer((2, 3), dtype, out=memoryview(memory)[unit:])
