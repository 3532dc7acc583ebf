"""Windows against an oracle that walks through one episode with plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmpc_fast.data import windows as windows_module
from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.data.windows import Windows, split_episodes
from dmpc_fast.spec import EnvironmentSpec

ENVIRONMENT = EnvironmentSpec(None, None, (None, None), (None, None), 0.01)


def make_store(lengths: list[int], terminations: list[bool], seed: int = 0) -> EpisodeStore:
    rng = np.random.default_rng(seed)
    steps, episodes = sum(lengths), len(lengths)
    return EpisodeStore(
        observations=rng.normal(size=(steps + episodes, 3)).astype(np.float32),
        actions=rng.normal(size=(steps, 2)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        terminations=np.array(terminations),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        environment=ENVIRONMENT,
        dataset_ids=("test/none-v0",),
        score_range=None,
    )


def return_to_go(
    rewards: np.ndarray, terminated: bool, t: int, discount: float, penalty: float
) -> float:
    total = 0.0
    for j in range(t, len(rewards)):
        total += discount ** (j - t) * float(rewards[j])
    if terminated:
        total -= discount ** (len(rewards) - 1 - t) * penalty
    return total


def expected_window(windows: Windows, episode: int, t: int, tail: float) -> dict[str, Any]:
    observations, actions, rewards, terminated = windows.store.episode(episode)
    horizon, history, length = windows.horizon, windows.history, len(actions)
    state, action = np.zeros(3, np.float32), np.zeros(2, np.float32)
    past, future = range(t - history + 1, t), range(t, t + horizon)
    remaining = length - (t + horizon)
    if terminated:
        known = remaining >= 1
    elif windows.discount == 1:
        known = False
    else:
        known = remaining >= math.ceil(math.log(tail) / math.log(windows.discount))
    value = 0.0
    if known:
        value = return_to_go(
            rewards, terminated, t + horizon, windows.discount, windows.termination_penalty
        )
    return {
        "states": [observations[j] if j >= 0 else state for j in past] + [observations[t]],
        "past_actions": [actions[j] if j >= 0 else action for j in past],
        "mask": [float(j >= 0) for j in past],
        "actions": [actions[j] if j < length else action for j in future],
        "next_states": [observations[j + 1] if j < length else state for j in future],
        "rewards": [rewards[j] if j < length else 0.0 for j in future],
        "valid": [j < length for j in future],
        "continues": [0.0 if terminated and j == length - 1 else 1.0 for j in future],
        "value": value,
        "value_valid": known,
    }


episodes_strategy = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    episodes=episodes_strategy,
    horizon=st.integers(1, 9),
    history=st.integers(1, 5),
    discount=st.sampled_from([0.3, 0.8, 0.99, 1.0]),
    penalty=st.sampled_from([0.0, 7.5]),
    tail=st.sampled_from([0.05, 0.3, 0.9]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_windows_equal_the_oracle(
    episodes: list[tuple[int, bool]],
    horizon: int,
    history: int,
    discount: float,
    penalty: float,
    tail: float,
    seed: int,
    data: Any,
) -> None:
    lengths, terminations = zip(*episodes, strict=True)
    store = make_store(list(lengths), list(terminations), seed)
    indices = st.lists(st.integers(0, len(lengths) - 1), min_size=1, unique=True)
    chosen = data.draw(st.none() | indices)
    windows = Windows(
        store,
        horizon=horizon,
        history=history,
        discount=discount,
        termination_penalty=penalty,
        episodes=None if chosen is None else np.array(chosen),
        value_tail=tail,
    )
    places = [(e, t) for e in chosen or range(len(lengths)) for t in range(lengths[e])]
    assert len(windows) == len(places)
    order = np.random.default_rng(seed).permutation(len(places))
    batch = windows.batch(order)
    expected = [expected_window(windows, *places[i], tail) for i in order]
    shapes = {"past_actions": (history - 1, 2), "mask": (history - 1,)}
    for name, array in batch._asdict().items():
        assert array.flags.c_contiguous
        assert array.dtype == (bool if name in ("valid", "value_valid") else np.float32)
        wanted = np.array([window[name] for window in expected], array.dtype)
        wanted = wanted.reshape(len(order), *shapes.get(name, wanted.shape[1:]))
        if name == "value":
            np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(array, wanted, err_msg=name)
    returns = [
        return_to_go(store.episode(e).rewards, terminations[e], t, discount, penalty)
        for e, t in places
    ]
    np.testing.assert_allclose(windows.returns, returns, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(episodes=episodes_strategy, horizon=st.integers(1, 6), chunk=st.integers(1, 20))
def test_statistics_are_those_of_the_chosen_episodes(
    episodes: list[tuple[int, bool]], horizon: int, chunk: int
) -> None:
    lengths, terminations = zip(*episodes, strict=True)
    store = make_store(list(lengths), list(terminations), seed=chunk)
    chosen = np.arange(0, len(lengths), 2)
    windows = Windows(
        store, horizon=horizon, discount=0.7, termination_penalty=3.0, episodes=chosen
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_module, "CHUNK_STEPS", chunk)
        normalizer = windows.normalizer()
    parts = [store.episode(e) for e in chosen]
    batch = windows.batch(np.arange(len(windows)))
    values = batch.value[batch.value_valid, None]
    for affine, rows in (
        (normalizer.state, np.concatenate([part.observations for part in parts])),
        (normalizer.action, np.concatenate([part.actions for part in parts])),
        (normalizer.reward, np.concatenate([part.rewards for part in parts])[:, None]),
        (normalizer.value, values),
    ):
        std = rows.std(axis=0, dtype=np.float64) if len(rows) else 0.0
        mean = rows.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(rows.shape[1])
        constant = std <= 1e-6 * np.maximum(1, np.abs(mean))
        np.testing.assert_allclose(affine.mean, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(affine.scale, np.where(constant, 1, std), rtol=1e-5)
        assert affine.mean.shape == affine.scale.shape == (rows.shape[1],)


def test_no_value_at_all_gives_the_identity() -> None:
    windows = Windows(
        make_store([5, 4], [False, False]), horizon=3, discount=0.99, termination_penalty=1.0
    )
    value = windows.normalizer().value
    assert value.mean.tolist() == [0.0] and value.scale.tolist() == [1.0]


def test_statistics_do_not_cancel() -> None:
    store = make_store([400, 300], [False, True])
    store.observations[:] = store.observations * 0.5 + 1e4
    windows = Windows(store, horizon=2, discount=0.9, termination_penalty=0.0)
    expected = store.observations.std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(windows.normalizer().state.scale, expected, rtol=1e-5)


def test_a_long_return_is_exact_to_rounding() -> None:
    store = make_store([5000], [True])
    windows = Windows(store, horizon=32, discount=0.997, termination_penalty=100.0)
    rewards = store.rewards.astype(np.float64)
    total, expected = -100.0 / 0.997, np.empty(5000)
    for t in range(4999, -1, -1):
        total = rewards[t] + 0.997 * total if t < 4999 else rewards[t] - 100.0
        expected[t] = total
    np.testing.assert_allclose(windows.returns, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 0}, "horizon and history must be at least 1"),
        ({"history": 0}, "horizon and history must be at least 1"),
        ({"discount": 0.0}, "discount must be above 0"),
        ({"discount": 1.1}, "discount must be above 0"),
        ({"value_tail": 1.0}, "value_tail must be between 0 and 1"),
        ({"termination_penalty": math.nan}, "termination_penalty must be finite"),
        ({"episodes": np.array([2])}, "episodes must be from 0 to 1, got 2 to 2"),
        ({"episodes": np.array([])}, "episodes must be a non-empty list"),
        ({"episodes": np.array([0.5])}, "episodes must be a non-empty list"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    options = {"horizon": 2, "discount": 0.9, "termination_penalty": 0.0, **changes}
    with pytest.raises(ValueError, match=message):
        Windows(make_store([3, 3], [True, False]), **options)


@pytest.mark.parametrize("index", [-1, 6])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    windows = Windows(
        make_store([3, 3], [True, False]), horizon=2, discount=0.9, termination_penalty=0.0
    )
    with pytest.raises(IndexError, match="must be from 0 to 5"):
        windows.batch(np.array([0, index]))
    assert windows.batch(np.array([], int)).states.shape == (0, 1, 3)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 60), fraction=st.floats(0, 0.9), seed=st.integers(0, 9))
def test_a_split_is_a_partition(count: int, fraction: float, seed: int) -> None:
    store = make_store([1] * count, [False] * count)
    if fraction and max(1, round(fraction * count)) >= count:
        with pytest.raises(ValueError, match="none would be left for training"):
            split_episodes(store, fraction, seed)
        return
    train, validation = split_episodes(store, fraction, seed)
    assert sorted([*train, *validation]) == list(range(count))
    assert len(validation) == (max(1, round(fraction * count)) if fraction else 0)
    again = split_episodes(store, fraction, seed)
    assert all(map(np.array_equal, (train, validation), again))


def test_a_split_is_drawn_at_random() -> None:
    store = make_store([1] * 100, [False] * 100)
    _, validation = split_episodes(store, 0.1, seed=0)
    assert validation.max() - validation.min() > 30
    assert not np.array_equal(validation, split_episodes(store, 0.1, seed=1)[1])
    with pytest.raises(ValueError, match="fraction must be"):
        split_episodes(store, 1.0, seed=0)


def test_data_rooms_do_not_import_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, dmpc_fast.data.minari, dmpc_fast.data.windows; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
