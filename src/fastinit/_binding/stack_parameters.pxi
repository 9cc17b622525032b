# ---- a stack's parameters: part of _core.pyx ----


@cython.final
cdef class StackParameters:
    """What a stack is made of, for any number of runs: tables, and arrays held open, as opening them takes a narrow layer's time.

    Parameters
    ----------
    dtype : int
        In DTYPES, float32 or float64, of all arrays.
    widths : tuple of L + 1 ints
    activations : tuple of L ints
        In ACTIVATIONS.
    parameters : tuple of L floats
        Of the activations.
    residual_sources : tuple of L ints, or ()
        Of each layer that ends a residual block the activation where the block begins, -1 of the others.
    alpha : float
        Weight of the residual branches.
    gradient_starts : tuple of 2 L + 1 ints
        The bytes of one buffer at which the gradients of weights, of biases and of the input begin.
    weights : list of L arrays, or None
        None of weights that are never stored: they are drawn by `laws`.
    biases : list of L arrays
        None for a bias of zeros.
    laws : list of L tuples (law, parameters, seed, stream), or None

    Raises
    ------
    LookupError
        If a weight or a bias is no C-contiguous array of the dtype and of the shape that the widths want, with its index, that
        of a bias in biases + L; or if there are fewer than L.
    """
    cdef _Buffers arrays
    cdef fi_stack_args args
    cdef fi_dtype dtype
    cdef void *tables
    cdef size_t *gradient_starts
    cdef list weights, biases, laws

    def __cinit__(self, int dtype, tuple widths, tuple activations, tuple parameters, tuple residual_sources, double alpha,
                  tuple gradient_starts, list weights, list biases, list laws):
        cdef size_t depth = <size_t>len(activations), i
        # Copies, as another thread may change the lists.
        weights = None if weights is None else list(weights)
        biases = list(biases)
        self.dtype = <fi_dtype>dtype
        self.weights = weights
        self.biases = biases
        self.laws = laws
        self.arrays = _Buffers(2 * depth)
        # All tables lie in one allocation, those of the widest types first.
        cdef size_t entry = (2 * sizeof(void *) + 3 * sizeof(size_t) + sizeof(double) + 2 * sizeof(int)
                             + (sizeof(fi_plan) if weights is None else 0))
        self.tables = PyMem_Malloc((depth + 1) * entry)
        if self.tables == NULL:
            raise MemoryError
        cdef void **pointers = <void **>self.tables
        cdef size_t *sizes = <size_t *>(pointers + 2 * (depth + 1))
        self.gradient_starts = sizes + depth + 1
        cdef double *numbers = <double *>(self.gradient_starts + 2 * (depth + 1))
        cdef fi_plan *plans = <fi_plan *>(numbers + depth + 1)
        cdef int *indices = <int *>(numbers + depth + 1)
        if weights is None:
            indices = <int *>(plans + depth + 1)
        cdef int *sources = indices + depth + 1
        for i in range(depth + 1):
            sizes[i] = widths[i]
        for i in range(2 * depth + 1):
            self.gradient_starts[i] = gradient_starts[i]
        for i in range(depth):
            indices[i] = activations[i]
            numbers[i] = parameters[i]
            if residual_sources:
                sources[i] = residual_sources[i]
            if weights is None:
                law, of_law, seed, stream = laws[i]
                plan_open(&plans[i], law, dtype, of_law, seed, stream, 0)
            else:
                pointers[i] = parameter_open(self.arrays, weights[i], dtype, sizes[i], sizes[i + 1])
                if pointers[i] == NULL:
                    raise LookupError(i)
            pointers[depth + i] = NULL
            if biases[i] is not None:
                pointers[depth + i] = parameter_open(self.arrays, biases[i], dtype, 0, sizes[i + 1])
                if pointers[depth + i] == NULL:
                    raise LookupError(depth + i)
        self.args.depth = depth
        self.args.widths = sizes
        self.args.activations = indices
        self.args.parameters = numbers
        self.args.residual_sources = sources if residual_sources else NULL
        self.args.alpha = alpha
        self.args.weights = <const void *const *>pointers if weights is not None else NULL
        self.args.plans = plans
        self.args.biases = <const void *const *>(pointers + depth)

    def __dealloc__(self):
        PyMem_Free(self.tables)

    def hold(self, weights, biases, laws):
        """Whether the parameters still are these: the same array at each place of both lists, and the same laws."""
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
