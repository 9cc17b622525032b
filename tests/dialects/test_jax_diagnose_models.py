"""fastinit.jax.diagnose with what real models do: registers of classes, generators and states as inputs, shared weights."""

from __future__ import annotations

import numpy as np
import pytest
from jax_cases import jax, jnp, ours
from jax_models import CLASSES, FRAMEWORKS, WIDTH, X, framework, plain

pytestmark = pytest.mark.usefixtures("hasty_jax")
diagnose = ours.diagnose
KEYS = jax.random.split(jax.random.key(0), 4)


def rows_of(found):
    return {layer.layer: layer for layer in found.layers}


def test_classes_that_keep_a_register_do_not_hear_of_it():
    nnx, eqx = framework("nnx"), framework("equinox")
    register = []

    class Dense(nnx.Module):
        def __init_subclass__(cls, tag, **options):
            super().__init_subclass__(**options)
            register.append((tag, cls))

        def __init__(self, rngs):
            self.dense = nnx.Param(jax.random.normal(rngs(), (WIDTH, CLASSES)) / WIDTH**0.5)

        def __call__(self, x):
            return x @ self.dense[...]

    class Other(eqx.Module):
        weight: jax.Array

        def __init_subclass__(cls, tag, **options):
            super().__init_subclass__(**options)
            register.append((tag, cls))

        def __call__(self, x):
            return x @ self.weight

    class Named(Dense, tag="one"):
        pass

    class NamedToo(Other, tag="two"):
        pass

    before = list(register)
    for model in (Named(nnx.Rngs(0)), NamedToo(jax.random.normal(KEYS[0], (WIDTH, CLASSES)) / WIDTH**0.5)):
        assert list(rows_of(diagnose(model, X))) == ["model"]
    assert register == before


def test_generators_and_states_that_are_inputs_stay_as_they_are():
    nnx, eqx = framework("nnx"), framework("equinox")

    class Noisy(nnx.Module):
        def __init__(self, rngs):
            self.head, self.drop = nnx.Linear(WIDTH, CLASSES, rngs=rngs), nnx.Dropout(0.2)

        def __call__(self, x, rngs):
            return self.head(self.drop(x, rngs=rngs))

    rngs = nnx.Rngs(0)
    diagnose(Noisy(nnx.Rngs(1)), X, rngs)
    assert rngs.default.count[...] == 0

    def made(key):
        return eqx.nn.SpectralNorm(eqx.nn.Linear(WIDTH, CLASSES, key=key), "weight", key=key)

    model, state = eqx.nn.make_with_state(made)(KEYS[0])

    def called(model, x, state):
        return jax.vmap(lambda one: model(one, state)[0])(x)

    first = diagnose(model, X, state, call=called)
    assert str(diagnose(model, X, state, call=called)) == str(first)
    jax.tree.leaves(state)  # raises for a state that was used


@pytest.mark.parametrize("key", [jax.random.key(0), jax.random.PRNGKey(0)])
def test_each_sample_of_equinox_has_a_key_of_its_own(key):
    eqx = framework("equinox")
    layers = [eqx.nn.Linear(WIDTH, WIDTH, key=KEYS[0]), eqx.nn.Dropout(0.7), eqx.nn.Linear(WIDTH, CLASSES, key=KEYS[1])]
    found = diagnose(eqx.nn.Sequential(layers), X, named={"key": key})
    assert found.layers[0].dead < 0.1


def test_a_layer_that_passes_its_weight_on_is_not_judged_by_it():
    linen = framework("linen")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            cell = linen.OptimizedLSTMCell(WIDTH, recurrent_kernel_init=linen.initializers.lecun_normal())
            return linen.Dense(CLASSES)(linen.RNN(cell)(x)[:, -1])

    x = jax.random.normal(KEYS[0], (8, 4, WIDTH))
    module = Model()
    rows = diagnose(module.bind(module.init(KEYS[1], x)), x).layers
    assert all(np.isnan(row.rms_theory) for row in rows[:-1])
    assert rows[-1].rms_theory > 0


def test_a_weight_that_layers_share_belongs_to_each():
    nnx = framework("nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = (nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs) for _ in range(2))
            self.second.kernel = self.first.kernel
            self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.head(nnx.relu(self.second(nnx.relu(self.first(x)))))

    found = diagnose(Model(nnx.Rngs(0)), X)
    rows = rows_of(found)
    assert list(rows) == ["first", "second", "head"]
    assert rows["second"].rms == pytest.approx(rows["second"].rms_theory, rel=0.2)
    assert f"{WIDTH * WIDTH + WIDTH * CLASSES + CLASSES:,} parameters" in found.title


def test_activation_functions_that_are_attributes_of_nnx_modules():
    nnx = framework("nnx")
    rngs = nnx.Rngs(0)
    loud = nnx.initializers.normal(2.0)
    model = nnx.Sequential(nnx.Linear(WIDTH, WIDTH, kernel_init=loud, rngs=rngs), nnx.tanh, nnx.Linear(WIDTH, CLASSES, rngs=rngs))
    found = diagnose(model, X)
    assert ("saturated", "layers.1") in [(finding.name, finding.layer) for finding in found.findings]
    assert rows_of(found)["layers.1"].activation == "tanh"
    assert model.layers[1] is nnx.tanh

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(WIDTH, WIDTH, bias_init=nnx.initializers.constant(-1e3), rngs=rngs)
            self.act, self.head = nnx.relu, nnx.Linear(WIDTH, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.head(self.act(self.dense(x)))

    found = diagnose(Model(rngs), X)
    assert (found.verdict, found.findings[0].layer) == ("dead", "act")


def test_probabilities_have_the_loss_of_their_logits():
    nnx = framework("nnx")
    head = nnx.Linear(WIDTH, CLASSES, rngs=nnx.Rngs(0))
    logits, probabilities = (diagnose(nnx.Sequential(head, *end), X) for end in ([], [nnx.softmax]))
    assert probabilities.initial_loss == pytest.approx(logits.initial_loss, rel=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_head_is_judged_by_a_loss_whose_targets_are_not_seen(name):
    framework(name)
    labels = jax.random.randint(jax.random.key(0), (32,), 0, CLASSES)
    ones = jax.nn.one_hot(labels, CLASSES)

    def entropies(outputs, ones=ones):
        return -(ones * jax.nn.log_softmax(outputs)).sum(axis=-1)

    model = plain(name, depth=1)
    plainly = diagnose(model, X, targets=labels)
    for options in (
        {"loss": lambda outputs: entropies(outputs).mean()},
        {"loss": lambda outputs: entropies(outputs).sum()},
        {"loss": lambda outputs, ones: entropies(outputs, ones).mean(), "targets": ones},
    ):
        found = diagnose(model, X, **options)
        assert found.initial_loss == pytest.approx(plainly.initial_loss, rel=1e-5)
        assert found.uniform_loss == plainly.uniform_loss
    squares = diagnose(model, X, loss=lambda outputs: jnp.square(outputs - ones).mean())
    assert np.isnan(squares.uniform_loss)


def test_complex_parameters():
    nnx = framework("nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(WIDTH, WIDTH, param_dtype=jnp.complex64, dtype=jnp.complex64, rngs=rngs)
            self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.head(jnp.abs(self.dense(x.astype(jnp.complex64))))

    model = Model(nnx.Rngs(0))
    found = diagnose(model, X)
    assert found.healthy, found
    row = rows_of(found)["dense"]
    assert row.rms == pytest.approx(row.rms_theory, rel=0.2)
    model.dense.kernel[...] = model.dense.kernel[...].at[0, 0].set(jnp.nan)
    assert diagnose(model, X).verdict == "non-finite"


def test_settings_of_jax_that_stop_training_do_not_stop_a_diagnosis():
    nnx = framework("nnx")
    model = nnx.Sequential(nnx.Linear(WIDTH, WIDTH, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(WIDTH, CLASSES, rngs=nnx.Rngs(1)))
    model.layers[0].kernel[...] = model.layers[0].kernel[...].at[0, 0].set(jnp.nan)
    with jax.debug_nans(True), jax.transfer_guard("disallow"):
        assert diagnose(model, X).verdict == "non-finite"
        assert jax.config.jax_debug_nans


def test_axes_of_a_mesh_may_be_explicit():
    nnx = framework("nnx")
    P = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        start = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))
        model = nnx.Linear(WIDTH, CLASSES, kernel_init=start, rngs=nnx.Rngs(0))
        assert diagnose(model, jax.device_put(X, jax.sharding.NamedSharding(mesh, P("data", None)))).healthy


def test_what_cannot_be_diagnosed():
    nnx = framework("nnx")
    model = nnx.Linear(WIDTH, CLASSES, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="expected at least one sample, got an empty batch"):
        diagnose(model, X[:0])
    with pytest.raises(TypeError, match="got tracers; diagnose outside of jit"):
        jax.jit(lambda x: diagnose(model, x))(X)
    with pytest.raises(TypeError, match="got tracers; diagnose outside of jit"):
        jax.jit(lambda: diagnose(model, X))()
