"""A point that must choose one of two lanes at every step: what one mode cannot express.

Its state is its position (forward, lane), its action the change of it. In the data it moves half a
unit forward and to lane -1 or +1, with equal chance and whatever was before. Between the lanes
there is nothing: a sequence succeeds if it is within `TOLERANCE` of a lane after every step.
"""

from __future__ import annotations

import numpy as np

from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.spec import EnvironmentSpec

HORIZON = 4
FORWARD, JITTER, TOLERANCE, BOUND = 0.5, 0.05, 0.25, 2.5
EPISODE_STEPS = 8


def rolled(start: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Positions (..., F, 2) that follow `actions` (..., F, 2) from `start` (..., 2)."""
    return start[..., None, :] + np.cumsum(actions, axis=-2)


def succeeded(states: np.ndarray) -> np.ndarray:
    """Whether sequences of positions (..., F, 2) stay on lanes, (...,) bool."""
    on_lane: np.ndarray = (np.abs(np.abs(states[..., 1]) - 1) < TOLERANCE).all(-1)
    return on_lane


def starts(count: int, seed: int) -> np.ndarray:
    """Positions (count, 2) on a lane from which to plan."""
    rng = np.random.default_rng([seed, 1])
    lanes = rng.choice([-1.0, 1.0], count) + JITTER * rng.standard_normal(count)
    forward = FORWARD * rng.integers(0, EPISODE_STEPS - HORIZON, count)
    return np.stack([forward, lanes], -1).astype(np.float32)


def demonstrations(episodes: int, seed: int) -> EpisodeStore:
    """Episodes of `EPISODE_STEPS` steps; the reward is 1 a step."""
    rng = np.random.default_rng([seed, 0])
    shape = (episodes, EPISODE_STEPS + 1)
    lanes = rng.choice([-1.0, 1.0], shape) + JITTER * rng.standard_normal(shape)
    forward = FORWARD * np.arange(EPISODE_STEPS + 1) + JITTER * rng.standard_normal(shape)
    states = np.stack([forward, lanes], -1).astype(np.float32)
    return EpisodeStore(
        observations=states.reshape(-1, 2),
        actions=np.diff(states, axis=1).reshape(-1, 2),
        rewards=np.ones(episodes * EPISODE_STEPS, np.float32),
        terminations=np.zeros(episodes, bool),
        offsets=np.arange(episodes + 1) * EPISODE_STEPS,
        environment=EnvironmentSpec(None, None, (-BOUND, -BOUND), (BOUND, BOUND), 0.1),
        dataset_ids=("two-mode-point-mass",),
        score_range=None,
    )
