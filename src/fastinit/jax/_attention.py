"""Attention weights, seen where JAX computes a softmax."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["ATTENTION", "looks_like_attention", "softmax_seen"]

ATTENTION = "attention"  # the kind of its rows

# jax.nn.softmax, its other names in Flax and in users' modules, and jax.nn.dot_product_attention on its way through XLA all look
# one of these functions up among the globals of JAX's module when they run, which one is a setting: every softmax passes there.
# A JAX without them shows no attention.
_GLOBALS: dict[str, Any] = getattr(inspect.unwrap(jax.nn.softmax), "__globals__", {})
_NAMES = ("_softmax", "_softmax_deprecated")

_LOCK = threading.Lock()
_looks = 0  # how many are under way, in whatever threads


@contextlib.contextmanager
def softmax_seen(see: Callable[[Any], Any]) -> Iterator[None]:
    """Within the block, in any thread, ``see(logits)`` has the logits of each softmax over the last axis, and may return others.

    Parameters
    ----------
    see : callable
        The same in all blocks that overlap: it is to find out itself whether anybody in its thread is looking.
    """
    global _looks
    with _LOCK:
        if _looks == 0:
            _replace(see)
        _looks += 1
    try:
        yield
    finally:
        with _LOCK:
            _looks -= 1
            if _looks == 0:
                _put_back()


def _replace(see: Callable[[Any], Any]) -> None:
    for name in _NAMES:
        if name in _GLOBALS:
            _GLOBALS[name] = _seen_by(see, _GLOBALS[name])


def _seen_by(see: Callable[[Any], Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def softmax(x: Any, axis: Any = -1, where: Any = None, *of_its_derivative: Any) -> Any:
        if not of_its_derivative and jnp.ndim(x) >= 2 and axis in (-1, jnp.ndim(x) - 1):
            x = see(x if where is None else jnp.where(where, x, -jnp.inf))
        return plain(x, axis, where, *of_its_derivative)

    return softmax


def _put_back() -> None:
    for name in _NAMES:
        if name in _GLOBALS:
            _GLOBALS[name] = _GLOBALS[name].__wrapped__


def looks_like_attention(shape: tuple[int, ...], module: str) -> bool:
    """Whether a softmax is of attention weights, and not of the probabilities of classes or experts.

    Parameters
    ----------
    shape : tuple of int
        Of the logits, with the axes of vmap.
    module : str
        The qualified name of the module that computes them.
    """
    named = any(word in module.lower() for word in ("att", "mha"))
    return len(shape) >= 3 and shape[-1] >= 2 and (named or shape[-2] == shape[-1])
