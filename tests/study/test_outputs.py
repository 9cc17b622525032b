"""The files of a command: their names are resolved and checked before the work."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fastinit._command.outputs import TargetError, decide

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and permissions of POSIX")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_names_are_resolved_once() -> None:
    """A later change of directory or of a link does not change where a file is written."""
    os.mkdir("one")
    os.mkdir("two")
    Path("link").symlink_to("one/a")
    targets = decide({"--a": "link", "--b": "b", "--c": None})
    assert list(targets) == ["--a", "--b"]
    os.unlink("link")
    Path("link").symlink_to("two/a")
    os.chdir("two")
    targets["--a"].write("α")
    targets["--b"].write("β")
    assert Path("../one/a").read_text(encoding="utf-8") == "α"
    assert Path("../b").read_text(encoding="utf-8") == "β"
    assert sorted(os.listdir("..")) == ["b", "link", "one", "two"]
    assert os.listdir(".") == []


@posix
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("new", "new"), ("new", "./new"), ("new", "sub/../new"), ("new", "linked/new"), ("old", "sub/../old"),
        ("old", "symbolic"), ("old", "hard"), ("hard", "symbolic"), ("dangling", "missing"), ("chain", "old"),
    ],
)  # fmt: skip
def test_two_names_of_one_file_are_refused(first: str, second: str) -> None:
    os.mkdir("sub")
    Path("old").write_text("old")
    Path("symbolic").symlink_to("old")
    Path("chain").symlink_to("sub/../symbolic")
    Path("dangling").symlink_to("missing")
    Path("linked").symlink_to(".", target_is_directory=True)
    os.link("old", "hard")
    before = sorted(os.listdir("."))
    with pytest.raises(TargetError, match=f"--a and --b: expected two files, got {first} and {second}, which are the same"):
        decide({"--a": first, "--b": second})
    assert sorted(os.listdir(".")) == before
    assert Path("old").read_text() == "old"


@posix
def test_different_files_are_accepted() -> None:
    os.mkdir("sub")
    Path("old").write_text("old")
    Path("copy").write_text("old")
    Path("link").symlink_to("sub/new")
    targets = decide({"--a": "old", "--b": "copy", "--c": "link", "--d": "new"})
    assert len({target.identity for target in targets.values()}) == 4
    assert sorted(os.listdir(".")) == ["copy", "link", "old", "sub"]


@posix
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"--a: expected a file's path, got ''"),
        ("-", r"--a: expected a file's path, got -"),
        (".", r"\.: expected a file, got a directory"),
        ("sub", r"sub: expected a file, got a directory"),
        ("sub/", r"sub/: expected a file, got a directory"),
        ("new/", r"new/: expected a file, got a directory's name"),
        ("new/.", r"new/\.: expected a file, got a directory's name"),
        ("new/..", r"new/\.\.: expected a file, got a directory's name"),
        ("old/", r"old/: expected a file, got a directory's name"),
        ("old/new", r"old/new: expected an existing directory, got .*/old"),
        ("none/new", r"none/new: expected an existing directory, got .*/none"),
        ("loop", r"loop: cannot write there: Too many levels of symbolic links"),
        ("n" * 256, r"n{256}: cannot write there: File name too long"),
        ("sub/../" * 1000 + "new", r"new: cannot write there: File name too long"),
        ("a\0b", r"'a\\x00b': expected a file's path: "),
        ("/proc/new", r"/proc/new: cannot write there: "),
    ],
)
def test_unwritable_names_are_refused_and_no_file_is_left(name: str, message: str) -> None:
    if name.startswith("/proc") and not os.path.isdir("/proc"):
        pytest.skip("no /proc here")
    os.mkdir("sub")
    Path("old").write_text("old")
    Path("loop").symlink_to("loop")
    with pytest.raises(TargetError, match=message):
        decide({"--a": name})
    assert sorted(os.listdir(".")) == ["loop", "old", "sub"]
    assert os.listdir("sub") == []


DECIDE = """
import os, sys
from fastinit._command.outputs import decide
if "ROOT" not in os.environ and os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)  # root may write everywhere
for name in sys.argv[1:]:
    try:
        decide({"--a": name})
        print("taken", file=sys.stderr)
    except ValueError as error:
        print(error, file=sys.stderr)
"""


def decided(*names: str, **options) -> list[str]:
    """The answer of a process to each name. It drops root's rights, unless ROOT is in its environment."""
    done = subprocess.run([sys.executable, "-c", DECIDE, *names], stderr=subprocess.PIPE, text=True, check=True, **options)
    return done.stderr.splitlines()


@posix
def test_read_only_directories_and_files_are_refused() -> None:
    # Not in pytest's directory, which other users cannot enter.
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        for folder, mode in (("free", 0o777), ("readable", 0o555), ("closed", 0)):
            (top / folder).mkdir()
            (top / folder / "old").write_text("old")
            (top / folder / "old").chmod(0o444)
            (top / folder).chmod(mode)
        found = decided("free/new", "free/old", "readable/new", "readable/old", "closed/new", cwd=top)
        for folder in ("readable", "closed"):
            (top / folder).chmod(0o755)
    assert found == [
        "taken",
        "free/old: expected a writable file",
        "readable/new: cannot write there: Permission denied",
        "readable/old: expected a writable file",
        "closed/new: cannot write there: Permission denied",
    ]


@posix
def test_the_file_of_a_redirected_standard_output_is_refused() -> None:
    with open("table", "w", encoding="utf-8") as file:
        found = decided("table", "/dev/stdout", stdout=file, env={**os.environ, "ROOT": "1"})
    assert [line.partition(": ")[2] for line in found] == ["expected another file than standard output"] * 2


@posix
def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_mode() -> None:
    Path("old").write_text("old")
    os.chmod("old", 0o604)
    targets = decide({"--a": "old", "--b": "new"})
    before = os.umask(0o026)
    try:
        for target in targets.values():
            target.write("text")
    finally:
        os.umask(before)
    assert os.stat("old").st_mode & 0o777 == 0o604
    assert os.stat("new").st_mode & 0o777 == 0o640


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EPERM])
def test_a_file_that_cannot_be_replaced_is_overwritten(monkeypatch, code: int) -> None:
    """Such as a file that is a mount point."""
    Path("old").write_text("much longer than the new one")
    target = decide({"--a": "old"})["--a"]
    number = os.stat("old").st_ino

    def refuses(source, name):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuses)
    target.write("new")
    assert Path("old").read_text() == "new"
    assert os.stat("old").st_ino == number
    assert os.listdir(".") == ["old"]


def test_a_failing_write_keeps_the_old_file(monkeypatch) -> None:
    Path("old").write_text("old")
    target = decide({"--a": "old"})["--a"]

    def fails(source, name):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        target.write("new")
    assert Path("old").read_text() == "old"
    assert os.listdir(".") == ["old"]
