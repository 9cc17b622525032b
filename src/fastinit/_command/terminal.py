"""Standard output, messages and signals of a command: a closed output does not stop its work, and a signal ends it cleanly."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["Output", "Stopped", "checked", "hold_descriptors", "progress_bar", "say", "status_of", "stoppable"]

_PATIENCE = 1.0  # seconds before a bar is shown
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def hold_descriptors() -> None:
    """Open those of descriptors 0, 1 and 2 that are closed on the null device.

    Otherwise the next opened file would get such a number, and whatever is written to standard error would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest free number


def say(message: str) -> None:
    """Print a line on standard error, if it is open."""
    if sys.stderr is not None:  # with file=None print would write to standard output
        with contextlib.suppress(OSError, ValueError):
            print(f"fastinit: {message}", file=sys.stderr, flush=True)


class Output(io.TextIOBase):
    """Standard output that raises no errors: the first one is kept, and nothing is written after it.

    Parameters
    ----------
    stream : text stream or None
        `sys.stdout`, which is None if the descriptor is closed: then the first write is an error.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        self.error: Exception | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an old code page lacks σ

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.error is None and text:
            self._try("write", text)
        return len(text)

    def flush(self) -> None:
        if self.error is None and self._stream is not None:
            self._try("flush")

    def isatty(self) -> bool:
        try:
            return bool(self._stream.isatty())
        except (AttributeError, ValueError):  # no stream, or one that Python has closed
            return False

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def _try(self, method: str, *arguments: str) -> None:
        try:
            if self._stream is None:
                raise OSError("it is closed")
            getattr(self._stream, method)(*arguments)
        except (OSError, ValueError) as error:  # ValueError: Python's file object is closed
            self.error = error

    def finish(self) -> bool:
        """Write what is buffered, and return whether everything was written. If not, print why, unless a pipe was closed."""
        self.flush()
        if self.error is None:
            return True
        # Otherwise the interpreter's flush at exit fails once more, and prints a traceback.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
        if not isinstance(self.error, BrokenPipeError):
            say(f"standard output: cannot write: {getattr(self.error, 'strerror', None) or self.error}")
        return False


class Stopped(BaseException):
    """A signal asks the command to end. Not an Exception, so that no handler of errors catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, signals that would end the process raise `Stopped`, so that temporary files are removed and the cursor is shown.

    A signal that is ignored, as under nohup, stays ignored. After the first signal the others are ignored too, so that none
    interrupts the cleaning up: the process is expected to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set handlers
        return
    held: dict[int, Any] = {}

    def stop(number: int, frame: Any) -> None:
        for other in held:
            signal.signal(other, signal.SIG_IGN)
        held.clear()  # no handlers are restored
        raise Stopped(number)

    for name in _SIGNALS:
        number = getattr(signal, name, None)  # no SIGHUP on Windows
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            held[number] = signal.getsignal(number)
    try:
        for number in held:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)


def status_of(stop: KeyboardInterrupt | Stopped, written: Sequence[str] = ()) -> int:
    """Print what stopped the command and which files were written; returns the exit status, 128 + the signal as in shells."""
    number = stop.number if isinstance(stop, Stopped) else int(signal.SIGINT)
    cause = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    say(f"{cause}; written: {', '.join(written)}" if written else f"{cause}; nothing was written")
    return 128 + number


@contextlib.contextmanager
def progress_bar(*, of_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A line on standard error that counts, where that is a terminal and the work takes longer than a second."""
    begin, shown = time.monotonic(), False

    def progress(done: int, of: int) -> None:
        nonlocal shown
        seconds = time.monotonic() - begin
        if sys.stderr is None or not sys.stderr.isatty() or seconds < _PATIENCE:
            return
        shown = True
        filled = 30 * done // of
        count = f"{done / 1e9:.2f}/{of / 1e9:.2f} GB, {done / 1e9 / seconds:.2f} GB/s" if of_bytes else f"{done}/{of}"
        print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {count}", end="", file=sys.stderr, flush=True)

    try:
        yield progress
    finally:
        if shown:
            print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)


def checked(command: Callable[[Any], int]) -> Callable[[Any], int]:
    """A wrong name, number or file is a message and status 2, as a wrong option is."""

    def run(options: Any) -> int:
        try:
            return command(options)
        except (ValueError, TypeError, OSError) as error:
            say(str(error))
            return 2
        except MemoryError:
            say("expected enough memory, got none: fewer units, layers or samples need less")
            return 2
        except ImportError as error:
            say(str(error) if "fastinit[" in str(error) else f"{error}: pip install 'fastinit[report]'")
            return 2

    return run
