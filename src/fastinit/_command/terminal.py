"""What a command says, and how it is stopped: output that nobody takes is no error of the work, and a signal unwinds it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["Output", "Stopped", "hold_descriptors", "say", "status_of", "stoppable"]

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def hold_descriptors() -> None:
    """Open what is closed of descriptors 0, 1 and 2 on the null device: else the next file would get that number, and with it
    what a library writes to standard error."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest free number


def say(message: str) -> None:
    """A line on standard error, if anybody takes it."""
    if sys.stderr is not None:  # print would take standard output in its place
        with contextlib.suppress(OSError, ValueError):
            print(f"fastinit: {message}", file=sys.stderr, flush=True)


class Output(io.TextIOBase):
    """Standard output that never raises: the first error is kept, and from then on nothing is written.

    Parameters
    ----------
    stream : text stream or None
        None, as `sys.stdout` is where the descriptor was closed, counts as an error at the first word.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        self.error: Exception | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a pipe in an old code page has no σ

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
        except (OSError, ValueError) as error:  # a ValueError if Python's own file is closed
            self.error = error

    def finish(self) -> bool:
        """Write what is left; whether everything was taken. If not, it says so, unless the reader has left on purpose."""
        self.flush()
        if self.error is None:
            return True
        # The interpreter's own last flush would fail once more, and say so with a traceback.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
        if not isinstance(self.error, BrokenPipeError):
            say(f"standard output: cannot write: {getattr(self.error, 'strerror', None) or self.error}")
        return False


class Stopped(BaseException):
    """A signal that asks the command to end. No Exception, so that nothing takes it for an error of its own work."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the signals that end a process raise `Stopped` in its place, so that temporary files are removed and the cursor is
    shown. One that is ignored, as under nohup, stays so. Only the first one counts, and the process is expected to end with it:
    the others are ignored from then on, lest one of them interrupt the unwinding or the interpreter's own end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no other thread gets signals
        return
    held: dict[int, Any] = {}

    def stop(number: int, frame: Any) -> None:
        for other in held:
            signal.signal(other, signal.SIG_IGN)
        held.clear()  # nothing to come back to
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
    """Say in one line what stopped the command and which files were written; the exit status that a shell gives such an end."""
    number = stop.number if isinstance(stop, Stopped) else int(signal.SIGINT)
    cause = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    say(f"{cause}; written: {', '.join(written)}" if written else f"{cause}; nothing was written")
    return 128 + number
