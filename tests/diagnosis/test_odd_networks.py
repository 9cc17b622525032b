"""Diagnoses of networks that are not as usual: numbers beyond every range, odd shapes and arrays, heads, virtual weights."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest

import fastinit
from fastinit import Key, Stack, diagnose


def names(found: fastinit.Diagnosis) -> list[tuple[str, str]]:
    return [(finding.name, finding.severity) for finding in found.findings]


def numbers_of(found: fastinit.Diagnosis) -> str:
    """The text without its sentences, which may well speak of what is infinite."""
    return str(found).replace("infinite or NaN", "").replace("Infinite or NaN", "").replace("not finite", "")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("activation", ["relu", "tanh", "sin"])
@pytest.mark.parametrize(
    ("widths", "options"),
    [
        ([1] * 5, {}),
        ([2] * 6, {"weights": "he_normal"}),
        ([8] * 60, {"weights": "ones"}),
        ([16] * 31, {"weights": fastinit.RandomNormal(0.0, 1e3)}),
        ([16] * 31, {"weights": fastinit.RandomNormal(0.0, 1e3), "residual": 3, "output_activation": "linear"}),
        ([16] * 9, {"weights": fastinit.RandomNormal(0.0, 1e20), "dtype": "float64", "output_activation": "linear"}),
        ([16] * 9, {"weights": fastinit.RandomNormal(0.0, 1e-25), "dtype": "float64"}),
        ([16] * 9, {"weights": "zeros"}),
        ([16] * 9, {"weights": "he_normal", "residual": 2, "alpha": 1e30}),
        ([16] * 9, {"weights": "he_normal", "residual": 2, "alpha": 0.0}),
        ([16] * 9, {"x": np.zeros((8, 16))}),
        ([16] * 9, {"x": np.full((8, 16), np.inf)}),
        ([16] * 9, {"x": np.full((8, 16), 1e300)}),
        ([16] * 9, {"x": np.full((8, 16), 1e200), "dtype": "float64"}),
        ([16] * 9, {"x": np.full((8, 16), 1e-200), "dtype": "float64"}),
    ],
)
def test_any_numbers_have_a_text_without_nan(widths, activation, options) -> None:
    found = diagnose(widths, activation, **options)
    assert "nan" not in numbers_of(found)
    assert "by inf" not in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_first_layer_that_overflows_is_named() -> None:
    weights = fastinit.RandomNormal(0.0, 1e3)
    stack = Stack([64] * 31, "relu", weights=weights, key=Key(0))
    x = fastinit.normal((32, 64), key=Key(1))
    found = diagnose(stack, x=x)
    assert (found.verdict, found.findings[0].layer) == ("non-finite", stack.propagate(x).overflow)
    assert [finding.name for finding in found.findings if finding.severity == "fail"] == ["non-finite"]  # NaN is not dead
    backward = diagnose([64] * 31, "sin", weights=weights, recommend=False)
    assert "gradients of layer" in backward.findings[0].reason
    assert backward.findings[0].layer > 0  # not the one that they reach last


@pytest.mark.parametrize(("size", "verdict"), [(1e200, "non-finite"), (1e-200, "no signal"), (1e100, "over-confident head")])
def test_squares_beyond_float64(size, verdict) -> None:
    """Numbers may be neither infinite nor 0, though the mean of their squares is."""
    x = fastinit.normal((32, 64), key=Key(1), dtype="float64") * size
    found = diagnose([64] * 5, "linear", weights="lecun_normal", x=x, dtype="float64", recommend=False)
    assert found.verdict == verdict
    assert ("mean square" in found.findings[0].reason) == (size != 1e100)


def test_samples_of_zeros_have_no_cosine_and_hide_none() -> None:
    x = np.array(fastinit.normal((32, 64), key=Key(1)))
    whole = diagnose([64] * 21, "sigmoid", x=x, recommend=False)
    x[3] = 0
    found = diagnose([64] * 21, "sigmoid", x=x, recommend=False)
    assert ("rank collapse", "fail") in names(whole)
    assert ("rank collapse", "fail") in names(found)
    head = diagnose([64] * 21 + [10], ["sigmoid"] * 20 + ["linear"], weights=["glorot_uniform"] * 20 + ["zeros"], recommend=False)
    assert ("rank collapse", "fail") in names(head)  # before a head that has none


def test_a_stack_may_hold_any_arrays() -> None:
    stack = Stack([8] * 4, "tanh", key=Key(2))
    expected = diagnose(stack).to_dict()
    stack.weights[0] = stack.weights[0].tolist()
    stack.weights[1] = stack.weights[1].astype(np.float64)
    stack.weights[2] = np.asfortranarray(stack.weights[2])
    assert diagnose(stack).to_dict() == expected
    stack.weights[1] = stack.weights[1] * np.nan
    assert diagnose(stack).verdict == "non-finite"


def test_widths_may_be_an_iterator() -> None:
    assert diagnose(iter([8, 8, 8]), "tanh").to_dict() == diagnose([8, 8, 8], "tanh").to_dict()


def test_a_later_layer_of_equal_units_fails() -> None:
    """Though an earlier one has a pair of copies, which is a warning."""
    first = np.array(fastinit.HeNormal()((16, 16), key=Key(1)))
    second = np.array(fastinit.HeNormal()((16, 16), key=Key(2)))
    first[:, 1], second[1] = first[:, 0], second[0]
    weights = [first, second, np.ones((16, 16)), np.ones((16, 16)), fastinit.HeNormal()]
    found = diagnose(Stack([16] * 6, "tanh", weights=weights, key=Key(3)), recommend=False)
    symmetric = next(finding for finding in found.findings if finding.name == "symmetric")
    assert (symmetric.severity, symmetric.layer) == ("fail", 2)


def test_layers_before_and_after_residual_blocks_count() -> None:
    """30 layers that lose ln 2 each, before one block or behind it."""
    widths = list(range(130, 100, -1))
    before = diagnose([*widths, 101], "relu", weights="lecun_normal", residual=1, recommend=False)
    after = diagnose([131, 131, *widths], "relu", weights="lecun_normal", residual=1, recommend=False)
    for found in (before, after):
        assert found.verdict == "vanishing"
        assert found.forward.nats == pytest.approx(-29 * math.log(2), abs=3)
        assert found.backward.nats == pytest.approx(-28 * math.log(2), abs=3)
        assert found.forward.theory == pytest.approx(found.forward.nats, abs=3)
        assert found.backward.theory == pytest.approx(found.backward.nats, abs=3)


def test_a_virtual_network_gets_no_recommendation_that_it_cannot_have() -> None:
    found = diagnose([100] * 31, "relu", virtual=True)
    assert found.findings[0].recommendation
    assert not isinstance(found.findings[0].changes["weights"], fastinit.Orthogonal)


def test_a_recommendation_says_that_biases_go_and_numbers_name_initializers() -> None:
    found = diagnose([64] * 31, "relu", weights="glorot_normal", biases=fastinit.Constant(0.001))
    assert "biases='zeros'" in found.findings[0].recommendation
    assert "biases" not in diagnose([64] * 31, "relu", weights="glorot_normal").findings[0].recommendation
    changes = found.to_dict()["findings"][0]["changes"]
    assert changes == {"weights": repr(found.findings[0].changes["weights"]), "biases": "zeros"}


def test_networks_are_not_all_in_memory_at_once() -> None:
    tracemalloc.start()
    try:
        diagnose([400] * 21, "relu", weights="he_normal", seeds=6, batch=2, recommend=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3.5 * 20 * 400 * 400 * 4


@pytest.mark.parametrize(("outputs", "std"), [(10, 1e-3), (10, 1e-6), (10_000, 0.01)])
def test_a_small_head_is_no_fault(outputs, std) -> None:
    """As one of zeros is none: it learns first, and passes gradients then."""
    weights = ["he_normal"] * 4 + [fastinit.RandomNormal(0.0, std)]
    found = diagnose([64] * 5 + [outputs], ["relu"] * 4 + ["linear"], weights=weights, seeds=4, recommend=False)
    assert found.verdict == "healthy"
    assert found.forward.theory == pytest.approx(found.forward.nats, abs=1)


def test_a_large_head_is_one_fault() -> None:
    weights = ["lecun_normal"] * 4 + [fastinit.RandomNormal(0.0, 100.0)]
    found = diagnose([64] * 5 + [10], ["tanh"] * 4 + ["linear"], weights=weights, recommend=False)
    assert names(found) == [("over-confident head", "fail")]
    alone = diagnose([64] * 5 + [1], ["tanh"] * 4 + ["linear"], weights=weights, recommend=False)
    assert names(alone) == [("exploding", "fail")]  # of one output there is no loss to judge it by


def test_no_recommendation_brings_a_failure_that_was_not_there() -> None:
    before = {"weights": fastinit.RandomNormal(0.0, 1.0), "recommend": False}
    for activation in ("softplus", "gelu", "sigmoid", "relu"):
        found = diagnose([32] * 13, activation, **{**before, "recommend": True})
        failed = {finding.name for finding in found.findings if finding.severity == "fail"}
        for finding in found.findings:
            changed = {"activation": activation, **before, **(finding.changes or {})}
            again = diagnose([32] * 13, changed.pop("activation"), **changed)
            assert {other.name for other in again.findings if other.severity == "fail"} <= failed


def test_a_virtual_head_cannot_be_zeros() -> None:
    found = diagnose([32] * 13, "linear", weights="he_normal", virtual=True)
    assert ("over-confident head", "warn") in names(found)


def test_what_is_no_network_is_refused_as_such() -> None:
    for wrong in (None, 3, object(), "relu", {4, 5}):
        with pytest.raises(TypeError, match="widths: expected a sequence of ints, got"):
            diagnose(wrong)


def test_a_healthy_network_near_a_threshold_is_borderline() -> None:
    """4 nats of growth over 31 layers: the interval over seeds reaches over the warning, whichever side its median is on."""
    weights = fastinit.VarianceScaling(2 * math.exp(4 / 30), "fan_in", "normal")
    for seed in range(3):
        found = diagnose([300] * 32, "relu", weights=weights, key=Key(seed), recommend=False)
        crossed = any(change.low <= 4 <= change.high for change in (found.forward, found.backward))
        assert found.borderline == crossed
        assert ("borderline" in str(found)) == crossed
    assert not diagnose([300] * 32, "relu", weights="he_normal", recommend=False).borderline
    assert not diagnose([300] * 32, "relu", weights=weights, seeds=1, recommend=False).borderline
