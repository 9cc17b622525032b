"""What `diagnosed_models` builds models of, in Flax nnx, Flax linen and Equinox: a class for each."""

from __future__ import annotations

import functools
import itertools
import types
import warnings
from typing import Any

import numpy as np
import pytest
from jax_cases import jax, jnp, ours

ops = types.SimpleNamespace(
    reshape=jnp.reshape, swapaxes=jnp.swapaxes, matmul=jnp.matmul, softmax=jax.nn.softmax, relu=jax.nn.relu,
    gelu=functools.partial(jax.nn.gelu, approximate=False), silu=jax.nn.silu, tanh=jnp.tanh, mean=jnp.mean, argmax=jnp.argmax,
    where=jnp.where, stop_gradient=jax.lax.stop_gradient, array=jnp.asarray,
)  # fmt: skip


def _given(start):
    """An initializer of JAX that gives a start's numbers, and the framework's own without one."""
    return lambda key, shape, dtype=jnp.float32, **_: jnp.asarray(start(shape), dtype)


def _starts(start, bias, kernel="kernel_init"):
    found = {} if start is None else {kernel: _given(start)}
    return found | ({} if bias is None or bias is False else {"bias_init": _given(lambda shape: bias)})


class _Flax:
    """What nnx and linen have in common."""

    ops = ops

    def begin(self):
        """The frameworks' own starts are the same for each model, whatever was made before."""

    def initializing(self, model):
        return False

    def attend(self, layer, hidden):
        return layer.attend(hidden)

    def activation(self, name):
        return {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[name]

    def frozen(self, layer):
        return layer

    def images(self, x):
        return x

    def pooled(self, x):
        return x.mean(axis=(-3, -2))

    def patches(self, x):
        return x.reshape(*x.shape[:-3], -1, x.shape[-1])

    def diagnose(self, model, *inputs):
        return ours.diagnose(model, *map(jnp.asarray, inputs))


class Nnx(_Flax):
    def __init__(self):
        self.fw = pytest.importorskip("flax.nnx")

    def begin(self):
        self.rngs = self.fw.Rngs(0)

    def module(self, forward, **parts):
        nnx = self.fw

        class Model(nnx.Module):
            def __init__(self):
                for name, part in parts.items():
                    setattr(self, name, nnx.List(part) if isinstance(part, list) else part)

            __call__ = forward

        return Model()

    def dense(self, inputs, outputs, start=None, bias=None):
        return self.fw.Linear(inputs, outputs, use_bias=bias is not False, **_starts(start, bias), rngs=self.rngs)

    def conv(self, inputs, outputs, size, stride, start):
        how = {"strides": stride, "padding": "SAME" if size % 2 else "VALID", "use_bias": False}
        return self.fw.Conv(inputs, outputs, (size, size), **how, **_starts(start, None), rngs=self.rngs)

    def embedding(self, count, width, start):
        return self.fw.Embed(count, width, **_starts(start, None, "embedding_init"), rngs=self.rngs)

    def layernorm(self, width):
        return self.fw.LayerNorm(width, epsilon=1e-5, rngs=self.rngs)

    def rmsnorm(self, width):
        return self.fw.RMSNorm(width, rngs=self.rngs)

    def batchnorm(self, channels, scale=1.0):
        return self.fw.BatchNorm(channels, scale_init=jax.nn.initializers.constant(scale), rngs=self.rngs)

    def scale(self, shape, value, trained=True):
        kind = self.fw.Param if trained else self.fw.Variable
        return self.module(lambda m, x: m.value[...] * x, value=kind(jnp.full(shape, value)))


class Linen(_Flax):
    def __init__(self):
        self.fw = pytest.importorskip("flax.linen")

    def initializing(self, model):
        return model.is_initializing()  # where linen makes the parameters of all that is called

    def module(self, forward, **parts):
        body = {"__annotations__": dict.fromkeys(parts, Any), "__call__": forward}
        return type("Model", (self.fw.Module,), body)(**parts)

    def dense(self, inputs, outputs, start=None, bias=None):
        return self.fw.Dense(outputs, use_bias=bias is not False, **_starts(start, bias))

    def conv(self, inputs, outputs, size, stride, start):
        how = {"strides": stride, "padding": "SAME" if size % 2 else "VALID", "use_bias": False}
        return self.fw.Conv(outputs, (size, size), **how, **_starts(start, None))

    def embedding(self, count, width, start):
        return self.fw.Embed(count, width, **_starts(start, None, "embedding_init"))

    def layernorm(self, width):
        return self.fw.LayerNorm(epsilon=1e-5)  # that of PyTorch, which is seen beside embeddings of variance 0.0004

    def rmsnorm(self, width):
        return self.fw.RMSNorm()

    def batchnorm(self, channels, scale=1.0):
        return self.fw.BatchNorm(use_running_average=False, scale_init=jax.nn.initializers.constant(scale))

    def scale(self, shape, value, trained=True):
        linen = self.fw

        class Scale(linen.Module):
            @linen.compact
            def __call__(self, x):
                if trained:
                    return self.param("value", jax.nn.initializers.constant(value), shape) * x
                return self.variable("constants", "value", jnp.full, shape, value).value * x

        return Scale()

    def diagnose(self, model, *inputs):
        inputs = tuple(map(jnp.asarray, inputs))
        return ours.diagnose(model.bind(model.init(jax.random.key(0), *inputs)), *inputs)


class Equinox(_Flax):
    """Of whose models one sample is asked: a layer maps over the tokens, if there are any."""

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Equinox at import
            self.fw = pytest.importorskip("equinox")

    def begin(self):
        self.keys = (jax.random.key(i) for i in itertools.count())

    def module(self, forward, **parts):
        body = {"__annotations__": dict.fromkeys(parts, Any), "__call__": forward}
        return type("Model", (self.fw.Module,), body)(**parts)

    def _over_tokens(self, kind, sample_ndim):
        def mapped(layer, x):
            one = functools.partial(kind.__call__, layer)
            return one(x) if x.ndim == sample_ndim else jax.vmap(one)(x)

        return type(kind.__name__, (kind,), {"__call__": mapped})

    def _made(self, start, kind, *sizes, **options):
        """A layer of Equinox's own start; of another one its form alone, which is made without compiling."""
        make = kind if start is None else functools.partial(self.fw.filter_eval_shape, kind)
        return make(*sizes, **options, key=next(self.keys))

    def _started(self, layer, start, bias, shape, order=None):
        replaced = layer
        if start is not None:
            replaced = self.fw.tree_at(lambda one: one.weight, replaced, jnp.asarray(np.transpose(start(shape), order)))
        if layer.bias is not None and (start is not None or bias is not None):
            numbers = jnp.broadcast_to(jnp.asarray(0.0 if bias is None else bias, jnp.float32), layer.bias.shape)
            replaced = self.fw.tree_at(lambda one: one.bias, replaced, numbers)
        return replaced

    def dense(self, inputs, outputs, start=None, bias=None):
        kind = self._over_tokens(self.fw.nn.Linear, 1)
        layer = self._made(start, kind, inputs, outputs, use_bias=bias is not False)
        return self._started(layer, start, bias, (inputs, outputs))

    def conv(self, inputs, outputs, size, stride, start):
        padding = size // 2 if size % 2 else 0
        layer = self._made(start, self.fw.nn.Conv2d, inputs, outputs, size, stride, padding, use_bias=False)
        return self._started(layer, start, None, (size, size, inputs, outputs), (3, 2, 0, 1))

    def embedding(self, count, width, start):
        return self._over_tokens(self.fw.nn.Embedding, 0)(weight=jnp.asarray(start((count, width))))

    def attend(self, layer, hidden):
        return hidden @ layer.weight.T

    def layernorm(self, width):
        return self._over_tokens(self.fw.nn.LayerNorm, 1)(width)

    def rmsnorm(self, width):
        return self._over_tokens(self.fw.nn.RMSNorm, 1)(width)

    def batchnorm(self, channels, scale=1.0):
        eqx = self.fw
        layer, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(channels, "batch", mode="batch")
        layer = eqx.tree_at(lambda one: one.weight, layer, jnp.full(channels, scale))
        # A copy, since a state serves once; its statistics are no parameters.
        return self.module(lambda m, x: m.norm(x, jax.tree.map(jnp.asarray, state))[0], norm=layer)

    def scale(self, shape, value, trained=True):
        if not trained:
            return self.module(lambda m, x: value * x)
        return self.module(lambda m, x: m.value * x, value=jnp.full(shape, value))

    def images(self, x):
        return np.moveaxis(x, -1, 1)

    def pooled(self, x):
        return x.mean(axis=(-2, -1))

    def patches(self, x):
        return x.reshape(*x.shape[:-2], -1).swapaxes(-1, -2)
