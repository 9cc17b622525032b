"""Models of Flax nnx, Flax linen and Equinox of the same forms, for the tests of diagnoses; skipped without the framework."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from jax_cases import jax, jnp

FRAMEWORKS = ["nnx", "linen", "equinox"]
WIDTH, CLASSES = 64, 10
X = jax.random.normal(jax.random.key(1), (32, WIDTH))
TOKENS = jax.random.randint(jax.random.key(2), (8, 16), 0, 85)
SEQUENCES = jax.random.normal(jax.random.key(3), (4, 16, WIDTH))
IMAGES = jax.random.normal(jax.random.key(4), (32, 8, 8, 8))  # Flax; Equinox has channels first


def he(scale=2.0):
    return jax.nn.initializers.variance_scaling(scale, "fan_in", "normal")


def framework(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Equinox at import
        return pytest.importorskip({"nnx": "flax.nnx", "linen": "flax.linen", "equinox": "equinox"}[name])


def _linear(eqx, kernel, key, inputs, outputs, bias=True):
    """A layer of Equinox, whose weight is the transpose of Flax's kernel."""
    made = eqx.nn.Linear(inputs, outputs, use_bias=bias, key=key)
    made = eqx.tree_at(lambda one: one.weight, made, kernel(key, (inputs, outputs), jnp.float32).T)
    return eqx.tree_at(lambda one: one.bias, made, jnp.zeros(outputs)) if bias else made


def plain(name, depth=12, act=jax.nn.relu, kernel=None, fault="", seed=0, dtype=jnp.float32):
    """Dense layers, and in `fault` what is wrong after the second of them."""
    kernel = he() if kernel is None else kernel
    fw = framework(name)
    head = he(1.0)

    def between(i, h):
        if i == 1 and fault == "detached":
            return jax.lax.stop_gradient(h)
        if i == 1 and fault == "raises":
            raise RuntimeError("in the middle")
        return h

    def chosen(router, experts, h):
        return jnp.where(jnp.argmax(router(h), axis=-1, keepdims=True) == 0, experts[0](h), experts[1](h))

    if name == "nnx":

        class Plain(fw.Module):
            def __init__(self, rngs):
                def dense(outputs=WIDTH, kernel=kernel):
                    return fw.Linear(WIDTH, outputs, kernel_init=kernel, param_dtype=dtype, rngs=rngs)

                self.layers = fw.List([dense() for _ in range(depth)])
                self.head = dense(CLASSES, head)
                if fault == "router":
                    self.router, self.experts = dense(2), fw.List([dense(), dense()])
                if fault == "unused":
                    self.spare = dense()

            def __call__(self, h):
                for i, layer in enumerate(self.layers):
                    h = between(i, act(layer(h)))
                return self.head(chosen(self.router, self.experts, h) if fault == "router" else h)

        return Plain(fw.Rngs(seed))
    if name == "linen":

        class Plain(fw.Module):
            def setup(self):
                def dense(outputs=WIDTH, kernel=kernel):
                    return fw.Dense(outputs, kernel_init=kernel, param_dtype=dtype)

                self.layers = [dense() for _ in range(depth)]
                self.head = dense(CLASSES, head)
                if fault == "router":
                    self.router, self.experts = dense(2), [dense(), dense()]
                if fault == "unused":
                    self.spare = dense()

            def __call__(self, h):
                if fault == "unused" and self.is_initializing():
                    self.spare(h)
                for i, layer in enumerate(self.layers):
                    h = layer(h)
                    h = h if self.is_initializing() and fault == "raises" else between(i, act(h))
                return self.head(chosen(self.router, self.experts, h) if fault == "router" else h)

        made = Plain()
        return made.bind(made.init(jax.random.key(seed), X.astype(dtype)))

    class Plain(fw.Module):
        layers: list
        router: fw.nn.Linear | None
        experts: list
        spare: fw.nn.Linear | None
        head: fw.nn.Linear

        def __init__(self, key):
            keys = iter(jax.random.split(key, depth + 8))

            def dense(outputs=WIDTH, kernel=kernel):
                one = _linear(fw, kernel, next(keys), WIDTH, outputs)
                return jax.tree.map(lambda leaf: leaf.astype(dtype) if fw.is_array(leaf) else leaf, one)

            self.layers = [dense() for _ in range(depth)]
            self.head = dense(CLASSES, head)
            self.router = dense(2) if fault == "router" else None
            self.experts = [dense(), dense()] if fault == "router" else []
            self.spare = dense() if fault == "unused" else None

        def __call__(self, h):
            for i, layer in enumerate(self.layers):
                h = between(i, act(layer(h)))
            return self.head(chosen(self.router, self.experts, h) if fault == "router" else h)

    return Plain(jax.random.key(seed))


def tied(name, variance=1.0):
    """Embeddings that are the head, too: with variance 1 they begin at 25 times ln C."""
    fw = framework(name)
    init = jax.nn.initializers.normal(variance**0.5)
    if name == "nnx":

        class Tied(fw.Module):
            def __init__(self, rngs):
                self.embed = fw.Embed(85, WIDTH, embedding_init=init, rngs=rngs)
                self.norm = fw.LayerNorm(WIDTH, rngs=rngs)
                self.dense = fw.Linear(WIDTH, WIDTH, kernel_init=he(1.0), rngs=rngs)

            def __call__(self, tokens):
                return self.embed.attend(self.norm(self.dense(self.embed(tokens))))

        return Tied(fw.Rngs(0))
    if name == "linen":

        class Tied(fw.Module):
            def setup(self):
                self.embed = fw.Embed(85, WIDTH, embedding_init=init)
                self.norm = fw.LayerNorm()
                self.dense = fw.Dense(WIDTH, kernel_init=he(1.0))

            def __call__(self, tokens):
                return self.embed.attend(self.norm(self.dense(self.embed(tokens))))

        made = Tied()
        return made.bind(made.init(jax.random.key(0), TOKENS))

    class Tied(fw.Module):
        embed: fw.nn.Embedding
        norm: fw.nn.LayerNorm
        dense: fw.nn.Linear

        def __init__(self, key):
            self.embed = fw.nn.Embedding(weight=init(key, (85, WIDTH)))
            self.norm = fw.nn.LayerNorm(WIDTH)
            self.dense = _linear(fw, he(1.0), key, WIDTH, WIDTH)

        def __call__(self, tokens):
            h = jax.vmap(lambda token: self.norm(self.dense(self.embed(token))))(tokens)
            return h @ self.embed.weight.T

    return Tied(jax.random.key(0))


def transformer(name, depth=3, zero=False, remat=False):
    """Pre-norm blocks of attention and a dense part; with `zero` the branches end in zeros."""
    fw = framework(name)
    kernel, last = he(1.0), jax.nn.initializers.zeros if zero else he(1.0 / (2 * depth))
    if name == "nnx":

        class Block(fw.Module):
            def __init__(self, rngs):
                self.norms = fw.List([fw.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)])
                self.attention = fw.MultiHeadAttention(
                    4, WIDTH, decode=False, kernel_init=kernel, out_kernel_init=last, rngs=rngs
                )
                self.wide = fw.Linear(WIDTH, 4 * WIDTH, kernel_init=kernel, rngs=rngs)
                self.narrow = fw.Linear(4 * WIDTH, WIDTH, kernel_init=last, rngs=rngs)

            def __call__(self, h):
                h = h + self.attention(self.norms[0](h))
                return h + self.narrow(jax.nn.gelu(self.wide(self.norms[1](h))))

        class Transformer(fw.Module):
            def __init__(self, rngs):
                self.blocks = fw.List([Block(rngs) for _ in range(depth)])
                self.norm = fw.LayerNorm(WIDTH, rngs=rngs)
                self.head = fw.Linear(WIDTH, CLASSES, kernel_init=he(0.1), rngs=rngs)

            def __call__(self, h):
                for block in self.blocks:
                    h = fw.remat(lambda block, h: block(h))(block, h) if remat else block(h)
                return self.head(self.norm(h))

        return Transformer(fw.Rngs(0))
    if name == "linen":

        class Block(fw.Module):
            @fw.compact
            def __call__(self, h):
                attention = fw.MultiHeadDotProductAttention(4, kernel_init=kernel, out_kernel_init=last)
                h = h + attention(fw.LayerNorm()(h))
                wide = fw.Dense(4 * WIDTH, kernel_init=kernel)(fw.LayerNorm()(h))
                return h + fw.Dense(WIDTH, kernel_init=last)(jax.nn.gelu(wide))

        class Transformer(fw.Module):
            @fw.compact
            def __call__(self, h):
                for i in range(depth):
                    h = (fw.remat(Block) if remat else Block)(name=f"block_{i}")(h)
                return fw.Dense(CLASSES, kernel_init=he(0.1), name="head")(fw.LayerNorm()(h))

        made = Transformer()
        return made.bind(made.init(jax.random.key(0), SEQUENCES))

    class Block(fw.Module):
        norms: list
        attention: fw.nn.MultiheadAttention
        wide: fw.nn.Linear
        narrow: fw.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.norms = [fw.nn.LayerNorm(WIDTH) for _ in range(2)]
            attention = fw.nn.MultiheadAttention(4, WIDTH, key=keys[0])
            self.attention = fw.tree_at(
                lambda one: one.output_proj, attention, _linear(fw, last, keys[0], WIDTH, WIDTH, bias=False)
            )
            self.wide = _linear(fw, kernel, keys[1], WIDTH, 4 * WIDTH)
            self.narrow = _linear(fw, last, keys[2], 4 * WIDTH, WIDTH)

        def __call__(self, h):
            normed = jax.vmap(self.norms[0])(h)
            h = h + self.attention(normed, normed, normed)
            return h + jax.vmap(self.narrow)(jax.nn.gelu(jax.vmap(self.wide)(jax.vmap(self.norms[1])(h))))

    class Transformer(fw.Module):
        blocks: list
        norm: fw.nn.LayerNorm
        head: fw.nn.Linear

        def __init__(self, key):
            *keys, last = jax.random.split(key, depth + 1)
            self.blocks = [Block(key) for key in keys]
            self.norm = fw.nn.LayerNorm(WIDTH)
            self.head = _linear(fw, he(0.1), last, WIDTH, CLASSES)

        def __call__(self, h):
            for block in self.blocks:
                h = fw.filter_checkpoint(block)(h) if remat else block(h)
            return jax.vmap(self.head)(jax.vmap(self.norm)(h))

    return Transformer(jax.random.key(0))


def resnet(name, depth=2, zero=True):
    """Residual blocks of two convolutions with normalisation; with `zero` the last scale of each is 0, as is usual.

    Returns the model, its input, and how it is called.
    """
    fw = framework(name)
    kernel = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    scale = jax.nn.initializers.zeros if zero else jax.nn.initializers.ones
    if name == "nnx":

        class Block(fw.Module):
            def __init__(self, rngs):
                def conv():
                    return fw.Conv(8, 8, (3, 3), use_bias=False, kernel_init=kernel, rngs=rngs)

                self.first, self.second = conv(), conv()
                self.norm, self.last = fw.BatchNorm(8, rngs=rngs), fw.BatchNorm(8, scale_init=scale, rngs=rngs)

            def __call__(self, h):
                return jax.nn.relu(h + self.last(self.second(jax.nn.relu(self.norm(self.first(h))))))

        class ResNet(fw.Module):
            def __init__(self, rngs):
                self.blocks = fw.List([Block(rngs) for _ in range(depth)])
                self.dropout = fw.Dropout(0.1, rngs=rngs)
                self.head = fw.Linear(8, CLASSES, rngs=rngs)

            def __call__(self, h):
                for block in self.blocks:
                    h = block(h)
                return self.head(self.dropout(h.mean(axis=(1, 2))))

        return ResNet(fw.Rngs(0)), IMAGES, None
    if name == "linen":

        class ResNet(fw.Module):
            @fw.compact
            def __call__(self, h):
                for _ in range(depth):
                    b = fw.Conv(8, (3, 3), use_bias=False, kernel_init=kernel)(h)
                    b = jax.nn.relu(fw.BatchNorm(use_running_average=False)(b))
                    b = fw.Conv(8, (3, 3), use_bias=False, kernel_init=kernel)(b)
                    h = jax.nn.relu(h + fw.BatchNorm(use_running_average=False, scale_init=scale)(b))
                h = fw.Dropout(0.1, deterministic=False)(h.mean(axis=(1, 2)))
                return fw.Dense(CLASSES)(h)

        made = ResNet()
        return made.bind(made.init(jax.random.key(0), IMAGES)), IMAGES, None

    class Block(fw.Module):
        convs: list
        norms: list

        def __init__(self, key):
            self.convs = [
                fw.tree_at(
                    lambda one: one.weight,
                    fw.nn.Conv2d(8, 8, 3, padding=1, use_bias=False, key=key),
                    jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal", 1, 0)(key, (8, 8, 3, 3)),
                )
                for key in jax.random.split(key)
            ]
            norms = [fw.nn.BatchNorm(8, "batch", mode="batch") for _ in range(2)]
            norms[1] = fw.tree_at(lambda one: one.weight, norms[1], scale(key, (8,)))
            self.norms = norms

        def __call__(self, h, state):
            b, state = self.norms[0](self.convs[0](h), state)
            b, state = self.norms[1](self.convs[1](jax.nn.relu(b)), state)
            return jax.nn.relu(h + b), state

    class ResNet(fw.Module):
        blocks: list
        head: fw.nn.Linear

        def __init__(self, key):
            self.blocks = [Block(key) for key in jax.random.split(key, depth)]
            self.head = fw.nn.Linear(8, CLASSES, key=key)

        def __call__(self, h, state):
            for block in self.blocks:
                h, state = block(h, state)
            return self.head(h.mean(axis=(1, 2))), state

    model, state = fw.nn.make_with_state(ResNet)(jax.random.key(0))

    def call(model, x):
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)[0]

    return model, jnp.moveaxis(IMAGES, -1, 1), call


def state_of(model):
    """Copies of all arrays of a model, and its form: of Flax nnx also statistics, counts and the modules' attributes."""
    form: object = None
    if framework_of(model) == "nnx":
        form, tree = framework("nnx").split(model)
    else:
        tree = model.variables if framework_of(model) == "linen" else model
        form = jax.tree.structure(tree)

    def copied(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.array(leaf).tobytes(), leaf.dtype

    return form, [copied(leaf) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]


def framework_of(model):
    return next(name for name in FRAMEWORKS if isinstance(model, framework(name).Module))
