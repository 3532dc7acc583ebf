"""A robot that changes in mid-episode."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium

from dmpc_fast.evaluation.robot_changes import apply_changes


class LateChange(gymnasium.Wrapper):
    """A MuJoCo environment whose robot changes before control step `step` (from 0) of every episode.

    changes: as `dmpc_fast.evaluation.robot_changes` describes them. Each episode begins with the
    unchanged robot.
    """

    def __init__(self, env: gymnasium.Env, changes: Sequence[str], step: int) -> None:
        super().__init__(env)
        robot: Any = env.unwrapped
        self._robot, self._step, self._done = robot, step, 0
        # Both models have the same sizes, so one state serves either.
        self._before, self._after = robot.model, copy.deepcopy(robot.model)
        apply_changes(self._after, changes)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self._robot.model, self._done = self._before, 0
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self._done == self._step:
            self._robot.model = self._after
        self._done += 1
        return self.env.step(action)
