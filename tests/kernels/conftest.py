"""Tests of kernels run in Triton's interpreter (`make kernel-test`), or on a GPU where there is one."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
# Models, requests and bounds are those that every backend is tested with.
sys.path.append(str(HERE.parent / "conformance"))
#: Importing a kernel decides whether it is compiled or interpreted, so nothing here imports one.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if INTERPRETED or torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no GPU; TRITON_INTERPRET=1 runs kernels without one")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(skip)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if INTERPRETED else "cuda")
