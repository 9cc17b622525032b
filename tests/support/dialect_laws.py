"""Shared by the tests of the dialects: a test of a sample against SciPy's distributions. They are skipped without SciPy."""

import numpy as np
import pytest

stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed: the distributions are not tested")


def ks(sample, law, *args) -> float:
    """The p-value of the Kolmogorov-Smirnov test."""
    return stats.kstest(np.asarray(sample, dtype=np.float64).ravel(), law, args=args).pvalue
