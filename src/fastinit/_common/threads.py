"""The number of threads that a call may use.

It is set by the first of these that exists: the innermost ``with num_threads(n)`` of the calling thread, the last
``set_num_threads(n)``, the environment variables FASTINIT_NUM_THREADS and OMP_NUM_THREADS, and the number of CPUs on which
this process may run (affinity and cgroup quota). No result depends on it by a bit.
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
    """The number of CPUs that the container may use; infinity if there is no limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _allowed_cpus() -> int:
    """The number of CPUs on which this process may run; of all CPUs if the system does not tell."""
    with contextlib.suppress(OSError, AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parse(text: str) -> int:
    """A positive integer in decimal digits, capped at `_MAXIMUM`; 0 for anything else."""
    if not (text.isascii() and text.isdecimal()):
        return 0
    digits = text.lstrip("0")  # of which a few are enough; Python refuses to convert more than 4300
    return min(int(digits[:10] or "0"), _MAXIMUM)


def _default() -> int:
    for name in ("FASTINIT_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").strip()
        if text:
            # OMP_NUM_THREADS may be a list, one entry for each level of nesting.
            number = _parse(text.split(",")[0].strip())
            if number:
                return number
            if name == "FASTINIT_NUM_THREADS":
                shown = text if len(text) <= 40 else f"{text[:40]}..."
                raise ValueError(f"{name}: expected an int >= 1, got {shown!r}")
            # OMP_NUM_THREADS belongs to OpenMP: a value that is no number is ignored.
    return max(1, min(_allowed_cpus(), math.ceil(min(_cgroup_quota(), _MAXIMUM)), _MAXIMUM))


_process_limit = _default()
_local_limit: contextvars.ContextVar[int | None] = contextvars.ContextVar("limit", default=None)


def get_num_threads() -> int:
    """The largest number of threads that a call from this thread uses.

    Returns
    -------
    int, in [1, 256]

    Examples
    --------
    >>> with num_threads(2):
    ...     get_num_threads()
    2
    """
    return _local_limit.get() or _process_limit


def set_num_threads(n: int) -> None:
    """Limit the threads of every later call in this process.

    Parameters
    ----------
    n : int, in [1, 2**63)
        The limit; at most 256 threads are used.

    Raises
    ------
    TypeError, ValueError
        If `n` is no int or out of range.
    """
    global _process_limit
    _process_limit = _count(n, "set_num_threads")


@contextlib.contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Limit the threads of the calls inside a ``with`` block, for the thread (or asyncio task) that runs it.

    Parameters
    ----------
    n : int, in [1, 2**63)
        The limit; at most 256 threads are used.

    Raises
    ------
    TypeError, ValueError
        If `n` is no int or out of range.

    Examples
    --------
    >>> with num_threads(1):
    ...     w = HeNormal()((784, 256))
    """
    token = _local_limit.set(_count(n, "num_threads"))
    try:
        yield
    finally:
        _local_limit.reset(token)
