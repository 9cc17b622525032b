"""The layers: subpackages import only what their docstrings allow, no imports are circular, and the C folders have an order."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from places import PACKAGE, ROOT

DIALECTS = {"torch", "keras", "jax"}
# The exceptions, inside functions: an initializer that is called with a PyTorch tensor has fastinit.torch fill it, and a plan
# has it read the parameters of a PyTorch model.
EXCEPTIONS = {("initializers", "torch"), ("plans", "torch")}
FRAMEWORKS = DIALECTS | {"flax", "equinox", "tensorflow", "matplotlib", "rich", "sklearn"}
ALLOWED = re.compile(r"May import: ([^.]+)\.")
FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """``initializers.base``; a subpackage has the name of its folder, the package itself an empty one."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
SUBPACKAGES = {name.partition(".")[0] for name in MODULES} - {""}


def imports_of(name: str, nodes: list[ast.stmt] | None = None) -> set[str]:
    """Modules of the package that a module imports, anywhere or in the statements `nodes`."""
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
    """Frameworks that are imported at the top level of the module."""
    found = set()
    for node in TREES[name].body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found & FRAMEWORKS


def allowed(subpackage: str) -> set[str]:
    """What the docstring of a subpackage allows it to import."""
    found = ALLOWED.search(ast.get_docstring(TREES[subpackage]) or "")
    assert found, f"{subpackage}: expected a line 'May import: ...' in the docstring of its __init__, or of the file"
    return set() if found[1] == "nothing" else set(re.split(r",\s+", found[1]))


@pytest.mark.parametrize("subpackage", sorted(SUBPACKAGES - {"__main__", "_version"}))
def test_a_subpackage_imports_only_what_its_docstring_allows(subpackage: str) -> None:
    may = allowed(subpackage) | {subpackage, "_version"}
    assert may <= SUBPACKAGES | {"_core"}
    for name in MODULES:
        if name.partition(".")[0] == subpackage:
            for other in imports_of(name):
                target = other.partition(".")[0]
                permitted = target in may or (subpackage, target) in EXCEPTIONS
                assert permitted, f"{name} imports {other}, {subpackage} may import {sorted(may)}"


def test_subpackages_have_an_order() -> None:
    """No subpackage may import one that may import it, directly or through others."""
    rest = {subpackage: allowed(subpackage) - {"_core"} for subpackage in SUBPACKAGES - {"__main__", "_version"}}
    while rest:
        free = {subpackage for subpackage, may in rest.items() if not may}
        assert free, f"circular imports among {sorted(rest)}"
        rest = {subpackage: may - free for subpackage, may in rest.items() if subpackage not in free}
    assert not any(DIALECTS & allowed(subpackage) - {subpackage} for subpackage in SUBPACKAGES - {"__main__", "_version"})


def test_no_imports_of_files_are_circular() -> None:
    """Only imports that run when the file is imported count, not those inside functions."""
    rest = {}
    for name, tree in TREES.items():
        executed = [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        checked = [node for node in executed if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))]
        rest[name] = imports_of(name, checked) - {"_core", ""} if checked else set()
    while rest:
        free = {name for name, others in rest.items() if not others & set(rest)}
        assert free, f"circular imports among {sorted(rest)}"
        rest = {name: others for name, others in rest.items() if name not in free}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_only_dialects_import_frameworks(name: str) -> None:
    subpackage = name.partition(".")[0]
    assert frameworks_of(name) <= ({subpackage, "flax", "equinox"} if subpackage in DIALECTS else set())


def test_few_files_at_the_top_level() -> None:
    kept = [path for path in PACKAGE.iterdir() if path.is_file() and path.suffix not in (".so", ".pyd", ".c")]
    assert len(kept) <= 12, sorted(path.name for path in kept)


needs_sources = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="the C sources are not beside the tests")


def includes_of(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split('"')[1] for line in lines if line.lstrip().startswith("#include \"")}


@needs_sources
def test_includes_of_the_c_sources() -> None:
    csrc = ROOT / "csrc"
    files = [path for path in csrc.rglob("*") if path.suffix in (".c", ".h", ".def")]
    assert [path.name for path in csrc.iterdir() if path.is_file()] == ["fastinit.h"]
    for path in files:
        assert "Python.h" not in path.read_text(encoding="utf-8")
        for name in includes_of(path):
            assert (csrc / name).is_file(), f"{path.name} includes {name}: expected a path from csrc/"
        if path.name.endswith("_template.h"):
            # Templates are included once per instruction set, and include only lists.
            assert all(name.endswith(".def") for name in includes_of(path)), path.name
    assert includes_of(csrc / "core/dispatch.c") == {"core/internal.h"}
    binding = [ROOT / "src/fastinit/_core.pyx", *(ROOT / "src/fastinit/_binding").iterdir()]
    words = {word for path in binding for word in path.read_text(encoding="utf-8").split('"')}
    assert {word for word in words if word.endswith(".h")} == {"fastinit.h", "core/fpenv.h"}


@needs_sources
def test_files_have_at_most_600_lines() -> None:
    package = ("csrc/**/*.[ch]", "src/fastinit/**/*.py", "src/fastinit/**/*.p[yx][xi]")
    for pattern in (*package, "tests/**/*.py", "tests/c/*.c", "bench/*.py"):
        paths = list(ROOT.glob(pattern))
        assert paths, pattern
        for path in paths:
            if path.name in ("normal_tables.h", "_core.c"):
                continue
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 600, f"{path.name}: {lines} lines"
