"""What the tests of the dialects share: a test of a sample against SciPy's laws. Without SciPy they are skipped."""

import numpy as np
import pytest

stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed: the laws are not tested")


def ks(sample, law, *args) -> float:
    """The p-value of Kolmogorov and Smirnov."""
    return stats.kstest(np.asarray(sample, dtype=np.float64).ravel(), law, args=args).pvalue
