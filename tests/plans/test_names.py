"""Patterns of names against a matcher that tries everything, and at lengths at which trying everything takes forever."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinit.plans.names import Pattern, canonical


@pytest.mark.parametrize(
    ("pattern", "name", "captures"),
    [
        ("**", "a.b.c", ()),
        ("**.weight", "weight", ()),
        ("**.weight", "a.b.weight", ()),
        ("a.**.weight", "a.weight", ()),
        ("*.weight", "a.b.weight", None),
        ("h.*.q.*", "h.3.q.bias", ("3", "bias")),
        ("h.*.{q,k}_proj.weight", "h.0.k_proj.weight", ("0",)),
        ("h.*.{q,k}_proj.weight", "h.0.v_proj.weight", None),
        ("layer*.weight", "layer.weight", ("",)),
        ("layer*.weight", "layer12.weight", ("12",)),
        ("a.b", "a.b.c", None),
        ("a+b.(c)", "a+b.(c)", ()),
    ],
)
def test_a_pattern_matches_the_whole_name(pattern: str, name: str, captures: tuple[str, ...] | None) -> None:
    assert Pattern(pattern).match(name) == captures


@pytest.mark.parametrize("pattern", ["", "a..b", "a.b**", "a.{q", "a.{q}", "a.q}", ".a"])
def test_patterns_that_mean_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern: expected"):
        Pattern(pattern)


def test_segments_of_wrappers_are_dropped_anywhere() -> None:
    assert canonical("module._orig_mod.h.0._checkpoint_wrapped_module.q._fsdp_wrapped_module.weight") == "h.0.q.weight"


# ---- against trying everything ----------------------------------------------------------------------


def segment_matches(parts: list[str], text: str) -> bool:
    """Parts are letters, stars, and alternatives in braces."""
    if not parts:
        return not text
    first, rest = parts[0], parts[1:]
    if first == "*":
        return any(segment_matches(rest, text[i:]) for i in range(len(text) + 1))
    words = first[1:-1].split(",") if first.startswith("{") else [first]
    return any(text.startswith(word) and segment_matches(rest, text[len(word) :]) for word in words)


def matches(pattern: list[list[str]], name: list[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == ["**"]:
        return any(matches(pattern[1:], name[i:]) for i in range(len(name) + 1))
    return bool(name) and segment_matches(pattern[0], name[0]) and matches(pattern[1:], name[1:])


PARTS = st.lists(st.sampled_from(["a", "b", "*", "{a,ab}", "{bb,b}", "{abb,,b}"]), min_size=1, max_size=4)
SEGMENT = PARTS.map(lambda parts: [part for part, _ in itertools.groupby(parts)])  # no two stars side by side
NAME = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=5)


@settings(max_examples=2000, deadline=None)
@given(st.lists(st.one_of(st.just(["**"]), SEGMENT), min_size=1, max_size=5), NAME)
def test_a_pattern_matches_what_some_way_to_share_the_name_matches(pattern: list[list[str]], name: list[str]) -> None:
    found = Pattern(".".join("".join(parts) for parts in pattern)).match(".".join(name))
    assert (found is not None) == matches(pattern, name)


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1).filter(lambda text: not re.search(r"[*{}]", text) and "" not in text.split(".")))
def test_other_characters_mean_themselves(text: str) -> None:
    assert Pattern(text).match(text) == ()
    assert Pattern(text).match(text + "x") is None


def test_of_several_readings_the_first_texts_are_the_shortest() -> None:
    assert Pattern("a*b*c").match("axbybzc") == ("x", "ybz")
    assert Pattern("**.*.**").match("a.b.c") == ("a",)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("**.a.**.a.**.a.**.a.**.x", ".".join("a" * 2000)),
        ("**.**.**.**.**.x", ".".join("a" * 2000)),
        ("*a*a*a*a*a*a*b", "a" * 500),
        ("**.*a*a*a*b.**.*a*a*b.x", ".".join(["a" * 50] * 200)),
    ],
)
def test_a_long_name_takes_no_long_time(pattern: str, name: str) -> None:
    begin = time.process_time()
    assert Pattern(pattern).match(name) is None
    assert time.process_time() - begin < 1
