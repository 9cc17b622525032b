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

    For tests and benchmarks. A call that another thread is making may end with the old set or the new one, and a backward
    pass uses the set of its forward pass; the bits are the same in any case.

    Raises
    ------
    ValueError
        If `name` is unknown, or not available in this build or on this CPU.
    """
    if not isinstance(name, str):
        raise TypeError(f"instruction set: expected a str, got {type(name).__name__}")
    # Characters that no name has become "?", and so does NUL, which would end the string in C.
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
