# ---- the memory of arrays: part of _core.pyx ----

# In the order of fi_dtype.
DTYPES = ("float32", "float64", "float16", "bfloat16")
cdef Py_ssize_t *ITEMSIZE = [4, 8, 2, 2]

# The character by which the format of a buffer says that its byte order is this machine's.
cdef char NATIVE_ORDER = b"<"[0] if sys.byteorder == "little" else b">"[0]

# A call on fewer bytes keeps the GIL: to get it back from a busy thread takes milliseconds.
cdef Py_ssize_t RELEASE_GIL_FROM = 1 << 20


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


cdef class _Buffers:
    """Buffers of arrays, held open as long as the object lives, while the C code uses their memory."""

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
        if self.opened >= self.limit:  # a list may grow while it is walked
            raise ValueError(f"expected at most {self.limit} arrays, got more")
        cdef Py_buffer *view = &self.views[self.opened]
        PyObject_GetBuffer(array, view, flags)
        self.opened += 1
        return view


cdef int real_format(const char *format):
    """The dtype of a buffer's format, float32 or float64 in native byte order; -1 for any other format."""
    if format == NULL:  # bytes
        return -1
    if format[0] == b"@"[0] or format[0] == b"="[0] or format[0] == NATIVE_ORDER:
        format += 1
    if (format[0] != b"f"[0] and format[0] != b"d"[0]) or format[1] != 0:
        return -1
    return 1 if format[0] == b"d"[0] else 0


cdef bint is_aligned(const Py_buffer *view):
    return <uintptr_t>view.buf % <uintptr_t>view.itemsize == 0


cdef int real_dtype(Py_buffer *view, str what, size_t index) except -1:
    """The dtype of a buffer of float32 or float64 numbers, which is checked."""
    cdef int dtype = real_format(view.format)
    if dtype < 0:
        found = "B" if view.format == NULL else view.format.decode()
        raise TypeError(
            f"{what}[{index}]: expected an array of float32 or float64 in this machine's order of bytes, got format {found!r}"
        )
    if not is_aligned(view):
        raise ValueError(f"{what}[{index}]: expected memory aligned to {DTYPES[dtype]}, got an unaligned array")
    return dtype


def span(array):
    """The address of a C-contiguous array's first byte, and that of the byte after its last."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS)
    begin, end = <uintptr_t>view.buf, <uintptr_t>view.buf + <uintptr_t>view.len
    PyBuffer_Release(&view)
    return begin, end
