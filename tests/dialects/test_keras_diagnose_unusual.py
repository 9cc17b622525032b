"""fastinit.keras.diagnose on the backend of KERAS_BACKEND: unusual models, losses and inputs."""

from __future__ import annotations

import numpy as np
import pytest
from keras_backend import keras
from keras_cases import data, dense, weights

from fastinit.keras import diagnose

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.usefixtures("hasty_jax"),
]
if keras.config.backend() == "tensorflow":
    pytest.skip("TensorFlow is refused", allow_module_level=True)

layers, ops = keras.layers, keras.ops


def small(*before, shape=(16,), head=5):
    return keras.Sequential([keras.Input(shape), *before, dense(head, 99, name="head")])


class Made(keras.Model):
    """A model of layers by name and a function of it, the input and `training`."""

    def __init__(self, function, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def call(self, x, training=None):
        return self.function(self, x, training)


def made(function, x, **parts):
    model = Made(function, **parts)
    model(x)
    return model


def severities(found):
    return {finding.name: finding.severity for finding in found.findings}


# ---- inputs, targets and losses ---------------------------------------------------------------------


def test_inputs_that_are_refused():
    with pytest.raises(ValueError, match=r"x: expected at least one sample, got an empty batch"):
        diagnose(small(), data(0, 16))
    for x, name in ((None, "None"), ("abc", "str"), (data(4, 16).tolist(), "float")):
        with pytest.raises(TypeError, match=rf"x: expected arrays or tensors, alone or in lists, tuples or dicts, got .*{name}"):
            diagnose(small(), x)
    with pytest.raises(TypeError, match=r"x: expected values that can be passed twice, got an iterator, list_iterator"):
        diagnose(small(), iter([data(4, 16)]))
    with pytest.raises(TypeError, match=r"targets: expected arrays or tensors.*got .*int"):
        diagnose(small(), data(4, 16), targets=[0, 1, 2, 3])


def test_optional_inputs():
    class Sum(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = dense(5)

        def build(self, *shapes):
            self.dense.build((None, 8))

        def call(self, a, b=None):
            return self.dense(a if b is None else a + b)

    a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b", optional=True)
    assert diagnose(keras.Model([a, b], Sum()(a, b)), [data(8, 8), None]).healthy


def test_labels_in_a_column():
    labels = np.arange(32) % 5
    plain = diagnose(small(), data(32, 16), targets=labels)
    column = diagnose(small(), data(32, 16), targets=labels[:, None].astype("uint8"))
    assert "with the labels that were given" in column.title
    assert column.initial_loss == plain.initial_loss
    with pytest.raises(ValueError, match=r"targets: expected a loss beside them.*got float32 of shape \(32, 5\) for outputs of"):
        diagnose(small(), data(32, 16), targets=data(32, 5))


@pytest.mark.parametrize("loss", ["mse", keras.losses.MeanSquaredError()])
def test_losses_of_one_output_are_refused_for_several(loss):
    x = keras.Input((16,))
    model = keras.Model(x, {"a": dense(3, 1)(x), "b": dense(4, 2)(x)})
    targets = {"a": data(8, 3), "b": data(8, 4)}
    with pytest.raises(TypeError, match=r"loss: expected a function of \(targets, outputs\) for a model with several outputs"):
        diagnose(model, data(8, 16), loss=loss, targets=targets)

    def total(targets, outputs):
        return sum(ops.mean(ops.square(targets[name] - outputs[name])) for name in outputs)

    assert diagnose(model, data(8, 16), loss=total, targets=targets).initial_loss > 0


def test_losses_that_are_no_loss():
    for value, name in ((None, "None"), (ops.ones((2,), dtype="int32"), "int32")):
        with pytest.raises(TypeError, match=rf"loss: expected it to return a tensor of floating numbers, got .*{name}"):
            diagnose(small(), data(8, 16), loss=lambda targets, outputs, value=value: value, targets=data(8, 5))


def test_a_loss_that_is_nan():
    found = diagnose(small(), data(8, 16), loss=lambda targets, outputs: ops.mean(ops.log(outputs)), targets=data(8, 5))
    assert found.verdict == "non-finite"
    assert "loss is infinite or NaN" in found.findings[0].reason


# ---- models -----------------------------------------------------------------------------------------


class Tensor(layers.Layer):
    """A layer with a parameter that multiplies nothing: it is added, scales, or stands before a sequence."""

    def __init__(self, function, shape, initializer):
        super().__init__()
        self.function, self.shape, self.initializer = function, shape, initializer

    def build(self, _):
        self.tensor = self.add_weight(shape=self.shape, initializer=self.initializer, name="tensor")

    def call(self, x):
        return self.function(x, self.tensor)


def test_parameters_that_are_no_matrices():
    x = keras.Input((6, 8))
    y = Tensor(lambda x, t: ops.concatenate([ops.repeat(t, ops.shape(x)[0], 0), x], 1), (1, 1, 8), "zeros")(x)  # of a class
    y = Tensor(lambda x, t: x + t, (7, 8), weights("RandomNormal", stddev=0.02))(y)  # of positions
    y = y + Tensor(lambda x, t: x * t, (1, 1, 8), "zeros")(dense(8, 1)(layers.LayerNormalization()(y)))  # a scale of a branch
    found = diagnose(keras.Model(x, dense(5, 2)(y[:, 0])), data(16, 6, 8))
    assert found.healthy, str(found)
    assert [layer.inputs for layer in found.layers if layer.activation == "Tensor"] == [0, 0, 0]


def test_matrices_of_own_layers():
    found = diagnose(small(Tensor(ops.matmul, (16, 8), weights("RandomNormal", stddev=0.25))), data(32, 16))
    assert found.layers[0].inputs == 16
    assert found.layers[0].rms_theory == pytest.approx(found.layers[0].rms, rel=0.15)


def test_a_bias_that_cancels_is_no_fault():
    branch = small(dense(16, 1, activation="relu"), head=4)
    a, b = keras.Input((16,)), keras.Input((16,))
    distance = layers.Lambda(lambda both: ops.sqrt(ops.sum(ops.square(both[0] - both[1]), -1, keepdims=True) + 1e-6))
    found = diagnose(keras.Model([a, b], distance([branch(a), branch(b)])), [data(32, 16), data(32, 16)[::-1].copy()])
    assert severities(found) == {"no gradient": "warn"}
    assert "cancels" in found.findings[0].reason


def test_statistics_that_are_nan():
    norm = layers.BatchNormalization(name="norm")
    model = small(dense(16, 1), norm)
    norm.moving_mean.assign(np.full(16, np.nan))
    found = diagnose(model, data(32, 16))
    assert found.verdict == "non-finite"
    assert "moving_mean" in found.findings[0].reason


def test_a_branch_of_the_code_that_is_not_taken():
    x = data(8, 16)
    a, b = dense(5, 1), dense(5, 2)
    b.build((None, 16))
    model = made(lambda self, x, _: ops.cond(ops.max(x) > 0, lambda: self.a(x), lambda: self.b(x)), x, a=a, b=b)
    assert set(severities(diagnose(model, x)).items()) <= {("no gradient", "warn")}


def test_layers_inside_of_vectorized_map():
    x = data(8, 16)
    def function(self, x, training):
        return self.head(ops.vectorized_map(lambda row: self.dense(row[None])[0], x))

    model = made(function, x, dense=dense(16, 1), head=dense(5, 2))
    assert diagnose(model, x).healthy


def test_flags_and_nested_lists_are_put_back():
    def function(self, x, training):
        self.dense.trainable = not training
        self.lists[0].append(1)
        self.tables["a"]["b"] = 2
        return self.head(self.dense(x))

    x = data(8, 16)
    model = made(function, x, dense=dense(16, 1), head=dense(5, 2), lists=[[0]], tables={"a": {}})
    model.dense.trainable = True
    lists = list(model.lists[0])
    assert diagnose(model, x).healthy
    assert [variable.trainable for variable in model.dense.variables] == [True, True]
    assert list(model.lists[0]) == lists
    if keras.config.backend() == "torch":
        assert all(variable.value.requires_grad for variable in model.dense.variables)
