"""Episodes of one policy, several at once in one process.

An episode's number decides its environment seed and its random stream, so what happens in it does
not depend on the slot it runs in or on its neighbours (up to the rounding of batched networks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np

from dmpc_fast.data.spaces import flatten_observations
from dmpc_fast.evaluation.environments import environment_action, step_limit


class Policy(Protocol):
    """Acts for several robots, each in a numbered slot."""

    def start(self, slot: int, episode: int) -> None:
        """A new episode begins in `slot`."""
        ...

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Actions (n, A) for the robots in `slots` (n,), which see `observations` (n, S)."""
        ...


@dataclass(frozen=True)
class Recording:
    """All T steps of an episode: T + 1 observations as the environment gave them, actions (T, A) as
    commanded and rewards (T,), both float32."""

    observations: list[Any]
    actions: np.ndarray
    rewards: np.ndarray


@dataclass(frozen=True)
class Rollout:
    """One finished episode: its number, environment seed, undiscounted return, steps, and whether
    it ended by termination. recording is None unless asked for."""

    number: int
    seed: int
    episode_return: float
    length: int
    terminated: bool
    recording: Recording | None


class _Slot:
    """An environment and the episode that runs in it."""

    def __init__(self, environment: gymnasium.Env, limit: int, record: bool) -> None:
        self.environment, self.limit, self.record = environment, limit, record
        self.number = self.seed = -1
        self.observation: Any = None
        self.rewards: list[float] = []
        self.actions: list[np.ndarray] = []
        self.observations: list[Any] = []

    def begin(self, number: int, seed: int) -> None:
        self.number, self.seed = number, seed
        self.observation, _ = self.environment.reset(seed=seed)
        self.rewards, self.actions, self.observations = [], [], []
        if self.record:
            self.observations = [_copied(self.observation)]

    def step(self, action: np.ndarray) -> Rollout | None:
        """Run one action; gives the episode if it ends with it."""
        command = environment_action(self.environment, action)
        self.observation, reward, terminated, truncated, _ = self.environment.step(command)
        if not math.isfinite(float(reward)):
            raise ValueError(f"episode {self.number}, step {len(self.rewards)}: reward is {reward}")
        self.rewards.append(float(reward))
        if self.record:
            self.actions.append(np.array(command, np.float32).reshape(-1))
            self.observations.append(_copied(self.observation))
        if not (terminated or truncated or len(self.rewards) >= self.limit):
            return None
        recording = None
        if self.record:
            rewards = np.asarray(self.rewards, np.float32)
            recording = Recording(self.observations, np.stack(self.actions), rewards)
        return Rollout(
            number=self.number,
            seed=self.seed,
            episode_return=math.fsum(self.rewards),
            length=len(self.rewards),
            terminated=bool(terminated),
            recording=recording,
        )


def run_rollouts(
    environments: Sequence[gymnasium.Env],
    policy: Policy,
    take: Callable[[], int | None],
    *,
    seed: int,
    keys: Sequence[str] | None,
    max_steps: int | None = None,
    record: bool = False,
) -> Generator[Rollout, None, None]:
    """Run episodes until `take` gives no more numbers; yields each as it ends.

    environments: one per slot. take: the number of the next episode, or None. seed: episode i is
    reset with seed + i. keys: as in `flatten_observations`. A slot whose episode has ended takes
    the next one at once.
    """
    slots = [_Slot(e, step_limit(e, max_steps), record) for e in environments]

    def begin(index: int) -> bool:
        number = take()
        if number is None:
            return False
        slots[index].begin(number, seed + number)
        policy.start(index, number)
        return True

    active = [index for index in range(len(slots)) if begin(index)]
    while active:
        states = [flatten_observations(slots[index].observation, keys) for index in active]
        actions = policy.act(np.array(active), np.stack(states))
        finished = []
        for index, action in zip(active, actions, strict=True):
            rollout = slots[index].step(action)
            if rollout is not None:
                finished.append(index)
                yield rollout
        for index in finished:
            if not begin(index):
                active.remove(index)


def _copied(observation: Any) -> Any:
    """An observation that the environment cannot change any more, in float32."""
    if isinstance(observation, dict):
        return {key: _copied(value) for key, value in observation.items()}
    return np.array(observation, np.float32)
