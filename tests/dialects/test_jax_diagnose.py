"""fastinit.jax.diagnose: what is measured and how it is called; no model is changed. `test_diagnosed_models` has the verdicts."""

from __future__ import annotations

import jax_models as models
import numpy as np
import pytest
from jax_cases import jax, jnp, ours
from jax_models import CLASSES, FRAMEWORKS, IMAGES, WIDTH, X, framework, plain, state_of

from fastinit import Key, Thresholds

pytestmark = pytest.mark.usefixtures("hasty_jax")
diagnose = ours.diagnose


@pytest.fixture(params=FRAMEWORKS)
def name(request):
    framework(request.param)
    return request.param


def test_the_lora_of_nnx_and_a_number_of_the_model_that_is_0():
    nnx = framework("nnx")

    class Adapted(nnx.Module):
        def __init__(self, rngs):
            self.dense, self.inner = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(2))
            self.lora = nnx.LoRA(WIDTH, 4, WIDTH, rngs=rngs)
            self.alpha = nnx.Param(jnp.zeros(()))
            self.gate = 1.0

        def __call__(self, h):
            h = self.dense(h) + self.lora(h)
            return h + self.gate * self.alpha[...] * self.inner(h)

    model = Adapted(nnx.Rngs(0))
    assert diagnose(model, X).healthy
    model.gate = 0.0  # and no parameter
    found = diagnose(model, X)
    assert (found.verdict, found.findings[0].severity) == ("no gradient", "fail")
    assert "inner.kernel" in found.findings[0].reason


def test_the_model_is_untouched(name):
    model, call = models.noisy(name)
    before = state_of(model)
    first = diagnose(model, X, call=call)
    assert first.healthy, first
    assert state_of(model) == before
    assert str(diagnose(model, X, call=call)) == str(first)
    raising = plain(name, depth=3, raises=True)
    before = state_of(raising)
    with pytest.raises(RuntimeError, match="in the middle"):
        diagnose(raising, X)
    assert state_of(raising) == before
    assert not jax.config.jax_disable_jit
    if name == "nnx":
        assert not any("fastinit" in key for _, module in framework("nnx").iter_modules(model) for key in vars(module))


def test_compiled_functions_stay_as_they_are(name):
    model, traced = plain(name, depth=2), []

    def outputs(model, x):
        return jax.vmap(model)(x) if name == "equinox" else model(x)

    @jax.jit
    def step(x):
        traced.append(1)
        return outputs(model, x)

    before = step(X)
    diagnose(model, X, call=lambda model, x: step(x) + outputs(model, x))
    count = len(traced)
    assert np.array_equal(step(X), before)
    assert len(traced) == count
    assert "fastinit" not in str(jax.make_jaxpr(step)(X))


def test_numbers_are_those_of_jax(name):
    model = plain(name, depth=1)
    labels = jnp.arange(32) % CLASSES
    found = diagnose(model, X, targets=labels)
    first, second = ((layer.rms, layer.gradient_rms, layer.gradient_to_weight) for layer in found.layers)
    if name == "nnx":
        kernels = [model.layers[0].kernel[...], model.head.kernel[...]]
    elif name == "linen":
        kernels = [model.variables["params"][layer]["kernel"] for layer in ("layers_0", "head")]
    else:
        kernels = [model.layers[0].weight.T, model.head.weight.T]

    def loss(kernels, hidden, logits):
        z = X @ kernels[0] + hidden
        out = jax.nn.relu(z) @ kernels[1] + logits
        return -jnp.take_along_axis(jax.nn.log_softmax(out), labels[:, None], 1).mean(), (z, out)

    zeros = jnp.zeros((32, WIDTH)), jnp.zeros((32, CLASSES))
    (value, outputs), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(kernels, *zeros)
    assert np.isclose(found.initial_loss, value, rtol=1e-5)
    for i, row in enumerate((first, second)):
        ratio = jnp.linalg.norm(gradients[0][i]) / jnp.linalg.norm(kernels[i])
        expected = [jnp.sqrt(jnp.square(array).mean()) for array in (outputs[i], gradients[1 + i])]
        assert np.allclose(row, [*expected, ratio], rtol=1e-4)


def test_checkpointed_layers_have_the_same_numbers(name):
    stored, again = (diagnose(plain(name, depth=3, remat=remat), X) for remat in (False, True))
    assert len(stored.layers) == len(again.layers)
    for one, other in zip(stored.layers, again.layers, strict=True):
        numbers = [(row.rms, row.gradient_rms, row.gradient_to_weight) for row in (one, other)]
        assert np.allclose(*numbers, rtol=1e-3, equal_nan=True), (one, other)


def test_layers_of_a_scan_have_a_row_for_each_turn():
    eqx = framework("equinox")

    class Scanned(eqx.Module):
        layers: eqx.nn.Linear

        @eqx.filter_jit
        def __call__(self, h):
            arrays, rest = eqx.partition(self.layers, eqx.is_array)
            return jax.lax.scan(lambda h, one: (jnp.tanh(eqx.combine(one, rest)(h)), None), h, arrays)[0]

    keys = jax.random.split(jax.random.key(0), 5)
    found = diagnose(Scanned(eqx.filter_vmap(lambda key: eqx.nn.Linear(WIDTH, WIDTH, key=key))(keys)), X)
    assert [layer.layer for layer in found.layers] == ["layers", *(f"layers#{i}" for i in range(2, 6))]
    assert all(0.8 < layer.rms / layer.rms_theory < 1.25 for layer in found.layers)


def test_activation_functions_that_are_leaves_of_a_model():
    eqx = framework("equinox")
    keys = jax.random.split(jax.random.key(0), 4)
    layers = [eqx.nn.Linear(WIDTH, WIDTH, key=key) for key in keys]
    louder = eqx.nn.Lambda(lambda h: 20 * h)
    loud = eqx.nn.Sequential([part for layer in layers for part in (louder, layer, eqx.nn.Lambda(jnp.tanh))])
    found = diagnose(loud, X)
    assert "saturated" in [finding.name for finding in found.findings]
    row = next(layer for layer in found.layers if layer.activation == "tanh")
    assert (row.layer, row.units) == ("layers.2", WIDTH)
    dead = eqx.tree_at(lambda one: one.layers[1].bias, loud, jnp.full(WIDTH, -1e9))
    dead = eqx.tree_at(lambda one: one.layers[2].fn, dead, jax.nn.relu)
    assert ("dead", "layers.2") in [(finding.name, finding.layer) for finding in diagnose(dead, X).findings]


def test_bfloat16(name):
    found = diagnose(plain(name, depth=6, dtype=jnp.bfloat16), X.astype(jnp.bfloat16))
    wide = diagnose(plain(name, depth=6), X)
    assert {finding.name for finding in found.findings} <= {"over-confident head"}
    assert [layer.layer for layer in found.layers] == [layer.layer for layer in wide.layers]


def test_a_loss_of_ones_own_and_outputs_that_are_no_logits(name):
    model = plain(name, depth=2)

    def loss(outputs, targets):
        return jnp.square(outputs - targets).mean()

    found = diagnose(model, X, loss=loss, targets=jnp.ones((32, CLASSES)))
    assert "the loss that was given" in found.title
    assert np.isnan(found.uniform_loss)
    lost = diagnose(model, X, loss=lambda _: jnp.array(jnp.nan))
    assert [finding.name for finding in lost.findings] == ["non-finite"]
    outputs = jax.vmap(model)(X) if name == "equinox" else model(X)
    assert np.isclose(found.initial_loss, jnp.square(outputs - 1).mean(), rtol=1e-5)
    assert "cross-entropy with random labels" in diagnose(model, X).title
    assert "cross-entropy with the labels that were given" in diagnose(model, X, targets=np.zeros(32, np.int32)).title


def test_images_out_have_a_random_cotangent():
    nnx = framework("nnx")
    found = diagnose(nnx.ConvTranspose(8, 5, (3, 3), strides=2, rngs=nnx.Rngs(0)), IMAGES)
    assert "a random cotangent" in found.title
    assert 0.8 < found.layers[0].rms / found.layers[0].rms_theory < 1.25


def test_inputs_by_name_and_seeds(name):
    fw = framework(name)
    if name == "nnx":

        def made(key):
            return fw.Linear(WIDTH, CLASSES, rngs=fw.Rngs(key))

        by_name = {"inputs": X}
    elif name == "linen":

        def made(key):
            module = fw.Dense(CLASSES)
            return module.bind(module.init(key, X))

        by_name = {"inputs": X}
    else:

        def made(key):
            return fw.nn.Linear(WIDTH, CLASSES, key=key)

        by_name = {}
    found = diagnose(made, X, seeds=3, key=Key(5))
    assert (found.seeds, found.batch) == (3, 32)
    assert str(found) == str(diagnose(made, X, seeds=3, key=Key(5)))
    assert found.initial_loss != diagnose(made, X, seeds=3).initial_loss
    if by_name:
        assert diagnose(made(jax.random.key(0)), named=by_name).batch == 32


def test_refusals():
    nnx = framework("nnx")
    model = nnx.Linear(WIDTH, CLASSES, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="a function of a key that makes a model"):
        diagnose(model, X, seeds=2)
    with pytest.raises(TypeError, match=r"module\.bind\(variables\)"):
        diagnose(framework("linen").Dense(3), X)
    with pytest.raises(TypeError, match="expected a module of Flax or Equinox"):
        diagnose(3, X)
    with pytest.raises(TypeError, match="makes a module of Flax or Equinox, got int"):
        diagnose(lambda key: 3, X)
    with pytest.raises(ValueError, match="expected floating parameters, got none"):
        diagnose(nnx.Dropout(0.1, rngs=nnx.Rngs(0)), X)
    with pytest.raises(TypeError, match=r"fastinit\.Thresholds"):
        diagnose(model, X, thresholds=3)
    with pytest.raises(TypeError, match="loss: expected a function, got int"):
        diagnose(model, X, loss=3)
    with pytest.raises(TypeError, match="loss: expected one floating number"):
        diagnose(model, X, loss=lambda outputs: outputs)
    with pytest.raises(ValueError, match=r"ints that are classes .*, got int64 of shape \(32,\) for outputs of shape \(32, 10\)"):
        diagnose(model, X, targets=np.full(32, CLASSES))
    with pytest.raises(TypeError, match="an iterator, generator"):
        diagnose(model, (x for x in [X]))
    with pytest.raises(TypeError, match="expected the model itself, which is run without jit"):
        diagnose(nnx.jit(model), X)
    linen = framework("linen").Sequential([framework("linen").Dense(3)])
    with pytest.raises(ValueError, match=r'module\.bind\({"params": params}\), got the collections layers_0'):
        diagnose(linen.bind(linen.init(jax.random.key(0), X)["params"]), X)
    limits = Thresholds(initial_loss=(0.01, 0.02))
    assert diagnose(model, X, thresholds=limits).verdict == "over-confident head"


def test_an_equinox_model_that_is_given_one_sample():
    model = framework("equinox").nn.MLP(WIDTH, CLASSES, 8, 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="matmul") as caught:
        diagnose(model, X[0])
    note = "A model of Equinox is called for each sample, along the first axis of the inputs, got float32 of shape (64,)."
    assert note in caught.value.__notes__
    with pytest.raises(ValueError, match="an axis of samples, got none"):
        diagnose(model)
