# ---- losses, batches and optimizers: part of _core.pyx ------------------------------------------------

cdef extern from "fastinit.h" nogil:
    ctypedef struct fi_cross_entropy_args:
        size_t batch, classes
        const void *outputs
        const int64_t *labels
        const double *probabilities
        void *gradient
    size_t fi_cross_entropy_scratch(size_t classes)
    double fi_cross_entropy(const fi_cross_entropy_args *args, fi_dtype dtype, void *scratch, size_t *correct, fi_watch *watch)
    double fi_squared_error(fi_dtype dtype, size_t n, const void *outputs, const double *targets, void *gradient,
                            fi_watch *watch)
    void fi_gather(void *out, const void *source, const int64_t *rows, size_t count, size_t bytes, fi_watch *watch)
    void fi_order(int64_t *order, const double *draws, size_t n, size_t *scratch, fi_watch *watch)
    ctypedef enum fi_optimizer:
        pass
    int FI_OPTIMIZERS
    ctypedef struct fi_parameter:
        fi_dtype dtype
        size_t count
        void *values
        void *first
        void *second
    ctypedef struct fi_descent:
        fi_optimizer optimizer
        double rate, beta_1, beta_2, epsilon, power_1, power_2
    const char *fi_optimizer_name(size_t index)
    size_t fi_optimizer_states(size_t index)
    void fi_descend(fi_descent *descent, const fi_parameter *parameters, const void *const *gradients, size_t count)

# In the order of fi_optimizer.
OPTIMIZERS = tuple([fi_optimizer_name(i).decode() for i in range(FI_OPTIMIZERS)])


@cython.final
cdef class CrossEntropy:
    """The mean cross-entropy of `outputs`: a call writes `gradient`, and returns the value and how many are right.

    Either labels (int64) or shares (float64) may be None. The arrays stay where they are, whatever they hold. Several threads
    may call one: they take turns, as they share its scratch memory.
    """

    cdef fi_cross_entropy_args run
    cdef fi_dtype dtype
    cdef size_t bytes
    cdef void *scratch
    cdef _Buffers arrays
    cdef _Turns turns

    def __cinit__(self, int dtype, size_t batch, size_t classes, outputs, labels, shares, gradient):
        assert (labels is None) != (shares is None)
        self.arrays = _Buffers(4)
        self.turns = _Turns()
        self.dtype = <fi_dtype>dtype
        self.bytes = batch * classes * <size_t>ITEMSIZE[dtype]
        self.run.batch = batch
        self.run.classes = classes
        self.run.outputs = self.arrays.open(outputs, self.bytes, False)
        self.run.labels = <const int64_t *>self.arrays.open(labels, batch * sizeof(int64_t), False)
        self.run.probabilities = <const double *>self.arrays.open(shares, batch * classes * sizeof(double), False)
        self.run.gradient = self.arrays.open(gradient, self.bytes, True)
        self.scratch = PyMem_Malloc(fi_cross_entropy_scratch(classes))
        if self.scratch == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.scratch)

    def __call__(self):
        cdef size_t right
        cdef double value
        cdef fi_watch room
        cdef fi_watch *watch
        self.turns.take()
        try:
            if <Py_ssize_t>self.bytes < RELEASE_GIL_FROM:
                value = fi_cross_entropy(&self.run, self.dtype, self.scratch, &right, NULL)
            else:
                watch = watch_begin(&room)
                with nogil:
                    value = fi_cross_entropy(&self.run, self.dtype, self.scratch, &right, watch)
                watch_end(watch)
        finally:
            self.turns.give()
        return value, right


@cython.final
cdef class SquaredError:
    """The mean square of outputs - targets (float64), `count` numbers: a call writes `gradient`, and returns the value and 0."""

    cdef fi_dtype dtype
    cdef size_t count
    cdef const void *outputs
    cdef const double *targets
    cdef void *gradient
    cdef _Buffers arrays

    def __cinit__(self, int dtype, size_t count, outputs, targets, gradient):
        cdef size_t bytes = count * <size_t>ITEMSIZE[dtype]
        self.arrays = _Buffers(3)
        self.dtype = <fi_dtype>dtype
        self.count = count
        self.outputs = self.arrays.open(outputs, bytes, False)
        self.targets = <const double *>self.arrays.open(targets, count * sizeof(double), False)
        self.gradient = self.arrays.open(gradient, bytes, True)

    def __call__(self):
        cdef double value
        cdef fi_watch room
        cdef fi_watch *watch
        if <Py_ssize_t>(self.count * sizeof(double)) < RELEASE_GIL_FROM:
            value = fi_squared_error(self.dtype, self.count, self.outputs, self.targets, self.gradient, NULL)
        else:
            watch = watch_begin(&room)
            with nogil:
                value = fi_squared_error(self.dtype, self.count, self.outputs, self.targets, self.gradient, watch)
            watch_end(watch)
        return value, 0


@cython.final
cdef class Batches:
    """Samples in another order: a call with `start` makes out[i] = source[rows[start + i]] in each of `outs`.

    `outs` are arrays of one length, the batch's, with rows like those of the `sources`; `rows` are int64 in range.
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


@cython.final
cdef class Descent:
    """An optimizer at work on some arrays; calling it with their gradients makes a step, whole: signals wait for its end.

    Several threads may call one: they take turns, a step each, in any order.
    """

    cdef fi_descent descent
    cdef fi_parameter *parameters
    cdef size_t count
    cdef _Buffers arrays
    cdef _Turns turns

    def __cinit__(self, int optimizer, list parameters, double rate, double beta_1=0, double beta_2=0, double epsilon=0):
        from numpy import zeros
        assert 0 <= optimizer < FI_OPTIMIZERS
        cdef size_t i, states = fi_optimizer_states(optimizer)
        cdef Py_buffer *view
        parameters = list(parameters)  # which another thread may change
        self.turns = _Turns()
        self.count = <size_t>len(parameters)
        self.arrays = _Buffers((1 + states) * self.count)
        self.parameters = <fi_parameter *>PyMem_Malloc((self.count + 1) * sizeof(fi_parameter))
        if self.parameters == NULL:
            raise MemoryError
        memset(self.parameters, 0, (self.count + 1) * sizeof(fi_parameter))
        for i in range(self.count):
            view = self.arrays.next(parameters[i], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE)
            self.parameters[i].dtype = <fi_dtype>real_dtype(view, "parameters", i)
            self.parameters[i].count = <size_t>(view.len // view.itemsize)
            self.parameters[i].values = view.buf
            if states > 0:
                self.parameters[i].first = self.arrays.open(zeros(view.len, "u1"), <size_t>view.len, True)
            if states > 1:
                self.parameters[i].second = self.arrays.open(zeros(view.len, "u1"), <size_t>view.len, True)
        self.descent = fi_descent(<fi_optimizer>optimizer, rate, beta_1, beta_2, epsilon, 1.0, 1.0)

    def __dealloc__(self):
        PyMem_Free(self.parameters)

    def __call__(self, gradients):
        # Of a list of arrays, or, in a loop that has the same ones each time, of these held open.
        if not isinstance(gradients, (list, Held)):
            raise TypeError(f"gradients: expected a list of arrays, got {type(gradients).__name__}")
        cdef Held held = gradients if isinstance(gradients, Held) else Held(gradients)
        cdef size_t i
        cdef Py_ssize_t bytes = 0, offset
        cdef Py_buffer *view
        # The gradients are the caller's alone: the object has no pointer to them, not even for the time of the call.
        if held.arrays.opened != self.count:
            raise ValueError(f"gradients: expected {self.count} arrays, one a parameter, got {held.arrays.opened}")
        for i in range(self.count):
            view = &held.arrays.views[i]
            if (real_dtype(view, "gradients", i) != <int>self.parameters[i].dtype
                    or <size_t>(view.len // view.itemsize) != self.parameters[i].count):
                raise ValueError(
                    f"gradients[{i}]: expected {self.parameters[i].count} numbers of {DTYPES[<int>self.parameters[i].dtype]}, "
                    f"got {view.len} bytes of format {view.format.decode()!r}"
                )
            # One number further on, a gradient would be read before or after it is written: the width of vectors would show.
            offset = <char *>view.buf - <char *>self.parameters[i].values
            if offset != 0 and -view.len < offset < view.len:
                raise ValueError(f"gradients[{i}]: expected memory of its own, got some of parameters[{i}]")
            bytes += view.len
        self.turns.take()
        if bytes < RELEASE_GIL_FROM:
            fi_descend(&self.descent, self.parameters, held.pointers, self.count)
        else:
            with nogil:
                fi_descend(&self.descent, self.parameters, held.pointers, self.count)
        self.turns.give()


@cython.final
cdef class Held:
    """Gradients, C-contiguous arrays, held open."""

    cdef _Buffers arrays
    cdef const void **pointers

    def __cinit__(self, list arrays):
        arrays = list(arrays)  # which another thread may change
        self.arrays = _Buffers(<size_t>len(arrays))
        self.pointers = <const void **>PyMem_Malloc((<size_t>len(arrays) + 1) * sizeof(void *))
        if self.pointers == NULL:
            raise MemoryError
        for i, array in enumerate(arrays):
            _unmasked(f"gradients[{i}]", array)
            try:
                self.pointers[i] = self.arrays.next(array, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT).buf
            except (TypeError, ValueError, BufferError) as error:
                raise TypeError(f"gradients[{i}]: expected a C-contiguous array, got a {type(array).__name__}: {error}") from None

    def __dealloc__(self):
        PyMem_Free(self.pointers)


cdef int real_dtype(Py_buffer *view, str what, size_t index) except -1:
    """The dtype of an array of float32 or float64."""
    cdef int dtype = real_format(view.format)
    if dtype < 0:
        found = "B" if view.format == NULL else view.format.decode()
        raise TypeError(
            f"{what}[{index}]: expected an array of float32 or float64 in this machine's order of bytes, got format {found!r}"
        )
    if not is_aligned(view):
        raise ValueError(f"{what}[{index}]: expected memory aligned to {DTYPES[dtype]}, got an unaligned array")
    return dtype
