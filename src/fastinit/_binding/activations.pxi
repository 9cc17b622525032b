# ---- activations: part of _core.pyx ----


cdef _text(const char *text):
    return "" if text == NULL else text.decode()


cdef _traits(const fi_traits *t):
    return _Namespace(
        definition=_text(t.definition), derivative=_text(t.derivative), kinks=tuple(map(float, _text(t.kinks).split())),
        parameter=_text(t.parameter), default_parameter=t.default_parameter, from_input=bool(t.from_input),
        homogeneous=bool(t.homogeneous), saturated_below=t.saturated_below, value_ulp=t.value_ulp,
        derivative_eps=t.derivative_eps, left_ulp=t.left_ulp, paper=_text(t.paper),
    )


# What csrc/stack/activations.def says of each activation, by name; and the names, in the order of their numbers.
TRAITS = {_text(fi_activation_traits[i].name): _traits(&fi_activation_traits[i]) for i in range(FI_ACTIVATIONS)}
ACTIVATIONS = tuple(TRAITS)


def activate(int activation, double parameter, int dtype, x, values, derivatives=None):
    """phi of every element of the array x, into `values`, and phi' into `derivatives`, as the stack computes them."""
    cdef _Buffers buffers = _Buffers(3)
    cdef const void *source = buffers.open(x, x.nbytes, False)
    cdef void *value_outs = buffers.open(values, x.nbytes, True)
    cdef void *derivative_outs = buffers.open(derivatives, x.nbytes, True)
    cdef size_t n = <size_t>x.size
    cdef fi_watch room
    cdef fi_watch *watch = watch_begin(&room)
    with nogil:
        fi_activate(<fi_activation>activation, parameter, <fi_dtype>dtype, source, value_outs, derivative_outs, n, watch)
    watch_end(watch)


def fma_loop(int dtype, uint64_t rounds):
    """Independent multiply-adds in registers: returns the number of floating-point operations done."""
    cdef double operations
    with nogil:
        operations = fi_fma_loop(<fi_dtype>dtype, rounds)
    return operations
