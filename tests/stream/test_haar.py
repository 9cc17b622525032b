"""Orthogonal and unitary matrices: orthonormal up to rounding, Haar distributed, and always the same bits."""

import hashlib
import math

import numpy as np
import pytest
from initializer_laws import kolmogorov_smirnov

from fastinit import DeltaOrthogonal, Key, Orthogonal, Times, _core, normal, num_threads
from fastinit._stream.haar import haar

SHAPES = [(1, 1), (2, 2), (63, 63), (64, 64), (65, 65), (129, 127), (300, 40), (40, 300), (200, 1), (1, 200)]
LARGEST_ERROR = {"float32": 2e-6, "float64": 2e-14, "complex64": 2e-6, "complex128": 2e-14}


def gram_error(q):
    q = q.astype(np.result_type(q, np.float64))
    q = q if q.shape[0] >= q.shape[1] else q.T
    return np.abs(q.conj().T @ q - np.eye(q.shape[1])).max()


@pytest.mark.parametrize("dtype", LARGEST_ERROR)
@pytest.mark.parametrize("shape", [*SHAPES, (700, 650)])
def test_orthonormal_to_rounding(shape, dtype):
    assert gram_error(haar(*shape, Key(5), dtype=dtype)) < LARGEST_ERROR[dtype]


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", LARGEST_ERROR)
def test_orthonormal_at_four_thousand_rows(dtype):
    assert gram_error(haar(4096, 4096, Key(5), dtype=dtype)) < LARGEST_ERROR[dtype]


def normals(shape, key, dtype):
    """Standard normals; for complex numbers real and imaginary parts from planes 0 and 2."""
    real = normal(shape, key=key, dtype="float64")
    if np.dtype(dtype).kind == "f":
        return real
    imaginary = np.empty(shape)
    _core.fill(imaginary, _core.LAWS.index("normal"), 1, (0.0, 1.0), key.seed, key.stream, plane=2)
    return real + 1j * imaginary


def by_definition(n, m, key, dtype):
    """H_0 H_1 ... H_{m-1} D, one reflection after the other (docs/stream.md, section 6)."""
    x = np.tril(normals((n, m), key, dtype))
    q = np.zeros_like(x)
    for j in range(m - 1, -1, -1):
        v = x[:, j].copy()
        phase = v[j] / abs(v[j])
        q[j, j] = -phase
        v[j] += phase * np.linalg.norm(v)
        q -= np.outer(v, v.conj() @ q) * (2 / np.vdot(v, v).real)
    return q


@pytest.mark.parametrize(("single", "double"), [("float32", "float64"), ("complex64", "complex128")])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 5), (33, 32), (64, 64), (150, 131)])
def test_the_definition(n, m, single, double):
    expected = by_definition(n, m, Key(3) / "layer", double)
    assert np.abs(haar(n, m, Key(3) / "layer", dtype=double) - expected).max() < 1e-14
    assert np.abs(haar(n, m, Key(3) / "layer", dtype=single) - expected).max() < 2e-6
    if n != m:  # a wide matrix is the transpose of the tall one
        wide = haar(m, n, Key(3) / "layer", dtype=double)
        assert np.array_equal(wide, haar(n, m, Key(3) / "layer", dtype=double).T)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_first_column_is_the_first_column_of_normals(dtype):
    # As in a QR decomposition in which R has a positive diagonal, so that Q is Haar distributed.
    x = normals((50, 50), Key(1), dtype)[:, 0]
    assert np.allclose(haar(50, 50, Key(1), dtype=dtype)[:, 0], x / np.linalg.norm(x), rtol=0, atol=1e-15)


# SHA-256 of the shapes below in both precisions: any other value is another stream version, or a bug.
GOLDEN = {
    ("float32", "float64"): "3249002d685d15e727383bd4507305603dacefcb3c7c5819ea555b00686d477e",
    ("complex64", "complex128"): "385c2ba2bdea104874fa1f2c537eee503da6b084f676d2a75c20ceeaf153227a",
}


@pytest.mark.parametrize("dtypes", GOLDEN, ids="-".join)
def test_bits_of_every_instruction_set_and_thread_count(dtypes):
    shapes = [*SHAPES, (500, 450)]
    try:
        for isa in _core.available_isas():
            _core.set_isa(isa)
            for threads in (1, 2, 5):
                with num_threads(threads):
                    made = [
                        haar(*shape, Key(7), dtype=dtype).tobytes()
                        for shape in shapes
                        for dtype in dtypes
                    ]
                assert hashlib.sha256(b"".join(made)).hexdigest() == GOLDEN[dtypes], (isa, threads)
    finally:
        _core.set_isa("")


@pytest.mark.parametrize("dtype", LARGEST_ERROR)
@pytest.mark.parametrize("shape", [(150, 140), (140, 150)])
def test_some_columns_have_the_bits_of_the_whole_matrix(shape, dtype):
    whole = haar(*shape, Key(9), dtype=dtype)
    for first, count in ((0, 1), (139, 1), (0, 140), (3, 70), (64, 64), (65, 3), (40, 0)):
        part = haar(*shape, Key(9), dtype=dtype, first=first, count=count)
        expected = whole[:, first : first + count] if shape[0] >= shape[1] else whole[first : first + count]
        assert np.array_equal(part, expected)


# 20,000 matrices of order 8: E tr Q = 0, E (tr Q)^2 = 1, E (tr Q)^4 = 3, E tr(Q^2) = 1, each within five standard errors
# (false alarm 6e-7); the largest of 64 element means and mean squares within 5.5 (2.4e-6). QR without the sign fix
# has E tr Q = -1.59.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_traces_have_the_moments_of_haar_measure(dtype):
    q = np.stack([haar(8, 8, Key(11) / i, dtype=dtype) for i in range(20_000)]).astype(np.float64)
    trace = np.trace(q, axis1=1, axis2=2)
    second = np.trace(q @ q, axis1=1, axis2=2)
    for sample, expected in ((trace, 0), (trace**2, 1), (trace**4, 3), (second, 1)):
        error = sample.std() / math.sqrt(sample.size)
        assert abs(sample.mean() - expected) < 5 * error
        assert error < 0.1
    # Each element has mean 0 and variance 1/8, and each half of the determinants each sign.
    assert np.abs(q.mean(axis=0)).max() < 5.5 * math.sqrt(1 / 8 / 20_000)
    assert np.abs((q**2).mean(axis=0) - 1 / 8).max() < 5.5 * math.sqrt(2 / 64 / 20_000)
    positive = np.count_nonzero(np.linalg.det(q) > 0)
    assert abs(positive - 10_000) < 5 * math.sqrt(5_000)


# 20,000 unitary matrices of order 6. Up to order 6 the moments of tr U^k are those of a complex normal of variance k (Diaconis
# & Shahshahani, "On the eigenvalues of random matrices", 1994): E tr U^k = E (tr U^k)^2 = 0, E |tr U^k|^2 = k,
# E |tr U^k|^4 = 2 k^2. Each of 13 numbers is within five standard errors (false alarm 6e-7 each).
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_traces_of_unitary_matrices_have_the_moments_of_haar_measure(dtype):
    u = np.stack([haar(6, 6, Key(12) / i, dtype=dtype) for i in range(20_000)]).astype(complex)
    expected = []
    for k, trace in ((1, np.trace(u, axis1=1, axis2=2)), (2, np.trace(u @ u, axis1=1, axis2=2))):
        modulus = np.abs(trace)
        expected += [(trace.real, 0), (trace.imag, 0), (modulus**2, k), (modulus**4, 2 * k * k)]
        expected += [((trace**2).real, 0), ((trace**2).imag, 0)]
    determinants = np.linalg.det(u)
    expected.append((determinants.real, 0))
    for sample, mean in expected:
        error = sample.std() / math.sqrt(sample.size)
        assert abs(sample.mean() - mean) < 5 * error
        assert error < 0.2
    # Elements: mean 0 and E |u|^2 = 1/6; |u|^2 is a beta variable of variance 5 / (36 * 7). 5.5 standard errors: 1.4e-6 for 36.
    assert np.abs(u.mean(axis=0)).max() < 5.5 * math.sqrt(1 / 6 / 20_000)
    assert np.abs((np.abs(u) ** 2).mean(axis=0) - 1 / 6).max() < 5.5 * math.sqrt(5 / 252 / 20_000)
    # One eigenvalue of each matrix, any of them, and the determinant have uniform angles; Kolmogorov's test, false alarm 1e-6.
    first = np.linalg.eigvals(u)[np.arange(20_000), np.arange(20_000) % 6]
    for numbers in (first, determinants):
        kolmogorov_smirnov(np.angle(numbers), lambda angle: angle / (2 * math.pi) + 0.5)


# One element of each of 4,000 matrices of order 4, any of the 16: a coordinate of a uniform point of a sphere in 4 dimensions,
# in 8 where it is complex. Kolmogorov's test, false alarm 1e-6 each.
@pytest.mark.parametrize("dtype", LARGEST_ERROR)
def test_elements_are_coordinates_of_points_of_a_sphere(dtype):
    q = np.stack([haar(4, 4, Key(13) / i, dtype=dtype).ravel()[i % 16] for i in range(4_000)])
    if q.dtype.kind == "f":
        kolmogorov_smirnov(q, lambda x: 0.5 + (x * np.sqrt(1 - x * x) + np.arcsin(x)) / math.pi)
        return
    kolmogorov_smirnov(np.abs(q) ** 2, lambda s: 1 - (1 - s) ** 3)
    kolmogorov_smirnov(np.angle(q), lambda angle: angle / (2 * math.pi) + 0.5)


def test_complex_tensors():
    """Everything that is made from a unitary matrix: layouts, shards, scaled matrices, convolution kernels."""
    u = Orthogonal(1.5, "oi")((40, 3, 5), "complex64", key=Key(1))
    assert (u.dtype, u.shape) == (np.complex64, (40, 3, 5))
    assert gram_error(u.reshape(40, 15) / 1.5) < 2e-6
    assert np.mean(np.abs(u) ** 2) == pytest.approx(Orthogonal(1.5, "oi").variance(u.shape), rel=1e-5)
    for index in (np.s_[1:3], np.s_[..., 1], np.s_[2:0:-1, 1, 1:], np.s_[:, 2:2]):
        part = Orthogonal(1.5, "oi").shard(u.shape, index, dtype="complex64", key=Key(1))
        assert np.array_equal(part, u[index])
    w = Orthogonal(spectral=True)((30, 120), "complex128", key=Key(1))
    assert np.linalg.svd(w, compute_uv=False) == pytest.approx(np.full(30, 2.0), rel=1e-13)
    kernel = DeltaOrthogonal(1.5)((3, 5, 6, 9), "complex128", key=Key(4))
    assert np.count_nonzero(kernel) == 54
    assert gram_error(kernel[1, 2] / 1.5) < 1e-14
    assert np.array_equal(DeltaOrthogonal(1.5).shard(kernel.shape, 1, dtype="complex128", key=Key(4)), kernel[1])
    out = np.empty((9, 9), np.complex64)
    assert Orthogonal()((9, 9), "complex64", key=Key(1), out=out) is out
    assert gram_error(out) < 2e-6
    assert np.array_equal(Times(Orthogonal(), 2.0)((9, 9), "complex64", key=Key(1)), 2 * out)
    assert Orthogonal()((0, 9), "complex64").shape == (0, 9)


def test_16_bit_dtypes_are_rounded_once():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    single = Orthogonal(1.5)((60, 50), key=Key(2))
    for dtype in (np.float16, ml_dtypes.bfloat16):
        assert np.array_equal(
            Orthogonal(1.5)((60, 50), dtype, key=Key(2)).view(np.uint16), single.astype(dtype).view(np.uint16)
        )


@pytest.mark.parametrize("layout", ["io", "oi"])
@pytest.mark.parametrize("shape", [(3, 5, 8, 60), (60, 8, 5, 3), (6, 7, 8)])
def test_convolution_kernels_are_reshaped_matrices(shape, layout):
    initializer = Orthogonal(2.0, layout)
    whole = initializer(shape, "float64", key=Key(1))
    flat = whole.reshape(-1, shape[-1]) if layout == "io" else whole.reshape(shape[0], -1)
    assert gram_error(flat / 2) < 1e-14
    assert initializer.variance(shape) == pytest.approx(4 / max(flat.shape))
    for index in (np.s_[1:3], np.s_[..., 1], np.s_[0, ::-2], np.s_[2:0:-1, 1, 1:], np.s_[:, 2:2]):
        part = initializer.shard(shape, index, dtype="float64", key=Key(1))
        assert part.shape == whole[index].shape
        assert np.array_equal(part, whole[index])


@pytest.mark.parametrize(("layout", "shape"), [("io", (30, 120)), ("oi", (120, 30)), ("io", (120, 30)), ("oi", (30, 120))])
def test_spectral_norm_of_unit_mean_squares(layout, shape):
    w = Orthogonal(layout=layout, spectral=True)(shape, "float64", key=Key(1))
    inputs, outputs = shape if layout == "io" else shape[::-1]
    norms = np.linalg.svd(w, compute_uv=False)
    assert norms == pytest.approx(np.full(30, math.sqrt(outputs / inputs)), rel=1e-13)


def test_delta_orthogonal_is_an_isometry_of_every_frequency():
    kernel = DeltaOrthogonal(1.5)((3, 5, 6, 9), "float64", key=Key(4))
    assert np.count_nonzero(kernel) == 54
    assert gram_error(kernel[1, 2] / 1.5) < 1e-14
    assert np.mean(kernel**2) == pytest.approx(DeltaOrthogonal(1.5).variance(kernel.shape))
    turned = DeltaOrthogonal(1.5, "oi")((9, 6, 3, 5), "float64", key=Key(4))
    assert np.array_equal(turned[:, :, 1, 2], kernel[1, 2].T)
    with pytest.raises(ValueError, match="no more input channels"):
        DeltaOrthogonal()((3, 9, 6))
    with pytest.raises(ValueError, match="three to five axes"):
        DeltaOrthogonal()((9, 6))


def test_options():
    with pytest.raises(ValueError, match="layout: expected one of io, oi"):
        Orthogonal(layout="hwio")
    with pytest.raises(TypeError, match="spectral: expected a bool"):
        Orthogonal(spectral=1)
