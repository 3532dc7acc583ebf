"""One robot at its control rate: the clock of a demonstration.

The physics waits for the plan. A plan that takes longer than the control period therefore slows the
robot down and never makes it act on nothing: what is reported is how often and by how much.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from dmpc_fast.evaluation.environments import environment_action, step_limit


@dataclass(frozen=True)
class Drive:
    """One driven episode of T steps.

    episode_return: undiscounted. terminated: whether it ended by a fall. decision_s (T,): seconds
    from observation to action. plan_s: those of them in which a plan was made, not only continued.
    period_s: control period. wall_s: seconds from the first observation to the last step's end.
    """

    episode_return: float
    terminated: bool
    decision_s: np.ndarray
    plan_s: np.ndarray
    period_s: float
    wall_s: float

    @property
    def length(self) -> int:
        """Steps in the episode."""
        return len(self.decision_s)

    @property
    def missed(self) -> int:
        """Decisions that took longer than the control period."""
        return int((self.decision_s > self.period_s).sum())

    @property
    def slow_down(self) -> float:
        """Wall-clock time over simulated time; 1 is real time."""
        return self.wall_s / (self.length * self.period_s)


def drive(
    environment: gymnasium.Env,
    planner: Any,
    *,
    seed: int,
    max_steps: int | None = None,
    paced: bool = True,
    after_step: Callable[[gymnasium.Env], None] | None = None,
) -> Drive:
    """Let `planner` drive one episode, reset with `seed`, at the environment's control period.

    paced: wait for the next tick of the clock after a decision that was early; else run on at once.
    after_step: called after each step, and not on the clock. Raises ValueError for rewards that are
    not finite.

    The first plan is made once before the clock starts, so that no start-up cost is counted.
    """
    period = float(planner.spec.environment.control_period_s)
    limit = step_limit(environment, max_steps)
    observation, _ = environment.reset(seed=seed)
    planner.reset(seed=seed)
    planner.plan(observation)
    rewards: list[float] = []
    seconds: list[float] = []
    terminated = truncated = False
    clock = _Clock(period, paced)
    while not (terminated or truncated or len(rewards) >= limit):
        before = time.perf_counter()
        action = planner.act(observation)
        seconds.append(time.perf_counter() - before)
        command = environment_action(environment, action)
        observation, reward, terminated, truncated, _ = environment.step(command)
        if not math.isfinite(float(reward)):
            raise ValueError(f"step {len(rewards)}: the environment's reward is {reward}")
        rewards.append(float(reward))
        clock.tick()
        if after_step is not None:
            with clock.stopped():
                after_step(environment)
    decisions = np.array(seconds)
    return Drive(
        episode_return=float(np.sum(rewards)),
        terminated=bool(terminated),
        decision_s=decisions,
        plan_s=decisions[:: planner.action_chunk],
        period_s=period,
        wall_s=clock.elapsed,
    )


class _Clock:
    """Wall-clock time of an episode, with ticks a control period apart."""

    def __init__(self, period_s: float, paced: bool) -> None:
        self._period, self._paced = period_s, paced
        self._start = time.perf_counter()
        self._next = self._start + period_s
        self._outside = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds on the clock so far."""
        return time.perf_counter() - self._start - self._outside

    def tick(self) -> None:
        """End a step: wait until its period is over. A late step moves all that follow."""
        now = time.perf_counter()
        if self._paced and now < self._next:
            time.sleep(self._next - now)
        self._next = max(self._next, now) + self._period

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens inside takes no time on this clock."""
        before = time.perf_counter()
        yield
        spent = time.perf_counter() - before
        self._outside += spent
        self._next += spent
