"""``fastinit diagnose``, ``theory`` and ``compare``: what they print, and their exit status."""

from __future__ import annotations

import json

import pytest

import fastinit
from fastinit import cli

SMALL = ["--depth", "6", "--width", "64", "--seeds", "2"]


def test_check_is_the_exit_status(capsys) -> None:
    healthy = ["diagnose", *SMALL, "--width", "256", "--init", "he_normal"]
    bad = ["diagnose", "--depth", "30", "--width", "64", "--init", "xavier_normal", "--seeds", "2"]
    assert cli.main([*healthy, "--check"]) == 0
    assert "verdict   healthy" in capsys.readouterr().out
    assert cli.main(bad) == 0
    assert "verdict   vanishing" in capsys.readouterr().out
    assert cli.main([*bad, "--check"]) == 1


def test_a_head_and_residual_blocks(capsys) -> None:
    assert cli.main(["diagnose", *SMALL, "--inputs", "10", "--outputs", "5", "--residual", "2", "--alpha", "0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["widths"] == [10] + [64] * 6 + [5]
    assert [layer["activation"] for layer in found["layers"]] == ["relu"] * 6 + ["linear"]
    assert "residual blocks" in found["title"]


def test_theory(capsys) -> None:
    assert cli.main(["theory", "tanh", "--bias-variance", "0.05", "--weight-variance", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["critical_pair"]["weight_variance"] == pytest.approx(1.7609, abs=1e-3)
    assert found["phase"] == "chaotic"
    assert cli.main(["theory", "relu", "--bias-variance", "1"]) == 0
    assert "none: --bias-variance would have to be 0 for relu" in capsys.readouterr().out
    assert cli.main(["theory", "relu", "--weight-variance", "3", "--bias-variance", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fixed_point"] is None


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["gelu"], ["none: --bias-variance would have to be at least 0.172923 for gelu"]),
        (["softplus"], ["none: no weights are critical beside such biases"]),
        (["relu"], ["variance 2 / fan_in", "stay at variance             any"]),
        (["relu", "--weight-variance", "3"], ["chaotic: gradients explode", "train, about  14.8", "grows without bound"]),
        (["tanh", "--weight-variance", "1.5", "--bias-variance", "0.05"], ["ordered: gradients vanish", "correlation"]),
    ],
)
def test_what_theory_prints(arguments, lines, capsys) -> None:
    assert cli.main(["theory", *arguments]) == 0
    text = capsys.readouterr().out
    for line in lines:
        assert line in text
    assert ", got" not in text  # no error of a function that nobody has called


def test_check_of_failures_only() -> None:
    """A warning is status 1 unless failures alone are asked for, as `assert_healthy(warnings=False)` does."""
    warned = ["diagnose", "--depth", "12", "--width", "256", "--seeds", "2"]  # 7 nats
    assert [cli.main([*warned, *check]) for check in ([], ["--check"], ["--check", "warn"], ["--check", "fail"])] == [0, 1, 1, 0]
    assert cli.main(["diagnose", "--depth", "50", "--width", "64", "--seeds", "2", "--check", "fail"]) == 1


def test_compare_takes_objects_and_stars_the_best() -> None:
    orthogonal = fastinit.Orthogonal(gain=2**0.5)
    found = fastinit.compare(["glorot_uniform", orthogonal], ["relu"], [20], 64, seeds=3)
    assert found.best("relu", 20) == repr(orthogonal)
    lines = str(found).splitlines()
    assert lines[2].endswith("vanishing (warn)")
    assert f"{orthogonal!r} *" in lines[3]
    assert repr(found) == "<Comparison of 2 diagnoses>"
    assert found._repr_html_().startswith("<pre>layers of 64")
    for wrong in ("he_normal", 3):
        with pytest.raises(TypeError, match="initializers: expected a sequence with at least one entry"):
            fastinit.compare(wrong, ["relu"], [5])


def test_compare(capsys, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "grid.svg"
    arguments = ["compare", "--init", "he_normal", "lecun_normal", "--activation", "relu", "tanh", "--depth", "3", "12"]
    arguments += ["--width", "48", "--seeds", "2"]
    assert cli.main([*arguments, "--picture", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 8
    assert sum("he_normal" in line for line in lines) == 4
    assert picture.read_text(encoding="utf-8").count("</svg>") == 1
    assert cli.main([*arguments, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["diagnose", "--activation", "nope"], "activation: expected one of"),
        (["diagnose", "--init", "nope"], "nope"),
        (["diagnose", "--depth", "0"], "expected an int >= 1, got '0'"),
        (["diagnose", "--depth", "1000000000000"], "expected an int <= 1048576"),
        (["diagnose", "--width", "1000000", "--depth", "1"], "expected enough memory"),
        (["diagnose", "--alpha", "0.5"], "alpha: expected residual="),
        (["diagnose", "--residual", "40"], "residual: expected"),
        (["diagnose", "--seed", "-1"], "expected an int in [0, 2**64), got -1"),
        (["theory", "nope"], "expected one of"),
        (["theory", "tanh", "--bias-variance", "-1"], "bias_variance: expected"),
        (["theory"], "required"),
        (["compare", "--picture", "missing/dir/a.svg"], "expected an existing directory"),
        (["compare", "--init", "nope"], "nope"),
    ],
)
def test_wrong_use_is_status_2(arguments, message, capsys) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_critical_network_may_have_any_number_of_layers(capsys) -> None:
    assert cli.main(["theory", "relu", "--weight-variance", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("any number") == 2
    assert "inf" not in out


def test_compare_takes_any_iterables_once_each() -> None:
    found = fastinit.compare((name for name in ("ones", "ones")), ["linear"] * 2, iter([60, 60]), 16)
    assert list(found.diagnoses) == [("ones", "linear", 60)]
    assert "nan" not in str(found)  # of numbers beyond every range there is no change
    assert str(found).count("linear") == 1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3, ["relu"], [5]), {}, "initializers: expected a sequence with at least one entry, got 3"),
        ((["ones"], "relu", [5]), {}, "activations: expected a sequence with at least one entry, got 'relu'"),
        ((["ones"], ["relu"], 5), {}, "depths: expected a sequence with at least one entry, got 5"),
        ((["ones"], ["relu"], []), {}, r"depths: expected a sequence with at least one entry, got \[\]"),
        ((["ones"], [3], [5]), {}, "activations: expected a sequence of names"),
        ((["ones"], [[]], [5]), {}, "activations: expected a sequence of names"),
        ((["ones"], ["relu"], [5]), {"progress": 3}, "progress: expected a function"),
        ((["ones"], ["relu"], [5]), {"weights": "zeros"}, "weights: expected none of compare"),
        ((["ones"], ["relu"], [5]), {"recommend": True}, "recommend: expected none of compare"),
    ],
)
def test_bad_arguments_of_compare(arguments, options, message) -> None:
    with pytest.raises(TypeError, match=message):
        fastinit.compare(*arguments, 16, **options)
