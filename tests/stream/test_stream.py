# SPDX-License-Identifier: BSD-3-Clause
"""The stream against its specification: kernels against reference.py and against published values."""

from pathlib import Path

import mpmath
import numpy as np
import pytest
import reference

import fastinit
from fastinit import Key, _core

VECTORS = Path(__file__).parents[1] / "vectors"
INFINITY = float("inf")
# Positions in a tensor: the beginning, inside a tile, around the carry into counter word 1, the end.
PLACES = [(0, 0, 0), (2**64 - 1, 2**32, 2**34 - 300), (1 << 32, 7, 37), (5, 2**64 - 1, 2**58 - 600)]


def rows(file, kind=None):
    """The fields of a file of check values."""
    lines = (VECTORS / file).read_text("ascii").splitlines()
    fields = [line.split() for line in lines if line and not line.startswith("#")]
    chosen = [f[1:] for f in fields if f[0] == kind] if kind else fields
    assert chosen
    return chosen


def draw(law, dtype, parameters, seed, stream, first, count, *, plane=0):
    """A range of elements of a tensor by the current kernels; bfloat16 as uint16."""
    kind = "u4" if law == "words" else "u2" if dtype == "bfloat16" else dtype
    out = np.empty(count, kind)
    codes = _core.LAWS.index(law), _core.DTYPES.index(dtype)
    _core.fill(out, *codes, parameters, seed, stream, first, 1, plane)
    return out


def assert_same_bits(found, expected):
    bits = f"u{expected.itemsize}"
    np.testing.assert_array_equal(found.view(bits), expected.view(bits))


# ---- check values --------------------------------------------------------------------------------


def test_philox_known_answers():
    for row in rows("philox.txt"):
        numbers = [int(field, 16) for field in row]
        assert list(reference.philox(numbers[:4], numbers[4:6])) == numbers[6:]


def test_children():
    for parent, name, stream in rows("stream.txt", "child"):
        child = name.strip('"') if name.startswith('"') else int(name)
        assert reference.child(int(parent, 16), child) == int(stream, 16)
        assert Key(99, int(parent, 16)) / child == Key(99, int(stream, 16))


@pytest.mark.parametrize("name", ["", "ü", "0", 0, 1, 2**64 - 1, "a" * 1000])
def test_children_of_any_name(name):
    for parent in (0, 1, 2**64 - 1):
        assert (Key(3, parent) / name).stream == reference.child(parent, name)


def test_a_number_and_its_name_are_different_children():
    streams = {(Key(0) / name).stream for name in (7, "7", "7 ", "\x07", 8)}
    assert len(streams) == 5


def test_words_of_the_specification(each_isa):
    for seed, stream, plane, element, word in rows("stream.txt", "word"):
        place = int(seed), int(stream, 16), int(element)
        assert reference.word(*place, int(plane)) == int(word, 16)
        found = draw("words", "float32", (), *place, 1, plane=int(plane))
        assert found[0] == int(word, 16)


def test_uniforms_of_the_specification(each_isa):
    for seed, stream, element, u in rows("stream.txt", "uniform"):
        place = int(seed), int(stream, 16), int(element)
        assert float(reference.unit_uniform(*place, 1, "float32")[0]) == float(u)
        assert float(draw("uniform", "float32", (-1.0, 1.0), *place, 1)[0]) == float(u)


def test_normals_of_the_specification(each_isa):
    for seed, stream, element, z in rows("stream.txt", "normal"):
        place, z = (int(seed), int(stream, 16), int(element)), float(z)
        exact = reference.normal_of_fraction(reference.fractions(*place, 1)[0])
        assert float(mpmath.nstr(exact, 40)) == z  # float(exact) would truncate
        for dtype, most in (("float64", 2**-49), ("float32", 4e-7)):
            found = draw("normal", dtype, (0.0, 1.0), *place, 1)[0]
            assert abs(found - z) <= most * max(1, abs(z))


# ---- kernels against the reference, bit by bit ---------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("plane", [0, 1, 2, 3, 4, 255])
def test_words(each_isa, place, plane):
    found = draw("words", "float32", (), *place, 600, plane=plane)
    np.testing.assert_array_equal(found, reference.words(*place, 600, plane))


@pytest.mark.parametrize("dtype", _core.DTYPES)
@pytest.mark.parametrize(
    "bounds",
    [
        (-1.0, 1.0),
        (0.0, 1.0),
        (-0.1, 0.3),
        (1.0, 1.0625),
        (1000.0, 1001.0),
        (0.1, 0.1004),
        (-1e-4, 6e-5),
        (-60000.0, 65504.0),
    ],
)
def test_uniforms(each_isa, dtype, bounds):
    for place in PLACES:
        found = draw("uniform", dtype, bounds, *place, 600)
        assert_same_bits(found, reference.uniform(*place, 600, dtype, *bounds))


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [
        ("float32", (-3e38, 3.4e38)),
        ("float32", (-1e-44, 3e-44)),
        ("float32", (1e-38, 1.5e-38)),
        ("float32", (1.0, 1.0000002)),
        ("float64", (-1.7e308, 1.79e308)),
        ("float64", (0.0, 5e-324)),
        ("float64", (2.0**-1022, 2.0**-1021)),
        ("float64", (1.0, 1.0000000000000004)),
        ("bfloat16", (-3.3e38, 3.3e38)),
        ("bfloat16", (1e-40, 4e-40)),
        ("float16", (-1e-7, 2e-7)),
    ],
)
def test_uniforms_at_the_ends_of_the_range(each_isa, dtype, bounds):
    for place in PLACES:
        found = draw("uniform", dtype, bounds, *place, 600)
        assert_same_bits(found, reference.uniform(*place, 600, dtype, *bounds))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("law", "parameters"),
    [
        ("normal", (0.0, 1.0)),
        ("normal", (1.0, 1e-3)),
        ("normal", (0.0, 1e-7)),
        ("normal", (0.0, 30000.0)),
        ("truncated_normal", (0.0, 1.0, -2.0, 2.0)),
        ("truncated_normal", (0.1, 0.02, -2.0, 2.0)),
        ("truncated_normal", (0.0, 0.3, -1.001, 0.777)),
        ("truncated_normal", (0.0, 1.0, 5.25, 8.0)),
        ("truncated_normal", (0.0, 1.0, -1e-6, 1e-6)),
        ("truncated_normal", (0.5, 1.0, 1.0, 1.3)),
    ],
)
def test_16_bits_are_roundings_of_float32(each_isa, dtype, law, parameters):
    bounds = {}
    if law == "truncated_normal":
        mean, std, *ends = map(np.float32, parameters)
        # float32 numbers inside the bounds, and their values in float32.
        inside = [
            e if (float(e) - exact) * side >= 0 else np.nextafter(e, np.float32(side * INFINITY))
            for e, exact, side in zip(ends, parameters[2:], (1, -1), strict=True)
        ]
        bounds = {"low": mean + std * inside[0], "high": mean + std * inside[1]}
    for place in PLACES:
        float32 = draw(law, "float32", parameters, *place, 600)
        found = draw(law, dtype, parameters, *place, 600)
        assert_same_bits(found, reference.round16(float32, dtype, **bounds))


# ---- kernels against exact quantiles -------------------------------------------------------------


def largest_error(found, exact):
    """The largest error, in units of max(1, |z|)."""
    pairs = zip(found.tolist(), exact, strict=True)
    return max(abs(mpmath.mpf(x) - z) / max(1, abs(z)) for x, z in pairs)


def within_limits(found, exact, bounds):
    pairs = zip(found.tolist(), exact, strict=True)
    dtype = str(found.dtype)
    return all(abs(mpmath.mpf(x) - z) <= reference.truncated_limit(z, *bounds, dtype) for x, z in pairs)


def test_normals_against_exact_quantiles(choose_isas):
    place = (11, 3, 2**33 + 5)
    exact = [reference.normal_of_fraction(f) for f in reference.fractions(*place, 500)]
    for _ in choose_isas():
        assert largest_error(draw("normal", "float64", (0.0, 1.0), *place, 500), exact) <= 2**-50
        assert largest_error(draw("normal", "float32", (0.0, 1.0), *place, 500), exact) <= 4e-7


@pytest.mark.parametrize(
    "bounds",
    [
        (-2.0, 2.0), (0.0, INFINITY), (5.25, 8.0), (-INFINITY, -6.0), (2.0, 2.0001), (-0.5, 6.5),
        (-INFINITY, INFINITY), (-30.0, -20.0), (0.25, 30.0), (-9.0, 1e-3), (-3.0, -2.999999),
        (34.0, 36.0),
    ],
)  # fmt: skip
def test_truncated_normals_against_exact_quantiles(choose_isas, bounds):
    place = (11, 4, 2**35 + 5)
    exact = [reference.truncated_of_fraction(f, *bounds) for f in reference.fractions(*place, 200)]
    for _ in choose_isas():
        parameters = (0.0, 1.0, *bounds)
        for dtype in ("float64", "float32"):
            found = draw("truncated_normal", dtype, parameters, *place, 200)
            assert within_limits(found, exact, bounds)
            assert ((found >= bounds[0]) & (found <= bounds[1])).all()


def test_public_functions_give_the_stream(each_isa):
    """The functions of the package pass on key, parameters and dtype."""
    key = Key(2026) / "encoder.0.weight"
    cases = {
        "uniform": (fastinit.uniform, (-0.5, 0.25)),
        "normal": (fastinit.normal, (0.5, 2.0)),
        "truncated_normal": (fastinit.truncated_normal, (0.5, 2.0, -1.0, 3.0)),
    }
    for law, (function, parameters) in cases.items():
        for dtype in ("float32", "float64", "float16"):
            expected = draw(law, dtype, parameters, key.seed, key.stream, 0, 35 * 41)
            found = function((35, 41), *parameters, key=key, dtype=dtype)
            assert found.dtype == dtype
            assert found.shape == (35, 41)
            np.testing.assert_array_equal(found.ravel(), expected)
