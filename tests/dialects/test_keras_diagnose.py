"""fastinit.keras.diagnose on the backend of KERAS_BACKEND: layers of Keras's own, losses, arguments; no model is changed."""

from __future__ import annotations

import random

import numpy as np
import pytest
from keras_backend import keras
from keras_cases import data, weights

from fastinit import Thresholds
from fastinit.keras import diagnose

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.usefixtures("hasty_jax"),
]
if keras.config.backend() == "tensorflow":

    def test_tensorflow_is_refused():
        with pytest.raises(NotImplementedError, match=r"expected the JAX or the PyTorch backend of Keras, got tensorflow"):
            diagnose(None, None)

    pytest.skip("TensorFlow is refused", allow_module_level=True)

layers, ops = keras.layers, keras.ops


def mlp(initializer="HeNormal", activation="relu", depth=8, classes=10, last=None, **options):
    body = [
        layers.Dense(64, activation=activation, kernel_initializer=weights(initializer, i, **options), name=f"dense_{i}")
        for i in range(depth)
    ]
    head = layers.Dense(classes, activation=last, kernel_initializer=weights("LecunNormal", 99), name="head")
    return keras.Sequential([keras.Input((64,)), *body, head])


def severities(found):
    return {finding.name: finding.severity for finding in found.findings}


# ---- models of Keras's own kinds; test_diagnosed_models has the others ------------------------------


def test_a_fused_activation_function_has_a_row_of_its_own():
    found = diagnose(mlp("GlorotUniform", "sigmoid", depth=6), data(32, 64))
    assert [layer.layer for layer in found.layers[:3]] == ["dense_0", "dense_0/sigmoid", "dense_1"]
    assert len(found.layers) == 13
    dead = mlp(depth=3)
    dead.layers[1].bias.assign(-100 * np.ones(64))
    finding = next(one for one in diagnose(dead, data(32, 64)).findings if one.name == "dead")
    assert finding.layer == "dense_1/relu"


def test_layers_that_share_a_seeded_initializer_are_twins():
    shared = keras.initializers.HeNormal(seed=7)
    made = [layers.Dense(64, activation="relu", kernel_initializer=shared, name=f"dense_{i}") for i in range(4)]
    found = diagnose(keras.Sequential([keras.Input((64,)), *made, layers.Dense(10)]), data(32, 64))
    assert found.verdict == "symmetric"
    assert "dense_0.kernel and dense_1.kernel are equal bit for bit, and 2 more pairs" in found.findings[0].reason


def test_low_rank_adapters_begin_at_zero():
    model = mlp(depth=3)
    for layer in model.layers:
        layer.enable_lora(4)
    assert diagnose(model, data(32, 64)).healthy


def convolutional():
    blocks = []
    for i in range(3):
        conv = layers.Conv2D(3, 3, padding="same", kernel_initializer=weights("HeNormal", i))
        blocks += [conv, layers.BatchNormalization(), layers.Activation("relu")]
    head = layers.Dense(10, kernel_initializer=weights("LecunNormal", 50), activation="softmax")
    return keras.Sequential([keras.Input((8, 8, 3)), *blocks, layers.GlobalAveragePooling2D(), layers.Dropout(0.2), head])


def transformer(depth=4, width=32, vocabulary=50):
    tokens = keras.Input((12,), dtype="int32")
    x = layers.Embedding(vocabulary, width, embeddings_initializer=weights("RandomNormal", 100, stddev=0.5))(tokens)
    for i in range(depth):
        y = layers.LayerNormalization()(x)
        # Not seeded: Keras copies the initializer with its seed, and the weights of queries, keys and values would be equal.
        x = x + layers.MultiHeadAttention(4, 8)(y, y, use_causal_mask=True)
        y = layers.LayerNormalization()(x)
        y = layers.Dense(4 * width, activation="gelu", kernel_initializer=weights("HeNormal", 2 * i))(y)
        x = x + layers.Dropout(0.1)(layers.Dense(width, kernel_initializer=weights("LecunNormal", 2 * i + 1))(y))
    x = layers.LayerNormalization()(x)
    return keras.Model(tokens, layers.Dense(vocabulary, kernel_initializer=weights("RandomNormal", 99, stddev=0.02))(x))


def recurrent():
    x = keras.Input((10, 8))
    y = layers.LSTM(16, kernel_initializer=weights("HeNormal", 1), recurrent_initializer=weights("Orthogonal", 2))(x)
    return keras.Model(x, layers.Dense(1, kernel_initializer=weights("LecunNormal", 3))(y))


TOKENS = np.arange(96).reshape(8, 12).astype("int32") % 50


@pytest.mark.parametrize(
    ("model", "x", "what"),
    [
        (mlp, data(32, 64), "cross-entropy of logits with random labels"),
        (convolutional, data(32, 8, 8, 3), "cross-entropy of probabilities with random labels"),
        (transformer, TOKENS, "cross-entropy of logits with random labels"),
        (recurrent, data(32, 10, 8), "a random cotangent"),
    ],
)
def test_sound_models(model, x, what):
    found = diagnose(model(), x)
    # He's 30 ReLU layers pass energy on, so that logits are as large as inputs: ln C + 1 may be passed, and is worth a warning.
    assert set(severities(found).items()) <= ({("over-confident head", "warn")} if model is mlp else set()), str(found)
    assert f"; {what}; 1 seed, batch of {len(x)}" in found.title


def test_what_theory_expects_of_a_layer():
    found = diagnose(mlp(depth=8), data(256, 64))
    for layer in found.layers:
        if layer.activation == "Dense":
            assert layer.rms == pytest.approx(layer.rms_theory, rel=0.2)


def test_other_layers_have_their_fans():
    x = inputs = keras.Input((8, 8, 4))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.Conv2DTranspose(6, 4, strides=2, name="transposed")(x)
    x = layers.Conv2D(6, 3, groups=2, name="grouped")(x)
    x = layers.EinsumDense("abcd,de->abce", (None, None, 5), name="einsum")(x)
    x = layers.SeparableConv2D(5, 3, name="separable")(x)
    found = diagnose(keras.Model(inputs, x), data(16, 8, 8, 4))
    fans = {layer.layer: layer.inputs for layer in found.layers}
    assert fans == {"depthwise": 9, "transposed": 32, "grouped": 27, "einsum": 6, "separable": 0}
    assert [layer.units for layer in found.layers] == [8, 6, 6, 5, 5]


# ---- losses, seeds, arguments -----------------------------------------------------------------------


def test_losses_of_keras():
    x, labels = data(32, 64), np.arange(32) % 10
    model = mlp(depth=3, last="softmax")
    plain = diagnose(model, x, targets=labels)
    assert "cross-entropy of probabilities with the labels that were given" in plain.title
    for loss in ("sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy()):
        found = diagnose(model, x, loss=loss, targets=labels)
        assert "the loss that was given" in found.title
        assert found.initial_loss == pytest.approx(plain.initial_loss, rel=1e-4)
        assert found.layers[0].gradient_rms == pytest.approx(plain.layers[0].gradient_rms, rel=1e-3)
    squares = diagnose(model, x, loss=lambda targets, outputs: ops.square(outputs - targets), targets=data(32, 10))
    assert squares.initial_loss > 0
    assert np.isnan(squares.uniform_loss)
    with pytest.raises(ValueError, match=r"targets: expected what the loss compares the outputs with, got none"):
        diagnose(model, x, loss="mse")
    with pytest.raises(ValueError, match=r"targets: expected a loss beside them"):
        diagnose(model, x, targets=labels + 1)


def test_several_inputs_and_outputs():
    a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
    both = layers.Dense(16, activation="relu", kernel_initializer=weights("HeNormal", 1))(layers.Concatenate()([a, b]))
    outputs = {"logits": layers.Dense(4, name="l")(both), "hidden": both}
    model = keras.Model([a, b], outputs)
    found = diagnose(model, {"a": data(32, 8), "b": data(32, 8)})
    assert found.uniform_loss == pytest.approx(np.log(4))
    assert "cotangent" not in found.title


def test_seeds_make_models_anew():
    def model():
        return keras.Sequential([keras.Input((64,)), *[layers.Dense(64, activation="relu") for _ in range(12)], layers.Dense(10)])

    state = random.getstate()
    found = diagnose(model, data(32, 64), seeds=3)
    assert random.getstate() == state
    assert found.seeds == 3
    assert len(set(found.forward.each)) == 3
    assert diagnose(model, data(32, 64), seeds=3).forward.each == found.forward.each
    with pytest.raises(TypeError, match=r"seeds: expected 1 for one model, got 2"):
        diagnose(model(), data(32, 64), seeds=2)


def test_refusals():
    x = data(4, 8)
    with pytest.raises(ValueError, match=r"model: expected one that is built"):
        diagnose(keras.Sequential([layers.Dense(3)]), x)
    with pytest.raises(TypeError, match=r"model: expected a keras.Model or a function"):
        diagnose(layers.Dense(3), x)
    with pytest.raises(TypeError, match=r"thresholds: expected a fastinit.Thresholds"):
        diagnose(mlp(depth=1), x, thresholds=3)
    with pytest.raises(TypeError, match=r"loss: expected a name"):
        diagnose(mlp(depth=1), x, loss=3, targets=x)
    if keras.config.backend() == "torch":
        import torch

        wrapped = keras.Sequential([keras.Input((8,)), layers.TorchModuleWrapper(torch.nn.Linear(8, 3))])
        with pytest.raises(TypeError, match=r"got a TorchModuleWrapper; fastinit.torch.diagnose takes"):
            diagnose(wrapped, x)
    frozen = mlp(depth=1)
    frozen.trainable = False
    with pytest.raises(ValueError, match=r"model: expected a variable to train"):
        diagnose(frozen, x)


def test_thresholds_are_taken():
    model, x = mlp(depth=3), data(32, 64)
    assert diagnose(model, x, thresholds=Thresholds(initial_loss=(0.0, 0.1))).verdict == "over-confident head"


# ---- nothing changes ----------------------------------------------------------------------------------


class Noisy(keras.Model):
    """With statistics, noise, a counter and lists of its own, and an error if it is told so."""

    def __init__(self, fails=False):
        super().__init__()
        self.first = layers.Dense(16, activation="relu", kernel_initializer=weights("HeNormal", 1))
        self.norm = layers.BatchNormalization()
        self.noise = layers.GaussianDropout(0.1)
        self.zero = layers.Dense(16, kernel_initializer="zeros")
        self.frozen = layers.Dense(16, trainable=False, kernel_initializer=weights("HeNormal", 2))
        self.head = layers.Dense(4, kernel_initializer=weights("LecunNormal", 3))
        self.calls, self.log, self.fails = 0, [], fails

    def call(self, x, training=None):
        self.calls += 1
        self.log.append(self.calls)
        x = self.noise(self.norm(self.first(x), training=training), training=training)
        if self.fails and self.calls > 1:
            raise RuntimeError("in the middle")
        random.random(), np.random.random()  # noqa: NPY002
        return self.head(self.frozen(x + self.zero(x)))


def snapshot(model):
    numbers = [np.array(ops.convert_to_numpy(variable.value)) for variable in [*model.variables, *model.optimizer.variables]]
    flags = [variable.trainable for variable in model.variables]
    attributes = [{name: id(value) for name, value in layer.__dict__.items()} for layer in model._flatten_layers()]
    own = model.calls, list(model.log), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    grads = []
    if keras.config.backend() == "torch":
        import torch

        grads = [None if v.value.grad is None else v.value.grad.clone().numpy() for v in model.trainable_variables]
        own += (torch.get_rng_state().tolist(),)
    return numbers + [grad for grad in grads if grad is not None], (flags, attributes, own, len(grads))


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_it_was(fails):
    x = data(32, 8)
    model = Noisy()
    model(x)
    model.compile(optimizer="adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    if keras.config.backend() == "torch":
        ops.sum(model(x)).backward()
    model.fails = fails
    numbers, rest = snapshot(model)
    if fails:
        with pytest.raises(RuntimeError, match="in the middle"):
            diagnose(model, x)
    else:
        first, second = diagnose(model, x), diagnose(model, x)
        assert first.healthy
        assert str(first) == str(second)
    again, rest_again = snapshot(model)
    assert rest_again == rest
    for a, b in zip(numbers, again, strict=True):
        assert a.tobytes() == b.tobytes()


def test_recomputed_layers_are_seen():
    plain = diagnose(mlp(depth=3), data(32, 64))
    with keras.RematScope(mode="full"):
        model = mlp(depth=3)
        found = diagnose(model, data(32, 64))
        assert all(layer._remat_mode is not None for layer in model.layers)
    assert str(found) == str(plain)


def test_mixed_precision():
    with_policy = [
        layers.Dense(64, activation="relu", dtype="mixed_bfloat16", kernel_initializer=weights("HeNormal", i)) for i in range(4)
    ]
    model = keras.Sequential([keras.Input((64,)), *with_policy, layers.Dense(10, kernel_initializer=weights("LecunNormal", 9))])
    found = diagnose(model, data(32, 64))
    assert found.verdict in ("healthy", "over-confident head")
    assert found.layers[0].gradient_rms > 0


@pytest.mark.parametrize("last", [None, "softmax"])
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_the_head_is_judged_by_a_loss_of_classes_in_another_form(last, size):
    model = mlp(depth=1, last=last)
    kernel = model.layers[-1].kernel
    kernel.assign(size * kernel)
    x, labels = data(64, 64), np.arange(64) % 10
    ones = np.eye(10, dtype="float32")[labels]
    logits = last is None
    plainly = diagnose(model, x, targets=labels)
    for loss, targets in (
        (keras.losses.CategoricalCrossentropy(from_logits=logits), ones),
        (keras.losses.CategoricalCrossentropy(from_logits=logits, label_smoothing=0.1), ones),
        (lambda _, outputs: ops.sum(keras.losses.categorical_crossentropy(ones, outputs, from_logits=logits)), data(3)),
    ):
        found = diagnose(model, x, loss=loss, targets=targets)
        assert found.uniform_loss == pytest.approx(np.log(10))
        if size == 1:  # larger ones Keras clips in probabilities
            assert found.initial_loss == pytest.approx(plainly.initial_loss, rel=1e-4)
        assert ("over-confident head" in severities(found)) == (size > 1)
    for loss in ("mse", "binary_crossentropy"):
        assert np.isnan(diagnose(model, x, loss=loss, targets=ones).uniform_loss)
