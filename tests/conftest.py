"""What every test starts from: no user data in reach, and property tests without a clock."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

#: Folder of an engine whose AVX-512 kernels run on AVX2, in place of the installed one: see
#: `make avx512-test`.
if folder := os.environ.get("DMPC_AVX512_EMULATED"):
    (path,) = Path(folder).glob("_engine*.so")
    spec = importlib.util.spec_from_file_location("dmpc_fast._engine", path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["dmpc_fast._engine"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["dmpc_fast._engine"])

# The tests that run on a GPU machine do without it.
if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import settings

    settings.register_profile("dmpc", deadline=None)
    settings.load_profile("dmpc")


@pytest.fixture(autouse=True)
def no_user_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets and caches live in the test's own folder: nothing is read from or left in the home."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
