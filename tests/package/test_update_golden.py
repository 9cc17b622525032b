"""Golden files are written by one command, which lists the changes and requires a reason."""

import shutil

import pytest
from made_documents import DOCS, activations, initializers
from places import VECTORS
from update_golden import MADE, update


def test_changed_new_and_removed_lines_are_listed(tmp_path):
    for file in MADE:
        shutil.copy(VECTORS / file, tmp_path)
    path = tmp_path / "stack.txt"
    head, first, second, *rest = path.read_text("ascii").splitlines()
    changed = first.rsplit(" ", 1)[0] + " " + "0" * 32
    path.write_text("\n".join([head, changed, *rest, "forward nothing float32 " + "1" * 32]) + "\n", "ascii")
    found = update("a test of the command", tmp_path)
    assert sorted(found) == sorted([
        f"stack.txt: changed: {first.rsplit(' ', 1)[0]}", f"stack.txt: new: {second.rsplit(' ', 1)[0]}",
        "stack.txt: gone: forward nothing float32",
    ])  # fmt: skip
    for file in MADE:
        assert (tmp_path / file).read_bytes() == (VECTORS / file).read_bytes()
    history = (tmp_path / "history.txt").read_text("utf-8")
    assert history.startswith("a test of the command\n")
    assert all(change in history for change in found)


@pytest.mark.parametrize("reason", ["", "  ", "because"])
def test_without_a_reason_nothing_is_written(tmp_path, reason):
    with pytest.raises(ValueError, match="expected the reason"):
        update(reason, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not DOCS.exists(), reason="the documents are not beside the tests")
def test_the_documents_are_those_that_the_command_writes():
    assert (DOCS / "activations.md").read_text(encoding="utf-8") == activations()
    table = (DOCS / "initializers.md").read_text(encoding="utf-8")
    assert initializers(table) == table
    without = "".join(line for line in table.splitlines(keepends=True) if not line.startswith("| `SirenFirst`"))
    assert "| `SirenFirst` | U(-r, r) with r = 1 / fan_in, " in initializers(without)
    assert "| – | Sitzmann (2020) |\n" in initializers(without)


def test_the_option_exists(pytestconfig):
    assert pytestconfig.getoption("--update-golden") is None
