"""Verdicts: each is given where it should be and not where it should not, with the first layer concerned and its number."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import fastinit
from fastinit import Key, Stack, Thresholds, diagnose
from fastinit.diagnosis import VERDICTS
from fastinit.diagnosis.expected import variances


def names(found: fastinit.Diagnosis) -> list[tuple[str, str]]:
    return [(finding.name, finding.severity) for finding in found.findings]


@pytest.mark.parametrize(
    ("activation", "weights", "verdict"),
    [
        ("relu", "he_normal", "healthy"),
        ("relu", "glorot_normal", "vanishing"),
        ("relu", fastinit.VarianceScaling(4.0, "fan_in", "normal"), "exploding"),
        ("tanh", "lecun_normal", "healthy"),
        ("tanh", fastinit.VarianceScaling(9.0, "fan_in", "normal"), "exploding"),
        ("tanh", "zeros", "no signal"),
        ("relu", fastinit.Constant(0.01), "symmetric"),
        ("sigmoid", "glorot_uniform", "vanishing"),
        ("linear", fastinit.RandomNormal(0.0, 10.0), "non-finite"),
        ("selu", "lecun_normal", "healthy"),
    ],
)
def test_verdicts_of_the_textbook(activation, weights, verdict) -> None:
    found = diagnose([200] * 31, activation, weights=weights, recommend=False)
    assert found.verdict == verdict
    assert found.healthy == (verdict == "healthy")
    assert all(finding.name in VERDICTS for finding in found.findings)
    order = [VERDICTS.index(finding.name) for finding in found.findings]
    assert order == sorted(order)


def test_totals_are_those_of_theory() -> None:
    """e^T of both ways is a product over the layers: here (1/2)^29 of ReLU with variance 1 / n, to a nat at width 400."""
    found = diagnose([400] * 31, "relu", weights="lecun_normal", seeds=8, recommend=False)
    for change in (found.forward, found.backward):
        assert change.theory == pytest.approx(-29 * math.log(2), abs=0.15)  # the weights' own variance moves it by some .02
        assert change.nats == pytest.approx(change.theory, abs=1.5)
        assert change.low < change.nats < change.high
        assert len(change.each) == 8
    assert found.findings[0].layer == 9 or found.findings[0].layer == 20  # where 6 nats are passed, forward or backward


def test_theory_of_a_residual_network() -> None:
    """He's weights with alpha^2 = 1 / 24 in 24 blocks: 4.35 nats forward, as branches that end in ReLU add in step."""
    found = diagnose(
        [256] * 49, "relu", weights="he_normal", residual=2, alpha=24**-0.5, seeds=5, recommend=False
    )
    assert found.forward.theory == pytest.approx(4.35, abs=0.05)
    assert found.forward.nats == pytest.approx(found.forward.theory, abs=0.4)
    assert found.backward.nats == pytest.approx(found.backward.theory, abs=0.4)
    assert found.verdict == "exploding"


def test_first_layers() -> None:
    """A network with one bad layer names it."""
    weights: list = ["he_normal"] * 12
    weights[7] = fastinit.RandomNormal(0.0, 100.0)
    found = diagnose([64] * 13, "relu", weights=weights, recommend=False)
    assert (found.verdict, found.findings[0].layer) == ("exploding", 7)
    weights[7] = "zeros"
    found = diagnose([64] * 13, "relu", weights=weights, recommend=False)
    assert (found.verdict, found.findings[0].layer) == ("no signal", 7)


# ---- what is zero by design -----------------------------------------------------------------------


def test_a_last_layer_of_zeros_is_no_fault() -> None:
    found = diagnose([32, 64, 64, 10], ["relu", "relu", "linear"], weights=["he_normal", "he_normal", "zeros"], recommend=False)
    assert found.verdict == "healthy"
    assert found.initial_loss == pytest.approx(math.log(10), rel=1e-12)


def test_branches_that_end_in_zeros_are_no_fault() -> None:
    weights = ["he_normal", "zeros"] * 10
    found = diagnose([64] * 21, ["relu", "linear"] * 10, weights=weights, residual=2, recommend=False)
    assert found.verdict == "healthy"
    assert found.forward.nats == pytest.approx(0.0, abs=1e-9)


def test_hidden_zeros_are_one() -> None:
    found = diagnose([32, 64, 64, 10], "relu", weights=["he_normal", "zeros", "he_normal"], recommend=False)
    assert ("no signal", "fail") in names(found)


def test_branches_without_weight_pass_no_gradient() -> None:
    found = diagnose([32] * 9, "relu", weights="he_normal", residual=2, alpha=0.0, recommend=False)
    assert ("no gradient", "fail") in names(found)


# ---- symmetry ------------------------------------------------------------------------------------


def test_symmetry_needs_equal_weights_in_and_out() -> None:
    key = Key(1)
    first = np.repeat(fastinit.HeNormal()((16, 1), key=key), 8, axis=1)
    second = fastinit.HeNormal()((8, 4), key=key)
    apart = Stack((16, 8, 4), "relu", weights=[first, second], key=key)
    assert "symmetric" not in [name for name, _ in names(diagnose(apart))]  # their gradients part them
    equal = Stack((16, 8, 4), "relu", weights=[first, np.repeat(second[:1], 8, axis=0)], key=key)
    found = diagnose(equal)
    assert found.verdict == "symmetric"
    assert "7 of the 8 units of layer 0" in found.findings[0].reason
    # And they do stay equal: the verdict is what training shows.
    x, y = fastinit.normal((64, 16), key=key / "x"), np.arange(64) % 4
    fastinit.fit(equal, x, y, epochs=3, key=key)
    assert (equal.weights[0] == equal.weights[0][:, :1]).all()
    fastinit.fit(apart, x, y, epochs=3, key=key)
    assert len(np.unique(apart.weights[0], axis=1).T) == 8


def test_one_seed_in_all_layers_is_found() -> None:
    weight = fastinit.HeNormal()((64, 64), key=Key(0))
    found = diagnose(Stack([64] * 6, "relu", weights=[weight] * 5, key=Key(0)))
    assert ("symmetric", "warn") in names(found)
    assert "layers 0 and 1 are equal" in found.findings[0].reason
    assert diagnose(Stack([64] * 6, "linear", weights="identity", key=Key(0))).healthy  # no draw


def test_a_few_ties_are_no_symmetry() -> None:
    """Weights of three values tie everywhere, but no two units are the same."""
    weights = [np.sign(np.round(fastinit.normal((64, 64), key=Key(i)))) * 0.2 for i in range(4)]
    assert "symmetric" not in [name for name, _ in names(diagnose(Stack([64] * 5, "tanh", weights=weights, key=Key(0))))]


# ---- the other verdicts ---------------------------------------------------------------------------


def test_dead() -> None:
    found = diagnose([100] * 5, "relu", weights="he_normal", biases=fastinit.Constant(-3.0), recommend=False)
    assert found.verdict in ("dead", "no signal")
    assert ("dead", "fail") in names(found)


def test_collapse_alone_kills_half_of_the_units_and_is_not_called_dead() -> None:
    found = diagnose([64] * 101, "relu", weights="he_normal", seeds=8, recommend=False)
    assert "dead" not in [name for name, _ in names(found)]


def test_saturated() -> None:
    found = diagnose([100] * 6, "tanh", weights=fastinit.VarianceScaling(100.0, "fan_in", "normal"), recommend=False)
    assert ("saturated", "fail") in names(found)
    relu = diagnose([100] * 6, "gelu", weights=fastinit.VarianceScaling(100.0, "fan_in", "normal"), recommend=False)
    assert "saturated" not in [name for name, _ in names(relu)]


def test_rank_collapse() -> None:
    found = diagnose([300] * 21, "sigmoid", weights="glorot_uniform", recommend=False)
    assert ("rank collapse", "fail") in names(found)


def test_narrow() -> None:
    assert names(diagnose([16] * 11, "relu", weights="he_normal", recommend=False)) == [("narrow", "warn")]
    assert diagnose([400] * 11, "relu", weights="he_normal", recommend=False).healthy


def test_over_confident_head() -> None:
    activation = ["relu"] * 4 + ["linear"]
    for std, severity in ((0.3, "warn"), (200.0, "fail")):
        found = diagnose([64] * 5 + [10], activation, weights=["he_normal"] * 4 + [fastinit.RandomNormal(0.0, std)])
        assert ("over-confident head", severity) in names(found)
        head = next(finding for finding in found.findings if finding.name == "over-confident head")
        assert head.layer == 4
        assert head.recommendation is not None
        assert f"instead of {found.initial_loss:.3g}" in head.recommendation


# ---- options and results ---------------------------------------------------------------------------


def test_thresholds_are_options() -> None:
    widths = [200] * 31
    assert diagnose(widths, "relu", weights="glorot_normal", thresholds=Thresholds(vanishing=(50, 60)), recommend=False).healthy
    strict = diagnose(widths, "tanh", weights="lecun_normal", thresholds=Thresholds(vanishing=(1, 2)), recommend=False)
    assert strict.verdict == "vanishing"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exploding": 4}, TypeError, r"exploding: expected a pair \(warn, fail\), got 4"),
        ({"vanishing": (6, 5)}, ValueError, "vanishing: expected a pair .* with warn <= fail"),
        ({"saturated": -1}, ValueError, "saturated: expected a number >= 0, got -1"),
        ({"narrow": "x"}, TypeError, "narrow: expected a real number"),
    ],
)
def test_bad_thresholds(options, error, message) -> None:
    with pytest.raises(error, match=message):
        Thresholds(**options)


def test_a_diagnosis_is_repeatable_and_changes_nothing() -> None:
    stack = Stack([32] * 9, "tanh", weights="he_normal", key=Key(3))
    before = [array.copy() for array in stack.weights + stack.biases]
    one, other = diagnose(stack), diagnose(stack)
    assert str(one) == str(other)
    assert one.to_dict() == other.to_dict()
    for array, old in zip(stack.weights + stack.biases, before, strict=True):
        assert array.tobytes() == old.tobytes()
    assert math.isnan(one.forward.low)  # of one network there is no interval
    assert str(diagnose([32] * 9, "tanh")) == str(diagnose([32] * 9, "tanh"))


def test_bits_do_not_depend_on_threads() -> None:
    found = []
    for threads in (1, 2, 4):
        with fastinit.num_threads(threads):
            found.append(diagnose([64] * 12, "gelu", weights="he_normal").to_dict())
    assert found[0] == found[1] == found[2]


def test_text_html_and_numbers() -> None:
    found = diagnose([64] * 51, "relu", weights="glorot_normal")
    text = str(found)
    assert "... 30 more" in text
    assert len(text.splitlines()) < 36
    assert all(len(line) < 260 for line in text.splitlines())
    assert text.count("vanishing") >= 2
    assert found.findings[0].recommendation in text
    assert "<table>" in found._repr_html_()
    assert found._repr_html_().count("<tr>") == 51
    numbers = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert repr(found) == "<Diagnosis of 50 layers of 64, relu; 10 seeds, batch of 32: vanishing>"  # short, at a prompt
    assert numbers["verdict"] == "vanishing"
    assert len(numbers["layers"]) == 50
    broken = diagnose([8] * 60, "relu", weights="ones", recommend=False)
    json.dumps(broken.to_dict(), allow_nan=False)
    assert broken.verdict == "non-finite"
    assert "non-finite" in str(broken)


def test_assert_healthy() -> None:
    diagnose([200] * 6, "relu", weights="he_normal").assert_healthy()
    narrow = diagnose([16] * 11, "relu", weights="he_normal", recommend=False)
    narrow.assert_healthy(warnings=False)
    with pytest.raises(AssertionError, match="narrow"):
        narrow.assert_healthy()


def test_plot() -> None:
    pytest.importorskip("matplotlib")
    axes = diagnose([64] * 9, "relu", weights="he_normal").plot()
    assert len(axes.lines) == 4  # two ways, measured and expected
    constant = diagnose([64] * 9, "relu", weights=fastinit.Constant(0.1), recommend=False).plot(axes)
    assert constant is axes
    assert len(axes.lines) == 6  # no theory for weights that are not drawn


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([4, 4],), {}, TypeError, "activation: expected one beside widths, got none"),
        (([4], "tanh"), {}, ValueError, r"network: expected at least one layer, got widths \(4,\)"),
        (([4, 4], "nope"), {}, ValueError, "activation: expected one of"),
        (([4, 4], "tanh"), {"seeds": 0}, ValueError, "seeds: expected an int >= 1"),
        (([4, 4], "tanh"), {"batch": 1}, ValueError, "batch: expected an int >= 2"),
        (([4, 4], "tanh"), {"batch": 8, "x": np.ones((8, 4))}, TypeError, "batch: expected x or batch, got both"),
        (([4, 4], "tanh"), {"x": np.ones((8, 5))}, ValueError, r"x: expected shape \(batch, 4\)"),
        (([4, 4], "tanh"), {"x": np.full((8, 4), np.nan)}, ValueError, "x: expected no NaN"),
        (([4, 4], "tanh"), {"labels": np.zeros(5, int)}, ValueError, "labels: expected 32 ints"),
        (([4, 4], "tanh"), {"labels": np.full(32, 4)}, ValueError, r"labels: expected classes in \[0, 4\), got 4 to 4"),
        (([4, 4], "tanh"), {"labels": np.zeros(32)}, ValueError, "labels: expected 32 ints"),
        (([4, 4], "tanh"), {"thresholds": {"narrow": 3}}, TypeError, "thresholds: expected a fastinit.Thresholds"),
        (([4, 4], "tanh"), {"recommend": "yes"}, TypeError, "recommend: expected a bool"),
        (([4, 4], "tanh"), {"nope": 1}, TypeError, "nope"),
        (([4, 4], "tanh"), {"key": 3}, TypeError, "key: expected"),
        ((Stack((4, 4), "tanh"), "relu"), {}, TypeError, "network: expected widths beside activation, got a Stack"),
        ((Stack((4, 4), "tanh"),), {"seeds": 3, "weights": "zeros"}, TypeError, "beside seeds, weights"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, options, error, message) -> None:
    with pytest.raises(error, match=message):
        diagnose(*arguments, **options)


@pytest.mark.parametrize("options", [{"virtual": True}, {"dtype": "float64"}, {"residual": 2}, {"seeds": 1}, {"batch": 2}])
def test_options_of_networks(options) -> None:
    assert diagnose([100] * 9, "relu", weights="he_normal", **options).verdict in ("healthy", "exploding")


def test_one_output_has_no_loss() -> None:
    found = diagnose([16, 100, 1], ["tanh", "linear"], weights="lecun_normal")
    assert math.isnan(found.initial_loss)
    assert found.verdict == "healthy"


def test_data_of_the_user() -> None:
    """Inputs that are all alike have no cosines to lose; a scale of a thousand saturates."""
    x = fastinit.normal((32, 64), key=Key(5)) * 1000
    found = diagnose([64] * 4, "tanh", weights="glorot_normal", x=x, recommend=False)
    assert ("saturated", "fail") not in names(found)  # one layer of three
    assert found.layers[0].saturated > 0.9


def test_margins_are_where_a_finding_begins() -> None:
    """A network is healthy exactly if it is inside of all of them."""
    found = diagnose([64] * 9 + [10], "relu", output_activation="linear", weights="he_normal", recommend=False)
    assert found.healthy
    assert all(value <= limit for value, limit in found.margins.values())
    for name, verdict in (("exploding", "exploding"), ("narrow", "narrow"), ("initial_loss", "over-confident head")):
        value, limit = found.margins[verdict]
        start = value - (math.log(10) if name == "initial_loss" else 0)
        for shift, healthy in ((-0.01, False), (0.01, True)):
            line = start + shift if name == "narrow" else (start + shift, 1000.0)
            assert diagnose([64] * 9 + [10], "relu", output_activation="linear", weights="he_normal", recommend=False,
                            thresholds=Thresholds(**{name: line})).healthy == healthy  # fmt: skip
        assert value < limit


def test_text_of_a_network_with_zeros_by_design() -> None:
    found = diagnose([32, 64, 64, 10], ["relu", "relu", "linear"], weights=["he_normal", "he_normal", "zeros"])
    assert found.margins["rank collapse"][0] < 1  # zeros have no cosine: it is that of the layers before
    assert "nan" not in str(found)
    assert "inf" not in str(found)
    assert all(math.isnan(layer.gradient_theory) for layer in found.layers[:-1])


def test_text_names_the_layer_and_both_thresholds() -> None:
    text = str(diagnose([64] * 31, "relu", weights="lecun_normal", recommend=False))
    assert "warn: vanishing, layer " in text
    assert "a warning begins at 6, a failure at 28" in text
    assert "loss " not in text  # outputs of ReLU are no logits
    assert " times the size" in text


# ---- recommendations --------------------------------------------------------------------------------


NUMBERS = {
    "exploding": lambda d: max(abs(d.forward.nats), abs(d.backward.nats)),
    "vanishing": lambda d: max(abs(d.forward.nats), abs(d.backward.nats)),
    "saturated": lambda d: d.margins["saturated"][0],
    "dead": lambda d: d.margins["dead"][0],
    "rank collapse": lambda d: d.margins["rank collapse"][0],
    "over-confident head": lambda d: d.initial_loss,
    "narrow": lambda d: np.std(d.forward.each, ddof=1),
}


@pytest.mark.parametrize(
    ("widths", "activation", "options"),
    [
        ([100] * 31, "relu", {"weights": "glorot_normal"}),
        ([100] * 31, "sigmoid", {}),
        ([100] * 21, "gelu", {"weights": fastinit.VarianceScaling(8.0, "fan_in", "normal")}),
        ([100] * 31, "tanh", {"weights": fastinit.VarianceScaling(9.0, "fan_in", "normal")}),
        ([100] * 11, "tanh", {"weights": fastinit.VarianceScaling(200.0, "fan_in", "normal")}),
        ([100] * 41, "relu", {"weights": "he_normal", "residual": 2}),
        ([32] * 9, "relu", {"weights": "he_normal", "biases": fastinit.Constant(-3.0)}),
        ([64] * 5 + [10], ["relu"] * 4 + ["linear"], {"weights": ["he_normal"] * 4 + [fastinit.RandomNormal(0.0, 1.0)]}),
        ([64] * 5 + [10], ["relu"] * 4 + ["linear"], {"weights": "zeros"}),
        ([64] * 5 + [10], "sigmoid", {"output_activation": "linear", "weights": "ones"}),
        ([32] * 13 + [7], ["sigmoid"] * 12 + ["linear"], {}),  # another activation has other seeds
        ([32] * 13, "relu", {"seeds": 1}),
    ],
)
def test_a_recommendation_was_tried_and_is_better(widths, activation, options) -> None:
    """What it says is found again: the same networks with its changes, on the same data, have the number that it names."""
    found = diagnose(widths, activation, **options)
    assert found.findings[0].recommendation
    for finding in found.findings:
        if finding.recommendation is None:
            continue
        changed = {"activation": activation, **options, **finding.changes}
        again = diagnose(widths, changed.pop("activation"), recommend=False, **changed)
        assert again.verdict != finding.name or again.findings[0].severity == "warn"
        if finding.name in NUMBERS:
            number = NUMBERS[finding.name](again)
            assert f" {number:.3g} instead of" in finding.recommendation
            assert not number >= NUMBERS[finding.name](found)  # which is NaN where the signal is lost


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "sigmoid", "selu"])
def test_the_expected_cosine_is_that_of_theory(activation: str) -> None:
    """Against the map by quadrature in two dimensions, at the variances of the curve itself; and beside the measured one."""
    options = {"weights": fastinit.VarianceScaling(1.5, "fan_in", "normal"), "biases": fastinit.RandomNormal(0.0, 0.3)}
    found = diagnose([500] * 13, activation, seeds=4, recommend=False, **options)
    weights, biases = variances(Stack([500] * 13, activation, key=Key(0) / "0", **options))  # the first network's own
    for before, after, weight, bias in zip(found.layers, found.layers[1:], weights[1:], biases[1:], strict=False):
        expected = fastinit.theory.correlation_map(activation, before.cosine_theory, before.rms_theory**2, weight, bias)
        assert 1 - after.cosine_theory == pytest.approx(1 - expected, rel=5e-3, abs=1e-6)
        assert after.cosine == pytest.approx(after.cosine_theory, abs=0.06)


def test_pixels_are_to_be_standardised() -> None:
    """Not another gain, with which the first layer stays saturated, or a last layer of zeros behind values of some hundred."""
    x = np.round(fastinit.uniform((128, 64), 0.0, 255.0, key=Key(5)))
    widths = (64, 128, 128, 128, 10)
    for activation, weights in (("relu", "he_normal"), ("tanh", "glorot_normal")):
        options = {"output_activation": "linear", "weights": weights, "x": x}
        finding = diagnose(widths, activation, **options).findings[0]
        assert finding.recommendation.startswith("x=(x - 1")
        assert finding.changes["x"].mean() == pytest.approx(0.0, abs=1e-9)
        assert finding.changes["x"].std() == pytest.approx(1.0)
        assert all(f.severity == "warn" for f in diagnose(widths, activation, **{**options, **finding.changes}).findings)
        json.dumps(diagnose(widths, activation, **options).to_dict(), allow_nan=False)


def test_a_stack_gets_recommendations_too() -> None:
    """Of weights where they are the fault, and with its own weights where they are not."""
    small = [fastinit.normal((64, 64), std=0.05, key=Key(i)) for i in range(20)]
    stack = Stack([64] * 21, "relu", weights=small, key=Key(0))
    finding = diagnose(stack).findings[0]
    assert finding.name == "vanishing"
    assert diagnose(Stack([64] * 21, "relu", key=Key(1), **finding.changes)).verdict != "vanishing"
    blocks = Stack([64] * 41, "relu", weights="he_normal", residual=2, key=Key(0))
    finding = diagnose(blocks).findings[0]
    assert finding.name == "exploding"
    assert finding.changes["alpha"] == 40**-0.5
    assert diagnose(Stack([64] * 41, "relu", residual=2, key=Key(1), **finding.changes)).verdict != "exploding"
    head = [*["he_normal"] * 4, fastinit.RandomNormal(0.0, 1.0)]
    confident = Stack([64] * 5 + [10], "relu", output_activation="linear", weights=head, key=Key(0))
    (finding,) = diagnose(confident).findings
    assert all(new is old for new, old in zip(finding.changes["weights"], confident.weights[:-1], strict=False))  # its own
    assert diagnose(blocks, recommend=False).findings[0].recommendation is None


def test_one_change_for_all_findings_that_it_removes() -> None:
    large = fastinit.RandomNormal(0.0, 1.0)
    found = diagnose([64] * 10 + [10], "tanh", output_activation="linear", weights=large)
    assert [finding.name for finding in found.findings] == ["exploding", "saturated", "over-confident head"]
    assert len({finding.recommendation.partition(": then")[0] for finding in found.findings}) == 1


def test_a_recommendation_can_be_copied() -> None:
    finding = diagnose([100] * 21, "gelu").findings[0]
    text = finding.recommendation.partition(": then")[0]
    options = eval(f"dict({text})", vars(fastinit).copy())
    again = diagnose([100] * 21, "gelu", recommend=False, **options)
    said = float(finding.recommendation.partition(" is ")[2].split()[0])
    assert max(abs(again.forward.nats), abs(again.backward.nats)) == pytest.approx(said, abs=0.05)  # of rounded numbers


def test_progress_counts_networks_and_then_findings() -> None:
    calls: list[tuple[int, int]] = []
    found = diagnose([64] * 31, "relu", weights="glorot_normal", seeds=4, progress=lambda *call: calls.append(call))
    assert calls == [(i, 4) for i in range(4)] + [(i, len(found.findings)) for i in range(len(found.findings))]
    with pytest.raises(TypeError, match=r"progress: expected a function \(done, of\), got 3"):
        diagnose([4, 4], "relu", progress=3)
