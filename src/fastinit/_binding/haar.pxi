# ---- random orthogonal matrices: part of _core.pyx ----


def haar(out, int dtype, int parts, size_t rows, size_t columns, size_t first, size_t count, double gain,
         bint transposed, uint64_t seed, uint64_t stream, unsigned threads=1):
    """Write columns first .. first+count-1 of a Haar matrix, rows >= columns, to `out`, as rows where `transposed`.

    `parts` is 1 for a real matrix and 2 for a complex one; `dtype` is that of a part, float32 or float64.
    """
    assert rows >= columns and first + count <= columns and dtype in (0, 1) and parts in (1, 2)
    cdef _Buffers buffers = _Buffers(1)
    cdef fi_haar_args run
    cdef fi_status status
    run.key.seed = seed
    run.key.stream = stream
    run.rows = rows
    run.columns = columns
    run.first = first
    run.count = count
    run.gain = gain
    run.parts = parts
    run.transposed = transposed
    run.out = buffers.open(out, rows * count * <size_t>(parts * ITEMSIZE[dtype]), True)
    cdef fi_watch room
    cdef fi_watch *watch = watch_begin(&room)
    with nogil:
        status = fi_haar(&run, <fi_dtype>dtype, threads, watch)
    watch_end(watch)
    if status == FI_ERR_MEMORY:
        raise MemoryError
