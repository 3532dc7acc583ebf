"""What Gymnasium's locomotion tasks make of the physics, for many trajectories at once.

`environment.step` reads one state at a time; these read arrays of generalised positions and
velocities, by the same formulas and with the parameters of the environment at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np


class Reading(NamedTuple):
    """Observations (..., F, S), rewards (..., F) and whether each state ends an episode (..., F)."""

    states: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray


#: (environment, qpos (..., F + 1, nq), qvel (..., F + 1, nv), actions (..., F, A)) -> Reading.
#: Row 0 of the physics is the state before the first action.
TaskReader = Callable[[Any, np.ndarray, np.ndarray, np.ndarray], Reading]


def reader_of(environment: gymnasium.Env) -> TaskReader:
    """The reader of an environment's task. Raises ValueError for a task that has none."""
    name = type(environment.unwrapped).__name__
    module = type(environment.unwrapped).__module__
    reader = READERS.get(f"{module.rpartition('.')[2]}.{name}")
    if reader is None:
        known = ", ".join(sorted(entry.partition(".")[0] for entry in READERS))
        raise ValueError(
            f"no true futures of environment {environment}: its observations and rewards must be "
            f"those of one of Gymnasium's {known}"
        )
    return reader


def _observations(
    environment: Any, qpos: np.ndarray, qvel: np.ndarray, limit: float = np.inf
) -> np.ndarray:
    first = 1 if environment._exclude_current_positions_from_observation else 0
    velocity = np.clip(qvel[..., 1:, :], -limit, limit)
    return np.concatenate([qpos[..., 1:, first:], velocity], axis=-1)


def _running(environment: Any, qpos: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Weighted forward speed less the price of actions, (..., F)."""
    speed = np.diff(qpos[..., 0], axis=-1) / environment.dt
    effort = np.square(actions).sum(-1)
    return environment._forward_reward_weight * speed - environment._ctrl_cost_weight * effort


def _within(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    return (bounds[0] < values) & (values < bounds[1])


def _half_cheetah(
    environment: Any, qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray
) -> Reading:
    rewards = _running(environment, qpos, actions)
    return Reading(_observations(environment, qpos, qvel), rewards, np.zeros(rewards.shape, bool))


def _walker(environment: Any, qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray) -> Reading:
    after = qpos[..., 1:, :]
    healthy = _within(after[..., 1], environment._healthy_z_range)
    healthy &= _within(after[..., 2], environment._healthy_angle_range)
    return _with_health(environment, qpos, qvel, actions, healthy)


def _hopper(environment: Any, qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray) -> Reading:
    after = qpos[..., 1:, :]
    healthy = _within(after[..., 1], environment._healthy_z_range)
    healthy &= _within(after[..., 2], environment._healthy_angle_range)
    # Gymnasium's state without its first two entries.
    rest = np.concatenate([after[..., 2:], qvel[..., 1:, :]], axis=-1)
    healthy &= _within(rest, environment._healthy_state_range).all(-1)
    return _with_health(environment, qpos, qvel, actions, healthy)


def _ant(environment: Any, qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray) -> Reading:
    after = qpos[..., 1:, :]
    states = np.concatenate([after[..., 2:], qvel[..., 1:, :]], axis=-1)
    low, high = environment._healthy_z_range
    healthy = (low <= after[..., 2]) & (after[..., 2] <= high)
    rewards = _running(environment, qpos, actions) + healthy * environment._healthy_reward
    return Reading(states, rewards, ~healthy & environment._terminate_when_unhealthy)


def _with_health(
    environment: Any,
    qpos: np.ndarray,
    qvel: np.ndarray,
    actions: np.ndarray,
    healthy: np.ndarray,
) -> Reading:
    rewards = _running(environment, qpos, actions) + healthy * environment._healthy_reward
    ends = ~healthy & environment._terminate_when_unhealthy
    return Reading(_observations(environment, qpos, qvel, limit=10.0), rewards, ends)


READERS: dict[str, TaskReader] = {
    "ant.StateAnt": _ant,
    "half_cheetah_v5.HalfCheetahEnv": _half_cheetah,
    "hopper_v5.HopperEnv": _hopper,
    "walker2d_v5.Walker2dEnv": _walker,
}
