# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures that set the floating-point modes which another library may leave switched on."""

import contextlib
import ctypes
import mmap
import os
import platform

import pytest

# Machine code of two functions: set the control register from memory, and store it there.
CONTROL = {
    ("x86_64", "posix"): (b"\x0f\xae\x17\xc3", b"\x0f\xae\x1f\xc3"),  # ldmxcsr [rdi], stmxcsr [rdi]
    ("AMD64", "nt"): (b"\x0f\xae\x11\xc3", b"\x0f\xae\x19\xc3"),  # ldmxcsr [rcx], stmxcsr [rcx]
    ("aarch64", "posix"): (
        b"\x01\x00\x40\xf9\x01\x44\x1b\xd5\xc0\x03\x5f\xd6",  # ldr x1, [x0]; msr fpcr, x1; ret
        b"\x01\x44\x3b\xd5\x01\x00\x00\xf9\xc0\x03\x5f\xd6",  # mrs x1, fpcr; str x1, [x0]; ret
    ),
}
X86_MODES = {"flush-to-zero": 0x9FC0, "down": 0x3F80, "up": 0x5F80, "to zero": 0x7F80}
ARM_MODES = {"flush-to-zero": 1 << 24, "down": 2 << 22, "up": 1 << 22, "to zero": 3 << 22}


@pytest.fixture(scope="module")
def control():
    """Two functions: set the floating-point control register, and read it."""
    machine = platform.machine(), os.name
    if machine not in CONTROL:
        pytest.skip(f"no way to set the floating-point control register of {machine}")
    try:
        if os.name == "nt":
            pytest.skip("executable memory needs another call on Windows")
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError as error:
        pytest.skip(f"no executable memory: {error}")
    functions = []
    for position, text in zip((0, 64), CONTROL[machine], strict=True):
        code[position : position + len(text)] = text
        address = ctypes.addressof(ctypes.c_char.from_buffer(code)) + position
        functions.append(ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint64))(address))
    load, store = functions

    def read():
        word = ctypes.c_uint64(0)
        store(ctypes.byref(word))
        return word.value

    yield (lambda mode: load(ctypes.byref(ctypes.c_uint64(mode)))), read
    del code


@pytest.fixture(params=list(X86_MODES))
def mode(request, control):
    """A context in which the calling thread has another floating-point mode."""
    modes = ARM_MODES if platform.machine() == "aarch64" else X86_MODES
    write, read = control
    significant = 0xFFFFFFC0  # without the exception flags of x86

    @contextlib.contextmanager
    def switched():
        before = read()
        try:
            write(modes[request.param])
            yield
            assert read() & significant == modes[request.param] & significant, "not restored"
        finally:
            write(before)

    switched.name = request.param
    return switched
