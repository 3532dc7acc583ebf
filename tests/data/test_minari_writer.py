"""A dataset appears whole or not at all, and reads back as it was written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces

from dmpc_fast.data.minari import CONTROL_PERIOD_KEY, DatasetError, load_episodes
from dmpc_fast.data.minari_writer import DatasetWriter
from dmpc_fast.data.spaces import stack_observations

ID = "my/robot/play-v0"


class _Robot(gymnasium.Env):
    observation_space: Any = spaces.Dict(
        {
            "place": spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
            "goal": spaces.Dict({"speed": spaces.Box(-1, 1, (1,), np.float32)}),
        }
    )
    action_space = spaces.Box(-2, 2, (3,), np.float64)


def write(
    episodes: int = 3, dataset_id: str = ID, environment: Any = None, **options: Any
) -> list[dict[str, Any]]:
    """Random episodes of 4, 5, ... steps; gives what was handed over."""
    rng = np.random.default_rng(1)
    options.setdefault("metadata", {CONTROL_PERIOD_KEY: 0.02, "robot_changes": ["none"]})
    added = []
    with DatasetWriter(dataset_id, environment or _Robot(), **options) as writer:
        for index in range(episodes):
            steps = 4 + index
            observations = [
                {"place": rng.normal(size=(2, 2)), "goal": {"speed": rng.normal(size=1)}}
                for _ in range(steps + 1)
            ]
            episode = {
                "observations": stack_observations(observations),
                "actions": rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
                "rewards": rng.normal(size=steps).astype(np.float32),
                "terminated": index % 2 == 0,
                "seed": 100 + index,
            }
            writer.add(**episode)
            added.append(episode)
        assert writer.episodes == episodes
    return added


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_dir())


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_what_is_written_reads_back(data_format: str) -> None:
    episodes = 20  # more than one write
    added = write(episodes, data_format=data_format)
    store = load_episodes(ID, progress=False)
    assert store.num_episodes == episodes
    assert store.environment.observation_keys == ("goal.speed", "place")
    assert store.environment.control_period_s == 0.02
    assert store.environment.action_low == (-2.0,) * 3
    for index, episode in enumerate(added):
        read = store.episode(index)
        np.testing.assert_array_equal(read.actions, episode["actions"])
        np.testing.assert_array_equal(read.rewards, episode["rewards"])
        place = episode["observations"]["place"].astype(np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(read.observations[:, 1:], place)
        assert read.terminated == episode["terminated"]
    dataset = minari.load_dataset(ID)
    assert list(minari.list_local_datasets()) == [ID]
    assert dataset.storage.metadata["robot_changes"] == ["none"]
    assert [m["seed"] for m in dataset.storage.get_episode_metadata([0, 1])] == [100, 101]
    assert dataset[0].truncations.any() != dataset[0].terminations.any()


def test_an_id_that_is_taken_is_kept_unless_overwritten() -> None:
    write(2)
    with pytest.raises(FileExistsError, match=f"'{ID}' exists already"):
        write(3)
    assert load_episodes(ID, progress=False).num_episodes == 2
    write(3, overwrite=True)
    assert load_episodes(ID, progress=False).num_episodes == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_dataset_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    root = tmp_path / "minari"

    def interrupted(**options: Any) -> None:
        with DatasetWriter(ID, _Robot(), metadata={}, **options):
            raise error

    with pytest.raises(error):
        interrupted()
    assert entries(root) == []
    write(2)
    before = entries(root)
    with pytest.raises(error):
        interrupted(overwrite=True)
    assert entries(root) == before
    assert load_episodes(ID, progress=False).num_episodes == 2


def test_a_dataset_without_episodes_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="would have no episodes"):
        write(0)
    assert entries(tmp_path / "minari") == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from test_minari_writer import DatasetWriter, ID, _Robot\n"
        "DatasetWriter(ID, _Robot(), metadata={})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, os.getcwd(), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False
    )
    folder = tmp_path / "minari" / "my" / "robot"
    (leftover,) = folder.iterdir()
    assert leftover.name.startswith(".play-v0.partial-")
    write(2)
    assert not list(folder.glob(".*partial*"))


@pytest.mark.parametrize("dataset_id", ["no version", "my/robot/play", "../play-v0", "/play-v0"])
def test_a_malformed_id_is_refused(tmp_path: Path, dataset_id: str) -> None:
    with pytest.raises(DatasetError, match="malformed dataset id"):
        write(1, dataset_id)
    assert not (tmp_path / "minari").exists() or entries(tmp_path / "minari") == []


def test_discrete_actions_are_refused(tmp_path: Path) -> None:
    environment = _Robot()
    environment.action_space = spaces.Discrete(3)
    with pytest.raises(DatasetError, match="actions must be continuous"):
        write(1, environment=environment)
    assert not (tmp_path / "minari").exists() or entries(tmp_path / "minari") == []
