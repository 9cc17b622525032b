"""A whole model's tensors in one launch of the threads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import _core
from .._common.arithmetic import ieee
from .._common.checks import check_apart
from .._common.dtypes import check_out, store
from .._stream.draw import Job, fill_all, job
from .lookup import get

__all__ = ["fill_many"]


@ieee
def fill_many(jobs: Iterable[tuple[Any, Any, Any]]) -> None:
    """Fill many arrays, each with its own initializer and key, on all threads at once.

    Each array gets the values of ``initializer(out.shape, out.dtype, key=key, out=out)``. The work is divided by elements, not
    by arrays, so that a model of many small tensors uses all threads; a call for a single small tensor uses one.

    Parameters
    ----------
    jobs : iterable of (out, initializer, key)
        `out` is a writable C-contiguous array of any shape; its dtype is that of the tensor (uint16 holds the bits of bfloat16).
        `initializer` is anything that `get` takes. `key` is a Key, or None for the initializer's own seed. A tensor whose
        elements are not independent, such as an orthogonal matrix, is first computed in memory of its own.

    Raises
    ------
    TypeError, ValueError, ImportError
        As the initializers raise them; the message names the job. Also a ValueError if two arrays overlap. Nothing has been
        written then, to any array.

    Examples
    --------
    >>> w, b = np.empty((784, 256), "float32"), np.empty(256, "float32")
    >>> fill_many([(w, "he_normal", Key(0) / "0.weight"), (b, "zeros", None)])
    """
    fills: list[Job] = []
    spans: list[tuple[int, int, int]] = []
    computed: list[tuple[Any, str, Any]] = []
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
                computed.append((initializer._checked_values(out.shape, dtype, key), dtype, out))
            elif dtype in _core.DTYPES:
                fills.append(job(memory, *law, initializer._key(key), dtype))
            else:  # complex and float8 tensors are converted from dtypes that the kernels draw
                computed.append((initializer(out.shape, dtype, key=key), dtype, out))
        except (TypeError, ValueError, ImportError) as error:
            kind = next(kind for kind in (TypeError, ValueError, ImportError) if isinstance(error, kind))
            raise kind(f"jobs[{number}]: {error}") from error
    check_apart("jobs", spans)
    fill_all(fills)
    for values, dtype, out in computed:
        store(values, dtype, out)
