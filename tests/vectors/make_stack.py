# SPDX-License-Identifier: BSD-3-Clause
"""Writes stack.txt: the hashes that every platform and instruction set must reach. Run it from tests/."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from test_stack_bits import golden_lines as stack_lines  # noqa: E402
from test_training import golden_lines as training_lines  # noqa: E402

for name, lines in (("stack", stack_lines), ("training", training_lines)):
    text = "# made by make_stack.py\n" + "".join(line + "\n" for line in lines())
    (HERE / f"{name}.txt").write_text(text, encoding="ascii")
