# ---- signals during a call, and turns of threads: part of _core.pyx ----

cdef extern from *:
    """
    /* Tells Cython that an exception is set already, by a signal's handler. */
    static int fi_raised(void) { return -1; }
    """
    int fi_raised() except -1
    int check_signals "PyErr_CheckSignals" ()
    int PY_LOCK_ACQUIRED
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible) nogil


cdef int answer_signals(void *context) noexcept with gil:
    """Run Python's handlers of the signals that have come; whether one raised an exception, as that of Ctrl-C does."""
    return check_signals() != 0


cdef fi_watch *watch_begin(fi_watch *room) except? NULL:
    """A watch for a call that may take long, to answer signals during it; NULL in threads where Python answers none."""
    if _threading.get_ident() != _threading.main_thread().ident:
        return NULL
    fi_watch_begin(room, answer_signals, NULL)
    return room


cdef int watch_end(const fi_watch *watch) except -1:
    """Raise the exception for which the call was stopped early, if it was."""
    if watch != NULL and watch.stopped:
        return fi_raised()
    return 0


# A thread that waits for its turn looks for signals this often, in microseconds.
cdef enum:
    TURN_LOOK = 50_000


cdef class _Turns:
    """The lock of an object whose calls change it: callers in other threads wait for their turn, without the GIL.

    A signal's handler that calls the object in the middle of a call by the same thread would wait forever; that is an error.
    """

    cdef PyThread_type_lock lock
    cdef unsigned long owner

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef int take(self) except -1:
        cdef unsigned long me = PyThread_get_thread_ident()
        cdef int status
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            if self.owner == me:
                raise RuntimeError("expected one call at a time in a thread, got one by a signal's handler during another")
            while True:
                with nogil:
                    status = PyThread_acquire_lock_timed(self.lock, TURN_LOOK, 1)
                if status == PY_LOCK_ACQUIRED:
                    break
                if check_signals():
                    return fi_raised()
        self.owner = me
        return 0

    cdef int give(self) except -1:
        self.owner = 0
        PyThread_release_lock(self.lock)
        return 0
