# SPDX-License-Identifier: BSD-3-Clause
"""fill_many: it has the values of single calls, checks all jobs before it writes, and needs no memory besides its output."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import fastinit
from fastinit import Key, fill_many

KINDS = [
    "he_normal", "glorot_uniform", "lecun_normal", "truncated_normal", "zeros", "ones", "identity", "orthogonal",
    fastinit.Constant(0.1), fastinit.TruncatedNormal(0.5, 2.0, 3.0, 5.0), fastinit.RandomUniform(-1, 3, seed=4),
]  # fmt: skip
DTYPES = ["float32", "float64", "float16", ml_dtypes.bfloat16, "uint16"]


def jobs():
    shapes = [(64, 64), (130, 7), (5, 5, 3, 8), (1, 1), (0, 4), (300, 1000)]
    for number, (kind, dtype) in enumerate((k, d) for k in KINDS for d in DTYPES):
        out = np.full(shapes[number % len(shapes)], 7, dtype=dtype)
        yield out, kind, Key(3) / f"{number}.weight"


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_values_of_single_calls(threads):
    model = list(jobs())
    with fastinit.num_threads(threads):
        assert fill_many(iter(model)) is None
    for out, kind, key in model:
        dtype = ml_dtypes.bfloat16 if out.dtype == np.uint16 else out.dtype
        expected = fastinit.get(kind)(out.shape, dtype, key=key)
        np.testing.assert_array_equal(out.view(dtype), expected)


def test_seeds_of_the_initializers():
    a, b = np.empty((8, 8), "float32"), np.empty((8, 8), "float32")
    fill_many([(a, fastinit.HeNormal(seed=5), None), (b, fastinit.HeNormal(), None)])
    np.testing.assert_array_equal(a, fastinit.HeNormal(seed=5)((8, 8)))
    assert not np.array_equal(a, b)


def test_no_jobs_and_empty_arrays():
    fill_many([])


@pytest.mark.parametrize(
    ("job", "error", "match"),
    [
        (lambda out: (out[::2], "he_normal", Key(0)), ValueError, "C-contiguous"),
        (lambda out: (out.astype(np.int32), "he_normal", Key(0)), ValueError, "dtype"),
        (lambda out: (out[0], "he_normal", Key(0)), ValueError, "two axes"),
        (lambda out: (out[0], "orthogonal", Key(0)), ValueError, "two axes"),
        (lambda out: (out, "he", Key(0)), ValueError, "he_normal"),
        (lambda out: (out, "he_normal", 3), TypeError, "Key"),
        (lambda out: (out.tolist(), "zeros", None), TypeError, r"jobs\[1\]: expected an array"),
        (lambda out: (out, "zeros"), TypeError, r"jobs\[1\]"),
        (lambda out: (out, fastinit.RandomUniform(1.0, 1.0 + 1e-12), Key(0)), ValueError, "interval"),
        (lambda out: (out.astype("float16"), fastinit.RandomNormal(0, 1e6), Key(0)), ValueError, "range"),
    ],
)
def test_everything_is_checked_before_anything_is_written(job, error, match):
    first, out = np.full((4, 4), 7, "float32"), np.full((4, 4), 7, "float32")
    readonly = np.full((4, 4), 7, "float32")
    readonly.flags.writeable = False
    for jobs in (
        [(first, "ones", None), job(out), (first, "ones", None)],
        [(first, "he_normal", Key(0)), job(out)],
    ):
        with pytest.raises(error, match=match):
            fill_many(jobs)
        assert (first == 7).all()
        assert (out == 7).all()
    with pytest.raises(ValueError, match="writable"):
        fill_many([(first, "he_normal", Key(0)), (readonly, "zeros", None)])
    assert (first == 7).all()


def test_an_error_names_the_job():
    out = np.empty((4, 4), "float32")
    with pytest.raises(TypeError, match=r"jobs\[1\]: expected \(out, initializer, key\), got tuple of 2"):
        fill_many([(out, "ones", None), (out, "zeros")])
    with pytest.raises(ValueError, match=r"jobs\[1\]: shape: expected at least two axes"):
        fill_many([(out, "ones", None), (out[0], "he_normal", None)])
    with pytest.raises(ValueError, match=r"jobs\[1\]: low, high: expected an interval that holds a float32 number"):
        fill_many([(out, "ones", None), (out, fastinit.RandomUniform(1.0, 1.0 + 1e-12), Key(0))])
    with pytest.raises(TypeError, match=r"jobs\[2\]: key: expected a fastinit.Key, got int"):
        fill_many([(out, "ones", None), (out, "ones", None), (out, "he_normal", 3)])


def test_arrays_that_overlap_are_refused():
    """Such as tied weights with two keys: the values would depend on which thread writes last."""
    block = np.full(100, 7, "float32")
    normal = fastinit.RandomNormal()
    for pieces in ((block, block), (block[:60], block[59:]), (block[40:50], block[:90]), (block[10:20], block[50:], block)):
        with pytest.raises(ValueError, match=r"jobs\[\d\]: expected an array of its own, got memory that jobs\[\d\] has"):
            fill_many([(piece, normal, Key(i)) for i, piece in enumerate(pieces)])
    with pytest.raises(ValueError, match=r"jobs\[3\]: expected an array of its own, got memory that jobs\[1\] has"):
        fill_many([(p, "zeros", None) for p in (block[90:], block[30:60], block[:30], block[59:90])])
    assert (block == 7).all()
    fill_many([(block[30:], "ones", None), (block[:30], "zeros", None), (block[5:5], normal, None)])
    assert block.sum() == 70


PEAK = """
import re, sys
import numpy as np
import fastinit

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10

def run(outs):
    kinds = ("he_normal", "glorot_uniform")
    fastinit.fill_many([(out, kind, fastinit.Key(0)) for out, kind in zip(outs, kinds, strict=True)])
    fastinit.HeNormal(seed=0)(outs[0].shape, outs[0].dtype, out=outs[0])
    picks = np.s_[5:21, : outs[1].shape[1]]
    fastinit.HeNormal(seed=0).shard((1 << 20, 1 << 20), picks, dtype=outs[1].dtype, out=outs[1])

fastinit.set_num_threads(4)
run([np.ones((16, 1 << 16)) for _ in range(2)])
outs = [np.ones((16, 1 << 20)) for _ in range(2)]
before = peak()
run(outs)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_peak_memory_is_the_output_and_a_megabyte_a_thread():
    """256 MiB of output: one temporary array of any of them would be 128."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 4 << 20, done.stdout
