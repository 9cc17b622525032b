"""Keras on the backend that KERAS_BACKEND names, or on the first that is installed. Without one, tests are skipped."""

import importlib.util
import os
import sys

import pytest

BACKENDS = [name for name in ("jax", "torch", "tensorflow") if importlib.util.find_spec(name)]
if "keras" not in sys.modules and BACKENDS:
    os.environ.setdefault("KERAS_BACKEND", BACKENDS[0])
if not BACKENDS:
    pytest.skip("no backend of Keras is installed: the dialect is not tested", allow_module_level=True)
keras = pytest.importorskip("keras", reason="Keras is not installed: the dialect is not tested")
