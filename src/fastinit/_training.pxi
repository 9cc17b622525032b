# ---- losses, batches and optimizers: part of _core.pyx ------------------------------------------------

cdef extern from "fastinit.h" nogil:
    ctypedef struct fi_cross_entropy_run:
        size_t batch, classes
        const void *outputs
        const int64_t *labels
        const double *shares
        void *gradient
    size_t fi_cross_entropy_scratch(size_t classes)
    double fi_cross_entropy(const fi_cross_entropy_run *run, fi_dtype dtype, void *scratch, size_t *right)
    double fi_squared_error(fi_dtype dtype, size_t n, const void *outputs, const double *targets, void *gradient)
    void fi_gather(void *out, const void *source, const int64_t *rows, size_t count, size_t bytes)
    ctypedef enum fi_optimizer:
        pass
    int FI_OPTIMIZERS
    ctypedef struct fi_parameter:
        fi_dtype dtype
        size_t count
        void *values
        const void *gradient
        void *first
        void *second
    ctypedef struct fi_descent:
        fi_optimizer optimizer
        double rate, beta_1, beta_2, epsilon, power_1, power_2
    const char *fi_optimizer_name(size_t index)
    size_t fi_optimizer_states(size_t index)
    void fi_descend(fi_descent *descent, const fi_parameter *parameters, size_t count)

# In the order of fi_optimizer.
OPTIMIZERS = tuple([fi_optimizer_name(i).decode() for i in range(FI_OPTIMIZERS)])


def cross_entropy(int dtype, size_t batch, size_t classes, outputs, labels, shares, gradient):
    """The loss and how many are right; `gradient` is written. Either labels (int64) or shares (float64) may be None."""
    cdef _Buffers buffers = _Buffers(4)
    cdef fi_cross_entropy_run run
    cdef size_t size = batch * classes * <size_t>ITEMSIZE[dtype], right
    cdef double value
    assert (labels is None) != (shares is None)
    run.batch = batch
    run.classes = classes
    run.outputs = buffers.open(outputs, size, False)
    run.labels = <const int64_t *>buffers.open(labels, batch * sizeof(int64_t), False)
    run.shares = <const double *>buffers.open(shares, batch * classes * sizeof(double), False)
    run.gradient = buffers.open(gradient, size, True)
    cdef void *scratch = PyMem_Malloc(fi_cross_entropy_scratch(classes))
    if scratch == NULL:
        raise MemoryError
    if <Py_ssize_t>size < RELEASE_GIL_FROM:
        value = fi_cross_entropy(&run, <fi_dtype>dtype, scratch, &right)
    else:
        with nogil:
            value = fi_cross_entropy(&run, <fi_dtype>dtype, scratch, &right)
    PyMem_Free(scratch)
    return value, right


def squared_error(int dtype, size_t count, outputs, targets, gradient):
    """The mean square of outputs - targets (float64) over `count` numbers; `gradient` is written."""
    cdef _Buffers buffers = _Buffers(3)
    cdef size_t size = count * <size_t>ITEMSIZE[dtype]
    cdef const void *found = buffers.open(outputs, size, False)
    cdef const double *wanted = <const double *>buffers.open(targets, count * sizeof(double), False)
    cdef void *target = buffers.open(gradient, size, True)
    cdef double value
    if <Py_ssize_t>size < RELEASE_GIL_FROM:
        value = fi_squared_error(<fi_dtype>dtype, count, found, wanted, target)
    else:
        with nogil:
            value = fi_squared_error(<fi_dtype>dtype, count, found, wanted, target)
    return value


def gather(out, source, rows, size_t start, size_t count):
    """out[i] = source[rows[start + i]] for i < count; rows are int64 in range, of arrays of one dtype and equal rows."""
    cdef _Buffers buffers = _Buffers(3)
    cdef Py_buffer *target = buffers.next(out, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
    cdef Py_buffer *origin = buffers.next(source, PyBUF_C_CONTIGUOUS)
    cdef Py_buffer *order = buffers.next(rows, PyBUF_C_CONTIGUOUS)
    assert order.itemsize == sizeof(int64_t) and (start + count) * sizeof(int64_t) <= <size_t>order.len
    if count:
        assert <size_t>target.len % count == 0
        fi_gather(target.buf, origin.buf, <const int64_t *>order.buf + start, count, <size_t>target.len // count)


@cython.final
cdef class Descent:
    """An optimizer at work on some arrays; calling it with their gradients makes a step."""

    cdef fi_descent descent
    cdef fi_parameter *parameters
    cdef size_t count
    cdef _Buffers arrays

    def __init__(self, int optimizer, list parameters, double rate, double beta_1=0, double beta_2=0, double epsilon=0):
        from numpy import zeros
        assert self.parameters == NULL and 0 <= optimizer < FI_OPTIMIZERS
        cdef size_t i, states = fi_optimizer_states(optimizer)
        cdef Py_buffer *view
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

    def __call__(self, list gradients):
        cdef _Buffers buffers = _Buffers(self.count)
        cdef size_t i
        cdef Py_ssize_t bytes = 0
        cdef Py_buffer *view
        if <size_t>len(gradients) != self.count:
            raise ValueError(f"gradients: expected {self.count} arrays, one a parameter, got {len(gradients)}")
        for i in range(self.count):
            view = buffers.next(gradients[i], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
            if (real_dtype(view, "gradients", i) != <int>self.parameters[i].dtype
                    or <size_t>(view.len // view.itemsize) != self.parameters[i].count):
                raise ValueError(
                    f"gradients[{i}]: expected {self.parameters[i].count} numbers of {DTYPES[<int>self.parameters[i].dtype]}, "
                    f"got {view.len} bytes of format {view.format.decode()!r}"
                )
            self.parameters[i].gradient = view.buf
            bytes += view.len
        if bytes < RELEASE_GIL_FROM:
            fi_descend(&self.descent, self.parameters, self.count)
        else:
            with nogil:
                fi_descend(&self.descent, self.parameters, self.count)


cdef int real_dtype(Py_buffer *view, str what, size_t index) except -1:
    """The dtype of an array of float32 or float64."""
    if view.format != NULL and view.format[1] == 0:
        if view.format[0] == b"f"[0]:
            return 0
        if view.format[0] == b"d"[0]:
            return 1
    raise TypeError(f"{what}[{index}]: expected an array of float32 or float64, got format {view.format.decode()!r}")
