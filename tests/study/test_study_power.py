"""Every claim's measurement detects a weight variance that is wrong by 10 %, in a full and in a quick run."""

from __future__ import annotations

import importlib.util

import pytest

from fastinit.study import CLAIMS, Claim, Settings, run_claim

# Claims that do not depend on a weight variance, and why.
NO_VARIANCE = {
    1: "weights of zero stay zero, whatever they are multiplied by",
    2: "the same; the network with random weights beside it need only train",
    3: "the claim is about equal weights of any size",
}
OTHERS = [claim for claim in CLAIMS if claim.number not in NO_VARIANCE]


def length(quick: bool) -> str:
    return "quick" if quick else "full"


@pytest.mark.parametrize("quick", [False, True], ids=length)
@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("claim", OTHERS, ids=lambda claim: f"claim {claim.number}")
def test_a_weight_variance_wrong_by_ten_per_cent_is_detected(claim: Claim, factor: float, quick: bool) -> None:
    if claim.number == 15 and importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    result = run_claim(claim, Settings(0, quick, weight_variance=factor))
    assert result.matches is False
    assert not result.measurement.summary.startswith("failed: ")  # it was measured


@pytest.mark.parametrize("claim", OTHERS, ids=lambda claim: f"claim {claim.number}")
def test_the_correct_weight_variance_matches_in_a_full_run(claim: Claim) -> None:
    assert run_claim(claim, Settings(0)).matches is not False


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("number", NO_VARIANCE)
def test_the_other_claims_hold_for_every_weight_variance(number: int, factor: float) -> None:
    assert run_claim(CLAIMS[number - 1], Settings(0, weight_variance=factor)).matches is True


def test_all_networks_are_made_by_the_settings() -> None:
    """Otherwise `weight_variance` would miss some. The one other `Stack` has the weights of an existing network."""
    import inspect

    from fastinit.study import claims_keras, claims_linear, claims_named, claims_rules, claims_scale, claims_symmetry, measure

    modules = (claims_keras, claims_linear, claims_named, claims_rules, claims_scale, claims_symmetry, measure)
    lines = [line.strip() for module in modules for line in inspect.getsource(module).splitlines() if " Stack(" in line]
    assert len(lines) == 1
    assert "weights=[w], biases=[b]" in lines[0]
