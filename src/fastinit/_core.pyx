# cython: language_level=3, freethreading_compatible=True, binding=True, embedsignature=False
# SPDX-License-Identifier: BSD-3-Clause
"""The binding of csrc/: each function checks its arguments, takes pointers to memory, makes one call of C, and raises errors.

There are no loops over data here, and no arithmetic. Calls that take long release the GIL and answer signals. The functions
stand in _binding/, a file for each family; a file may use those included before it.
"""

cimport cython
from cpython.buffer cimport (
    Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pythread cimport (
    NOWAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_get_thread_ident,
    PyThread_release_lock, PyThread_type_lock,
)
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

import math
import os
import sys
import threading as _threading
from types import SimpleNamespace as _Namespace

from numpy import dtype as _dtype

from fastinit._common.checks import unmasked as _unmasked

include "_binding/header.pxi"

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define FI_FREE_THREADED 1
    #else
    #define FI_FREE_THREADED 0
    #endif
    """
    int FI_FREE_THREADED

STREAM_VERSION = FI_STREAM_VERSION
COMPILER = fi_compiler().decode()
FREE_THREADED = bool(FI_FREE_THREADED)  # built for a free-threaded Python, which has no GIL

include "_binding/isa.pxi"
include "_binding/fpenv.pxi"
include "_binding/watch.pxi"
include "_binding/buffers.pxi"
include "_binding/sampling.pxi"
include "_binding/haar.pxi"
include "_binding/activations.pxi"
include "_binding/stack_parameters.pxi"
include "_binding/stack_run.pxi"
include "_binding/losses.pxi"
include "_binding/batches.pxi"
include "_binding/optimizers.pxi"
