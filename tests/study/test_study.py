"""The study: its claims, what a verdict depends on, and the reports."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from study_rows import made

from fastinit import cli
from fastinit.study import CLAIMS, Check, Measurement, Result, Settings, run_claim
from fastinit.study.report_html import html
from fastinit.study.report_text import outcome, plain, summary

QUICK = Settings(seed=0, quick=True)


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """Every claim measured once, with the small networks."""
    return [run_claim(claim, QUICK) for claim in CLAIMS]


def test_every_claim_has_a_verdict_and_a_sentence() -> None:
    assert [claim.number for claim in CLAIMS] == list(range(1, 16))
    for claim in CLAIMS:
        assert claim.verdict in ("true", "half true", "false")
        assert claim.truth.endswith(".")
        assert claim.setting
    assert [c.number for c in CLAIMS if c.verdict == "half true"] == [1, 2, 6, 8, 9, 10, 13]
    assert [c.number for c in CLAIMS if c.verdict == "false"] == [12]


def test_every_measurement_is_as_stated(results: list[Result]) -> None:
    for result in results:
        failed = [c for c in result.measurement.checks if not c.holds]
        assert result.matches is not False, (result.claim.number, failed)
        if result.claim.number != 15:  # needs Keras
            assert result.matches is True


def test_the_same_seed_measures_the_same_numbers(results: list[Result]) -> None:
    for number in (3, 7):
        again = run_claim(CLAIMS[number - 1], QUICK)
        assert again.measurement == results[number - 1].measurement


def test_another_seed_measures_other_numbers(results: list[Result]) -> None:
    other = run_claim(CLAIMS[6], replace(QUICK, seed=1))
    assert other.matches
    assert other.measurement.checks != results[6].measurement.checks


@pytest.mark.parametrize("kind", ["weights", "biases", "input"])
def test_a_wrong_gradient_is_detected(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Claim 5 compares every kind of gradient with differences of the loss: an error of 1 % is detected."""
    from fastinit import Stack

    correct = Stack.backward

    def wrong(self, x, dy):
        found = correct(self, x, dy)
        for array in [found.input] if kind == "input" else getattr(found, kind):
            array *= 1.01
        return found

    monkeypatch.setattr(Stack, "backward", wrong)
    failed = [c.name for c in run_claim(CLAIMS[4], QUICK).measurement.checks if not c.holds]
    assert [name for name in failed if "derivative" in name] == [
        f"derivative of the loss with respect to the {kind}: error relative to the gradient's norm"
    ]


def test_an_error_in_a_measurement_is_a_mismatch_that_names_it() -> None:
    def breaks(settings: Settings) -> Measurement:
        raise RuntimeError("no such thing")

    result = run_claim(replace(CLAIMS[0], measure=breaks), QUICK)
    assert result.matches is False
    assert result.measurement.summary == "failed: RuntimeError: no such thing"


@pytest.mark.parametrize(
    ("value", "holds"),
    [(1.0, True), (2.0, True), (0.999, False), (2.001, False), (float("nan"), False)],
)
def test_check_is_a_closed_interval_without_nan(value: float, holds: bool) -> None:
    assert Check("x", value, 1.0, 2.0).holds is holds


def test_a_result_without_checks_does_not_match() -> None:
    claim = CLAIMS[0]
    assert Result(claim, Measurement("nothing")).matches is False
    assert Result(claim, Measurement("", skipped="why")).matches is None


def test_plain_text_has_100_columns_and_every_number() -> None:
    text = plain([made(True), made(False)])
    assert "inside the predicted range" in text
    assert "OUTSIDE the predicted range" in text
    assert "yes  value: 1 (expected: 0 to 2)" in text
    assert "NO   value: 3 (expected: 0 to 2)" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert summary([made(True), made(False)]).startswith("1 of 2 measurements lie inside the predicted range")
    assert outcome(Result(CLAIMS[0], Measurement("", skipped="why"))) == "not measured"


def test_a_claim_has_a_verdict_only_if_its_measurement_supports_it() -> None:
    skipped = Result(CLAIMS[14], Measurement("", skipped="not measured: no Keras"))
    rows = [made(True), made(False), skipped]
    assert [r.verdict for r in rows] == ["half true", "not borne out", "not measured"]
    assert [r.as_dict()["verdict"] for r in rows] == [r.verdict for r in rows]
    assert summary(rows).endswith("1 not measured. Claims: 0 true, 1 half true, 0 false, 1 not borne out.")
    page, text = html([skipped], QUICK), plain([skipped])
    assert page.count('<span class="badge none">not measured</span>') == 2
    assert '<span class="badge true">' not in page
    assert "verdict:  not measured. Expected: true. " in text
    assert '<span class="badge not">not borne out</span>' in html([made(False)], QUICK)


class _Page(HTMLParser):
    """Collects what a page loads, and whether its tags are closed."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "data") and not str(value).startswith("#"):
                self.loads.append(f"{tag} {name}={value}")
            if name == "id":
                self.ids.append(str(value))
        if tag in ("script", "iframe", "object"):
            self.loads.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_one_self_contained_page(results: list[Result]) -> None:
    page = html([*results, made(False)], QUICK)
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    assert parser.loads == []
    assert len(parser.ids) == len(set(parser.ids)) + 1  # claim 1 is on this page twice
    assert "http" not in re.sub(r"<!DOCTYPE[^>]*>", "", page)
    assert "a &lt; b &amp; c" in page
    assert page.count("<svg") == sum(len(r.measurement.plots) for r in results) + 1
    for claim in CLAIMS:
        assert f'id="claim-{claim.number}"' in page
    assert page == html([*results, made(False)], QUICK)


def test_json_of_real_results_has_every_number(results: list[Result]) -> None:
    text = json.dumps(cli._as_json(results, QUICK), allow_nan=False)
    found = json.loads(text)
    assert [c["number"] for c in found["claims"]] == list(range(1, 16))
    assert sum(len(c["checks"]) for c in found["claims"]) == sum(
        len(r.measurement.checks) for r in results
    )


def test_digits_are_held_out_and_standardised() -> None:
    digits = QUICK.digits
    assert digits.x.shape == (1437, 64)
    assert digits.held_out_x.shape == (360, 64)
    assert digits.x.dtype == np.float32
    np.testing.assert_allclose(digits.x.mean(axis=0), 0, atol=1e-5)
    rows = {row.tobytes() for row in digits.x}
    # A few images of the data set are identical: at most those may be in both sets.
    assert sum(row.tobytes() in rows for row in digits.held_out_x) <= 2
