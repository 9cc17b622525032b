"""Elementary functions against exact values, within their stated errors."""

import numpy as np
import pytest

from fastinit._common.portable_math import cosine_of_turns, exp, log, log_1_minus_exp, sine_of_turns

mpmath = pytest.importorskip("mpmath")


@pytest.fixture(autouse=True)
def _digits():
    with mpmath.workdps(40):
        yield


def ulps(values, exact):
    return max(
        abs(e - mpmath.mpf(float(v))) / mpmath.mpf(float(np.spacing(abs(float(e)))))
        for v, e in zip(values, exact, strict=True)
    )


def test_log_and_exp():
    g = np.random.default_rng(0)
    x = np.concatenate([np.exp(g.uniform(-300, 300, 2000)), g.uniform(0.5, 2, 2000), 1 + g.uniform(-1e-6, 1e-6, 300)])
    assert ulps(log(x), [mpmath.log(float(a)) for a in x]) <= 2
    assert log(1.0) == 0
    x = g.uniform(-700, 700, 3000)
    assert ulps(exp(x), [mpmath.exp(float(a)) for a in x]) <= 2


def test_log_1_minus_exp():
    x = np.exp(np.random.default_rng(1).uniform(-15, 3, 2000))
    for value, a in zip(log_1_minus_exp(x), x, strict=True):
        exact = mpmath.log(-mpmath.expm1(-mpmath.mpf(float(a))))
        assert abs(exact - mpmath.mpf(float(value))) <= 2**-51 * max(1, abs(exact))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 100, 1023])
def test_cosine_and_sine_of_turns(n):
    k = np.arange(-n, 3 * n)
    for value, turned, i in zip(cosine_of_turns(k, n), sine_of_turns(k, n), k, strict=True):
        angle = 2 * mpmath.pi * int(i) / n
        assert abs(mpmath.cos(angle) - mpmath.mpf(float(value))) <= 2**-52
        assert abs(mpmath.sin(angle) - mpmath.mpf(float(turned))) <= 2**-52
