# ---- losses: part of _core.pyx ----


@cython.final
cdef class CrossEntropy:
    """The mean cross-entropy of `outputs`: a call writes `gradient`, and returns the value and how many rows are correct.

    The targets are labels (int64) or probabilities (float64); the other is None. The arrays stay where they are, whatever they
    hold. Several threads may call one: they take turns, as they share its scratch memory.
    """

    cdef fi_cross_entropy_args run
    cdef fi_dtype dtype
    cdef size_t bytes
    cdef void *scratch
    cdef _Buffers arrays
    cdef _Turns turns

    def __cinit__(self, int dtype, size_t batch, size_t classes, outputs, labels, probabilities, gradient):
        assert (labels is None) != (probabilities is None)
        self.arrays = _Buffers(4)
        self.turns = _Turns()
        self.dtype = <fi_dtype>dtype
        self.bytes = batch * classes * <size_t>ITEMSIZE[dtype]
        self.run.batch = batch
        self.run.classes = classes
        self.run.outputs = self.arrays.open(outputs, self.bytes, False)
        self.run.labels = <const int64_t *>self.arrays.open(labels, batch * sizeof(int64_t), False)
        self.run.probabilities = <const double *>self.arrays.open(probabilities, batch * classes * sizeof(double), False)
        self.run.gradient = self.arrays.open(gradient, self.bytes, True)
        self.scratch = PyMem_Malloc(fi_cross_entropy_scratch(classes))
        if self.scratch == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.scratch)

    def __call__(self):
        cdef size_t correct
        cdef double value
        cdef fi_watch room
        cdef fi_watch *watch
        self.turns.take()
        try:
            if <Py_ssize_t>self.bytes < RELEASE_GIL_FROM:
                value = fi_cross_entropy(&self.run, self.dtype, self.scratch, &correct, NULL)
            else:
                watch = watch_begin(&room)
                with nogil:
                    value = fi_cross_entropy(&self.run, self.dtype, self.scratch, &correct, watch)
                watch_end(watch)
        finally:
            self.turns.give()
        return value, correct


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
