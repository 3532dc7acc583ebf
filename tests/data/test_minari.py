"""Minari datasets become episodes; what cannot be used is refused by name."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces
from tiny_data import box, episode

from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.data.minari import DatasetError, load_episodes

PERIOD_S = 0.05
ARRAYS = ("observations", "actions", "rewards", "terminations", "offsets")


def load(ids: str | list[str], **options: Any) -> EpisodeStore:
    return load_episodes(ids, control_period_s=PERIOD_S, progress=False, **options)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_episodes_are_laid_end_to_end(
    make_dataset: Any, random_episodes: Any, data_format: str
) -> None:
    buffers = random_episodes([5, 1, 40, 2], size=3, actions=2)
    name = make_dataset(buffers, box(3), box(2, low=-2, high=3), data_format=data_format)
    store = load(name)
    assert store.offsets.tolist() == [0, 5, 6, 46, 48]
    assert store.terminations.tolist() == [True, False, False, True]
    assert store.dataset_ids == (name,)
    assert store.environment.action_low == (-2.0, -2.0)
    assert store.environment.action_high == (3.0, 3.0)
    assert store.environment.control_period_s == PERIOD_S
    assert store.environment.id is None and store.environment.observation_keys is None
    for index, buffer in enumerate(buffers):
        loaded = store.episode(index)
        np.testing.assert_array_equal(loaded.observations, buffer.observations)
        np.testing.assert_array_equal(loaded.actions, buffer.actions)
        np.testing.assert_array_equal(loaded.rewards, np.float32(buffer.rewards))
    expected = [np.float32(buffer.rewards).sum() for buffer in buffers]
    np.testing.assert_allclose(store.episode_returns(), expected, rtol=1e-6)
    with pytest.raises(IndexError, match="from 0 to 3, got 4"):
        store.episode(4)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_streamed_episodes_equal_those_in_memory(
    make_dataset: Any, random_episodes: Any, tmp_path: Path, data_format: str
) -> None:
    lengths = [3, 7, 1] * 25  # more than one read of the storage
    name = make_dataset(random_episodes(lengths), box(3), box(2), data_format=data_format)
    memory, cache = load(name), tmp_path / "maps"
    streamed = load(name, memory_limit_bytes=0, cache_dir=cache)
    again = load(name, memory_limit_bytes=0, cache_dir=cache)
    for field in ARRAYS:
        expected = getattr(memory, field)
        for other in (streamed, again):
            found = getattr(other, field)
            assert isinstance(found, np.memmap) and found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_the_cache_is_in_the_users_cache_folder_and_follows_the_data(
    make_dataset: Any, random_episodes: Any, tmp_path: Path
) -> None:
    first = make_dataset(random_episodes([3]), box(3), box(2), id="test/first-v0")
    second = make_dataset(random_episodes([4]), box(3), box(2), id="test/second-v0")
    folder = tmp_path / "cache" / "dmpc-fast" / "datasets"
    for ids, count in ((first, 1), (second, 2), ([first, second], 3), ([first, second], 3)):
        store = load(ids, memory_limit_bytes=0)
        assert len([path for path in folder.iterdir() if path.is_dir()]) == count
    assert store.num_steps == 7
    data = tmp_path / "minari" / first / "data" / "main_data.hdf5"
    data.touch()
    load(first, memory_limit_bytes=0)
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 4


def test_an_interrupted_copy_is_not_used(
    make_dataset: Any, random_episodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make_dataset(random_episodes([3, 4]), box(3), box(2))
    cache = tmp_path / "maps"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="cannot write the cached dataset .*No space left"):
            load(name, memory_limit_bytes=0, cache_dir=cache)
    assert not [path for path in cache.iterdir() if path.is_dir()]
    # What a killed process leaves behind is in the way of nobody.
    (key,) = (path.stem for path in cache.iterdir())
    (cache / f"{key}.partial").mkdir()
    (cache / f"{key}.partial" / "actions.npy").write_bytes(b"half")
    assert load(name, memory_limit_bytes=0, cache_dir=cache).num_steps == 7


def _stream(name: str, cache: Path) -> int:
    return load(name, memory_limit_bytes=0, cache_dir=cache).num_steps


def test_processes_share_one_copy(
    make_dataset: Any, random_episodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    name = make_dataset(random_episodes([30] * 20), box(3), box(2))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        counts = pool.starmap(_stream, [(name, tmp_path / "maps")] * 4)
    assert counts == [600] * 4


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_dictionary_observations_are_flattened_by_sorted_dotted_keys(
    make_dataset: Any, data_format: str
) -> None:
    rng = np.random.default_rng(3)
    space = spaces.Dict(
        {
            "z": box(2),
            "goal": spaces.Dict({"speed": box(1), "place": box(2, 2)}),
            "a": box(3, dtype=np.float64),
        }
    )
    steps = 6
    goal = {"speed": rng.normal(size=(7, 1)), "place": rng.normal(size=(7, 2, 2))}
    goal = {key: value.astype(np.float32) for key, value in goal.items()}
    observations = {
        "z": rng.normal(size=(7, 2)).astype(np.float32),
        "goal": goal,
        "a": rng.normal(size=(7, 3)),
    }
    actions = rng.normal(size=(steps, 2)).astype(np.float32)
    name = make_dataset([episode(observations, actions)], space, box(2), data_format=data_format)
    store = load(name)
    assert store.environment.observation_keys == ("a", "goal.place", "goal.speed", "z")
    expected = [
        observations["a"].astype(np.float32),
        goal["place"].reshape(7, 4),
        goal["speed"],
        observations["z"],
    ]
    np.testing.assert_array_equal(store.observations, np.concatenate(expected, axis=1))


def test_boxes_of_any_rank_are_flattened(make_dataset: Any) -> None:
    rng = np.random.default_rng(4)
    observations = rng.normal(size=(5, 2, 3)).astype(np.float32)
    actions = rng.normal(size=(4, 2, 2)).astype(np.float32)
    store = load(make_dataset([episode(observations, actions)], box(2, 3), box(2, 2)))
    np.testing.assert_array_equal(store.observations, observations.reshape(5, 6))
    np.testing.assert_array_equal(store.actions, actions.reshape(4, 4))


def test_absent_action_bounds_are_none(make_dataset: Any, random_episodes: Any) -> None:
    low = np.array([-np.inf, -1.5], np.float32)
    high = np.array([0.5, np.inf], np.float32)
    name = make_dataset(random_episodes([2]), box(3), spaces.Box(low, high))
    environment = load(name).environment
    assert environment.action_low == (None, -1.5)
    assert environment.action_high == (0.5, None)


def test_an_episode_without_flags_ends_with_the_data(make_dataset: Any) -> None:
    rng = np.random.default_rng(5)
    buffer = episode(
        rng.normal(size=(4, 3)).astype(np.float32),
        rng.normal(size=(3, 2)).astype(np.float32),
        truncations=np.zeros(3, bool),
    )
    assert load(make_dataset([buffer], box(3), box(2))).terminations.tolist() == [False]


def test_a_mixture_joins_datasets_in_order(make_dataset: Any, random_episodes: Any) -> None:
    first = make_dataset(random_episodes([3, 2]), box(3), box(2), id="test/first-v0")
    second = make_dataset(
        random_episodes([4], seed=1), box(3), box(2), id="test/second-v0", data_format="arrow"
    )
    for name in (first, second):
        scores = {"ref_min_score": -1.0, "ref_max_score": 9.0}
        minari.load_dataset(name).storage.update_metadata(scores)
    third = make_dataset(random_episodes([1]), box(3), box(2), id="test/third-v0")
    store = load([first, second])
    assert store.offsets.tolist() == [0, 3, 5, 9]
    assert store.score_range == (-1.0, 9.0)
    np.testing.assert_array_equal(store.episode(2).actions, load(second).actions)
    assert load([first, third]).score_range is None


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (box(4), box(2), "observations of size 3, 'test/other-v0' of 4"),
        (box(3), box(2, low=-1, high=1), r"action_low is \(None, None\).* and \(-1.0, -1.0\)"),
        (box(3), box(1), "action_low is"),
    ],
)
def test_a_mixture_of_robots_is_refused(
    make_dataset: Any,
    random_episodes: Any,
    observation_space: Any,
    action_space: Any,
    message: str,
) -> None:
    first = make_dataset(random_episodes([3]), box(3), box(2))
    sizes = {"size": observation_space.shape[0], "actions": action_space.shape[0]}
    other = make_dataset(
        random_episodes([3], **sizes), observation_space, action_space, id="test/other-v0"
    )
    with pytest.raises(DatasetError, match=message):
        load([first, other])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (8, 8), np.uint8),
        spaces.Box(0, 255, (8, 8, 3), np.uint8),
        spaces.Box(0, 1, (4, 4, 3), np.float32),
        spaces.Dict({"camera": spaces.Box(0, 255, (64, 64, 3), np.uint8), "q": box(2)}),
    ],
)
def test_images_are_refused(make_dataset: Any, space: Any) -> None:
    steps, rng = 2, np.random.default_rng(0)
    space.seed(0)
    samples = [space.sample() for _ in range(steps + 1)]
    if isinstance(space, spaces.Dict):
        observations: Any = {key: np.stack([s[key] for s in samples]) for key in space.spaces}
    else:
        observations = np.stack(samples)
    actions = rng.normal(size=(steps, 2)).astype(np.float32)
    name = make_dataset([episode(observations, actions)], space, box(2))
    with pytest.raises(DatasetError, match=r"is an image of shape .*images are not supported"):
        load(name)


def test_discrete_spaces_are_refused(make_dataset: Any) -> None:
    observations = np.zeros((3, 3), np.float32)
    name = make_dataset(
        [episode(observations, np.array([0, 1]))], box(3), spaces.Discrete(2), id="test/left-v0"
    )
    with pytest.raises(DatasetError, match="'test/left-v0': actions must be continuous"):
        load(name)
    actions = np.zeros((2, 2), np.float32)
    buffers = [episode(np.array([0, 1, 2]), actions)]
    name = make_dataset(buffers, spaces.Discrete(3), box(2), id="test/right-v0")
    with pytest.raises(DatasetError, match="'test/right-v0': observation space must be a Box"):
        load(name)


@pytest.mark.parametrize("field", ["observations", "actions", "rewards"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite_are_refused(
    make_dataset: Any, random_episodes: Any, field: str, value: float
) -> None:
    buffers = random_episodes([4, 6])
    getattr(buffers[1], field)[(3, 1) if field != "rewards" else 3] = value
    name = make_dataset(buffers, box(3), box(2), data_format="arrow")
    element = 0 if field == "rewards" else 1
    message = f"dataset '{name}', episode 1, step 3: {field}[{element}] is {value}"
    with pytest.raises(DatasetError, match=re.escape(message)):
        load(name)


def test_a_number_beyond_float32_is_refused(make_dataset: Any) -> None:
    observations = np.zeros((3, 2))
    observations[1, 0] = 1e300
    buffers = [episode(observations, np.zeros((2, 1), np.float32))]
    name = make_dataset(buffers, box(2, dtype=np.float64), box(1))
    with pytest.raises(DatasetError, match=r"step 1: observations\[0\] is inf"):
        load(name)


def test_a_flag_before_the_last_step_is_refused(make_dataset: Any) -> None:
    flags = np.array([False, True, False])
    buffer = episode(np.zeros((4, 3), np.float32), np.zeros((3, 2), np.float32), terminations=flags)
    with pytest.raises(DatasetError, match=r"episode 0, step 1: flagged .* but 3 steps are stored"):
        load(make_dataset([buffer], box(3), box(2)))


def test_missing_observations_are_refused(make_dataset: Any) -> None:
    buffer = episode(np.zeros((3, 3), np.float32), np.zeros((3, 2), np.float32))
    name = make_dataset([buffer], box(3), box(2))
    with pytest.raises(DatasetError, match="episode 0: expected 4 observations and 3 actions"):
        load(name)


def test_metadata_that_disagree_are_refused(
    make_dataset: Any, random_episodes: Any, tmp_path: Path
) -> None:
    name = make_dataset(random_episodes([3, 4]), box(3), box(2))
    metadata = tmp_path / "minari" / name / "data" / "metadata.json"
    text = metadata.read_text()
    for steps in (6, 8):
        metadata.write_text(text.replace('"total_steps": 7', f'"total_steps": {steps}'))
        for limit in (0, 1 << 20):
            with pytest.raises(DatasetError, match=f"expected 2 episodes with {steps} steps"):
                load(name, memory_limit_bytes=limit)


def test_an_unknown_dataset_is_named_with_its_nearest(
    make_dataset: Any, random_episodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(random_episodes([3]), box(3), box(2), id="test/robot/play-v0")

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", offline)
    with pytest.raises(DatasetError) as caught:
        load("test/robot/plays-v0")
    message = str(caught.value)
    assert "unknown dataset 'test/robot/plays-v0'" in message
    assert f"MINARI_DATASETS_PATH is '{tmp_path / 'minari'}'" in message
    assert "nearest ids are ['test/robot/play-v0']" in message
    assert "ConnectionError: no network" in message
    with pytest.raises(DatasetError, match="unknown dataset 'not an id'"):
        load("not an id")
    with pytest.raises(DatasetError, match="no dataset id was given"):
        load([])


def test_a_damaged_dataset_is_named(
    make_dataset: Any, random_episodes: Any, tmp_path: Path
) -> None:
    name = make_dataset(random_episodes([3]), box(3), box(2))
    (tmp_path / "minari" / name / "data" / "metadata.json").write_text("{")
    with pytest.raises(DatasetError, match=f"dataset '{name}' in .* is unreadable"):
        load(name)


class _Robot(gymnasium.Env):
    observation_space = box(3)
    action_space = box(2)
    dt = 0.025


class _TimelessRobot(_Robot):
    dt = None


def test_the_control_period_comes_from_the_environment(
    make_dataset: Any, random_episodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gymnasium.envs.registration.registry", dict(gymnasium.registry))
    gymnasium.register("TestRobot-v0", "test_minari:_Robot", disable_env_checker=True)
    gymnasium.register("TestTimeless-v0", "test_minari:_TimelessRobot", disable_env_checker=True)
    spaces_ = (box(3), box(2))
    buffers = random_episodes([3])
    known = make_dataset(buffers, *spaces_, id="test/known-v0", env="TestRobot-v0")
    timeless = make_dataset(buffers, *spaces_, id="test/timeless-v0", env="TestTimeless-v0")
    lost = make_dataset(buffers, *spaces_, id="test/lost-v0")
    store = load_episodes(known, progress=False)
    assert store.environment.control_period_s == 0.025
    assert store.environment.id == "TestRobot-v0"
    for name, reason in ((timeless, "TestTimeless-v0 has no positive `dt`"), (lost, "recovered")):
        with pytest.raises(DatasetError, match=f"{reason}.*give control_period_s"):
            load_episodes(name, progress=False)
        assert load(name).environment.control_period_s == PERIOD_S
