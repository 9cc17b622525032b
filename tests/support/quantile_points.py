"""Words at which a quantile is looked at, and its error as a share of what docs/stream.md allows."""

import mpmath
import numpy as np
import reference

from fastinit import _core


def chosen(law, dtype, parameters, words):
    """The kernel's values of elements whose words are chosen, w_0 2^32 + w_1."""
    out = np.empty(len(words), dtype)
    _core.map_words(words, out, _core.LAWS.index(law), _core.DTYPES.index(dtype), parameters)
    return out


def random_words(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64, endpoint=False)


def share_of_limit(found, exact, bounds):
    """The largest error of a truncated normal, as a share of the stated limit."""
    pairs = zip(found.tolist(), exact, strict=True)
    dtype = str(found.dtype)
    return float(max(abs(mpmath.mpf(x) - z) / reference.truncated_limit(z, *bounds, dtype) for x, z in pairs))
