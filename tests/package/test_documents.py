"""Every block of Python in the README and in docs/ runs as printed, with the names that the text has introduced."""

import re
from pathlib import Path

import numpy as np
import pytest

import fastinit

ROOT = Path(__file__).parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = [
    pytest.param(path.name, code, id=f"{path.name}-{number}")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if path.exists()
    for number, code in enumerate(PYTHON.findall(path.read_text(encoding="utf-8")))
]


def scope_of(code):
    """The names that a block may use: data, a model, and imports of earlier blocks; skips if a framework is missing."""
    scope = {}
    if "import fastinit" not in code:
        scope |= {"fastinit": fastinit, "Key": fastinit.Key, "Stack": fastinit.Stack, "key": fastinit.Key(2026)}
    if "bfloat16" in code:
        pytest.importorskip("ml_dtypes")
    if "x_held_out" in code:
        random = np.random.default_rng(0)
        x, y = random.standard_normal((100, 64), dtype=np.float32), random.integers(10, size=100)
        scope |= {"x": x[:80], "y": y[:80], "x_held_out": x[80:], "y_held_out": y[80:]}
    if "layer.weight" in code or "import torch" in code:
        torch = pytest.importorskip("torch")
        scope |= {"layer": torch.nn.Linear(5, 3), "Model": lambda: torch.nn.Linear(5, 3)}
    if re.search(r"fastinit(\.| import )keras", code):
        from keras_backend import keras

        scope |= {"keras": keras, "Dense": keras.layers.Dense}
    if "jax" in code:
        scope |= {"jax": pytest.importorskip("jax")}
    if "nn.Dense" in code:
        scope |= {"nn": pytest.importorskip("flax.linen")}
    return scope


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="the documents are not installed with the tests")
def test_there_are_blocks():
    assert {"README.md", "dialects.md", "initializers.md"} <= {block.values[0] for block in BLOCKS}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the frameworks
@pytest.mark.parametrize(("name", "code"), BLOCKS)
def test_a_block_runs_as_printed(name, code, capsys):
    exec(compile(code, name, "exec"), scope_of(code))
