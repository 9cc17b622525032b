"""Plans as JSON and TOML: equal after a round trip, and errors that name the entry."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from all_initializers import NESTS
from catalogue_cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinit.initializers import (
    Constant,
    FanRule,
    HeNormal,
    Orthogonal,
    PerGate,
    RandomNormal,
    Times,
    TruncatedNormal,
    VarianceScaling,
)
from fastinit.plans import Plan, Rule, Spelling
from fastinit.plans.document import as_dict, from_dict

PLAN = Plan(
    [
        Rule("**.bias", "zeros"),
        Rule("odd\"name.*.weight", RandomNormal(0.0, 1e-6), kind="Linear", ndim=2),
        Rule("conv.weight", HeNormal(fans=FanRule(kind="conv")), fans=FanRule(groups=4, batch_axes=(0,))),
        Rule("qkv.weight", VarianceScaling(2.0, "fan_avg", "uniform"), slices={"q": 8, "k.1": 4}, batch_axes=(0, -1)),
        Rule("gate_up", TruncatedNormal(std=0.02, lower=-2, upper=3.0), slices=("gate", "up")),
        Rule("fixed", HeNormal(), fans=(3, 4)),
        Rule("rnn", PerGate(["orthogonal", "zeros"])),
        Rule("times", Times(HeNormal(mode="fan_out"), 0.5)),
        Rule("one", Constant(np.array([1.5, -2.0])), ndim=0),
        Rule("orth", Orthogonal(gain=math.sqrt(2))),
        Rule("ones", Constant(1e300)),
    ],
    [Spelling("h.*.w", ("layers.*.q", "layers.*.k"), sizes=(3, 4), layout="io"), Spelling("s", "l.#", batch_axes=1)],
    source="a test, with \x7f and ü",
)  # fmt: skip


@pytest.mark.parametrize("form", ["json", "toml"])
def test_a_plan_is_equal_after_a_round_trip(form: str) -> None:
    text = getattr(PLAN, f"to_{form}")()
    again = getattr(Plan, f"from_{form}")(text)
    assert again == PLAN
    assert getattr(again, f"to_{form}")() == text


CHARACTERS = st.characters(exclude_categories=["Cs"])  # all but surrogates
# Controls, DEL, quotes, line ends of other scripts, and what JSON escapes as two surrogates.
ODD = "a\x00\n\r\t\x1f\x7f\x85\\\"'#=[]\u2028\ud7ff\U0001f600\U0010ffff"


@pytest.mark.parametrize("form", ["json", "toml"])
@pytest.mark.parametrize("initializer", [*(case[0] for case in CASES), *(nested for nested, _ in NESTS)])
def test_every_initializer_is_equal_after_a_round_trip(form: str, initializer: Any) -> None:
    plan = Plan([Rule(ODD, dataclasses.replace(initializer, seed=2**64 - 1), kind=ODD)], source=ODD)
    again = getattr(Plan, f"from_{form}")(getattr(plan, f"to_{form}")())
    assert again == plan
    assert repr(again) == repr(plan)


@settings(max_examples=200, deadline=None)
@given(
    st.text(CHARACTERS.filter(lambda one: one not in "*{}."), min_size=1), st.floats(-1e150, 1e150), st.floats(1e-150, 1e150),
    st.dictionaries(st.text(CHARACTERS, min_size=1), st.integers(1, 2**62)),
)  # fmt: skip
def test_any_text_and_number_is_equal_after_a_round_trip(text: str, mean: float, std: float, slices: dict[str, int]) -> None:
    plan = Plan([Rule(text, RandomNormal(mean, std), kind=text, slices=slices or None)], [Spelling(text, text.replace("#", ""))])
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_toml(plan.to_toml()) == plan


def test_a_document_holds_what_is_not_at_its_default() -> None:
    assert as_dict(Plan([Rule("**", "he_normal")])) == {
        "fastinit_plan": 1, "rules": [{"pattern": "**", "initializer": {"class_name": "HeNormal"}}]
    }  # fmt: skip


def test_functions_have_no_document() -> None:
    with pytest.raises(TypeError, match="expected one of fastinit's for a document"):
        Plan([Rule("**", lambda shape, dtype: np.zeros(shape))]).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fastinit_plan": 2}, "expected format 1, got 2"),
        ({"rule": []}, "expected fastinit_plan, source, rules, spellings, got 'rule'"),
        ({"rules": {}}, "rules: expected a list, got dict"),
        ({"rules": [3]}, r"rules\[0\]: expected the options of a Rule, got 3"),
        ({"rules": [{"pattern": "**", "initializer": "nonsense"}]}, r"rules\[0\]: initializer: expected one of"),
        ({"rules": [{"pattern": "**"}]}, r"rules\[0\]: expected initializer too, got \{'pattern'"),
        ({"rules": [{"kind": "Linear"}]}, r"rules\[0\]: expected pattern and initializer too"),
        ({"rules": [{"pattern": "**", "initializer": "zeros", "axis": 1}]}, r"rules\[0\]: expected pattern, .*, got 'axis'"),
        ({"rules": [{"pattern": "**"}]}, r"rules\[0\]: .*initializer"),
        ({"rules": []}, "rules: expected at least one"),
        ({"spellings": [{"pattern": "a.*", "names": ["b"]}]}, r"spellings\[0\]: names: expected 1 times \*"),
    ],
)
def test_a_wrong_document_is_named(change: dict[str, object], message: str) -> None:
    document = {"fastinit_plan": 1, "rules": [{"pattern": "**", "initializer": "zeros"}]} | change
    with pytest.raises((TypeError, ValueError), match=message):
        from_dict(document)
    with pytest.raises((TypeError, ValueError), match=message):
        Plan.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (Plan.from_json, "{"), (Plan.from_toml, "a = "), (Plan.from_json, "[]"), (Plan.from_json, "[" * 100_000),
        (Plan.from_toml, "a = " + "[" * 100_000),
        (Plan.from_json, '{"fastinit_plan": 1, "rules": [], "rules": [{"pattern": "**", "initializer": "zeros"}]}'),
    ],
)  # fmt: skip
def test_text_that_is_no_document(read: object, text: str) -> None:
    with pytest.raises(ValueError, match="plan: expected"):
        read(text)  # type: ignore[operator]
