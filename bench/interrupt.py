"""Measures how long Ctrl-C takes to interrupt long calls: from the signal to the exception, the longest of several tries.

    python bench/interrupt.py

Times depend on the machine, so this is no test; tests/common/test_interrupt.py tests that calls can be interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastinit
from fastinit import Key, Stack, num_threads

KEY = Key(0)
TRIES = 5


def latency(function: Callable[[], object], after: float) -> float:
    """Seconds from a signal, sent `after` seconds into the call, to the exception; infinity if the call ends before it."""
    sent: list[float] = []

    def send(*_: Any) -> None:
        raise KeyboardInterrupt

    # The handler itself may run late, so the time of the signal is computed beforehand.
    signal.signal(signal.SIGALRM, send)
    sent.append(time.perf_counter() + after)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        function()
    except KeyboardInterrupt:
        return time.perf_counter() - sent[0]
    signal.setitimer(signal.ITIMER_REAL, 0)
    return float("inf")


def cases() -> dict[str, Callable[[], object]]:
    out = np.empty(300_000_000, "float32")
    x, wide = fastinit.normal((4096, 2048), key=KEY), fastinit.normal((64, 8192), key=KEY)
    stack = Stack((2048,) * 9, "tanh", key=KEY)
    virtual = Stack((8192,) * 9, "tanh", key=KEY, virtual=True)
    outputs, classes = fastinit.normal((3_000_000, 50), key=KEY), np.zeros(3_000_000, "int64")
    complex_out = out.view("complex64")
    return {
        "normal, 1.2 GB": lambda: fastinit.normal(out.shape, key=KEY, out=out),
        "normal, complex": lambda: fastinit.normal(complex_out.shape, key=KEY, dtype="complex64", out=complex_out),
        "orthogonal, 4096 x 4096": lambda: fastinit.get("orthogonal")((4096, 4096), key=KEY),
        "orthogonal, 1,500,000 x 64": lambda: fastinit.get("orthogonal")((1_500_000, 64), key=KEY),
        "sparse": lambda: fastinit.Sparse(sparsity=0.9)((20_000, 10_000), key=KEY),
        "log-uniform": lambda: fastinit.get("log_uniform")(100_000_000, key=KEY),
        "zeros": lambda: fastinit.get("zeros")((20_000, 20_000), key=KEY),
        "stack, forward": lambda: stack.forward(x),
        "stack, all": lambda: stack.propagate(x, gradients=True),
        "stack, virtual": lambda: virtual.propagate(wide),
        "cross-entropy": lambda: fastinit.softmax_cross_entropy(outputs, classes),
    }


def main() -> int:
    for name, function in cases().items():
        for threads in (1, 4):
            with num_threads(threads):
                waits = [latency(function, 0.1 + 0.037 * i) for i in range(TRIES)]
            ended = [wait for wait in waits if wait < float("inf")]
            text = f"{1e3 * max(ended):6.0f} ms" if ended else "   the call ended before the signal"
            print(f"{name:28}{threads:3} thread{'s'[: threads > 1]:1} {text}", flush=True)
    return 0


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("expected a system with signals of timers (POSIX)")
    sys.exit(main())
