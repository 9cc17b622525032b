"""Which way the arrows point: rooms import what their docstrings allow, no file imports in a circle, C's rooms likewise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from places import PACKAGE, ROOT

DIALECTS = {"torch", "keras", "jax"}
# The one way up: who calls an initializer with a tensor of PyTorch has imported torch, and its dialect fills the tensor.
HANDED_UP = {("initializers", "torch")}
FRAMEWORKS = DIALECTS | {"flax", "equinox", "tensorflow", "matplotlib", "rich", "sklearn"}
ALLOWED = re.compile(r"May import: ([^.]+)\.")
FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """``initializers.base``; a package has the name of its folder, the whole package none."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
ROOMS = {name.partition(".")[0] for name in MODULES} - {""}


def imports_of(name: str, nodes: list[ast.stmt] | None = None) -> set[str]:
    """Modules of the package that a module imports: anywhere, or in some of its statements."""
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in [inner for outer in (nodes or [TREES[name]]) for inner in ast.walk(outer)]:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [part for part in package if part]
            base = base[: len(base) - (node.level - 1)] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                inner = ".".join([*base, alias.name])
                found.add(inner if inner in MODULES or inner == "_core" else ".".join(base))
    return found


def frameworks_of(name: str) -> set[str]:
    """Foreign packages that are imported with the module."""
    found = set()
    for node in TREES[name].body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found & FRAMEWORKS


def allowed(room: str) -> set[str]:
    """What the room's own docstring lets it import."""
    found = ALLOWED.search(ast.get_docstring(TREES[room]) or "")
    assert found, f"{room}: expected a line 'May import: ...' in the docstring of its __init__, or of the file"
    return set() if found[1] == "nothing" else set(re.split(r",\s+", found[1]))


@pytest.mark.parametrize("room", sorted(ROOMS - {"__main__", "_version"}))
def test_a_room_imports_what_it_says(room: str) -> None:
    may = allowed(room) | {room, "_version"}
    assert may <= ROOMS | {"_core"}
    for name in MODULES:
        if name.partition(".")[0] == room:
            for other in imports_of(name):
                target = other.partition(".")[0]
                assert target in may or (room, target) in HANDED_UP, f"{name} imports {other}, {room} may import {sorted(may)}"


def test_rooms_have_an_order() -> None:
    """No room may import one that may import it, on any way."""
    rest = {room: allowed(room) - {"_core"} for room in ROOMS - {"__main__", "_version"}}
    while rest:
        free = {room for room, may in rest.items() if not may}
        assert free, f"a circle among {sorted(rest)}"
        rest = {room: may - free for room, may in rest.items() if room not in free}
    assert not any(DIALECTS & allowed(room) - {room} for room in ROOMS - {"__main__", "_version"})


def test_no_file_imports_itself_by_others() -> None:
    """No circles: of files, as each is imported, whatever a function imports when it runs."""
    rest = {}
    for name, tree in TREES.items():
        executed = [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        checked = [node for node in executed if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))]
        rest[name] = imports_of(name, checked) - {"_core", ""} if checked else set()
    while rest:
        free = {name for name, others in rest.items() if not others & set(rest)}
        assert free, f"a circle among {sorted(rest)}"
        rest = {name: others for name, others in rest.items() if name not in free}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_frameworks_are_imported_by_their_dialects_alone(name: str) -> None:
    room = name.partition(".")[0]
    assert frameworks_of(name) <= ({room, "flax", "equinox"} if room in DIALECTS else set())


def test_few_files_lie_at_the_top() -> None:
    kept = [path for path in PACKAGE.iterdir() if path.is_file() and path.suffix not in (".so", ".pyd", ".c")]
    assert len(kept) <= 12, sorted(path.name for path in kept)


needs_sources = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="the C sources are not beside the tests")


def includes_of(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split('"')[1] for line in lines if line.lstrip().startswith("#include \"")}


@needs_sources
def test_c_rooms() -> None:
    csrc = ROOT / "csrc"
    files = [path for path in csrc.rglob("*") if path.suffix in (".c", ".h", ".def")]
    assert [path.name for path in csrc.iterdir() if path.is_file()] == ["fastinit.h"]
    for path in files:
        assert "Python.h" not in path.read_text(encoding="utf-8")
        for name in includes_of(path):
            assert (csrc / name).is_file(), f"{path.name} includes {name}: expected a path from csrc/"
        if path.name.endswith("_template.h"):
            # Templates are included by the instruction sets, and include nothing but lists.
            assert all(name.endswith(".def") for name in includes_of(path)), path.name
    assert includes_of(csrc / "core/dispatch.c") == {"core/internal.h"}
    binding = [ROOT / "src/fastinit/_core.pyx", *(ROOT / "src/fastinit/_binding").iterdir()]
    words = {word for path in binding for word in path.read_text(encoding="utf-8").split('"')}
    assert {word for word in words if word.endswith(".h")} == {"fastinit.h", "core/fpenv.h"}


@needs_sources
def test_files_have_one_idea_each() -> None:
    package = ("csrc/**/*.[ch]", "src/fastinit/**/*.py", "src/fastinit/**/*.p[yx][xi]")
    for pattern in (*package, "tests/**/*.py", "tests/c/*.c", "bench/*.py"):
        paths = list(ROOT.glob(pattern))
        assert paths, pattern
        for path in paths:
            if path.name in ("normal_tables.h", "_core.c"):
                continue
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 600, f"{path.name}: {lines} lines"
