# SPDX-License-Identifier: BSD-3-Clause
"""What builds a release is pinned: actions by commit, build requirements by version and hash."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LOCK = ROOT / "tools" / "build-requirements.txt"
PYPROJECT = ROOT / "pyproject.toml"

needs_lock = pytest.mark.skipif(not (LOCK.exists() and PYPROJECT.exists()), reason="for the source tree")
needs_workflows = pytest.mark.skipif(not WORKFLOWS, reason="the workflows are not installed with the tests")


def version(text):
    return tuple(int(part) for part in text.split("."))


def locked():
    """Name, version and hashes of each requirement in the lock."""
    found = {}
    for entry in LOCK.read_text(encoding="ascii").replace("\\\n", " ").splitlines():
        if entry and not entry.startswith("#"):
            name, pinned, *hashes = re.split(r"==|\s+--hash=", entry.strip())
            found[name] = version(pinned), hashes
    return found


@needs_lock
def test_build_requirements_are_locked():
    """The lock and pyproject.toml name the same requirements, and the locked versions are allowed."""
    wanted = {}
    for requirement in tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["build-system"]["requires"]:
        name, least = requirement.split(">=")
        wanted[name] = version(least)
    found = locked()
    assert found.keys() == wanted.keys()
    for name, (pinned, hashes) in found.items():
        assert pinned >= wanted[name]
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes)


@needs_lock
def test_wheels_are_built_with_the_lock():
    options = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["cibuildwheel"]
    assert options["before-build"].endswith("--require-hashes -r {project}/tools/build-requirements.txt")
    assert options["build-frontend"] == {"name": "build", "args": ["--no-isolation"]}
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    assert re.search(r"^recursive-include tools .*\*\.txt", manifest, re.MULTILINE), "wheels are built from the sdist"


@needs_workflows
def test_the_source_distribution_is_built_with_the_lock():
    text = (ROOT / ".github" / "workflows" / "wheels.yml").read_text(encoding="utf-8")
    job = text.partition("  sdist:\n")[2].partition("\n  wheels:")[0]
    assert "pip install --require-hashes -r tools/build-requirements.txt" in job
    assert not re.search(r"pipx|pip install (?!--require-hashes)", job)


@needs_workflows
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned(path):
    """By commit, because a tag can be moved; the comment names the version."""
    used = re.findall(r"^\s*(?:- )?uses:\s*(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@needs_workflows
def test_an_action_has_one_version():
    pins = {pin for path in WORKFLOWS for pin in re.findall(r"uses:\s*(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)
