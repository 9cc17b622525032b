"""Which layers of a model are compared with one another, and what is said where none are."""

from __future__ import annotations

import dataclasses
import math

import pytest

from fastinit import Thresholds
from fastinit.diagnosis.model import judge_model
from fastinit.diagnosis.observed import ObservedLayer, ObservedModel

NAMES = ("stem", "hidden", "mid", "deep", "low", "head")


def layer(name, nats=0.0, **of):
    made = ObservedLayer(
        name=name, kind="Dense", weighted=True, activation=None, inputs=8, units=8, elements=8.0, square=1.0, expected=1.0,
        gradient=math.exp(nats), saturated=math.nan, dead=0.0, non_finite=0, non_finite_gradients=0, apart=math.nan,
        gradient_to_weight=1.0, silent=False,
    )  # fmt: skip
    return dataclasses.replace(made, **of)


def judged(layers):
    numbers = dict.fromkeys(("loss", "classes", "logit_variance"), math.nan)
    of = {"without_gradient": (), "non_finite": (), "twins": (), "symmetric": (), "batch": 4}
    return judge_model([ObservedModel(layers=tuple(layers), **of, **numbers)], Thresholds(), "")


def test_layers_of_a_chain_without_numbers_are_compared_in_their_order():
    found = judged([layer(name, 10.0 * i) for i, name in enumerate(NAMES)])
    assert found.verdict == "vanishing"
    assert "shrinks by 40.0 nats, a factor of 2.35e+17, from low back to stem, layers of kind Dense" in found.findings[0].reason
    assert "not judged" not in str(found)


@pytest.mark.parametrize("other", [
    {"kind": "LayerNorm", "weighted": False}, {"kind": "attention", "weighted": False}, {"branch": 0.5},
])  # fmt: skip
def test_a_model_that_is_no_chain_is_said_not_to_be_judged(other):
    found = judged([*(layer(name, 10.0 * i) for i, name in enumerate(NAMES)), layer("other", **other)])
    assert found.healthy
    assert "verdict   healthy; forward and backward changes not judged: fewer than three layers of one role" in str(found)
    assert "of one role: layers whose names differ in numbers alone" in str(found)
    assert found.to_dict()["forward"]["not_judged"]


def test_a_frozen_backbone_is_not_judged_backward():
    frozen = [layer(f"body.{i}", gradient=math.nan) for i in range(5)]
    found = judged([*frozen, layer("head")])
    words = "verdict   healthy; backward change not judged: fewer than three layers of one role get a gradient"
    assert words in str(found)
    assert math.isnan(found.backward.nats)
    assert found.forward.nats == 0
    silent = judged([*(layer(f"body.{i}", gradient=0.0) for i in range(5)), layer("head")])
    assert "not judged: too many layers have a mean square that is 0" in str(silent)


def test_the_first_layer_of_three_is_left_out_where_a_model_normalises():
    found = judged([*(layer(f"body.{i}") for i in range(3)), layer("norm", kind="LayerNorm", weighted=False), layer("head")])
    assert "forward change not judged: fewer than three layers of one role" in str(found)
