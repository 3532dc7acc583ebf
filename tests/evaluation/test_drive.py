"""The clock of a demonstration, on a robot that does nothing."""

from __future__ import annotations

import types
from typing import Any

import gymnasium
import numpy as np
import pytest

from dmpc_fast.evaluation.drive import Drive, drive

PERIOD_S = 1e-3


class Still(gymnasium.Env):
    """Rewards 1, 2, 3, ... and ends by termination after `fall` steps."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, fall: int = 100, reward: float | None = None) -> None:
        self.fall, self.reward, self.steps = fall, reward, 0
        self.actions: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        return np.zeros(3), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        self.actions.append(action)
        reward = self.steps if self.reward is None else self.reward
        return np.zeros(3), reward, self.steps >= self.fall, False, {}


class FakePlanner:
    """Counts its calls; `action_chunk` as a planner's."""

    action_chunk = 4
    spec = types.SimpleNamespace(environment=types.SimpleNamespace(control_period_s=PERIOD_S))

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def reset(self, seed: int) -> None:
        self.calls.append(("reset", seed))

    def plan(self, observation: np.ndarray) -> None:
        self.calls.append(("plan", observation.shape))

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.calls.append(("act", observation.shape))
        return np.full(2, 0.5, np.float32)


def test_an_episode_is_driven_to_its_end() -> None:
    environment, planner = Still(fall=10), FakePlanner()
    result = drive(environment, planner, seed=11, max_steps=50)
    assert (result.length, result.episode_return, result.terminated) == (10, 55.0, True)
    assert planner.calls[:2] == [("reset", 11), ("plan", (3,))]
    assert len(planner.calls) == 12
    np.testing.assert_array_equal(environment.actions, np.full((10, 2), 0.5))
    np.testing.assert_array_equal(result.plan_s, result.decision_s[[0, 4, 8]])


def test_max_steps_ends_an_episode_that_goes_on() -> None:
    result = drive(Still(), FakePlanner(), seed=0, max_steps=7)
    assert (result.length, result.terminated) == (7, False)


def test_a_paced_episode_is_never_faster_than_real_time() -> None:
    result = drive(Still(), FakePlanner(), seed=0, max_steps=20)
    assert result.wall_s >= 20 * PERIOD_S
    assert result.slow_down >= 1.0


def test_what_follows_a_step_is_not_on_the_clock() -> None:
    seen = []

    def after_step(environment: gymnasium.Env) -> None:
        seen.append(environment)

    result = drive(Still(), FakePlanner(), seed=0, max_steps=3, after_step=after_step, paced=False)
    assert len(seen) == result.length == 3


def test_missed_deadlines_are_counted_against_the_period() -> None:
    seconds = np.array([0.5, 2.0, 1.0, 3.0]) * PERIOD_S
    result = Drive(0.0, False, seconds, seconds, PERIOD_S, wall_s=8 * PERIOD_S)
    assert (result.length, result.missed, result.slow_down) == (4, 2, 2.0)


def test_a_reward_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="step 0: the environment's reward is nan"):
        drive(Still(reward=float("nan")), FakePlanner(), seed=0, max_steps=3)
