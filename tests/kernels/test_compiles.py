"""Kernels compile for real GPUs: the interpreter checks neither types nor shared memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Bytes of shared memory that a program may have, by architecture.
SHARED = {80: 163 << 10, 90: 227 << 10}
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("architecture", "precision"), [(80, "bf16"), (90, "float32")])
@pytest.mark.parametrize(("what", "kernels"), [("plan", 7), ("training", 4)])
def test_compiles(
    what: str, kernels: int, architecture: int, precision: str, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("compile_ahead.py")
    environment = {
        name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"
    } | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), str(architecture), precision, "tiny", "64", what],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shared = json.loads(done.stdout)
    assert len(shared) == kernels
    assert max(shared.values()) <= SHARED[architecture], shared
