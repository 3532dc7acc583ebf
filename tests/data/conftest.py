"""Tiny Minari datasets, made on the spot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from tiny_data import episode

MakeDataset = Callable[..., str]


@pytest.fixture
def make_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeDataset:
    """make(buffers, observation_space, action_space, id=, **options) -> dataset id."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(
        buffers: list[Any],
        observation_space: Any,
        action_space: Any,
        id: str = "test/robot/play-v0",
        **options: Any,
    ) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Minari wants to be told more
            minari.create_dataset_from_buffers(
                id,
                buffers,
                observation_space=observation_space,
                action_space=action_space,
                algorithm_name="test",
                author="test",
                author_email="test@example.org",
                code_permalink="https://example.org",
                **options,
            )
        return id

    return make


@pytest.fixture
def random_episodes() -> Callable[..., list[Any]]:
    """Episodes of the given lengths; each third one ends by termination."""

    def make(lengths: list[int], size: int = 3, actions: int = 2, seed: int = 0) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [
            episode(
                rng.normal(size=(n + 1, size)).astype(np.float32),
                rng.normal(size=(n, actions)).astype(np.float32),
                terminated=i % 3 == 0,
            )
            for i, n in enumerate(lengths)
        ]

    return make
