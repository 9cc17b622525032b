# ---- instruction sets: part of _core.pyx ----


def available_isas():
    """Names of the instruction sets that this build and CPU have, narrowest first."""
    cdef list names = []
    cdef size_t i = 0
    while fi_isa_available(i) != NULL:
        names.append(fi_isa_available(i).decode())
        i += 1
    return tuple(names)


def isa():
    """Name of the instruction set in use."""
    return fi_isa_name().decode()


def set_isa(name):
    """Force an instruction set for the whole process; "" chooses the widest available one.

    For tests and benchmarks. What runs meanwhile in another thread ends with the old set or the new one, and the backward
    pass of a stack is of its forward pass's set: the bits are the same.

    Raises
    ------
    ValueError
        If `name` is unknown, or not available in this build or on this CPU.
    """
    if not isinstance(name, str):
        raise TypeError(f"instruction set: expected a str, got {type(name).__name__}")
    # What no name holds, a NUL that would end it among it, is unknown too.
    cdef bytes known = name.encode("ascii", "replace").replace(b"\0", b"?")
    cdef fi_status status = fi_isa_select(known)
    if status == FI_ERR_ISA_UNKNOWN:
        raise ValueError(
            f"instruction set: expected one of {', '.join(available_isas())}; got unknown {name!r}"
        )
    if status == FI_ERR_ISA_UNAVAILABLE:
        raise ValueError(
            f"instruction set: {name!r} is not available on this CPU; "
            f"available are {', '.join(available_isas())}"
        )


try:
    set_isa(os.environ.get("FASTINIT_ISA", ""))
except ValueError as error:
    raise ValueError(f"FASTINIT_ISA: {error}") from None
