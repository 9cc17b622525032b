# ---- batches: part of _core.pyx ----


@cython.final
cdef class Batches:
    """Batches of samples in a given order: a call with `start` writes out[i] = source[rows[start + i]] for each pair of arrays.

    The `outs` are as long as a batch, and their rows are like those of the `sources`; `rows` is an array of int64 in range.
    """

    cdef _Buffers arrays
    cdef size_t pairs, batch
    cdef Py_buffer *order

    def __cinit__(self, list outs, list sources, rows):
        cdef Py_buffer *out
        cdef Py_buffer *source
        self.pairs = <size_t>len(outs)
        self.arrays = _Buffers(2 * self.pairs + 1)
        for i in range(self.pairs):
            out = self.arrays.next(outs[i], PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            source = self.arrays.next(sources[i], PyBUF_C_CONTIGUOUS)
            self.batch = <size_t>out.shape[0]
            assert self.batch == <size_t>self.arrays.views[0].shape[0] > 0 and source.shape[0] > 0
            assert out.len // out.shape[0] == source.len // source.shape[0]
        self.order = self.arrays.next(rows, PyBUF_C_CONTIGUOUS)
        assert self.order.itemsize == sizeof(int64_t)

    def __call__(self, size_t start):
        cdef Py_buffer *views = self.arrays.views
        assert (start + self.batch) * sizeof(int64_t) <= <size_t>self.order.len
        cdef fi_watch room
        cdef fi_watch *watch
        cdef const int64_t *rows = <const int64_t *>self.order.buf + start
        cdef size_t i
        for i in range(self.pairs):
            if views[2 * i].len < RELEASE_GIL_FROM:
                fi_gather(views[2 * i].buf, views[2 * i + 1].buf, rows, self.batch, <size_t>views[2 * i].len // self.batch, NULL)
                continue
            watch = watch_begin(&room)
            with nogil:
                fi_gather(views[2 * i].buf, views[2 * i + 1].buf, rows, self.batch, <size_t>views[2 * i].len // self.batch, watch)
            watch_end(watch)


def order_by(draws, order):
    """Write to `order` (int64) the numbers 0, 1, ... by their draws (float64, in [0, 1)), the first of equal ones first."""
    cdef _Buffers buffers = _Buffers(2)
    cdef size_t n = <size_t>len(draws)
    cdef const double *source = <const double *>buffers.open(draws, n * sizeof(double), False)
    cdef int64_t *target = <int64_t *>buffers.open(order, n * sizeof(int64_t), True)
    cdef size_t *scratch = <size_t *>PyMem_Malloc((n + 1) * sizeof(size_t))
    cdef fi_watch room
    cdef fi_watch *watch
    if scratch == NULL:
        raise MemoryError
    try:
        if <Py_ssize_t>(n * sizeof(double)) < RELEASE_GIL_FROM:
            fi_order(target, source, n, scratch, NULL)
        else:
            watch = watch_begin(&room)
            with nogil:
                fi_order(target, source, n, scratch, watch)
            watch_end(watch)
    finally:
        PyMem_Free(scratch)
