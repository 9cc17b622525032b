"""Errors for frameworks (PyTorch, JAX, Keras) that cannot be imported."""

from __future__ import annotations

import importlib.util

__all__ = ["import_failure", "keras_backend_advice"]

# The backends of Keras that train: the name in KERAS_BACKEND, which is also that of the package.
_KERAS_BACKENDS = ("jax", "torch", "tensorflow")


def import_failure(module: str, framework: str, package: str, error: Exception, advice: str = "") -> ImportError:
    """The error to raise in `module`, such as ``fastinit.keras``, when importing its framework failed with `error`.

    It says "not installed" only if the package is missing. If it is there and fails, for instance because a dependency is
    missing, the message repeats that reason, followed by `advice`.
    """
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        extra = module.rpartition(".")[2]
        return ImportError(f"{module}: expected {framework} (pip install 'fastinit[{extra}]'), which is not installed")
    reason = f"{type(error).__name__}: {error}"
    return ImportError(f"{module}: {framework} is installed, but its import failed with {reason}{advice}")


def keras_backend_advice() -> str:
    """Advice on how to choose a backend of Keras, naming those that are installed."""
    installed = [name for name in _KERAS_BACKENDS if importlib.util.find_spec(name)]
    if not installed:
        return ". None of its backends is installed: pip install 'fastinit[keras]' brings JAX"
    return (
        f". Keras takes the backend that the environment variable KERAS_BACKEND names (else its file keras.json, else "
        f"TensorFlow); installed here: {', '.join(installed)}. Before Keras is imported for the first time: "
        f'os.environ["KERAS_BACKEND"] = "{installed[0]}"'
    )
