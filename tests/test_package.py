"""The package as a whole: what an import costs, which way the arrows point, and that the documents are true."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import fastinit

PACKAGE = Path(fastinit.__file__).parent
ROOT = Path(__file__).parents[1]


def test_import_pulls_in_numpy_alone() -> None:
    code = (
        "import sys, json, numpy; before = set(sys.modules); import fastinit;"
        "print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new = {m for m in json.loads(done.stdout) if m not in sys.stdlib_module_names}
    # Cython's own shared module has a name of its version's.
    assert {m for m in new if not m.startswith(("_cython", "cython_runtime"))} <= {"fastinit", "numpy"}


def test_version_is_one() -> None:
    assert metadata.version("fastinit") == fastinit.__version__


def test_everything_exported_exists_and_has_a_docstring() -> None:
    assert len(set(fastinit.__all__)) == len(fastinit.__all__)
    for name in fastinit.__all__:
        value = getattr(fastinit, name)
        if callable(value):
            assert value.__doc__, name


# Layers from the bottom up: a module imports from layers below its own, or from its own layer's package.
LAYERS = (
    {"pieces"},
    {"_core", "_version", "arithmetic", "checks", "frameworks"},
    {"keys", "threads", "dtypes", "activations", "elementary", "fans", "blocks", "reports", "theory", "losses", "optimizers"},
    {"sampling", "config"},
    {"haar"},
    {"initializers", "gains"},
    {"filling"},
    {"stack", "stack_arguments", "residual", "virtual"},
    {"recorder"},
    {"training"},
    {"study"},
    {"outputs", "terminal"},
    {"cli"},
    {"__main__"},
)
DIALECTS = {"torch", "keras", "jax"}
# The one way up: who calls an initializer with a tensor of PyTorch has imported torch, and its dialect fills the tensor.
HANDED_UP = {"initializers/base.py": {"torch"}}
FRAMEWORKS = {"torch", "keras", "jax", "flax", "equinox", "tensorflow", "matplotlib", "rich", "sklearn"}


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """Top modules of the package that a file imports anywhere, and foreign ones imported at its top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    depth = len(path.relative_to(PACKAGE).parts)
    own, foreign = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level == depth:
                base = (node.module or "").partition(".")[0]
                own |= {base} if base else {alias.name for alias in node.names}
        elif node in tree.body and isinstance(node, ast.Import):
            foreign |= {alias.name.partition(".")[0] for alias in node.names}
        elif node in tree.body and isinstance(node, ast.ImportFrom):
            foreign.add((node.module or "").partition(".")[0])
    return own, foreign


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    own, foreign = imports_of(path)
    if top in DIALECTS:
        assert not own & (DIALECTS - {top})
        assert not foreign & (FRAMEWORKS - {top, "flax", "equinox"})
        return
    rank = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    assert top in rank, f"{top}: give it a layer"
    for name in own - {top, "__version__"} - HANDED_UP.get(path.relative_to(PACKAGE).as_posix(), set()):
        assert name in rank, f"{top} imports {name}: give it a layer"
        assert rank[name] <= rank[top], f"{top} imports {name} from above"
    assert not foreign & FRAMEWORKS, "frameworks and extras are imported inside functions"


needs_sources = pytest.mark.skipif(
    not (ROOT / "csrc").is_dir(), reason="the C sources are not beside the tests"
)


def includes_of(path: Path) -> set[str]:
    return {
        line.split('"')[1]
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("#include \"")
    }


@needs_sources
def test_c_layers() -> None:
    csrc = ROOT / "csrc"
    for path in csrc.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "Python.h" not in text
        if path.name.endswith("_template.h"):
            # Templates are included by the instruction sets, and include nothing but the lists.
            assert all(name.endswith(".def") for name in includes_of(path)), path.name
    assert includes_of(csrc / "dispatch.c") == {"internal.h"}
    pyx = (ROOT / "src/fastinit/_core.pyx").read_text(encoding="utf-8")
    headers = {word for word in pyx.split('"') if word.endswith(".h")}
    assert headers == {"fastinit.h"}


@needs_sources
def test_files_have_one_idea_each() -> None:
    package = ("csrc/*.[ch]", "src/fastinit/**/*.py", "src/fastinit/*.p[yx][xi]")
    for pattern in (*package, "tests/**/*.py", "tests/c/*.c", "bench/*.py"):
        paths = list(ROOT.glob(pattern))
        assert paths, pattern
        for path in paths:
            if path.name in ("tables.h", "_core.c"):
                continue
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 600, f"{path.name}: {lines} lines"


@pytest.mark.parametrize("name", ["Batches", "CrossEntropy", "Descent", "Held", "SquaredError", "StackParameters", "StackRun"])
def test_nothing_of_the_binding_exists_unfinished(name) -> None:
    """Without its arguments an object would hold no memory to work in."""
    kind = getattr(fastinit._core, name)
    with pytest.raises(TypeError):
        kind.__new__(kind)
    with pytest.raises(TypeError, match="parameters"):
        fastinit._core.StackRun(None, 1, None, None, None, None, None, 1, False, fastinit._core.FORWARD, [])
