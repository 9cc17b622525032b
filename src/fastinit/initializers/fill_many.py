"""A whole model's tensors in one launch of the threads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import _core
from .._common.arithmetic import ieee
from .._common.checks import check_apart
from .._common.dtypes import check_out, store
from .._stream.sampling import Job, fill_all, job
from .lookup import get

__all__ = ["fill_many"]

_NOTHING = np.empty(0)  # a fill of it is an error where a fill of more would be


@ieee
def fill_many(jobs: Iterable[tuple[Any, Any, Any]]) -> None:
    """Fill many arrays, each with its initializer and key, balanced over elements and not over arrays.

    The values are those of ``initializer(out.shape, out.dtype, key=key, out=out)`` for each. A model of many
    small tensors is filled on all threads, where single calls would leave each tensor to one.

    Parameters
    ----------
    jobs : iterable of (out, initializer, key)
        `out` is a writable C-contiguous array of the tensor's dtype (uint16: the bits of bfloat16);
        `initializer` is what `get` takes; `key` is a Key, or None for the initializer's own seed. What is not
        drawn element by element (an orthogonal matrix) is computed before the launch and needs room for itself.

    Raises
    ------
    ValueError, TypeError
        As the initializers do, for any of the jobs, which the message numbers, and if two arrays overlap: nothing has been
        written then, to any array.

    Examples
    --------
    >>> w, b = np.empty((784, 256), "float32"), np.empty(256, "float32")
    >>> fill_many([(w, "he_normal", Key(0) / "0.weight"), (b, "zeros", None)])
    """
    drawn: list[Job] = []
    spans: list[tuple[int, int, int]] = []
    made: list[tuple[Any, str, Any]] = []
    try:
        entries = iter(jobs)
    except TypeError:
        raise TypeError(f"jobs: expected an iterable of (out, initializer, key), got {type(jobs).__name__}") from None
    for number, entry in enumerate(entries):
        try:
            out, identifier, key = entry
        except (TypeError, ValueError):
            what = f"{type(entry).__name__} of {len(entry)}" if isinstance(entry, (tuple, list)) else type(entry).__name__
            raise TypeError(f"jobs[{number}]: expected (out, initializer, key), got {what}") from None
        try:
            if not isinstance(out, np.ndarray):
                raise TypeError(f"expected an array as out, got {type(out).__name__}")
            initializer = get(identifier)
            dtype = "bfloat16" if out.dtype == np.uint16 else initializer._dtype(out.dtype)
            memory = check_out(out, out.shape, dtype)
            spans.append((*_core.span(memory), number))
            law = initializer.law(out.shape)
            if law is None:
                made.append((initializer._checked_values(out.shape, dtype, key), dtype, out))
            elif dtype in _core.DTYPES:
                fill = job(memory, *law, initializer._key(key), dtype)
                if law.name != "normal":  # which has numbers in every dtype
                    _core.fill(_NOTHING, *fill[1:6])
                drawn.append(fill)
            else:  # complex and float8 are made of what the kernels draw
                made.append((initializer(out.shape, dtype, key=key), dtype, out))
        except (TypeError, ValueError, ImportError) as error:
            kind = next(kind for kind in (TypeError, ValueError, ImportError) if isinstance(error, kind))
            raise kind(f"jobs[{number}]: {error}") from error
    check_apart("jobs", spans)
    fill_all(drawn)
    for values, dtype, out in made:
        store(values, dtype, out)
