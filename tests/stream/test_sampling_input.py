# SPDX-License-Identifier: BSD-3-Clause
"""Arguments of the sampling functions; every error names what was expected and what it got."""

import ctypes

import numpy as np
import pytest

import fastinit
from fastinit import (
    HeNormal,
    Key,
    RandomUniform,
    _core,
    get_num_threads,
    normal,
    num_threads,
    set_num_threads,
    truncated_normal,
    uniform,
)

NAN, INFINITY = float("nan"), float("inf")
KEY = Key(0)
LAWS = {"uniform": uniform, "normal": normal, "truncated_normal": truncated_normal}
RAW = {"float32": np.uint32, "float64": np.uint64, "float16": np.uint16, "bfloat16": np.uint16}


def memory(dtype="float32", shape=(3, 4)):
    """An output array filled with a marker."""
    out = np.full(shape, 77, np.uint16 if dtype == "bfloat16" else dtype)
    return out


# ---- parameters ----------------------------------------------------------------------------------

# arguments after the shape, error, message
UNIFORM = [
    ({"low": 1.0, "high": 1.0}, ValueError, r"expected low < high, got low=1\.0, high=1\.0"),
    ({"low": 2, "high": -2}, ValueError, r"expected low < high, got low=2\.0, high=-2\.0"),
    ({"low": NAN}, ValueError, "low: expected a finite number, got nan"),
    ({"high": NAN}, ValueError, "high: expected a finite number, got nan"),
    ({"low": -INFINITY}, ValueError, "low: expected a finite number, got -inf"),
    ({"high": INFINITY}, ValueError, "high: expected a finite number, got inf"),
    ({"high": 1e39}, ValueError, r"high: expected a number in the range of float32, got 1e\+39"),
    ({"high": 65536.0, "dtype": "float16"}, ValueError, r"high: .* range of float16, got 65536\.0"),
    ({"low": 1.0, "high": 1.00000001}, ValueError, r"holds a float32 number; got \[1\.0, 1\.00000001\)"),
    ({"low": 1.0001, "high": 1.0002, "dtype": "float16"}, ValueError, "holds a float16 number; got"),
    ({"low": "0"}, TypeError, "low: expected a real number, got '0'"),
    ({"low": None}, TypeError, "low: expected a real number, got NoneType"),
    ({"low": 1j}, TypeError, "low: expected a real number, got 1j"),
    ({"high": [1.0]}, TypeError, r"high: expected a real number, got \[1\.0\]"),
    ({"high": np.ones(2)}, TypeError, "high: expected a real number, got"),
]
NORMAL = [
    ({"std": -1.0}, ValueError, r"std: expected a number >= 0, got -1\.0"),
    ({"std": -1e-300}, ValueError, "std: expected a number >= 0, got -1e-300"),
    ({"std": NAN}, ValueError, "std: expected a finite number, got nan"),
    ({"std": INFINITY}, ValueError, "std: expected a finite number, got inf"),
    ({"mean": NAN}, ValueError, "mean: expected a finite number, got nan"),
    ({"mean": -INFINITY}, ValueError, "mean: expected a finite number, got -inf"),
    ({"mean": 1e39}, ValueError, r"mean: .* range of float32, got 1e\+39"),
    ({"std": 70000, "dtype": "float16"}, ValueError, "std: .* range of float16, got 70000"),
    ({"mean": b"1"}, TypeError, "mean: expected a real number, got b'1'"),
    ({"std": "1"}, TypeError, "std: expected a real number, got '1'"),
]
TRUNCATED = [
    *NORMAL,
    ({"lower": 2.0, "upper": 2.0}, ValueError, r"expected lower < upper, got lower=2\.0, upper=2\.0"),
    ({"lower": 3.0}, ValueError, r"expected lower < upper, got lower=3\.0, upper=2\.0"),
    ({"lower": INFINITY, "upper": INFINITY}, ValueError, "expected lower < upper, got lower=inf"),
    ({"lower": NAN}, ValueError, "lower: expected a finite number, got nan"),
    ({"upper": NAN}, ValueError, "upper: expected a finite number, got nan"),
    ({"lower": 37.0, "upper": 38.0}, ValueError, r"less than 36 standard deviations out.*\[37\.0, 38\.0\]"),
    ({"lower": -INFINITY, "upper": -37.0}, ValueError, r"36 standard deviations.*\[-inf, -37\.0\]"),
    ({"upper": "2"}, TypeError, "upper: expected a real number, got '2'"),
]
COMMON = [
    ({"dtype": "float8"}, ValueError, "dtype: expected one of float32, .*bfloat16, .*got 'float8'"),
    ({"dtype": "int32"}, ValueError, "dtype: expected one of float32.*got 'int32'"),
    ({"dtype": np.bool_}, ValueError, "dtype: expected one of float32.*got 'bool'"),
    ({"dtype": ">f4"}, ValueError, "dtype: expected one of float32.*got '>f4'"),
    ({"dtype": 3.5}, TypeError, r"dtype: expected one of float32.*got 3\.5"),
    ({"key": None}, TypeError, r"key: expected a fastinit\.Key, got NoneType"),
    ({"key": 5}, TypeError, r"key: expected a fastinit\.Key, got int; Key\(5\) makes one"),
]
CASES = [
    (law, change, error, message)
    for law, rows in (("uniform", UNIFORM), ("normal", NORMAL), ("truncated_normal", TRUNCATED))
    for change, error, message in [*rows, *COMMON]
]


@pytest.mark.parametrize(("law", "change", "error", "message"), CASES)
def test_bad_parameters_are_refused_and_nothing_is_written(law, change, error, message):
    out = memory(change["dtype"] if change.get("dtype") == "float16" else "float32")
    with pytest.raises(error, match=message):
        LAWS[law](out.shape, **{"key": KEY, "out": out, **change})
    assert (out == 77).all()
    with pytest.raises(error, match=message):
        LAWS[law](out.shape, **{"key": KEY, **change})


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (-1, ValueError, r"shape: expected sizes >= 0, got \(-1,\)"),
        ((3, -4), ValueError, r"shape: expected sizes >= 0, got \(3, -4\)"),
        ((2.0, 3), TypeError, r"shape: expected an int or a sequence of ints, got \(2\.0, 3\)"),
        (2.5, TypeError, r"shape: expected an int or a sequence of ints, got 2\.5"),
        ("34", TypeError, "shape: expected an int or a sequence of ints, got '34'"),
        (None, TypeError, "shape: expected an int or a sequence of ints, got None"),
        (((3,), 4), TypeError, "shape: expected an int or a sequence of ints, got"),
        ((1,) * 65, ValueError, "shape: expected at most 64 axes, got 65"),
        ((2**30, 2**29), ValueError, r"shape: expected at most 2\*\*58 elements, got 576460752303423488"),
    ],
)
@pytest.mark.parametrize("law", LAWS)
def test_bad_shapes_are_refused(law, shape, error, message):
    with pytest.raises(error, match=message):
        LAWS[law](shape, key=KEY)


def test_the_key_is_required():
    for function in LAWS.values():
        with pytest.raises(TypeError, match="key"):
            function((3, 4))


# ---- out -----------------------------------------------------------------------------------------


def read_only():
    out = memory()
    out.flags.writeable = False
    return out


def misaligned(dtype=np.float32):
    return np.frombuffer(bytearray(12 * 4 + 1), np.uint8)[1:].view(dtype).reshape(3, 4)


# an output that is refused for shape (3, 4) in float32, error, message
BAD_OUT = [
    (lambda: np.zeros((4, 3), np.float32), ValueError, r"out: expected shape \(3, 4\), got \(4, 3\)"),
    (lambda: np.zeros(12, np.float32), ValueError, r"out: expected shape \(3, 4\), got \(12,\)"),
    (lambda: np.zeros((3, 4)), ValueError, "out: expected dtype float32, got float64"),
    (lambda: np.zeros((3, 4), np.int32), ValueError, "out: expected dtype float32, got int32"),
    (lambda: np.zeros((3, 4), np.uint16), ValueError, "out: expected dtype float32, got uint16"),
    (lambda: np.zeros((3, 4), ">f4"), ValueError, "out: expected native byte order, got >f4"),
    (lambda: np.zeros((4, 3), np.float32).T, ValueError, "out: expected a C-contiguous array, got .* strides"),
    (lambda: np.zeros((3, 8), np.float32)[:, ::2], ValueError, "out: expected a C-contiguous array"),
    (lambda: np.zeros((3, 4), np.float32)[::-1], ValueError, "out: expected a C-contiguous array"),
    (read_only, ValueError, "out: expected a writable array, got a read-only one"),
    (misaligned, ValueError, "out: expected memory aligned to float32, got an unaligned array"),
    (lambda: bytes(48), ValueError, "out: expected a writable buffer, got a read-only one"),
    (lambda: bytearray(47), ValueError, r"out: expected 48 bytes for shape \(3, 4\) in float32, got 47"),
    (lambda: bytearray(96), ValueError, r"out: expected 48 bytes for shape \(3, 4\) in float32, got 96"),
    (lambda: memoryview(bytearray(96))[::2], ValueError, "out: expected a C-contiguous buffer, got a strided"),
    (lambda: memoryview(bytearray(49))[1:], ValueError, r"out: expected memory whose address is a multiple of 4, "),
    (lambda: memoryview(bytearray(48)).cast("i"), ValueError, "out: expected a buffer of bytes or of float32, got"),
    (lambda: [0.0] * 12, TypeError, "out: expected an array or a writable buffer, got list"),
    (lambda: 3, TypeError, "out: expected an array or a writable buffer, got int"),
]


def content(out):
    """The contents of an output, or the object itself if it has no memory."""
    if isinstance(out, np.ndarray):
        return out.tolist()
    return bytes(out) if isinstance(out, (bytes, bytearray, memoryview)) else out


@pytest.mark.parametrize(("make", "error", "message"), BAD_OUT)
@pytest.mark.parametrize("law", LAWS)
def test_bad_outputs_are_refused_and_nothing_is_written(law, make, error, message):
    out = make()
    before = content(out)
    with pytest.raises(error, match=message):
        LAWS[law]((3, 4), key=KEY, out=out)
    assert content(out) == before


@pytest.mark.parametrize(("make", "error", "message"), BAD_OUT)
@pytest.mark.parametrize("initializer", [HeNormal(), RandomUniform()])
def test_bad_outputs_of_shards_are_refused(initializer, make, error, message):
    out = make()
    before = content(out)
    with pytest.raises(error, match=message):
        initializer.shard((9, 8), np.s_[::3, 4:], key=KEY, out=out)
    assert content(out) == before


@pytest.mark.parametrize("dtype", _core.DTYPES)
@pytest.mark.parametrize("law", LAWS)
def test_outputs_of_every_kind(law, dtype, tmp_path):
    """Arrays, memory-mapped files, bytes and views: the same bits, and the object that was passed is returned."""
    pytest.importorskip("ml_dtypes") if dtype == "bfloat16" else None
    raw = RAW[dtype]
    expected = LAWS[law]((3, 41), key=KEY, dtype=dtype).view(raw)
    nbytes = expected.nbytes
    outputs = [
        np.empty((3, 41), raw if dtype == "bfloat16" else dtype),
        np.memmap(tmp_path / "weights", raw if dtype == "bfloat16" else dtype, "w+", shape=(3, 41)),
        bytearray(nbytes),
        memoryview(bytearray(nbytes)),
        memoryview(bytearray(nbytes + 64))[64:],
        memoryview(bytearray(nbytes)).cast({"float32": "f", "float64": "d"}.get(dtype, "B")),
        (ctypes.c_double * expected.size if dtype == "float64" else ctypes.c_float * (nbytes // 4) if dtype == "float32"
         else ctypes.c_uint8 * nbytes)(),
    ]  # fmt: skip
    if dtype == "bfloat16":
        import ml_dtypes

        outputs.append(np.empty((3, 41), ml_dtypes.bfloat16))
    for out in outputs:
        assert LAWS[law]((3, 41), key=KEY, dtype=dtype, out=out) is out
        view = out.view(raw) if isinstance(out, np.ndarray) else np.frombuffer(out, raw).reshape(3, 41)
        np.testing.assert_array_equal(view, expected)
    outputs[1].flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "weights", raw), expected.ravel())


def test_a_numpy_array_of_bytes_has_the_wrong_dtype():
    """The dtype of an array must be the right one; a plain buffer of bytes is accepted."""
    with pytest.raises(ValueError, match="out: expected dtype float32, got uint8"):
        normal((3, 4), key=KEY, out=np.empty((3, 16), np.uint8))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", [0, (), (0, 5), (3, 0, 2), (1, 1, 1), [3, 4], np.array([3, 4]), np.int64(5)])
def test_shapes_of_every_kind(law, shape):
    expected = (int(shape),) if np.ndim(shape) == 0 and not isinstance(shape, tuple) else tuple(shape)
    x = LAWS[law](shape, key=KEY)
    assert x.shape == expected
    assert x.dtype == np.float32
    # An element is the same whatever the shape.
    np.testing.assert_array_equal(x.ravel(), LAWS[law](60, key=KEY)[: x.size])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_std_of_0_gives_the_mean(dtype):
    """Also where 0 times an infinite bound would be NaN."""
    for mean in (0.0, 1.5):
        for bounds in [(-2, 2), (-INFINITY, INFINITY), (0, INFINITY), (-INFINITY, 5), (5.25, 8), (7, INFINITY)]:
            x = truncated_normal((5, 30), mean, 0.0, *bounds, key=KEY, dtype=dtype)
            assert (x == mean).all()
        x = normal((5, 30), mean, 0, key=KEY, dtype=dtype)
        assert (x == mean).all()
        assert not np.signbit(x).any()


def test_numbers_of_every_kind():
    """Parameters may be ints, NumPy numbers of any precision and arrays without axes."""
    expected = normal(50, 1.0, 2.0, key=KEY)
    for kind in (int, np.float32, np.float16, np.int8, np.float64, np.array):
        np.testing.assert_array_equal(normal(50, kind(1), kind(2), key=KEY), expected)


def test_bfloat16_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match="expected the package ml_dtypes"):
        normal((3, 4), key=KEY, dtype="bfloat16")
    out = np.zeros((3, 4), np.uint16)
    assert normal((3, 4), key=KEY, dtype="bfloat16", out=out) is out
    assert len(np.unique(out)) > 6


# ---- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["seed", "stream"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1, ValueError, r"expected an int in \[0, 2\*\*64\), got -1"),
        (2**64, ValueError, r"expected an int in \[0, 2\*\*64\), got 18446744073709551616"),
        (1.0, TypeError, r"expected an int in \[0, 2\*\*64\), got float 1\.0"),
        ("1", TypeError, r"expected an int in \[0, 2\*\*64\), got str '1'"),
        (True, TypeError, r"expected an int in \[0, 2\*\*64\), got bool True"),
        (None, TypeError, r"expected an int in \[0, 2\*\*64\), got NoneType None"),
    ],
)
def test_bad_keys_are_refused(field, value, error, message):
    with pytest.raises(error, match=f"{field}: {message}"):
        Key(**{"seed": 0, field: value})


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (-1, ValueError, r"key / name: expected an int in \[0, 2\*\*64\), got -1"),
        (2**64, ValueError, r"key / name: expected an int in"),
        (1.5, TypeError, r"key / name: expected an int in \[0, 2\*\*64\), got float 1\.5"),
        (b"a", TypeError, r"key / name: expected an int in \[0, 2\*\*64\), got bytes b'a'"),
        (None, TypeError, "key / name: expected an int in"),
        (True, TypeError, "key / name: expected an int in .* got bool True"),
    ],
)
def test_bad_names_of_children_are_refused(name, error, message):
    with pytest.raises(error, match=message):
        KEY / name


def test_keys_are_values():
    assert Key(3) == Key(3, 0) != Key(3, 1)
    assert len({Key(3), Key(3, 0), Key(4)}) == 2
    assert eval(repr(Key(3, 7))) == Key(3, 7)
    assert Key(np.uint64(3)) == Key(3)
    assert type(Key(np.uint64(3)).seed) is int
    with pytest.raises(AttributeError):
        KEY.seed = 1
    assert Key.from_entropy() != Key.from_entropy()


# ---- shards --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (9, IndexError, r"index: expected an int in \[-9, 9\) for axis 0, got 9"),
        ((0, -9), IndexError, r"index: expected an int in \[-8, 8\) for axis 1, got -9"),
        ((0, 0, 0), IndexError, r"index: expected at most 2 entries for shape \(9, 8\), got 3"),
        ((..., 0, ...), IndexError, "index: expected at most one ellipsis, got 2"),
        (1.5, TypeError, "index: expected ints and slices, got float for axis 0"),
        ((0, "a"), TypeError, "index: expected ints and slices, got str for axis 1"),
        (True, TypeError, "index: expected ints and slices, got bool for axis 0"),
        (None, TypeError, "index: expected ints and slices, got NoneType for axis 0"),
        ([0, 1], TypeError, "index: expected ints and slices, got list for axis 0"),
    ],
)
def test_bad_indices_are_refused(index, error, message):
    with pytest.raises(error, match=message):
        HeNormal().shard((9, 8), index, key=KEY)


# ---- threads and instruction sets ----------------------------------------------------------------


BAD_THREADS = [
    (0, ValueError, "expected an int >= 1, got 0"),
    (-3, ValueError, "expected an int >= 1, got -3"),
    (1.5, TypeError, r"expected an int >= 1, got float 1\.5"),
    ("2", TypeError, "expected an int >= 1, got str '2'"),
    (None, TypeError, "expected an int >= 1, got NoneType None"),
    (True, TypeError, "expected an int >= 1, got bool True"),
]


@pytest.mark.parametrize(("n", "error", "message"), BAD_THREADS)
def test_bad_numbers_of_threads_are_refused(n, error, message):
    before = get_num_threads()
    with pytest.raises(error, match=f"set_num_threads: {message}"):
        set_num_threads(n)
    with pytest.raises(error, match=f"num_threads: {message}"), num_threads(n):
        pass
    assert get_num_threads() == before


def test_num_threads_can_be_nested():
    before = get_num_threads()
    try:
        set_num_threads(5)
        with num_threads(3):
            assert get_num_threads() == 3
            with num_threads(2):
                assert get_num_threads() == 2
            set_num_threads(7)
            assert get_num_threads() == 3
        assert get_num_threads() == 7
        with pytest.raises(ZeroDivisionError), num_threads(2):
            raise ZeroDivisionError
        assert get_num_threads() == 7
        set_num_threads(10**6)
        assert get_num_threads() == 256
    finally:
        set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("sse9", ValueError, "instruction set: expected one of scalar.*; got unknown 'sse9'"),
        ("AVX2", ValueError, "instruction set: expected one of scalar.*; got unknown 'AVX2'"),
        (None, TypeError, "instruction set: expected a str, got NoneType"),
        (2, TypeError, "instruction set: expected a str, got int"),
    ],
)
def test_bad_instruction_sets_are_refused(name, error, message):
    before = _core.isa()
    with pytest.raises(error, match=message):
        _core.set_isa(name)
    assert _core.isa() == before


def test_an_instruction_set_of_another_machine_is_refused():
    foreign = next(n for n in ("neon", "avx512", "avx2") if n not in _core.available_isas())
    with pytest.raises(ValueError, match=f"'{foreign}' is not available on this CPU; available are scalar"):
        _core.set_isa(foreign)


def test_show_config(capsys):
    fastinit.show_config()
    printed = capsys.readouterr().out
    for text in (fastinit.__version__, _core.isa(), _core.COMPILER, ", ".join(_core.available_isas())):
        assert text in printed
    assert f"{'stream version:':<24}{fastinit.STREAM_VERSION}" in printed


@pytest.mark.parametrize("shape", [True, (True, 2), [2, False], {2}, {}, "", b"\x02", "12", 2.0, (2.0,), None])
def test_bad_shapes(shape: object) -> None:
    with pytest.raises(TypeError, match="shape: expected an int or a sequence of ints, got"):
        fastinit.uniform(shape, key=fastinit.Key(0))


@pytest.mark.parametrize("shape", [3, (3,), [3], np.int64(3), np.array([3]), (np.int32(3),)])
def test_good_shapes(shape: object) -> None:
    assert fastinit.uniform(shape, key=fastinit.Key(0)).shape == (3,)


@pytest.mark.parametrize(
    ("std", "error"), [(True, TypeError), (np.complex64(1), TypeError), (10**400, ValueError), ("1", TypeError)]
)
def test_bad_numbers(std: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="std: expected a"):
        fastinit.normal(3, std=std, key=fastinit.Key(0))
    with pytest.raises(error, match="std: expected a"):
        fastinit.RandomNormal(std=std)


def test_a_dtype_of_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"dtype: expected one of float32, .*got None"):
        fastinit.normal(3, key=fastinit.Key(0), dtype=None)
    with pytest.raises(ValueError, match="key / name: expected a str that UTF-8 can encode"):
        fastinit.Key(0) / "\ud800"
