"""What happens in an episode depends on its number alone."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from point_robot import ID, PointRobot

from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.policies import PlanTimes, RandomPolicy
from dmpc_fast.evaluation.rollouts import Rollout, run_rollouts
from dmpc_fast.evaluation.workers import RolloutTask, rollouts


def random_task(slots: int = 3, **changes: Any) -> RolloutTask:
    fields = {"env_id": ID, "modify": (), "planner": None, "keys": None, "seed": 5, "slots": slots}
    return RolloutTask(**{**fields, **changes})


def run(task: RolloutTask, limit: int, workers: int = 1) -> list[Rollout]:
    found = rollouts(task, workers=workers, limit=limit, times=PlanTimes())
    return sorted(found, key=lambda rollout: rollout.number)


def assert_same(first: list[Rollout], second: list[Rollout]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.number, a.seed, a.length, a.terminated) == (
            b.number,
            b.seed,
            b.length,
            b.terminated,
        )
        assert a.episode_return == b.episode_return
        if a.recording is not None:
            np.testing.assert_array_equal(a.recording.actions, b.recording.actions)
            np.testing.assert_array_equal(a.recording.observations, b.recording.observations)


def test_an_episode_is_what_a_plain_loop_gives() -> None:
    (rollout,) = run(random_task(record=True), limit=4)[2:3]
    environment = gymnasium.make(ID)
    observation, _ = environment.reset(seed=5 + 2)
    stream = np.random.default_rng([5, 2])
    observations, actions, rewards, terminated = [observation], [], [], False
    while not terminated and len(actions) < 40:
        actions.append(stream.uniform(-np.ones(2), np.ones(2)).astype(np.float32))
        observation, reward, terminated, _, _ = environment.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
    assert rollout.number == 2 and rollout.seed == 7
    assert rollout.length == len(actions) and rollout.terminated == terminated
    assert rollout.episode_return == pytest.approx(sum(rewards))
    assert rollout.recording is not None
    np.testing.assert_array_equal(rollout.recording.actions, actions)
    np.testing.assert_array_equal(
        rollout.recording.observations, np.array(observations, np.float32)
    )
    np.testing.assert_array_equal(rollout.recording.rewards, np.array(rewards, np.float32))


def test_slots_do_not_change_episodes() -> None:
    alone = run(random_task(slots=1, record=True), limit=9)
    assert [rollout.number for rollout in alone] == list(range(9))
    assert len({rollout.length for rollout in alone}) > 2
    assert {rollout.terminated for rollout in alone} == {True, False}
    assert_same(alone, run(random_task(slots=4, record=True), limit=9))
    assert_same(alone, run(random_task(slots=20, record=True), limit=9))


def test_workers_do_not_change_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    share_test_modules(monkeypatch)
    alone = run(random_task(slots=1, record=True), limit=7)
    assert_same(alone, run(random_task(slots=2, record=True), limit=7, workers=2))


def test_a_caller_may_stop_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    share_test_modules(monkeypatch)
    stream = rollouts(random_task(), workers=2, limit=None, times=PlanTimes())
    found = list(itertools.islice(stream, 5))
    assert len(found) == 5
    stream.close()
    import multiprocessing

    assert not multiprocessing.active_children()


def test_a_killed_worker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    share_test_modules(monkeypatch)
    task = random_task(env_id="deadly_robot:TestDeadly-v0", slots=1)
    with pytest.raises(
        ChildProcessError, match=r"worker [01] \(process \d+\) was killed by signal 9"
    ):
        run(task, limit=50, workers=2)


def test_an_error_in_a_worker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    share_test_modules(monkeypatch)
    with pytest.raises(ValueError, match=r"worker [01]: .*TestPoint-v0.* has no MuJoCo model"):
        run(random_task(modify=("option.gravity=0,0,0",)), limit=2, workers=2)
    with pytest.raises(ChildProcessError, match="worker [01] failed: ModuleNotFoundError"):
        run(random_task(env_id="no_such_module:Robot-v0"), limit=2, workers=2)


def share_test_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import the test's robots as this process does."""
    here = os.path.dirname(__file__)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))


def test_a_shorter_limit_truncates() -> None:
    assert {r.length for r in run(random_task(max_steps=3), limit=5)} == {3}


def test_a_reward_that_is_no_number_is_refused() -> None:
    class Broken(PointRobot):
        spec = gymnasium.spec("TestPoint-v0")

        def step(self, action: np.ndarray) -> Any:
            observation, _, *rest = super().step(action)
            return observation, float("nan"), *rest

    environment = Broken()
    policy = RandomPolicy(environment.action_space, 0)
    numbers: Iterator[int] = iter([3])
    stream = run_rollouts([environment], policy, lambda: next(numbers, None), seed=0, keys=None)
    with pytest.raises(ValueError, match="episode 3, step 0: reward is nan"):
        next(stream)


def test_random_actions_need_bounds() -> None:
    with pytest.raises(ValueError, match="need a bounded action space"):
        RandomPolicy(spaces.Box(-1, np.inf, (2,)), 0)


def test_random_actions_fill_their_bounds() -> None:
    low, high = np.array([-2.0, 0.5], np.float32), np.array([1.0, 0.75], np.float32)
    policy = RandomPolicy(spaces.Box(low, high), 3)
    for slot in range(4):
        policy.start(slot, slot)
    actions = np.concatenate([policy.act(np.arange(4), np.zeros((4, 1))) for _ in range(200)])
    assert actions.dtype == np.float32
    assert (actions >= low).all() and (actions <= high).all()
    np.testing.assert_allclose(actions.min(axis=0), low, atol=0.05)
    np.testing.assert_allclose(actions.max(axis=0), high, atol=0.05)


def test_environments_are_those_of_make() -> None:
    assert make_environment(ID).spec.max_episode_steps == 40
