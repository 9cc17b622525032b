# ---- optimizers: part of _core.pyx ----

# In the order of fi_optimizer.
OPTIMIZERS = tuple([fi_optimizer_name(i).decode() for i in range(FI_OPTIMIZERS)])


@cython.final
cdef class Descent:
    """An optimizer of some arrays: a call with their gradients makes one step, which no signal interrupts.

    Several threads may call it: they take turns, a step each, in any order.
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
        # `Held` is for loops that have the same arrays in each step.
        if not isinstance(gradients, (list, Held)):
            raise TypeError(f"gradients: expected a list of arrays, got {type(gradients).__name__}")
        cdef Held held = gradients if isinstance(gradients, Held) else Held(gradients)
        cdef size_t i
        cdef Py_ssize_t bytes = 0, offset
        cdef Py_buffer *view
        # No pointer to a gradient is kept in the object: another thread may call it with gradients of its own.
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
            # If the memory overlapped, a step would overwrite gradients it has yet to read, more or fewer by the vectors' width.
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
    """Gradients, C-contiguous arrays whose buffers are held open for many steps."""

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
