"""Paths: the root of the project, the imported package, and the golden files."""

from pathlib import Path

import fastinit

ROOT = Path(__file__).parents[2]
PACKAGE = Path(fastinit.__file__).parent
VECTORS = ROOT / "tests" / "vectors"
