# cython: language_level=3, freethreading_compatible=True, binding=True, embedsignature=False
# SPDX-License-Identifier: BSD-3-Clause
"""The binding: check, pointer, one call without the GIL, raise. No loops over data, no arithmetic."""

cimport cython
from cpython.buffer cimport (
    Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pythread cimport (
    NOWAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_get_thread_ident,
    PyThread_release_lock, PyThread_type_lock,
)
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

import math
import os
import sys
import threading as _threading

from fastinit._common.checks import unmasked as _unmasked


include "_binding/watch.pxi"


cdef extern from "fastinit.h" nogil:
    ctypedef enum fi_status:
        FI_OK
        FI_ERR_ISA_UNKNOWN
        FI_ERR_ISA_UNAVAILABLE
        FI_ERR_NO_MASS
        FI_ERR_MEMORY
    ctypedef struct fi_kernels:
        pass
    ctypedef enum fi_dtype:
        pass
    ctypedef enum fi_law:
        pass
    ctypedef struct fi_key:
        uint64_t seed
        uint64_t stream
    ctypedef struct fi_dist:
        fi_law law
        unsigned plane
        double a, b, c, d
    ctypedef struct fi_plan:
        pass
    ctypedef struct fi_piece:
        const fi_plan *plan
        void *out
        uint64_t first
        uint64_t count
    ctypedef struct fi_region:
        uint64_t first
        unsigned dimensions
        uint64_t counts[64]
        int64_t strides[64]
    int FI_MAX_DIMENSIONS
    int FI_STREAM_VERSION
    int FI_PLANE_REAL, FI_PLANE_IMAGINARY, FI_PLANE_CHOICES
    const char *fi_compiler()
    fi_status fi_isa_select(const char *name)
    const fi_kernels *fi_active()
    const char *fi_isa_name()
    const char *fi_isa_available(size_t index)
    fi_status fi_plan_make(fi_plan *plan, const fi_dist *dist, fi_dtype dtype, fi_key key)
    void fi_fill(const fi_plan *plan, void *out, uint64_t first, uint64_t count, unsigned threads, fi_watch *watch)
    void fi_fill_many(const fi_piece *pieces, size_t count, unsigned threads, fi_watch *watch)
    void fi_fill_region(const fi_plan *plan, void *out, const fi_region *block, unsigned threads, fi_watch *watch)
    void fi_map(const fi_plan *plan, const uint64_t *words, void *out, size_t count)
    uint32_t fi_words_xor(fi_key key, uint64_t count)
    double fi_exponential(double x)
    double fi_logarithm(double x)
    double fi_normal_tail(double z)
    double fi_normal_quantile_tail(double p)

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define FI_FREE_THREADED 1
    #else
    #define FI_FREE_THREADED 0
    #endif
    """
    int FI_FREE_THREADED

STREAM_VERSION = FI_STREAM_VERSION
COMPILER = fi_compiler().decode()
FREE_THREADED = bool(FI_FREE_THREADED)  # a build for a Python that can do without its lock

# In the order of fi_dtype and fi_law.
DTYPES = ("float32", "float64", "float16", "bfloat16")
LAWS = ("words", "uniform", "normal", "truncated_normal")

# The first plane of real values (and real parts), of imaginary parts, and the one whose words a sparse mask compares.
PLANE_REAL = FI_PLANE_REAL
PLANE_IMAGINARY = FI_PLANE_IMAGINARY
PLANE_CHOICES = FI_PLANE_CHOICES
cdef Py_ssize_t *ITEMSIZE = [4, 8, 2, 2]

# What stands before the format of a buffer that says its order of bytes, of this machine's order.
cdef char NATIVE_ORDER = b"<"[0] if sys.byteorder == "little" else b">"[0]

# Below this many bytes a call keeps the GIL: giving it up beside a busy thread costs milliseconds.
cdef Py_ssize_t RELEASE_GIL_FROM = 1 << 20


# ---- instruction sets ---------------------------------------------------------------------

def available_isas():
    """Names of the instruction sets that this build and CPU have, narrowest first."""
    cdef list names = []
    cdef size_t i = 0
    while fi_isa_available(i) != NULL:
        names.append(fi_isa_available(i).decode())
        i += 1
    return tuple(names)


def isa():
    """Name of the instruction set in use."""
    return fi_isa_name().decode()


def set_isa(name):
    """Force an instruction set for the whole process; "" chooses the widest available one.

    For tests and benchmarks. What runs meanwhile in another thread ends with the old set or the new one, and the backward
    pass of a stack is of its forward pass's set: the bits are the same.

    Raises
    ------
    ValueError
        If `name` is unknown, or not available in this build or on this CPU.
    """
    if not isinstance(name, str):
        raise TypeError(f"instruction set: expected a str, got {type(name).__name__}")
    # What no name holds, a NUL that would end it among it, is unknown too.
    cdef bytes known = name.encode("ascii", "replace").replace(b"\0", b"?")
    cdef fi_status status = fi_isa_select(known)
    if status == FI_ERR_ISA_UNKNOWN:
        raise ValueError(
            f"instruction set: expected one of {', '.join(available_isas())}; got unknown {name!r}"
        )
    if status == FI_ERR_ISA_UNAVAILABLE:
        raise ValueError(
            f"instruction set: {name!r} is not available on this CPU; "
            f"available are {', '.join(available_isas())}"
        )


try:
    set_isa(os.environ.get("FASTINIT_ISA", ""))
except ValueError as error:
    raise ValueError(f"FASTINIT_ISA: {error}") from None


include "_binding/fpenv.pxi"

# ---- sampling -----------------------------------------------------------------------------

cdef struct Output:
    Py_buffer view
    void *data
    uint64_t count


cdef int output_open(Output *output, object out, int dtype) except -1:
    """The writable, contiguous, aligned memory of `out` as elements of a dtype."""
    PyObject_GetBuffer(out, &output.view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
    output.data = output.view.buf
    if output.view.len % ITEMSIZE[dtype] or <uintptr_t>output.view.buf % <uintptr_t>ITEMSIZE[dtype]:
        length = output.view.len
        PyBuffer_Release(&output.view)
        raise ValueError(
            f"out: expected memory aligned to and a multiple of {ITEMSIZE[dtype]} bytes "
            f"({DTYPES[dtype]}), got {length} bytes"
        )
    output.count = <uint64_t>(output.view.len // ITEMSIZE[dtype])
    return 0


cdef int plan_open(fi_plan *plan, int law, int dtype, tuple parameters, uint64_t seed,
                   uint64_t stream, unsigned plane) except -1:
    cdef fi_dist dist
    cdef fi_key key
    cdef unsigned last = 255 if law == 0 else 254  # a plane has 8 bits, and all but words take the next one too
    if not (0 <= law < len(LAWS) and 0 <= dtype < len(DTYPES) and plane <= last):
        raise ValueError(f"expected numbers of a law, a dtype and a plane, got {law}, {dtype} and {plane}")
    memset(&dist, 0, sizeof(dist))
    dist.law = <fi_law>law
    dist.plane = plane
    if law == 3:
        dist.a, dist.b, dist.c, dist.d = parameters
    elif law != 0:
        dist.a, dist.b = parameters
    key.seed = seed
    key.stream = stream
    cdef fi_status status = fi_plan_make(plan, &dist, <fi_dtype>dtype, key)
    if status == FI_ERR_NO_MASS:
        if law == 3:
            raise ValueError(
                "lower, upper: expected bounds less than 36 standard deviations out, so that the "
                f"interval has a representable probability; got [{dist.c}, {dist.d}]"
            )
        raise ValueError(
            f"low, high: expected an interval that holds a {DTYPES[dtype]} number; "
            f"got [{dist.a}, {dist.b})"
        )
    return 0


def fill(out, int law, int dtype, tuple parameters, uint64_t seed, uint64_t stream,
         uint64_t first=0, unsigned threads=1, unsigned plane=0):
    """Write elements first, first + 1, ... of a random tensor to the buffer `out`."""
    cdef Output output
    cdef fi_plan plan
    cdef fi_watch room
    cdef fi_watch *watch
    plan_open(&plan, law, dtype, parameters, seed, stream, plane)
    output_open(&output, out, dtype)
    try:
        if output.view.len < RELEASE_GIL_FROM:
            fi_fill(&plan, output.data, first, output.count, threads, NULL)
        else:
            watch = watch_begin(&room)
            with nogil:
                fi_fill(&plan, output.data, first, output.count, threads, watch)
            watch_end(watch)
    finally:
        PyBuffer_Release(&output.view)


def fill_block(out, int law, int dtype, tuple parameters, uint64_t seed, uint64_t stream,
               uint64_t first, list counts, list strides, unsigned threads=1, unsigned plane=0):
    """Write a strided block of a random tensor to `out`: element first + sum(i_k * strides[k]) at i."""
    cdef Output output
    cdef fi_plan plan
    cdef fi_region block
    cdef fi_watch room
    cdef fi_watch *watch
    elements = math.prod(counts)  # Python's, as a product in 64 bits may wrap around
    if not 0 < len(counts) <= FI_MAX_DIMENSIONS or len(counts) != len(strides):
        raise ValueError(
            f"counts, strides: expected one of each for 1 to {FI_MAX_DIMENSIONS} axes, got {len(counts)} and {len(strides)}"
        )
    block.first = first
    block.dimensions = <unsigned>len(counts)
    for k in range(block.dimensions):
        block.counts[k] = counts[k]
        block.strides[k] = strides[k]
    plan_open(&plan, law, dtype, parameters, seed, stream, plane)
    output_open(&output, out, dtype)
    if output.count != elements or elements == 0:
        PyBuffer_Release(&output.view)
        if elements == 0 and output.count == 0:
            return
        raise ValueError(f"out: expected {elements} elements, got {output.count}")
    try:
        if output.view.len < RELEASE_GIL_FROM:
            fi_fill_region(&plan, output.data, &block, threads, NULL)
        else:
            watch = watch_begin(&room)
            with nogil:
                fi_fill_region(&plan, output.data, &block, threads, watch)
            watch_end(watch)
    finally:
        PyBuffer_Release(&output.view)


def span(array):
    """Where a C-contiguous array's memory begins and ends."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS)
    begin, end = <uintptr_t>view.buf, <uintptr_t>view.buf + <uintptr_t>view.len
    PyBuffer_Release(&view)
    return begin, end


def fill_many(list jobs, unsigned threads=1):
    """One launch for many fills; each job is the tuple (out, law, dtype, parameters, seed, stream, first)."""
    cdef size_t n = <size_t>len(jobs), opened = 0, i
    cdef Py_ssize_t bytes = 0
    cdef fi_plan *plans = <fi_plan *>PyMem_Malloc((n + 1) * sizeof(fi_plan))
    cdef fi_piece *pieces = <fi_piece *>PyMem_Malloc((n + 1) * sizeof(fi_piece))
    cdef Output *outputs = <Output *>PyMem_Malloc((n + 1) * sizeof(Output))
    cdef fi_watch room
    cdef fi_watch *watch
    try:
        if plans == NULL or pieces == NULL or outputs == NULL:
            raise MemoryError
        for i in range(n):
            out, law, dtype, parameters, seed, stream, first = jobs[i]
            plan_open(&plans[i], law, dtype, parameters, seed, stream, 0)
            output_open(&outputs[i], out, dtype)
            opened += 1
            bytes += outputs[i].view.len
            pieces[i].plan = &plans[i]
            pieces[i].out = outputs[i].data
            pieces[i].first = first
            pieces[i].count = outputs[i].count
        if bytes < RELEASE_GIL_FROM:
            fi_fill_many(pieces, n, threads, NULL)
        else:
            watch = watch_begin(&room)
            with nogil:
                fi_fill_many(pieces, n, threads, watch)
            watch_end(watch)
    finally:
        for i in range(opened):
            PyBuffer_Release(&outputs[i].view)
        PyMem_Free(outputs)
        PyMem_Free(pieces)
        PyMem_Free(plans)


def map_words(words, out, int law, int dtype, tuple parameters):
    """The value of every element whose words are chosen, w_0 * 2^32 + w_1 as uint64; for tests.

    dtype: of float32 or float64.
    """
    if law == 0 or dtype > 1:
        raise ValueError(f"expected a law of values in float32 or float64, got {LAWS[law]}, {DTYPES[dtype]}")
    cdef fi_plan plan
    cdef size_t count = <size_t>words.size
    cdef _Buffers buffers = _Buffers(2)
    cdef const uint64_t *source = <const uint64_t *>buffers.open(words, 8 * count, False)
    cdef void *target = buffers.open(out, <size_t>ITEMSIZE[dtype] * count, True)
    plan_open(&plan, law, dtype, parameters, 0, 0, 0)
    with nogil:
        fi_map(&plan, source, target, count)


def words_xor(uint64_t seed, uint64_t count):
    """Exclusive-or of the first `count` words of a stream (at most 2^34): the random bits' own speed."""
    cdef fi_key key
    cdef uint32_t result
    key.seed = seed
    key.stream = 0
    with nogil:
        result = fi_words_xor(key, count)
    return result


def exponential(double x):
    """e^x for -745 <= x <= 1, in double precision."""
    return fi_exponential(x)


def logarithm(double x):
    """ln x for normal x > 0, in double precision."""
    return fi_logarithm(x)


def normal_tail(double z):
    """1 - Phi(z) of the standard normal distribution, in double precision."""
    return fi_normal_tail(z)


def normal_quantile_tail(double p):
    """-Phi^-1(p) for 2^-1022 <= p <= 1/2, in double precision."""
    return fi_normal_quantile_tail(p)


# ---- the deep stack -------------------------------------------------------------------------

cdef extern from "fastinit.h" nogil:
    ctypedef enum fi_activation:
        pass
    ctypedef struct fi_layer_statistics:
        pass
    ctypedef struct fi_stack_args:
        size_t depth, batch
        const size_t *widths
        const int *activations
        const double *parameters
        const int *residual_sources
        double alpha
        const void *const *weights
        const fi_plan *plans
        const void *const *biases
        int backward, phases
        const void *x
        const void *dy
        void *y
        void *dx
        void *const *weight_gradients
        void *const *bias_gradients
        fi_layer_statistics *statistics
        double *norms
        size_t pairs_count
        const size_t *pairs
        double *cosines
        const fi_kernels *kernels
    int FI_FORWARD, FI_BACKWARD
    const char *fi_activation_name(size_t index)
    double fi_activation_value_ulp(size_t index)
    double fi_activation_derivative_eps(size_t index)
    double fi_activation_left_ulp(size_t index)
    size_t fi_stack_workspace(const fi_stack_args *args, fi_dtype dtype, unsigned threads)
    void fi_stack_propagate(const fi_stack_args *args, fi_dtype dtype, unsigned threads, void *workspace, fi_watch *watch)
    double fi_fma_loop(fi_dtype dtype, uint64_t rounds)
    void fi_activate(fi_activation activation, double parameter, fi_dtype dtype, const void *x, void *values,
                     void *derivatives, size_t n, fi_watch *watch)

# A workspace is used again unless it exceeds four times what a call needs by more than this: fresh memory may cost as much
# as a pass, but one large batch must not hold its memory for the life of a stack.
cdef enum:
    WORKSPACE_KEPT = 16 << 20

FORWARD = FI_FORWARD
BACKWARD = FI_BACKWARD
# Numbers of a layer's statistics, in the order of fi_layer_statistics.
STATISTICS = sizeof(fi_layer_statistics) // sizeof(double)


def _activations():
    cdef list names = []
    cdef size_t i = 0
    while fi_activation_name(i) != NULL:
        names.append(fi_activation_name(i).decode())
        i += 1
    return tuple(names)


ACTIVATIONS = _activations()
# The stated largest errors, by activation: of the value in ULP, of the derivative in machine epsilons, and on the left in ULP.
VALUE_ULP = tuple([fi_activation_value_ulp(i) for i in range(len(ACTIVATIONS))])
SLOPE_EPS = tuple([fi_activation_derivative_eps(i) for i in range(len(ACTIVATIONS))])
LEFT_ULP = tuple([fi_activation_left_ulp(i) for i in range(len(ACTIVATIONS))])


cdef class _Buffers:
    """Buffers held open while the C code uses their memory."""

    cdef Py_buffer *views
    cdef size_t opened, limit

    def __cinit__(self, size_t limit):
        self.views = <Py_buffer *>PyMem_Malloc((limit + 1) * sizeof(Py_buffer))
        if self.views == NULL:
            raise MemoryError
        self.limit = limit

    def __dealloc__(self):
        for i in range(self.opened):
            PyBuffer_Release(&self.views[i])
        PyMem_Free(self.views)

    cdef void *open(self, array, size_t bytes, bint writable) except? NULL:
        """The memory of a C-contiguous array of `bytes` bytes; NULL for None."""
        if array is None:
            return NULL
        cdef Py_buffer *view = self.next(array, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
        if <size_t>view.len != bytes:
            raise ValueError(f"expected an array of {bytes} bytes, got {view.len}")
        return view.buf

    cdef Py_buffer *next(self, array, int flags) except NULL:
        if self.opened >= self.limit:  # as where a list grows while it is walked
            raise ValueError(f"expected at most {self.limit} arrays, got more")
        cdef Py_buffer *view = &self.views[self.opened]
        PyObject_GetBuffer(array, view, flags)
        self.opened += 1
        return view


include "_binding/parameters.pxi"
include "_binding/run.pxi"


def fma_loop(int dtype, uint64_t rounds):
    """Independent multiply-adds in registers: returns the number of floating-point operations done."""
    cdef double operations
    with nogil:
        operations = fi_fma_loop(<fi_dtype>dtype, rounds)
    return operations


def activate(int activation, double parameter, int dtype, x, values, slopes=None):
    """phi of every element of the array x, into `values`, and phi' into `slopes`, as the stack computes them."""
    cdef _Buffers buffers = _Buffers(3)
    cdef const void *source = buffers.open(x, x.nbytes, False)
    cdef void *target = buffers.open(values, x.nbytes, True)
    cdef void *derivatives = buffers.open(slopes, x.nbytes, True)
    cdef size_t n = <size_t>x.size
    cdef fi_watch room
    cdef fi_watch *watch = watch_begin(&room)
    with nogil:
        fi_activate(<fi_activation>activation, parameter, <fi_dtype>dtype, source, target, derivatives, n, watch)
    watch_end(watch)


include "_binding/haar.pxi"
include "_binding/training.pxi"
