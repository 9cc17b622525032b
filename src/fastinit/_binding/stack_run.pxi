# ---- passes through a stack: part of _core.pyx ----

FORWARD = FI_FORWARD
BACKWARD = FI_BACKWARD
# Numbers of a layer's statistics, in the order of fi_layer_statistics.
STATISTICS = sizeof(fi_layer_statistics) // sizeof(double)

# A workspace is used again unless it exceeds four times what a call needs by more than this: fresh memory may cost as much
# as a pass, but one large batch must not hold its memory for the life of a stack.
cdef enum:
    WORKSPACE_KEPT = 16 << 20

# Multiply-adds of a pass that takes about a millisecond: its weights may be large where its workspace is not.
cdef double SHORT_PRODUCTS = 1 << 24


@cython.final
cdef class StackRun:
    """A pass through a stack, laid out: arrays held open, tables and workspace. Arrays are of one dtype and C-contiguous.

    `gradients` is one block of memory for all gradients: weights, biases and, unless the block ends there, input at the
    parameters' offsets; `statistics` a float64 array of shape (depth, STATISTICS), `norms` of (depth,), `cosines` of
    (depth, 2, len(pairs)), `pairs` an array of uintp, each < batch, of shape (len(pairs), 2). Each may be None. The workspace is
    taken from the list `spare` if one is there that is not far too large; it is an attribute, for the caller to put back.
    Several threads may call one run: they take turns, as they share its workspace.
    """
    cdef StackParameters parameters
    cdef _Turns turns
    cdef _Buffers arrays, working
    cdef fi_stack_args all
    cdef fi_dtype dtype
    cdef unsigned threads
    cdef void **tables
    cdef void *memory
    cdef bint recorded  # a forward pass that was not gone back through
    cdef bint short  # so much so that it keeps the GIL
    cdef readonly object workspace

    def __cinit__(self, StackParameters parameters not None, size_t batch, x, dy, y, gradients, statistics, unsigned threads,
                  bint backward, list spare, norms=None, pairs=None, cosines=None):
        assert norms is None or statistics is not None  # whose extremes say how norms are scaled
        self.parameters = parameters
        self.all = parameters.all
        self.dtype = parameters.dtype
        self.arrays = _Buffers(8)
        self.turns = _Turns()
        self.threads = threads
        cdef fi_stack_args *run = &self.all
        cdef const size_t *sizes = run.widths
        cdef size_t depth = run.depth, size = <size_t>ITEMSIZE[<int>self.dtype]
        run.batch = batch
        if gradients is not None:
            stack_gradients(self, gradients)
        run.x = self.arrays.open(x, batch * sizes[0] * size, False)
        run.dy = self.arrays.open(dy, batch * sizes[depth] * size, False)
        run.y = self.arrays.open(y, batch * sizes[depth] * size, True)
        run.statistics = <fi_layer_statistics *>self.arrays.open(statistics, depth * sizeof(fi_layer_statistics), True)
        run.norms = <double *>self.arrays.open(norms, depth * sizeof(double), True)
        if pairs is not None:
            run.pairs_count = <size_t>len(pairs)
            run.pairs = <const size_t *>self.arrays.open(pairs, 2 * run.pairs_count * sizeof(size_t), False)
            run.cosines = <double *>self.arrays.open(cosines, 2 * depth * run.pairs_count * sizeof(double), True)
        run.backward = backward
        stack_workspace(self, spare)
        cdef double products = 0
        for i in range(depth):
            products += <double>sizes[i] * <double>sizes[i + 1] * <double>batch
        self.short = len(self.workspace) < RELEASE_GIL_FROM and products < SHORT_PRODUCTS

    def __dealloc__(self):
        PyMem_Free(self.tables)

    def run(self, int phases, dy=None):
        """The phases, on what the arrays hold now; `dy` may be given for this call alone.

        Raises
        ------
        RuntimeError
            If only the backward pass is asked for, and there is no forward pass that was not gone back through.
        """
        cdef _Buffers given
        cdef const void *cotangent = self.all.dy
        if dy is not None:
            given = _Buffers(1)
            cotangent = given.open(
                dy, self.all.batch * self.all.widths[self.all.depth] * <size_t>ITEMSIZE[<int>self.dtype], False
            )
        if phases & FI_BACKWARD and cotangent == NULL and self.all.batch:
            raise ValueError("dy: expected an array for a backward pass, got None")
        self.turns.take()
        try:
            stack_run(self, phases, cotangent)
        finally:
            self.turns.give()


cdef int stack_run(StackRun self, int phases, const void *cotangent) except -1:
    """One turn of a run, by a table of its own: what is in it is this caller's."""
    cdef fi_stack_args run
    cdef fi_watch room
    cdef fi_watch *watch
    if phases & FI_FORWARD:
        if self.all.kernels != fi_active():
            stack_workspace(self, [])
    elif not self.recorded:
        raise RuntimeError("backward: expected a call of forward before each one, got none")
    self.recorded = False  # unless it comes to its end
    run = self.all
    run.phases = phases
    run.dy = cotangent
    if self.short:
        fi_stack_propagate(&run, self.dtype, self.threads, self.memory, NULL)
    else:
        watch = watch_begin(&room)
        with nogil:
            fi_stack_propagate(&run, self.dtype, self.threads, self.memory, watch)
        watch_end(watch)
    self.recorded = not phases & FI_BACKWARD
    return 0


cdef int stack_workspace(StackRun self, list spare) except -1:
    """Working memory for the instruction set in use, from the list `spare` if one is there that is large enough."""
    cdef fi_stack_args run = self.all
    run.kernels = fi_active()
    cdef size_t needed = fi_stack_workspace(&run, self.dtype, self.threads)
    try:
        workspace = spare.pop()
    except IndexError:
        workspace = None
    if workspace is None or not needed <= <size_t>len(workspace) <= 4 * needed + WORKSPACE_KEPT:
        from numpy import empty
        workspace = empty(needed, "u1")
    cdef _Buffers working = _Buffers(1)
    self.memory = working.next(workspace, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE).buf
    self.working = working
    self.workspace = workspace
    self.all.kernels = run.kernels
    return 0


cdef int stack_gradients(StackRun self, gradients) except -1:
    """Where in the block the gradients go."""
    cdef fi_stack_args *run = &self.all
    cdef const size_t *sizes = run.widths
    cdef const size_t *offsets = self.parameters.offsets
    cdef size_t depth = run.depth, size = <size_t>ITEMSIZE[<int>self.dtype], i
    cdef Py_buffer *view = self.arrays.next(gradients, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
    cdef char *block = <char *>view.buf
    self.tables = <void **>PyMem_Malloc((2 * depth + 1) * sizeof(void *))
    if self.tables == NULL:
        raise MemoryError
    for i in range(depth):
        if (offsets[i] + sizes[i] * sizes[i + 1] * size > <size_t>view.len
                or offsets[depth + i] + sizes[i + 1] * size > <size_t>view.len):
            raise ValueError("gradients: expected offsets inside the block")
    for i in range(2 * depth):
        self.tables[i] = block + offsets[i]
    run.weight_gradients = <void *const *>self.tables
    run.bias_gradients = <void *const *>(self.tables + depth)
    if <size_t>view.len != offsets[2 * depth]:
        run.dx = block + offsets[2 * depth]
        if <size_t>view.len != offsets[2 * depth] + run.batch * sizes[0] * size:
            raise ValueError("gradients: expected a block of the size of all gradients")
    return 0
