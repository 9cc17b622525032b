"""Writes the golden files: ``pytest --update-golden="why these bits change"``."""

from pathlib import Path

import golden
import golden_stack
import golden_training
from places import VECTORS

MADE = {"golden.txt": golden.lines, "stack.txt": golden_stack.golden_lines, "training.txt": golden_training.golden_lines}
HEAD = "# made by pytest --update-golden; why, stands in history.txt\n"


def name(line):
    """A line without its hash and what follows that."""
    words = line.split()
    sizes = [i for i, word in enumerate(words) if len(word) in (32, 64) and not set(word) - set("0123456789abcdef")]
    return " ".join(words[: sizes[0]])


def update(reason, folder=VECTORS):
    """Write every golden file, and add the changed lines and the reason to history.txt. Returns the changes.

    Raises
    ------
    ValueError
        If there is no reason; nothing has been written then.
    """
    reason = " ".join(reason.split())
    if len(reason) < 10:
        raise ValueError(f"--update-golden: expected the reason for which bits may change, got {reason!r}")
    made = {file: list(lines()) for file, lines in MADE.items()}
    changes = []
    for file, lines in made.items():
        path = Path(folder) / file
        old = dict((name(line), line) for line in path.read_text("ascii").splitlines() if line and line[0] != "#")
        new = dict((name(line), line) for line in lines)
        assert len(new) == len(lines), f"{file}: two lines of one name"
        for what in sorted(old.keys() | new.keys()):
            if old.get(what) != new.get(what):
                how = "new" if what not in old else "gone" if what not in new else "changed"
                changes.append(f"{file}: {how}: {what}")
        path.write_text(HEAD + "".join(f"{line}\n" for line in lines), "ascii")
    if changes:
        with (Path(folder) / "history.txt").open("a", encoding="utf-8") as history:
            history.write(f"{reason}\n" + "".join(f"    {change}\n" for change in changes))
    return changes
