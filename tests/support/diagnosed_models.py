"""Sound and faulty models, written once for every framework: for the tests of `diagnose` in PyTorch, JAX and Keras.

Each is a function of a kit, such as `kit_torch`, that makes layers of a framework, and returns a model and its inputs. Weights
are drawn by fastinit and the same everywhere, but where a start is the framework's own. Forward passes count axes from the
last, since models of Equinox take one sample.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from fastinit import Key, normal, uniform

VOCABULARY, LENGTH, WIDTH, HEADS, CLASSES = 85, 16, 64, 4, 10
VECTORS = normal((32, WIDTH), key=Key(1) / "vectors")
IMAGES = normal((8, 8, 8, 3), key=Key(1) / "images")
TOKENS, TARGETS = (uniform((8, LENGTH), 0, VOCABULARY, key=Key(1) / name).astype("int32") for name in ("tokens", "targets"))
FUTURE = np.triu(np.full((LENGTH, LENGTH), -1e9, "float32"), 1)


# ---- starts: functions of a shape (in, out), or (height, width, in, out) ------------------------------


_NUMBERS = itertools.count()


def drawn(variance=1.0, std=None):
    """Normal weights of this variance by fan-in, or of this standard deviation; every start has another key."""
    key = Key(0) / f"{next(_NUMBERS)}"

    def start(shape):
        size = math.sqrt(variance / math.prod(shape[:-1])) if std is None else std
        return normal(shape, key=key) * np.float32(size)

    return start


def constant(value):
    return lambda shape: np.full(shape, value, "float32")


def he():
    return drawn(2.0)


# ---- shapes of published models -----------------------------------------------------------------------


def attention(k, start, last, *, causal=False):
    o = k.ops

    def heads(x):
        return o.swapaxes(o.reshape(x, (*x.shape[:-1], HEADS, WIDTH // HEADS)), -3, -2)

    def forward(m, x, memory=None):
        query, key, value = heads(m.q(x)), *(heads(part(x if memory is None else memory)) for part in (m.k, m.v))
        scores = o.matmul(query, o.swapaxes(key, -1, -2)) * (WIDTH / HEADS) ** -0.5
        if causal:
            scores = scores + o.array(FUTURE)
        mixed = o.swapaxes(o.matmul(o.softmax(scores, -1), value), -3, -2)
        return m.o(o.reshape(mixed, (*mixed.shape[:-2], WIDTH)))

    q, key, v = (k.dense(WIDTH, WIDTH, start(), bias=False) for _ in range(3))
    return k.module(forward, q=q, k=key, v=v, o=k.dense(WIDTH, WIDTH, last(), bias=False))


def mlp(k, start, last, act="gelu", inputs=WIDTH, hidden=4 * WIDTH):
    up, down = k.dense(inputs, hidden, start()), k.dense(hidden, inputs, last())
    return k.module(lambda m, x: m.down(getattr(k.ops, act)(m.up(x))), up=up, down=down)


def swiglu(k, start):
    gate, up = (k.dense(WIDTH, 3 * WIDTH, start(), bias=False) for _ in range(2))
    down = k.dense(3 * WIDTH, WIDTH, start(), bias=False)
    return k.module(lambda m, x: m.down(k.ops.silu(m.gate(x)) * m.up(x)), gate=gate, up=up, down=down)


def block(k, mix, mlp, norm, scale=None):
    """Pre-norm; `scale` is the value that LayerScale begins with."""
    if scale is None:

        def forward(m, x):
            x = x + m.mix(m.norm1(x))
            return x + m.mlp(m.norm2(x))

        return k.module(forward, norm1=norm(WIDTH), mix=mix, norm2=norm(WIDTH), mlp=mlp)

    def forward(m, x):
        x = x + m.scale1(m.mix(m.norm1(x)))
        return x + m.scale2(m.mlp(m.norm2(x)))

    scales = {f"scale{i}": k.scale((WIDTH,), scale) for i in (1, 2)}
    return k.module(forward, norm1=norm(WIDTH), mix=mix, norm2=norm(WIDTH), mlp=mlp, **scales)


def small():
    return drawn(std=0.02)


def gpt2(k, depth=4, embedded=0.02):
    """Tied, with projections into the stream that are smaller by the root of how many there are."""

    def last():
        return drawn(std=0.02 / math.sqrt(2 * depth))

    def forward(m, ids):
        x = m.wte(ids) + m.wpe(k.ops.array(np.arange(LENGTH)))
        for block in m.h:
            x = block(x)
        return k.attend(m.wte, m.norm(x))

    blocks = [block(k, attention(k, small, last, causal=True), mlp(k, small, last), k.layernorm) for _ in range(depth)]
    wte, wpe = k.embedding(VOCABULARY, WIDTH, drawn(std=embedded)), k.embedding(LENGTH, WIDTH, small())
    return k.module(forward, wte=wte, wpe=wpe, h=blocks, norm=k.layernorm(WIDTH)), TOKENS


def gpt1(k, depth=4):
    """Normalised after each addition: of each role the first layer alone reads the small embeddings."""

    def after(mix, mlp):
        def forward(m, x):
            x = m.norm1(x + m.mix(x))
            return m.norm2(x + m.mlp(x))

        return k.module(forward, mix=mix, norm1=k.layernorm(WIDTH), mlp=mlp, norm2=k.layernorm(WIDTH))

    def forward(m, ids):
        x = m.wte(ids) + m.wpe(k.ops.array(np.arange(LENGTH)))
        for block in m.h:
            x = block(x)
        return k.attend(m.wte, x)

    blocks = [after(attention(k, small, small, causal=True), mlp(k, small, small)) for _ in range(depth)]
    wte, wpe = (k.embedding(count, WIDTH, small()) for count in (VOCABULARY, LENGTH))
    return k.module(forward, wte=wte, wpe=wpe, h=blocks), TOKENS


def llama(k, depth=4):
    def forward(m, ids):
        x = m.embed(ids)
        for layer in m.parts:
            x = layer(x)
        return m.head(m.norm(x))

    layers = [block(k, attention(k, small, small, causal=True), swiglu(k, small), k.rmsnorm) for _ in range(depth)]
    embed, head = k.embedding(VOCABULARY, WIDTH, small()), k.dense(WIDTH, VOCABULARY, small(), bias=False)
    return k.module(forward, embed=embed, parts=layers, norm=k.rmsnorm(WIDTH), head=head), TOKENS


def of_patches(k, blocks, head):
    def forward(m, x):
        x = k.patches(m.patch(x))
        for block in m.blocks:
            x = block(x)
        return m.head(k.ops.mean(m.norm(x), -2))

    patch, norm = k.conv(3, WIDTH, 2, 2, drawn()), k.layernorm(WIDTH)
    return k.module(forward, patch=patch, blocks=blocks, norm=norm, head=k.dense(WIDTH, CLASSES, head)), k.images(IMAGES)


def vit(k, depth=4, scale=None):
    blocks = [block(k, attention(k, small, small), mlp(k, small, small), k.layernorm, scale) for _ in range(depth)]
    return of_patches(k, blocks, small())


def mixer(k, depth=4):
    def mixed():
        inner, swap = mlp(k, drawn, drawn, inputs=16, hidden=WIDTH), k.ops.swapaxes
        return k.module(lambda m, x: swap(m.inner(swap(x, -1, -2)), -1, -2), inner=inner)

    return of_patches(k, [block(k, mixed(), mlp(k, drawn, drawn), k.layernorm) for _ in range(depth)], constant(0.0))


def resnet(k, gamma=1.0, depth=3):
    """Bottlenecks in one stage, He by fan-out; `gamma` is the scale of the last normalisation in each branch.

    One stage has the few shapes that JAX compiles its operations for.
    """
    o, width, channels = k.ops, 8, 32

    def conv(inputs, outputs, size=1, stride=1):
        return k.conv(inputs, outputs, size, stride, drawn(2.0 * inputs / outputs))

    def bottleneck(inputs):
        projected = inputs != channels

        def forward(m, x):
            around = m.norm0(m.conv0(x)) if projected else x
            x = o.relu(m.norm1(m.conv1(x)))
            x = o.relu(m.norm2(m.conv2(x)))
            return o.relu(m.norm3(m.conv3(x)) + around)

        parts = {"conv0": conv(inputs, channels), "norm0": k.batchnorm(channels)} if projected else {}
        parts |= {"conv1": conv(inputs, width), "norm1": k.batchnorm(width)}
        parts |= {"conv2": conv(width, width, 3), "norm2": k.batchnorm(width)}
        return k.module(forward, **parts, conv3=conv(width, channels), norm3=k.batchnorm(channels, gamma))

    def forward(m, x):
        x = o.relu(m.norm(m.stem(x)))
        for block in m.blocks:
            x = block(x)
        return m.head(k.pooled(x))

    stem, blocks = conv(3, width, 2, 2), [bottleneck(width if i == 0 else channels) for i in range(depth)]
    head = k.dense(channels, CLASSES, drawn())
    return k.module(forward, stem=stem, norm=k.batchnorm(width), blocks=blocks, head=head), k.images(IMAGES)


def t5(k, depth=3):
    """Encoder and decoder; the head is the embedding, of variance 1, with the factor 1 / sqrt(d) in front of it."""

    def layer(cross):
        def forward(m, x, memory=None):
            x = x + m.mix(m.norm1(x))
            if cross:
                x = x + m.cross(m.norm3(x), memory)
            return x + m.mlp(m.norm2(x))

        parts = {"cross": attention(k, drawn, drawn), "norm3": k.rmsnorm(WIDTH)} if cross else {}
        parts |= {"norm1": k.rmsnorm(WIDTH), "mix": attention(k, drawn, drawn), "norm2": k.rmsnorm(WIDTH)}
        return k.module(forward, **parts, mlp=mlp(k, drawn, drawn, "relu"))

    def forward(m, source, target):
        x, y = m.shared(source), m.shared(target)
        for one in m.encoder:
            x = one(x)
        x = m.norm1(x)
        for one in m.decoder:
            y = one(y, x)
        return k.attend(m.shared, m.norm2(y) * WIDTH**-0.5)

    encoder, decoder = ([layer(cross) for _ in range(depth)] for cross in (False, True))
    norms = {f"norm{i}": k.rmsnorm(WIDTH) for i in (1, 2)}
    shared = k.embedding(VOCABULARY, WIDTH, drawn(std=1.0))
    return k.module(forward, shared=shared, encoder=encoder, **norms, decoder=decoder), TOKENS, TARGETS


SOUND = {"GPT-1": gpt1, "GPT-2": gpt2, "Llama": llama, "ViT": vit, "ResNet": resnet, "T5": t5, "Mixer": mixer}


# ---- zeros by design ----------------------------------------------------------------------------------


def chain(k, layers, head=None):
    def forward(m, x):
        for layer in m.parts:
            x = layer(x)
        return m.head(x)

    return k.module(forward, parts=layers, head=head or k.dense(WIDTH, CLASSES, drawn(0.1))), VECTORS


def lora(k):
    def adapted():
        inner = k.frozen(k.dense(WIDTH, WIDTH, drawn()))
        a, b = k.dense(WIDTH, 4, drawn(), bias=False), k.dense(4, WIDTH, constant(0.0), bias=False)
        return k.module(lambda m, x: m.inner(x) + m.b(m.a(x)), inner=inner, a=a, b=b)

    return chain(k, [adapted() for _ in range(4)])


def rezero(k):
    def forward(m, x):
        return x + m.alpha(k.ops.relu(m.dense(x)))

    return chain(k, [k.module(forward, dense=k.dense(WIDTH, WIDTH, he()), alpha=k.scale((1,), 0.0)) for _ in range(6)])


def adaln_zero(k):
    """Branches behind a gate that a layer of zeros computes of a condition, and a head of zeros, as in DiT."""

    def forward(m, x):
        return x + m.gate(k.ops.tanh(x)) * m.branch(m.norm(x))

    def part():
        norm, branch = k.layernorm(WIDTH), k.dense(WIDTH, WIDTH, drawn())
        return k.module(forward, norm=norm, branch=branch, gate=k.dense(WIDTH, WIDTH, constant(0.0)))

    return chain(k, [*(part() for _ in range(4)), k.layernorm(WIDTH)], k.dense(WIDTH, CLASSES, constant(0.0)))


BY_DESIGN = {
    "BatchNorm with zero gamma": lambda k: resnet(k, gamma=0.0),
    "LoRA with B = 0": lora,
    "ReZero": rezero,
    "LayerScale of 0 that is trained": lambda k: vit(k, scale=0.0),
    "LayerScale of 1e-5": lambda k: vit(k, scale=1e-5),
    "adaLN-Zero with a head of zeros": adaln_zero,
}


# ---- faults -------------------------------------------------------------------------------------------


def stack(k, starts, act="relu", biases=(), head=None):
    """Dense layers, each with an activation function; `biases` are of the first of them."""

    def forward(m, x):
        for layer in m.parts:
            x = m.act(layer(x))
        return m.head(x)

    biases = [*biases, *[None] * len(starts)]
    layers = [k.dense(WIDTH, WIDTH, start, bias) for start, bias in zip(starts, biases, strict=False)]
    return k.module(forward, parts=layers, act=k.activation(act), head=k.dense(WIDTH, CLASSES, head or drawn(0.1))), VECTORS


def times_he(factor, depth=20):
    return lambda k: stack(k, [drawn(2 * factor**2) for _ in range(depth)])


def one_seed(k):
    start = he()
    return stack(k, [start] * 4)


def not_a_number(k):
    sound = he()

    def start(shape):
        values = sound(shape)
        values[3, 5] = np.nan
        return values

    return stack(k, [he(), start, he(), he()])


def dead(k, share):
    bias = np.where(np.arange(WIDTH) < share * WIDTH, -50.0, 0.0).astype("float32")
    return stack(k, [he() for _ in range(4)], biases=[None, bias])


def router(k):
    """The weight of the best expert is 1, so that nothing of the router's choice enters the loss."""

    def forward(m, x):
        first = (k.ops.argmax(m.router(x), -1) == 0)[..., None]
        return x + k.ops.where(first, m.experts[0](x), m.experts[1](x))

    def routed():
        experts = [k.dense(WIDTH, WIDTH, drawn()) for _ in range(2)]
        return k.module(forward, router=k.dense(WIDTH, 2, drawn(), bias=False), experts=experts)

    return chain(k, [routed() for _ in range(2)])


def lost_scale(k):
    def part():
        branch, scale = k.dense(WIDTH, WIDTH, drawn()), k.scale((WIDTH,), 0.0, trained=False)
        return k.module(lambda m, x: x + m.scale(m.branch(x)), branch=branch, scale=scale)

    return chain(k, [part() for _ in range(3)])


def unused(k):
    def forward(m, x):
        if k.initializing(m):
            m.spare(x)
        return m.head(m.body(x))

    body, spare = (k.dense(WIDTH, WIDTH, drawn()) for _ in range(2))
    return k.module(forward, body=body, spare=spare, head=k.dense(WIDTH, CLASSES, drawn(0.1))), VECTORS


def detached(k):
    o = k.ops

    def forward(m, x):
        return m.head(o.relu(m.left(x)) + o.stop_gradient(o.relu(m.right(x))))

    left, right = (k.dense(WIDTH, WIDTH, he()) for _ in range(2))
    return k.module(forward, left=left, right=right, head=k.dense(WIDTH, CLASSES, drawn(0.1))), VECTORS


def two_heads(k):
    def forward(m, x):
        hidden = k.ops.relu(m.body(x))
        return {"logits": m.policy(hidden), "value": m.value(hidden)}

    body, value = k.dense(WIDTH, WIDTH, he()), k.dense(WIDTH, 1, drawn())
    return k.module(forward, body=body, policy=k.dense(WIDTH, CLASSES, drawn(0.1)), value=value), VECTORS


def residual(k):
    def part():
        return k.module(lambda m, x: x + m.mlp(x), mlp=mlp(k, he, he, "relu", hidden=WIDTH))

    return chain(k, [part() for _ in range(12)], k.dense(WIDTH, CLASSES, drawn(std=1e-6)))


def zeros_behind_zeros(k):
    layers = [k.dense(WIDTH, WIDTH, drawn()), k.dense(WIDTH, WIDTH, constant(0.0))]
    return chain(k, layers, k.dense(WIDTH, CLASSES, constant(0.0)))


FAULTS = {
    "the framework's own start, 30 layers of ReLU": lambda k: stack(k, [None] * 30),
    "sigmoid, 12 layers": lambda k: stack(k, [drawn() for _ in range(12)], "sigmoid"),
    "tied head of variance 1": lambda k: gpt2(k, embedded=1.0),
    "router without a gradient": router,
    "LayerScale of 0 for ever": lost_scale,
    "one seed for every layer": one_seed,
    "constant weights": lambda k: stack(k, [constant(0.05)] * 3, "tanh"),
    "an unused block": unused,
    "a head of values beside the logits": two_heads,
    "a NaN": not_a_number,
    "3 times He": times_he(3.0),
    "0.3 times He": times_he(0.3),
    "15 of 16 units dead by their biases": lambda k: dead(k, 15 / 16),
    "a layer dead by its biases": lambda k: dead(k, 1.0),
    "a detached branch": detached,
    "N(0, 1) weights with tanh": lambda k: stack(k, [drawn(std=1.0) for _ in range(4)], "tanh"),
    "residual branches of He without normalisation": residual,
    "a head of zeros behind a layer of zeros": zeros_behind_zeros,
}


def made(name, k):
    """A model and its inputs; its weights are the same whatever was made before, those of the framework's own start too."""
    global _NUMBERS
    _NUMBERS = itertools.count()
    k.begin()
    return {**SOUND, **BY_DESIGN, **FAULTS}[name](k)
