"""The study: its rows as data, what a verdict rests on, and the reports."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from fastinit import cli
from fastinit.study import CLAIMS, Check, Measurement, Plot, Result, Settings, run_claim
from fastinit.study.report_html import html
from fastinit.study.report_text import outcome, plain, summary

QUICK = Settings(seed=0, quick=True)


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """Every claim measured once, with the small networks."""
    return [run_claim(claim, QUICK) for claim in CLAIMS]


def test_one_row_for_every_claim_of_the_text() -> None:
    assert [claim.number for claim in CLAIMS] == list(range(1, 16))
    # What is only half true gets one sentence that says so; none is empty.
    for claim in CLAIMS:
        assert claim.verdict in ("true", "half true", "false")
        assert claim.truth.endswith(".")
        assert claim.setting
    assert [c.number for c in CLAIMS if c.verdict == "half true"] == [1, 2, 6, 8, 10, 12]


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


def test_a_wrong_theory_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights 4 % too large are found out by claim 4, those of claim 7 by 10 %."""
    from fastinit.study import claims_scale
    from fastinit.study.measure import profile

    for number, error in ((4, 1.04), (7, 1.1)):

        def biased(settings, name, activation, depth, sigma_w, sigma_b=0.0, error=error):
            return profile(settings, name, activation, depth, error * sigma_w, sigma_b)

        monkeypatch.setattr(claims_scale, "profile", biased)
        assert run_claim(CLAIMS[number - 1], QUICK).matches is False


@pytest.mark.parametrize("kind", ["weights", "biases", "input"])
def test_a_wrong_gradient_is_found_out(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Claim 5 holds every kind of gradient against the loss: 1 % is too much."""
    from fastinit import Stack

    right = Stack.backward

    def wrong(self, x, dy):
        found = right(self, x, dy)
        for array in [found.input] if kind == "input" else getattr(found, kind):
            array *= 1.01
        return found

    monkeypatch.setattr(Stack, "backward", wrong)
    failed = [c.name for c in run_claim(CLAIMS[4], QUICK).measurement.checks if not c.holds]
    assert [name for name in failed if "derivative" in name] == [
        f"derivative of the loss along the {kind}, relative error of backward"
    ]


def test_a_row_that_raises_is_a_mismatch_and_takes_no_other_with_it() -> None:
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


def test_result_without_checks_matches_nothing() -> None:
    claim = CLAIMS[0]
    assert Result(claim, Measurement("nothing")).matches is False
    assert Result(claim, Measurement("", skipped="why")).matches is None


def made(matches: bool) -> Result:
    """A row with a known outcome, text that needs escaping, and a plot with what cannot be drawn."""
    claim = replace(CLAIMS[0], text="a < b & c", truth="It is <so>.")
    check = Check("value", 1.0 if matches else 3.0, 0.0, 2.0)
    plot = Plot("t & t", "x", "y", (("s", (0.0, 1.0, 2.0), (1.0, float("inf"), 0.0)),), log_y=True)
    return Result(claim, Measurement("one number", (check,), (plot,)))


def test_plain_text_fits_a_page_and_names_what_fails() -> None:
    text = plain([made(True), made(False)])
    assert "as stated" in text
    assert "NOT as stated" in text
    assert "value: 3 is outside [0, 2]" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert summary([made(True), made(False)]).startswith("1 of 2 measurements are as stated")
    assert outcome(Result(CLAIMS[0], Measurement("", skipped="why"))) == "not measured"


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
    assert len(parser.ids) == len(set(parser.ids)) + 1  # claim 1 stands twice here, as a made row
    assert "http" not in re.sub(r"<!DOCTYPE[^>]*>", "", page)
    assert "a &lt; b &amp; c" in page
    assert page.count("<svg") == sum(len(r.measurement.plots) for r in results) + 1
    for claim in CLAIMS:
        assert f'id="claim-{claim.number}"' in page
    assert page == html([*results, made(False)], QUICK)


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """The command with two made rows in place of all measurements."""
    state = {"matches": True}
    monkeypatch.setattr(cli, "_run_plain", lambda settings: [made(True), made(state["matches"])])
    return state


def test_status_is_0_only_when_everything_matches(short, capsys) -> None:
    assert cli.main(["study", "--no-html"]) == 0
    short["matches"] = False
    assert cli.main(["study", "--no-html"]) == 1
    assert "NOT as stated" in capsys.readouterr().out


def test_status_is_1_where_a_claim_was_not_measured(monkeypatch, capsys) -> None:
    skipped = Result(CLAIMS[14], Measurement("", skipped="not measured: no Keras"))
    monkeypatch.setattr(cli, "_run_plain", lambda settings: [made(True), skipped])
    assert cli.main(["study", "--no-html"]) == 1
    assert "1 not measured" in capsys.readouterr().out


def test_files_are_written_whole(short, tmp_path, capsys) -> None:
    page, data = tmp_path / "a.html", tmp_path / "a.json"
    page.write_text("old")
    assert cli.main(["study", "--html", str(page), "--json", str(data), "--seed", "7"]) == 0
    assert "seed 7" in page.read_text(encoding="utf-8")
    found = json.loads(data.read_text())
    assert found["seed"] == 7
    assert found["matches"] is True
    assert [len(c["checks"]) for c in found["claims"]] == [1, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.json"]
    assert str(page) in capsys.readouterr().out


def test_json_of_real_results_has_every_number(results: list[Result]) -> None:
    text = json.dumps(cli._as_json(results, QUICK), allow_nan=False)
    found = json.loads(text)
    assert [c["number"] for c in found["claims"]] == list(range(1, 16))
    assert sum(len(c["checks"]) for c in found["claims"]) == sum(
        len(r.measurement.checks) for r in results
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "--seed", "-1"], "expected an int in [0, 2**64), got -1"),
        (["study", "--seed", "x"], "expected an int in [0, 2**64), got 'x'"),
        (["study", "--html", "missing/dir/a.html"], "expected an existing directory"),
        (["study", "--html", "a.x", "--json", "a.x"], "expected two files"),
        (["study", "--html", "."], "expected a file, got a directory"),
        (["study", "--json", "-"], "expected a file's path"),
        (["study", "--nonsense"], "unrecognized arguments"),
        ([], "required"),
    ],
)
def test_wrong_use_is_status_2_before_any_work(
    arguments: list[str], message: str, capsys, monkeypatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_run_plain", lambda settings: pytest.fail("measured"))
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_interrupt_leaves_nothing(monkeypatch, tmp_path, capsys) -> None:
    def interrupted(settings: Settings) -> list[Result]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run_plain", interrupted)
    assert cli.main(["study", "--html", str(tmp_path / "a.html")]) == 130
    assert list(tmp_path.iterdir()) == []
    assert "interrupted" in capsys.readouterr().err


def test_a_failing_write_keeps_the_old_file_and_the_table(short, monkeypatch, tmp_path, capsys) -> None:
    page = tmp_path / "a.html"
    page.write_text("old")

    def fails(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(cli.os, "replace", fails)
    assert cli.main(["study", "--html", str(page)]) == 1
    assert page.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]
    captured = capsys.readouterr()
    assert "2 of 2 measurements are as stated" in captured.out
    assert "cannot write: No space left on device" in captured.err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
def test_links_modes_and_devices_stay_what_they_are(short, tmp_path) -> None:
    target, link, pipe = tmp_path / "target.html", tmp_path / "link.html", tmp_path / "pipe"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    assert cli.main(["study", "--html", str(link), "--json", str(pipe)]) == 0
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert target.stat().st_mode & 0o777 == 0o640
    assert json.loads(reader.communicate()[0])["matches"] is True
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_missing_packages_are_named(monkeypatch, capsys) -> None:
    monkeypatch.setattr(cli, "_REPORT_PACKAGES", ("numpy", "no_such_package"))
    assert cli.main(["study"]) == 2
    err = capsys.readouterr().err
    assert "no_such_package" in err
    assert "pip install 'fastinit[report]'" in err


def test_module_and_config_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastinit", "config"], capture_output=True, text=True, check=True
    )
    assert "stream version:" in done.stdout
    assert "instruction set in use:" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
def test_a_reader_that_leaves_is_no_traceback() -> None:
    code = "input(); from fastinit.cli import main; raise SystemExit(main(['config']))"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_digits_are_held_out_and_standardised() -> None:
    digits = QUICK.digits
    assert digits.x.shape == (1437, 64)
    assert digits.held_out_x.shape == (360, 64)
    assert digits.x.dtype == np.float32
    np.testing.assert_allclose(digits.x.mean(axis=0), 0, atol=1e-5)
    rows = {row.tobytes() for row in digits.x}
    # Some drawings of the data set are equal to the pixel: at most those may be on both sides.
    assert sum(row.tobytes() in rows for row in digits.held_out_x) <= 2
