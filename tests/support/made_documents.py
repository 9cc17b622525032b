"""What ``pytest --update-golden="…"`` writes in docs/: the table of activations, and a row for each new initializer."""

import inspect
import re
from pathlib import Path

from fastinit import _core
from fastinit.initializers import CATALOGUE

DOCS = Path(__file__).parents[2] / "docs"
PAPER = re.compile(r'(?!References)([A-Z][\w-]+)(?: et al\.)?[^".()]*"[^"]*"[^"()]*\((\d{4})\)')

ACTIVATIONS = """\
# The activations

`Stack`, `fastinit.theory` and `fastinit.gains` take them by name. This table is written by `pytest --update-golden="…"` from
[csrc/stack/activations.def](../csrc/stack/activations.def), which also has the largest errors, and names the functions in the
formulas: the tests hold the computed values to these, evaluated in 60 digits.

An element counts as saturated where |φ′(x)| is below the number in the table; without one, nothing does.

| activation | φ(x) | φ′(x) | saturated | paper |
|---|---|---|---|---|
"""


def activations():
    """The text of docs/activations.md."""
    rows = []
    for name, t in _core.TRAITS.items():
        default = f", s = {t.default_parameter:g} unless `{name}({t.parameter})` says another" if t.parameter else ""
        saturated = f"{t.saturated_below:g}" if t.saturated_below else ""
        rows.append(f"| `{name}` | `{t.definition}`{default} | `{t.derivative}` | {saturated} | {t.paper} |\n")
    return ACTIVATIONS + "".join(rows)


def initializers(text):
    """The text of docs/initializers.md, with a row at the table's end for each class that has none, made of its docstring."""
    names = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    end = text.index("\n", text.rindex(f"| `{names[-1]}` |")) + 1
    rows = []
    for kind in CATALOGUE:
        if kind.__name__ not in names:
            doc = inspect.getdoc(kind)
            first = re.split(r"\.\s|\.$|\n\n", doc)[0].replace("\n", " ").replace("|", "\\|")
            papers = ", ".join(f"{author} ({year})" for author, year in PAPER.findall(doc))
            rows.append(f"| `{kind.__name__}` | {first} | – | {papers} |\n")
    return text[:end] + "".join(rows) + text[end:]


def update():
    """Write both, and return what changed."""
    changed = []
    for name, make in (("activations.md", lambda old: activations()), ("initializers.md", initializers)):
        path = DOCS / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if make(old) != old:
            path.write_text(make(old), encoding="utf-8")
            changed.append(f"docs/{name}")
    return changed
