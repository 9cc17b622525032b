"""fastinit.keras.diagnose on the backend of KERAS_BACKEND: the entropy of attention, and residual branches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from keras_backend import keras
from keras_cases import data, dense, weights

from fastinit.keras import _diagnose, diagnose

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.usefixtures("hasty_jax"),
]
if keras.config.backend() == "tensorflow":
    pytest.skip("TensorFlow is refused", allow_module_level=True)

layers, ops = keras.layers, keras.ops


def observed(monkeypatch, model, x, **options):
    """What the judgement is given."""
    runs = []
    judge = _diagnose.judge_model
    monkeypatch.setattr(_diagnose, "judge_model", lambda given, *rest: (runs.extend(given), judge(given, *rest))[1])
    diagnose(model, x, **options)
    return {layer.name: layer for layer in runs[0].layers}


# One shape, (2, 6, 8), in all tests: JAX compiles its operations for each.

# ---- attention -------------------------------------------------------------------------------------


def entropy_of(logits, visible=None):
    logits = np.asarray(ops.convert_to_numpy(logits), np.float64)
    visible = np.ones(logits.shape, bool) if visible is None else np.broadcast_to(visible, logits.shape)
    weight = np.where(visible, np.exp(logits - logits.max(-1, keepdims=True)), 0.0)
    weight /= weight.sum(-1, keepdims=True)
    entropy = -(weight * np.log(np.maximum(weight, 1e-300))).sum(-1)
    keys = visible.sum(-1)
    return (entropy[keys > 1] / np.log(keys[keys > 1])).mean()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["mha", "dropout", "grouped"])
def test_the_entropy_of_attention(monkeypatch, kind, causal):
    x = 3 * data(2, 6, 8)
    options = {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.5), "name": "attention"}
    attention = {
        "mha": lambda: layers.MultiHeadAttention(2, 4, **options),
        "dropout": lambda: layers.MultiHeadAttention(2, 4, dropout=0.2, **options),
        "grouped": lambda: layers.GroupQueryAttention(4, 4, 2, **options),
    }[kind]()
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, attention(inputs, inputs, use_causal_mask=causal))
    rows = observed(monkeypatch, model, x)
    assert rows["attention"].kind == "attention"
    assert rows["attention"].gradient > 0
    assert not math.isnan(rows["attention"].square)
    query, key = (ops.convert_to_numpy(layer(x)) for layer in (attention._query_dense, attention._key_dense))
    key = np.repeat(key, query.shape[2] // key.shape[2], axis=2)
    logits = np.einsum("bthc,bshc->bhts", query, key) / 2
    assert rows["attention"].entropy == pytest.approx(entropy_of(logits, np.tri(6, dtype=bool) if causal else None), rel=1e-4)
    assert list(rows).index("attention") == 3
    assert all(math.isnan(row.entropy) for name, row in rows.items() if name != "attention")
    assert "_compute_attention" not in attention.__dict__


def test_the_entropy_of_masked_and_other_attention(monkeypatch):
    tokens = np.array([[1, 2, 3, 0, 0, 0], [1, 2, 3, 4, 5, 1]], dtype="int32")
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(6, 8, mask_zero=True, embeddings_initializer=weights("RandomNormal", stddev=2.0))(inputs)
    y = layers.MultiHeadAttention(2, 4, name="projected")(x, x)
    y = layers.Attention(use_scale=True, name="plain")([y, x])
    y = layers.AdditiveAttention(name="additive")([y, x])
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(y))
    rows = observed(monkeypatch, model, tokens)
    assert [name for name in rows if rows[name].kind == "attention"] == ["projected", "plain", "additive"]
    for name in ("projected", "plain", "additive"):
        assert 0 <= rows[name].entropy <= 1
    scores = keras.Model(inputs, layers.Attention(use_scale=True)([x, x], return_attention_scores=True)[1])(tokens)
    assert np.asarray(ops.convert_to_numpy(scores))[0, :, 3:].max() < 1e-6  # what is masked is not counted as seen


def test_sharp_attention_is_saturated():
    keras.utils.set_random_seed(0)
    for stddev, names in ((0.2, set()), (5.0, {"saturated"})):
        initializer = keras.initializers.RandomNormal(stddev=stddev)
        inputs = keras.Input((6, 8))
        y = layers.MultiHeadAttention(2, 4, kernel_initializer=initializer)(*[layers.LayerNormalization()(inputs)] * 2)
        model = keras.Model(inputs, dense(10, 1)(layers.LayerNormalization()(layers.GlobalAveragePooling1D()(y))))
        found = diagnose(model, data(2, 6, 8))
        assert names == {finding.name for finding in found.findings} & {"saturated"}, str(found)


# ---- residual branches ------------------------------------------------------------------------------


def test_residual_branches(monkeypatch):
    x = inputs = keras.Input((64,))
    for i, gain in enumerate((1.0, 0.1)):
        y = layers.Dropout(0.0)(layers.Rescaling(gain)(dense(64, i, name=f"branch_{i}")(x)))
        x = layers.Add()([y, x]) if i else x + y
    both = layers.Add()([dense(64, 7, name="one")(x), dense(64, 8, name="two")(x)])
    model = keras.Model(inputs, dense(10, 9, name="head")(both))
    rows = observed(monkeypatch, model, data(256, 64))
    assert rows["branch_0"].branch == pytest.approx(1.0, rel=0.1)
    assert rows["branch_1"].branch == pytest.approx(0.1, rel=0.1)
    assert all(math.isnan(rows[name].branch) for name in ("one", "two", "head"))
    assert not any("call" in operation.__dict__ for operation in model.operations)


def test_residual_branches_of_blocks(monkeypatch):
    x = inputs = keras.Input((6, 8))
    x = x + layers.MultiHeadAttention(2, 4, name="attention")(*[layers.LayerNormalization(name="norm")(x)] * 2)
    both = dense(16, 1, activation="relu", name="up"), dense(8, 2, name="down")
    inner = keras.Sequential([keras.Input((6, 8)), *both], name="mlp")
    x = layers.Add()([inner(x), x])
    rows = observed(monkeypatch, keras.Model(inputs, layers.GlobalAveragePooling1D()(x)), data(2, 6, 8))
    assert [name for name, row in rows.items() if not math.isnan(row.branch)] == ["attention/attention_output", "mlp/down"]
