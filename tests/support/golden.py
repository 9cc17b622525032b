# SPDX-License-Identifier: BSD-3-Clause
"""The rows of golden.txt: SHA-256 of random tensors, the same on every machine.

A changed hash is a bug, or needs a new stream version.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from places import VECTORS

from fastinit import _core

GOLDEN = VECTORS / "golden.txt"
ITEM = {"float32": np.uint32, "float64": np.uint64, "float16": np.uint16, "bfloat16": np.uint16}
INFINITY = float("inf")


@dataclass(frozen=True)
class Row:
    """A range of elements of a random tensor."""

    law: str
    dtype: str
    parameters: tuple[float, ...]
    seed: int
    stream: int
    first: int
    count: int

    def __str__(self):
        numbers = ",".join(map(repr, self.parameters)) or "-"
        place = f"{self.seed:#x} {self.stream:#x} {self.first:#x} {self.count}"
        return f"{self.law} {self.dtype} {numbers} {place}"

    @classmethod
    def parse(cls, text):
        law, dtype, numbers, seed, stream, first, count = text.split()
        parameters = () if numbers == "-" else tuple(map(float, numbers.split(",")))
        return cls(law, dtype, parameters, int(seed, 0), int(stream, 0), int(first, 0), int(count))

    def fill(self, out, skip=0, threads=1):
        """Fill `out` with the elements of the range from number `skip` on."""
        _core.fill(
            out, _core.LAWS.index(self.law), _core.DTYPES.index(self.dtype), self.parameters,
            self.seed, self.stream, self.first + skip, threads,
        )  # fmt: skip

    def values(self, skip=0, count=None, threads=1):
        """The bit patterns of `count` elements of the range from number `skip` on; all by default."""
        out = np.empty(self.count - skip if count is None else count, ITEM[self.dtype])
        self.fill(out, skip, threads)
        return out


def digest(values):
    """SHA-256 of bit patterns as little-endian bytes."""
    return hashlib.sha256(values.astype(values.dtype.newbyteorder("<"), copy=False)).hexdigest()


def read():
    """The rows of golden.txt and their hashes."""
    lines = [line for line in GOLDEN.read_text("ascii").splitlines() if line and line[0] != "#"]
    return [(Row.parse(text), sha) for text, sha in (line.rsplit(" ", 1) for line in lines)]


def rows():
    """Rows with small and large seeds and streams, and ranges that begin and end inside a tile of 64 elements."""
    child = 0xF436E2F51C1967A3
    yield Row("words", "float32", (), 0, 0, 0, 100_003)
    yield Row("words", "float32", (), 2**64 - 1, 2**64 - 1, 2**58 - 10_007, 10_007)
    # Counter word 1 changes here, after 2^32 blocks of four elements.
    yield Row("words", "float32", (), 1, 2, 2**34 - 5_001, 10_007)
    laws = {
        "uniform": [(0.0, 1.0), (-0.1, 0.1), (1.0, 1.0625), (-3e30, 2e-30)],
        "normal": [(0.0, 1.0), (0.0, 0.02), (-3.0, 0.25)],
        "truncated_normal": [
            (0.0, 1.0, -2.0, 2.0),
            (0.1, 0.02, -2.0, 2.0),
            (0.0, 1.0, 0.0, INFINITY),
            (0.0, 1.0, 5.25, 8.0),
            (0.0, 1.0, -INFINITY, -6.0),
            (0.0, 1.0, 2.0, 2.0001),
            (0.0, 1.0, -1.0, 0.5),
            (0.0, 1.0, -8.0, 9.0),
            # Narrow bounds: polynomials of few and many terms, in the uniform number and in a logarithm, and float32's double
            # precision.
            (0.0, 1e8, -2e-8, 2e-8),
            (0.0, 1.0, 1.5, 1.99),
            (-7.0, 1.0, -30.4, -29.9),
        ],
    }
    for law, choices in laws.items():
        for dtype in ("float32", "float64", "float16", "bfloat16"):
            for i, parameters in enumerate(choices):
                if dtype == "float16" and 3e30 in map(abs, parameters):
                    continue  # beyond its range
                if "float16" in dtype and 2.0001 in parameters:
                    continue  # only one number lies between the bounds
                # From element 0 and from inside a tile; seeds and streams of one 32-bit word and of two.
                yield Row(law, dtype, parameters, i, 0, 0, 100_003)
                yield Row(law, dtype, parameters, 2026, child, 2**40 + 5 + i, 10_007 + i)
            # Long enough for seven threads, one for each MiB.
            count = 8_000_003 // np.dtype(ITEM[dtype]).itemsize
            yield Row(law, dtype, choices[0], 0xDEADBEEF12345678, 7, 0, count)


def lines():
    """The lines of golden.txt: law, dtype, parameters, seed, stream, first, count, SHA-256 of little-endian values."""
    for row in rows():
        yield f"{row} {digest(row.values())}"
