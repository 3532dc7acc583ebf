"""The emulation of the CUDA device, built by `make cuda-test` into $DMPC_CUDA_EMULATED."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def emulated() -> ModuleType:
    folder = os.environ.get("DMPC_CUDA_EMULATED")
    if folder is None:
        pytest.skip("the emulation is not built; `make cuda-test` builds it")
    (path,) = Path(folder).glob("_cuda_emulated*.so")
    spec = importlib.util.spec_from_file_location("_cuda_emulated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
