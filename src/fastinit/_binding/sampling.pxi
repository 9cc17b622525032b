# ---- random tensors: part of _core.pyx ----

# In the order of fi_law.
LAWS = ("words", "uniform", "normal", "truncated_normal")

# Planes of the stream (docs/stream.md): a value takes the words of two, from the named one on; a choice takes one.
PLANE_REAL = FI_PLANE_REAL
PLANE_IMAGINARY = FI_PLANE_IMAGINARY
PLANE_CHOICES = FI_PLANE_CHOICES


cdef int plan_open(fi_plan *plan, int law, int dtype, tuple parameters, uint64_t seed,
                   uint64_t stream, unsigned plane) except -1:
    cdef fi_dist dist
    cdef fi_key key
    cdef unsigned last = 255 if law == FI_WORDS else 254  # planes have 8 bits; a value takes the next plane, too
    if not (0 <= law < len(LAWS) and 0 <= dtype < len(DTYPES) and plane <= last):
        raise ValueError(f"expected numbers of a law, a dtype and a plane, got {law}, {dtype} and {plane}")
    memset(&dist, 0, sizeof(dist))
    dist.law = <fi_law>law
    dist.plane = plane
    if law == FI_TRUNCATED_NORMAL:
        dist.a, dist.b, dist.c, dist.d = parameters
    elif law != FI_WORDS:
        dist.a, dist.b = parameters
    key.seed = seed
    key.stream = stream
    cdef fi_status status = fi_plan_make(plan, &dist, <fi_dtype>dtype, key)
    if status == FI_ERR_NO_MASS:
        if law == FI_TRUNCATED_NORMAL:
            raise ValueError(
                "lower, upper: expected bounds less than 36 standard deviations out, so that the "
                f"interval has a representable probability; got [{dist.c}, {dist.d}]"
            )
        raise ValueError(
            f"low, high: expected an interval that holds a {DTYPES[dtype]} number; "
            f"got [{dist.a}, {dist.b})"
        )
    return 0


def fill(out, int law, int dtype, tuple parameters, uint64_t seed, uint64_t stream,
         uint64_t first=0, unsigned threads=1, unsigned plane=0):
    """Write elements first, first + 1, ... of a random tensor to the buffer `out`.

    `law` and `dtype` are indices in LAWS and DTYPES; the parameters must be valid for both.
    """
    cdef Output output
    cdef fi_plan plan
    cdef fi_watch room
    cdef fi_watch *watch
    plan_open(&plan, law, dtype, parameters, seed, stream, plane)
    output_open(&output, out, dtype)
    try:
        if output.view.len < RELEASE_GIL_FROM:
            fi_fill(&plan, output.data, first, output.count, threads, NULL)
        else:
            watch = watch_begin(&room)
            with nogil:
                fi_fill(&plan, output.data, first, output.count, threads, watch)
            watch_end(watch)
    finally:
        PyBuffer_Release(&output.view)


def fill_block(out, int law, int dtype, tuple parameters, uint64_t seed, uint64_t stream,
               uint64_t first, list counts, list strides, unsigned threads=1, unsigned plane=0):
    """Write a strided region of a random tensor to the buffer `out`: element first + sum(i_k * strides[k]) at place i.

    `counts` has the length of each axis of the region; the other arguments are those of `fill`.
    """
    cdef Output output
    cdef fi_plan plan
    cdef fi_region block
    cdef fi_watch room
    cdef fi_watch *watch
    elements = math.prod(counts)  # in Python's integers: one of 64 bits might overflow
    if not 0 < len(counts) <= FI_MAX_DIMENSIONS or len(counts) != len(strides):
        raise ValueError(
            f"counts, strides: expected one of each for 1 to {FI_MAX_DIMENSIONS} axes, got {len(counts)} and {len(strides)}"
        )
    block.first = first
    block.dimensions = <unsigned>len(counts)
    for k in range(block.dimensions):
        block.counts[k] = counts[k]
        block.strides[k] = strides[k]
    plan_open(&plan, law, dtype, parameters, seed, stream, plane)
    output_open(&output, out, dtype)
    if output.count != elements or elements == 0:
        PyBuffer_Release(&output.view)
        if elements == 0 and output.count == 0:
            return
        raise ValueError(f"out: expected {elements} elements, got {output.count}")
    try:
        if output.view.len < RELEASE_GIL_FROM:
            fi_fill_region(&plan, output.data, &block, threads, NULL)
        else:
            watch = watch_begin(&room)
            with nogil:
                fi_fill_region(&plan, output.data, &block, threads, watch)
            watch_end(watch)
    finally:
        PyBuffer_Release(&output.view)


def fill_many(list jobs, unsigned threads=1):
    """Fill many buffers in one launch of the threads; a job is a tuple (out, law, dtype, parameters, seed, stream, first)."""
    cdef size_t n = <size_t>len(jobs), opened = 0, i
    cdef Py_ssize_t bytes = 0
    cdef fi_plan *plans = <fi_plan *>PyMem_Malloc((n + 1) * sizeof(fi_plan))
    cdef fi_piece *pieces = <fi_piece *>PyMem_Malloc((n + 1) * sizeof(fi_piece))
    cdef Output *outputs = <Output *>PyMem_Malloc((n + 1) * sizeof(Output))
    cdef fi_watch room
    cdef fi_watch *watch
    try:
        if plans == NULL or pieces == NULL or outputs == NULL:
            raise MemoryError
        for i in range(n):
            out, law, dtype, parameters, seed, stream, first = jobs[i]
            plan_open(&plans[i], law, dtype, parameters, seed, stream, 0)
            output_open(&outputs[i], out, dtype)
            opened += 1
            bytes += outputs[i].view.len
            pieces[i].plan = &plans[i]
            pieces[i].out = outputs[i].data
            pieces[i].first = first
            pieces[i].count = outputs[i].count
        if bytes < RELEASE_GIL_FROM:
            fi_fill_many(pieces, n, threads, NULL)
        else:
            watch = watch_begin(&room)
            with nogil:
                fi_fill_many(pieces, n, threads, watch)
            watch_end(watch)
    finally:
        for i in range(opened):
            PyBuffer_Release(&outputs[i].view)
        PyMem_Free(outputs)
        PyMem_Free(pieces)
        PyMem_Free(plans)


def map_words(words, out, int law, int dtype, tuple parameters):
    """Write to `out` the values of elements whose two words are given, as uint64 numbers w_0 * 2^32 + w_1; for tests.

    The dtype is that of float32 or float64.
    """
    if law == FI_WORDS or dtype > FI_FLOAT64:
        raise ValueError(f"expected a law of values in float32 or float64, got {LAWS[law]}, {DTYPES[dtype]}")
    cdef fi_plan plan
    cdef size_t count = <size_t>words.size
    cdef _Buffers buffers = _Buffers(2)
    cdef const uint64_t *source = <const uint64_t *>buffers.open(words, 8 * count, False)
    cdef void *target = buffers.open(out, <size_t>ITEMSIZE[dtype] * count, True)
    plan_open(&plan, law, dtype, parameters, 0, 0, 0)
    with nogil:
        fi_map(&plan, source, target, count)


def words_xor(uint64_t seed, uint64_t count):
    """The exclusive-or of the first `count` words of a stream (at most 2^34), to measure the speed of the random bits alone."""
    cdef fi_key key
    cdef uint32_t result
    key.seed = seed
    key.stream = 0
    with nogil:
        result = fi_words_xor(key, count)
    return result


def exponential(double x):
    """e^x for -745 <= x <= 1, in double precision."""
    return fi_exponential(x)


def logarithm(double x):
    """ln x for normal x > 0, in double precision."""
    return fi_logarithm(x)


def normal_tail(double z):
    """1 - Phi(z) of the standard normal distribution, in double precision."""
    return fi_normal_tail(z)


def normal_quantile_tail(double p):
    """-Phi^-1(p) for 2^-1022 <= p <= 1/2, in double precision."""
    return fi_normal_quantile_tail(p)
