"""Every initializer of the catalogue, and nested ones, with small shapes."""

import numpy as np
import pytest
from catalogue_cases import CASES

from fastinit import (
    Constant,
    ForgetGateBias,
    GlorotUniform,
    HeNormal,
    Icnr,
    LogUniform,
    MambaDtBias,
    Orthogonal,
    PerGate,
    RandomUniform,
    Times,
    TruncatedNormal,
)
from fastinit._common.dtypes import LARGEST

ml_dtypes = pytest.importorskip("ml_dtypes")


DTYPES = list(LARGEST)


MATRIX = (64, 48)


# Initializers that contain others, several levels deep.
NESTS = [
    (Times(HeNormal(), 0.7), MATRIX),
    (Times(Times(GlorotUniform(), -0.7), 0.3), MATRIX),
    (Times(Times(Times(TruncatedNormal(0.1, 0.3, -1.0, 2.0), -0.7), 0.3), -1.0), MATRIX),
    (Times(RandomUniform(0.25, 1.0), 0.0), MATRIX),
    (Times(Times(Orthogonal(), 0.7), 0.3), MATRIX),
    (Times(PerGate(("he_normal", "zeros", Times("he_normal", 0.7))), 0.3), MATRIX),
    (PerGate((Times("glorot_normal", 0.7), "orthogonal", PerGate(("ones", Times("he_uniform", 3.0)), axis=0)), 0), (96, 10)),
    (Icnr(Times("he_normal", 0.7), 2), (3, 3, 8, 16)),
    (Icnr(PerGate(("he_normal", "he_uniform")), 2, "oi"), (16, 8, 2, 2)),
    (Times(Icnr("lecun_uniform", 2), 0.7), (3, 3, 8, 16)),
    (Times(ForgetGateBias(2.0), 0.7), (16,)),
    (Times(LogUniform(), 0.7), (40,)),
    (PerGate((MambaDtBias(), Times(LogUniform(), 0.7))), (40,)),
    (Times(Constant([0.1, 0.2]), 0.7), (3, 2)),
]  # fmt: skip


ALL = CASES + NESTS


def named(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def bits(array):
    return array.tobytes()


def small(shape):
    """The shape of a case, or a smaller one where that is large."""
    return MATRIX if shape == (400, 300) else shape
