"""Passes through a stack in memory that every pass uses again, as a training loop wants them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._common.checks import boolean, whole_number
from .._common.dtypes import new_array
from .arguments import check_batch
from .passes import passes_of
from .stack import Stack
from .virtual_weights import check_stored

__all__ = ["Recorder"]


class Recorder:
    """Forward and backward passes of a stack for batches of one size, in memory that every pass uses again.

    ``recorder.forward(x)`` gives the bits of ``stack.record(x)``, and ``recorder.backward(dy)`` those of its `backward`, but
    nothing is allocated: the arrays below are the same ones each time, and the next pass writes over them. So only one thread
    at a time may use a recorder, while several recorders may share a stack. A recorder can be neither copied nor pickled. It
    uses as many threads as `get_num_threads` said when it was made. After an exception from a signal's handler, such as the
    KeyboardInterrupt of Ctrl-C, its arrays may hold anything, and the next call must be `forward`.

    Parameters
    ----------
    stack : Stack
        Not virtual. Its weights and biases are the arrays that it has now: changes in them are seen, other
        arrays put in their place are not.
    batch : int, >= 0
        Rows of a batch.
    input_gradient : bool, default False
        Compute the gradient with respect to the input too.

    Attributes
    ----------
    x : ndarray of shape (batch, n_0)
        The input: may be written before ``forward()``, but not between it and ``backward()``. What is written there is not
        checked.
    output : ndarray of shape (batch, n_L)
    dy : ndarray of shape (batch, n_L)
        A loss's gradient with respect to the output: may be written before ``backward()``, unchecked too.
    weight_gradients : list of L ndarrays
        Layer i's is of shape (n_i, n_{i+1}), summed over the batch.
    bias_gradients : list of L ndarrays
        Layer i's is of shape (n_{i+1},), summed over the batch.
    input_gradient : ndarray of shape (batch, n_0), or None

    Raises
    ------
    ValueError, TypeError
        For a virtual stack, parameters that are not aligned C-contiguous arrays of the stack's dtype, a negative batch, or an
        `input_gradient` that is not a bool.
    AttributeError
        If an attribute is set. The passes would not see another array: write into those that are there.

    Examples
    --------
    >>> recorder = fastinit.Recorder(stack, 32)
    >>> output = recorder.forward(x)
    >>> value, dy = fastinit.softmax_cross_entropy(output, classes)
    >>> recorder.backward(dy)    # then look at recorder.weight_gradients
    """

    def __init__(self, stack: Stack, batch: int, *, input_gradient: bool = False) -> None:
        passes = passes_of(stack)
        check_stored(stack.weights)
        boolean("input_gradient", input_gradient)
        rows = whole_number("batch", batch, least=0, most=math.inf)  # the limit is that of all layers
        passes.check_rows("batch", rows)
        parameters = passes.opened(stack.weights, stack.biases, copies=False)
        self._dtype = passes.dtype
        self.x = new_array((rows, passes.widths[0]), passes.dtype)
        self.output = new_array((rows, passes.widths[-1]), passes.dtype)
        self.dy = new_array((rows, passes.widths[-1]), passes.dtype)
        rows_back = rows if input_gradient else 0
        buffer = passes.gradients.new_buffer(rows_back)
        gradients = passes.gradients.arrays(buffer, rows_back)
        self.weight_gradients: list[NDArray[Any]] = gradients.weights
        self.bias_gradients: list[NDArray[Any]] = gradients.biases
        self.input_gradient: NDArray[Any] | None = gradients.input if input_gradient else None
        self._run = passes.laid_out(
            parameters, self.x, backward=True, own_memory=True, dy=self.dy, y=self.output, gradients=buffer
        )

    def __setattr__(self, name: str, value: Any) -> None:
        # The passes use the arrays that the recorder was made with.
        if not name.startswith("_"):
            if name in self.__dict__:
                raise AttributeError(f"{name}: expected no other array after construction; write into it: {name}[...] = ...")
            if "_run" in self.__dict__:
                raise AttributeError(f"Recorder: expected no new attribute, got {name!r}; write into its arrays")
        super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        raise TypeError("Recorder: expected no copy or pickle, as passes run in its own memory; make another of the stack")

    def forward(self, x: Any = None) -> NDArray[Any]:
        """The output for a batch, with all that a backward pass needs kept.

        Parameters
        ----------
        x : array_like of shape (batch, n_0), optional
            Copied to the attribute `x`; what is there already if not given.

        Returns
        -------
        ndarray of shape (batch, n_L)
            The attribute `output`.

        Raises
        ------
        ValueError, TypeError
            As for `Stack.forward`.
        """
        if x is not None:
            np.copyto(self.x, check_batch("x", x, self.x.shape[1], self._dtype, rows=len(self.x)))
        self._run.run(_core.FORWARD)
        return self.output

    def backward(self, dy: Any = None) -> None:
        """Gradients of a loss, to the attributes; once after each forward pass, and before the parameters change.

        Parameters
        ----------
        dy : array_like of shape (batch, n_L), optional
            Copied to the attribute `dy`; what is there already if not given.

        Raises
        ------
        ValueError, TypeError
            As for `Stack.backward`.
        RuntimeError
            Without a forward pass before it.
        """
        if dy is not None:
            np.copyto(self.dy, check_batch("dy", dy, self.dy.shape[1], self._dtype, rows=len(self.dy), nan=True))
        self._run.run(_core.BACKWARD)
