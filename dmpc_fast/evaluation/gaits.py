"""Open-loop gaits: data of a robot that nobody has a policy for, found by search and played with noise.

A gait is a sine for every joint, all of one frequency. The search is the cross-entropy method over
the sines' parameters with MuJoCo's own rewards. Data are episodes of the best gait of each round, so
they range from hardly moving to the best that was found, as replay data do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np

from dmpc_fast.data.minari import CONTROL_PERIOD_KEY, ENVIRONMENT_KEY
from dmpc_fast.data.minari_writer import DatasetWriter
from dmpc_fast.data.spaces import stack_observations
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.rollouts import Rollout, run_rollouts
from dmpc_fast.evaluation.truth import TrueFutures

#: Frequencies that a gait may have, in Hz.
FREQUENCIES = (0.5, 3.0)
POPULATION, ELITES = 64, 8
#: Standard deviation of the noise on a gait's commands, in half ranges.
NOISE = 0.2
BATCH = 8


@dataclass(frozen=True)
class Gait:
    """Commands middle + half (offset + amplitude sin(2 pi frequency_hz t + phase)), clipped.

    offset, amplitude, phase: (A,), the first two in half ranges of the actions.
    """

    frequency_hz: float
    offset: np.ndarray
    amplitude: np.ndarray
    phase: np.ndarray

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> Gait:
        """A gait from unbounded numbers (1 + 3 A,): frequency, offsets, amplitudes, phases."""
        low, high = FREQUENCIES
        offset, amplitude, phase = np.split(vector[1:], 3)
        share = 1 / (1 + math.exp(-float(vector[0])))
        return cls(low + (high - low) * share, np.tanh(offset), np.tanh(amplitude), phase)

    def commands(self, space: gymnasium.spaces.Box, times_s: np.ndarray) -> np.ndarray:
        """Commands (T, A) at `times_s` (T,)."""
        wave = np.sin(2 * math.pi * self.frequency_hz * times_s[:, None] + self.phase)
        middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2
        commands = middle + half * (self.offset + self.amplitude * wave)
        clipped: np.ndarray = np.clip(commands, space.low, space.high).astype(np.float32)
        return clipped


def search_gaits(env_id: str, *, rounds: int, steps: int, seed: int) -> list[tuple[Gait, float]]:
    """The best gait of each round with its undiscounted return over `steps` steps from rest."""
    environment = make_environment(env_id)
    try:
        environment.reset(seed=seed)
        truth, space = TrueFutures(environment), _box(environment)
        times = _period(environment) * np.arange(steps)
        rng = np.random.default_rng([seed, 0])
        size = 1 + 3 * int(space.shape[0])
        mean, deviation = np.zeros(size), np.full(size, 1.0)
        found = []
        for _ in range(rounds):
            vectors = mean + deviation * rng.standard_normal((POPULATION, size))
            gaits = [Gait.from_vector(vector) for vector in vectors]
            commands = np.stack([gait.commands(space, times) for gait in gaits])
            returns = truth.roll(truth.now(), commands).rewards.sum(1)
            order = np.argsort(-returns)[:ELITES]
            mean, deviation = vectors[order].mean(0), vectors[order].std(0) + 0.05
            found.append((gaits[order[0]], float(returns[order[0]])))
    finally:
        environment.close()
    return found


class GaitPolicy:
    """Plays gaits in turn, one an episode, each from a random time on and with noise."""

    def __init__(
        self, gaits: list[Gait], space: gymnasium.spaces.Box, period_s: float, seed: int
    ) -> None:
        self._gaits, self._space, self._period, self._seed = gaits, space, period_s, seed
        self._playing: dict[int, tuple[Gait, np.random.Generator, float]] = {}

    def start(self, slot: int, episode: int) -> None:
        rng = np.random.default_rng([self._seed, 1, episode])
        gait = self._gaits[episode % len(self._gaits)]
        self._playing[slot] = (gait, rng, float(rng.random()) / gait.frequency_hz)

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        return np.stack([self._next(int(slot)) for slot in slots])

    def _next(self, slot: int) -> np.ndarray:
        gait, rng, time_s = self._playing[slot]
        self._playing[slot] = (gait, rng, time_s + self._period)
        command = gait.commands(self._space, np.array([time_s]))[0]
        half = (self._space.high - self._space.low) / 2
        noisy = command + NOISE * half * rng.standard_normal(len(command))
        clipped: np.ndarray = np.clip(noisy, self._space.low, self._space.high).astype(np.float32)
        return clipped


def collect_gaits(
    env_id: str,
    dataset_id: str,
    find: Callable[[], list[Gait]],
    *,
    episodes: int,
    max_steps: int,
    seed: int,
) -> np.ndarray:
    """Record `episodes` episodes of gaits as a Minari dataset, the i-th reset with seed + i; gives
    their undiscounted returns (E,).

    find: gives the gaits, and is asked only where they are needed. Raises FileExistsError for an id
    that is taken.
    """
    environments = [make_environment(env_id) for _ in range(min(BATCH, episodes))]
    try:
        first = environments[0]
        metadata = {
            "algorithm_name": "open-loop gaits",
            "description": f"{env_id}: open-loop gaits of a random search, with noise; episode i "
            f"was reset with seed {seed} + i.",
            ENVIRONMENT_KEY: first.spec.id if first.spec is not None else env_id,
            CONTROL_PERIOD_KEY: _period(first),
        }
        with DatasetWriter(dataset_id, first, metadata=metadata) as writer:
            policy = GaitPolicy(find(), _box(first), _period(first), seed)
            rollouts = run_rollouts(
                environments,
                policy,
                _counter(episodes),
                seed=seed,
                keys=None,
                max_steps=max_steps,
                record=True,
            )
            return _written(writer, sorted(rollouts, key=lambda rollout: rollout.number))
    finally:
        for environment in environments:
            environment.close()


def _written(writer: DatasetWriter, rollouts: Sequence[Rollout]) -> np.ndarray:
    for rollout in rollouts:
        assert rollout.recording is not None
        writer.add(
            stack_observations(rollout.recording.observations),
            rollout.recording.actions,
            rollout.recording.rewards,
            terminated=rollout.terminated,
            seed=rollout.seed,
        )
    return np.array([rollout.episode_return for rollout in rollouts])


def _counter(limit: int) -> Callable[[], int | None]:
    numbers = iter(range(limit))
    return lambda: next(numbers, None)


def _box(environment: gymnasium.Env) -> gymnasium.spaces.Box:
    space = environment.action_space
    if not isinstance(space, gymnasium.spaces.Box) or not space.is_bounded():
        raise ValueError(f"gaits need a bounded action space, got {space}")
    return space


def _period(environment: gymnasium.Env) -> float:
    return float(environment.get_wrapper_attr("dt"))
