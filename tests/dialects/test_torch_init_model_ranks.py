"""fastinit.torch.init_ of models that several processes hold in parts: one hash for each model, whatever the processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked"),
]


@pytest.mark.parametrize("sizes", ["1 2 4", "1 3 6 8"])
def test_any_number_of_processes_holds_the_model_of_one(sizes):
    script = Path(__file__).with_name("torch_on_ranks.py")
    run = subprocess.run(
        [sys.executable, str(script), *sizes.split()], capture_output=True, text=True, timeout=900, check=False
    )
    assert run.returncode == 0, run.stderr[-4000:]
    hashes = {}
    for line in run.stdout.splitlines():
        case, found = line.split(" = ")
        hashes.setdefault(case.split()[1], {})[case] = found
    assert set(hashes) == {"torch.float32", "torch.bfloat16"}
    for cases in hashes.values():
        assert len(cases) > 6 * len(sizes.split("6")[0].split())
        assert len(set(cases.values())) == 1, cases
