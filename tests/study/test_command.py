"""The command: exit status, options, and that no report is lost when the terminal or another file fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from study_rows import made

from fastinit import cli
from fastinit._command import outputs
from fastinit.study import CLAIMS, Measurement, Result, Settings
from fastinit.study.report_html import html

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors, signals and limits of POSIX")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """The command with two prepared results in place of all measurements."""
    state = {"matches": True}
    monkeypatch.setattr(cli, "_run_plain", lambda settings: [made(True), made(state["matches"])])
    return state


def test_status_is_0_only_when_everything_matches(short, capsys) -> None:
    assert cli.main(["study", "--no-html"]) == 0
    short["matches"] = False
    assert cli.main(["study", "--no-html"]) == 1
    assert "OUTSIDE the predicted range" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "--seed", "-1"], "expected an int in [0, 2**64), got -1"),
        (["study", "--seed", "x"], "expected an int in [0, 2**64), got 'x'"),
        (["study", "--html", "missing/dir/a.html"], "expected an existing directory"),
        (["study", "--html", "a.x", "--json", "a.x"], "--json and --html: expected two files, got a.x and a.x"),
        (["study", "--html", "."], "expected a file, got a directory"),
        (["study", "--html", "newname/"], "newname/: expected a file, got a directory's name"),
        (["study", "--html", ""], "--html: expected a file's path, got ''"),
        (["study", "--json", ""], "--json: expected a file's path, got ''"),
        (["study", "--json", "-"], "expected a file's path"),
        (["study", "--json", "n" * 300], "cannot write there: File name too long"),
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


def test_an_interrupt_leaves_no_file(monkeypatch, tmp_path, capsys) -> None:
    def interrupted(settings: Settings) -> list[Result]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run_plain", interrupted)
    assert cli.main(["study", "--html", str(tmp_path / "a.html")]) == 130
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == "fastinit: interrupted; nothing was written\n"


def test_a_failing_write_keeps_the_old_file_the_other_report_and_the_table(short, monkeypatch, tmp_path, capsys) -> None:
    page, data = tmp_path / "a.html", tmp_path / "a.json"
    data.write_text("old")
    replace = os.replace

    def fails(source, target):
        if str(target) == str(data):
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(outputs.os, "replace", fails)
    assert cli.main(["study", "--html", str(page), "--json", str(data)]) == 1
    assert data.read_text() == "old"
    assert page.read_text(encoding="utf-8").endswith("</html>\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.json"]
    captured = capsys.readouterr()
    assert "2 of 2 measurements lie inside the predicted range" in captured.out
    assert f"written: {page}\n" in captured.out
    assert captured.err == f"fastinit: {data}: cannot write: No space left on device\n"


def test_a_failing_picture_loses_the_html_report_only(short, monkeypatch, tmp_path, capsys) -> None:
    def fails(results, settings):
        raise RuntimeError("no such font")

    monkeypatch.setattr("fastinit.study.report_html.html", fails)
    page, data = tmp_path / "a.html", tmp_path / "a.json"
    assert cli.main(["study", "--html", str(page), "--json", str(data)]) == 1
    assert json.loads(data.read_text())["matches"] is True
    captured = capsys.readouterr()
    assert "2 of 2 measurements" in captured.out
    assert captured.err == f"fastinit: {page}: cannot make the report: RuntimeError: no such font\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failing_import_of_matplotlib_is_reported_before_the_work(monkeypatch, tmp_path, capsys) -> None:
    def broken() -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr("fastinit.study.pictures.import_matplotlib", broken)
    monkeypatch.setattr(cli, "_run_plain", lambda settings: pytest.fail("measured"))
    assert cli.main(["study", "--html", str(tmp_path / "a.html")]) == 2
    assert capsys.readouterr().err.startswith("fastinit: --html: matplotlib cannot be imported: UnicodeDecodeError: ")


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


# ---- pictures do not depend on the user's settings ----------------------------------------------


def test_the_users_style_does_not_change_pictures_and_is_restored() -> None:
    import matplotlib

    rows, settings = [made(True)], Settings()
    expected = html(rows, settings)
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9, "svg.fonttype": "path", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert html(rows, settings) == expected
        assert dict(matplotlib.rcParams) == before


# ---- a new process, with one prepared result in place of all measurements ------------------------

CHILD = """
import sys
sys.path.insert(0, {tests!r})
from dataclasses import replace
from fastinit import cli, study
from fastinit._command import outputs
from study_rows import made
row = made(True)
def measure(settings):
    {before}
    return row.measurement
study.CLAIMS = (replace(row.claim, measure=measure),)
{patch}
raise SystemExit(cli.main(sys.argv[1:]))
"""


def code(before: str = "pass", patch: str = "") -> str:
    return CHILD.format(tests=str(Path(__file__).parents[1] / "support"), before=before, patch=patch)


def run(*arguments: str, cwd: Path, redirect: str = "", **options) -> subprocess.CompletedProcess[str]:
    """Run the command in a new process, its streams redirected by a shell if `redirect` says so."""
    command = [sys.executable, "-c", code(), "study", *arguments]
    if redirect:
        command = ["sh", "-c", f'exec "$@" {redirect}', "sh", *command]
    options.setdefault("env", dict(os.environ))
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, **options)


@posix
def test_backend_and_settings_of_a_notebook_are_not_used(tmp_path) -> None:
    """MPLBACKEND is inherited from a notebook's kernel; a broken settings file would make the import of matplotlib fail."""
    settings = tmp_path / "settings"
    settings.mkdir()
    pages = []
    for name, backend, text in (
        ("plain", "agg", b""),
        ("notebook", "module://a_notebook.of_another_environment", b"text.usetex: True\nlines.linewidth: 40\n"),
        ("unknown", "no_such_backend", b"\xff\xfe"),
    ):
        (settings / "matplotlibrc").write_bytes(text)
        env = {**os.environ, "MPLBACKEND": backend, "MATPLOTLIBRC": str(settings / "matplotlibrc")}
        done = run("--html", f"{name}.html", cwd=tmp_path, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        pages.append((tmp_path / f"{name}.html").read_bytes())
    assert pages[0] == pages[1] == pages[2]


@posix
@pytest.mark.parametrize(
    ("redirect", "error"),
    [
        (">&-", "fastinit: standard output: cannot write: it is closed\n"),
        pytest.param(
            ">/dev/full", "fastinit: standard output: cannot write: No space left on device\n",
            marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here"),
        ),
        ("<&- >&- 2>&-", ""),
        pytest.param(
            ">/dev/full 2>/dev/full", "", marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
        ),
        ("| true", ""),
    ],
)  # fmt: skip
def test_a_closed_or_full_standard_output_loses_no_report(tmp_path, redirect: str, error: str) -> None:
    done = run("--no-html", "--json", "a.json", cwd=tmp_path, redirect=redirect)
    assert done.stderr == error
    if redirect != "| true":  # the status of a pipeline is that of its last command
        assert done.returncode == 1
    assert json.loads((tmp_path / "a.json").read_text())["matches"] is True
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@posix
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["config"]])
def test_other_commands_report_a_closed_output_in_one_line(arguments: list[str], tmp_path) -> None:
    command = [sys.executable, "-m", "fastinit", *arguments]
    for redirect in (">&-", *([">/dev/full"] if os.path.exists("/dev/full") else [])):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {redirect}', "sh", *command], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 1
        assert done.stderr.startswith("fastinit: standard output: cannot write: ")
        assert done.stderr.count("\n") == 1


@posix
def test_a_closed_pipe_gives_no_traceback() -> None:
    program = "input(); from fastinit.cli import main; raise SystemExit(main(['config']))"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


@posix
def test_a_file_above_the_size_limit_does_not_affect_a_smaller_one(tmp_path) -> None:
    import resource

    (tmp_path / "a.html").write_text("old")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = run("--html", "a.html", "--json", "a.json", cwd=tmp_path, preexec_fn=limited)
    assert done.returncode == 1
    assert done.stderr == "fastinit: a.html: cannot write: File too large\n"
    assert "written: a.json" in done.stdout
    assert (tmp_path / "a.html").read_text() == "old"
    assert json.loads((tmp_path / "a.json").read_text())["matches"] is True
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.json"]


@posix
def test_links_modes_and_pipes_are_kept(short, tmp_path) -> None:
    target, link, pipe = tmp_path / "target.html", tmp_path / "link.html", tmp_path / "pipe"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        assert cli.main(["study", "--html", str(link), "--json", str(pipe)]) == 0
        assert json.loads(reader.communicate()[0])["matches"] is True
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert target.stat().st_mode & 0o777 == 0o640
    assert stat.S_ISFIFO(pipe.stat().st_mode)


# ---- signals ------------------------------------------------------------------------------------


@contextlib.contextmanager
def on_a_terminal(program: str, *arguments: str, cwd: Path, **options) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process whose output is a terminal, and the controlling end of that terminal."""
    import pty

    controller, terminal = pty.openpty()
    command = [sys.executable, "-c", program, "study", *arguments]
    env = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, stdout=terminal, stderr=subprocess.PIPE, cwd=cwd, env=env, text=True, start_new_session=True, **options
    ) as process:
        os.close(terminal)
        try:
            yield process, controller
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                os.close(controller)


def read_until(controller: int, end: bytes | None) -> bytes:
    """What is written to the terminal, up to some bytes, or until no process has it open."""
    seen = b""
    while end is None or end not in seen:
        try:
            more = os.read(controller, 4096)
        except OSError:  # the end of the output on Linux
            more = b""
        if not more:
            assert end is None, seen
            break
        seen += more
    return seen


@posix
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("SIGINT", "fastinit: interrupted; nothing was written\n"),
        ("SIGTERM", "fastinit: stopped by SIGTERM; nothing was written\n"),
        ("SIGHUP", "fastinit: stopped by SIGHUP; nothing was written\n"),
    ],
)
def test_a_signal_while_measuring_leaves_no_file_and_shows_the_cursor(tmp_path, name: str, line: str) -> None:
    number = getattr(signal, name)
    with on_a_terminal(code(before="import time; time.sleep(100)"), "--json", "a.json", "--no-html", cwd=tmp_path) as (
        process,
        controller,
    ):
        seen = read_until(controller, b"claim 1")
        process.send_signal(number)
        seen += read_until(controller, None)
        assert process.wait(60) == 128 + number
        assert process.stderr.read() == line
    assert b"\x1b[?25l" in seen
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")
    assert list(tmp_path.iterdir()) == []


SLOW_WRITE = """
import time
def replace(source, target):
    print("ready", file=sys.stderr, flush=True)
    time.sleep(100)
outputs.os.replace = replace
"""


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_writing_keeps_the_old_file(tmp_path, name: str) -> None:
    number = getattr(signal, name)
    (tmp_path / "a.json").write_text("old")
    command = [sys.executable, "-c", code(patch=SLOW_WRITE), "study", "--no-html", "--json", "a.json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 2  # the new file has a temporary name
        process.send_signal(number)
        process.send_signal(number)  # a second one while the first is handled
        assert process.wait(60) == 128 + number
        assert process.stderr.read().endswith("; nothing was written\n")
    assert (tmp_path / "a.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@posix
def test_a_closed_terminal_loses_no_report(tmp_path) -> None:
    """Under nohup SIGHUP is ignored, and every later write to the terminal fails, those of the progress bar too."""
    ignored = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    with on_a_terminal(
        code(before="import time; time.sleep(1)"), "--json", "a.json", "--no-html", cwd=tmp_path, preexec_fn=ignored
    ) as (process, controller):
        read_until(controller, b"claim 1")
        os.close(controller)
        assert process.wait(60) == 1
        assert process.stderr.read() == "fastinit: standard output: cannot write: Input/output error\n"
    assert json.loads((tmp_path / "a.json").read_text())["matches"] is True


@posix
def test_handlers_of_the_caller_are_restored(short) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert cli.main(["study", "--no-html"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
