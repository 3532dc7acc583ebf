"""A robot that kills the process which simulates it, after a while."""

from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium
from point_robot import PointRobot


class DeadlyRobot(PointRobot):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None and seed >= 5 + 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(seed=seed, options=options)


gymnasium.register("TestDeadly-v0", DeadlyRobot, max_episode_steps=40, disable_env_checker=True)
