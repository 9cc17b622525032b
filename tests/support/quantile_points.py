"""Random words for tests of the quantiles, and their errors relative to the limits of docs/stream.md."""

import mpmath
import numpy as np
import reference

from fastinit import _core


def chosen(law, dtype, parameters, words):
    """The kernel's values for given random words, w_0 2^32 + w_1."""
    out = np.empty(len(words), dtype)
    _core.map_words(words, out, _core.LAWS.index(law), _core.DTYPES.index(dtype), parameters)
    return out


def random_words(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64, endpoint=False)


def share_of_limit(found, exact, bounds):
    """The largest error of a truncated normal, divided by the stated limit."""
    pairs = zip(found.tolist(), exact, strict=True)
    dtype = str(found.dtype)
    return float(max(abs(mpmath.mpf(x) - z) / reference.truncated_limit(z, *bounds, dtype) for x, z in pairs))
