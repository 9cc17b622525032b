"""Passes through dense layers: from parameters and a batch to one call of the C core."""

from __future__ import annotations

import contextlib
from typing import Any

from numpy.typing import NDArray

from .. import _core
from .._common.checks import is_masked, shown
from .._common.threads import get_num_threads
from .arguments import check_parameters
from .gradient_memory import GradientLayout
from .virtual_weights import DrawnWeights

__all__ = ["Passes", "passes_of"]

_MOST_NUMBERS = 1 << 44  # of a batch in all layers: more than any memory holds, and their bytes are far from 64 bits


class Passes:
    """What runs passes through layers of given widths, activations and residual blocks.

    Parameters and batches come with each call. What is kept between calls only saves time: the parameters that were opened
    last, and working memory. So several threads may call one object at once, and copies and pickles leave both out.

    Parameters
    ----------
    widths : tuple of L + 1 ints
    dtype : {"float32", "float64"}
    activations : tuple of L pairs
        Of each layer, as `parse` gives them: the index in `_core.ACTIVATIONS`, and the activation's parameter.
    residual_sources : tuple of L ints, or ()
        Of each layer that ends a residual block the activation where the block begins, -1 of the others.
    alpha : float
        Weight of the residual branches.
    """

    def __init__(
        self, widths: tuple[int, ...], dtype: str, activations: tuple[tuple[int, float], ...],
        residual_sources: tuple[int, ...], alpha: float,
    ) -> None:  # fmt: skip
        self.widths, self.dtype = widths, dtype
        self.gradients = GradientLayout(widths, dtype)
        self._units = sum(widths)
        self._layers = (
            _core.DTYPES.index(dtype), widths, tuple(index for index, _ in activations),
            tuple(parameter for _, parameter in activations), residual_sources, alpha, self.gradients.starts,
        )  # fmt: skip
        self._opened: _core.StackParameters | None = None
        # Of finished calls: fresh memory costs as much as a pass.
        self._workspaces: list[NDArray[Any]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_workspaces": []}

    def check_rows(self, what: str, rows: int) -> None:
        """Refuse a batch of more rows than any memory holds."""
        if rows * self._units > _MOST_NUMBERS:
            raise ValueError(
                f"{what}: expected at most 2**44 numbers in all layers, got a batch of {shown(rows)} in {self._units} units"
            )

    def opened(self, weights: Any, biases: Any, *, copies: bool = True) -> _core.StackParameters:
        """The parameters as the C core reads them: those of the last call, if they are the same arrays.

        Raises
        ------
        ValueError, TypeError
            For arrays that do not fit the layers, and without `copies` for those that the C core cannot read in place.
        """
        laws = weights.laws if isinstance(weights, DrawnWeights) else None
        stored: Any = weights if laws is None else None
        last = self._opened
        if last is not None and last.hold(stored, biases, laws):
            return last
        lists = (biases, stored) if laws is None else (biases,)
        if all(type(arrays) is list and len(arrays) == len(self.widths) - 1 for arrays in lists) and not any(
            is_masked(array) or (array is None and laws is None) for arrays in lists for array in arrays
        ):
            with contextlib.suppress(LookupError):
                self._opened = last = _core.StackParameters(*self._layers, stored, biases, laws)
                return last
        # What the C core cannot read in place is copied. A NaN in it shows in the statistics.
        if laws is None:
            stored = self._readable("weights", stored, copies)
        return _core.StackParameters(*self._layers, stored, self._readable("biases", biases, copies, none=laws is not None), laws)

    def _readable(self, what: str, arrays: Any, copies: bool, *, none: bool = False) -> list[Any]:
        found = check_parameters(what, arrays, self.widths, self.dtype, nan=True, none=none)
        for i, (array, given) in enumerate(zip(found, arrays, strict=True)):
            if array is not given and not copies:
                raise ValueError(f"stack.{what}[{i}]: expected an aligned C-contiguous array of {self.dtype}")
        return found

    def laid_out(
        self, parameters: _core.StackParameters, x: NDArray[Any], *, backward: bool, own_memory: bool = False, **arrays: Any
    ) -> _core.StackRun:
        """Everything that the C core reads and writes in a pass, for one call or many.

        `arrays` are the optional ones of `_core.StackRun`. The working memory is that of an earlier pass, if one is there, or
        with `own_memory` the run's own.
        """
        self.check_rows("x", len(x))
        workspaces = [] if own_memory else self._workspaces
        return _core.StackRun(parameters, len(x), x, get_num_threads(), backward, workspaces, **arrays)

    def run(self, parameters: _core.StackParameters, x: NDArray[Any], *, dy: Any = None, **arrays: Any) -> None:
        """One pass forward and, for a `dy`, back."""
        run = self.laid_out(parameters, x, backward=dy is not None, dy=dy, **arrays)
        run.run(_core.FORWARD if dy is None else _core.FORWARD | _core.BACKWARD)
        self.end(run)

    def end(self, run: _core.StackRun) -> None:
        """Keep the working memory of a run that is over, for the next one."""
        self._workspaces.append(run.workspace)


def passes_of(stack: Any) -> Passes:
    """What runs the passes of a `Stack`: all that others of this room need of one beside its public attributes.

    Raises
    ------
    TypeError
        If it is no Stack.
    """
    passes = getattr(stack, "_passes", None)
    if not isinstance(passes, Passes):
        raise TypeError(f"stack: expected a fastinit.Stack, got {type(stack).__name__}")
    return passes
