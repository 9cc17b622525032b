# ---- passes through a stack: part of _core.pyx ----

FORWARD = FI_FORWARD
BACKWARD = FI_BACKWARD
# The statistics of a layer: a dtype of NumPy, of the fields of fi_layer_statistics in their order.
_MOMENTS = [(name, "f8") for name in ("mean", "variance", "second_moment", "minimum", "maximum", "non_finite")]
LAYER_STATISTICS = _dtype(
    [(name, _MOMENTS) for name in ("pre_activation", "activation", "gradient")] + [("saturated", "f8"), ("dead", "f8")]
)
assert LAYER_STATISTICS.itemsize == sizeof(fi_layer_statistics)

# A workspace is used again unless it exceeds four times what a call needs by more than this: fresh memory may cost as much
# as a pass, but one large batch must not hold its memory for the life of a stack.
cdef enum:
    WORKSPACE_KEPT = 16 << 20

# A pass of fewer multiply-adds takes less than about a millisecond. (Its weights may be large though its workspace is small.)
cdef double SHORT_PRODUCTS = 1 << 24


@cython.final
cdef class StackRun:
    """A pass through a stack, laid out once for any number of calls: arrays held open, tables, and working memory.

    The arrays are C-contiguous and of the parameters' dtype, or of the dtype said here. None is for an output that is not
    wanted, and for a `dy` that comes with a call.

    Parameters
    ----------
    parameters : StackParameters
        Of a stack of widths (n_0, ..., n_L).
    batch : int
        Samples.
    x : array of shape (batch, n_0)
    threads : int
        At most so many.
    backward : bool
        There will be backward passes.
    workspaces : list of arrays
        Working memory of passes that are over. One is taken out if it is large enough and not far too large, else there is a
        new one; the attribute `workspace` is for the caller to put back.
    dy, y : array of shape (batch, n_L)
    gradients : array of one axis
        For all gradients: weights, biases and, unless it ends there, input, at the parameters' `gradient_starts`.
    statistics : array of shape (L,) in LAYER_STATISTICS
    norms : array of shape (L,) in float64
        Needs `statistics`, whose extremes decide how norms are scaled.
    pairs : array of shape (p, 2) in uintp, each < batch
    cosines : array of shape (L, 2, p) in float64
    pre_activation_cosines : array of shape (L, p) in float64
        Needs `cosines`.
    trace : list of 3 L arrays of shape (batch, n_l), or None
        Of the layers in order the pre-activations, then the values that they pass on, then the gradients; each may be None.

    Several threads may call one run: they take turns, as they share its working memory.
    """
    cdef StackParameters parameters
    cdef _Turns turns
    cdef _Buffers arrays, working, traced
    cdef fi_stack_args args
    cdef fi_dtype dtype
    cdef unsigned threads
    cdef void **gradient_pointers
    cdef void **trace_pointers
    cdef void *memory
    cdef bint recorded  # there was a forward pass, and no backward pass after it
    cdef bint keeps_gil
    cdef readonly object workspace

    def __cinit__(self, StackParameters parameters not None, size_t batch, x, unsigned threads, bint backward, list workspaces,
                  *, dy=None, y=None, gradients=None, statistics=None, norms=None, pairs=None, cosines=None,
                  pre_activation_cosines=None, list trace=None):
        assert norms is None or statistics is not None
        assert pre_activation_cosines is None or cosines is not None
        self.parameters = parameters
        self.args = parameters.args
        self.dtype = parameters.dtype
        self.arrays = _Buffers(9)
        self.turns = _Turns()
        self.threads = threads
        cdef fi_stack_args *args = &self.args
        cdef const size_t *widths = args.widths
        cdef size_t depth = args.depth, itemsize = <size_t>ITEMSIZE[<int>self.dtype]
        args.batch = batch
        if gradients is not None:
            stack_gradients(self, gradients)
        args.x = self.arrays.open(x, batch * widths[0] * itemsize, False)
        args.dy = self.arrays.open(dy, batch * widths[depth] * itemsize, False)
        args.y = self.arrays.open(y, batch * widths[depth] * itemsize, True)
        args.statistics = <fi_layer_statistics *>self.arrays.open(statistics, depth * sizeof(fi_layer_statistics), True)
        args.norms = <double *>self.arrays.open(norms, depth * sizeof(double), True)
        if pairs is not None:
            args.pairs_count = <size_t>len(pairs)
            args.pairs = <const size_t *>self.arrays.open(pairs, 2 * args.pairs_count * sizeof(size_t), False)
            args.cosines = <double *>self.arrays.open(cosines, 2 * depth * args.pairs_count * sizeof(double), True)
            args.pre_activation_cosines = <double *>self.arrays.open(
                pre_activation_cosines, depth * args.pairs_count * sizeof(double), True
            )
        if trace is not None:
            stack_trace(self, trace)
        args.backward = backward
        stack_workspace(self, workspaces)
        cdef double products = 0
        for i in range(depth):
            products += <double>widths[i] * <double>widths[i + 1] * <double>batch
        self.keeps_gil = len(self.workspace) < RELEASE_GIL_FROM and products < SHORT_PRODUCTS

    def __dealloc__(self):
        PyMem_Free(self.gradient_pointers)
        PyMem_Free(self.trace_pointers)

    def run(self, int phases, dy=None):
        """The phases FORWARD, BACKWARD or both, on what the arrays hold now; a `dy` is for this call alone.

        Raises
        ------
        RuntimeError
            If only the backward pass is asked for, without a forward pass since the last one.
        """
        cdef _Buffers given
        cdef const void *cotangent = self.args.dy
        if dy is not None:
            given = _Buffers(1)
            cotangent = given.open(
                dy, self.args.batch * self.args.widths[self.args.depth] * <size_t>ITEMSIZE[<int>self.dtype], False
            )
        if phases & FI_BACKWARD and cotangent == NULL and self.args.batch:
            raise ValueError("dy: expected an array for a backward pass, got None")
        self.turns.take()
        try:
            stack_run(self, phases, cotangent)
        finally:
            self.turns.give()


cdef int stack_run(StackRun self, int phases, const void *cotangent) except -1:
    """One call of the core, for whoever has the turn."""
    cdef fi_stack_args args
    cdef fi_watch room
    cdef fi_watch *watch
    if phases & FI_FORWARD:
        if self.args.kernels != fi_active():  # another instruction set may need more working memory
            stack_workspace(self, [])
    elif not self.recorded:
        raise RuntimeError("backward: expected a call of forward before each one, got none")
    self.recorded = False  # until the call comes to its end
    args = self.args
    args.phases = phases
    args.dy = cotangent
    if self.keeps_gil:
        fi_stack_propagate(&args, self.dtype, self.threads, self.memory, NULL)
    else:
        watch = watch_begin(&room)
        with nogil:
            fi_stack_propagate(&args, self.dtype, self.threads, self.memory, watch)
        watch_end(watch)
    self.recorded = not phases & FI_BACKWARD
    return 0


cdef int stack_workspace(StackRun self, list workspaces) except -1:
    """Working memory for the instruction set in use: the last of the list if its size is right, else a new array."""
    cdef fi_stack_args args = self.args
    args.kernels = fi_active()
    cdef size_t needed = fi_stack_workspace(&args, self.dtype, self.threads)
    try:
        workspace = workspaces.pop()
    except IndexError:
        workspace = None
    if workspace is None or not needed <= <size_t>len(workspace) <= 4 * needed + WORKSPACE_KEPT:
        from numpy import empty
        workspace = empty(needed, "u1")
    cdef _Buffers working = _Buffers(1)
    self.memory = working.next(workspace, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE).buf
    self.working = working
    self.workspace = workspace
    self.args.kernels = args.kernels
    return 0


cdef int stack_trace(StackRun self, list trace) except -1:
    """Where the traced matrices go."""
    cdef fi_stack_args *args = &self.args
    cdef size_t depth = args.depth, itemsize = <size_t>ITEMSIZE[<int>self.dtype], i
    if <size_t>len(trace) != 3 * depth:
        raise ValueError(f"trace: expected {3 * depth} arrays, got {len(trace)}")
    self.traced = _Buffers(3 * depth)
    self.trace_pointers = <void **>PyMem_Malloc((3 * depth + 1) * sizeof(void *))
    if self.trace_pointers == NULL:
        raise MemoryError
    for i in range(3 * depth):
        self.trace_pointers[i] = self.traced.open(trace[i], args.batch * args.widths[i % depth + 1] * itemsize, True)
    args.trace = <void *const *>self.trace_pointers
    return 0


cdef int stack_gradients(StackRun self, gradients) except -1:
    """Where in their buffer the gradients go."""
    cdef fi_stack_args *args = &self.args
    cdef const size_t *widths = args.widths
    cdef const size_t *starts = self.parameters.gradient_starts
    cdef size_t depth = args.depth, itemsize = <size_t>ITEMSIZE[<int>self.dtype], i
    cdef Py_buffer *view = self.arrays.next(gradients, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
    cdef char *first = <char *>view.buf
    self.gradient_pointers = <void **>PyMem_Malloc((2 * depth + 1) * sizeof(void *))
    if self.gradient_pointers == NULL:
        raise MemoryError
    for i in range(depth):
        if (starts[i] + widths[i] * widths[i + 1] * itemsize > <size_t>view.len
                or starts[depth + i] + widths[i + 1] * itemsize > <size_t>view.len):
            raise ValueError("gradients: expected all of them inside their buffer")
    for i in range(2 * depth):
        self.gradient_pointers[i] = first + starts[i]
    args.weight_gradients = <void *const *>self.gradient_pointers
    args.bias_gradients = <void *const *>(self.gradient_pointers + depth)
    if <size_t>view.len != starts[2 * depth]:
        args.dx = first + starts[2 * depth]
        if <size_t>view.len != starts[2 * depth] + args.batch * widths[0] * itemsize:
            raise ValueError("gradients: expected a buffer of the size of all gradients")
    return 0
