"""How many threads a call may use.

The limit of a call is, in this order: the innermost ``with num_threads(n)`` of the calling thread, the last
``set_num_threads(n)``, the environment variables FASTINIT_NUM_THREADS and OMP_NUM_THREADS, and the number
of CPUs that this process may run on (affinity and cgroup quota). The bits never depend on it.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
from collections.abc import Iterator

from .checks import whole_number

__all__ = ["get_num_threads", "num_threads", "set_num_threads"]

_MAXIMUM = 256


def _count(value: object, what: str) -> int:
    return min(whole_number(what, value), _MAXIMUM)


def _cgroup_quota() -> float:
    """CPUs that the container grants, infinity where it sets no limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _allowed_cpus() -> int:
    """CPUs that this process may run on; a sandbox may not say which."""
    with contextlib.suppress(OSError, AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _whole(text: str) -> int:
    """A positive whole number, at most the largest of use; 0 for what is none. Python reads no more than 4300 digits."""
    if not (text.isascii() and text.isdecimal()):
        return 0
    digits = text.lstrip("0")
    return min(int(digits[:10] or "0"), _MAXIMUM)


def _default() -> int:
    for name in ("FASTINIT_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").strip()
        if text:
            # OMP_NUM_THREADS may be a list, one entry for each level of nesting.
            number = _whole(text.split(",")[0].strip())
            if number:
                return number
            if name == "FASTINIT_NUM_THREADS":
                shown = text if len(text) <= 40 else f"{text[:40]}..."
                raise ValueError(f"{name}: expected an int >= 1, got {shown!r}")
            # OMP_NUM_THREADS is another library's: its faults are not ours to report.
    return max(1, min(_allowed_cpus(), math.ceil(min(_cgroup_quota(), _MAXIMUM)), _MAXIMUM))


_process_limit = _default()
_local_limit: contextvars.ContextVar[int | None] = contextvars.ContextVar("limit", default=None)


def get_num_threads() -> int:
    """The largest number of threads that a call from here uses."""
    return _local_limit.get() or _process_limit


def set_num_threads(n: int) -> None:
    """Limit the threads of every later call in this process to `n` >= 1 (at most 256 are used).

    Raises
    ------
    TypeError, ValueError
        If `n` is no int >= 1.
    """
    global _process_limit
    _process_limit = _count(n, "set_num_threads")


@contextlib.contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Limit the threads of the calls inside a ``with`` block, for the thread (or task) that runs it.

    Raises
    ------
    TypeError, ValueError
        If `n` is no int >= 1.
    """
    token = _local_limit.set(_count(n, "num_threads"))
    try:
        yield
    finally:
        _local_limit.reset(token)
