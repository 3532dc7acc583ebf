"""What every test starts from: no user data in reach, and property tests without a clock."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

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
