"""The error of a dialect whose framework is absent, too old or fails to import; tested with fake packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastinit

SOURCE = Path(fastinit.__file__).parents[1]


def error_of_import(dialect, path, **environment):
    """The last line of the error of `import fastinit.<dialect>`, with the packages in `path` first on sys.path."""
    code = f"import sys; sys.path[:0] = [{str(path)!r}, {str(SOURCE)!r}]; import fastinit.{dialect}"
    clean = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    return run.stderr.strip().splitlines()[-1]


def package(path, name, text):
    (path / name).mkdir()
    (path / name / "__init__.py").write_text(text)


@pytest.mark.parametrize("dialect", ["keras", "jax", "torch"])
def test_an_absent_framework(tmp_path, dialect):
    # The error of an absent package, even if the real one is installed.
    package(tmp_path, dialect, f"raise ModuleNotFoundError(\"No module named '{dialect}'\", name='{dialect}')")
    message = error_of_import(dialect, tmp_path)
    assert f"pip install 'fastinit[{dialect}]'" in message
    assert "not installed" in message


@pytest.mark.parametrize("dialect", ["keras", "jax", "torch"])
def test_the_reason_of_a_failing_import_is_repeated(tmp_path, dialect):
    package(tmp_path, dialect, "import a_missing_module")
    message = error_of_import(dialect, tmp_path)
    assert "is installed, but its import failed with ModuleNotFoundError: No module named 'a_missing_module'" in message
    assert "not installed" not in message


@pytest.mark.parametrize("text", ["import tensorflow_of_old", "raise ValueError('Unable to import backend : nonsense')"])
def test_keras_without_its_backend_says_how_to_choose_another(tmp_path, text):
    package(tmp_path, "keras", text)
    package(tmp_path, "jax", "")
    message = error_of_import("keras", tmp_path)
    assert "KERAS_BACKEND" in message
    assert "installed here: jax" in message
    assert 'os.environ["KERAS_BACKEND"] = "jax"' in message


def test_an_old_keras_is_refused_by_its_version(tmp_path):
    package(tmp_path, "keras", "__version__ = '2.15.0'")
    assert error_of_import("keras", tmp_path).endswith("expected Keras 3.8 or newer, got Keras 2.15.0")


def test_a_pytorch_library_that_does_not_load(tmp_path):
    package(tmp_path, "torch", "raise OSError('libtorch.so: cannot open shared object file')")
    assert "failed with OSError: libtorch.so" in error_of_import("torch", tmp_path)
