"""What the dialects share: reasons of parameters without a gradient, and the judgement of several seeds and of roles."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from fastinit import Thresholds
from fastinit.diagnosis.calls import Call, Layer, Norms, apart, neighbours
from fastinit.diagnosis.cross_entropy import mean_cross_entropy
from fastinit.diagnosis.looks import Look, last_look
from fastinit.diagnosis.model import judge_model
from fastinit.diagnosis.observed import ObservedLayer, ObservedModel, WithoutGradient
from fastinit.diagnosis.symmetry import twins
from fastinit.diagnosis.zeros import silent, virtual_steps, without_gradient


def layer(name, square, role=""):
    return ObservedLayer(
        name=name, kind="Dense", weighted=True, activation=None, inputs=8, units=8, elements=8.0, square=square, expected=1.0,
        gradient=1.0, saturated=math.nan, dead=0.0, non_finite=0, non_finite_gradients=0, apart=math.nan,
        gradient_to_weight=1.0, silent=False, role=role,
    )  # fmt: skip


def run(layers=(), **of):
    rest = {"without_gradient": (), "non_finite": (), "twins": (), "symmetric": (), "batch": 4}
    numbers = dict.fromkeys(("loss", "classes", "logit_variance"), math.nan)
    return ObservedModel(**{"layers": tuple(layers or [layer("a", 1.0)]), **rest, **numbers, **of})


def test_layers_of_one_role_are_compared_whatever_their_names():
    layers = [layer(f"dense_{i}", 1e-6 if i % 2 else 1.0) for i in range(9)]
    by_role = [dataclasses.replace(one, role="narrow" if i % 2 else "wide") for i, one in enumerate(layers)]
    assert judge_model([run(layers)], Thresholds(), "").verdict == "vanishing"
    assert judge_model([run(by_role)], Thresholds(), "").verdict == "healthy"


def test_what_is_symmetric_in_any_seed_is_found():
    second = run(symmetric=(("a", 1, 8), ("b", 7, 8)), twins=(("c.w", "d.w"),))
    third = run(twins=(("c.w", "d.w"), ("c.w", "e.w")))
    found = judge_model([run(), second, third], Thresholds(), "").findings
    assert [finding.severity for finding in found] == ["fail", "warn"]
    assert found[0].layer == "b"
    assert "and 1 more pairs" in found[1].reason


def call(name="a", **numbers):
    return Call(name, Layer(name=name.partition("#")[0], kind="Dense", weight=f"{name}.weight"), (4, 8), **numbers)


def reasons(norms, calls, called=("a",), **options):
    owners = {name: name.rpartition(".")[0] for name in norms}
    found = without_gradient(norms, owners, {"a", "e.0", "e.1"}, called, calls, **options)
    return {one.name: (one.fault, one.reason) for one in found}


@pytest.mark.parametrize(
    ("connected", "seen", "called", "fault", "words"),
    [
        (None, None, (), False, "a is not called"),
        (False, None, (), False, "a is not called"),
        (False, {}, ("a",), True, "chooses among others"),
        (None, {}, ("a",), True, "chooses among others"),
        (False, {"gradient": 1.0}, ("a",), True, "takes no part in what a computes"),
        (True, {"gradient": 0.0}, ("a",), True, "the loss is flat here"),
        (None, {"gradient": 1.0, "input_square": 0.0}, ("a",), True, "the input of a is 0"),
        (True, {"gradient": 1.0, "input_square": 1.0}, ("a",), True, "nothing that a passes on depends on it"),
    ],
)  # fmt: skip
def test_reasons(connected, seen, called, fault, words):
    calls = [] if seen is None else [call(**seen)]
    found = reasons({"a.weight": Norms(64, 1.0, 0.0, connected)}, calls, called)
    assert found["a.weight"][0] is fault
    assert words in found["a.weight"][1]


def test_reasons_are_told_in_the_order_of_execution():
    norms = {f"{layer}.weight": Norms(64, 1.0, float(layer == "first"), True) for layer in ("a", "b", "first", "z")}
    calls = [call(layer, gradient=float(layer == "first"), input_square=1.0) for layer in ("first", "z", "b", "a")]
    found = reasons(norms, calls, ("a", "b", "first", "z"))
    assert list(found) == ["z.weight", "b.weight", "a.weight"]
    assert "all that comes back to z is 0" in found["z.weight"][1]


def test_what_other_outputs_depend_on_is_no_fault():
    def look(everything):
        return Look([call()], {"a"}, {"a.weight": Norms(64, 1.0, float(everything), True)}, left_out=("value",))

    last = last_look(look(False), look, lambda: False)
    assert last.for_others == {"a.weight"}
    found = reasons(last.norms, last.calls, others={"a.weight": "value"})
    assert found == {"a.weight": (False, "only outputs that are not minimised depend on it, value; give a loss that takes them")}


def test_the_first_layer_of_a_role_may_read_what_is_not_normalised():
    layers = [layer(f"dense_{i}", 1.0 if i else 1e-4) for i in range(6)]
    norm = dataclasses.replace(layer("norm", 1.0), kind="LayerNormalization", weighted=False)
    assert judge_model([run([*layers, norm])], Thresholds(), "").healthy
    assert judge_model([run(layers)], Thresholds(), "").verdict == "exploding"


def test_a_loss_that_is_not_finite_is_no_opinion_and_leaves_no_gradients():
    lost = WithoutGradient("a.weight", "a", "it is detached", True)
    found = judge_model([run(loss=math.inf, classes=10.0, logit_variance=1.0, without_gradient=(lost,))], Thresholds(), "")
    assert [finding.name for finding in found.findings] == ["non-finite"]


def test_an_expert_that_nothing_is_sent_to_is_no_fault():
    found = reasons({"e.0.weight": Norms(64, 1.0, 0.0)}, [call("e.1")], ("e.1",))
    assert found == {"e.0.weight": (False, "no sample of the batch is sent to e.0")}


def test_a_bias_that_cancels_is_no_fault():
    norms = {"a.kernel": Norms(64, 1.0, 1.0), "a.bias": Norms(8, 1.0, 0.0)}
    assert reasons(norms, [call(gradient=1.0)])["a.bias"][0] is False


def test_of_parameters_that_are_not_trained_no_gradient_is_asked():
    assert not reasons({"a.weight": Norms(64, 1.0)}, [call()])


def test_a_zero_behind_a_zero_is_moved_by_a_second_step():
    def look(gradients):
        return Look([call()], {"a"}, {name: Norms(1, 0.0, one) for name, one in gradients.items()}, loss=1.0)

    seen = iter([look({"a": 0.5, "b": 3.0, "c": 0.0}), look({"a": 0.0, "b": 0.0, "c": 2.0})])
    last = last_look(look({"a": 1.0, "b": 0.0, "c": 0.0}), lambda everything: next(seen), lambda: True)
    assert [one.gradient for one in last.norms.values()] == [1.0, 3.0, 2.0]
    assert next(seen, None) is None


def test_a_step_moves_what_is_zero_to_the_size_of_lecuns_start():
    values = {"matrix": np.zeros((16, 4)), "vector": np.zeros(5), "ones": np.ones(5), "still": np.zeros(5)}
    gradients = {"matrix": np.full((16, 4), 1e-20), "vector": np.full(5, -7.0), "ones": np.ones(5), "still": np.zeros(5)}
    moved = virtual_steps(values, gradients)
    assert set(moved) == {"matrix", "vector"}
    np.testing.assert_allclose(moved["matrix"], -0.25)
    np.testing.assert_allclose(moved["vector"], 1e-3)


def test_silent_layers():
    calls = [call("a", square=0.0, input_square=1.0), call("b", square=0.0, input_square=0.0), call("c", square=0.0)]
    assert silent(calls) == {"a"}


def test_twins_are_found_by_their_heads_and_compared_as_a_whole():
    drawn = np.random.default_rng(0).standard_normal((20, 20))
    other = drawn.copy()
    other[-1, -1] = 0
    tensors = {"a": drawn, "b": other, "c": drawn.copy(), "eye": np.eye(20), "also": np.eye(20), "empty": np.zeros((0, 3))}
    assert twins(tensors, np.asarray) == (("a", "c"),)


def test_neighbours_and_their_cosine():
    assert neighbours(np.ones(5), tokens=True) is None
    assert neighbours(np.ones((1, 5)), tokens=False) is None
    assert neighbours(np.ones((3, 7, 5)), tokens=True).shape == (20, 5)
    assert neighbours(np.ones((100, 70, 100)), tokens=False).shape == (32, 3500)
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1e-100, 0.0], [1e100, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert apart(rows) == pytest.approx(0.5)


def test_logits_that_stand_out_are_told_from_those_that_are_all_large():
    for loss, words in ((2.3 + 4.5 / 2, "2.1 times smaller in the last layer"), (6.5, "Some logits stand far above the others")):
        found = judge_model([run(loss=loss, classes=10.0, logit_variance=4.5)], Thresholds(), "")
        assert words in found.findings[0].reason


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("size", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("softmax", [False, True])
def test_a_cross_entropy_is_known_by_its_gradient(classes, size, softmax):
    rng = np.random.default_rng(0)
    logits = size * rng.standard_normal((64, classes))
    of = np.exp(logits - logits.max(axis=-1, keepdims=True))
    of /= of.sum(axis=-1, keepdims=True)
    ones = np.eye(classes)[rng.integers(0, classes, 64)]
    each = -(ones * np.log(of)).sum(axis=-1)
    output, back = (of, -ones / of) if softmax else (logits, of - ones)
    back[:9] = each[:9] = 0  # classes that are left out
    plain = each.sum() / 55
    assert mean_cross_entropy(output, back / 55, plain) == pytest.approx(plain, rel=1e-6)
    sure = 0.05 if size > 1 else 1e-6  # rows without a gradient count for nothing
    assert mean_cross_entropy(output, back, each.sum()) == pytest.approx(plain, rel=sure)
    with_more = mean_cross_entropy(output, back / 55, plain + 2)
    assert math.isnan(with_more) if classes == 2 else with_more == pytest.approx(plain, rel=sure)
    noise = rng.standard_normal(output.shape)
    assert math.isnan(mean_cross_entropy(output, noise - noise.mean(axis=-1, keepdims=True), plain))
    assert math.isnan(mean_cross_entropy(output, 0 * back, plain))
