"""The package as a whole: what its import loads, its version, and its public names."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from importlib import metadata

import pytest

import fastinit


def test_import_loads_only_numpy() -> None:
    code = (
        "import sys, json, numpy; before = set(sys.modules); import fastinit;"
        "print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new = {m for m in json.loads(done.stdout) if m not in sys.stdlib_module_names}
    # The name of Cython's shared module contains its version.
    assert {m for m in new if not m.startswith(("_cython", "cython_runtime"))} <= {"fastinit", "numpy"}


def test_the_installed_version_is_the_same() -> None:
    assert metadata.version("fastinit") == fastinit.__version__


def test_everything_exported_exists_and_has_a_docstring() -> None:
    assert len(set(fastinit.__all__)) == len(fastinit.__all__)
    for name in fastinit.__all__:
        value = getattr(fastinit, name)
        if callable(value):
            assert value.__doc__, name


@pytest.mark.parametrize("name", ["Batches", "CrossEntropy", "Descent", "Held", "SquaredError", "StackParameters", "StackRun"])
def test_objects_of_the_binding_cannot_be_made_without_arguments(name) -> None:
    """They would have no memory to work in."""
    kind = getattr(fastinit._core, name)
    with pytest.raises(TypeError):
        kind.__new__(kind)
    with pytest.raises(TypeError, match="parameters"):
        fastinit._core.StackRun(None, 1, None, 1, False, [])


@pytest.mark.parametrize("name", [n for n in fastinit.__all__ if callable(getattr(fastinit, n))])
def test_public_names_belong_to_the_package(name) -> None:
    """Modules may move; pickles and documents name the package."""
    assert getattr(fastinit, name).__module__ == "fastinit"
    if isinstance(getattr(fastinit, name), type):
        assert pickle.loads(pickle.dumps(getattr(fastinit, name))) is getattr(fastinit, name)
