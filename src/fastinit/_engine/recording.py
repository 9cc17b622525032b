"""A forward pass that keeps what its backward pass needs."""

from __future__ import annotations

from typing import Any

from .. import _core
from .._common.dtypes import new_array
from .arguments import check_batch
from .passes import passes_of
from .results import Gradients
from .virtual_weights import check_stored

__all__ = ["Recording"]


class Recording:
    """A forward pass whose backward pass may follow: see `Stack.record`.

    The parameters must not change between the two passes. It can be neither copied nor pickled.

    Parameters
    ----------
    stack : Stack
        Not virtual.
    x : array_like of shape (batch, n_0)

    Attributes
    ----------
    output : ndarray of shape (batch, n_L)

    Raises
    ------
    ValueError, TypeError
        As for `Stack.record`; also if `stack` is none.
    """

    def __init__(self, stack: Any, x: Any) -> None:
        self._passes = passes = passes_of(stack)
        check_stored(stack.weights)
        x = check_batch("x", x, passes.widths[0], passes.dtype)
        self.output = new_array((len(x), passes.widths[-1]), passes.dtype)
        self._buffer = passes.gradients.new_buffer(len(x))
        parameters = passes.opened(stack.weights, stack.biases)
        run = passes.laid_out(parameters, x, backward=True, y=self.output, gradients=self._buffer)
        run.run(_core.FORWARD)
        self._runs = [run]  # of several threads that go back, one takes it out

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and "output" in self.__dict__:
            raise AttributeError(f"{name}: expected no change of a Recording; record again")
        super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        # The core lays its working memory out by where it begins within a cache line, and a copy begins elsewhere.
        raise TypeError("Recording: expected no copy or pickle of a pass that is under way; record again")

    def backward(self, dy: Any) -> Gradients:
        """Gradients of a loss whose gradient with respect to the output is `dy`; once for a recording.

        Parameters
        ----------
        dy : array_like of shape (batch, n_L)

        Returns
        -------
        Gradients
            As of `Stack.backward`.

        Raises
        ------
        ValueError, TypeError
            As for `Stack.backward`.
        RuntimeError
            If it is called a second time.
        """
        passes, (rows, outputs) = self._passes, self.output.shape
        dy = check_batch("dy", dy, outputs, passes.dtype, rows=rows, nan=True)
        try:
            run = self._runs.pop()
        except IndexError:
            raise RuntimeError("backward: expected one call for a recording, got a second") from None
        run.run(_core.BACKWARD, dy)
        passes.end(run)
        return passes.gradients.arrays(self._buffer, rows)
