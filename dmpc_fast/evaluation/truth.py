"""True futures: many action sequences from one state of a MuJoCo environment, by `mujoco.rollout`."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import mujoco
import mujoco.rollout
import numpy as np

from dmpc_fast.evaluation.task_readers import reader_of


@dataclass(frozen=True)
class PhysicsState:
    """States of the physics from which futures begin.

    physics (K, P): MuJoCo's full physics state, float64. warmstart (K, nv): where its constraint
    solver began the next step, or None for a solver that starts anew, which moves the result by
    less than the solver's tolerance. K is 1, or one state for every action sequence.
    """

    physics: np.ndarray
    warmstart: np.ndarray | None

    def __len__(self) -> int:
        return len(self.physics)

    def rows(self, indices: np.ndarray) -> PhysicsState:
        """Some of the states, in that order."""
        warmstart = None if self.warmstart is None else self.warmstart[indices]
        return PhysicsState(self.physics[indices], warmstart)


@dataclass(frozen=True)
class Futures:
    """What N action sequences of F steps truly lead to.

    states (N, F, S): observations, float32. rewards (N, F): float64, 0 after the end of an episode.
    terminated (N, F): True from the step at which the episode ended on; the states there go on as
    if it had not. last: the physics after the F steps, from which more can follow.
    """

    states: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    last: PhysicsState

    @property
    def going(self) -> np.ndarray:
        """(N,) whether the episode still runs after all F steps."""
        running: np.ndarray = ~self.terminated[:, -1]
        return running


class TrueFutures:
    """The simulator as a model: steps copies of an environment's robot, never the robot itself.

    Args:
        environment: one of the tasks of `task_readers`; changes of its MuJoCo model made before
            count.
        threads: of the physics.

    Raises:
        ValueError: there is no reader of the environment's task, or threads is not positive.
    """

    def __init__(self, environment: gymnasium.Env, *, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self._reader = reader_of(environment)
        self._environment = cast(Any, environment.unwrapped)
        self._model = copy.copy(self._environment.model)
        self._data = [mujoco.MjData(self._model) for _ in range(threads)]
        self._skip = int(self._environment.frame_skip)

    def now(self) -> PhysicsState:
        """The environment's present state."""
        physics = np.empty(mujoco.mj_stateSize(self._model, mujoco.mjtState.mjSTATE_FULLPHYSICS))
        data = self._environment.data
        mujoco.mj_getState(self._model, data, physics, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        return PhysicsState(physics[None], data.qacc_warmstart.copy()[None])

    def roll(self, start: PhysicsState, actions: np.ndarray) -> Futures:
        """What `actions` (N, F, A), clipped to the action space, lead to from `start`.

        Stepping the environment gives the same to the rounding of float32. Raises ValueError for
        wrong shapes and FloatingPointError where the physics leaves the numbers.
        """
        space = self._environment.action_space
        wanted = (self._model.nu,)
        if actions.ndim != 3 or actions.shape[2:] != wanted or 0 in actions.shape:
            raise ValueError(f"actions must have shape (N, F, {wanted[0]}), got {actions.shape}")
        count = len(actions)
        if len(start) not in (1, count):
            raise ValueError(f"start must hold 1 or {count} states, got {len(start)}")
        commands = np.clip(actions.astype(space.dtype), space.low, space.high)
        first = np.broadcast_to(start.physics, (count, start.physics.shape[1]))
        physics, _ = mujoco.rollout.rollout(
            self._model,
            self._data,
            np.ascontiguousarray(first),
            np.repeat(commands.astype(np.float64), self._skip, axis=1),
            initial_warmstart=_tiled(start.warmstart, count),
        )
        path = np.concatenate([first[:, None], physics[:, self._skip - 1 :: self._skip]], axis=1)
        if not np.isfinite(path).all():
            where = int(np.argwhere(~np.isfinite(path))[0][0])
            raise FloatingPointError(f"the physics of action sequence {where} is not finite")
        nq, nv = self._model.nq, self._model.nv
        qpos, qvel = path[..., 1 : 1 + nq], path[..., 1 + nq : 1 + nq + nv]  # time comes first
        reading = self._reader(self._environment, qpos, qvel, commands)
        ended = np.logical_or.accumulate(reading.terminated, axis=1)
        over = np.concatenate([np.zeros((count, 1), bool), ended[:, :-1]], axis=1)
        return Futures(
            states=np.ascontiguousarray(reading.states, np.float32),
            rewards=np.where(over, 0.0, reading.rewards),
            terminated=ended,
            last=PhysicsState(path[:, -1].copy(), None),
        )


def _tiled(warmstart: np.ndarray | None, count: int) -> np.ndarray | None:
    if warmstart is None:
        return None
    return np.ascontiguousarray(np.broadcast_to(warmstart, (count, warmstart.shape[1])))
