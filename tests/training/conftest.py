"""A small Minari dataset of a damped point mass, made on the spot."""

from __future__ import annotations

import warnings
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest

DATASET = "test/point/mass-v0"
PERIOD_S = 0.05


def point_mass_episode(rng: np.random.Generator, length: int, terminated: bool) -> object:
    states = np.zeros((length + 1, 4), np.float32)
    states[0] = rng.normal(size=4)
    actions = rng.uniform(-1, 1, size=(length, 2)).astype(np.float32)
    for t in range(length):
        position, velocity = states[t, :2], states[t, 2:]
        states[t + 1, 2:] = 0.9 * velocity + 0.2 * actions[t]
        states[t + 1, :2] = position + 0.1 * states[t + 1, 2:]
    rewards = -np.square(states[1:, :2]).sum(axis=1)
    ends = np.zeros(length, bool)
    ends[-1] = True
    return minari.data_collector.EpisodeBuffer(
        observations=states,
        actions=actions,
        rewards=rewards,
        terminations=ends if terminated else np.zeros(length, bool),
        truncations=np.zeros(length, bool) if terminated else ends,
    )


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(7)
    with warnings.catch_warnings():
        # Minari asks for authors and environments, which a test's data do not have.
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            DATASET,
            buffer=[
                point_mass_episode(rng, int(rng.integers(3, 40)), i % 3 == 0) for i in range(30)
            ],
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32),
            action_space=gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32),
        )
    return DATASET
