"""The examples in the docstrings of public names run as they are printed, with all these names in scope."""

import doctest

import numpy as np
import pytest

import fastinit
from fastinit import gains, plans, residual, theory

NAMES = {name: getattr(room, name) for room in (plans, theory, gains, residual, fastinit) for name in room.__all__}
# Examples also speak of a stack, a batch x and its classes as of things that the reader has.
DATA = {"x": np.ones((32, 784), np.float32), "classes": np.zeros(32, np.int64), "stack": fastinit.Stack([784, 16, 10], "relu")}
SCOPE = {"np": np, "fastinit": fastinit, **DATA, **NAMES}
FOUND = doctest.DocTestFinder(exclude_empty=True)
TESTS = [
    test
    for name, value in sorted(NAMES.items())
    if callable(value)
    for test in FOUND.find(value, name, module=False, globs=SCOPE)
    if test.examples
]


def test_there_are_examples():
    assert len(TESTS) > 40


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.name)
def test_examples_run_as_printed(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    output = []
    result = doctest.DocTestRunner().run(test, out=output.append)
    assert result.attempted
    assert not result.failed, "".join(output)
