# ---- a stack's parameters: part of _core.pyx ----


@cython.final
cdef class StackParameters:
    """What a stack is made of, for any number of runs: tables, and arrays held open, as opening them takes a narrow layer's time.

    `weights` may be None: `laws` then has (law, parameters, seed, stream) of each layer's. A bias may be None.
    `skips` is () or, for each layer, the activation where its residual block begins, or -1. The gradients of weights and biases
    begin at the bytes `offsets` of one block, and the input's at the last of them.

    Raises
    ------
    LookupError
        If some weights or biases are not arrays of the dtype and the widths' shapes, with its index, in
        biases + depth, or there are fewer than layers.
    """
    cdef _Buffers arrays
    cdef fi_stack_args all
    cdef fi_dtype dtype
    cdef void *tables
    cdef size_t *offsets
    cdef list weights, biases, laws

    def __cinit__(self, int dtype, tuple widths, tuple activations, tuple parameters, tuple skips, double alpha, tuple offsets,
                  list weights, list biases, list laws):
        cdef size_t depth = <size_t>len(activations), i
        # Copies, as another thread may change the lists.
        weights = None if weights is None else list(weights)
        biases = list(biases)
        cdef size_t words = (2 * sizeof(void *) + 3 * sizeof(size_t) + sizeof(double) + 2 * sizeof(int)
                             + (sizeof(fi_plan) if weights is None else 0))
        self.dtype = <fi_dtype>dtype
        self.weights = weights
        self.biases = biases
        self.laws = laws
        self.arrays = _Buffers(2 * depth)
        self.tables = PyMem_Malloc((depth + 1) * words)
        if self.tables == NULL:
            raise MemoryError
        cdef void **pointers = <void **>self.tables
        cdef size_t *sizes = <size_t *>(pointers + 2 * (depth + 1))
        self.offsets = sizes + depth + 1
        cdef double *slopes = <double *>(self.offsets + 2 * (depth + 1))
        cdef fi_plan *plans = <fi_plan *>(slopes + depth + 1)
        cdef int *codes = <int *>(slopes + depth + 1)
        if weights is None:
            codes = <int *>(plans + depth + 1)
        cdef int *blocks = codes + depth + 1
        for i in range(depth + 1):
            sizes[i] = widths[i]
        for i in range(2 * depth + 1):
            self.offsets[i] = offsets[i]
        for i in range(depth):
            codes[i] = activations[i]
            slopes[i] = parameters[i]
            if skips:
                blocks[i] = skips[i]
            if weights is None:
                law, numbers, seed, stream = laws[i]
                plan_open(&plans[i], law, dtype, numbers, seed, stream, 0)
            else:
                pointers[i] = parameter_open(self.arrays, weights[i], dtype, sizes[i], sizes[i + 1])
                if pointers[i] == NULL:
                    raise LookupError(i)
            pointers[depth + i] = NULL
            if biases[i] is not None:
                pointers[depth + i] = parameter_open(self.arrays, biases[i], dtype, 0, sizes[i + 1])
                if pointers[depth + i] == NULL:
                    raise LookupError(depth + i)
        self.all.depth = depth
        self.all.widths = sizes
        self.all.activations = codes
        self.all.parameters = slopes
        self.all.residual_sources = blocks if skips else NULL
        self.all.alpha = alpha
        self.all.weights = <const void *const *>pointers if weights is not None else NULL
        self.all.plans = plans
        self.all.biases = <const void *const *>(pointers + depth)

    def __dealloc__(self):
        PyMem_Free(self.tables)

    def hold(self, weights, biases, laws):
        """Whether these are the ones here: lists of the same arrays, and the same laws."""
        return self.laws is laws and same_items(self.weights, weights) and same_items(self.biases, biases)


cdef bint same_items(list held, items) except -1:
    if held is None or items is None:
        return held is items
    if type(items) is not list or len(<list>items) != len(held):
        return False
    for i in range(len(held)):
        if (<list>items)[i] is not held[i]:
            return False
    return True


cdef void *parameter_open(_Buffers buffers, array, int dtype, size_t rows, size_t columns) except? NULL:
    """The memory of an array of shape (rows, columns), or (columns,) for rows = 0; NULL if it is no such array."""
    cdef Py_buffer *view
    try:
        view = buffers.next(array, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except (TypeError, ValueError, BufferError):
        return NULL
    if real_format(view.format) != dtype or not is_aligned(view):
        return NULL
    if view.ndim != (2 if rows else 1) or <size_t>view.shape[view.ndim - 1] != columns:
        return NULL
    if rows and <size_t>view.shape[0] != rows:
        return NULL
    return view.buf
