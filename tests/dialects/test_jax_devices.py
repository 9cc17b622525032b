"""fastinit.jax on eight devices: runs jax_on_devices.py in a process with eight devices."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import jax_cases  # noqa: F401 (skips without JAX)

CASES = pathlib.Path(__file__).parent / "jax_on_devices.py"


def test_eight_devices():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(CASES)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
