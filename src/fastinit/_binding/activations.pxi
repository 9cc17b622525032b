# ---- activations: part of _core.pyx ----


def _activations():
    cdef list names = []
    cdef size_t i = 0
    while fi_activation_name(i) != NULL:
        names.append(fi_activation_name(i).decode())
        i += 1
    return tuple(names)


ACTIVATIONS = _activations()
# The stated largest errors, by activation: of the value in ULP, of the derivative in machine epsilons, and on the left in ULP.
VALUE_ULP = tuple([fi_activation_value_ulp(i) for i in range(len(ACTIVATIONS))])
SLOPE_EPS = tuple([fi_activation_derivative_eps(i) for i in range(len(ACTIVATIONS))])
LEFT_ULP = tuple([fi_activation_left_ulp(i) for i in range(len(ACTIVATIONS))])


def activate(int activation, double parameter, int dtype, x, values, slopes=None):
    """phi of every element of the array x, into `values`, and phi' into `slopes`, as the stack computes them."""
    cdef _Buffers buffers = _Buffers(3)
    cdef const void *source = buffers.open(x, x.nbytes, False)
    cdef void *target = buffers.open(values, x.nbytes, True)
    cdef void *derivatives = buffers.open(slopes, x.nbytes, True)
    cdef size_t n = <size_t>x.size
    cdef fi_watch room
    cdef fi_watch *watch = watch_begin(&room)
    with nogil:
        fi_activate(<fi_activation>activation, parameter, <fi_dtype>dtype, source, target, derivatives, n, watch)
    watch_end(watch)


def fma_loop(int dtype, uint64_t rounds):
    """Independent multiply-adds in registers: returns the number of floating-point operations done."""
    cdef double operations
    with nogil:
        operations = fi_fma_loop(<fi_dtype>dtype, rounds)
    return operations
